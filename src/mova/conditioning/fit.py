"""What is given, fitted to a clip: its size, its clock, one image a latent, and a first frame where a checkpoint needs one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mova.conditioning.given import Given
from mova.conditioning.sources import AudioInput, Picture
from mova.errors import RequestError
from mova.media.clip import Clip
from mova.request.plan import Canvas, Capabilities, Plan, grid_frames, resolve_size, value_or
from mova.request.schema import Fit, GenerationRequest, TextOnly
from mova.timeline import Timeline

if TYPE_CHECKING:
    from mova.media.decode import Audio

_ROUNDING_S = Fraction(1, 1000)


class Place(NamedTuple):
    """A picture's place in a clip: its frame, its name, and the request's field that gives it."""

    frame: int
    name: str
    field: str


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
    return max(1, math.ceil((seconds - _ROUNDING_S) * fps))


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
            f"It is enough for {enough} frames: ask for as many, or give a longer audio.",
            field="audio",
        )
    part = waveform[:, :needed]
    part = np.pad(part, ((0, 0), (0, needed - part.shape[1])))
    return part[:, :num_samples] if own == rate else resample(part, own, to_rate=rate, num_samples=num_samples)


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
