"""Two results held against each other, clip by clip: only clips of the same scene, or files of the same name, are compared.

Sync is compared by :func:`mova.lab.sync.scores.compare`; everything else is the mean of the differences of each clip.
The floor is that of the coarser of the two. Of many numbers some differ by chance: p-values are corrected for their number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mova.errors import RequestError
from mova.lab.numbers import Interval, mean_interval
from mova.lab.suite.measures import Measure, list_measures
from mova.lab.suite.results import CONTROLS, COUNTERFACTUAL, Row, check_alike, times_of
from mova.lab.sync.scores import compare as compare_times
from mova.lab.sync.scores import measure

FEWEST_PAIRS = 6
"""With fewer pairs no difference can be distinguished from chance: five signs agree in one case of sixteen."""
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Line:
    """One number in two results.

    Args:
        track: Track of a model's clips, or ``"videos"``.
        name: Name of the number.
        first: Its value.
        second: Its value.
        change: Second less first.
        interval: 95 % of the change, the same clips drawn for both.
        floor: Changes up to this the meter cannot tell; nan if it was not measured.
        num_pairs: Clips behind it.
        p_value: Probability of the change if there were none; nan if there are too few pairs.
        p_holm: The same, corrected for the number of lines.
    """

    track: str
    name: str
    first: float
    second: float
    change: float
    interval: Interval
    floor: float
    num_pairs: int
    p_value: float
    p_holm: float = math.nan

    @property
    def verdict(self) -> str:
        """In two or three words, what the change is worth."""
        if not math.isfinite(self.change):
            return "not measured"
        if abs(self.change) <= self.floor:
            return "below the floor"
        if math.isnan(self.p_holm):
            return "too few clips"
        return "different" if self.p_holm < SIGNIFICANT else "within chance"


@dataclass(frozen=True)
class Comparison:
    """Two results, number by number.

    Args:
        lines: Numbers that both have.
        num_pairs: Clips that both have.
        only_first: Keys of clips that the second does not have.
        only_second: The other way round.
    """

    lines: tuple[Line, ...]
    num_pairs: int
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        lines = [{**line.__dict__, "interval": list(line.interval), "verdict": line.verdict} for line in self.lines]
        return {
            "num_pairs": self.num_pairs,
            "only_first": list(self.only_first),
            "only_second": list(self.only_second),
            "lines": lines,
        }


def compare_results(
    first: Mapping[str, Any], second: Mapping[str, Any], measures: Sequence[Measure] | None = None
) -> Comparison:
    """Compare two documents of :func:`~mova.lab.suite.results.read_results`.

    Args:
        first: The one.
        second: The other.
        measures: Those of the clips of models; :func:`~mova.lab.suite.measures.list_measures` if None.

    Raises:
        RequestError: If they were measured with different versions, are of different suites, or share no clip.
    """
    check_alike(first, second)
    wanted = [one for one in (list_measures() if measures is None else measures) if one.is_compared]
    before, after = ({row["key"]: row for row in document["clips"]} for document in (first, second))
    shared = [key for key in before if key in after]
    if not shared:
        raise RequestError("the two results share no clip.", "Make both with the same --seed, or of files of the same names.")
    lines: list[Line] = []
    for track in dict.fromkeys(before[key].get("track", "videos") for key in shared):
        keys = [key for key in shared if before[key].get("track", "videos") == track]
        pairs = [(before[key], after[key]) for key in keys]
        floors = [_floors_of(document, track) for document in (first, second)]
        if "video_s" in pairs[0][0]:
            lines += _sync_lines(track, pairs, floors, [one.name for one in wanted if one.of is None])
            lines += _mean_lines(track, pairs, floors, [one.name for one in wanted if one.of is not None])
        else:
            lines += _mean_lines(track, pairs, floors, list(dict.fromkeys(name for row, _ in pairs for name in row["values"])))
    corrected = holm([line.p_value for line in lines])
    return Comparison(
        lines=tuple(replace(line, p_holm=p_holm) for line, p_holm in zip(lines, corrected, strict=True)),
        num_pairs=len(shared),
        only_first=tuple(key for key in before if key not in after),
        only_second=tuple(key for key in after if key not in before),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number, so that one false alarm in all of them is as rare as one in each was.

    Holm 1979, "A simple sequentially rejective multiple test procedure": the i-th smallest of m is multiplied by m - i + 1, and
    none is smaller than the one before it. nan stays nan and does not count.
    """
    known = sorted((p_value, place) for place, p_value in enumerate(p_values) if not math.isnan(p_value))
    corrected = [math.nan] * len(p_values)
    largest = 0.0
    for rank, (p_value, place) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p_value))
        corrected[place] = largest
    return corrected


def p_of_change(change: float, interval: Interval, num_pairs: int) -> float:
    """The chance of a change at least as large if there were none, from its bootstrap interval.

    The interval's width gives the standard error (Wald's test). No smaller than what ``num_pairs`` signs that all agree
    would give: a bootstrap of few clips is too sure of itself. nan with fewer than ``FEWEST_PAIRS`` pairs.
    """
    if num_pairs < FEWEST_PAIRS or not all(math.isfinite(value) for value in (change, *interval)):
        return math.nan
    if change == 0.0:
        return 1.0
    error = (interval[1] - interval[0]) / (2.0 * 1.959964)
    p_value = math.erfc(abs(change) / error / math.sqrt(2.0)) if error > 0.0 else 0.0
    return max(p_value, 2.0 ** (1 - num_pairs))


def _sync_lines(
    track: str, pairs: Sequence[tuple[Row, Row]], floors: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> list[Line]:
    first, second = ([times_of(pair[side]) for pair in pairs] for side in (0, 1))
    coarser = {name: _coarser(floors, name) for name in names}
    changes = compare_times(first, second, floors=coarser)
    before, after = measure(first), measure(second)
    found = {name: (before[name], after[name], changes[name].value, changes[name].interval) for name in names}
    return [_line(track, name, *values, coarser[name], len(pairs)) for name, values in found.items()]


def _mean_lines(
    track: str, pairs: Sequence[tuple[Row, Row]], floors: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> list[Line]:
    lines = []
    for name in names:
        values = [(first["values"].get(name), second["values"].get(name)) for first, second in pairs]
        both = np.array([pair for pair in values if None not in pair], dtype=np.float64)
        if both.size:
            change, (before, after) = both[:, 1] - both[:, 0], both.mean(axis=0)
            own = before, after, change.mean(), mean_interval(change)
            lines.append(_line(track, name, *own, _coarser(floors, name), len(both)))
    return lines


def _line(
    track: str, name: str, first: float, second: float, change: float, interval: Interval, floor: float, num_pairs: int
) -> Line:
    p_value = p_of_change(change, interval, num_pairs)
    return Line(track, name, float(first), float(second), float(change), interval, floor, num_pairs, p_value)


def _floors_of(document: Mapping[str, Any], track: str) -> dict[str, float | None]:
    """By name of the number; videos have none, since no truth of them is known."""
    if track in (COUNTERFACTUAL, CONTROLS):
        return {name: one["floor"] for name, one in document[track].items()}
    return dict(document.get("floors", {}))


def _coarser(floors: Sequence[Mapping[str, float | None]], name: str) -> float:
    """The larger of both floors; nan if one was not measured."""
    return float(np.max([math.nan if (value := one.get(name)) is None else value for one in floors]))
