"""``mova generate``: a prompt to a video with its audio, reported step by step."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mova.cli import console
from mova.cli.options import number_paths, read_prompts, with_flag_names, with_option_of_file
from mova.errors import MediaError, MovaError, RequestError
from mova.files import atomic_write
from mova.runtime.options import RuntimeOptions

if TYPE_CHECKING:
    from PIL import Image

    from mova.conditioning.prepare import Prepared
    from mova.generation.model import MOVAModel
    from mova.media.clip import Clip
    from mova.media.health.gate import Health, OnFault
    from mova.progress import Progress
    from mova.request.plan import Capabilities

REMEDIES = {
    "decode_fp32": "its codecs in float32",
    "redecode": "its codecs without tiles",
    "reroll_video": "another seed for the picture",
    "reroll_audio": "another seed for the audio",
}
STAGES = {"text": "reading the prompt", "denoise": "steps", "decode": "decoding", "resample": "resampling"}


@dataclass(frozen=True)
class Output:
    """Where the clips go and how much is said.

    Args:
        path: Video, or the pattern of several.
        sheet: Picture of the clip, or the pattern of several, if wanted.
        has_sidecar: Whether request, maker and facts go into a JSON document beside every clip.
        is_json: One JSON document on stdout instead of a line of facts.
        is_dry_run: Check and plan only.
        num_clips: Clips of each prompt, with consecutive seeds.
        on_fault: What to do about a faulty clip (:mod:`mova.generation.run`).
    """

    path: Path
    sheet: Path | None
    has_sidecar: bool
    is_json: bool
    is_dry_run: bool
    num_clips: int
    on_fault: OnFault = "keep"


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


def run(values: dict[str, Any], choice: Choice, output: Output) -> None:
    """Check everything, load the model, make the clips, write them, say what they are."""
    from mova.checkpoints.layout import read_index, resolve_model
    from mova.checkpoints.tokenizer import TokenCounter
    from mova.conditioning.prepare import prepare
    from mova.media.health.gate import check_on_fault
    from mova.pipeline.reading import reader_of_folder
    from mova.request.plan import check_seeds
    from mova.request.schema import GenerationRequest

    try:
        prompts = read_prompts(values["prompt"]) if "prompt" in values else [None]
        check_on_fault(output.on_fault)
        requests = [
            GenerationRequest.model_validate(values if prompt is None else values | {"prompt": prompt}) for prompt in prompts
        ]
        folder = resolve_model(choice.model)
        capabilities = read_index(folder).capabilities
        count_tokens = TokenCounter(folder)
        read = reader_of_folder(folder, capabilities)
        prepared = [prepare(request, capabilities, count_tokens=count_tokens, read=read) for request in requests]
        for one in prepared:
            check_seeds(one.plan, output.num_clips)
    except RequestError as problem:
        raise with_flag_names(problem) from None
    except MediaError as problem:
        raise with_option_of_file(problem, values) from None
    jobs = _jobs(prepared, output)
    for job in jobs:
        _check_writable(job, output)
    _check_loras(choice.loras)
    _say_plan(prepared, capabilities, output)
    if output.is_dry_run:
        if output.is_json:
            plans = [one.plan.request.model_dump() for one in prepared]
            readings = [None if one.reading is None else one.reading.as_dict() for one in prepared]
            asked = (
                {"request": plans[0], "reading": readings[0]} if len(plans) == 1 else {"requests": plans, "readings": readings}
            )
            console.facts_json({**asked, "output": [str(job.path) for job in jobs]})
        return
    _make(jobs, choice, folder, capabilities, output)


@dataclass(frozen=True)
class Job:
    """One clip to make.

    Args:
        prepared: Its request, with its seeds.
        path: Path of its file.
        sheet: Path of its picture, if wanted.
        label: Beginning of what is said about it; empty for a clip alone.
    """

    prepared: Prepared
    path: Path
    sheet: Path | None
    label: str


def _jobs(prepared: list[Prepared], output: Output) -> list[Job]:
    """Every prompt with consecutive seeds, and a path for each."""
    seeded = [
        one.with_seeds(one.plan.seed + number, one.plan.audio_seed + number)
        for one in prepared
        for number in range(output.num_clips)
    ]
    paths = number_paths(output.path, len(seeded))
    sheets = [None] * len(seeded) if output.sheet is None else number_paths(output.sheet, len(seeded))
    return [
        Job(one, path, sheet, f"{path.name}: " if len(seeded) > 1 else "")
        for one, path, sheet in zip(seeded, paths, sheets, strict=True)
    ]


def _make(jobs: list[Job], choice: Choice, folder: Path, capabilities: Capabilities, output: Output) -> None:
    began = time.monotonic()
    from mova.generation.model import MOVAModel

    model = MOVAModel.from_pretrained(folder, runtime=choice.runtime)
    console.say(f"loaded {capabilities.name} in {time.monotonic() - began:.1f} s")
    for path, scale in choice.loras:
        console.say(f"LoRA {model.load_lora(path, scale=scale)} from {path}, scale {scale:g}")
    facts = []
    refused: list[tuple[Path, Health]] = []
    for job in jobs:
        fact, health = _make_one(model, job, output)
        facts.append(fact)
        if fact["file"] is None:
            refused.append((job.path, health))
    if output.is_json:
        console.facts_json(facts[0] if len(facts) == 1 else facts)
    else:
        for fact in facts:
            if fact["file"] is not None:
                console.fact(_fact_line(fact))
    if refused:
        raise _refusal(refused, len(jobs))


def _make_one(model: MOVAModel, job: Job, output: Output) -> tuple[dict[str, Any], Health]:
    """Make and write a clip; its facts, without a file if it is faulty and may not be written."""
    from mova.generation.notes import notes_on
    from mova.generation.run import fault_words, generate_checked
    from mova.media.sidecar import write_sidecar

    lines: dict[str, console.ProgressLine] = {}

    def on_progress(progress: Progress) -> None:
        name = job.label + STAGES.get(progress.stage, progress.stage)
        lines.setdefault(progress.stage, console.ProgressLine(name)).show(progress)

    def on_remedy(health: Health, remedy: str) -> None:
        console.say(f"{job.label}{fault_words(health)}; next: {REMEDIES[remedy]}")
        lines.clear()

    begin = time.monotonic()
    checked = generate_checked(
        model,
        job.prepared,
        on_fault=output.on_fault,
        seed_step=output.num_clips,  # the seeds between are those of the other clips
        on_progress=on_progress,
        on_remedy=on_remedy,
    )
    clip, health, request = checked.clip, checked.health, checked.prepared.plan.request
    verdict = {"health": {**health.as_dict(), "remedies": list(checked.remedies)}, "request": request.model_dump()}
    if clip is None or (health.faults and output.on_fault == "fail"):
        return {"file": None, **verdict}, health
    written = clip.save(job.path)
    elapsed = time.monotonic() - begin
    if clip.made_by and clip.made_by.get("cues"):
        source = "as given" if request.cues else "planned"
        console.say(f"{job.label}cues, {source}: {cue_words(clip.made_by['cues'])}")
    before = notes_on(checked.prepared, model.capabilities)  # said before the run
    for note in clip.notes:
        if note not in before:
            console.say(f"note: {job.label}{note}")
    if health.faults:
        console.say(f"warning: {job.label}{fault_words(health)}; see --on-fault")
    if job.sheet is not None:
        save_picture(clip.sheet(title=request.prompt), job.sheet, "--sheet")
    fact = {**_facts(clip, job.path, written.size_bytes, elapsed), **verdict}
    if output.has_sidecar:
        beside = write_sidecar(clip, job.path, facts={name: value for name, value in fact.items() if name != "request"})
        console.say(f"request and facts in {beside}")
    return fact, health


def check_picture_target(path: Path, option: str) -> None:
    """Refuse a picture that cannot be written, before anything is computed.

    Raises:
        MediaError: If the folder is not there, or the suffix is not .png; the message names the option.
    """
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise MediaError(f"{option}: the folder {path.parent} cannot be written.", "Choose a folder that exists.")
    if path.suffix.lower() != ".png":
        raise MediaError(f"{option}: writes .png; got {path.name!r}.", f"Use {path.with_suffix('.png').name}.")


def save_picture(image: Image.Image, path: Path, option: str) -> None:
    """Write a picture beside its place, then put it there.

    Raises:
        MediaError: If it cannot be written.
    """
    try:
        with atomic_write(path) as beside:
            image.save(beside)
    except OSError as problem:
        raise MediaError(f"cannot write {path}: {problem.strerror or problem}.", f"Choose another {option}.") from problem


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


def cue_words(cues: list[tuple[float, str]]) -> str:
    """What happens when, in a line."""
    return ", ".join(f"{label or 'something'} at {time_s:.2f} s" for time_s, label in cues)


def loudness_words(fact: dict[str, Any]) -> str:
    """Its loudness for a line of facts."""
    return "silent" if fact["loudness_lufs"] is None else f"{fact['loudness_lufs']:.1f} LUFS"


def _facts(clip: Clip, path: Path, size_bytes: int, seconds_taken: float) -> dict[str, Any]:
    from mova.lab.sync.measure import find_recorded_kind, measure_clip

    # the offset is said, and no verdict: what the record names is enough, and a cross-check without it would change nothing
    sync = measure_clip(clip, kind=find_recorded_kind(clip.request, clip.made_by))
    return clip_facts(clip, path, size_bytes, seconds_taken) | {
        "offset_ms": None if sync.offset_ms is None else round(sync.offset_ms, 1),
        "num_events": sync.num_events,
    }


def _fact_line(fact: dict[str, Any]) -> str:
    sync = (
        "sync unknown"
        if fact["offset_ms"] is None
        else f"audio {fact['offset_ms']:+.0f} ms to picture ({console.count(fact['num_events'], 'event')})"
    )
    is_audio = Path(fact["file"]).suffix.lower() == ".wav"
    shown = "" if is_audio else f"{fact['width']}x{fact['height']}, "
    rate = f"{fact['sample_rate']} Hz" if is_audio else f"{fact['fps']:g} fps"
    return (
        f"{fact['file']}  {shown}{fact['seconds']:.3f} s at {rate}, "
        f"{fact['bytes'] / 1000:.0f} kB, {sync}, {loudness_words(fact)}, made in {fact['seconds_taken']:.1f} s"
    )


def _refusal(refused: list[tuple[Path, Health]], num_clips: int) -> MovaError:
    from mova.generation.run import fault_words

    hint = "Try another --seed, or --on-fault repair, or keep."
    if num_clips == 1:
        path, health = refused[0]
        return MovaError(f"{path} was not written: {fault_words(health)}.", hint)
    names = "; ".join(f"{path.name}: {fault_words(health)}" for path, health in refused)
    return MovaError(f"{len(refused)} of {num_clips} clips were not written: {names}.", hint)


def _say_plan(prepared: list[Prepared], capabilities: Capabilities, output: Output) -> None:
    from mova.generation.notes import notes_on

    plan = prepared[0].plan
    request = plan.request
    num_frames = console.count(plan.num_frames, "frame")
    length = f"{num_frames} ({plan.num_frames / float(plan.timeline.fps):.3f} s) at {float(plan.timeline.fps):g} fps"
    size = "" if request.only == "audio" else f"{plan.width}x{plan.height}, "
    console.say(
        f"{capabilities.name}: {size}{length}, audio {plan.sample_rate} Hz, "
        f"{console.count(plan.num_inference_steps, 'step')}, "
        f"guidance {plan.guidance_scale:g}, seed {request.seed}, audio seed {request.audio_seed}"
        + (f", {len(prepared)} prompts" if len(prepared) > 1 else "")
        + (f", {output.num_clips} clips with consecutive seeds" if output.num_clips > 1 else "")
    )
    for one in prepared:
        of = "" if len(prepared) == 1 else f"{one.plan.request.prompt[:40]!r}: "
        if one.reading is not None and one.reading.kind is not None:
            worded = "" if one.prompt == one.plan.request.prompt else f' -> "{one.prompt}"'
            console.say(f"{of}read as: {one.reading.words}{worded}")
        for note in notes_on(one, capabilities):
            console.say(f"note: {of}{note}")


def _check_loras(loras: tuple[tuple[Path, float], ...]) -> None:
    """Refuse a broken file before any weight of the model is read."""
    if loras:
        from mova.checkpoints.lora.file import read_lora

        for path, _ in loras:
            read_lora(path)


def _check_writable(job: Job, output: Output) -> None:
    """Refuse what cannot be written before any weight is read."""
    from mova.media.clip import SINGLE_KINDS, check_only
    from mova.media.encode import check_target
    from mova.media.remux.soundtrack import check_soundtrack_target
    from mova.media.sidecar import check_sidecar

    path, prepared = job.path, job.prepared
    check_only(path, prepared.plan.request.only)
    if output.has_sidecar:
        check_sidecar(path)
    if prepared.source_video is not None and path.suffix.lower() not in SINGLE_KINDS:
        check_soundtrack_target(prepared.source_video, path)
    else:
        check_target(path, width=prepared.plan.width, height=prepared.plan.height)
    if job.sheet is not None:
        check_picture_target(job.sheet, "--sheet")
