"""The clip that a request gives as its video: audio is made for it, it is extended, or a part of it is generated again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mova.conditioning.given import Given, given_beginning, given_end, given_video, spatial_inpaint_mask, temporal_inpaint_mask
from mova.conditioning.sources import PREFIX, AudioInput, MemoryInputs, Picture, audio_named, mix_audio_of, picture_named
from mova.errors import RequestError, number_of
from mova.media.clip import Clip
from mova.request.plan import Canvas, Capabilities, Plan, resolve, resolve_fps, resolve_size, value_or
from mova.request.schema import Fit, GenerationRequest, Retake
from mova.timeline import frames_in_seconds, samples_in_frames

if TYPE_CHECKING:
    from mova.media.decode import Audio

Waveform = NDArray[np.float32]
RATES = (8000, 96000)  # what a request may ask for
ROUNDING_S = Fraction(1, 10**6)  # of times that are written as decimals


class GivenVideo(NamedTuple):
    """A clip given as video, and the plan that follows from it.

    Args:
        plan: What will be made.
        given: What of the clip is given.
        audio: Its audio at the finished clip's rate, ``[C, S]``, where it stays.
        source_video: File whose picture stream goes into the finished file as it is.
        new_audio: Audio that the request gives in place of its own.
        notes: What was decided and is worth knowing, one line each.
    """

    plan: Plan
    given: Given
    audio: Waveform | None = None
    source_video: Path | None = None
    new_audio: Audio | AudioInput | None = None
    notes: tuple[str, ...] = ()


READ_FIT: Fit = "pad"
"""How a video of another shape is read where nothing says so: nothing of it is lost."""


def read_video(request: GenerationRequest, capabilities: Capabilities, memory: MemoryInputs) -> GivenVideo:
    """Read the clip that a request gives as its video, and resolve the plan with its length and size.

    Raises:
        MediaError: If a file cannot be read.
        RequestError: If it does not fit what else is asked, or the model.
    """
    fps = resolve_fps(capabilities, request.fps)
    if any(value is not None for value in (request.extend_s, request.retake, request.repaint)):
        return _read_edited(request, capabilities, fps, memory)
    from mova.media.on_clock import read_video_on_clock
    from mova.media.remux.soundtrack import video_seconds

    assert request.video is not None
    if request.video.startswith(PREFIX):
        plan = resolve(request, capabilities)
        return GivenVideo(plan, given_video(plan.canvas, _video_in_memory(request.video, memory)))
    width, height = resolve_size(capabilities, request.width, request.height)
    asked = request.num_frames or (None if request.seconds is None else frames_in_seconds(request.seconds, fps))
    limit = float(capabilities.longest / fps)
    is_whole = asked is None or asked == frames_in_seconds(video_seconds(request.video), fps)
    request, notes = _fitted(request, (width, height)) if is_whole else (request, ())
    assert request.video is not None
    frames = read_video_on_clock(
        request.video, fps=fps, width=width, height=height, fit=request.fit, num_frames=asked, max_seconds=limit
    )
    plan = resolve(request.model_copy(update={"seconds": None, "num_frames": len(frames)}), capabilities)
    # recorded as it was asked: the length is the video's
    plan = _recorded(plan, {"num_frames": None}) if asked is None else plan
    source = Path(request.video) if is_whole else None
    return GivenVideo(plan, given_video(plan.canvas, frames), source_video=source, notes=notes)


def _fitted(request: GenerationRequest, size: tuple[int, int]) -> tuple[GenerationRequest, tuple[str, ...]]:
    """The request with a ``fit`` for a video of another shape, which is only read: its own stream goes into the new file."""
    from mova.media.decode import FrameStream

    assert request.video is not None
    if request.fit != "exact":
        return request, ()
    (first,) = FrameStream(request.video, num_frames=1)  # upright
    height, width = first.shape[:2]
    if _is_same_shape((width, height), size):
        return request, ()
    note = f"the video is {width}x{height}; it is read at {size[0]}x{size[1]} with fit={READ_FIT}, and shown as it is"
    return request.model_copy(update={"fit": READ_FIT}), (note,)


def given_around(plan: Plan, clip: Clip, retake: Retake) -> Given:
    """Keep a clip except for a span, which is generated again.

    Args:
        plan: As long as the clip.
        clip: In mono, at the model's sample rate (:func:`mono_at`).
        retake: The span.

    Raises:
        RequestError: If it ends after the clip's end.
    """
    fps, rate = plan.timeline.fps, plan.timeline.sample_rate
    begin, end = Fraction(str(retake.from_s)), Fraction(str(retake.to_s))
    length = plan.num_frames / fps
    if begin >= length or end > length + ROUNDING_S:
        nearest = begin if begin < length else max(Fraction(0), length - (end - begin))
        last_s = f"{math.ceil(length / ROUNDING_S) * float(ROUNDING_S):.10g}"
        raise RequestError(
            f"retake is of {retake.from_s:g} to {retake.to_s:g} s; the clip ends at {last_s} s.",
            f"Use {float(nearest):g} to {last_s} s, the nearest.",
            field="retake",
        )
    frames = (int(begin * fps), -int(-min(end, length) * fps // 1))
    samples = (int(begin * rate), min(int(end * rate), plan.canvas.num_samples))
    return temporal_inpaint_mask(
        plan.canvas,
        clip,
        frames=frames if retake.modality in ("video", "both") else None,
        samples=samples if retake.modality in ("audio", "both") else None,
    )


def fit_to_canvas(picture: Picture, canvas: Canvas, fit: Fit, field: str) -> Picture:
    """A picture at the clip's size.

    Raises:
        RequestError: If it is of another shape and ``fit`` does not say what to do.
    """
    from mova.media.image import fit_image

    if picture.shape[:2] == (canvas.height, canvas.width):
        return picture
    if fit == "exact":
        height, width = picture.shape[:2]
        if not _is_same_shape((width, height), (canvas.width, canvas.height)):
            raise RequestError(
                f"{field} is {width}x{height}; the clip is {canvas.width}x{canvas.height}, of another shape.",
                "Say fit=crop, pad or stretch, or choose a size of the same shape.",
                field=field,
            )
        fit = "stretch"
    return fit_image(picture, canvas.width, canvas.height, fit=fit)


def _is_same_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Another size of the same shape loses nothing of the picture; half a pixel is what rounding may cost."""
    return abs(size[0] * other[1] - size[1] * other[0]) <= max(other) / 2 + 1


def resize_clip(clip: Clip, request: GenerationRequest, capabilities: Capabilities) -> Clip:
    """The clip at the size that is asked for, which is its own where none is, brought there as ``fit`` says.

    Raises:
        RequestError: If that is another size and ``fit`` does not say how, or the model does not make it.
    """
    from mova.media.image import fit_image

    own = (clip.width, clip.height)
    size = (value_or(request.width, clip.width), value_or(request.height, clip.height))
    try:
        resolve_size(capabilities, *size)
    except RequestError as problem:
        if size != own:
            raise
        # a size that nobody asked for: the model's own is what can be had
        size = capabilities.default_size
        if request.fit == "exact":
            hint = f"Say fit=crop, pad or stretch to bring it to {size[0]}x{size[1]}."
            raise RequestError(f"the clip given as video does not fit: {problem.message}", hint, field="video") from None
    if size == own:
        return clip
    if request.fit == "exact":
        raise RequestError(
            f"the clip given as video is {own[0]}x{own[1]}; {size[0]}x{size[1]} is asked for.",
            f"Ask for {own[0]}x{own[1]}, or say fit=crop, pad or stretch.",
            field="video",
        )
    return replace(clip, frames=np.stack([fit_image(frame, *size, fit=request.fit) for frame in clip.frames]))


def mono_at(clip: Clip, sample_rate: int) -> Clip:
    """The clip in mono at a model's sample rate."""
    resampled = clip.resampled(sample_rate)
    return replace(resampled, waveform=mono(resampled.waveform))


def mono(waveform: Waveform) -> Waveform:
    """``[channels, samples]`` as one channel in [-1, 1]."""
    mean: Waveform = waveform.mean(axis=0, keepdims=True, dtype=np.float32)
    return np.clip(mean, -1.0, 1.0)


def keep_rate(request: GenerationRequest, rate: int) -> GenerationRequest:
    """What is given keeps its own sample rate, unless another is asked for."""
    if request.audio_sample_rate is not None or not RATES[0] <= rate <= RATES[1]:
        return request
    return request.model_copy(update={"audio_sample_rate": rate})


def _read_edited(request: GenerationRequest, capabilities: Capabilities, fps: Fraction, memory: MemoryInputs) -> GivenVideo:
    """A clip that is extended, or of which a part is generated again; missing audio is generated for all of it."""
    assert request.video is not None
    source, has_audio = _read(request.video, capabilities, fps)
    if source.fps != fps:
        raise RequestError(
            f"the clip given as video runs at {float(source.fps):g} fps; {capabilities.name} makes {float(fps):g}.",
            "Only audio can be made for it: leave out what is to be changed.",
            field="video",
        )
    is_retake_of_audio = request.retake is not None and request.retake.modality == "audio"
    if is_retake_of_audio and not has_audio:
        raise RequestError(
            f"{request.video} has no audio of which a span could be generated again.",
            "Leave retake out: audio is then made for all of it.",
            field="retake",
        )
    audio = None if request.audio is None else audio_named(request.audio, memory)
    asked = request.num_frames if request.seconds is None else frames_in_seconds(request.seconds, fps)
    if asked not in (None, source.num_frames):
        raise RequestError(
            f"the clip given as video has {number_of(source.num_frames, 'frame')}; {asked} are asked for.",
            f"Ask for {number_of(source.num_frames, 'frame')}, or leave the length out.",
            field="num_frames",
        )
    clip = resize_clip(source, request, capabilities)
    added = 0 if request.extend_s is None else max(1, round(Fraction(str(request.extend_s)) * fps))
    num_frames = clip.num_frames + added
    update = {"width": clip.width, "height": clip.height, "seconds": None, "num_frames": num_frames, "extend_s": None}
    if audio is not None or has_audio:
        request = keep_rate(request, clip.sample_rate if audio is None else audio.sample_rate)
    plan = resolve(request.model_copy(update=update), capabilities)
    plan = _recorded(plan, {"extend_s": request.extend_s, "num_frames": None})
    given = _conditioned_part(plan, mono_at(clip, plan.timeline.sample_rate), memory)
    if not has_audio:
        return GivenVideo(plan, replace(given, waveform=None, keep_audio=None), new_audio=audio)
    finished = clip.resampled(plan.sample_rate).waveform
    missing = plan.num_samples - finished.shape[1]
    pad = (missing, 0) if request.extend_at == "start" else (0, missing)
    finished = np.pad(finished, ((0, 0), pad)) if missing > 0 else finished
    # where no picture is made, that of the file goes into the new one as it is
    is_file = request.video is not None and not request.video.startswith(PREFIX)
    video = Path(str(request.video)) if is_file and is_retake_of_audio and request.repaint is None else None
    return GivenVideo(plan, given, finished, video, audio)


def _video_in_memory(name: str, memory: MemoryInputs) -> Picture:
    """Frames ``[T, H, W, 3]`` on the clip's own clock (:mod:`mova.conditioning.reroll`)."""
    found = memory.get(name)
    if not isinstance(found, np.ndarray):
        raise RequestError(f"what video names was in memory and is not there ({name}).", "Give a file.", field="video")
    return found


def _read(path: str, capabilities: Capabilities, fps: Fraction) -> tuple[Clip, bool]:
    """The clip of a file, with silence for audio where it has none, and whether it has one."""
    from mova.media.decode import read_clip, read_frames
    from mova.media.probe import probe
    from mova.media.tolerances import tell_repairs

    limit = float(capabilities.longest / fps)
    if probe(path).audio is not None:
        return mix_audio_of(path, read_clip(path, max_seconds=limit)), True
    video = read_frames(path, max_seconds=limit)
    tell_repairs(path, video.repairs)
    silence = np.zeros((1, samples_in_frames(len(video.frames), video.fps, capabilities.sample_rate)), np.float32)
    return Clip(video.frames, silence, video.fps, capabilities.sample_rate), False


def _conditioned_part(plan: Plan, clip: Clip, memory: MemoryInputs) -> Given:
    """What stays of a clip that is changed."""
    request, canvas = plan.request, plan.canvas
    if request.extend_s is not None:
        place = given_end if request.extend_at == "start" else given_beginning
        return place(canvas, clip)
    if request.repaint is None:
        assert request.retake is not None
        return given_around(plan, clip, request.retake)
    mask = picture_named(request.repaint, memory, "repaint")
    mask = mask if request.fit == "exact" else fit_to_canvas(mask, canvas, request.fit, "repaint")
    outside = spatial_inpaint_mask(canvas, clip, mask[..., 0] >= 128)
    if request.retake is None:
        return outside
    around = given_around(plan, clip, request.retake)
    assert outside.keep_picture is not None
    assert around.keep_picture is not None
    # a span of the picture says when the region is painted, one of the audio says nothing of it
    keep = outside.keep_picture if request.retake.modality == "audio" else outside.keep_picture | around.keep_picture
    return replace(outside, keep_picture=keep, keep_audio=around.keep_audio)


def _recorded(plan: Plan, changes: Mapping[str, Any]) -> Plan:
    """The plan with its request as it was asked."""
    return replace(plan, request=plan.request.model_copy(update=dict(changes)))
