"""From a request to all that is needed to begin: the plan, and what its files give, on the clip's clock.

A request holds names. A name is a path, or stands for something in memory that was handed over beside the request
(``memory:`` and the beginning of its SHA-256), so that a recorded request says what it was made from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mova.errors import RequestError
from mova.given import (
    Given,
    combined,
    given_all_but,
    given_beginning,
    given_end,
    given_film,
    given_outside,
    given_pictures,
    given_sound,
    led_by,
)
from mova.media.clip import Clip
from mova.names import PREFIX, Memory, Picture, content_hash, name_of, picture_named, sound_named
from mova.plan import Canvas, Plan, resolve
from mova.request import Fit, GenerationRequest, Retake
from mova.timeline import frames_in_seconds
from mova.world import ModelWorld, resolve_fps, resolve_size

Waveform = NDArray[np.float32]
RATES = (8000, 96000)  # what a request may ask for


@dataclass(frozen=True, eq=False)
class Prepared:
    """Everything settled, before any weight is read.

    Args:
        plan: What will be made.
        given: What of it is given.
        sound: The given sound at the finished clip's rate and with its channels, ``[C, S]``; ``None`` if none is given.
        film: File whose picture goes into the finished file as it is, where only a sound is made for it.
        inputs: What is named, with the hash of its content.
        references: Pictures ``[H, W, 3]`` that the clip goes on from and does not hold.
    """

    plan: Plan
    given: Given
    sound: Waveform | None = None
    film: Path | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    references: tuple[Picture, ...] = ()

    @property
    def lead_frames(self) -> int:
        """Frames that are made before the clip and left out of it."""
        return self.plan.timeline.frames_of_latents(len(self.references)) if self.references else 0

    @property
    def with_lead(self) -> Given:
        """What is given of the clip and of what is made before it."""
        if not self.references:
            return self.given
        return led_by(self.references, self.plan.canvas, self.given, self.plan.timeline)

    def with_seeds(self, seed: int, audio_seed: int) -> Prepared:
        """The same for other seeds."""
        request = self.plan.request.model_copy(update={"seed": seed, "audio_seed": audio_seed})
        return replace(self, plan=replace(self.plan, request=request, seed=seed, audio_seed=audio_seed))


def prepare(request: GenerationRequest, world: ModelWorld, memory: Memory | None = None) -> Prepared:
    """Read what a request names and settle every value.

    A length that is not asked is that of the given film or sound.

    Raises:
        MediaError: If a file cannot be read.
        RequestError: If the model cannot make what is asked, or what is given does not fit it.
    """
    memory = memory or {}
    prepared = _prepared(_room_for_references(request, world), world, memory)
    if request.references:
        pictures = [picture_named(name, memory, "references") for name in request.references]
        fitted = tuple(_fitted(one, prepared.plan.canvas, request.fit, "references") for one in pictures)
        prepared = replace(prepared, references=fitted)
    return replace(prepared, inputs={name: content_hash(name) for name in request.inputs})


def given_edges(canvas: Canvas, batch: int, image: Any, last_image: Any, *, fit: Fit) -> list[Given]:
    """First and last frames of a batch of clips.

    Args:
        canvas: Of every clip.
        batch: Clips.
        image: ``None``, one picture for all, or a list of one a clip; each a path, a PIL image or ``[H, W, 3]`` uint8.
        last_image: Likewise.
        fit: What to do with pictures of another shape.

    Raises:
        MediaError: If a file cannot be read.
        RequestError: If there are not as many as clips, or one does not fit.
    """
    firsts, lasts = _one_each(image, batch, "image"), _one_each(last_image, batch, "last_image")
    result = []
    for first, last in zip(firsts, lasts, strict=True):
        memory: dict[str, Any] = {}
        values = [(0, first, "image"), (canvas.num_frames - 1, last, "last_image")]
        pictures = [(i, name, field) for i, value, field in values if (name := name_of(value, field, memory)) is not None]
        result.append(given_pictures_of(canvas, pictures, fit, memory) if pictures else Given())
    return result


def given_pictures_of(canvas: Canvas, pictures: list[tuple[int, str, str]], fit: Fit, memory: Memory) -> Given:
    """Named pictures, read and fitted.

    Args:
        canvas: The clip to be.
        pictures: (frame, name, the request's field) of each.
        fit: What to do with pictures of another shape.
        memory: What names stand for.

    Raises:
        RequestError: If two are for one frame, or one does not fit.
    """
    found: dict[int, Picture] = {}
    for index, name, label in pictures:
        if index in found:
            raise RequestError(f"{label} is for frame {index}, for which there is a picture already.", "Give one.", field=label)
        found[index] = _fitted(picture_named(name, memory, label), canvas, fit, label)
    return given_pictures(canvas, found)


def given_around(plan: Plan, clip: Clip, retake: Retake) -> Given:
    """A clip of which a span is made anew.

    Args:
        plan: As long as the clip.
        clip: In mono, at the model's sample rate (:func:`mono_at`).
        retake: The span.

    Raises:
        RequestError: If it begins after the clip's end.
    """
    fps, rate = plan.timeline.fps, plan.timeline.sample_rate
    begin, end = Fraction(str(retake.from_s)), Fraction(str(retake.to_s))
    length = plan.num_frames / fps
    if begin >= length:
        raise RequestError(
            f"retake begins at {retake.from_s:g} s; the clip ends at {float(length):g} s.",
            "Give an earlier span.",
            field="retake",
        )
    frames = (int(begin * fps), -int(-min(end, length) * fps // 1))
    samples = (int(begin * rate), min(int(end * rate), plan.canvas.num_samples))
    return given_all_but(
        plan.canvas,
        clip,
        frames=frames if retake.modality in ("video", "both") else None,
        samples=samples if retake.modality in ("audio", "both") else None,
    )


def mono_at(clip: Clip, sample_rate: int) -> Clip:
    """The clip in mono at a model's sample rate."""
    resampled = clip.resampled(sample_rate)
    return replace(resampled, waveform=mono(resampled.waveform))


def mono(waveform: Waveform) -> Waveform:
    """``[channels, samples]`` as one channel in [-1, 1]."""
    mean: Waveform = waveform.mean(axis=0, keepdims=True, dtype=np.float32)
    return np.clip(mean, -1.0, 1.0)


def _prepared(request: GenerationRequest, world: ModelWorld, memory: Memory) -> Prepared:
    if request.video is not None:
        return _with_film(request, world, memory)
    sound = None
    if request.audio is not None:
        sound = sound_named(request.audio, memory)
        request = _lengthened(request, world, Fraction(sound.waveform.shape[1], sound.sample_rate))
        request = _at_rate(request, sound.sample_rate)
    plan = resolve(request, world)
    given = given_pictures_of(plan.canvas, _pictures(plan), request.fit, memory) if _pictures(plan) else Given()
    if sound is None:
        return Prepared(plan, given)
    own = _on_clock(sound.waveform, sound.sample_rate, plan.canvas.num_samples, plan.timeline.sample_rate, "audio")
    given = combined(given, given_sound(plan.canvas, mono(own)))
    finished = _on_clock(sound.waveform, sound.sample_rate, plan.num_samples, plan.sample_rate, "audio")
    return Prepared(plan, given, sound=finished)


def _room_for_references(request: GenerationRequest, world: ModelWorld) -> GenerationRequest:
    """With references, the length is settled so that they and the clip fit the model: as long as can be made at once."""
    if not request.references:
        return request
    fps = resolve_fps(world, request.fps)
    lead = world.timeline(fps).frames_of_latents(len(request.references))
    if request.num_frames is None and request.seconds is None and request.audio is None:
        return request.model_copy(update={"num_frames": max(1, world.max_frames - lead)})
    asked = request.num_frames if request.seconds is None else frames_in_seconds(request.seconds, fps)
    if asked is not None and asked + lead > world.longest:
        raise RequestError(
            f"{asked} frames and {lead} of references are more than the {world.longest} that {world.name} makes.",
            f"Ask for at most {world.longest - lead} frames.",
            field="references",
        )
    return request


def _pictures(plan: Plan) -> list[tuple[int, str, str]]:
    request, fps, last = plan.request, plan.timeline.fps, plan.num_frames - 1
    pictures = [(index, name, field) for index, name, field in (
        (0, request.image, "image"), (last, request.last_image, "last_image")) if name is not None]  # fmt: skip
    for key in request.keyframes:
        index = round(Fraction(str(key.time_s)) * fps)
        if index > last:
            raise RequestError(
                f"a picture is asked for at {key.time_s:g} s; the clip's last frame is at {float(last / fps):g} s.",
                "Give an earlier time, or ask for a longer clip.",
                field="keyframes",
            )
        pictures.append((index, key.image, "keyframes"))
    return pictures


def _with_film(request: GenerationRequest, world: ModelWorld, memory: Memory) -> Prepared:
    fps = resolve_fps(world, request.fps)
    if any(value is not None for value in (request.extend_s, request.retake, request.repaint)):
        return _changed(request, world, fps, memory)
    from mova.media.on_clock import read_film_on_clock

    assert request.video is not None
    if request.video.startswith(PREFIX):
        plan = resolve(request, world)
        return Prepared(plan, given_film(plan.canvas, _film_in_memory(request.video, memory)))
    width, height = resolve_size(world, request.width, request.height)
    asked = request.num_frames or (None if request.seconds is None else frames_in_seconds(request.seconds, fps))
    limit = float(world.longest / fps)
    frames = read_film_on_clock(
        request.video, fps=fps, width=width, height=height, fit=request.fit, num_frames=asked, max_seconds=limit
    )
    plan = resolve(request.model_copy(update={"seconds": None, "num_frames": len(frames)}), world)
    given = given_film(plan.canvas, frames)
    if asked is not None:
        return Prepared(plan, given)
    # recorded as it was asked: the length is the film's
    return Prepared(_recorded(plan, {"num_frames": None}), given, film=Path(request.video))


def _film_in_memory(name: str, memory: Memory) -> Picture:
    """Frames ``[T, H, W, 3]`` on the clip's own clock (:mod:`mova.reroll`)."""
    found = memory.get(name)
    if not isinstance(found, np.ndarray):
        raise RequestError(f"what video names was in memory and is not there ({name}).", "Give a file.", field="video")
    return found


def _changed(request: GenerationRequest, world: ModelWorld, fps: Fraction, memory: Memory) -> Prepared:
    """A clip, with its sound, of which a part is made anew or to which something is added."""
    from mova.media.decode import read_clip

    assert request.video is not None
    clip = read_clip(request.video, max_seconds=float(world.longest / fps))
    if clip.fps != fps:
        raise RequestError(
            f"the clip given as video runs at {float(clip.fps):g} fps; {world.name} makes {float(fps):g}.",
            "Only a sound can be made for it: leave out what is to be changed.",
            field="video",
        )
    added = 0 if request.extend_s is None else max(1, round(Fraction(str(request.extend_s)) * fps))
    update = {"width": clip.width, "height": clip.height, "seconds": None, "num_frames": clip.num_frames + added}
    plan = resolve(_at_rate(request, clip.sample_rate).model_copy(update={**update, "extend_s": None}), world)
    plan = _recorded(plan, {"extend_s": request.extend_s, "num_frames": None})
    canvas, timeline = plan.canvas, plan.timeline
    own = mono_at(clip, timeline.sample_rate)
    if request.extend_s is not None:
        place = given_end if request.extend_at == "start" else given_beginning
        given = place(canvas, own)
    elif request.retake is not None:
        given = given_around(plan, own, request.retake)
    else:
        assert request.repaint is not None
        mask = picture_named(request.repaint, memory, "repaint")
        given = given_outside(canvas, own, mask[..., 0] >= 128)
    finished = clip.resampled(plan.sample_rate).waveform
    missing = plan.num_samples - finished.shape[1]
    pad = (missing, 0) if request.extend_at == "start" else (0, missing)
    return Prepared(plan, given, sound=np.pad(finished, ((0, 0), pad)) if missing > 0 else finished)


def _recorded(plan: Plan, changes: Mapping[str, Any]) -> Plan:
    """The plan with its request as it was asked."""
    return replace(plan, request=plan.request.model_copy(update=dict(changes)))


def _lengthened(request: GenerationRequest, world: ModelWorld, seconds: Fraction) -> GenerationRequest:
    if request.num_frames is not None or request.seconds is not None:
        return request
    frames = int(seconds * resolve_fps(world, request.fps))
    return request.model_copy(update={"num_frames": max(1, frames)})


def _at_rate(request: GenerationRequest, rate: int) -> GenerationRequest:
    """What is given keeps its own sample rate, unless another is asked for."""
    if request.audio_sample_rate is not None or not RATES[0] <= rate <= RATES[1]:
        return request
    return request.model_copy(update={"audio_sample_rate": rate})


def _on_clock(waveform: Waveform, from_rate: int, num_samples: int, rate: int, field: str) -> Waveform:
    """The first ``num_samples`` at another rate.

    Raises:
        RequestError: If there are fewer.
    """
    from mova.media.resample import resample

    needed = -(-num_samples * from_rate // rate)
    if waveform.shape[1] < needed - 1:
        raise RequestError(
            f"{field} lasts {waveform.shape[1] / from_rate:.4f} s; the clip lasts {num_samples / rate:.4f} s.",
            "Ask for a shorter clip, or give a longer sound.",
            field=field,
        )
    part = waveform[:, :needed]
    return part[:, :num_samples] if from_rate == rate else resample(part, from_rate, to_rate=rate, num_samples=num_samples)


def _fitted(picture: Picture, canvas: Canvas, fit: Fit, field: str) -> Picture:
    from mova.media.image import fit_image

    if picture.shape[:2] == (canvas.height, canvas.width):
        return picture
    if fit == "exact":
        height, width = picture.shape[:2]
        # another size of the same shape loses nothing of the picture; half a pixel is what rounding may cost
        is_same_shape = abs(width * canvas.height - height * canvas.width) <= max(canvas.width, canvas.height) / 2 + 1
        if not is_same_shape:
            raise RequestError(
                f"{field} is {width}x{height}; the clip is {canvas.width}x{canvas.height}, of another shape.",
                "Say fit=crop, pad or stretch, or choose a size of the same shape.",
                field=field,
            )
        fit = "stretch"
    return fit_image(picture, canvas.width, canvas.height, fit=fit)


def _one_each(value: Any, batch: int, field: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        return [value] * batch
    if len(value) != batch:
        found = f"there are {len(value)} values of {field} for {batch} prompts."
        raise RequestError(found, "Give one, or as many.", field=field)
    return list(value)
