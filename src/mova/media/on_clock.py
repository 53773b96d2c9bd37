"""Read a video at another frame rate: frame ``n`` of the result is the frame on screen at ``n / fps``.

No frame is blended or moved: each is the last frame of the video that starts at or before that time. Frames are decoded,
resized and released one at a time, and those that are not on screen at any of the times are not converted.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
from numpy.typing import NDArray

from mova.errors import MediaError, number_of
from mova.media.clip import check_fps
from mova.media.decode import MAX_PIXELS, MAX_SECONDS, check_bytes
from mova.media.frames import Limits, check_upright, check_video, decode_packets, decoder_of
from mova.media.image import fit_image
from mova.media.pixels import RgbConverter
from mova.media.probe import MediaInfo, media_info, open_container, stream_time, video_stream
from mova.media.remux.track import VideoTrack, read_video_track
from mova.media.tolerances import Repairs, limit, tell_repairs
from mova.media.worker import isolate_parts
from mova.timeline import Number, frame_time, frames_in_seconds

VideoFit = Literal["exact", "crop", "pad", "stretch"]


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
    """Read the frames of a video at a given frame rate and size; only frames of that size are held in memory.

    Args:
        path: The file; its own frame rate may be of any value, and variable.
        fps: Frames per second of the result.
        num_frames: Number of frames from the start of the video. Default: all that start before it ends.
        width: Width of the result in pixels; by default that of the video, upright.
        height: Height of the result in pixels; by default that of the video, upright.
        fit: Treatment of a video of another aspect ratio: refused (``"exact"``), or as in
            :func:`mova.media.image.fit_image`. A video of the same aspect ratio is always scaled.
        max_seconds: Longest video accepted, in seconds, unless ``num_frames`` is given.
        max_pixels: Largest frame accepted, in pixels.

    Returns:
        ``[T, height, width, 3]`` uint8.

    Raises:
        MediaError: If the video cannot be read, exceeds a limit, is shorter than ``num_frames``, changes its size within the
            video or has another aspect ratio, or if the result would take too much memory.
    """
    path = Path(path)
    rate = check_fps(fps)
    track = read_video_track(path)
    count = _num_frames(track, rate, num_frames, max_seconds)
    frames: NDArray[np.uint8] | None = None
    shown = _frames_at_times(path, track, rate, count, size=(width, height), fit=fit, max_pixels=max_pixels)
    for index, frame in enumerate(_tell_repairs(path, shown)):
        if frames is None:
            check_bytes(track.info.path, count * frame.size)
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
    """Yield the frames of :func:`read_video_on_clock` one by one as they are decoded; only one is held in memory.

    Args and Raises as in :func:`read_video_on_clock`; the file is opened when the first frame is requested. Frames of a
    video slower than ``fps`` are yielded more than once, as the same array: do not write into it.

    Returns:
        Arrays ``[height, width, 3]`` uint8.
    """
    rate = check_fps(fps)
    track = read_video_track(path)
    count = _num_frames(track, rate, num_frames, max_seconds)
    shown = _frames_at_times(Path(path), track, rate, count, size=(width, height), fit=fit, max_pixels=max_pixels)
    yield from _tell_repairs(path, shown)


def _tell_repairs(path: str | Path, parts: Iterator[NDArray[np.uint8] | tuple[str, ...]]) -> Iterator[NDArray[np.uint8]]:
    for part in parts:
        if isinstance(part, tuple):
            tell_repairs(path, part)
        else:
            yield part


def _num_frames(track: VideoTrack, fps: Fraction, num_frames: int | None, max_seconds: float) -> int:
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
            f"{path} lasts {float(track.seconds):.3f} s, {number_of(there, 'frame')} at {float(fps):g} fps; "
            f"{num_frames} were asked for."
        )
    return num_frames


@isolate_parts
def _frames_at_times(
    path: Path,
    track: VideoTrack,
    fps: Fraction,
    count: int,
    *,
    size: tuple[int | None, int | None],
    fit: VideoFit,
    max_pixels: int,
) -> Iterator[NDArray[np.uint8] | tuple[str, ...]]:
    """Yield, for each of ``count`` times of the clock, the last frame that starts at or before it; then what was repaired."""
    index = 0
    start_s = Fraction(0)
    current: _DisplayedFrame | None = None
    converter, repairs = RgbConverter(), Repairs()
    for start_s, frame in _decode_frames(path, track, max_pixels, repairs):
        while current is not None and index < count and frame_time(index, fps) < start_s:
            yield current.to_size(size, fit)
            index += 1
        if index == count:
            break
        if current is None and start_s > 0:
            raise MediaError(f"the first {float(start_s):.3f} s of {track.info.path} cannot be decoded.")
        current = _DisplayedFrame(track.info, frame, converter)
    last_s = max(track.time_s(packet.pts * track.time_base) for packet in track.packets if not packet.is_discard)
    if current is None or (index < count and start_s < last_s):
        raise MediaError(f"{track.info.path} cannot be decoded to its end.", "The file may be damaged.")
    for _ in range(index, count):
        yield current.to_size(size, fit)
    if repairs.undecoded > max(1, limit("undecoded") * len(track.packets)):
        raise MediaError(
            f"{path} is damaged: {repairs.undecoded} of its {len(track.packets)} frames cannot be decoded ({repairs.reason}).",
            "The file may be incomplete.",
        )
    repairs.note_undecoded(repairs.undecoded)
    if converter.has_transparency:
        repairs.note("transparent parts shown on black")
    yield repairs.lines()


def _decode_frames(
    path: Path, track: VideoTrack, max_pixels: int, repairs: Repairs
) -> Iterator[tuple[Fraction, av.VideoFrame]]:
    """Yield every frame with its start in seconds since the start of the video."""
    with open_container(path) as container:
        # sizes and colours are checked here; the length was checked before, by the packets
        video = check_video(media_info(container, path), Limits(float("inf"), max_pixels, 1))
        stream = video_stream(container)
        assert stream is not None, "checked by read_video_track"
        before_s: Fraction | None = None
        for frame in decode_packets(container, stream, decoder_of(stream, max_pixels, path), repairs):
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


class _DisplayedFrame:
    """A decoded frame that is converted and resized on first use only."""

    def __init__(self, info: MediaInfo, frame: av.VideoFrame, converter: RgbConverter) -> None:
        self._info, self._frame, self._converter = info, frame, converter
        self._fitted: NDArray[np.uint8] | None = None

    def to_size(self, size: tuple[int | None, int | None], fit: VideoFit) -> NDArray[np.uint8]:
        """``[height, width, 3]`` uint8."""
        if self._fitted is None:
            upright = self._converter.convert(self._frame)
            check_upright(self._converter, self._info.path)
            rows, columns = upright.shape[:2]
            width, height = columns if size[0] is None else size[0], rows if size[1] is None else size[1]
            self._fitted = _fit_frame(upright, width, height, fit, self._info)
        return self._fitted


def _fit_frame(frame: NDArray[np.uint8], width: int, height: int, fit: VideoFit, info: MediaInfo) -> NDArray[np.uint8]:
    rows, columns = frame.shape[:2]
    if (columns, rows) == (width, height):
        return frame
    if width < 1 or height < 1:
        raise MediaError(f"a video cannot be resized to {width}x{height}.")
    if fit != "exact":
        return fit_image(frame, width, height, fit=fit)
    # another size of the same aspect ratio loses nothing of the frame; rounding may cost half a pixel
    if abs(columns * height - rows * width) > max(width, height) / 2 + 1:
        raise MediaError(
            f"{info.path} is {columns}x{rows}; {width}x{height} has another aspect ratio.", "Use fit=crop, pad or stretch."
        )
    return fit_image(frame, width, height, fit="stretch")
