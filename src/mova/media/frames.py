"""Decode the frames of a video one by one, on a clock of constant rate: the heart of every reader of videos."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, repeat
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.codec.codec import UnknownCodecError
from av.codec.context import CodecContext
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from mova.errors import MediaError, number_of
from mova.media.pixels import RgbConverter
from mova.media.probe import MediaInfo, VideoInfo, media_info, open_container, reason, video_stream
from mova.media.scan import LONGEST_DELAY, choose_clock, scan_times
from mova.media.tolerances import Purpose, Repairs, limit
from mova.media.worker import isolate_parts

# Stored sizes may be rounded up to whole blocks inside a decoder, so its own guard is looser than ours
_DECODER_PIXEL_SLACK = 2
_WIDEST_ODD_PIXEL = Fraction(1, 100)
_LONGEST_LAST_FRAME_S = 10
# Frames with a shorter side of twice this or more are read at a half, a third, ... of their size where they are measured
_MEASURED_SIDE = 480
# FFmpeg's own decoders of these leave the transparency out
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


@dataclass(frozen=True)
class Limits:
    """Limits of a reader.

    Args:
        max_seconds: Longest video or audio accepted, in seconds.
        max_pixels: Largest frame accepted, in pixels.
        num_frames: Number of frames to read; None for all.
        purpose: What is read for: see :data:`mova.media.tolerances.Purpose`.
    """

    max_seconds: float
    max_pixels: int
    num_frames: int | None = None
    purpose: Purpose = "use"

    def __post_init__(self) -> None:
        if self.num_frames is not None and self.num_frames < 1:
            raise MediaError(f"num_frames must be at least 1; got {self.num_frames}.")


class VideoHead(NamedTuple):
    """What is known of a video when its first frame is decoded.

    Args:
        fps: Frames per second.
        start_s: Time of the first frame in the file, in seconds.
        num_frames: Number of frames that follow.
    """

    fps: Fraction
    start_s: Fraction
    num_frames: int


def check_video(info: MediaInfo, limits: Limits, repairs: Repairs | None = None) -> VideoInfo:
    """Check a file's video stream against the limits, by its header, and return it.

    Raises:
        MediaError: If the file has no video stream, exceeds a limit, or would be shown wrong in a clip.
    """
    video, path = info.video, info.path
    if video is None:
        raise MediaError(f"{path} has no video stream.", "Read the audio alone with read_waveform.")
    if video.width * video.height > limits.max_pixels:
        raise MediaError(
            f"{path} is {video.width}x{video.height}; frames of at most {limits.max_pixels} pixels are read.",
            "Scale the video down first, or raise max_pixels.",
        )
    if video.width < 1 or video.height < 1:
        raise MediaError(f"{path} does not state its frame size.")
    is_measured = limits.purpose == "measure"
    notes = repairs or Repairs()
    if video.hdr is not None:
        if not is_measured:
            raise MediaError(
                f"{path} is a high dynamic range video ({video.hdr}); its colours would be wrong.",
                "Convert it to SDR (BT.709) first.",
            )
        notes.note(f"high dynamic range ({video.hdr}) read without a conversion of its colours")
    if abs(video.pixel_aspect - 1) > _WIDEST_ODD_PIXEL:
        if not is_measured:
            raise MediaError(
                f"{path} has pixels that are not square ({video.pixel_aspect}); it would be distorted.",
                "Scale it to square pixels first.",
            )
        notes.note(f"pixels of {video.pixel_aspect} read as square")
    if limits.num_frames is None:
        check_seconds(info, video.duration_s or info.duration_s, limits)
    return video


def check_seconds(info: MediaInfo, seconds: Fraction | None, limits: Limits) -> None:
    """Refuse what is longer than the limit.

    Raises:
        MediaError: If it is.
    """
    if seconds is not None and seconds > limits.max_seconds:
        raise MediaError(
            f"{info.path} is {float(seconds):.2f} s long; at most {limits.max_seconds:g} s are read.",
            "Cut it first, or raise max_seconds.",
        )


@isolate_parts
def decode_frames(path: Path, limits: Limits) -> Iterator[VideoHead | NDArray[np.uint8] | tuple[str, ...] | None]:
    """Decode a video.

    Args:
        path: The file.
        limits: Limits to keep.

    Yields:
        First the :class:`VideoHead`; then as many frames as it says, ``[H, W, 3]`` uint8, or None for the frame before once
        more; last what was repaired, one line each.

    Raises:
        MediaError: If the file cannot be read, exceeds a limit, or is damaged or truncated.
    """
    reader = _FrameReader(path, limits)
    with open_container(path) as container:
        placed = reader.place_frames(container)
        first, frame = next(placed)
        head = reader.head(first, frame)
        yield head
        for shown, count in _runs(chain([(0, frame)], ((slot - first, later) for slot, later in placed)), head.num_frames):
            yield reader.convert(shown)
            yield from repeat(None, count - 1)
    yield reader.list_repairs()


def _runs(placed: Iterable[tuple[int, av.VideoFrame]], num_frames: int) -> Iterator[tuple[av.VideoFrame, int]]:
    """Yield each frame with the number of ticks for which it is shown; of several at one tick, the last."""
    waiting, place = None, 0
    for slot, frame in placed:
        if waiting is not None and slot > place:
            yield waiting, min(slot, num_frames) - place
        waiting, place = frame, max(slot, place)
        if place >= num_frames:
            return
    if waiting is not None:
        yield waiting, num_frames - place


class _FrameReader:
    """One video: its clock, read from the packets, and what is repaired of it."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path, self.limits, self.repairs, self.converter = path, limits, Repairs(), RgbConverter()
        with open_container(path) as container:
            self.info, stream = media_info(container, path), video_stream(container)
            self.video = check_video(self.info, limits, self.repairs)
            assert stream is not None, "checked by check_video"
            self.times = scan_times(container, stream, path)
            self.clock = choose_clock(self.times, self.video.fps, stream)
        self.is_constant = bool((self.clock.slots == np.arange(len(self.clock.slots))).all())
        self.total = self._num_slots()
        if limits.num_frames is None:
            check_seconds(self.info, self.total / self.clock.fps, limits)
            self._check_whole()
        self.size = (self.video.width, self.video.height)

    def place_frames(self, container: InputContainer) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield every frame that can be decoded with the number of its tick."""
        stream = video_stream(container)
        assert stream is not None, "checked by check_video"
        last, count, first = 0, 0, 0
        for frame in decode_packets(container, stream, decoder_of(stream, self.limits.max_pixels, self.path), self.repairs):
            self._check_size(frame, last)
            last = self._slot(frame, count, last)
            if count == 0:
                first = int(np.searchsorted(self.clock.slots, last))
            count += 1
            yield last, frame
        if not count:
            raise self._undecoded("contains no frame that can be decoded")
        missing = len(self.times.ticks) - first - count
        if missing > max(1, limit("undecoded") * len(self.times.ticks)):
            raise self._undecoded(f"is damaged: {missing} of its {len(self.times.ticks)} frames cannot be decoded")
        self.repairs.note_undecoded(missing)

    def head(self, first: int, frame: av.VideoFrame) -> VideoHead:
        """Return what is known when the first frame is decoded."""
        there, wanted = self.total - first, self.limits.num_frames
        if wanted is not None and there < wanted:
            raise MediaError(f"{self.path} has {number_of(there, 'frame')}; {wanted} were requested.")
        if first:
            late_s = float(first / self.clock.fps)
            self.repairs.note(f"the first {late_s:.2f} s of the video left out: their frames need earlier ones")
        if self.limits.purpose == "measure":
            factor = max(1, min(frame.width, frame.height) // _MEASURED_SIDE)
            self.size = (frame.width // factor, frame.height // factor)
        start_tick = int(self.times.ticks[int(np.searchsorted(self.clock.slots, first))])
        return VideoHead(self.clock.fps, start_tick * self.times.time_base, wanted or there)

    def convert(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """Return a frame as ``[H, W, 3]`` uint8."""
        array = self.converter.convert(frame, self.size)
        if self.limits.purpose == "use":
            check_upright(self.converter, self.path)
        return array

    def list_repairs(self) -> tuple[str, ...]:
        """Return what was repaired, one line each."""
        if not self.is_constant:
            rate = float(self.clock.fps)
            self.repairs.note(f"variable frame rate: {len(self.times.ticks)} frames on a clock of {rate:g} per second")
        if self.converter.has_transparency:
            self.repairs.note("transparent parts shown on black")
        if self.converter.is_crooked:
            self.repairs.note("a turn by an angle that is no quarter turn left out")
        return self.repairs.lines()

    def _slot(self, frame: av.VideoFrame, count: int, last: int) -> int:
        slots, ticks = self.clock.slots, self.times.ticks
        if self.times.is_counted:
            return int(slots[min(count, len(slots) - 1)])
        if frame.pts is None:
            return last + 1 if count else 0
        nearest = min(int(np.searchsorted(ticks, frame.pts)), len(ticks) - 1)
        if ticks[nearest] == frame.pts:
            return int(slots[nearest])
        return max(0, round((frame.pts - int(ticks[0])) * self.times.time_base * self.clock.fps))

    def _num_slots(self) -> int:
        """Return the number of ticks until the last frame ends."""
        if self.is_constant:
            return len(self.clock.slots)
        last_s = min(self.times.last_ticks * self.times.time_base, Fraction(_LONGEST_LAST_FRAME_S))
        return int(self.clock.slots[-1]) + max(1, round(last_s * self.clock.fps))

    def _check_whole(self) -> None:
        stated, slack = self.video.duration_s, Fraction(3, 2) + (LONGEST_DELAY if self.times.is_counted else 0)
        if stated is not None and self.total > 1 and stated * self.clock.fps > self.total + slack:
            raise MediaError(
                f"{self.path} is truncated: it has {self.total} of {round(stated * self.clock.fps)} frames.",
                "The download or the recording may be incomplete.",
            )

    def _check_size(self, frame: av.VideoFrame, place: int) -> None:
        if (frame.width, frame.height) == (self.video.width, self.video.height):
            return
        if self.limits.purpose == "use":
            raise MediaError(
                f"{self.path} changes its size from {self.video.width}x{self.video.height} to "
                f"{frame.width}x{frame.height} at frame {place}."
            )
        self.repairs.note(f"a change of size to {frame.width}x{frame.height} scaled back")

    def _undecoded(self, what: str) -> MediaError:
        why = "" if self.repairs.reason is None else f" ({self.repairs.reason})"
        return MediaError(f"{self.path} {what}{why}.", "The file may be damaged.")


def check_upright(converter: RgbConverter, path: Path) -> None:
    """Refuse a video that a player would show turned by an angle that is no quarter turn."""
    if converter.is_crooked:
        raise MediaError(f"{path} is to be shown turned by an angle that is no quarter turn.", "Turn its frames upright first.")


def decode_packets(container: InputContainer, stream: Any, decoder: Any, repairs: Repairs) -> Iterator[Any]:
    """Yield the decoded frames of a stream; packets that cannot be decoded are passed over, as players do, and counted."""
    for packet in container.demux(stream):
        try:
            frames = decoder.decode(packet)
        except (av.error.MemoryError, av.error.ExitError):
            raise
        except av.error.FFmpegError as error:
            if packet.size:
                repairs.undecoded += 1
                repairs.reason = repairs.reason or reason(error)
            continue
        yield from frames


def decoder_of(stream: VideoStream, max_pixels: int, path: Path) -> Any:
    """Return the decoder of a stream; one that keeps transparency where FFmpeg's own does not."""
    context: Any = stream.codec_context
    has_alpha = any(name.lower() == "alpha_mode" and value == "1" for name, value in stream.metadata.items())
    if has_alpha and context.name in _ALPHA_DECODERS:
        try:
            context = CodecContext.create(_ALPHA_DECODERS[context.name], "r")
        except UnknownCodecError:
            raise MediaError(
                f"{path} has transparent parts, which this build of PyAV does not decode.", "Flatten it first."
            ) from None
    context.options = {"max_pixels": str(max_pixels * _DECODER_PIXEL_SLACK)}
    return context
