"""``mova generate``: a prompt to a film with its sound, told step by step."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mova.cli import console
from mova.cli.options import in_typed_words, numbered, parse_size, read_prompt
from mova.errors import MediaError, RequestError
from mova.runtime.options import RuntimeOptions

if TYPE_CHECKING:
    from mova.inputs import Prepared
    from mova.media.clip import Clip
    from mova.plan import Plan
    from mova.request import GenerationRequest
    from mova.world import ModelWorld

STAGES = {"text": "reading the prompt", "denoise": "steps", "decode": "decoding", "resample": "resampling"}


@dataclass(frozen=True)
class Output:
    """Where the clips go and how much is said.

    Args:
        path: Film, or the pattern of several.
        sheet: Picture of the first clip, if wanted.
        is_json: One JSON document on stdout instead of a line of facts.
        is_dry_run: Check and plan only.
        num_clips: Clips with consecutive seeds.
    """

    path: Path
    sheet: Path | None
    is_json: bool
    is_dry_run: bool
    num_clips: int


@dataclass(frozen=True)
class Choice:
    """Which model, and how it runs.

    Args:
        model: Name, folder or hub id.
        runtime: Fields of :class:`~mova.runtime.options.RuntimeOptions`.
        loras: Files and their strengths.
    """

    model: str
    runtime: RuntimeOptions = field(default_factory=RuntimeOptions)
    loras: tuple[tuple[Path, float], ...] = ()


def run(values: dict[str, Any], choice: Choice, output: Output, *, size: str | None = None) -> None:
    """Check everything, load the model, make the clips, write them, say what they are."""
    from mova.checkpoints.layout import read_index, resolve_model
    from mova.inputs import prepare
    from mova.request import make_request

    try:
        width, height = parse_size(size)
        given: dict[str, Any] = {name: value for name, value in (("width", width), ("height", height)) if value is not None}
        if "prompt" in values:
            given["prompt"] = read_prompt(values["prompt"])
        request = make_request(values | given)
        folder = resolve_model(choice.model)
        world = read_index(folder).world
        prepared = prepare(request, world)
    except RequestError as problem:
        raise in_typed_words(problem) from None
    paths = numbered(output.path, output.num_clips)
    plan = prepared.plan
    _check_writable(paths, output.sheet, prepared)
    _check_loras(choice.loras)
    _say_plan(plan, world, output)
    if output.is_dry_run:
        if output.is_json:
            console.facts_json({"request": plan.request.model_dump(), "output": [str(path) for path in paths]})
        return
    _make(prepared, choice, folder, world, paths, output)


def _make(
    prepared: Prepared, choice: Choice, folder: Path, world: ModelWorld, paths: list[Path], output: Output
) -> None:
    began = time.monotonic()
    from mova.model import MOVAModel

    model = MOVAModel.from_pretrained(folder, runtime=choice.runtime)
    console.say(f"loaded {world.name} in {time.monotonic() - began:.1f} s")
    for path, scale in choice.loras:
        console.say(f"LoRA {model.load_lora(path, scale=scale)} from {path}, scale {scale:g}")
    facts = []
    plan = prepared.plan
    for number, path in enumerate(paths):
        wanted = prepared.with_seeds(plan.seed + number, plan.audio_seed + number)
        label = f"{path.name}: " if len(paths) > 1 else ""
        lines: dict[str, console.ProgressLine] = {}

        def on_progress(stage: str, done: int, total: int, label: str = label, lines: Any = lines) -> None:
            lines.setdefault(stage, console.ProgressLine(label + STAGES.get(stage, stage))).update(done, total)

        begin = time.monotonic()
        clip = model.run_prepared(wanted, on_progress=on_progress)
        written = clip.save(path)
        elapsed = time.monotonic() - begin
        if number == 0 and output.sheet is not None:
            _save_sheet(clip, output.sheet, wanted.plan.request.prompt)
        facts.append(_facts(clip, path, written.size_bytes, elapsed, wanted.plan.request))
    if output.is_json:
        console.facts_json(facts[0] if len(facts) == 1 else facts)
    else:
        for fact in facts:
            console.fact(_fact_line(fact))


def clip_facts(clip: Clip, path: Path, size_bytes: int, seconds_taken: float) -> dict[str, Any]:
    """What is said of every clip that was written."""
    from mova.media.loudness import loudness_lufs, peak_dbfs

    return {
        "file": str(path),
        "bytes": size_bytes,
        "width": clip.width,
        "height": clip.height,
        "num_frames": clip.num_frames,
        "fps": float(clip.fps),
        "seconds": float(clip.seconds),
        "sample_rate": clip.sample_rate,
        "loudness_lufs": loudness_lufs(clip.waveform, clip.sample_rate),
        "peak_dbfs": peak_dbfs(clip.waveform),
        "seconds_taken": round(seconds_taken, 2),
    }


def loudness_words(fact: dict[str, Any]) -> str:
    """Its loudness for a line of facts."""
    return "silent" if fact["loudness_lufs"] is None else f"{fact['loudness_lufs']:.1f} LUFS"


def _facts(clip: Clip, path: Path, size_bytes: int, seconds_taken: float, request: GenerationRequest) -> dict[str, Any]:
    from mova.evaluation.sync import measure_sync

    sync = measure_sync(clip)
    return clip_facts(clip, path, size_bytes, seconds_taken) | {
        "offset_ms": None if sync is None else round(sync.offset_ms, 1),
        "num_events": 0 if sync is None else sync.num_events,
        "request": request.model_dump(),
    }


def _fact_line(fact: dict[str, Any]) -> str:
    sync = (
        "sync: no events to measure"
        if fact["offset_ms"] is None
        else f"sound {fact['offset_ms']:+.0f} ms to picture ({fact['num_events']} events)"
    )
    return (
        f"{fact['file']}  {fact['width']}x{fact['height']}, {fact['seconds']:.3f} s at {fact['fps']:g} fps, "
        f"{fact['bytes'] / 1000:.0f} kB, {sync}, {loudness_words(fact)}, made in {fact['seconds_taken']:.1f} s"
    )


def _say_plan(plan: Plan, world: ModelWorld, output: Output) -> None:
    from mova.scenes.recognise import kind_of

    request = plan.request
    length = (
        f"{plan.num_frames} frames ({plan.num_frames / float(plan.timeline.fps):.3f} s) at {float(plan.timeline.fps):g} fps"
    )
    console.say(
        f"{world.name}: {plan.width}x{plan.height}, {length}, sound {plan.sample_rate} Hz, {plan.num_inference_steps} steps, "
        f"guidance {plan.guidance_scale:g}, seed {request.seed}, audio seed {request.audio_seed}"
        + (f", {output.num_clips} clips with consecutive seeds" if output.num_clips > 1 else "")
    )
    if world.kinds and kind_of(request.prompt) is None:
        kinds = ", ".join(world.kinds)
        console.say(f"note: this prompt is outside what {world.name} knows ({kinds}); see `mova examples`")


def _check_loras(loras: tuple[tuple[Path, float], ...]) -> None:
    """Refuse a broken file before any weight of the model is read."""
    if loras:
        from mova.checkpoints.lora import read_lora

        for path, _ in loras:
            read_lora(path)


def _check_writable(paths: list[Path], sheet: Path | None, prepared: Prepared) -> None:
    """Refuse what cannot be written before any weight is read."""
    from mova.media.clip import SINGLE_KINDS
    from mova.media.encode import check_target
    from mova.media.soundtrack import check_soundtrack_target

    for path in paths:
        if prepared.film is not None and path.suffix.lower() not in SINGLE_KINDS:
            check_soundtrack_target(prepared.film, path)
        else:
            check_target(path, width=prepared.plan.width, height=prepared.plan.height)
    if sheet is not None and (not sheet.parent.is_dir() or not os.access(sheet.parent, os.W_OK)):
        raise MediaError(f"--sheet: the folder {sheet.parent} cannot be written.", "Choose a folder that exists.")
    if sheet is not None and sheet.suffix.lower() != ".png":
        raise MediaError(f"--sheet: writes .png; got {sheet.name!r}.", f"Use {sheet.with_suffix('.png').name}.")


def _save_sheet(clip: Clip, path: Path, title: str) -> None:
    beside = path.with_name(f".{path.stem}.partial-{os.getpid()}.png")
    try:
        clip.sheet(title=title).save(beside)
        os.replace(beside, path)
    except OSError as problem:
        raise MediaError(f"cannot write {path}: {problem.strerror or problem}.", "Choose another --sheet.") from problem
    finally:
        beside.unlink(missing_ok=True)
