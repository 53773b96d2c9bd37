"""Render a planned film: shots that are not in the cache are rendered, checked and stored, then all are joined."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from mova.conditioning.edit import given_around, mono, mono_at
from mova.conditioning.given import Given, merge_given
from mova.conditioning.prepare import Prepared, prepare
from mova.conditioning.sources import PREFIX, content_hash, name_of
from mova.errors import MediaError
from mova.film.audio import film_audio
from mova.film.cache import (
    Ending,
    ShotCache,
    ShotClip,
    find_film_keys,
    find_finished_keys,
    num_steps,
    repair_key,
    shot_key,
    take_key,
)
from mova.film.plan import FilmPlan, PlannedShot, dump_as_written, request_of_take, work_of
from mova.film.shots import Bed, add_shot_to_errors
from mova.generation.model import MOVAModel
from mova.generation.run import CheckedClip, fault_words, generate_checked
from mova.media.clip import Clip
from mova.media.health.gate import Health, OnFault, Remedy
from mova.media.resample import resample
from mova.progress import CancelToken, Progress
from mova.request.plan import Capabilities, resolve
from mova.request.schema import GenerationRequest, Keyframe
from mova.timeline import samples_in_frames

State = Literal["cached", "to render", "waits"]
OnShotProgress = Callable[[int, Progress], None]
OnShotRemedy = Callable[[int, Health, Remedy], None]
REPAIR_SEED_STEP = 1000
"""Difference between the seed of a faulty shot and the next to try: those in between are seeds of its retakes."""


@dataclass(frozen=True)
class ShotState:
    """Whether a shot has to be rendered.

    Args:
        number: Number of the shot, from 1.
        state: ``"waits"`` if it keeps something of a shot that is still to be rendered: if the ending of that shot turns out
            the same, this one need not be rendered.
        work: Largest amount of computation that it may need (:func:`mova.film.plan.work_of`).
    """

    number: int
    state: State
    work: float


def shot_states(plan: FilmPlan, cache: ShotCache, *, on_fault: OnFault = "keep") -> tuple[ShotState, ...]:
    """Return which shots are finished, and which have to be rendered.

    Args:
        plan: Plan of the film.
        cache: Cache of finished shots.
        on_fault: Treatment of faults; with ``"repair"``, a faulty shot whose repair was not tried has to be rendered.

    Raises:
        MediaError: If a file that a shot names cannot be read.
    """
    result = []
    for shot, there in zip(plan.shots, find_film_keys(plan, cache, on_fault=on_fault), strict=True):
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
    cancel: CancelToken | None = None,
) -> Clip:
    """Render a film: :func:`render_shots`, then :func:`join_shots`."""
    shots = render_shots(
        plan, cache, load_model, on_fault=on_fault, on_progress=on_progress, on_remedy=on_remedy, cancel=cancel
    )
    return join_shots(plan, shots)


def render_shots(
    plan: FilmPlan,
    cache: ShotCache,
    load_model: Callable[[], MOVAModel],
    *,
    on_fault: OnFault = "keep",
    on_progress: OnShotProgress | None = None,
    on_remedy: OnShotRemedy | None = None,
    cancel: CancelToken | None = None,
) -> list[ShotClip]:
    """Render the shots of a film. Each is stored as soon as it is finished, so that an interrupted run can continue.

    Faults raise no error here: with ``"fail"``, the caller decides.

    Args:
        plan: Plan of the film.
        cache: Cache of finished shots and their health.
        load_model: Function that loads the model; called once, if anything has to be rendered.
        on_fault: Treatment of faults; with ``"repair"``, faulty shots are repaired (:mod:`mova.generation.run`).
        on_progress: ``f(number of the shot, progress event)``; the stages are those of :meth:`MOVAModel.generate`.
        on_remedy: ``f(number of the shot, health, remedy)``, called before each attempt at a repair.
        cancel: Token that stops the run within a step; finished shots are kept.

    Raises:
        RequestError: If the model cannot generate a shot; the message names it.
        MediaError: If a file cannot be read, a shot cannot be stored, or the output is not a valid clip.
    """
    model: MOVAModel | None = None
    finished: list[str] = []
    for shot in plan.shots:
        with add_shot_to_errors(shot.number):
            before = cache.ending(finished[-1], shot.lead_frames) if shot.shot.keep else None
            first = shot_key(plan, shot, before)
            there = find_finished_keys(first, shot, cache, on_fault=on_fault)
            if len(there) < num_steps(shot):
                model = load_model() if model is None else model
                run = _Run(plan, cache, model, on_fault, on_progress, on_remedy, cancel)
                there = _render(run, shot, first, there, before=before)
            finished.append(there[-1])
    return [cache.read(key) for key in finished]


def join_shots(plan: FilmPlan, shots: list[ShotClip]) -> Clip:
    """Join finished shots to a film.

    ``clip.request`` records the request of every shot and its first frame, ``clip.made_by`` the model, which is the same
    for all shots of a plan.

    Raises:
        RequestError: If bed and shots together exceed full scale.
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
    """Return the input files of a film and their hashes; the parts that a shot keeps of the one before are left out."""
    audio = plan.film.sound
    beds = [str(plan.film.folder / audio.bed)] if isinstance(audio, Bed) else []
    of_shots = (((shot.clip.made_by or {}).get("inputs") or {}).items() for shot in shots)
    named = {name: known for items in of_shots for name, known in items if not name.startswith(PREFIX)}
    return named | {bed: content_hash(bed) for bed in beds}


def _record(shot: PlannedShot, finished: ShotClip) -> dict[str, Any]:
    """Return the record of a shot: its request, with the seeds that a repair chose."""
    (seed, audio_seed), *of_takes = finished.seeds
    takes = [
        {"retake": take.retake.model_dump(), "seed": video, "audio_seed": audio}
        for take, (video, audio) in zip(shot.shot.retakes, of_takes, strict=True)
    ]
    return {
        **dump_as_written(shot.plan.request, shot.shot.request),
        "seed": seed,
        "audio_seed": audio_seed,
        "first_frame": shot.first_frame,
        "keep": list(shot.shot.keep),
        "retakes": takes,
    }


def prepare_shot(shot: PlannedShot, capabilities: Capabilities, before: Ending | None) -> Prepared:
    """Prepare the inputs of a shot: the files it names, and the parts it keeps of the shot before.

    A shot that keeps the audio is generated with a lead, whose audio is given; the lead is cut off afterwards.

    Args:
        shot: Shot to render.
        capabilities: Capabilities of the model.
        before: Ending of the shot before; ``None`` if nothing of it is kept.

    Raises:
        RequestError: If an input does not match the request.
        MediaError: If a file cannot be read.
    """
    request, memory = shot.plan.request, dict[str, Any]()
    if before is not None and shot.keeps_frame:
        request = request.model_copy(update={"image": name_of(before.frame, "image", memory)})
    if before is None or not shot.keeps_audio:
        return replace(prepare(request, capabilities, memory), reading=shot.reading)
    prepared = prepare(_shift_by_lead(request, shot.lead_frames, shot.plan.timeline.fps), capabilities, memory)
    plan, timeline = prepared.plan, prepared.plan.timeline
    waveform, rate = before.audio
    finished = np.zeros((waveform.shape[0], plan.num_samples), np.float32)
    finished[:, : waveform.shape[1]] = waveform
    lead_samples = timeline.samples(shot.lead_frames)
    own = np.zeros((1, plan.canvas.num_samples), np.float32)
    own[:, :lead_samples] = resample(mono(waveform), rate, to_rate=timeline.sample_rate, num_samples=lead_samples)
    lead = Given(waveform=own, keep_audio=np.arange(plan.canvas.num_samples) < lead_samples)
    reading = None if shot.reading is None else shot.reading.later(float(shot.lead_frames / timeline.fps))
    return replace(prepared, given=merge_given(prepared.given, lead), audio=finished, reading=reading)


def prepare_take(shot: PlannedShot, index: int, clip: Clip, capabilities: Capabilities) -> Prepared:
    """Prepare the inputs of a retake: all of the finished shot except the span is given.

    Args:
        shot: The shot.
        index: Index of the retake.
        clip: The finished shot.
        capabilities: Capabilities of the model.

    Raises:
        RequestError: If the span is not within the shot.
    """
    take, seed = request_of_take(shot, index)
    # the inputs of the shot are in the clip already
    unset = {name: field.get_default() for name, field in GenerationRequest.model_fields.items() if name in _CLIP_INPUTS}
    own = {"seed": seed, "audio_seed": seed, "num_frames": clip.num_frames, "audio_sample_rate": clip.sample_rate}
    plan = resolve(shot.plan.request.model_copy(update={**unset, **own}), capabilities)
    given = given_around(plan, mono_at(clip, plan.timeline.sample_rate), take.retake)
    return Prepared(
        plan,
        given,
        audio=clip.waveform,
        reading=None if shot.reading is None else replace(shot.reading, events=replace(shot.reading.events, times=())),
    )


_CLIP_INPUTS = ("cues", "image", "last_image", "keyframes", "video", "audio", "extend_s", "extend_at", "retake", "repaint")


@dataclass(frozen=True, eq=False)
class _Run:
    """Arguments that are the same for all shots of a run."""

    plan: FilmPlan
    cache: ShotCache
    model: MOVAModel
    on_fault: OnFault
    on_progress: OnShotProgress | None
    on_remedy: OnShotRemedy | None
    cancel: CancelToken | None


def _render(run: _Run, shot: PlannedShot, first: str, there: tuple[str, ...], *, before: Ending | None) -> tuple[str, ...]:
    """Render and store the missing steps of a shot, and return the keys of all its steps."""
    finished = run.cache.read(there[-1]) if there else None
    for step in range(len(there), num_steps(shot)):
        began = time.monotonic()
        if finished is None:
            key, prepared = first, prepare_shot(shot, run.plan.capabilities, before)
            checked = _generate_checked(run, shot, prepared, skip_frames=shot.lead_frames)
            finished = _cut_lead(checked, shot)
        else:
            key, prepared = (
                take_key(there[-1], shot, step - 1),
                prepare_take(shot, step - 1, finished.clip, run.plan.capabilities),
            )
            checked = _generate_checked(run, shot, prepared, skip_frames=0)
            finished = _apply_retake(finished, checked)
        if run.on_fault == "repair" and (checked.remedies or finished.health.faults):
            key = repair_key(key)
        work = work_of(prepared.plan, prepared.plan.grid_frames) * (1 + len(checked.remedies))
        taken = time.monotonic() - began
        run.cache.store(key, finished, model_key=run.plan.model_key, work=work, seconds_taken=taken)
        there = (*there, key)
    return there


def _generate_checked(run: _Run, shot: PlannedShot, prepared: Prepared, *, skip_frames: int) -> CheckedClip:
    def report(progress: Progress) -> None:
        if run.on_progress is not None:
            run.on_progress(shot.number, progress)

    def report_remedy(health: Health, remedy: Remedy) -> None:
        if run.on_remedy is not None:
            run.on_remedy(shot.number, health, remedy)

    checked = generate_checked(
        run.model,
        prepared,
        on_fault=run.on_fault,
        seed_step=REPAIR_SEED_STEP,
        skip_frames=skip_frames,
        on_progress=report,
        on_remedy=report_remedy,
        cancel=run.cancel,
    )
    if checked.clip is None:
        raise MediaError(
            f"the output is not a valid clip: {fault_words(checked.health)}.", "Try another seed, or --on-fault repair."
        )
    return checked


def _cut_lead(checked: CheckedClip, shot: PlannedShot) -> ShotClip:
    """Cut the lead off a shot, and keep its last samples as the run-in, where given audio fades into generated audio."""
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


def _apply_retake(before: ShotClip, checked: CheckedClip) -> ShotClip:
    assert checked.clip is not None
    return replace(
        before,
        clip=replace(checked.clip, made_by=before.clip.made_by),  # all but the span was given: the inputs are those of the shot
        health=_health_after(before.health, checked.health),
        remedies=(*before.remedies, *checked.remedies),
        seeds=(*before.seeds, _seeds(checked)),
    )


def _health_after(before: Health, now: Health) -> Health:
    """Return the health of a shot after a retake: that of a modality that was not generated again is unchanged."""
    if set(now.looked_at) >= set(before.looked_at):
        return now
    kept = [fault for fault in before.faults if fault.modality not in now.looked_at]
    faults = sorted((*kept, *now.faults), key=lambda fault: _MODALITIES.index(fault.modality))
    looked_at = {*before.looked_at, *now.looked_at}
    return Health(tuple(faults), tuple(name for name in _MODALITIES if name in looked_at))


_MODALITIES = ("video", "audio", "both")


def _seeds(checked: CheckedClip) -> tuple[int, int]:
    return checked.prepared.plan.seed, checked.prepared.plan.audio_seed


def _shift_by_lead(request: GenerationRequest, lead_frames: int, fps: Fraction) -> GenerationRequest:
    """Shift the times of a request by the lead, so that its content starts after the lead."""
    lead_s = lead_frames / fps
    keyframes = [Keyframe(time_s=float(lead_s), image=request.image)] if request.image is not None else []
    keyframes += [key.model_copy(update={"time_s": float(lead_s + Fraction(str(key.time_s)))}) for key in request.keyframes]
    cues = request.cues and tuple(cue.model_copy(update={"time_s": cue.time_s + float(lead_s)}) for cue in request.cues)
    assert request.num_frames is not None, "a resolved request states its length"
    update = {"cues": cues, "image": None, "keyframes": tuple(keyframes), "num_frames": request.num_frames + lead_frames}
    return request.model_copy(update=update)


def _work(shot: PlannedShot, num_finished: int) -> float:
    """Return the work of the steps from ``num_finished`` on; every retake costs as much as a whole clip."""
    return sum(
        work_of(shot.plan, shot.plan.grid_frames + (shot.lead_frames if step == 0 else 0))
        for step in range(num_finished, num_steps(shot))
    )
