"""``mova eval``: a model or videos measured, results held against each other, and the meter itself tested."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mova.cli import console
from mova.cli.options import with_flag_names
from mova.errors import MediaError, MovaError, RequestError, tells_of_shortage

if TYPE_CHECKING:
    from mova.lab.quality.plugins import MetricResult

ROWS, CLIPS = "rows.jsonl", "clips"
Job = TypeVar("Job")


@dataclass(frozen=True)
class ModelOptions:
    """What to measure of a model.

    Args:
        model: Name, folder or hub id.
        suite: Name of the suite.
        num_clips: Prompts of each track.
        tracks: Names; all if empty.
        output: Folder of rows, clips, results and report.
        seed: Seed of the prompts; the suite's own if None.
        steps: Sampler steps; the model's own if None.
        processes: Number of processes, of one thread each.
        threads: Threads of each process instead of one, if not None.
        has_bridge_off: Whether each track is also made with the towers cut apart.
        shows_kinds: Whether the numbers of each kind of scene are shown, too.
        device: Where to run.
        baseline: Results to hold the headline against.
        fail_below: How far it may fall below them.
        is_json: One JSON document on stdout instead of tables.
    """

    model: str
    suite: str
    num_clips: int
    tracks: tuple[str, ...]
    output: Path
    seed: int | None
    steps: int | None
    processes: int
    threads: int | None
    has_bridge_off: bool
    shows_kinds: bool
    device: str
    baseline: Path | None
    fail_below: float | None
    is_json: bool


@dataclass(frozen=True)
class FileOptions:
    """What to measure of videos.

    Args:
        folder: The videos.
        reference: Videos of the same names.
        output: Folder of rows, results and report.
        weights: Folder with the weights of learned metrics.
        metrics: Names; all but one if empty.
        processes: Number of processes, of one thread each.
        device: Where learned metrics run.
        threads: Threads of learned metrics on a CPU; torch's number if None.
        is_json: One JSON document on stdout instead of tables.
    """

    folder: Path
    reference: Path | None
    output: Path
    weights: Path | None
    metrics: tuple[str, ...]
    processes: int
    device: str
    threads: int | None
    is_json: bool


def run_model(options: ModelOptions) -> None:
    """Make clips, measure them, write and show what was found.

    Raises:
        RequestError: If an option is wrong, or the model cannot make what is asked; before any work.
        MovaError: If the headline fell by more than is allowed.
    """
    from mova.checkpoints.layout import read_index, resolve_model
    from mova.lab.suite import clips, tracks
    from mova.lab.suite.run import measure_model

    with _in_typed_words():
        suite = tracks.check_suite(options.suite)
        wanted = tracks.check_tracks(options.tracks, has_bridge_off=options.has_bridge_off)
    baseline = _baseline(options, suite, wanted[0])
    folder = resolve_model(options.model)
    capabilities = read_index(folder).capabilities
    seed = tracks.SEED if options.seed is None else options.seed
    scripts = tracks.scripts_for(capabilities, options.num_clips, seed=seed)
    tracks.check_requests(scripts[0], wanted, capabilities, steps=options.steps)
    device = None if options.device == "auto" else options.device
    maker = clips.ModelSpec(folder, options.steps, device, _made_folder(options.output / CLIPS), options.threads)
    console.say(
        f"{capabilities.name}: {console.count(len(scripts), 'prompt')}, {', '.join(wanted)}, and the floor of its codecs"
    )
    with _pool(options.processes) as pool, _in_typed_words():
        document = measure_model(
            maker,
            scripts,
            wanted,
            options.output / ROWS,
            seed=seed,
            processes=options.processes,
            pool=pool,
            on_row=console.ProgressLine("clips").update,
        )
    written = _write(document, options.output, media=options.output)
    if options.is_json:
        console.facts_json({**written, **_without_clips(document)})
    else:
        _show_model(document, shows_kinds=options.shows_kinds)
        console.fact("  ".join(written.values()))
    if baseline is not None:
        _hold_against(baseline, document, most=options.fail_below or 0.0)


def run_files(options: FileOptions) -> None:
    """Measure the videos of a folder, write and show what was found; faults of videos are results, not errors.

    Raises:
        RequestError: If an option is wrong; before any work.
        MediaError: If there is no video, or the results cannot be written.
        MovaError: If memory or descriptors ran out for some videos; the results of the others are written.
    """
    from mova._version import __version__
    from mova.lab.suite import files
    from mova.lab.suite.results import METRICS_VERSION
    from mova.runtime.threads import use_threads

    with _in_typed_words():
        metrics = files.check_metrics(options.metrics)
    if files.FIDELITY in options.metrics and options.reference is None:
        raise RequestError("--metric fidelity compares with a reference.", "Give --reference FOLDER.")
    if options.weights is not None and not options.weights.is_dir():
        raise MediaError(f"--weights: {options.weights} is no folder.", "Give the folder that holds clap, lse and so on.")
    listing = files.list_jobs(options.folder, reference=options.reference, metrics=metrics)
    _made_folder(options.output)
    _say_passed(listing.passed_by, "no video, passed by")
    _say_passed(listing.unpaired, "without a reference")
    run = {"suite": files.SUITE, "metrics": list(metrics), "metrics_version": METRICS_VERSION, "mova": __version__}
    processes = min(options.processes, len(listing.jobs))
    rows = _rows(listing.jobs, files.video_rows, options.output / ROWS, run=run, processes=processes, label="videos")
    device = "cpu" if options.device == "auto" else options.device
    with use_threads(options.threads, is_exact=False):
        learned = files.score_learned(listing, metrics, weights=options.weights, device=device)
    facts = {**run, "folder": str(options.folder), "made": datetime.now(UTC).isoformat(timespec="seconds")}
    document = files.file_results(facts, rows, learned)
    written = _write(document, options.output, media=options.folder)
    if options.is_json:
        console.facts_json({**written, **_without_clips(document)})
    else:
        _show_files(document)
        console.fact("  ".join(written.values()))
    _check_shortage(rows, learned)


def run_compare(first: Path, second: Path, *, is_json: bool) -> None:
    """Hold two results against each other.

    Raises:
        MediaError: If a file holds no results.
        RequestError: If they cannot be compared.
    """
    from mova.lab.documents import plain
    from mova.lab.suite.compare import compare_results
    from mova.lab.suite.results import read_results
    from mova.lab.suite.tables import number, printable, span

    found = compare_results(read_results(first), read_results(second))
    if is_json:
        console.facts_json(plain(found.as_dict()))
        return
    for keys, path in ((found.only_first, first), (found.only_second, second)):
        if keys:
            console.say(f"{len(keys)} clip{'s are' if len(keys) > 1 else ' is'} in {path} only")
    console.table(
        ("track", "number", "A", "B", "B - A", "95 %", "floor", "clips", "p (Holm)", ""),
        [
            (
                printable(line.track),
                printable(line.name),
                number(line.first),
                number(line.second),
                number(line.change),
                span(line.interval),
                number(line.floor),
                str(line.num_pairs),
                number(line.p_holm),
                line.verdict,
            )
            for line in found.lines
        ],
        left=(0, 1, 9),
    )
    console.fact(
        f"A {first}  B {second}  {console.count(found.num_pairs, 'clip')} in both; "
        f"p-values corrected for {console.count(len(found.lines), 'number')}"
    )


def run_self_test(families: Sequence[str], *, num_clips: int, size: int, seed: int, is_json: bool) -> bool:
    """Test the meter, show what came out, and return whether all of it is allowed.

    Raises:
        RequestError: If there is no family of a name.
    """
    from mova.lab.clapper import SYNC_FAMILIES, self_test
    from mova.scenes.script import nearest_hint

    for name in families:
        if name not in SYNC_FAMILIES:
            raise RequestError(f"--family: there is no family with sync {name!r}.", nearest_hint(name, SYNC_FAMILIES))
    checks = self_test(tuple(families) or SYNC_FAMILIES, num_clips=num_clips, size=size, seed=seed)
    failed = [check for check in checks if not check.passed]
    if is_json:
        from mova.lab.documents import plain

        facts = [{**check.__dict__, "passed": check.passed} for check in checks]
        console.facts_json(plain({"passed": not failed, "checks": facts}))
    else:
        console.table(
            ("check", "value", "allowed", ""),
            [(check.name, f"{check.value:.3f}", check.allowed, "" if check.passed else "FAILED") for check in checks],
        )
        console.fact(f"{len(checks) - len(failed)} of {len(checks)} checks passed")
    return not failed


@contextmanager
def _in_typed_words() -> Iterator[None]:
    """Errors with the option in front that is wrong, where they know it."""
    try:
        yield
    except RequestError as problem:
        if problem.field in ("suite", "track", "metric", "output"):
            raise RequestError(f"--{problem.field}: {problem.message}", problem.hint, field=problem.field) from None
        raise with_flag_names(problem) from None


def _rows(
    jobs: Mapping[str, Job],
    work: Callable[[Sequence[Job]], Sequence[dict[str, Any]]],
    path: Path,
    *,
    run: Mapping[str, Any],
    processes: int,
    label: str,
) -> list[dict[str, Any]]:
    """The row of every job, with a line of progress; what is in the file already is not done again."""
    from mova.lab.suite.run import run_batches

    with _pool(processes) as pool, _in_typed_words():
        return run_batches(jobs, work, path, run=run, pool=pool, on_row=console.ProgressLine(label).update)


def _check_shortage(rows: Sequence[Mapping[str, Any]], learned: Sequence[MetricResult]) -> None:
    """Raise if something was not measured for want of memory or the like: it says nothing of the videos."""
    from mova.lab.documents import printable
    from mova.lab.suite.results import SHORT

    short = [printable(row["file"]) for row in rows if row.get(SHORT)]
    failed = [one.name for one in learned if one.status == "failed" and tells_of_shortage(one.reason)]
    if short or failed:
        more = f" and {len(short) - 3} more" if len(short) > 3 else ""
        parts = [f"{len(short)} of {len(rows)} videos ({', '.join(short[:3])}{more})"] * bool(short) + failed
        raise MovaError(
            f"not measured, since memory, file descriptors or disk ran out: {', '.join(parts)}.",
            "Free some, or use fewer --processes; the same command measures what is missing.",
        )


def _baseline(options: ModelOptions, suite: str, track: str) -> Mapping[str, Any] | None:
    """The results to hold the headline against, checked before any work."""
    from mova.lab.suite.results import METRICS_VERSION, check_alike, headline_of, read_results

    if options.baseline is None:
        if options.fail_below is not None:
            raise RequestError("--fail-below: there is no baseline to fall below.", "Give --baseline results.json.")
        return None
    baseline = read_results(options.baseline)
    check_alike(baseline, {"metrics_version": METRICS_VERSION, "suite": suite})
    if headline_of(baseline).track != track:
        raise RequestError(
            f"--baseline: its headline is of the track {headline_of(baseline).track}, that of this run of {track}.",
            "Ask for the same tracks.",
        )
    return baseline


def _hold_against(baseline: Mapping[str, Any], document: Mapping[str, Any], *, most: float) -> None:
    """Say how the headline changed, or raise if it fell by more than is allowed."""
    from mova.lab.suite.results import fall_from, headline_of

    other = [name for name in ("seed", "num_clips", "steps") if baseline.get(name) != document[name]]
    if other:
        console.say(f"note: the baseline was made with another {' and '.join(other)}")
    has_fallen, words = fall_from(headline_of(baseline), headline_of(document), most=most)
    if has_fallen:
        raise MovaError(f"{words}.", "See the report for the worst clips.")
    console.say(words)


@contextmanager
def _pool(processes: int) -> Iterator[Executor | None]:
    """Worker processes; one process is this one."""
    if processes < 2:
        yield None
        return
    from mova.data.shards import worker_pool

    try:
        with worker_pool(processes) as pool:
            yield pool
    except BrokenExecutor:
        raise MovaError(
            "a worker process ended in the middle of its work; what was done is kept.",
            "Most often memory ran out: use fewer --processes; the same command goes on.",
        ) from None


def _made_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise MediaError(f"--output: cannot make the folder {folder}: {problem.strerror}.", "Choose another.") from problem
    return folder


def _write(document: Mapping[str, Any], output: Path, *, media: Path) -> dict[str, str]:
    """Results and report; where they are."""
    from mova.lab.documents import plain, write_json, write_text
    from mova.lab.suite.report import REPORT, render_report
    from mova.lab.suite.results import RESULTS

    write_json(output / RESULTS, document)
    write_text(output / REPORT, render_report(plain(document), media))
    return {"results": str(output / RESULTS), "report": str(output / REPORT)}


def _without_clips(document: Mapping[str, Any]) -> dict[str, Any]:
    from mova.lab.documents import plain

    found: dict[str, Any] = plain({name: value for name, value in document.items() if name != "clips"})
    return found


def _say_passed(names: Sequence[str], why: str) -> None:
    from mova.lab.suite.tables import printable

    if names:
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        console.say(f"{why}: {', '.join(printable(name) for name in names[:5])}{more}")


def _show_model(document: Mapping[str, Any], *, shows_kinds: bool) -> None:
    from mova.lab.documents import plain
    from mova.lab.suite.results import CONTROLS, COUNTERFACTUAL
    from mova.lab.suite.tables import control_table, kind_table, number, number_table, pair_table, span, tracks_of

    found = tracks_of(document)
    tables = [(track.name, number_table(track)) for track in found]
    if tables:
        rows = [(name, *row) for name, table in tables for row in table.rows]
        console.table(("track", *tables[0][1].header), rows, left=(0, 1))
    kinds = [kind_table(track) for track in found] if shows_kinds else []
    pairs = [pair_table(document)] if document[COUNTERFACTUAL] else []
    controls = [control_table(document)] if document[CONTROLS] else []
    for table in (*kinds, *pairs, *controls):
        console.fact("")
        console.table(table.header, table.rows, left=(0, 1) if table in kinds else (0,))
    headline = plain(document["headline"])
    if headline is None:
        return
    if headline["value"] is None:
        console.fact(f"headline: {headline['name']} of {headline['track']} not measured: chance takes two clips of a kind")
        return
    console.fact(
        f"headline: {headline['name']} of {headline['track']}, {number(headline['value'])} "
        f"(95 % {span(headline['interval'])}), {console.count(document['num_clips'], 'clip')}"
    )


def _show_files(document: Mapping[str, Any]) -> None:
    from mova.lab.documents import plain
    from mova.lab.suite.tables import number, printable, span

    document = plain(document)
    console.table(
        ("metric", "mean", "95 %", "videos"),
        [
            (name, number(found["value"]), span(found["interval"]), str(found["num_clips"]))
            for name, found in document["values"].items()
        ],
    )
    for one in document["learned"]:
        values = ", ".join(f"{name} {number(value)}" for name, value in one["values"].items())
        words = ": ".join(part for part in (one["status"], one["reason"]) if part)
        console.fact(f"{one['name']}: {', '.join(part for part in (values, words) if part)}")
    for row in document["clips"]:
        for name, why in row["skipped"].items():
            console.say(f"{printable(row['file'])}: {name} skipped: {printable(why)}")
    for one in document["not_covered"]:
        console.fact(f"{printable(one['file'])}: {one['status']}{': ' + printable(one['why']) if one['why'] else ''}")
    verdicts = ", ".join(f"{count} {name}" for name, count in document["verdicts"].items())
    console.fact(
        f"{console.count(document['num_files'], 'file')}, coverage {number(document['coverage']['value'])}, "
        f"{document['num_faulty']} with faults{'; sync: ' + verdicts if verdicts else ''}"
    )
