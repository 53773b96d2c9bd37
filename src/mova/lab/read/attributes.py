"""What colour things are in a clip, in the words of the rendered world."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mova.lab.read.ball_track import balls
from mova.lab.read.colour import nearest_names
from mova.scenes.kinds import fireworks, metronome, mouth
from mova.scenes.palette import COLOURS

Floats = npt.NDArray[np.float64]
Frames = npt.NDArray[np.uint8]

COLOURED = ("ball", "mouth", "metronome", "fireworks")
"""The kinds whose prompts name a colour."""


def read_colours(frames: Frames, *, kind: str) -> frozenset[str]:
    """The colours of a clip's subject: of the one or two balls, the face, the metronome's case, the fireworks.

    Args:
        frames: ``[T, H, W, 3]`` uint8.
        kind: One of ``COLOURED``.

    Returns:
        Names of the palette; empty if the subject is not seen.

    Raises:
        ValueError: If the kind has no colour.
    """
    if kind == "ball":
        return frozenset(balls(frames))
    if kind == "mouth":
        forehead = _box(frames, 0.46, 0.34, 0.54, 0.41)
        return frozenset({_nearest(np.median(forehead, axis=(0, 1, 2)), mouth.FACE_COLOURS)})
    if kind == "metronome":
        left, right = _box(frames, 0.26, 0.81, 0.33, 0.89), _box(frames, 0.67, 0.81, 0.74, 0.89)
        case = np.median(np.concatenate((left, right), axis=2), axis=(0, 1, 2))
        return frozenset({_nearest(case, metronome.CASES)})
    if kind == "fireworks":
        return _fireworks(frames)
    raise ValueError(f"kind must be one of {', '.join(COLOURED)}; got {kind!r}.")


def _fireworks(frames: Frames) -> frozenset[str]:
    """A burst pulls the whole sky towards its colour: the named colour that lies in the direction of that pull."""
    sky = np.median(_box(frames, 0.0, 0.0, 1.0, 0.72), axis=(1, 2))
    dark = np.quantile(sky, 0.1, axis=0)
    pull = sky - dark
    brightest = np.argsort(pull.max(axis=1))[-2:]
    direction = pull[brightest].sum(axis=0)
    if pull[brightest].max() < 0.03:
        return frozenset()

    def agreement(name: str) -> float:
        way = np.asarray(COLOURS[name]) - dark
        return float(direction @ way / np.linalg.norm(way))

    return frozenset({max(fireworks.FIREWORK_COLOURS, key=agreement)})


def _nearest(rgb: Floats, names: tuple[str, ...]) -> str:
    return str(nearest_names(rgb, {name: COLOURS[name] for name in names}))


def _box(frames: Frames, left: float, top: float, right: float, bottom: float) -> Floats:
    """``[T, h, w, 3]`` in 0..1 of a box in unit picture coordinates."""
    height, width = frames.shape[1:3]
    rows = slice(int(top * height), max(int(np.ceil(bottom * height)), int(top * height) + 1))
    columns = slice(int(left * width), max(int(np.ceil(right * width)), int(left * width) + 1))
    return frames[:, rows, columns].astype(np.float64) / 255.0
