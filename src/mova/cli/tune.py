"""``mova tune-guidance``: scales tried on the same prompts, and what each costs in sync or in what was asked."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mova.cli import console
from mova.cli.options import with_flag_names
from mova.errors import MediaError, RequestError
from mova.progress import Progress

if TYPE_CHECKING:
    from mova.lab.tuning import Measured, Row, Setting

ROWS, PLOT = "guidance.json", "guidance.png"
MAX_SCALE = 100.0  # as GenerationRequest allows
# not those of the acceptance benchmark: what is tuned on them would be measured on them
SEED = 970_000


@dataclass(frozen=True)
class TuneOptions:
    """What was asked for.

    Args:
        model: Name, folder or hub id.
        scales: Numbers with commas, as are the next three.
        cross: Scales of the bridge.
        own: Scales of self-guidance.
        audio: Scales of the text for the audio; those of the video if empty.
        per_kind: Prompts of each kind.
        kinds: With commas; the model's own, else all, if empty.
        output: Folder of the rows and the plot.
        steps: Sampler steps; the model's own if not given.
        seed: Seed of the prompts.
        batch_size: Clips made at once.
        device: Where to run.
        threads: Threads that compute on a CPU; torch's own number if None.
        is_json: One JSON document on stdout instead of a table.
    """

    model: str
    scales: str
    cross: str
    own: str
    audio: str
    per_kind: int
    kinds: str
    output: Path
    steps: int | None
    seed: int
    batch_size: int
    device: str
    threads: int | None
    is_json: bool


def run(options: TuneOptions) -> None:
    """Check everything, try what has not been tried, write rows and plot, show them.

    Raises:
        RequestError: If an option is wrong.
    """
    wanted = _settings(options)
    from mova._version import __version__
    from mova.checkpoints.layout import read_index, resolve_model
    from mova.lab import tuning
    from mova.lab.tuning_plot import draw_rows
    from mova.scenes.kinds import KINDS

    folder = resolve_model(options.model)
    index = read_index(folder)
    kinds = [kind.strip() for kind in options.kinds.split(",")] if options.kinds else list(index.capabilities.kinds or KINDS)
    if len(set(kinds)) < len(kinds):
        raise RequestError(f"--kinds: names a kind twice; got {options.kinds!r}.", "Name each once.")
    scripts = tuning.prompts(kinds, options.per_kind, seed=options.seed)
    steps = index.capabilities.num_inference_steps if options.steps is None else options.steps
    trial = {
        "mova": __version__,
        "model": index.capabilities.name,
        "weights": index.fingerprint,
        "num_inference_steps": steps,
        "solver": index.capabilities.solver,
        "seed": options.seed,
        "prompts": [script.caption for script in scripts],
    }
    table, plot = options.output / ROWS, options.output / PLOT
    try:
        rows = tuning.read_rows(table, trial)
    except RequestError as problem:
        raise with_flag_names(problem) from None
    missing = [setting for setting in wanted if setting not in {row.setting for row in rows}]
    _make_folder(options.output)
    console.say(
        f"{index.capabilities.name}: {console.count(len(scripts), 'clip')} of {console.count(len(kinds), 'kind')} "
        f"for each of {console.count(len(wanted), 'setting')}, "
        + console.count(steps, "step")
        + (f"; {len(wanted) - len(missing)} settings are in {table}" if len(missing) < len(wanted) else "")
    )
    if missing:
        from mova.generation.model import MOVAModel
        from mova.runtime.options import RuntimeOptions

        model = MOVAModel.from_pretrained(folder, runtime=RuntimeOptions(device=options.device, threads=options.threads))
        # a setting costs as many passes of the network as it has branches
        passes = [len(setting.guidance.branches(0.5)) for setting in missing]
        line, total = console.ProgressLine("passes of the network"), sum(passes) * len(scripts) * steps
        for number, setting in enumerate(missing):
            before = sum(passes[:number]) * len(scripts) * steps

            def report(at: Progress, before: int = before, weight: int = passes[number], note: str = str(setting)) -> None:
                if at.stage == "denoise":
                    line.update(before + weight * round(at.done / at.total * len(scripts) * steps), total, note)

            row = tuning.try_setting(
                model, setting, scripts, num_inference_steps=steps, batch_size=options.batch_size, on_progress=report
            )
            rows.append(row)
            tuning.write_rows(table, rows, trial)
    rows = tuning.read_rows(table, trial)
    draw_rows(plot, rows, title=f"{index.capabilities.name}, {console.count(len(scripts), 'clip')} a setting")
    _show(rows, tuning.frontier(rows), table, plot, is_json=options.is_json)


def _settings(options: TuneOptions) -> list[Setting]:
    text = _scales("--scales", options.scales)
    cross, own = _scales("--cross", options.cross), _scales("--self", options.own)
    audio: Sequence[float | None] = _scales("--audio-scales", options.audio) if options.audio else (None,)

    from mova.lab.tuning import Setting

    return [Setting(*scales) for scales in itertools.product(text, cross, own, audio)]


def _scales(option: str, text: str) -> tuple[float, ...]:
    example = f"For example {option} 1,1.5,2."
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise RequestError(f"{option}: takes numbers with commas; got {text[:40]!r}.", example) from None
    for value in values:
        if not (math.isfinite(value) and 0.0 <= value <= MAX_SCALE):
            raise RequestError(f"{option}: a scale is from 0 to {MAX_SCALE:g}; got {value:g}.", example)
    if len(set(values)) < len(values):
        raise RequestError(f"{option}: names a scale twice; got {text[:40]!r}.", example)
    return values


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise MediaError(f"--output: cannot make the folder {folder}: {problem.strerror}.", "Choose another.") from problem


def _show(rows: Sequence[Row], best: Sequence[Row], table: Path, plot: Path, *, is_json: bool) -> None:
    if is_json:
        from mova.lab.tuning import as_json

        facts: list[dict[str, Any]] = [{**as_json(row), "is_best": row in best} for row in rows]
        console.facts_json({"rows": facts, "file": str(table), "plot": str(plot)})
        return
    shown = (("sync_ms", 1), ("f1_80", 2), ("asked", 2), ("colour", 2), ("count", 2))
    console.table(
        ("", "setting", "clips", "s/clip", "sync ms [95 %]", "F1@80", "asked", "colour", "count"),
        [
            (
                "*" if row in best else "",
                str(row.setting),
                str(row.num_clips),
                f"{row.seconds_per_clip:.1f}",
                *(_words(row.columns.get(name), digits) for name, digits in shown),
            )
            for row in rows
        ],
        left=(0, 1),
    )
    console.fact("* no other setting is as good in F1@80 and in what was asked, and better in one")
    console.fact(f"{table}  {plot}")


def _words(measured: Measured | None, digits: int) -> str:
    if measured is None or not math.isfinite(measured.value):
        return "-"
    return f"{measured.value:.{digits}f} [{measured.low:.{digits}f}-{measured.high:.{digits}f}]"
