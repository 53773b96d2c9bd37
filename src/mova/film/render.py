"""A planned film made: what is not in the cache is rendered, looked over and kept, then all shots are joined."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from mova.conditioning.given import Given, combined
from mova.conditioning.prepare import Prepared, given_around, mono, mono_at, prepare
from mova.conditioning.sources import PREFIX, content_hash, name_of
from mova.errors import MediaError
from mova.film.audio import film_audio
from mova.film.cache import Ending, ShotCache, ShotClip
from mova.film.keys import keys_of_film, keys_there, num_steps, repaired_key, shot_key, take_key
from mova.film.plan import FilmPlan, PlannedShot, as_written, request_of_take, work_of
from mova.film.shots import Bed, of_shot
from mova.generation.model import MOVAModel
from mova.generation.repair import CheckedClip, fault_words, generate_checked
from mova.media.clip import Clip
from mova.media.health.gate import Health, OnFault, Remedy
from mova.media.resample import resample
from mova.request.capabilities import Capabilities
from mova.request.plan import resolve
from mova.request.schema import GenerationRequest, Keyframe
from mova.timeline import samples_in_frames

State = Literal["cached", "to render", "waits"]
OnShotProgress = Callable[[int, str, int, int], None]
OnShotRemedy = Callable[[int, Health, Remedy], None]
REPAIR_SEED_STEP = 1000
"""From the seed of a faulty shot to the next: those right after it are the seeds of its retakes."""


@dataclass(frozen=True)
class ShotState:
    """Whether a shot has to be rendered.

    Args:
        number: Of the shot, from 1.
        state: ``"waits"``: it keeps something of a shot that is to be rendered; if that ends as it did before, this one is
            still there.
        work: What is to be made for it at most (:func:`mova.film.plan.work_of`).
    """

    number: int
    state: State
    work: float


def shot_states(plan: FilmPlan, cache: ShotCache, *, on_fault: OnFault = "keep") -> tuple[ShotState, ...]:
    """Which shots are there, and which are to be rendered.

    Args:
        plan: What to make.
        cache: Where finished shots are.
        on_fault: With ``"repair"``, a faulty shot whose repair was not tried is to be rendered.

    Raises:
        MediaError: If a file that a shot names cannot be read.
    """
    result = []
    for shot, there in zip(plan.shots, keys_of_film(plan, cache, on_fault=on_fault), strict=True):
        if there is None:
            result.append(ShotState(shot.number, "waits", _work(shot, 0)))
        elif len(there) == num_steps(shot):
            result.append(ShotState(shot.number, "cached", 0.0))
        else:
            result.append(ShotState(shot.number, "to render", _work(shot, len(there))))
    return tuple(result)


def render_film(
    plan: FilmPlan,
    cache: ShotCache,
    load_model: Callable[[], MOVAModel],
    *,
    on_fault: OnFault = "keep",
    on_progress: OnShotProgress | None = None,
    on_remedy: OnShotRemedy | None = None,
) -> Clip:
    """Make a film: :func:`render_shots`, :func:`joined`."""
    return joined(plan, render_shots(plan, cache, load_model, on_fault=on_fault, on_progress=on_progress, on_remedy=on_remedy))


def render_shots(
    plan: FilmPlan,
    cache: ShotCache,
    load_model: Callable[[], MOVAModel],
    *,
    on_fault: OnFault = "keep",
    on_progress: OnShotProgress | None = None,
    on_remedy: OnShotRemedy | None = None,
) -> list[ShotClip]:
    """Make the shots of a film. Every one is kept as soon as it is finished, so that a run that was interrupted goes on.

    Nothing is raised for a fault: what ``"fail"`` means is up to whoever writes the film.

    Args:
        plan: What to make.
        cache: Where finished shots are; each with its verdict.
        load_model: Called once, if anything has to be rendered.
        on_fault: With ``"repair"``, a faulty shot is mended or made anew (:mod:`mova.generation.repair`).
        on_progress: ``f(number of the shot, stage, done, of)``; the stages are those of :meth:`MOVAModel.generate`.
        on_remedy: ``f(number of the shot, health, remedy)`` before each attempt of a repair.

    Raises:
        RequestError: If the model cannot make a shot; the message names it.
        MediaError: If a file cannot be read, a shot not kept, or what was made is no clip at all.
    """
    model: MOVAModel | None = None
    finished: list[str] = []
    for shot in plan.shots:
        with of_shot(shot.number):
            before = cache.ending(finished[-1], shot.lead_frames) if shot.shot.keep else None
            first = shot_key(plan, shot, before)
            there = keys_there(first, shot, cache, on_fault=on_fault)
            if len(there) < num_steps(shot):
                model = load_model() if model is None else model
                run = _Run(plan, cache, model, on_fault, on_progress, on_remedy)
                there = _render(run, shot, first, there, before=before)
            finished.append(there[-1])
    return [cache.read(key) for key in finished]


def joined(plan: FilmPlan, shots: list[ShotClip]) -> Clip:
    """The film of finished shots; ``clip.request`` says what every shot was made from, and where it begins.

    ``clip.made_by`` is what made them: one model makes all shots of a plan.

    Raises:
        RequestError: If bed and shots together pass full scale.
    """
    frames = np.concatenate([shot.clip.frames for shot in shots])
    record = [_record(shot, finished) for shot, finished in zip(plan.shots, shots, strict=True)]
    audio = plan.film.sound
    request = {
        "model": plan.capabilities.name,
        "sound": audio.model_dump(exclude_none=True) if isinstance(audio, Bed) else audio,
        "fade_ms": plan.film.fade_ms,
        "shots": record,
    }
    made_by = {**(shots[0].clip.made_by or {}), "inputs": _inputs(plan, shots)}
    return Clip(frames, film_audio(plan, shots), plan.fps, plan.sample_rate, request=request, made_by=made_by)


def _inputs(plan: FilmPlan, shots: list[ShotClip]) -> dict[str, str]:
    """The files that a film was made from, and their hashes; what a shot keeps of the one before is none."""
    audio = plan.film.sound
    beds = [str(plan.film.folder / audio.bed)] if isinstance(audio, Bed) else []
    of_shots = (((shot.clip.made_by or {}).get("inputs") or {}).items() for shot in shots)
    named = {name: known for items in of_shots for name, known in items if not name.startswith(PREFIX)}
    return named | {bed: content_hash(bed) for bed in beds}


def _record(shot: PlannedShot, finished: ShotClip) -> dict[str, Any]:
    """What a shot was made from, with the seeds that a repair chose."""
    (seed, audio_seed), *of_takes = finished.seeds
    takes = [
        {"retake": take.retake.model_dump(), "seed": video, "audio_seed": audio}
        for take, (video, audio) in zip(shot.shot.retakes, of_takes, strict=True)
    ]
    return {
        **as_written(shot.plan.request, shot.shot.request),
        "seed": seed,
        "audio_seed": audio_seed,
        "first_frame": shot.first_frame,
        "keep": list(shot.shot.keep),
        "retakes": takes,
    }


def prepared_shot(shot: PlannedShot, capabilities: Capabilities, before: Ending | None) -> Prepared:
    """Everything to begin a shot with: what it names, and what it keeps of the shot before.

    A shot that keeps the audio is made longer by its lead, of which the audio is given; the lead is cut off afterwards.

    Args:
        shot: What to make.
        capabilities: What the model can make.
        before: What the shot before ends with; ``None`` if nothing of it is kept.

    Raises:
        RequestError: If what is given does not fit.
        MediaError: If a file cannot be read.
    """
    request, memory = shot.plan.request, dict[str, Any]()
    if before is not None and shot.keeps_frame:
        request = request.model_copy(update={"image": name_of(before.frame, "image", memory)})
    if before is None or not shot.keeps_audio:
        return prepare(request, capabilities, memory)
    prepared = prepare(_led(request, shot.lead_frames, shot.plan.timeline.fps), capabilities, memory)
    plan, timeline = prepared.plan, prepared.plan.timeline
    waveform, rate = before.audio
    finished = np.zeros((waveform.shape[0], plan.num_samples), np.float32)
    finished[:, : waveform.shape[1]] = waveform
    lead_samples = timeline.samples(shot.lead_frames)
    own = np.zeros((1, plan.canvas.num_samples), np.float32)
    own[:, :lead_samples] = resample(mono(waveform), rate, to_rate=timeline.sample_rate, num_samples=lead_samples)
    lead = Given(waveform=own, keep_audio=np.arange(plan.canvas.num_samples) < lead_samples)
    return replace(prepared, given=combined(prepared.given, lead), audio=finished)


def prepared_take(shot: PlannedShot, index: int, clip: Clip, capabilities: Capabilities) -> Prepared:
    """Everything to make a span of a finished shot anew; all of it but the span is given.

    Args:
        shot: Whose span it is.
        index: Of the retake.
        clip: The shot as it is.
        capabilities: What the model can make.

    Raises:
        RequestError: If the span does not fit.
    """
    take, seed = request_of_take(shot, index)
    settled = shot.plan.request
    # what the shot was made from is in the clip already
    nothing = {name: field.get_default() for name, field in GenerationRequest.model_fields.items() if name in _IN_THE_CLIP}
    own = {"seed": seed, "audio_seed": seed, "num_frames": clip.num_frames, "audio_sample_rate": clip.sample_rate}
    plan = resolve(settled.model_copy(update={**nothing, **own}), capabilities)
    given = given_around(plan, mono_at(clip, plan.timeline.sample_rate), take.retake)
    return Prepared(plan, given, audio=clip.waveform)


_IN_THE_CLIP = ("cues", "image", "last_image", "keyframes", "video", "audio", "extend_s", "extend_at", "retake", "repaint")


@dataclass(frozen=True, eq=False)
class _Run:
    """What all shots that are rendered share."""

    plan: FilmPlan
    cache: ShotCache
    model: MOVAModel
    on_fault: OnFault
    on_progress: OnShotProgress | None
    on_remedy: OnShotRemedy | None


def _render(run: _Run, shot: PlannedShot, first: str, there: tuple[str, ...], *, before: Ending | None) -> tuple[str, ...]:
    """Make what of the shot and its retakes is not there, and keep each; the keys of all of them."""
    finished = run.cache.read(there[-1]) if there else None
    for step in range(len(there), num_steps(shot)):
        began = time.monotonic()
        if finished is None:
            key, prepared = first, prepared_shot(shot, run.plan.capabilities, before)
            checked = _checked(run, shot, prepared, skip_frames=shot.lead_frames)
            finished = _without_lead(checked, shot)
        else:
            key, prepared = (
                take_key(there[-1], shot, step - 1),
                prepared_take(shot, step - 1, finished.clip, run.plan.capabilities),
            )
            checked = _checked(run, shot, prepared, skip_frames=0)
            finished = _retaken(finished, checked)
        if run.on_fault == "repair" and (checked.remedies or finished.health.faults):
            key = repaired_key(key)
        work = work_of(prepared.plan, prepared.plan.grid_frames) * (1 + len(checked.remedies))
        taken = time.monotonic() - began
        run.cache.store(key, finished, model_key=run.plan.model_key, work=work, seconds_taken=taken)
        there = (*there, key)
    return there


def _checked(run: _Run, shot: PlannedShot, prepared: Prepared, *, skip_frames: int) -> CheckedClip:
    def tell(stage: str, done: int, total: int) -> None:
        if run.on_progress is not None:
            run.on_progress(shot.number, stage, done, total)

    def tell_remedy(health: Health, remedy: Remedy) -> None:
        if run.on_remedy is not None:
            run.on_remedy(shot.number, health, remedy)

    checked = generate_checked(
        run.model,
        prepared,
        on_fault=run.on_fault,
        seed_step=REPAIR_SEED_STEP,
        skip_frames=skip_frames,
        on_progress=tell,
        on_remedy=tell_remedy,
    )
    if checked.clip is None:
        raise MediaError(f"what was made is no clip: {fault_words(checked.health)}.", "Try another seed, or --on-fault repair.")
    return checked


def _without_lead(checked: CheckedClip, shot: PlannedShot) -> ShotClip:
    """The shot, and the seam at which the given audio fades into the made one; that lies before the cut."""
    assert checked.clip is not None
    clip = replace(checked.clip, source_video=None)
    seam = clip.waveform[:, :0]
    if shot.lead_frames:
        timeline = shot.plan.timeline
        cut = samples_in_frames(shot.lead_frames, clip.fps, clip.sample_rate)
        length = min(cut, round(timeline.audio_hop / timeline.sample_rate * clip.sample_rate))
        seam = clip.waveform[:, cut - length : cut]
        clip = clip.without_beginning(shot.lead_frames)
    return ShotClip(clip, seam, checked.health, checked.remedies, (_seeds(checked),))


def _retaken(before: ShotClip, checked: CheckedClip) -> ShotClip:
    """A shot after a retake."""
    assert checked.clip is not None
    return replace(
        before,
        clip=replace(checked.clip, made_by=before.clip.made_by),  # all but the span was given: the files are the shot's own
        health=_health_after(before.health, checked.health),
        remedies=(*before.remedies, *checked.remedies),
        seeds=(*before.seeds, _seeds(checked)),
    )


def _health_after(before: Health, now: Health) -> Health:
    """Of a shot after a retake: what was not made anew is as it was."""
    if set(now.looked_at) >= set(before.looked_at):
        return now
    kept = [fault for fault in before.faults if fault.modality not in now.looked_at]
    faults = sorted((*kept, *now.faults), key=lambda fault: _MODALITIES.index(fault.modality))
    looked_at = {*before.looked_at, *now.looked_at}
    return Health(tuple(faults), tuple(name for name in _MODALITIES if name in looked_at))


_MODALITIES = ("video", "audio", "both")


def _seeds(checked: CheckedClip) -> tuple[int, int]:
    return checked.prepared.plan.seed, checked.prepared.plan.audio_seed


def _led(request: GenerationRequest, lead_frames: int, fps: Fraction) -> GenerationRequest:
    """The request of a clip that begins earlier: what it shows at its beginning is shown after the lead."""
    lead_s = lead_frames / fps
    pictures = [Keyframe(time_s=float(lead_s), image=request.image)] if request.image is not None else []
    pictures += [key.model_copy(update={"time_s": float(lead_s + Fraction(str(key.time_s)))}) for key in request.keyframes]
    cues = request.cues and tuple(cue.model_copy(update={"time_s": cue.time_s + float(lead_s)}) for cue in request.cues)
    assert request.num_frames is not None, "a settled request states its length"
    update = {"cues": cues, "image": None, "keyframes": tuple(pictures), "num_frames": request.num_frames + lead_frames}
    return request.model_copy(update=update)


def _work(shot: PlannedShot, there: int) -> float:
    """Of the steps from ``there`` on; every retake costs a whole clip."""
    return sum(
        work_of(shot.plan, shot.plan.grid_frames + (shot.lead_frames if step == 0 else 0))
        for step in range(there, num_steps(shot))
    )
