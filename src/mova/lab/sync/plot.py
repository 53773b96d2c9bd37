"""The sync of a video as one picture: what is seen over what is heard, the pairs between them, and their offsets.

Pillow and numpy only, as the sheets of clips are.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from mova.lab.sync.measure import Read
from mova.lab.sync.result import ACCEPTABLE_MS, DETECTABLE_MS, VideoSync
from mova.media.lettering import default_font, draw_line, shorten

Floats = npt.NDArray[np.float64]

WIDTH, HEIGHT = 1200, 560
_LEFT, _RIGHT = 72, 1180
_SEEN, _HEARD = (64, 170), (200, 306)  # top and bottom of each row
_COUNTS = (384, 510)
_PAPER, _PANEL, _INK, _FAINT = (17, 19, 24), (25, 28, 35), (226, 229, 235), (132, 138, 150)
_PICTURE, _AUDIO, _PAIR = (126, 196, 132), (64, 132, 190), (255, 184, 76)
_DETECTABLE, _ACCEPTABLE = (38, 66, 52), (66, 58, 34)
_HISTOGRAM_MS, _BIN_MS = 400.0, 10.0


def sync_plot(sync: VideoSync, video: Read, *, title: str = "") -> Image.Image:
    """Draw a measurement.

    Above: how much happens in the picture, then the loudness of the audio, both over time, with a tick for every event and a
    line for every pair. Below: how far the pairs are apart, against the two windows of ITU-R BT.1359.

    Args:
        sync: The measurement.
        video: Video that was measured.
        title: Name of the video.

    Returns:
        An RGB image of 1200 x 560 pixels.
    """
    image = Image.new("RGB", (WIDTH, HEIGHT), _PAPER)
    draw = ImageDraw.Draw(image)
    draw_line(draw, (_LEFT, 14), shorten(f"{title}  {sync.verdict}", 17, _RIGHT - _LEFT), _INK, 17)
    draw.text((_LEFT, 38), sync.why, _FAINT, _small())
    _draw_row(draw, _SEEN, "seen", _activity(sync, video), _PICTURE, sync.seen_s, sync.seconds)
    _draw_row(draw, _HEARD, "heard", _loudness(video, sync.seconds), _AUDIO, sync.heard_s, sync.seconds)
    for seen_s, heard_s in sync.pairs:
        draw.line((_x(seen_s, sync.seconds), _SEEN[1], _x(heard_s, sync.seconds), _HEARD[0]), _PAIR)
    _draw_seconds(draw, sync.seconds)
    _draw_offsets(draw, sync)
    return image


def _small() -> ImageFont.FreeTypeFont:
    return default_font(13)


def _x(time_s: float, seconds: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * time_s / seconds


def _activity(sync: VideoSync, video: Read) -> Floats:
    """``[T]`` in 0..1; of a scene, whose detectors leave none, how much each frame differs from the one before."""
    if sync.activity:
        return np.asarray(np.clip(np.array(sync.activity, dtype=np.float64), 0.0, 1.0))
    change = np.array([0.0, *(np.abs(two.astype(np.int16) - one).mean() for one, two in pairwise(video.frames))])
    scaled: Floats = change / max(float(change.max()), 1e-9)
    return scaled


def _loudness(video: Read, seconds: float) -> Floats:
    """Level of the audio at every pixel of the axis, 60 dB down to 0."""
    columns = _RIGHT - _LEFT
    power = np.square(video.waveform.astype(np.float64)).mean(axis=0) if video.waveform.size else np.zeros(0)
    edges = np.round(np.linspace(0.0, seconds, columns + 1) * video.sample_rate).astype(np.int64)
    total = np.concatenate(([0.0], np.cumsum(power)))
    inside = np.clip(edges, 0, power.size)
    mean = np.diff(total[inside]) / np.maximum(np.diff(inside), 1)
    decibels = 10.0 * np.log10(mean / max(float(mean.max(initial=0.0)), 1e-12) + 1e-6)
    return np.clip(decibels / 60.0 + 1.0, 0.0, 1.0) if mean.max(initial=0.0) > 0.0 else np.zeros(columns)


def _draw_row(
    draw: ImageDraw.ImageDraw,
    row: tuple[int, int],
    label: str,
    trace: Floats,
    colour: tuple[int, int, int],
    times_s: tuple[float, ...],
    seconds: float,
) -> None:
    top, bottom = row
    draw.rectangle((_LEFT, top, _RIGHT, bottom), _PANEL)
    draw.text((14, (top + bottom) // 2 - 8), label, _FAINT, _small())
    step = (_RIGHT - _LEFT) / max(trace.size, 1)
    for index, value in enumerate(trace):
        left = _LEFT + index * step
        draw.rectangle((left, bottom - value * (bottom - top - 8), max(left, left + step - 1.0), bottom), colour)
    for time_s in times_s:
        x = _x(time_s, seconds)
        draw.line((x, top, x, bottom), _INK)


def _draw_seconds(draw: ImageDraw.ImageDraw, seconds: float) -> None:
    step = next(step for step in (0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 1000) if seconds / step <= 12)
    for index in range(int(seconds / step) + 1):
        draw.text((_x(index * step, seconds), _HEARD[1] + 4), f"{index * step:g} s", _FAINT, _small())


def _draw_offsets(draw: ImageDraw.ImageDraw, sync: VideoSync) -> None:
    """The histogram of heard - seen; pairs beyond its ends are counted at the ends."""
    top, bottom = _COUNTS

    def place(offset_ms: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * (offset_ms + _HISTOGRAM_MS) / (2.0 * _HISTOGRAM_MS)

    draw.rectangle((_LEFT, top, _RIGHT, bottom), _PANEL)
    for (low, high), colour in ((ACCEPTABLE_MS, _ACCEPTABLE), (DETECTABLE_MS, _DETECTABLE)):
        draw.rectangle((place(low), top, place(high), bottom), colour)
    offsets = np.array([1000.0 * (heard - seen) for seen, heard in sync.pairs])
    edges = np.arange(-_HISTOGRAM_MS, _HISTOGRAM_MS + _BIN_MS, _BIN_MS)
    counts, _ = np.histogram(np.clip(offsets, -_HISTOGRAM_MS + 1.0, _HISTOGRAM_MS - 1.0), edges)
    for left, count in zip(edges, counts, strict=False):
        if count:
            height = count / counts.max() * (bottom - top - 8)
            draw.rectangle((place(left), bottom - height, place(left + _BIN_MS) - 1.0, bottom), _PAIR)
    if sync.offset_ms is not None:
        draw.line((place(sync.offset_ms), top, place(sync.offset_ms), bottom), _INK, 2)
    draw.text((14, (top + bottom) // 2 - 8), f"{len(offsets)} {'pair' if len(offsets) == 1 else 'pairs'}", _FAINT, _small())
    for mark in (-300, *(int(one) for one in ACCEPTABLE_MS), *(int(one) for one in DETECTABLE_MS), 0, 300):
        draw.text((place(mark) - 12, bottom + 4), f"{mark:+d}", _FAINT, _small())
    draw.text((_LEFT, bottom + 24), "heard - seen in milliseconds: + is late", _FAINT, _small())
    draw.text((_LEFT, top - 20), "bands of ITU-R BT.1359: in step (green), noticeable (brown)", _FAINT, _small())
