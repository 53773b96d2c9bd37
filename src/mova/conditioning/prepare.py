"""From a request to all that is needed to begin: the plan, and what its files give, on the clip's clock.

A request holds names. A name is a path, or stands for something in memory that was handed over beside the request
(``memory:`` and the beginning of its SHA-256), so that a recorded request says what it was made from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mova.conditioning.fit import (
    Place,
    audio_on_clock,
    check_first_frame,
    check_places,
    fit_to_canvas,
    frames_of_audio,
    keyframe_positions,
    lead_frames,
    resize_clip,
)
from mova.conditioning.given import (
    Given,
    given_audio,
    given_beginning,
    given_end,
    given_pictures,
    given_video,
    merge_given,
    prepend_references,
    spatial_inpaint_mask,
    temporal_inpaint_mask,
)
from mova.conditioning.sources import (
    PREFIX,
    AudioInput,
    MemoryInputs,
    Picture,
    audio_named,
    content_hash,
    name_of,
    picture_named,
)
from mova.errors import RequestError
from mova.media.clip import Clip
from mova.request.plan import Canvas, Capabilities, CountTokens, Plan, check_prompts, resolve, resolve_fps, resolve_size
from mova.request.schema import Fit, GenerationRequest, Retake
from mova.timeline import frames_in_seconds, samples_in_frames

if TYPE_CHECKING:
    from mova.media.decode import Audio

Waveform = NDArray[np.float32]
RATES = (8000, 96000)  # what a request may ask for
ROUNDING_S = Fraction(1, 10**6)  # of times that are written as decimals


@dataclass(frozen=True, eq=False)
class Prepared:
    """A request with everything resolved, before any weight is read.

    Args:
        plan: What will be made.
        given: What of it is given.
        audio: The given audio at the finished clip's rate and with its channels, ``[C, S]``; ``None`` if none is given.
        video: File whose picture goes into the finished file as it is, where only audio is made for it.
        inputs: What is named, with the hash of its content.
        references: Pictures ``[H, W, 3]`` that the clip goes on from and does not hold.
    """

    plan: Plan
    given: Given
    audio: Waveform | None = None
    source_video: Path | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    references: tuple[Picture, ...] = ()

    @property
    def lead_frames(self) -> int:
        """Frames that are made before the clip and left out of it."""
        return lead_frames(self.plan.request, self.plan.timeline)

    @property
    def with_lead(self) -> Given:
        """What is given of the clip and of what is made before it."""
        if not self.references:
            return self.given
        return prepend_references(self.references, self.plan.canvas, self.given, self.plan.timeline)

    def with_seeds(self, seed: int, audio_seed: int) -> Prepared:
        """The same for other seeds."""
        request = self.plan.request.model_copy(update={"seed": seed, "audio_seed": audio_seed})
        return replace(self, plan=replace(self.plan, request=request, seed=seed, audio_seed=audio_seed))


def prepare(
    request: GenerationRequest,
    capabilities: Capabilities,
    memory: MemoryInputs | None = None,
    *,
    count_tokens: CountTokens | None = None,
) -> Prepared:
    """Read what a request names and resolve every value; whatever a run would refuse is refused here.

    A length that is not asked is that of the given video or audio.

    Args:
        request: What is asked.
        capabilities: What the model can make.
        memory: What names stand for that are no files.
        count_tokens: The model's tokenizer, to check the prompts; ``None`` leaves that to the run.

    Raises:
        MediaError: If a file cannot be read.
        RequestError: If the model cannot make what is asked, or what is given does not fit it.
    """
    memory = memory or {}
    if count_tokens is not None:
        check_prompts(request, capabilities, count_tokens)
    prepared = _prepared(_room_for_references(request, capabilities), capabilities, memory)
    if request.references:
        _check_room(prepared, capabilities)
        pictures = [picture_named(name, memory, "references") for name in request.references]
        leading = tuple(fit_to_canvas(one, prepared.plan.canvas, request.fit, "references") for one in pictures)
        prepared = replace(prepared, references=leading)
    num_frames = prepared.plan.num_frames + prepared.lead_frames
    check_first_frame(prepared.with_lead, capabilities, num_frames=num_frames, text_only=request.text_only)
    return replace(prepared, inputs={name: content_hash(name) for name in request.inputs})


def given_edges(canvas: Canvas, batch: int, image: Any, last_image: Any, *, fit: Fit) -> list[Given]:
    """First and last frames of a batch of clips.

    Args:
        canvas: Size and length of every clip.
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
        pictures = [Place(i, name, field) for i, value, field in values if (name := name_of(value, field, memory)) is not None]
        result.append(given_pictures_of(canvas, pictures, fit, memory) if pictures else Given())
    return result


def given_pictures_of(canvas: Canvas, pictures: list[Place], fit: Fit, memory: MemoryInputs) -> Given:
    """Named pictures, read and fitted.

    Raises:
        RequestError: If two are for one frame, or one does not fit.
    """
    found: dict[int, Picture] = {}
    for index, name, label in pictures:
        if index in found:
            raise RequestError(f"{label} is for frame {index}, for which there is a picture already.", "Give one.", field=label)
        found[index] = fit_to_canvas(picture_named(name, memory, label), canvas, fit, label)
    return given_pictures(canvas, found)


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


def mono_at(clip: Clip, sample_rate: int) -> Clip:
    """The clip in mono at a model's sample rate."""
    resampled = clip.resampled(sample_rate)
    return replace(resampled, waveform=mono(resampled.waveform))


def mono(waveform: Waveform) -> Waveform:
    """``[channels, samples]`` as one channel in [-1, 1]."""
    mean: Waveform = waveform.mean(axis=0, keepdims=True, dtype=np.float32)
    return np.clip(mean, -1.0, 1.0)


def _prepared(request: GenerationRequest, capabilities: Capabilities, memory: MemoryInputs) -> Prepared:
    if request.video is not None:
        return _with_video(request, capabilities, memory)
    audio = None
    if request.audio is not None:
        audio = audio_named(request.audio, memory)
        request = _lengthened(request, capabilities, Fraction(audio.waveform.shape[1], audio.sample_rate))
        request = _at_rate(request, audio.sample_rate)
    plan = resolve(request, capabilities)
    return _with_audio(_with_pictures(Prepared(plan, Given()), memory), audio)


def _with_pictures(prepared: Prepared, memory: MemoryInputs) -> Prepared:
    """The same with the pictures of its request."""
    plan, places = prepared.plan, keyframe_positions(prepared.plan)
    if not places:
        return prepared
    check_places(plan, places, prepared.given)
    pictures = given_pictures_of(plan.canvas, places, plan.request.fit, memory)
    return replace(prepared, given=merge_given(prepared.given, pictures))


def _with_audio(prepared: Prepared, audio: Audio | AudioInput | None) -> Prepared:
    """The same with audio, in place of one that it has."""
    if audio is None:
        return prepared
    plan, video_given = prepared.plan, replace(prepared.given, waveform=None, keep_audio=None)
    own = audio_on_clock(audio, plan, num_samples=plan.canvas.num_samples, rate=plan.timeline.sample_rate)
    finished = audio_on_clock(audio, plan, num_samples=plan.num_samples, rate=plan.sample_rate)
    return replace(prepared, given=merge_given(video_given, given_audio(plan.canvas, mono(own))), audio=finished)


def _room_for_references(request: GenerationRequest, capabilities: Capabilities) -> GenerationRequest:
    """Set the length, unless it is given, to the longest that fits the model together with the references."""
    if not request.references:
        return request
    if any(value is not None for value in (request.num_frames, request.seconds, request.audio, request.video)):
        return request
    lead = lead_frames(request, capabilities.timeline(resolve_fps(capabilities, request.fps)))
    return request.model_copy(update={"num_frames": max(1, capabilities.max_frames - lead)})


def _check_room(prepared: Prepared, capabilities: Capabilities) -> None:
    asked, lead = prepared.plan.num_frames, prepared.lead_frames
    if asked + lead > capabilities.longest:
        raise RequestError(
            f"{asked} frames and {lead} of references are more than the {capabilities.longest} that {capabilities.name} makes.",
            f"Ask for at most {capabilities.longest - lead} frames.",
            field="references",
        )


def _with_video(request: GenerationRequest, capabilities: Capabilities, memory: MemoryInputs) -> Prepared:
    fps = resolve_fps(capabilities, request.fps)
    if any(value is not None for value in (request.extend_s, request.retake, request.repaint)):
        return _prepare_edit(request, capabilities, fps, memory)
    from mova.media.on_clock import read_video_on_clock
    from mova.media.remux.soundtrack import video_seconds

    assert request.video is not None
    if request.video.startswith(PREFIX):
        plan = resolve(request, capabilities)
        return Prepared(plan, given_video(plan.canvas, _video_in_memory(request.video, memory)))
    width, height = resolve_size(capabilities, request.width, request.height)
    asked = request.num_frames or (None if request.seconds is None else frames_in_seconds(request.seconds, fps))
    limit = float(capabilities.longest / fps)
    frames = read_video_on_clock(
        request.video, fps=fps, width=width, height=height, fit=request.fit, num_frames=asked, max_seconds=limit
    )
    plan = resolve(request.model_copy(update={"seconds": None, "num_frames": len(frames)}), capabilities)
    given = given_video(plan.canvas, frames)
    if asked is None:
        # recorded as it was asked: the length is the video's
        return Prepared(_recorded(plan, {"num_frames": None}), given, source_video=Path(request.video))
    is_whole = asked == frames_in_seconds(video_seconds(request.video), fps)
    return Prepared(plan, given, source_video=Path(request.video) if is_whole else None)


def _video_in_memory(name: str, memory: MemoryInputs) -> Picture:
    """Frames ``[T, H, W, 3]`` on the clip's own clock (:mod:`mova.conditioning.reroll`)."""
    found = memory.get(name)
    if not isinstance(found, np.ndarray):
        raise RequestError(f"what video names was in memory and is not there ({name}).", "Give a file.", field="video")
    return found


def _prepare_edit(request: GenerationRequest, capabilities: Capabilities, fps: Fraction, memory: MemoryInputs) -> Prepared:
    """Prepare a clip that is extended, or of which a part is generated again; missing audio is generated for all of it."""
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
            f"the clip given as video has {source.num_frames} frames; {asked} are asked for.",
            f"Ask for {source.num_frames} frames, or leave the length out.",
            field="num_frames",
        )
    clip = resize_clip(source, request, capabilities)
    added = 0 if request.extend_s is None else max(1, round(Fraction(str(request.extend_s)) * fps))
    num_frames = clip.num_frames + added
    update = {"width": clip.width, "height": clip.height, "seconds": None, "num_frames": num_frames, "extend_s": None}
    if audio is not None or has_audio:
        request = _at_rate(request, clip.sample_rate if audio is None else audio.sample_rate)
    plan = resolve(request.model_copy(update=update), capabilities)
    plan = _recorded(plan, {"extend_s": request.extend_s, "num_frames": None})
    given = _conditioned_part(plan, mono_at(clip, plan.timeline.sample_rate), memory)
    if not has_audio:
        return _with_audio(_with_pictures(Prepared(plan, replace(given, waveform=None, keep_audio=None)), memory), audio)
    finished = clip.resampled(plan.sample_rate).waveform
    missing = plan.num_samples - finished.shape[1]
    pad = (missing, 0) if request.extend_at == "start" else (0, missing)
    finished = np.pad(finished, ((0, 0), pad)) if missing > 0 else finished
    # where no picture is made, that of the file goes into the new one as it is
    is_file = request.video is not None and not request.video.startswith(PREFIX)
    video = Path(str(request.video)) if is_file and is_retake_of_audio and request.repaint is None else None
    return _with_audio(_with_pictures(Prepared(plan, given, audio=finished, source_video=video), memory), audio)


def _read(path: str, capabilities: Capabilities, fps: Fraction) -> tuple[Clip, bool]:
    """The clip of a file, with silence for audio where it has none, and whether it has one."""
    from mova.media.decode import read_clip, read_frames
    from mova.media.probe import probe

    limit = float(capabilities.longest / fps)
    if probe(path).audio is not None:
        return read_clip(path, max_seconds=limit), True
    video = read_frames(path, max_seconds=limit)
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


def _lengthened(request: GenerationRequest, capabilities: Capabilities, seconds: Fraction) -> GenerationRequest:
    if request.num_frames is not None or request.seconds is not None:
        return request
    return request.model_copy(update={"num_frames": frames_of_audio(seconds, resolve_fps(capabilities, request.fps))})


def _at_rate(request: GenerationRequest, rate: int) -> GenerationRequest:
    """What is given keeps its own sample rate, unless another is asked for."""
    if request.audio_sample_rate is not None or not RATES[0] <= rate <= RATES[1]:
        return request
    return request.model_copy(update={"audio_sample_rate": rate})


def _one_each(value: Any, batch: int, field: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        return [value] * batch
    if len(value) != batch:
        found = f"there are {len(value)} values of {field} for {batch} prompts."
        raise RequestError(found, "Give one, or as many.", field=field)
    return list(value)
