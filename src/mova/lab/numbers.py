"""A number with its interval, its chance level and its floor.

Intervals are 95 % percentile intervals of a bootstrap over clips (Efron and Tibshirani 1993, chapter 13).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]
CHANCE = 0.5
"""Share of right directions that guessing reaches."""


@dataclass(frozen=True)
class Number:
    """One score of a set of clips.

    Args:
        value: Value of the set; nan if there is nothing to take it from.
        interval: 95 %, bootstrap over clips.
        chance: Same score of clips that have nothing to do with what was asked; nan where chance has no say.
        floor: Smallest difference that the meter itself can tell; nan if it was not measured.
        unit: ``"ms"``, ``"ms/s"`` or ``""`` for shares.
    """

    value: float
    interval: Interval
    chance: float
    floor: float
    unit: str = ""


def average(
    rows: Sequence[Mapping[str, float]],
    *,
    by_chance: Sequence[Mapping[str, float]] = (),
    floors: Mapping[str, float] | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Number]:
    """Average every value over the clips that have it.

    Args:
        rows: Values of each clip, by name.
        by_chance: Values of clips that have nothing to do with what was asked.
        floors: Floors by name.
        num_resamples: Draws of the bootstrap.
        seed: Seed of the bootstrap.
    """
    columns, others = columns_of(rows), columns_of(by_chance)
    return {
        name: Number(
            value=float(np.mean(values)),
            interval=mean_interval(values, num_resamples=num_resamples, seed=seed),
            chance=float(np.mean(others[name])) if name in others else float("nan"),
            floor=(floors or {}).get(name, float("nan")),
        )
        for name, values in columns.items()
    }


@dataclass(frozen=True)
class Accuracy:
    """Share of the pairs in which a quantity moves the right way.

    Args:
        value: The share.
        interval: 95 %, Wilson 1927.
        num_pairs: Pairs.
        chance: Share that guessing reaches.
    """

    value: float
    interval: Interval
    num_pairs: int
    chance: float = CHANCE


def directional_accuracy(outcomes: Sequence[Mapping[str, bool]]) -> dict[str, Accuracy]:
    """Share of right directions, by name, over the pairs that have it.

    Args:
        outcomes: Outcome of every pair, from :mod:`mova.lab.adherence.counterfactual`.
    """
    found = {}
    for name, column in columns_of(outcomes).items():
        low, high = binomtest(int(sum(column)), len(column)).proportion_ci(method="wilson")
        found[name] = Accuracy(sum(column) / len(column), (float(low), float(high)), len(column))
    return found


def columns_of(rows: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """The values of every name, in the order of the rows that have it."""
    return {name: [row[name] for row in rows if name in row] for name in dict.fromkeys(name for row in rows for name in row)}


def interval(draws: Floats, *, level: float = 0.95) -> Interval:
    """Percentile interval of bootstrap draws; nan draws are left out; ``(nan, nan)`` if none are left."""
    finite = draws[np.isfinite(draws)] if draws.size else draws
    if not finite.size:
        return float("nan"), float("nan")
    low, high = np.quantile(finite, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)


def mean_interval(values: Sequence[float] | Floats, *, num_resamples: int = 1000, seed: int = 0) -> Interval:
    """95 % interval of the mean of one value per clip, by bootstrap over clips."""
    array = np.asarray(values, dtype=np.float64)
    if not array.size:
        return float("nan"), float("nan")
    picks = np.random.default_rng(seed).integers(array.size, size=(num_resamples, array.size))
    return interval(array[picks].mean(axis=1))


def median(values: Sequence[float] | Floats) -> float:
    """Median of what is finite; nan if nothing is."""
    return float(medians(np.asarray(values, dtype=np.float64)[None])[0])


def medians(table: Floats) -> Floats:
    """Median of what is finite in each row of ``[R, K]``; nan where nothing is."""
    ordered = np.sort(np.where(np.isfinite(table), table, np.nan), axis=1)  # nan comes last
    num = np.isfinite(ordered).sum(axis=1)
    rows, found = np.flatnonzero(num), np.full(len(table), np.nan)
    found[rows] = (ordered[rows, (num[rows] - 1) // 2] + ordered[rows, num[rows] // 2]) / 2.0
    return found


def share_floor(values: Sequence[float]) -> float:
    """The floor of a mean of shares: what is missing of 1 in clips that are right, but at least one clip of all.

    Args:
        values: Values of true clips as read, at least one.
    """
    return max(1.0 - float(np.mean(values)), 1.0 / len(values))


def share_floors(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The floor of every share, from the values of true clips (:func:`share_floor`)."""
    return {name: share_floor(values) for name, values in columns_of(rows).items()}
