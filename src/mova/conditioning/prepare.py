"""From a request to all that is needed to begin: the plan, and what its files give, on the clip's clock.

A request holds names. A name is a path, or stands for something in memory that was handed over beside the request
(``memory:`` and the beginning of its SHA-256), so that a recorded request says what it was made from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mova.conditioning.edit import Waveform, fit_to_canvas, keep_rate, mono, read_video
from mova.conditioning.given import Given, given_audio, given_pictures, merge_given, prepend_references
from mova.conditioning.sources import AudioInput, MemoryInputs, Picture, audio_named, content_hash, name_of, picture_named
from mova.errors import RequestError, number_of
from mova.request.plan import Canvas, Capabilities, CountTokens, Plan, check_prompts, grid_frames, resolve, resolve_fps
from mova.request.reading import PromptReading
from mova.request.schema import Fit, GenerationRequest, TextOnly
from mova.timeline import Timeline

if TYPE_CHECKING:
    from mova.media.decode import Audio


ROUNDING_OF_AUDIO_S = Fraction(1, 1000)


class Place(NamedTuple):
    """A picture's place in a clip: its frame, its name, and the request's field that gives it."""

    frame: int
    name: str
    field: str


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
        notes: What was decided of what is given and is worth knowing, one line each.
        reading: What was understood of the prompt; ``None`` where it is taken as it is.
    """

    plan: Plan
    given: Given
    audio: Waveform | None = None
    source_video: Path | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    references: tuple[Picture, ...] = ()
    notes: tuple[str, ...] = ()
    reading: PromptReading | None = None

    @property
    def prompt(self) -> str:
        """What the network reads: the prompt, or the wording in its place."""
        return self.plan.request.prompt if self.reading is None else self.reading.text

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
    read: Callable[[str, float], PromptReading | None] | None = None,
) -> Prepared:
    """Read what a request names and resolve every value; whatever a run would refuse is refused here.

    A length that is not asked is that of the given video or audio.

    Args:
        request: What is asked.
        capabilities: What the model can make.
        memory: What names stand for that are no files.
        count_tokens: The model's tokenizer, to check the prompts; ``None`` leaves that to the run.
        read: What reads a prompt, ``(prompt, seconds) -> reading``; ``None`` leaves it as it is.

    Raises:
        MediaError: If a file cannot be read.
        RequestError: If the model cannot make what is asked, or what is given does not fit it.
    """
    memory = memory or {}
    read = None if request.as_is else read
    if count_tokens is not None and read is None:
        check_prompts(request, capabilities, count_tokens)
    request = _room_for_references(request, capabilities)
    if request.video is not None:
        video = read_video(request, capabilities, memory)
        prepared = Prepared(video.plan, video.given, audio=video.audio, source_video=video.source_video, notes=video.notes)
        audio = video.new_audio
    else:
        audio = None if request.audio is None else audio_named(request.audio, memory)
        if audio is not None:
            request = _lengthened(request, capabilities, Fraction(audio.waveform.shape[1], audio.sample_rate))
            request = keep_rate(request, audio.sample_rate)
        prepared = Prepared(resolve(request, capabilities), Given())
    prepared = _with_audio(_with_pictures(prepared, memory), audio)
    if request.references:
        _check_room(prepared, capabilities)
        pictures = [picture_named(name, memory, "references") for name in request.references]
        leading = tuple(fit_to_canvas(one, prepared.plan.canvas, request.fit, "references") for one in pictures)
        prepared = replace(prepared, references=leading)
    num_frames = prepared.plan.num_frames + prepared.lead_frames
    check_first_frame(prepared.with_lead, capabilities, num_frames=num_frames, text_only=request.text_only)
    if read is not None:
        plan = prepared.plan
        prepared = replace(prepared, reading=read(plan.request.prompt, float(plan.num_frames / plan.timeline.fps)))
        if count_tokens is not None:
            check_prompts(plan.request.model_copy(update={"prompt": prepared.prompt}), capabilities, count_tokens)
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
            f"{number_of(asked, 'frame')} and {lead} of references are more than the {capabilities.longest} that "
            f"{capabilities.name} makes.",
            f"Ask for at most {number_of(capabilities.longest - lead, 'frame')}.",
            field="references",
        )


def _lengthened(request: GenerationRequest, capabilities: Capabilities, seconds: Fraction) -> GenerationRequest:
    if request.num_frames is not None or request.seconds is not None:
        return request
    return request.model_copy(update={"num_frames": frames_of_audio(seconds, resolve_fps(capabilities, request.fps))})


def _one_each(value: Any, batch: int, field: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        return [value] * batch
    if len(value) != batch:
        found = f"there are {len(value)} values of {field} for {batch} prompts."
        raise RequestError(found, "Give one, or as many.", field=field)
    return list(value)


def keyframe_positions(plan: Plan) -> list[Place]:
    """Where the pictures of a request are in its clip.

    Raises:
        RequestError: If one is after the clip's end.
    """
    request, fps, last = plan.request, plan.timeline.fps, plan.num_frames - 1
    edges = ((0, request.image, "image"), (last, request.last_image, "last_image"))
    places = [Place(frame, name, field) for frame, name, field in edges if name is not None]
    for key in request.keyframes:
        frame = round(Fraction(str(key.time_s)) * fps)
        if frame > last:
            raise RequestError(
                f"a picture is asked for at {key.time_s:g} s; the clip's last frame is at {float(last / fps):g} s.",
                f"Use {float(last / fps):g}, the nearest, or ask for a longer clip.",
                field="keyframes",
            )
        places.append(Place(frame, key.image, "keyframes"))
    return places


def check_places(plan: Plan, places: Sequence[Place], given: Given) -> None:
    """Refuse pictures of which two, or one and a part of a given clip, are in one latent: it holds one of them.

    Args:
        plan: Plan of the clip.
        places: Frames of its images.
        given: What else is given of it.

    Raises:
        RequestError: If one latent would have to hold two things; the nearest free time is named.
    """
    timeline, lead = plan.timeline, lead_frames(plan.request, plan.timeline)
    video = () if given.keep_picture is None else np.flatnonzero(given.keep_picture.any(axis=(1, 2)))
    taken = {timeline.latent_of_frame(lead + int(frame)): "a part of the given clip" for frame in video}
    full = {*taken, *(timeline.latent_of_frame(lead + place.frame) for place in places)}
    for place in places:
        latent, time_s = timeline.latent_of_frame(lead + place.frame), float(place.frame / timeline.fps)
        if latent in taken:
            free = [frame for frame in range(plan.num_frames) if timeline.latent_of_frame(lead + frame) not in full]
            nearest = min(free, key=lambda frame: abs(frame - place.frame), default=None)
            begin, end = (float(time - lead / timeline.fps) for time in timeline.video_latent_span(latent))
            raise RequestError(
                f"the picture at {time_s:g} s ({place.field}) and {taken[latent]} are in one latent ({begin:g} to {end:g} s), "
                "which holds one picture.",
                "Leave one of them out."
                if place.field != "keyframes" or nearest is None
                else f"Use {float(nearest / timeline.fps):g} s, the nearest that is free.",
                field=place.field,
            )
        taken[latent] = f"that at {time_s:g} s ({place.field})"


def lead_frames(request: GenerationRequest, timeline: Timeline) -> int:
    """Frames of the references, which are made before the clip and left out of it."""
    return timeline.frames_of_latents(len(request.references)) if request.references else 0


def frames_of_audio(seconds: Fraction, fps: Fraction) -> int:
    """Number of frames that hold all of some audio; a millisecond more than whole frames is rounding by a codec or a rate."""
    return max(1, math.ceil((seconds - ROUNDING_OF_AUDIO_S) * fps))


def audio_on_clock(audio: Audio | AudioInput, plan: Plan, *, num_samples: int, rate: int) -> NDArray[np.float32]:
    """The beginning of audio at another rate, ``[channels, num_samples]``; silence fills what its last frame lacks.

    Raises:
        RequestError: If it is shorter than the clip by a frame or more.
    """
    from mova.media.resample import resample

    waveform, own = audio.waveform, audio.sample_rate
    needed = -(-num_samples * own // rate)
    seconds = Fraction(waveform.shape[1], own)
    enough = frames_of_audio(seconds, plan.timeline.fps)
    if enough < plan.num_frames:
        raise RequestError(
            f"audio lasts {float(seconds):.4f} s; the clip lasts {num_samples / rate:.4f} s.",
            f"It is enough for {number_of(enough, 'frame')}: ask for as many, or give a longer audio.",
            field="audio",
        )
    part = waveform[:, :needed]
    part = np.pad(part, ((0, 0), (0, needed - part.shape[1])))
    return part[:, :num_samples] if own == rate else resample(part, own, to_rate=rate, num_samples=num_samples)


def check_first_frame(given: Given, capabilities: Capabilities, *, num_frames: int, text_only: TextOnly | None) -> None:
    """Refuse what a checkpoint that was trained with a first frame cannot make; and ``text_only`` for one that was not.

    Args:
        given: What is given of the clip, references before it included.
        capabilities: What the model can make.
        num_frames: Length of the clip, references before it included.
        text_only: Stand-in for a first frame that is not given.

    Raises:
        RequestError: If no first frame is given and ``text_only`` does not say what takes its place, the last frame is not
            the codec's last, or ``text_only`` has nothing to do.
    """
    if not capabilities.needs_first_frame:
        if text_only is not None:
            raise RequestError(f"{capabilities.name} needs no first frame: text_only has nothing to do.", field="text_only")
        return
    if given.first_frame is None and text_only is None:
        raise RequestError(
            "this model was trained with a first frame, and none is given.",
            "Give an image, or say text_only=white (a white first frame) or text_only=unmasked (none).",
            field="image",
        )
    legal = grid_frames(capabilities, num_frames)
    if given.last_still is not None and (given.first_frame is None or num_frames != legal):
        raise RequestError(
            f"this model takes a last frame only with a first one, in a clip of 1 + {capabilities.video_stride} k frames.",
            f"Give both, and ask for {legal} frames.",
            field="last_image",
        )
