"""What a user gives besides words, on the clip's own clock: frames and samples, and which of them are given.

Every direction (a picture, a video, audio in; the rest made) is one :class:`Given`: two arrays and two masks. The sampler
receives it as latents and noise levels (:mod:`mova.pipeline.latents`); when the clip is made, what was given is put back as it
was (:func:`paste_back`), not as the codecs copy it.

What is made comes from the codecs, which soften a picture and shift its colours a little. Side by side the two would pop. So
the detail that the codecs lost of the last given frame is carried over into the frames next to it, fading within one latent
step, wherever the picture stands still; and given audio fades into the codec's copy of it. No given pixel is changed, and of
the audio only the samples of its own seam.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from mova.errors import RequestError, number_of
from mova.media.clip import Clip
from mova.request.plan import Canvas
from mova.timeline import Timeline

Frames = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Given:
    """What is given of a clip.

    Args:
        frames: ``[T, H, W, 3]`` uint8; where nothing is given its values have no effect. ``None``: no picture is given.
        keep_picture: ``[T, H, W]`` bool (or broadcastable to it): which pixels are given.
        waveform: ``[1, S]`` float32 in [-1, 1] at the model's rate. ``None``: no audio is given.
        keep_audio: ``[S]`` bool.
        stills: Frames that are given alone, as pictures: the latent that holds one is made as if it stood still.
    """

    frames: Frames | None = None
    keep_picture: Mask | None = None
    waveform: NDArray[np.float32] | None = None
    keep_audio: Mask | None = None
    stills: tuple[int, ...] = ()

    @property
    def first_frame(self) -> Frames | None:
        """The first frame ``[H, W, 3]``, where all of it is given."""
        if self.frames is None or self.keep_picture is None or not self.keep_picture[0].all():
            return None
        first: Frames = self.frames[0]
        return first

    @property
    def last_still(self) -> Frames | None:
        """The last frame ``[H, W, 3]``, where it is given alone, as a picture."""
        if self.frames is None or self.keep_picture is None:
            return None
        index = len(self.frames) - 1
        last: Frames = self.frames[index]
        return last if index in self.stills and index > 0 else None


def given_pictures(canvas: Canvas, pictures: Mapping[int, Frames]) -> Given:
    """Pictures at frames.

    Args:
        canvas: The clip to be.
        pictures: Frame index to picture ``[H, W, 3]`` of the canvas' size.

    Raises:
        RequestError: If an index is outside the clip or a picture has another size.
    """
    frames = np.zeros((canvas.num_frames, canvas.height, canvas.width, 3), np.uint8)
    keep = np.zeros((canvas.num_frames, 1, 1), np.bool_)
    for index, picture in pictures.items():
        if not 0 <= index < canvas.num_frames:
            raise RequestError(
                f"a picture is given for frame {index}; the clip has frames 0 to {canvas.num_frames - 1}.",
                f"Use {min(max(index, 0), canvas.num_frames - 1)}, the nearest.",
                field="keyframes",
            )
        if picture.shape != frames.shape[1:]:
            raise RequestError(
                f"the picture for frame {index} is {picture.shape[1]}x{picture.shape[0]}; the clip is "
                f"{canvas.width}x{canvas.height}.",
                "Say fit=crop, pad or stretch.",
                field="image",
            )
        frames[index], keep[index] = picture, True
    return Given(frames=frames, keep_picture=keep, stills=tuple(sorted(pictures)))


def given_video(canvas: Canvas, frames: Frames) -> Given:
    """A whole video, for which audio is to be made.

    Raises:
        RequestError: If it has another size or is shorter than the clip.
    """
    _check_video(canvas, frames, canvas.num_frames)
    return Given(frames=frames[: canvas.num_frames], keep_picture=np.ones((canvas.num_frames, 1, 1), np.bool_))


def given_audio(canvas: Canvas, waveform: NDArray[np.float32]) -> Given:
    """Whole audio ``[1, S]``, for which a video is to be made.

    Raises:
        RequestError: If it is shorter than the clip.
    """
    if waveform.shape[1] < canvas.num_samples:
        raise RequestError(
            f"the audio is shorter than the video: {waveform.shape[1]} of {canvas.num_samples} samples.",
            f"Ask for {waveform.shape[1] * canvas.num_frames // canvas.num_samples} frames, or give a longer audio.",
            field="audio",
        )
    return Given(waveform=waveform[:, : canvas.num_samples], keep_audio=np.ones(canvas.num_samples, np.bool_))


def given_beginning(canvas: Canvas, clip: Clip) -> Given:
    """A clip that goes on: it is the beginning, the rest is made.

    Raises:
        RequestError: If it is not shorter than the canvas or has another size.
    """
    return _part(canvas, clip, at_end=False)


def given_end(canvas: Canvas, clip: Clip) -> Given:
    """A clip that something leads up to: it is the end, what is before it is made."""
    return _part(canvas, clip, at_end=True)


def temporal_inpaint_mask(
    canvas: Canvas, clip: Clip, *, frames: tuple[int, int] | None, samples: tuple[int, int] | None
) -> Given:
    """Keep a clip except for a span, which is generated again.

    Args:
        canvas: As long as the clip.
        clip: At the model's sample rate, mono.
        frames: First and last (excluded) frame to generate again; ``None`` keeps the video.
        samples: The same for the audio.

    Raises:
        RequestError: If the clip does not fit the canvas, or nothing would be made.
    """
    if frames is None and samples is None:
        raise RequestError("nothing is to be generated again.", "Name a span of the video or of the audio.", field="retake")
    _check_video(canvas, clip.frames, canvas.num_frames)
    keep_picture = np.ones((canvas.num_frames, 1, 1), np.bool_)
    keep_audio = np.ones(canvas.num_samples, np.bool_)
    if frames is not None:
        keep_picture[slice(*frames)] = False
    if samples is not None:
        keep_audio[slice(*samples)] = False
    return Given(
        frames=clip.frames[: canvas.num_frames],
        keep_picture=keep_picture,
        waveform=clip.waveform[:, : canvas.num_samples],
        keep_audio=keep_audio,
    )


def spatial_inpaint_mask(canvas: Canvas, clip: Clip, region: Mask) -> Given:
    """Keep a clip except for a region of its frames, which is generated again; its audio is kept.

    Args:
        canvas: As long as the clip.
        clip: At the model's sample rate, mono.
        region: ``[H, W]`` or ``[T, H, W]`` bool: what is to be made.

    Raises:
        RequestError: If the region has another shape or is empty.
    """
    _check_video(canvas, clip.frames, canvas.num_frames)
    shape = (canvas.height, canvas.width)
    if region.shape not in (shape, (canvas.num_frames, *shape)):
        raise RequestError(
            f"the mask has the shape {region.shape}; the picture has {shape}.",
            f"Give a mask of {canvas.width}x{canvas.height}, or say fit=crop, pad or stretch.",
            field="repaint",
        )
    if not region.any():
        raise RequestError("the mask is empty: nothing would be painted.", "Paint white what is to be made.", field="repaint")
    keep = np.broadcast_to(~region, (canvas.num_frames, *shape))
    audio = np.ones(canvas.num_samples, np.bool_)
    return Given(clip.frames[: canvas.num_frames], keep, clip.waveform[:, : canvas.num_samples], audio)


def merge_given(first: Given, second: Given) -> Given:
    """Both together: what one gives of the picture and the other of the audio, or pictures at several frames.

    Raises:
        RequestError: If both give the same thing.
    """
    if first.waveform is not None and second.waveform is not None:
        raise RequestError("two sounds are given for one clip.", "Give one of them.", field="audio")
    audio = first if first.waveform is not None else second
    if first.frames is None or second.frames is None:
        picture = first if first.frames is not None else second
        return replace(picture, waveform=audio.waveform, keep_audio=audio.keep_audio)
    assert first.keep_picture is not None
    assert second.keep_picture is not None
    both = np.flatnonzero((first.keep_picture & second.keep_picture).any(axis=(1, 2)))
    if len(both):
        raise RequestError(f"two pictures are given for one moment: frame {both[0]}.", "Give one of them.", field="image")
    frames = np.where(second.keep_picture[..., None], second.frames, first.frames)
    return Given(
        frames=frames,
        keep_picture=first.keep_picture | second.keep_picture,
        waveform=audio.waveform,
        keep_audio=audio.keep_audio,
        stills=tuple(sorted({*first.stills, *second.stills})),
    )


def prepend_references(pictures: Sequence[Frames], canvas: Canvas, given: Given, timeline: Timeline) -> Given:
    """What is given of a longer clip that begins with pictures: the first as its first frame, each further one as a still
    that fills a latent. Prefixing references so, and leaving them out of the result, is what VACE does (arXiv 2503.07598).

    Args:
        pictures: ``[H, W, 3]`` each, of the canvas' size; at least one.
        canvas: The clip after them.
        given: What is given of it.
        timeline: Its clock.
    """
    lead = np.concatenate(
        [np.repeat(picture[None], len(timeline.frames_of_latent(index)), axis=0) for index, picture in enumerate(pictures)]
    )
    count, num_samples = len(lead), timeline.samples(len(lead) + canvas.num_frames)
    size = (canvas.num_frames, canvas.height, canvas.width)
    frames = np.zeros((*size, 3), np.uint8) if given.frames is None else given.frames
    keep = np.zeros((1, 1, 1), np.bool_) if given.keep_picture is None else given.keep_picture
    whole = np.broadcast_to(keep, (canvas.num_frames, *keep.shape[1:]))
    audio, keep_audio = given.waveform, given.keep_audio
    if audio is not None and keep_audio is not None:
        room = (num_samples - canvas.num_samples, 0)
        audio, keep_audio = np.pad(audio, ((0, 0), room)), np.pad(keep_audio, room)
    return Given(
        frames=np.concatenate([lead, frames]),
        keep_picture=np.concatenate([np.ones((count, *whole.shape[1:]), np.bool_), whole]),
        waveform=audio,
        keep_audio=keep_audio,
        stills=(0, *(count + index for index in given.stills)),
    )


def paste_back(clip: Clip, given: Given, *, audio: NDArray[np.float32] | None, timeline: Timeline) -> Clip:
    """The finished clip with what was given put back as it was, joined to what was made within one latent step.

    Args:
        clip: As the codecs gave it, at the rate that it is to have.
        given: What was given.
        audio: The given audio at that rate, ``[channels, samples]``; the clip takes its channels.
        timeline: The model's clock.
    """
    frames, waveform = clip.frames, clip.waveform
    if given.frames is not None:
        assert given.keep_picture is not None
        frames = blend_frames(frames, given.frames, given.keep_picture, reach=timeline.video_stride)
    if audio is not None:
        assert given.keep_audio is not None
        where = np.arange(waveform.shape[1]) * len(given.keep_audio) // waveform.shape[1]
        reach = round(timeline.audio_hop / timeline.sample_rate * clip.sample_rate)
        waveform = blend_audio(waveform, audio, given.keep_audio[where], reach=reach)
    return replace(clip, frames=np.ascontiguousarray(frames), waveform=np.ascontiguousarray(waveform))


def _part(canvas: Canvas, clip: Clip, *, at_end: bool) -> Given:
    frames, samples = clip.num_frames, clip.waveform.shape[1]
    if frames >= canvas.num_frames:
        raise RequestError(
            f"the given clip has {number_of(frames, 'frame')} and the whole {canvas.num_frames}: nothing would be made.",
            "Ask for a longer clip.",
            field="extend",
        )
    _check_video(canvas, clip.frames, frames)
    first_frame, first_sample = (canvas.num_frames - frames, canvas.num_samples - samples) if at_end else (0, 0)
    video = np.zeros((canvas.num_frames, canvas.height, canvas.width, 3), np.uint8)
    keep_picture = np.zeros((canvas.num_frames, 1, 1), np.bool_)
    waveform = np.zeros((1, canvas.num_samples), np.float32)
    keep_audio = np.zeros(canvas.num_samples, np.bool_)
    video[first_frame : first_frame + frames] = clip.frames
    keep_picture[first_frame : first_frame + frames] = True
    waveform[:, first_sample : first_sample + samples] = clip.waveform
    keep_audio[first_sample : first_sample + samples] = True
    return Given(video, keep_picture, waveform, keep_audio)


def _check_video(canvas: Canvas, frames: Frames, needed: int) -> None:
    length, height, width = frames.shape[:3]
    if (width, height) != (canvas.width, canvas.height):
        raise RequestError(
            f"the given video is {width}x{height}; the clip is {canvas.width}x{canvas.height}.",
            "Say fit=crop, pad or stretch.",
            field="video",
        )
    if length < needed:
        raise RequestError(
            f"the given video has {number_of(length, 'frame')}; the clip has {needed}.",
            f"Ask for {number_of(length, 'frame')}.",
            field="video",
        )


MOTION_THRESHOLD = 24.0
"""Difference of two frames, of 255, up to which a pixel shows the same thing and all detail is carried to it; none at twice
that."""

BLUR_SIZE = 5
"""Pixels, in width and height, over which a change is felt."""


def blend_frames(made: Frames, given: Frames, keep: Mask, *, reach: int) -> Frames:
    """Given pixels as they were, and made ones that go on from them.

    Args:
        made: ``[T, H, W, 3]`` as the codecs gave it, with their copy of what was given.
        given: The same shape; where ``keep`` is false its values have no effect.
        keep: ``[T, H, W]`` or broadcastable to it: which pixels are given.
        reach: Frames over which carried detail fades: at most those of one latent.

    Returns:
        ``[T, H, W, 3]``: equal to ``given`` where ``keep`` holds, and to ``made`` farther than ``reach`` frames from it.
    """
    keep = np.broadcast_to(keep, made.shape[:3])
    joined = np.where(keep[..., None], given, made)
    touched = [bool(frame.any()) for frame in keep]
    for index in (index for index, frame in enumerate(keep) if not frame.all()):
        sides = [_carried(index, step, made, given, keep, touched, reach) for step in (-1, 1)]
        carried = [side for side in sides if side is not None]
        if not carried:
            continue
        weights = sum(weight for weight, _ in carried)
        detail = sum(weight[..., None] * detail for weight, detail in carried) / np.maximum(weights, 1.0)[..., None]
        better = (made[index] + detail).round().clip(0, 255).astype(np.uint8)
        joined[index] = np.where(keep[index][..., None], given[index], better)
    return joined


def blend_audio(made: NDArray[np.float32], given: NDArray[np.float32], keep: Mask, *, reach: int) -> NDArray[np.float32]:
    """Given samples as they were, but for the last ``reach`` before a border, which fade into the codec's copy of them.

    Args:
        made: ``[channels, S]`` as the codec gave it.
        given: The same length; its channels are those of the result.
        keep: ``[S]``: which samples are given.
        reach: Samples of the fade: at most those of one latent.
    """
    weight = _faded(keep, reach)
    return np.where(weight == 1.0, given, made + weight * (given - made)).astype(np.float32)


def _carried(
    index: int, step: int, made: Frames, given: Frames, keep: Mask, touched: Sequence[bool], reach: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Weight ``[H, W]`` and detail ``[H, W, 3]`` that a frame gets from the given frames on one side; None if none is near."""
    weight = np.zeros(made.shape[1:3], np.float32)
    detail = np.zeros(made.shape[1:], np.float32)
    for offset in range(1, reach + 1):
        source = index + step * offset
        if not 0 <= source < len(made) or not touched[source]:
            continue
        copy = made[source].astype(np.float32)
        # a thing that moves takes its surroundings along: the codec's softness is as wide as its detail
        change = np.abs(made[index] - copy).max(axis=-1)
        change = np.maximum(change, uniform_filter(change, size=BLUR_SIZE))
        still = (2.0 - change / MOTION_THRESHOLD).clip(0.0, 1.0) * (0.5 + 0.5 * np.cos(np.pi * offset / (reach + 1)))
        first = keep[source] & (weight == 0.0)
        weight = np.where(first, still, weight).astype(np.float32)
        detail = np.where(first[..., None], given[source] - copy, detail)
    return (weight, detail) if weight.any() else None


def _faded(keep: Mask, reach: int) -> NDArray[np.float32]:
    """1 where given, 0 where made, falling to 0 over the last given samples before a border."""
    weight = keep.astype(np.float32)
    steps = np.diff(keep.astype(np.int8))
    fade = (np.arange(1, reach + 1, dtype=np.float32) / (reach + 1))[::-1]
    for border in np.flatnonzero(steps == -1):  # given, then made
        length = min(reach, int(border) + 1)
        part = weight[border + 1 - length : border + 1]
        np.minimum(part, fade[-length:], out=part)
    for border in np.flatnonzero(steps == 1):  # made, then given
        part = weight[border + 1 : border + 1 + reach]
        np.minimum(part, fade[::-1][: len(part)], out=part)
    return weight
