"""A run of a model over scripts: its clips made and measured, or found in the rows of an earlier call, and summed up.

Rows are one JSON line each, appended as they are made, so that an interrupted run goes on where it stopped. The first line
says what the run is, and rows of another run are never mixed in. A line that was being written when the run ended is made
again, and so is a row whose job did not get what it needs (:data:`~mova.lab.suite.results.SHORT`): it is returned, and not
stored.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from mova._version import __version__
from mova.checkpoints.layout import Index, read_index
from mova.errors import MediaError, RequestError
from mova.lab.documents import plain
from mova.lab.suite.clips import ModelSpec, clip_rows, codec_floors
from mova.lab.suite.measures import Measure, list_measures
from mova.lab.suite.results import METRICS_VERSION, SHORT, Row, model_results
from mova.lab.suite.tracks import SUITES, clip_batches, clip_jobs
from mova.scenes.script import Script

Job = TypeVar("Job")
OnRow = Callable[[int, int], None]


def measure_model(
    maker: ModelSpec,
    scripts: Sequence[Script],
    tracks: Sequence[str],
    rows: Path,
    *,
    seed: int,
    processes: int = 1,
    pool: Executor | None = None,
    on_row: OnRow | None = None,
    measures: Sequence[Measure] | None = None,
) -> dict[str, Any]:
    """The results of a model (:func:`mova.lab.suite.results.model_results`) on the clips of some scripts.

    Args:
        maker: The model; its folder of clips must exist.
        scripts: What is asked for, on every track.
        tracks: Names, from :func:`mova.lab.suite.tracks.check_tracks`.
        rows: File of the rows; what is in it is not made again.
        seed: Seed of the scripts: a file holds rows of one.
        processes: How many share the work.
        pool: Them; here, one batch after the other, if not given.
        on_row: Called with (rows there, rows in all).
        measures: What is measured of each clip, picklable if there is a pool;
            :func:`~mova.lab.suite.measures.list_measures` if None.

    Raises:
        RequestError: If the file holds rows of another run, or the model cannot make what is asked.
        MediaError: If a file cannot be read or written.
    """
    index = read_index(maker.model)
    measures = list_measures() if measures is None else measures
    run = {**run_facts(index, seed=seed, steps=maker.steps), "measures": [one.name for one in measures]}
    found = run_batches(
        clip_jobs(scripts, tracks),
        partial(clip_rows, maker, measures=measures),
        rows,
        run=run,
        batches=partial(clip_batches, capabilities=index.capabilities, processes=processes),
        pool=pool,
        on_row=on_row,
    )
    truths, made = found[: len(scripts)], found[len(scripts) :]
    facts = {**run, "num_clips": len(scripts), "made": datetime.now(UTC).isoformat(timespec="seconds")}
    return model_results(facts, made, truths, floors=codec_floors(scripts, truths, measures))


def run_facts(index: Index, *, seed: int, steps: int | None) -> dict[str, Any]:
    """What all rows of a run share.

    Args:
        index: Index of the model.
        seed: Seed of the scripts: a file holds rows of one.
        steps: Steps of the sampler; the model's own if None.
    """
    return {
        "suite": SUITES[0],
        "model": index.capabilities.name,
        "weights": index.fingerprint,
        "seed": seed,
        "steps": index.capabilities.num_inference_steps if steps is None else steps,
        "metrics_version": METRICS_VERSION,
        "mova": __version__,
    }


def run_batches(
    jobs: Mapping[str, Job],
    work: Callable[[Sequence[Job]], Sequence[Row]],
    path: Path,
    *,
    run: Mapping[str, Any],
    batches: Callable[[Sequence[Job]], Sequence[Sequence[Job]]] | None = None,
    pool: Executor | None = None,
    on_row: OnRow | None = None,
) -> list[Row]:
    """Do every job that has no row yet, and return the rows of all jobs in their order.

    Args:
        jobs: By the key of their row.
        work: Makes the rows of a batch of jobs; picklable if there is a pool.
        path: File of the rows.
        run: What all rows of the file share; plain JSON values.
        batches: Sorts jobs into those that are done together; their rows are written together, too. Each by itself if None.
        pool: Where to work; here, one after the other, if not given. It is shut down if the run is interrupted.
        on_row: Called with (rows there, rows in all), first for those that were there.

    Raises:
        RequestError: If the file holds rows of another run.
        MediaError: If it cannot be read or written.
    """
    rows = read_rows(path, run)
    missing = {key: job for key, job in jobs.items() if key not in rows}
    done = len(jobs) - len(missing)
    if on_row is not None:
        on_row(done, len(jobs))
    if not missing:
        return [rows[key] for key in jobs]
    try:
        with _appending(path, run) as handle:
            jobs_left = list(missing.values())
            for made in _made([[job] for job in jobs_left] if batches is None else batches(jobs_left), work, pool):
                for row in map(plain, made):
                    if not row.get(SHORT):
                        handle.write(json.dumps(row, allow_nan=False).encode() + b"\n")
                    rows[row["key"]] = row
                handle.flush()
                done += len(made)
                if on_row is not None:
                    on_row(done, len(jobs))
    except OSError as problem:
        raise MediaError(f"cannot write {path}: {problem.strerror or problem}.", "Choose another folder.") from problem
    return [rows[key] for key in jobs]


def read_rows(path: Path, run: Mapping[str, Any]) -> dict[str, Row]:
    """The rows of a file by their key; none if there is no such file.

    Raises:
        RequestError: If they are of another run.
        MediaError: If the file cannot be read.
    """
    try:
        lines = _whole_lines(path)
        if not lines:
            return {}
        recorded = json.loads(lines[0])["run"]
        wanted = plain(run)
        other = sorted(name for name in {*wanted, *recorded} if recorded.get(name) != wanted.get(name))
        if other:
            raise RequestError(
                f"{path} holds rows of another run: {', '.join(other)} differ.", "Choose another folder.", field="output"
            )
        rows = [json.loads(line) for line in lines[1:]]
        return {row["key"]: row for row in rows}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise MediaError(f"cannot read the rows in {path}: {problem}.", "Choose another folder, or move the file.") from problem


def _whole_lines(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")[:-1]


def _appending(path: Path, run: Mapping[str, Any]) -> BinaryIO:
    """The file, opened to go on after its last whole line; begun if there is none."""
    lines = _whole_lines(path) if path.exists() else []
    handle = open(path, "r+b" if path.exists() else "wb")  # noqa: SIM115  closed by the caller
    handle.truncate(sum(len(line) + 1 for line in lines))
    handle.seek(0, os.SEEK_END)
    if not lines:
        handle.write(json.dumps({"run": plain(run)}, allow_nan=False).encode() + b"\n")
        handle.flush()
    return handle


def _made(
    batches: Sequence[Sequence[Job]], work: Callable[[Sequence[Job]], Sequence[Row]], pool: Executor | None
) -> Iterator[Sequence[Row]]:
    """Rows of each batch as they are done, in any order."""
    if pool is None:
        yield from map(work, batches)
        return
    waiting = [pool.submit(work, batch) for batch in batches]
    try:
        for future in as_completed(waiting):
            yield future.result()
    except BaseException:
        # what was not begun is not begun; what is under way would be waited for
        pool.shutdown(wait=False, cancel_futures=True)
        raise
