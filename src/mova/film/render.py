"""A planned film made: what is not in the cache is rendered and kept, then all shots are joined."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from mova.film.cache import Ending, ShotCache, ShotClip
from mova.film.keys import keys_of_film, shot_keys
from mova.film.plan import FilmPlan, PlannedShot, as_written, request_of_take, work_of
from mova.film.shots import Bed, of_shot
from mova.film.sound import film_sound
from mova.given import Given, combined
from mova.inputs import Prepared, given_around, mono, mono_at, prepare
from mova.media.clip import Clip
from mova.media.resample import resample
from mova.model import MOVAModel
from mova.names import name_of
from mova.plan import resolve
from mova.request import GenerationRequest, Keyframe
from mova.timeline import samples_in_frames
from mova.world import ModelWorld

State = Literal["cached", "to render", "waits"]
OnShotProgress = Callable[[int, str, int, int], None]


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


def shot_states(plan: FilmPlan, cache: ShotCache) -> tuple[ShotState, ...]:
    """Which shots are there, and which are to be rendered.

    Raises:
        MediaError: If a file that a shot names cannot be read.
    """
    result = []
    for shot, keys in zip(plan.shots, keys_of_film(plan, cache), strict=True):
        if keys is None:
            result.append(ShotState(shot.number, "waits", _work(shot, 0)))
        elif (there := _num_there(keys, cache)) == len(keys):
            result.append(ShotState(shot.number, "cached", 0.0))
        else:
            result.append(ShotState(shot.number, "to render", _work(shot, there)))
    return tuple(result)


def render_film(
    plan: FilmPlan,
    cache: ShotCache,
    load_model: Callable[[], MOVAModel],
    *,
    on_progress: OnShotProgress | None = None,
) -> Clip:
    """Make a film. Every shot is kept as soon as it is finished, so that a run that was interrupted goes on.

    Args:
        plan: What to make.
        cache: Where finished shots are.
        load_model: Called once, if anything has to be rendered.
        on_progress: ``f(number of the shot, stage, done, of)``; the stages are those of :meth:`MOVAModel.generate`.

    Raises:
        RequestError: If the model cannot make a shot; the message names it.
        MediaError: If a file cannot be read, or a shot not kept.
    """
    model: MOVAModel | None = None
    finished: list[str] = []
    for shot in plan.shots:
        with of_shot(shot.number):
            before = cache.ending(finished[-1], shot.lead_frames) if shot.shot.keep else None
            keys = shot_keys(plan, shot, before)
            there = _num_there(keys, cache)
            if there < len(keys):
                model = load_model() if model is None else model
                _render(plan, shot, keys, cache, model, before=before, on_progress=on_progress)
            finished.append(keys[-1])
    return joined(plan, [cache.read(key) for key in finished])


def joined(plan: FilmPlan, shots: list[ShotClip]) -> Clip:
    """The film of finished shots; ``clip.request`` says what every shot was made from, and where it begins.

    Raises:
        RequestError: If bed and shots together pass full scale.
    """
    frames = np.concatenate([shot.clip.frames for shot in shots])
    record = [
        {
            **as_written(shot.plan.request, shot.shot.request),
            "first_frame": shot.first_frame,
            "keep": list(shot.shot.keep),
            "retakes": [take.model_dump(exclude_none=True) for take in shot.shot.retakes],
        }
        for shot in plan.shots
    ]
    sound = plan.film.sound
    request = {
        "model": plan.world.name,
        "sound": sound.model_dump(exclude_none=True) if isinstance(sound, Bed) else sound,
        "fade_ms": plan.film.fade_ms,
        "shots": record,
    }
    return Clip(frames, film_sound(plan, shots), plan.fps, plan.sample_rate, request=request)


def prepared_shot(shot: PlannedShot, world: ModelWorld, before: Ending | None) -> Prepared:
    """Everything to begin a shot with: what it names, and what it keeps of the shot before.

    A shot that keeps the sound is made longer by its lead, of which the sound is given; the lead is cut off afterwards.

    Args:
        shot: What to make.
        world: What the model can make.
        before: What the shot before ends with; ``None`` if nothing of it is kept.

    Raises:
        RequestError: If what is given does not fit.
        MediaError: If a file cannot be read.
    """
    request, memory = shot.plan.request, dict[str, Any]()
    if before is not None and shot.keeps_frame:
        request = request.model_copy(update={"image": name_of(before.frame, "image", memory)})
    if before is None or not shot.keeps_sound:
        return prepare(request, world, memory)
    prepared = prepare(_led(request, shot.lead_frames, shot.plan.timeline.fps), world, memory)
    plan, timeline = prepared.plan, prepared.plan.timeline
    waveform, rate = before.sound
    finished = np.zeros((waveform.shape[0], plan.num_samples), np.float32)
    finished[:, : waveform.shape[1]] = waveform
    lead_samples = timeline.samples(shot.lead_frames)
    own = np.zeros((1, plan.canvas.num_samples), np.float32)
    own[:, :lead_samples] = resample(mono(waveform), rate, to_rate=timeline.sample_rate, num_samples=lead_samples)
    lead = Given(waveform=own, keep_sound=np.arange(plan.canvas.num_samples) < lead_samples)
    return replace(prepared, given=combined(prepared.given, lead), sound=finished)


def prepared_take(shot: PlannedShot, index: int, clip: Clip, world: ModelWorld) -> Prepared:
    """Everything to make a span of a finished shot anew; all of it but the span is given.

    Args:
        shot: Whose span it is.
        index: Of the retake.
        clip: The shot as it is.
        world: What the model can make.

    Raises:
        RequestError: If the span does not fit.
    """
    take, seed = request_of_take(shot, index)
    settled = shot.plan.request
    # what the shot was made from is in the clip already
    nothing = {name: field.get_default() for name, field in GenerationRequest.model_fields.items() if name in _IN_THE_CLIP}
    own = {"seed": seed, "audio_seed": seed, "num_frames": clip.num_frames, "audio_sample_rate": clip.sample_rate}
    plan = resolve(settled.model_copy(update={**nothing, **own}), world)
    given = given_around(plan, mono_at(clip, plan.timeline.sample_rate), take.retake)
    return Prepared(plan, given, sound=clip.waveform)


_IN_THE_CLIP = ("image", "last_image", "keyframes", "video", "audio", "extend_s", "extend_at", "retake", "repaint")


def _render(
    plan: FilmPlan,
    shot: PlannedShot,
    keys: tuple[str, ...],
    cache: ShotCache,
    model: MOVAModel,
    *,
    before: Ending | None,
    on_progress: OnShotProgress | None,
) -> None:
    """Make what of the shot and its retakes is not there, and keep each."""

    def tell(stage: str, done: int, total: int) -> None:
        if on_progress is not None:
            on_progress(shot.number, stage, done, total)

    there = _num_there(keys, cache)
    finished = cache.read(keys[there - 1]) if there > 0 else None
    for index in range(there, len(keys)):
        began = time.monotonic()
        if finished is None:
            prepared = prepared_shot(shot, plan.world, before)
            finished = _without_lead(model.run_prepared(prepared, on_progress=tell), shot)
        else:
            prepared = prepared_take(shot, index - 1, finished.clip, plan.world)
            finished = replace(finished, clip=model.run_prepared(prepared, on_progress=tell))
        work = work_of(prepared.plan, prepared.plan.grid_frames)
        taken = time.monotonic() - began
        cache.store(keys[index], finished, model_key=plan.model_key, work=work, seconds_taken=taken)


def _without_lead(clip: Clip, shot: PlannedShot) -> ShotClip:
    """The shot, and the seam at which the given sound fades into the made one; that lies before the cut."""
    clip = replace(clip, film=None)
    if not shot.lead_frames:
        return ShotClip(clip, clip.waveform[:, :0])
    timeline = shot.plan.timeline
    cut = samples_in_frames(shot.lead_frames, clip.fps, clip.sample_rate)
    seam = min(cut, round(timeline.audio_hop / timeline.sample_rate * clip.sample_rate))
    return ShotClip(clip.without_beginning(shot.lead_frames), clip.waveform[:, cut - seam : cut])


def _led(request: GenerationRequest, lead_frames: int, fps: Fraction) -> GenerationRequest:
    """The request of a clip that begins earlier: what it shows at its beginning is shown after the lead."""
    lead_s = lead_frames / fps
    pictures = [Keyframe(time_s=float(lead_s), image=request.image)] if request.image is not None else []
    pictures += [key.model_copy(update={"time_s": float(lead_s + Fraction(str(key.time_s)))}) for key in request.keyframes]
    assert request.num_frames is not None, "a settled request states its length"
    update = {"image": None, "keyframes": tuple(pictures), "num_frames": request.num_frames + lead_frames}
    return request.model_copy(update=update)


def _num_there(keys: tuple[str, ...], cache: ShotCache) -> int:
    """How many steps of a shot are done: itself, and its retakes one after the other."""
    return next((count for count in range(len(keys), 0, -1) if keys[count - 1] in cache), 0)


def _work(shot: PlannedShot, there: int) -> float:
    """Of the steps from ``there`` on; every retake costs a whole clip."""
    return sum(
        work_of(shot.plan, shot.plan.grid_frames + (shot.lead_frames if step == 0 else 0))
        for step in range(there, 1 + len(shot.shot.retakes))
    )
