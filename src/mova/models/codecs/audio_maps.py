"""Audio as maps over time: partials, noise bands, onsets and places.

A clip is the sum of partials (one in each of seventy narrow bands: level and frequency, 120 times a second) and noise (in
twenty wide bands: level, 600 times a second). A long window tells partials from noise, and cannot say when they start. So each
group of bands has a gain, 600 times a second, by which the level within a short window differs from what the partials sum up
to: nearly nothing before an onset, then one. The phase of a partial is the integral of its frequency (sinusoids and noise:
Serra and Smith 1990), and starts again at zero where the gain jumps up.

Each group also has a place, as the angle whose cosine and sine are the gains left and right, and a coherence of the channels.

Shape suffixes, here and in ``audio_analysis`` and ``audio_synthesis``: B batch, S samples, K frequency bins of the long
window, M of the short one, T slow frames, U fine frames, P partials, N noise bands, G groups.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

SAMPLE_RATE = 48000
SLOW, FINE = 400, 80  # samples from a frame to the next: 120 and 600 frames a second
FLOOR = 1e-4
"""Added to levels (root mean squares) before the logarithm; a level of the floor is silence."""
LOG_FLOOR = math.log(FLOOR)
GROUP_HZ = (0.0, 400.0, 800.0, 1600.0, 3200.0, 6400.0, 24000.0)
NUM_GROUPS = len(GROUP_HZ) - 1
NOISE_HZ = (
    60.0, 250.0, 500.0, 800.0, 1150.0, 1550.0, 2000.0, 2500.0, 3100.0, 3800.0, 4600.0, 5500.0, 6500.0, 7700.0, 9000.0,
    10500.0, 12500.0, 15000.0, 18000.0, 21500.0,
)  # fmt: skip
"""Centres of the noise bands, which are triangles from one centre to the next."""


def _partial_edges() -> tuple[float, ...]:
    edges = [30.0]
    while edges[-1] < 12000.0:
        edges.append(edges[-1] + max(48.0, 0.04 * edges[-1]) * (1.0 if edges[-1] < 4000.0 else 2.0))
    return tuple(edges)


PARTIAL_HZ = _partial_edges()
"""Edges of the bands with one partial each."""
NUM_PARTIALS, NUM_NOISE = len(PARTIAL_HZ) - 1, len(NOISE_HZ)


@dataclass(frozen=True)
class AudioMaps:
    """What a clip is made of; levels are natural logarithms of ``root mean square + FLOOR``.

    Args:
        partial: ``[B, P, T]`` levels of the partials.
        pitch: ``[B, P, T]`` their frequencies, as a place in the band: -1 is its lower edge, 1 the upper.
        noise: ``[B, N, U]`` levels of the noise bands.
        gain: ``[B, G, U]`` logarithms of gains of the groups' partials, from -6 to 2.
        angle: ``[B, G, T]`` places, in radians; 0 is left and pi / 2 right.
        coherence: ``[B, G, T]`` 1 where both channels are the same up to their levels, 0 where they are independent.
    """

    partial: Tensor
    pitch: Tensor
    noise: Tensor
    gain: Tensor
    angle: Tensor
    coherence: Tensor


def log_level(power: Tensor) -> Tensor:
    """Level of a mean square."""
    return torch.log(power.clamp(min=0.0).sqrt() + FLOOR)


def root_mean_square(level: Tensor) -> Tensor:
    """The root mean square of a level, 0 from the floor down."""
    return (level.exp() - FLOOR).clamp(min=0.0)


def group_levels(partial: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """The largest value of each group's bands, ``[B, G, T]`` of ``[B, P, T]`` and ``[B, G, U]`` of ``[B, N, U]``."""
    found = []
    for values, groups in ((partial, group_of_partials()), (noise, group_of_noise())):
        own = [[index for index, number in enumerate(groups) if number == group] for group in range(NUM_GROUPS)]
        found.append(torch.stack([values[:, bands].amax(dim=1) for bands in own], dim=1))
    return found[0], found[1]


@lru_cache(maxsize=1)
def group_of_partials() -> tuple[int, ...]:
    """The group of each band with a partial."""
    return tuple(_group_of(0.5 * (low + high)) for low, high in zip(PARTIAL_HZ[:-1], PARTIAL_HZ[1:], strict=True))


@lru_cache(maxsize=1)
def group_of_noise() -> tuple[int, ...]:
    """The group of each noise band."""
    return tuple(_group_of(hz) for hz in NOISE_HZ)


def _group_of(hz: float) -> int:
    return max(index for index in range(NUM_GROUPS) if hz >= GROUP_HZ[index])


def noise_triangles(hz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """``[N, len(hz)]`` weights that add up to 1 between the outer centres."""
    eye = np.eye(NUM_NOISE)
    weights = np.stack([np.interp(hz, NOISE_HZ, row) for row in eye])
    weights[:, hz < 20.0] = 0.0
    return weights
