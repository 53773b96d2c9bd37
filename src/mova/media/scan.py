"""When the frames of a video are shown, from its packets alone, and the clock on which they are read."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from mova.errors import MediaError
from mova.media.probe import snap_rate
from mova.media.tolerances import limit

# A timestamp that goes back by more is no B-frame: the clock of the file was reset
_SET_BACK_S = 10.0
LONGEST_DELAY = 4
"""Most empty frames with which an AVI file begins, for the delay of an encoder that reorders frames."""
_RATES = (5, 6, 7.5, 8, 10, 12, 12.5, 15, 16, 18, 20, 24_000 / 1001, 24, 25, 30_000 / 1001, 30, 48, 50, 60_000 / 1001, 60,
          90, 100, 120)  # fmt: skip
_HIGHEST_RATE = 240


@dataclass(frozen=True, eq=False)
class FrameTimes:
    """Times of the frames that are shown.

    Args:
        ticks: ``[N]`` presentation times in order.
        time_base: Length of a tick in seconds.
        last_ticks: Duration that the container states for the last frame; 0 if unstated.
        is_counted: Whether the container counts frames instead of dating them, as AVI and raw streams do: decoded frames
            follow each other at these times.
    """

    ticks: NDArray[np.int64]
    time_base: Fraction
    last_ticks: int
    is_counted: bool

    @property
    def times_s(self) -> NDArray[np.float64]:
        """``[N]`` seconds since the first frame."""
        times: NDArray[np.float64] = (self.ticks - self.ticks[0]) * float(self.time_base)
        return times


@dataclass(frozen=True, eq=False)
class FrameClock:
    """A constant frame rate for a video.

    Args:
        fps: Frames per second.
        slots: ``[N]`` number of the tick nearest to each frame; 0, 1, 2, ... at a constant rate.
    """

    fps: Fraction
    slots: NDArray[np.int64]


def scan_times(container: InputContainer, stream: VideoStream, path: Path) -> FrameTimes:
    """Read the times of all packets of a video stream; nothing is decoded.

    Raises:
        MediaError: If no frame is shown, or the clock of the file is set back.
    """
    assert stream.time_base is not None, "an open stream has a time base"
    dated: list[tuple[int, int]] = []
    count, latest = 0, None
    is_avi = container.format.name == "avi"
    for packet in container.demux(stream):
        if not packet.size or packet.is_discard:
            continue
        if packet.is_corrupt and "mp4" in container.format.name:
            raise MediaError(f"{path} is truncated or damaged at frame {count}.", "The download may be incomplete.")
        count += 1
        tick = packet.dts if is_avi and packet.dts is not None else packet.pts
        if tick is None:
            continue
        if latest is not None and (latest - tick) * float(stream.time_base) > _SET_BACK_S:
            raise MediaError(
                f"the clock of {path} goes back by {float((latest - tick) * stream.time_base):.1f} s at frame {count}.",
                "It may be several recordings in one: cut them apart, or encode it again.",
            )
        latest = tick if latest is None else max(latest, tick)
        dated.append((tick, packet.duration or 0))
    if not count:
        raise MediaError(f"{path} has no frame that is shown.")
    if len(dated) < count:
        # raw streams state no times at all: their frames follow each other
        rate = _rate_of(stream) or Fraction(25)
        return FrameTimes(np.arange(count), 1 / rate, 1, is_counted=True)
    dated.sort()
    ticks = np.array([tick for tick, _ in dated], np.int64)
    if is_avi and len(ticks) > 1 and 0 < (delay := int(ticks[1] - ticks[0]) - 1) <= LONGEST_DELAY:
        # encoders that reorder frames fill the time of their delay with empty ones
        ticks[1:] -= delay
    # of frames that share a time the order is not known by it; decoders give frames in the order in which they are shown
    are_shared = bool((np.diff(ticks) == 0).any())
    return FrameTimes(ticks, stream.time_base, dated[-1][1], is_counted=is_avi or are_shared)


def choose_clock(times: FrameTimes, header_fps: Fraction | None, stream: VideoStream) -> FrameClock:
    """Choose the constant frame rate that the times of a video fit best.

    The stated rate is taken if each frame is within half a frame of its place. Of a video with a variable rate, the first
    rate is taken of those that it states, and of the usual ones from slow to fast, on whose ticks nearly all frames lie; and
    if there is none, the usual rate nearest to the median of the intervals.
    """
    seconds = times.times_s
    index = np.arange(len(seconds))
    stated = [rate for rate in (header_fps, _rate_of(stream)) if rate is not None and 0 < rate <= _HIGHEST_RATE]
    if header_fps is not None and (np.abs(seconds * float(header_fps) - index) < 0.5).all():
        return FrameClock(header_fps, index)
    if len(seconds) == 1:
        length_s = times.last_ticks * float(times.time_base)
        return FrameClock(stated[0] if stated else snap_rate(Fraction(1 / length_s)) if length_s else Fraction(25), index)
    for rate in (*stated, *(snap_rate(Fraction(rate)) for rate in _RATES)):
        places = seconds * float(rate)
        slots = np.rint(places).astype(np.int64)
        if (np.diff(slots) == 0).mean() <= limit("crowded") and np.quantile(np.abs(places - slots), 0.95) <= limit("off_tick"):
            return FrameClock(rate, slots)
    usual = 1.0 / max(float(np.median(np.diff(seconds))), 1.0 / _RATES[-1])
    rate = snap_rate(Fraction(min(_RATES, key=lambda one: abs(np.log(one / usual)))))
    slots = np.rint(seconds * float(rate)).astype(np.int64)
    for later in range(1, len(slots)):
        # of two frames at one tick the later takes the next: a late frame is followed by a hole
        slots[later] = min(max(slots[later], slots[later - 1] + 1), slots[later] + 1)
    return FrameClock(rate, slots)


def _rate_of(stream: VideoStream) -> Fraction | None:
    guessed = stream.guessed_rate or stream.average_rate
    return snap_rate(guessed) if guessed else None
