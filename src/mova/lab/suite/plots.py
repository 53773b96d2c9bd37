"""Plots of sync for a page: boxes, lines and texts, which the page's template draws as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mova.lab.suite.tables import pluralise
from mova.lab.sync.pairing import WINDOWS_MS

DETECTABLE_MS, ACCEPTABLE_MS = WINDOWS_MS["bt1359_detectability"], WINDOWS_MS["bt1359_acceptability"]
_LEFT, _RIGHT = 64.0, 884.0
_HALF_MS, _BIN_MS = 400.0, 10.0
_PLOT, _PANEL, _RUG, _RASTER = 150, 22, 18, 92


@dataclass
class Plot:
    """What is drawn, in this order: boxes, lines, texts. All coordinates are in units of the plot, from its top left.

    Args:
        height: Height of the plot.
        label: What it shows, in words.
        width: Width of the plot.
        boxes: Left, top, width, height and style.
        lines: Both ends and style.
        texts: Place, words and anchor (``"start"``, ``"middle"``, ``"end"``).
    """

    height: float
    label: str = ""
    width: int = 900
    boxes: list[tuple[float, float, float, float, str]] = field(default_factory=list)
    lines: list[tuple[float, float, float, float, str]] = field(default_factory=list)
    texts: list[tuple[float, float, str, str]] = field(default_factory=list)

    def box(self, left: float, top: float, right: float, bottom: float, style: str) -> None:
        """Add a box that is never too narrow to be seen."""
        self.boxes.append((round(left, 1), round(top, 1), round(max(right - left, 0.5), 1), round(bottom - top, 1), style))

    def upright(self, x: float, top: float, bottom: float, style: str) -> None:
        """Add a line from top to bottom."""
        self.lines.append((round(x, 1), top, round(x, 1), bottom, style))

    def text(self, x: float, y: float, words: str, *, anchor: str = "start") -> None:
        """Add words."""
        self.texts.append((round(x, 1), y, words, anchor))


def offset_histogram(clips_ms: Sequence[Sequence[float]]) -> Plot:
    """How far pairs of events are apart, against the two windows of ITU-R BT.1359, and the median of each clip below.

    The median of all pairs is a line only where pairs are: between two groups it would mark what no pair has.

    Args:
        clips_ms: Offsets of each clip, heard less seen of its pairs, positive if the audio is late; those beyond 400 ms are
            drawn at the ends.
    """
    edges = np.arange(-_HALF_MS, _HALF_MS + _BIN_MS, _BIN_MS)
    clips = [own for offsets in clips_ms if (own := [offset for offset in offsets if math.isfinite(offset)])]
    known = [offset for own in clips for offset in own]
    counts, _ = np.histogram(_inside(known), edges)
    top, bottom = _PANEL, _PANEL + _PLOT
    plot = Plot(bottom + _RUG + 42)
    plot.box(_LEFT, top, _RIGHT, bottom, "panel")
    for (low_ms, high_ms), style in ((ACCEPTABLE_MS, "acceptable"), (DETECTABLE_MS, "detectable")):
        plot.box(_offset_x(low_ms), top, _offset_x(high_ms), bottom, style)
    highest = max(int(counts.max()), 1)
    for left_ms, count in zip(edges, counts, strict=False):
        if count:
            height = int(count) / highest * (_PLOT - 8)
            plot.box(_offset_x(left_ms), bottom - height, _offset_x(left_ms + _BIN_MS) - 1.0, bottom, "bar")
    middle = ""
    if known:
        middle_ms = float(np.median(known))
        middle = f"median {middle_ms:+.0f} ms"
        drawn_ms = float(_inside([middle_ms])[0])
        if counts[int((drawn_ms + _HALF_MS) // _BIN_MS)]:
            plot.upright(_offset_x(drawn_ms), top, bottom, "median")
        else:
            middle += ", between groups: no pair is there"
    for one_ms in _inside([float(np.median(own)) for own in clips]):
        plot.upright(_offset_x(one_ms), bottom + 3, bottom + _RUG - 3, "rug")
    for mark_ms in (-300.0, *ACCEPTABLE_MS, *DETECTABLE_MS, 0.0, 300.0):
        plot.text(_offset_x(mark_ms), bottom + _RUG + 14, f"{mark_ms:+.0f}" if mark_ms else "0", anchor="middle")
    plot.text(_LEFT - 8, top + 12, str(highest), anchor="end")
    plot.text(_LEFT - 8, bottom + 13, "clips", anchor="end")
    plot.text(_LEFT, top - 7, "green: nobody notices; brown: acceptable (BT.1359)")
    plot.text(_RIGHT, top - 7, middle, anchor="end")
    plot.text(_LEFT, bottom + _RUG + 33, "audio after picture, ms (+ is late); ticks below the bars: the median of each clip")
    plot.label = ", ".join(part for part in (f"histogram of {pluralise(len(known), 'offset')}", middle) if part)
    return plot


def event_raster(
    seen_s: Sequence[float], heard_s: Sequence[float], pairs_s: Sequence[Sequence[float]], *, seconds: float
) -> Plot:
    """What is seen over what is heard, on one axis of time, with a line for each pair: blue where nobody notices it.

    Args:
        seen_s: Times seen.
        heard_s: Times heard; a lag that the scene means is taken off.
        pairs_s: Times ``(seen, heard)`` of what belongs together.
        seconds: Length of the axis.
    """
    length = max(seconds, 0.1)

    def across(time_s: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * min(max(time_s / length, 0.0), 1.0), 1)

    plot = Plot(_RASTER, f"{pluralise(len(seen_s), 'event')} seen, {len(heard_s)} heard, {pluralise(len(pairs_s), 'pair')}")
    for times_s, style, top in ((seen_s, "seen", 4), (heard_s, "heard", 52)):
        plot.box(_LEFT, top, _RIGHT, top + 26, "panel")
        plot.text(_LEFT - 8, top + 17, style, anchor="end")
        for time_s in times_s:
            plot.upright(across(time_s), top + 2, top + 24, style)
    for seen, heard in pairs_s:
        is_near = DETECTABLE_MS[0] <= 1000.0 * (heard - seen) <= DETECTABLE_MS[1]
        plot.lines.append((across(seen), 30, across(heard), 52, "near" if is_near else "far"))
    step = next((step for step in (0.25, 0.5, 1, 2, 5, 10, 20, 60) if length / step <= 12), 300)
    for index in range(int(length / step) + 1):
        plot.text(across(index * step), 90, f"{index * step:g} s", anchor="middle")
    return plot


def _inside(offsets_ms: Sequence[float]) -> npt.NDArray[np.float64]:
    """Offsets, those beyond the ends of the axis drawn to its ends."""
    return np.clip(np.asarray(offsets_ms, dtype=np.float64), -_HALF_MS + 1.0, _HALF_MS - 1.0)


def _offset_x(offset_ms: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * (offset_ms + _HALF_MS) / (2.0 * _HALF_MS)
