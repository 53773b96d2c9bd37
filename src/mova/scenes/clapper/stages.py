"""Pictures that only the measuring suite has: a lamp, a moving lamp, two pucks on a rail, and a block that is dragged.

The dragged block's noise is here, too: at every instant it is as loud as the block is fast.

All lengths are in lengths of the short side around the middle of the picture, so that a contact is a contact in a picture
of any shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from mova.scenes.kind import ROOM
from mova.scenes.raster import BLACK, COLOURS, WALLS, WHITE, Box, Disc, Exposure, View, gradient, mix, paint, repeat, shine
from mova.scenes.script import Image, Script, generator
from mova.scenes.waves import Band, Window, band_noise

RAIL_Y = 0.10
PUCK_RADIUS = 0.085
WALL_X = 0.44
BLOCK = (0.10, 0.085)
STROKE_S = 0.30
_WASH = 0.10


@dataclass(frozen=True)
class LampMotion:
    """A lamp that is lit during ``spans_s``.

    Args:
        spans_s: ``(on, off)`` in seconds.
        way: ``(x, y)`` at the start and speed ``(dx, dy)`` per second, from the middle of the picture.
        radius: Radius of the lamp.
        wall: Choice of wall.
    """

    spans_s: tuple[tuple[float, float], ...]
    way: tuple[float, float, float, float]
    radius: float
    wall: int


@dataclass(frozen=True)
class RailMotion:
    """Bodies on a level rail, each at ``places[i]`` at ``knots_s[i]`` and on a straight way in between."""

    knots_s: tuple[float, ...]
    places: tuple[tuple[float, ...], ...]
    colours: tuple[str, ...]
    wall: int


@dataclass(frozen=True)
class StrokeMotion:
    """A block that is dragged in strokes; in each the speed rises and falls as a squared sine over ``STROKE_S``.

    Args:
        middles_s: When each stroke is fastest.
        lengths: How far each stroke goes, signed.
        start_x: Where the block is before the first.
        colour: Name of its colour.
        wall: Choice of wall.
    """

    middles_s: tuple[float, ...]
    lengths: tuple[float, ...]
    start_x: float
    colour: str
    wall: int

    def across(self, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where the block's middle is."""
        place = np.full(time_s.shape, self.start_x)
        for middle, length in zip(self.middles_s, self.lengths, strict=True):
            share = np.clip((time_s - middle) / STROKE_S + 0.5, 0.0, 1.0)
            place += length * (share - np.sin(2 * np.pi * share) / (2 * np.pi))
        return place

    def speed(self, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Its speed, not negative, in lengths per second."""
        speed = np.zeros(time_s.shape)
        for middle, length in zip(self.middles_s, self.lengths, strict=True):
            share = np.clip((time_s - middle) / STROKE_S + 0.5, 0.0, 1.0)
            speed += abs(length) / STROKE_S * (1.0 - np.cos(2 * np.pi * share))
        return speed


def draw_lamp(script: Script, view: View, exposure: Exposure) -> Image:
    """A lamp that does not move; where it shines the whole room is a little brighter."""
    motion, colour = script.motion, COLOURS[str(script.attributes["colour"])]
    assert isinstance(motion, LampMotion)
    x, y, _, _ = motion.way
    dark = gradient(view, *(mix(part, BLACK, 0.6) for part in WALLS[motion.wall]))
    bright = dark + np.float32(_WASH) * (np.asarray(colour, np.float32) - dark)
    for image, lit in ((dark, False), (bright, True)):
        paint(image, Disc(view.near((0.5, 0.5), x, y), (motion.radius + 0.02) * view.unit), colour=(0.3, 0.3, 0.32))
        glass = mix(colour, WHITE, 0.2) if lit else mix(colour, BLACK, 0.75)
        paint(image, Disc(view.near((0.5, 0.5), x, y), motion.radius * view.unit), colour=glass)
    frames = repeat(dark, exposure.num_frames)
    shine(frames, dark, bright, exposure.lit(motion.spans_s))
    return frames


def draw_mover(script: Script, view: View, exposure: Exposure) -> Image:
    """A dark body that crosses the picture; when its lamp is lit the whole wall is brighter."""
    motion, colour = script.motion, COLOURS[str(script.attributes["colour"])]
    assert isinstance(motion, LampMotion)
    x, y, dx, dy = motion.way
    dark = gradient(view, *(mix(part, BLACK, 0.45) for part in WALLS[motion.wall]))
    frames = repeat(dark, exposure.num_frames)
    light = exposure.lit(motion.spans_s)
    shine(frames, dark, dark + np.float32(0.25) * (np.asarray(WHITE, np.float32) - dark), light)
    for image, moments, share in zip(frames, exposure.moments(), light, strict=True):
        centres = [view.near((0.5, 0.5), x + dx * float(time), y + dy * float(time)) for time in moments]
        paint(image, [Disc(centre, motion.radius * view.unit) for centre in centres], colour=BLACK)
        glass = mix(mix(colour, BLACK, 0.3), colour, float(share))
        paint(image, [Disc(centre, 0.7 * motion.radius * view.unit) for centre in centres], colour=glass)
    return frames


def draw_rail(script: Script, view: View, exposure: Exposure) -> Image:
    """Two pucks on a rail between two walls."""
    motion = script.motion
    assert isinstance(motion, RailMotion)
    room = _rail(view, motion.wall)
    frames = repeat(room, exposure.num_frames)
    moments = exposure.moments()
    for places, colour in zip(motion.places, motion.colours, strict=True):
        for image, xs in zip(frames, np.interp(moments, motion.knots_s, places), strict=True):
            centres = [view.near((0.5, 0.5), float(x), RAIL_Y - PUCK_RADIUS) for x in xs]
            paint(image, [Disc(centre, PUCK_RADIUS * view.unit) for centre in centres], colour=COLOURS[colour])
    return frames


def draw_block(script: Script, view: View, exposure: Exposure) -> Image:
    """A block that is dragged to and fro over the floor."""
    motion = script.motion
    assert isinstance(motion, StrokeMotion)
    frames = repeat(_rail(view, motion.wall), exposure.num_frames)
    half_w, height = BLOCK[0], 2 * BLOCK[1]
    for image, xs in zip(frames, motion.across(exposure.moments()), strict=True):
        boxes = []
        for x in xs:
            left, top = view.near((0.5, 0.5), float(x) - half_w, RAIL_Y - height)
            right, bottom = view.near((0.5, 0.5), float(x) + half_w, RAIL_Y)
            boxes.append(Box(left, top, right, bottom, 0.01 * view.unit))
        paint(image, boxes, colour=COLOURS[motion.colour])
    return frames


PICTURES: Mapping[str, Callable[[Script, View, Exposure], Image]] = {
    "lamp": draw_lamp,
    "mover": draw_mover,
    "rail": draw_rail,
    "block": draw_block,
}
"""Drawings by the kind of a scene's picture."""


def _rail(view: View, wall: int) -> Image:
    image = gradient(view, *(mix(part, BLACK, 0.35) for part in WALLS[wall]))
    floor = view.near((0.5, 0.5), 0.0, RAIL_Y)[1]
    paint(image, Box(-view.unit, floor, view.width + view.unit, view.height + view.unit), colour=(0.16, 0.17, 0.19))
    for side in (-1, 1):
        inner, outer = sorted((side * WALL_X, side * (WALL_X + 0.04)))
        corners = view.near((0.5, 0.5), inner, RAIL_Y - 0.3), view.near((0.5, 0.5), outer, RAIL_Y)
        paint(image, Box(*corners[0], *corners[1]), colour=(0.30, 0.31, 0.34))
    return image


_BAND = Band(500.0, 4500.0, 2, 1)
_LEVEL = 0.13  # RMS at 1.5 lengths per second


def scrape(script: Script, *, sample_rate: int, num_samples: int, channels: int = 1) -> npt.NDArray[np.float32]:
    """Noise whose amplitude follows the speed, over the faint noise of a room.

    Args:
        script: Its motion is a :class:`~mova.scenes.clapper.stages.StrokeMotion`.
        sample_rate: Samples per second.
        num_samples: Samples to make.
        channels: 1, or 2 with the same in both.

    Returns:
        ``[channels, num_samples]`` float32 in (-1, 1).
    """
    motion = script.motion
    assert isinstance(motion, StrokeMotion)
    window = Window(0, num_samples, 0.0, sample_rate)
    noise = band_noise(window, _BAND, generator("scrape", script.seed, "noise"))
    room = ROOM.rms * band_noise(window, ROOM.band, generator("scrape", script.seed, "room"))
    audio = _LEVEL / 1.5 * motion.speed(window.times_s) * noise + room
    return np.repeat(np.tanh(audio)[None].astype(np.float32), channels, axis=0)
