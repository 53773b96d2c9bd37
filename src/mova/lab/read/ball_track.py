"""Where the one or two balls of a clip are, distinguished by colour.

The wall behind is the same along each row, so the median of a row over the whole clip is the wall.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mova.lab.read.colour import lab, nearest_names
from mova.lab.read.regions import find_middles, thin
from mova.scenes.kinds import ball
from mova.scenes.raster import COLOURS

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.floating]
Frames = npt.NDArray[np.uint8]


def find_balls(frames: Frames) -> dict[str, Floats]:
    """Find the balls of a clip, the larger first.

    Args:
        frames: ``[T, H, W, 3]`` uint8.

    Returns:
        By colour name, ``[T, h, W]`` cover in 0..1 of the rows above the floor.
    """
    names = name_balls(thin(frames, side=64))
    above = frames[:, : int(ball.FLOOR_Y * frames.shape[1])].astype(np.float32) / np.float32(255.0)
    wall = np.median(above, axis=(0, 2))
    if len(names) < 2:
        return {name: _cover(above, wall, name) for name in names}
    first, second = names
    columns = np.arange(frames.shape[2]) / frames.shape[2]
    places = _places(_names(above, wall), columns, names)
    nearer = (np.abs(columns - places[first][:, None]) <= np.abs(columns - places[second][:, None]))[:, None]
    return {first: _cover(above, wall, first) * nearer, second: _cover(above, wall, second) * ~nearer}


def name_balls(frames: Frames) -> tuple[str, ...]:
    """The colours of the one or two balls in a clip, the larger first; arguments as for :func:`find_balls`."""
    above = frames[:, : int(ball.FLOOR_Y * frames.shape[1])].astype(np.float64) / 255.0
    names = _names(above, np.median(above, axis=(0, 2)))
    if (names != "").sum() < 4 * len(frames):
        return ()
    counts = {name: int((names == name).sum()) for name in ball.BALL_COLOURS}
    first, second = sorted(counts, key=lambda name: -counts[name])[:2]
    if counts[second] < 0.3 * counts[first]:
        return (first,)
    places = _places(names, np.arange(frames.shape[2]) / frames.shape[2], (first, second))
    apart = np.abs(places[first] - places[second])
    is_pair = np.isfinite(apart).any() and np.nanmedian(apart) >= 0.2
    return (first, second) if is_pair else (first,)


def follow_balls(frames: Frames) -> dict[str, Floats]:
    """Follow the balls of a clip: by colour name, ``[T, 2]``, x in widths and y, down, in heights; nan where not seen."""
    height, width = frames.shape[1:3]

    def way(cover: Floats) -> Floats:
        columns, rows = ((np.arange(size) + 0.5) / of for size, of in ((width, width), (cover.shape[1], height)))
        return np.stack((find_middles(cover.sum(axis=1), columns), find_middles(cover.sum(axis=2), rows)), axis=1)

    return {name: way(cover) for name, cover in find_balls(frames).items()}


def _names(above: Pixels, wall: Pixels) -> npt.NDArray[np.str_]:
    """``[T, h, W]`` the nearest colour of what stands out of the wall by Lab distance; empty elsewhere."""
    core = np.linalg.norm(lab(above) - lab(wall)[None, :, None], axis=-1) > 24.0
    names = np.full(core.shape, "", dtype="<U8")
    names[core] = nearest_names(above[core], {name: COLOURS[name] for name in ball.BALL_COLOURS})
    return names


def _places(names: npt.NDArray[np.str_], columns: Floats, chosen: tuple[str, ...]) -> dict[str, Floats]:
    """``[T]`` mean column of the pixels of each name."""
    return {name: find_middles((names == name).sum(axis=1), columns) for name in chosen}


def _cover(above: Pixels, wall: Pixels, name: str) -> Floats:
    """How far each pixel is on the way from the wall's colour to the ball's; a dark rim or halo counts as wall."""
    way = np.asarray(COLOURS[name]) - wall
    along = np.einsum("thwc,hc->thw", above, way) - np.einsum("hc,hc->h", wall, way)[None, :, None]
    return np.asarray(np.clip((along / np.square(way).sum(axis=1)[None, :, None] - 0.2) / 0.6, 0.0, 1.0))
