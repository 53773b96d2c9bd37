"""A run of a model over scripts: its clips made and measured, or found in the rows of an earlier call, and summed up."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from mova._version import __version__
from mova.checkpoints.layout import Index, read_index
from mova.lab.suite.clip_row import codec_floors
from mova.lab.suite.clips import ModelSpec, clip_rows
from mova.lab.suite.measures import Measure, list_measures
from mova.lab.suite.results import METRICS_VERSION, model_results
from mova.lab.suite.rows import OnRow, run_batches
from mova.lab.suite.tracks import SUITES, clip_batches, clip_jobs
from mova.scenes.script import Script


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
