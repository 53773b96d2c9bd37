"""Plots of sync as SVG, to stand inside a page: no files, no scripts, no text but numbers and our own words."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mova.lab.suite.words import counted
from mova.lab.sync.summary import WINDOWS_MS

DETECTABLE_MS, ACCEPTABLE_MS = WINDOWS_MS["bt1359_detectability"], WINDOWS_MS["bt1359_acceptability"]
WIDTH = 900
_LEFT, _RIGHT = 64.0, 884.0
_HALF_MS, _BIN_MS = 400.0, 10.0
_PLOT, _PANEL, _RUG, _RASTER = 150, 22, 18, 92


def offset_histogram(clips_ms: Sequence[Sequence[float]]) -> str:
    """How far pairs of events are apart, against the two windows of ITU-R BT.1359, and the median of each clip below.

    The median of all pairs is a line only where pairs are: between two groups it would mark what no pair has, so it is told.

    Args:
        clips_ms: Of each clip, heard less seen of its pairs, positive if the audio is late; what lies beyond 400 ms is drawn
            at the ends.
    """
    edges = np.arange(-_HALF_MS, _HALF_MS + _BIN_MS, _BIN_MS)
    clips = [own for offsets in clips_ms if (own := [offset for offset in offsets if math.isfinite(offset)])]
    known = [offset for own in clips for offset in own]
    counts, _ = np.histogram(_inside(known), edges)
    top, bottom = _PANEL, _PANEL + _PLOT
    parts = [_box(_LEFT, top, _RIGHT, bottom, "panel")]
    for (low_ms, high_ms), style in ((ACCEPTABLE_MS, "acceptable"), (DETECTABLE_MS, "detectable")):
        parts.append(_box(_offset_x(low_ms), top, _offset_x(high_ms), bottom, style))
    highest = max(int(counts.max()), 1)
    for left_ms, count in zip(edges, counts, strict=False):
        if count:
            height = int(count) / highest * (_PLOT - 8)
            parts.append(_box(_offset_x(left_ms), bottom - height, _offset_x(left_ms + _BIN_MS) - 1.0, bottom, "bar"))
    told = ""
    if known:
        middle_ms = float(np.median(known))
        told = f"median {middle_ms:+.0f} ms"
        drawn_ms = float(_inside([middle_ms])[0])
        if counts[int((drawn_ms + _HALF_MS) // _BIN_MS)]:
            parts.append(_line(_offset_x(drawn_ms), top, _offset_x(drawn_ms), bottom, "median"))
        else:
            told += ", between groups: no pair is there"
    for one_ms in _inside([float(np.median(own)) for own in clips]):
        parts.append(_line(_offset_x(one_ms), bottom + 3, _offset_x(one_ms), bottom + _RUG - 3, "rug"))
    for mark_ms in (-300.0, *ACCEPTABLE_MS, *DETECTABLE_MS, 0.0, 300.0):
        parts.append(_text(_offset_x(mark_ms), bottom + _RUG + 14, f"{mark_ms:+.0f}" if mark_ms else "0", anchor="middle"))
    parts.append(_text(_LEFT - 8, top + 12, str(highest), anchor="end"))
    parts.append(_text(_LEFT - 8, bottom + 13, "clips", anchor="end"))
    parts.append(_text(_LEFT, top - 7, "green: nobody notices; brown: acceptable (BT.1359)"))
    parts.append(_text(_RIGHT, top - 7, told, anchor="end"))
    parts.append(
        _text(_LEFT, bottom + _RUG + 33, "audio after picture, ms (+ is late); ticks below the bars: the median of each clip")
    )
    words = ", ".join(part for part in (f"histogram of {counted(len(known), 'offset')}", told) if part)
    return _svg("".join(parts), bottom + _RUG + 42, label=words)


def event_raster(
    seen_s: Sequence[float], heard_s: Sequence[float], pairs_s: Sequence[Sequence[float]], *, seconds: float
) -> str:
    """What is seen over what is heard, on one axis of time, with a line for each pair: blue where nobody notices it.

    Args:
        seen_s: Times seen.
        heard_s: Times heard; a lag that the scene means is taken off.
        pairs_s: Times ``(seen, heard)`` of what belongs together.
        seconds: Length of the axis.
    """
    length = max(seconds, 0.1)

    def across(time_s: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * min(max(time_s / length, 0.0), 1.0)

    parts = [_box(_LEFT, 4, _RIGHT, 30, "panel"), _box(_LEFT, 52, _RIGHT, 78, "panel")]
    parts += [_text(_LEFT - 8, 21, "seen", anchor="end"), _text(_LEFT - 8, 69, "heard", anchor="end")]
    for seen, heard in pairs_s:
        is_near = DETECTABLE_MS[0] <= 1000.0 * (heard - seen) <= DETECTABLE_MS[1]
        parts.append(_line(across(seen), 30, across(heard), 52, "near" if is_near else "far"))
    parts += [_line(across(time_s), 6, across(time_s), 28, "seen") for time_s in seen_s]
    parts += [_line(across(time_s), 54, across(time_s), 76, "heard") for time_s in heard_s]
    step = next((step for step in (0.25, 0.5, 1, 2, 5, 10, 20, 60) if length / step <= 12), 300)
    parts += [
        _text(across(index * step), 90, f"{index * step:g} s", anchor="middle") for index in range(int(length / step) + 1)
    ]
    return _svg(
        "".join(parts),
        _RASTER,
        label=f"{counted(len(seen_s), 'event')} seen, {len(heard_s)} heard, {counted(len(pairs_s), 'pair')}",
    )


def _inside(offsets_ms: Sequence[float]) -> npt.NDArray[np.float64]:
    """Offsets, those beyond the ends of the axis drawn to its ends."""
    return np.clip(np.asarray(offsets_ms, dtype=np.float64), -_HALF_MS + 1.0, _HALF_MS - 1.0)


def _offset_x(offset_ms: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * (offset_ms + _HALF_MS) / (2.0 * _HALF_MS)


def _svg(inside: str, height: float, *, label: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{label}">{inside}</svg>'


def _box(left: float, top: float, right: float, bottom: float, style: str) -> str:
    size = f'width="{max(right - left, 0.5):.1f}" height="{bottom - top:.1f}"'
    return f'<rect x="{left:.1f}" y="{top:.1f}" {size} class="{style}"/>'


def _line(left: float, top: float, right: float, bottom: float, style: str) -> str:
    return f'<line x1="{left:.1f}" y1="{top:.1f}" x2="{right:.1f}" y2="{bottom:.1f}" class="{style}"/>'


def _text(x: float, y: float, words: str, *, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'
