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
from mova.lab.adherence.physics import PHYSICS
from mova.lab.suite.results import ASKED, COMPARED, CONTROLS, COUNTERFACTUAL, check_alike, times_of
from mova.lab.suite.rows import Row
from mova.lab.sync.scores import compare as compare_times
from mova.lab.sync.scores import measure
from mova.lab.sync.summary import Interval, mean_interval

FEWEST_PAIRS = 6
"""With fewer pairs no difference can be told from chance: five signs agree in one case of sixteen."""
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Line:
    """One number in two results.

    Args:
        track: Of a model's clips, or ``"videos"``.
        name: Of the number.
        first: Its value.
        second: Its value.
        change: Second less first.
        interval: 95 % of the change, the same clips drawn for both.
        floor: Changes up to this the meter cannot tell; nan if it was not measured.
        num_pairs: Clips behind it.
        p_value: Of no change; nan if there are too few pairs.
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


def compare_results(first: Mapping[str, Any], second: Mapping[str, Any]) -> Comparison:
    """Compare two documents of :func:`~mova.lab.suite.results.read_results`.

    Raises:
        RequestError: If they were measured with different versions, are of different suites, or share no clip.
    """
    check_alike(first, second)
    before, after = ({row["key"]: row for row in document["clips"]} for document in (first, second))
    shared = [key for key in before if key in after]
    if not shared:
        raise RequestError("the two results share no clip.", "Make both with the same --seed, or of files of the same names.")
    lines: list[Line] = []
    for track in dict.fromkeys(before[key].get("track", "films") for key in shared):
        keys = [key for key in shared if before[key].get("track", "films") == track]
        pairs = [(before[key], after[key]) for key in keys]
        floors = [_floors_of(document, track) for document in (first, second)]
        if "video_s" in pairs[0][0]:
            lines += _sync_lines(track, pairs, floors)
        lines += _mean_lines(track, pairs, floors)
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


def _sync_lines(track: str, pairs: Sequence[tuple[Row, Row]], floors: Sequence[Mapping[str, Any]]) -> list[Line]:
    first, second = ([times_of(pair[side]) for pair in pairs] for side in (0, 1))
    coarser = {name: _coarser(floors, name) for name in COMPARED}
    changes = compare_times(first, second, floors=coarser)
    before, after = measure(first), measure(second)
    return [
        Line(
            track=track,
            name=name,
            first=before[name],
            second=after[name],
            change=changes[name].value,
            interval=changes[name].interval,
            floor=coarser[name],
            num_pairs=len(pairs),
            p_value=p_of_change(changes[name].value, changes[name].interval, len(pairs)),
        )
        for name in COMPARED
    ]


def _mean_lines(track: str, pairs: Sequence[tuple[Row, Row]], floors: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Of a model's clips only what is shown; of videos, of pairs of clips and of controls every number."""
    whole = ("films", COUNTERFACTUAL, CONTROLS)
    columns = [tuple({**row["values"], **row.get("physics", {})} for row in pair) for pair in pairs]
    names = dict.fromkeys(name for first, _ in columns for name in first if track in whole or name in (*ASKED, *PHYSICS))
    lines = []
    for name in names:
        values = [(first[name], second.get(name)) for first, second in columns if name in first]
        both = np.array([pair for pair in values if None not in pair], dtype=np.float64)
        if not both.size:
            continue
        change = both[:, 1] - both[:, 0]
        interval = mean_interval(change)
        lines.append(
            Line(
                track=track,
                name=name,
                first=float(both[:, 0].mean()),
                second=float(both[:, 1].mean()),
                change=float(change.mean()),
                interval=interval,
                floor=_coarser(floors, name),
                num_pairs=len(both),
                p_value=p_of_change(float(change.mean()), interval, len(both)),
            )
        )
    return lines


def _floors_of(document: Mapping[str, Any], track: str) -> dict[str, float | None]:
    """By name of the number; videos have none, since no truth of them is known."""
    if track in (COUNTERFACTUAL, CONTROLS):
        return {name: one["floor"] for name, one in document[track].items()}
    return dict(document.get("floors", {}))


def _coarser(floors: Sequence[Mapping[str, float | None]], name: str) -> float:
    """The larger of both floors; nan if one was not measured."""
    return float(np.max([math.nan if (value := one.get(name)) is None else value for one in floors]))
