"""What colour things are in a clip, and where the things are that are found by their colour."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from mova.lab.read.ball_track import name_balls
from mova.lab.read.colour import nearest_names
from mova.lab.read.regions import cut_box, cut_line, find_middles, thin
from mova.scenes.clapper import stages
from mova.scenes.clapper.plans import LAMP_COLOURS, PUCK_COLOURS
from mova.scenes.kinds import fireworks, metronome, mouth
from mova.scenes.raster import COLOURS, WHITE, Colour, mix

Floats = npt.NDArray[np.float64]
Frames = npt.NDArray[np.uint8]


def read_colours(frames: Frames, *, kind: str) -> frozenset[str]:
    """Read the colours of a clip's subject: the nearest of the kind's own by CIEDE2000.

    Args:
        frames: ``[T, H, W, 3]`` uint8.
        kind: One of ``COLOURED``.

    Returns:
        Names of the palette; empty if the subject is not seen.

    Raises:
        ValueError: If the kind has no colour.
    """
    if kind not in COLOURED:
        raise ValueError(f"kind must be one of {', '.join(COLOURED)}; got {kind!r}.")
    return frozenset(_COLOURS[kind](thin(frames)))


def find_glass(luma: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """``[H, W]`` where a lamp lights up most, of ``[T, H, W]`` in 0..1."""
    reach = np.quantile(luma, 0.98, axis=0) - np.median(luma, axis=0)
    return np.asarray(reach > max(0.15, 0.5 * float(reach.max())))


def find_pucks(frames: Frames) -> dict[str, Floats]:
    """Find the pucks on a rail, at most two, the more of it first.

    Args:
        frames: ``[T, H, W, 3]`` uint8.

    Returns:
        By colour name, ``[T]`` place in lengths from the middle; nan where it is not seen.
    """
    middle = stages.RAIL_Y - stages.PUCK_RADIUS
    line, columns = cut_line(frames, middle - 0.03, middle + 0.03, reach=stages.WALL_X)
    wall = np.median(line, axis=(0, 1))
    names = _rank(line[np.linalg.norm(line - wall, axis=2) > 0.2], PUCK_COLOURS, least=2 * len(frames))[:2]
    # a column is made of the colours of the pucks and the wall
    shares = (line - wall) @ np.linalg.pinv(np.array([COLOURS[name] for name in names]) - wall) if names else line
    covers = np.clip((shares - 0.15) / 0.7, 0.0, 1.0)
    return {name: find_middles(covers[..., index], columns) for index, name in enumerate(names)}


def find_block(frames: Frames) -> tuple[Floats, Floats]:
    """The line through a block on a rail, ``[T, w, 3]`` in 0..1, and the places of its columns, ``[w]``."""
    top, bottom = (stages.RAIL_Y - part * stages.BLOCK[1] for part in (1.5, 0.5))
    return cut_line(frames, top, bottom, reach=stages.WALL_X)


def _face(frames: Frames) -> tuple[str, ...]:
    return _nearest(cut_box(frames, 0.46, 0.34, 0.54, 0.41), mouth.FACE_COLOURS)


def _case(frames: Frames) -> tuple[str, ...]:
    sides = (cut_box(frames, left, 0.81, left + 0.07, 0.89) for left in (0.26, 0.67))
    return _nearest(np.concatenate(tuple(sides), axis=2), metronome.CASES)


def _bursts(frames: Frames) -> tuple[str, ...]:
    """A burst pulls the whole sky towards its colour: the named colour that lies in the direction of that pull."""
    sky = np.median(cut_box(frames, 0.0, 0.0, 1.0, 0.72), axis=(1, 2))
    dark = np.quantile(sky, 0.1, axis=0)
    pull = sky - dark
    brightest = np.argsort(pull.max(axis=1))[-2:]
    direction = pull[brightest].sum(axis=0)
    if pull[brightest].max() < 0.03:
        return ()

    def agreement(name: str) -> float:
        way = np.asarray(COLOURS[name]) - dark
        return float(direction @ way / np.linalg.norm(way))

    return (max(fireworks.FIREWORK_COLOURS, key=agreement),)


def _lamp(frames: Frames) -> tuple[str, ...]:
    """The glass of a lamp where it shines, against the colours that glass has then."""
    luma = frames.astype(np.float32).mean(axis=3) / 255.0
    glass = find_glass(luma)
    if not glass.any():
        return ()
    lit = frames[_is_lit(luma[:, glass].mean(axis=1))][:, glass] / 255.0
    return _nearest(lit, {name: mix(COLOURS[name], WHITE, 0.2) for name in LAMP_COLOURS})


def _mover(frames: Frames) -> tuple[str, ...]:
    """The glass in the dark body of a moving lamp while it shines: neither wall nor black."""
    lit = frames[_is_lit(frames.mean(axis=(1, 2, 3)))] / 255.0
    if not lit.size:
        return ()
    wall = np.median(lit, axis=2, keepdims=True)
    glass = lit[(np.linalg.norm(lit - wall, axis=3) > 0.25) & (lit.max(axis=3) > 0.5)]
    return _rank(glass, LAMP_COLOURS, least=2 * len(lit))[:1]


def _block(frames: Frames) -> tuple[str, ...]:
    line, _ = find_block(frames)
    core = line[np.linalg.norm(line - np.median(line, axis=(0, 1)), axis=2) > 0.2]
    return _rank(core, PUCK_COLOURS, least=2 * len(frames))[:1]


_COLOURS: Mapping[str, Callable[[Frames], tuple[str, ...] | dict[str, Floats]]] = {
    "ball": name_balls,
    "mouth": _face,
    "metronome": _case,
    "fireworks": _bursts,
    "lamp": _lamp,
    "mover": _mover,
    "rail": find_pucks,
    "block": _block,
}
COLOURED = tuple(_COLOURS)
"""The kinds of picture whose prompts name a colour."""


def _is_lit(light: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    return np.asarray(light > 0.5 * (light.max() + light.min()))


def _nearest(pixels: Floats, named: tuple[str, ...] | Mapping[str, Colour]) -> tuple[str, ...]:
    """The name nearest to the median colour of ``[..., 3]``."""
    table = named if isinstance(named, Mapping) else {name: COLOURS[name] for name in named}
    return (str(nearest_names(np.median(pixels.reshape(-1, 3), axis=0), table)),)


def _rank(pixels: Floats, names: tuple[str, ...], *, least: int) -> tuple[str, ...]:
    """The colours of ``[N, 3]`` pixels, the most frequent first; none if there are fewer than ``least``."""
    if len(pixels) < least:
        return ()
    found, counts = np.unique(nearest_names(pixels, {name: COLOURS[name] for name in names}), return_counts=True)
    return tuple(str(name) for name in found[np.argsort(-counts)])
