"""Rows of tuned guidance as one picture: sync against adherence, with a number at every point and what it stands for beside.

Pillow only, as the sheets of clips are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from mova.lab.documents import put
from mova.lab.tuning import Measured, Row, frontier
from mova.media.lettering import default_font, draw_line, shorten

WIDTH, PLOT_WIDTH, LINE_HEIGHT = 1200, 640, 20
_LEFT, _TOP, _LEAST_HEIGHT = 72, 74, 440
_PAPER, _PANEL, _INK, _FAINT = (17, 19, 24), (25, 28, 35), (226, 229, 235), (132, 138, 150)
_GRID, _POINT, _BEST, _BAR = (46, 50, 60), (64, 132, 190), (255, 184, 76), (66, 74, 90)
_NEAR_PX = 12


def draw_rows(path: Path, rows: Sequence[Row], *, title: str) -> None:
    """Draw sync against adherence as a .png, with 95 % intervals; the line joins the rows that no other beats.

    Raises:
        MediaError: If it cannot be written.
    """
    image = rows_image(rows, title=title)
    put(path, lambda beside: image.save(beside, format="png"))


def rows_image(rows: Sequence[Row], *, title: str) -> Image.Image:
    """The picture of :func:`draw_rows`.

    Args:
        rows: Rows to draw; those of which sync or adherence could not be measured are only listed.
        title: First line.

    Returns:
        An RGB image 1200 pixels wide.
    """
    height = _TOP + max(_LEAST_HEIGHT, (len(rows) + 1) * LINE_HEIGHT) + 60
    image = Image.new("RGB", (WIDTH, height), _PAPER)
    draw = ImageDraw.Draw(image)
    draw_line(draw, (_LEFT, 16), shorten(title, 17, WIDTH - 2 * _LEFT), _INK, 17)
    draw_line(draw, (_LEFT, 42), "bars: 95 % over clips; orange: beaten by none", _FAINT, 13)
    best = frontier([row for row in rows if _is_drawn(row)])
    axes = _Axes([row for row in rows if _is_drawn(row)], _TOP + _LEAST_HEIGHT)
    axes.draw(draw)
    draw.line([axes.point(row) for row in best], _BEST, 2)
    for row in rows:
        if _is_drawn(row):
            axes.draw_bars(draw, row)
    for row in rows:
        if _is_drawn(row):
            x, y = axes.point(row)
            draw.ellipse((x - 5, y - 5, x + 5, y + 5), _BEST if row in best else _POINT)
    for (x, y), numbers in _labels([(axes.point(row), number) for number, row in enumerate(rows, 1) if _is_drawn(row)]):
        text = ", ".join(map(str, numbers))
        at_end = x > _LEFT + PLOT_WIDTH - 12 - default_font(13).getlength(text)
        draw.text((x - 8 if at_end else x + 8, y - 8), text, _INK, default_font(13), anchor="rs" if at_end else "ls")
    _draw_list(draw, rows, best)
    return image


class _Axes:
    """Where a value of sync and one of adherence are on the picture; shares are never above 1."""

    def __init__(self, rows: Sequence[Row], bottom: int) -> None:
        self.bottom = bottom
        self.sync_from = _beginning([row.columns["f1_80"] for row in rows])
        self.asked_from = _beginning([row.columns["asked"] for row in rows])

    def x(self, share: float) -> float:
        return _LEFT + PLOT_WIDTH * (min(share, 1.0) - self.sync_from) / (1.0 - self.sync_from)

    def y(self, share: float) -> float:
        return self.bottom - (self.bottom - _TOP) * (min(share, 1.0) - self.asked_from) / (1.0 - self.asked_from)

    def point(self, row: Row) -> tuple[float, float]:
        return self.x(row.columns["f1_80"].value), self.y(row.columns["asked"].value)

    def draw(self, draw: ImageDraw.ImageDraw) -> None:
        small = default_font(12)
        draw.rectangle((_LEFT, _TOP, _LEFT + PLOT_WIDTH, self.bottom), _PANEL)
        for share in _ticks(self.sync_from):
            draw.line((self.x(share), _TOP, self.x(share), self.bottom), _GRID)
            draw.text((self.x(share), self.bottom + 6), f"{share:g}", _FAINT, small, anchor="ma")
        for share in _ticks(self.asked_from):
            draw.line((_LEFT, self.y(share), _LEFT + PLOT_WIDTH, self.y(share)), _GRID)
            draw.text((_LEFT - 8, self.y(share)), f"{share:g}", _FAINT, small, anchor="rm")
        draw.text((_LEFT, self.bottom + 28), "right: sync, F1 of events seen and heard within 80 ms", _FAINT, default_font(13))
        draw.text((_LEFT + PLOT_WIDTH, self.bottom + 28), "up: share of what was asked", _FAINT, default_font(13), anchor="ra")

    def draw_bars(self, draw: ImageDraw.ImageDraw, row: Row) -> None:
        (x, y), sync, asked = self.point(row), row.columns["f1_80"], row.columns["asked"]
        if math.isfinite(sync.low + sync.high):
            draw.line((self.x(sync.low), y, self.x(sync.high), y), _BAR, 2)
        if math.isfinite(asked.low + asked.high):
            draw.line((x, self.y(asked.low), x, self.y(asked.high)), _BAR, 2)


def _is_drawn(row: Row) -> bool:
    return math.isfinite(row.columns["f1_80"].value + row.columns["asked"].value)


def _beginning(columns: Sequence[Measured]) -> float:
    """The tenth below all values and the ends of their intervals."""
    low = min((end for one in columns for end in (one.value, one.low) if math.isfinite(end)), default=0.0)
    return max(0.0, min(0.9, math.floor(low * 10.0) / 10.0))


def _ticks(begin: float) -> list[float]:
    step = 0.1 if begin < 0.6 else 0.05 if begin < 0.8 else 0.02
    return [round(begin + index * step, 3) for index in range(int((1.0 - begin) / step + 1e-6) + 1)]


def _labels(points: Sequence[tuple[tuple[float, float], int]]) -> list[tuple[tuple[float, float], list[int]]]:
    """One label for points that are so near to each other that their own would be printed one over the other."""
    labels: list[tuple[tuple[float, float], list[int]]] = []
    for (x, y), number in points:
        near = next((numbers for (a, b), numbers in labels if abs(a - x) < 2.5 * _NEAR_PX and abs(b - y) < _NEAR_PX), None)
        if near is None:
            labels.append(((x, y), [number]))
        else:
            near.append(number)
    return labels


def _draw_list(draw: ImageDraw.ImageDraw, rows: Sequence[Row], best: Sequence[Row]) -> None:
    left, font = _LEFT + PLOT_WIDTH + 40, default_font(13)
    for x, heading in ((left + 30, "setting"), (WIDTH - 110, "sync"), (WIDTH - 40, "asked")):
        draw.text((x, _TOP), heading, _FAINT, font, anchor="la" if heading == "setting" else "ra")
    for number, row in enumerate(rows, 1):
        top, colour = _TOP + number * LINE_HEIGHT, _BEST if row in best else _INK
        draw.text((left + 20, top), str(number), colour, font, anchor="ra")
        draw.text((left + 30, top), str(row.setting), colour, font)
        for x, column in ((WIDTH - 110, "f1_80"), (WIDTH - 40, "asked")):
            value = row.columns[column].value
            draw.text((x, top), f"{value:.2f}" if math.isfinite(value) else "-", colour, font, anchor="ra")
