"""A video at another frame rate, frame by frame: frame ``n`` of the result is what a viewer sees at ``n / fps``.

No frame is blended or moved: each is the video's own frame on screen at that time, the last one shown at or before it.
Frames are decoded, fitted and let go one at a time, and those that no clock time falls on are not even converted.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from mova.errors import MediaError
from mova.media.clip import checked_fps
from mova.media.decode import MAX_PIXELS, MAX_SECONDS, checked_video
from mova.media.image import fit_image
from mova.media.probe import MediaInfo, media_info, opened, stream_time, video_stream
from mova.media.readers import Limits, check_bytes, rgb_of
from mova.media.remux.track import PictureTrack, picture_track
from mova.timeline import Number, frame_time, frames_in_seconds

VideoFit = Literal["exact", "crop", "pad", "stretch"]

# As in decode.py: stored sizes may be rounded up to whole blocks inside a decoder
_DECODER_PIXEL_SLACK = 2


def read_video_on_clock(
    path: str | Path,
    *,
    fps: Number,
    num_frames: int | None = None,
    width: int | None = None,
    height: int | None = None,
    fit: VideoFit = "exact",
    max_seconds: float = MAX_SECONDS,
    max_pixels: int = MAX_PIXELS,
) -> NDArray[np.uint8]:
    """The picture of a video at a frame rate and a size of choice; only frames of that size are held in memory.

    Args:
        path: The file; its own frame rate may be any, and vary.
        fps: Frames per second of the result.
        num_frames: Frames from the video's start. Default: all that start before the picture ends.
        width: Of the result, in pixels; by default the video's, shown upright.
        height: Of the result, in pixels; by default the video's, shown upright.
        fit: What to do with a video of another shape: refuse it (``"exact"``), or as
            :func:`mova.media.image.fit_image`. A video of the same shape in another size is always scaled.
        max_seconds: Refuse a longer video, unless ``num_frames`` says how much of it is wanted.
        max_pixels: Refuse a video with frames of more pixels.

    Returns:
        ``[T, height, width, 3]`` uint8.

    Raises:
        MediaError: If the video cannot be read, passes a limit, is shorter than ``num_frames``, changes its size on the
            way or has another shape, or if the result would take too much memory.
    """
    path = Path(path)
    rate = checked_fps(fps)
    track = picture_track(path)
    count = _num_frames(track, rate, num_frames, max_seconds)
    frames: NDArray[np.uint8] | None = None
    shown = _shown(track, rate, count, size=(width, height), fit=fit, max_pixels=max_pixels)
    for index, frame in enumerate(shown):
        if frames is None:
            check_bytes(track.info, count * frame.size)
            frames = np.empty((count, *frame.shape), np.uint8)
        frames[index] = frame
    assert frames is not None, "there is at least one frame"
    return frames


def frames_on_clock(
    path: str | Path,
    *,
    fps: Number,
    num_frames: int | None = None,
    width: int | None = None,
    height: int | None = None,
    fit: VideoFit = "exact",
    max_seconds: float = MAX_SECONDS,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[NDArray[np.uint8]]:
    """The frames of :func:`read_video_on_clock`, one by one as they are decoded; no two of them are held at a time.

    Args and Raises as :func:`read_video_on_clock`; the video is looked at when the first frame is asked for. Frames of a
    video slower than ``fps`` come more than once, as the same array: do not write into it.

    Returns:
        Arrays ``[height, width, 3]`` uint8.
    """
    rate = checked_fps(fps)
    track = picture_track(path)
    count = _num_frames(track, rate, num_frames, max_seconds)
    yield from _shown(track, rate, count, size=(width, height), fit=fit, max_pixels=max_pixels)


def _num_frames(track: PictureTrack, fps: Fraction, num_frames: int | None, max_seconds: float) -> int:
    path, there = track.info.path, frames_in_seconds(track.seconds, fps)
    if num_frames is None:
        if track.seconds > max_seconds:
            raise MediaError(
                f"{path} is {float(track.seconds):.2f} s long; at most {max_seconds:g} s are read.",
                "Cut it first, or raise max_seconds.",
            )
        return there
    if num_frames < 1:
        raise MediaError(f"num_frames must be at least 1; got {num_frames}.")
    if num_frames > there:
        raise MediaError(
            f"{path} lasts {float(track.seconds):.3f} s, {there} frames at {float(fps):g} fps; {num_frames} were asked for."
        )
    return num_frames


def _shown(
    track: PictureTrack,
    fps: Fraction,
    count: int,
    *,
    size: tuple[int | None, int | None],
    fit: VideoFit,
    max_pixels: int,
) -> Iterator[NDArray[np.uint8]]:
    """For each of ``count`` times of the clock, the last frame shown at or before it."""
    index = 0
    start_s = Fraction(0)
    current: _Shown | None = None
    reformatter = VideoReformatter()
    for start_s, frame in _decoded(track, max_pixels):
        while current is not None and index < count and frame_time(index, fps) < start_s:
            yield current.fit_to_canvas(size, fit)
            index += 1
        if index == count:
            return
        if current is None and start_s > 0:
            raise MediaError(f"the first {float(start_s):.3f} s of {track.info.path} cannot be decoded.")
        current = _Shown(track.info, frame, reformatter)
    last_s = max(track.time_s(packet.pts * track.time_base) for packet in track.packets if not packet.is_discard)
    if current is None or start_s < last_s:
        raise MediaError(f"{track.info.path} cannot be decoded to its end.", "The file may be damaged.")
    for _ in range(index, count):
        yield current.fit_to_canvas(size, fit)


def _decoded(track: PictureTrack, max_pixels: int) -> Iterator[tuple[Fraction, av.VideoFrame]]:
    """Every frame with the time since the video's start at which it is shown."""
    path = track.info.path
    with opened(path) as container:
        # the sizes and colours are checked here; how long the video may be was decided above, by its packets
        video = checked_video(media_info(container, path), Limits(float("inf"), max_pixels, 1))
        stream = video_stream(container)
        assert stream is not None, "picture_track found it"
        stream.codec_context.options = {"max_pixels": str(max_pixels * _DECODER_PIXEL_SLACK)}
        before_s: Fraction | None = None
        for frame in container.decode(stream):
            file_s = stream_time(frame.pts, frame.time_base)
            if file_s is None:
                raise MediaError(f"{path} has a frame without a timestamp.")
            start_s = track.time_s(file_s)
            if (frame.width, frame.height) != (video.width, video.height):
                raise MediaError(
                    f"{path} changes its size from {video.width}x{video.height} to {frame.width}x{frame.height} "
                    f"at {float(start_s):.3f} s."
                )
            if before_s is not None and start_s < before_s:
                raise MediaError(f"{path} goes back in time at {float(before_s):.3f} s.", "Encode it again first.")
            before_s = start_s
            yield start_s, frame


class _Shown:
    """A decoded frame, converted and fitted only if a time of the clock falls on it, and then once."""

    def __init__(self, info: MediaInfo, frame: av.VideoFrame, reformatter: VideoReformatter) -> None:
        self._info, self._frame, self._reformatter = info, frame, reformatter
        self._fitted: NDArray[np.uint8] | None = None

    def fit_to_canvas(self, size: tuple[int | None, int | None], fit: VideoFit) -> NDArray[np.uint8]:
        """``[height, width, 3]`` uint8."""
        if self._fitted is None:
            upright = rgb_of(self._frame, self._reformatter)
            rows, columns = upright.shape[:2]
            width, height = columns if size[0] is None else size[0], rows if size[1] is None else size[1]
            self._fitted = _fitted(upright, width, height, fit, self._info)
        return self._fitted


def _fitted(frame: NDArray[np.uint8], width: int, height: int, fit: VideoFit, info: MediaInfo) -> NDArray[np.uint8]:
    rows, columns = frame.shape[:2]
    if (columns, rows) == (width, height):
        return frame
    if width < 1 or height < 1:
        raise MediaError(f"a video cannot be brought to {width}x{height}.")
    if fit != "exact":
        return fit_image(frame, width, height, fit=fit)
    # another size of the same shape loses nothing of the picture; half a pixel is what rounding may cost
    if abs(columns * height - rows * width) > max(width, height) / 2 + 1:
        raise MediaError(
            f"{info.path} is {columns}x{rows}; {width}x{height} is of another shape.", "Say fit=crop, pad or stretch."
        )
    return fit_image(frame, width, height, fit="stretch")
