"""What colour things are in a clip, as people see them (CIE Lab, CIEDE2000), and where the things are that it tells apart.

The wall behind the balls of a clip is the same along each row, so the median of a row over the whole clip is the wall.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from mova.lab.read.light import cut_box, cut_line, find_middles, thin
from mova.scenes.clapper import stages
from mova.scenes.clapper.plans import LAMP_COLOURS, PUCK_COLOURS
from mova.scenes.kinds import ball, car, fireworks, metronome, mouth
from mova.scenes.raster import COLOURS, WHITE, Colour, mix

Floats = npt.NDArray[np.float64]
Frames = npt.NDArray[np.uint8]


def lab(rgb: npt.ArrayLike) -> Floats:
    """CIE L*a*b* (D65) of sRGB colours, ``[..., 3]`` in 0..1 (IEC 61966-2-1, CIE 15)."""
    values = np.asarray(rgb, dtype=np.float64)
    linear = np.where(values <= 0.04045, values / 12.92, ((np.maximum(values, 0.0) + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T / _WHITE
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack((116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])), axis=-1)


def ciede2000(first: npt.ArrayLike, second: npt.ArrayLike) -> Floats:
    """Difference of Lab colours ``[..., 3]``, broadcast (CIE 142; Sharma, Wu and Dalal 2005, equations 2 to 22)."""
    lightness_1, a_1, b_1 = np.moveaxis(np.asarray(first, dtype=np.float64), -1, 0)
    lightness_2, a_2, b_2 = np.moveaxis(np.asarray(second, dtype=np.float64), -1, 0)
    chroma = 0.5 * (np.hypot(a_1, b_1) + np.hypot(a_2, b_2))
    grey = 1.5 - 0.5 * np.sqrt(chroma**7 / (chroma**7 + 25.0**7))  # 1 + G
    chroma_1, chroma_2 = np.hypot(grey * a_1, b_1), np.hypot(grey * a_2, b_2)
    hue_1 = np.degrees(np.arctan2(b_1, grey * a_1)) % 360.0
    hue_2 = np.degrees(np.arctan2(b_2, grey * a_2)) % 360.0

    both = chroma_1 * chroma_2 > 0.0
    turn = np.where(both, (hue_2 - hue_1 + 180.0) % 360.0 - 180.0, 0.0)
    delta_lightness, delta_chroma = lightness_2 - lightness_1, chroma_2 - chroma_1
    delta_hue = 2.0 * np.sqrt(chroma_1 * chroma_2) * np.sin(np.radians(turn / 2.0))

    lightness, chroma = 0.5 * (lightness_1 + lightness_2), 0.5 * (chroma_1 + chroma_2)
    hue = np.where(both, (hue_1 + turn / 2.0) % 360.0, hue_1 + hue_2)
    weight = (
        1.0
        - 0.17 * np.cos(np.radians(hue - 30.0))
        + 0.24 * np.cos(np.radians(2.0 * hue))
        + 0.32 * np.cos(np.radians(3.0 * hue + 6.0))
        - 0.20 * np.cos(np.radians(4.0 * hue - 63.0))
    )
    scale_l = 1.0 + 0.015 * (lightness - 50.0) ** 2 / np.sqrt(20.0 + (lightness - 50.0) ** 2)
    scale_c, scale_h = 1.0 + 0.045 * chroma, 1.0 + 0.015 * chroma * weight
    twist = np.sin(np.radians(60.0 * np.exp(-(((hue - 275.0) / 25.0) ** 2))))
    rotation = -2.0 * np.sqrt(chroma**7 / (chroma**7 + 25.0**7)) * twist
    parts = delta_lightness / scale_l, delta_chroma / scale_c, delta_hue / scale_h
    squared = parts[0] ** 2 + parts[1] ** 2 + parts[2] ** 2 + rotation * parts[1] * parts[2]
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)))


def nearest_names(rgb: npt.ArrayLike, named: Mapping[str, Colour]) -> npt.NDArray[np.str_]:
    """Of each sRGB colour ``[..., 3]`` in 0..1, the name of the nearest by CIEDE2000."""
    names = np.array(list(named))
    values = np.asarray(rgb)
    pixels = np.ascontiguousarray(values.reshape(-1, 3))
    # most pixels of a clip have a colour that others have, too
    whole = pixels.view(np.dtype((np.void, 3 * pixels.itemsize)))[:, 0]
    _, first, which = np.unique(whole, return_index=True, return_inverse=True)
    differences = ciede2000(lab(pixels[first])[:, None, :], lab(list(named.values())))
    return np.asarray(names[differences.argmin(axis=-1)][which].reshape(values.shape[:-1]))


_TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
_WHITE = np.array([0.95047, 1.0, 1.08883])


Pixels = npt.NDArray[np.floating]


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


def _car(frames: Frames) -> tuple[str, ...]:
    """What comes and goes before the road in the rows of its body, below the glass and above the sills."""
    rows = cut_box(frames, 0.0, car.BODY_Y[0], 1.0, car.BODY_Y[1])
    body = rows[np.linalg.norm(rows - np.median(rows, axis=0), axis=3) > 0.2]
    return _rank(body, car.CAR_COLOURS, least=2 * len(frames))[:1]


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
    "car": _car,
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
