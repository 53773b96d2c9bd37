"""Ratings from pairwise votes: how much better, and how sure.

Bradley-Terry-Davidson strengths (:mod:`~mova.lab.arena.davidson`) in Elo-like units: 400 points are odds of
10 to 1, the mean of all systems is 0. Intervals are 95 % percentile intervals of a bootstrap that draws prompts and
raters independently, with replacement, and weighs each vote by the product (the pigeonhole bootstrap: Owen 2007, "The
pigeonhole bootstrap", Annals of Applied Statistics 1). Drawing single votes would take a hundred votes on one
prompt for a hundred independent facts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse.csgraph import connected_components

from mova.errors import RequestError
from mova.lab.arena.davidson import Counts, fit, pairs_of
from mova.lab.arena.votes import Comparison

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]

POINTS_PER_NATURAL_UNIT = 400.0 / math.log(10.0)
MAX_RESAMPLES = 100_000
_CHUNK = 200  # resamples at once: bounds the memory
_FIRST, _SECOND, _TIE = range(3)


@dataclass(frozen=True)
class Rating:
    """One system.

    Args:
        system: Its name.
        rating: In points; 400 are odds of 10 to 1, 0 is the mean of all systems.
        interval: 95 % of ``rating``; None where nothing can be resampled, as the other intervals.
        ranks: Best and worst place within 95 % of the resamples.
        net_win_rate: Votes won less votes lost, in percent of its votes, -100 to 100.
        net_win_interval: 95 % of it.
        wins: Votes won.
        ties: Votes without a winner.
        losses: Votes lost.
    """

    system: str
    rating: float
    interval: Interval | None
    ranks: tuple[int, int] | None
    net_win_rate: float
    net_win_interval: Interval | None
    wins: int
    ties: int
    losses: int

    @property
    def num_votes(self) -> int:
        """Votes in which the system took part."""
        return self.wins + self.ties + self.losses


@dataclass(frozen=True)
class PairResult:
    """Two systems against each other.

    Args:
        first: The one with the higher rating.
        second: The other.
        wins: Votes for ``first``.
        ties: Votes without a winner.
        losses: Votes for ``second``.
        net_win_rate: Net wins of ``first``, in percent of the votes between the two; None if they never met.
        net_win_interval: 95 % of it.
        chance_above: Share of the resamples in which ``first`` has the higher rating.
    """

    first: str
    second: str
    wins: int
    ties: int
    losses: int
    net_win_rate: float | None
    net_win_interval: Interval | None
    chance_above: float | None


@dataclass(frozen=True)
class Ranking:
    """What the votes say.

    Args:
        ratings: Best first.
        meetings: All pairs of systems, in the order of ``ratings``.
        nu: Tie parameter: equals tie with probability ``nu / (2 + nu)``.
        num_votes: Votes counted.
        num_prompts: Prompts that they are about.
        num_raters: Raters that they are from.
        num_resamples: Resamples behind the intervals.
        left_share: Share of the votes with a winner for the video on the left; near 0.5 unless raters lean to a
            side. None if every vote is a tie.
        notes: What to keep in mind when reading the numbers.
    """

    ratings: tuple[Rating, ...]
    meetings: tuple[PairResult, ...]
    nu: float
    num_votes: int
    num_prompts: int
    num_raters: int
    num_resamples: int
    left_share: float | None
    notes: tuple[str, ...]


def rank(comparisons: Sequence[Comparison], *, num_resamples: int = 1000, seed: int = 0) -> Ranking:
    """Ratings of all systems in the votes.

    Args:
        comparisons: Votes of one mode, with the systems named.
        num_resamples: Number of resamples of the bootstrap; 0 for no intervals.
        seed: Seed of the bootstrap: the same votes and seed give the same intervals.

    Raises:
        RequestError: If there are no votes, or two groups of systems were never compared with each other.
    """
    if not 0 <= num_resamples <= MAX_RESAMPLES:
        raise RequestError(f"num_resamples must be 0 to {MAX_RESAMPLES}; got {num_resamples}.", field="num_resamples")
    table = _tabulate(comparisons)
    _check_connected(table)
    whole = table.counts(np.ones((1, table.num_votes)))
    fit_to_canvas = fit(_as_counts(whole), len(table.systems))
    strengths = fit_to_canvas.strengths[0]
    samples = _resample(table, num_resamples, seed)
    # equal up to rounding is equal: then the name decides
    order = sorted(range(len(table.systems)), key=lambda k: (-round(float(strengths[k]), 9), table.systems[k]))
    decided = [one for one in comparisons if one.choice != "tie"]
    return Ranking(
        ratings=tuple(_rating(k, table, whole[0], strengths=strengths, samples=samples) for k in order),
        meetings=tuple(_meeting(a, b, table, whole[0], samples=samples) for n, a in enumerate(order) for b in order[n + 1 :]),
        nu=float(fit_to_canvas.nu[0]),
        num_votes=table.num_votes,
        num_prompts=table.num_prompts,
        num_raters=table.num_raters,
        num_resamples=0 if samples is None else len(samples.counts),
        left_share=sum(one.choice == "left" for one in decided) / len(decided) if decided else None,
        notes=_notes(table, whole[0], samples, num_resamples=num_resamples),
    )


@dataclass(frozen=True, eq=False)
class _Table:
    """The votes as numbers: for each its cell ``3 * pair + outcome``, its prompt and its rater."""

    systems: tuple[str, ...]
    cells: npt.NDArray[np.int64]
    prompts: npt.NDArray[np.int64]
    raters: npt.NDArray[np.int64]
    num_prompts: int
    num_raters: int

    @property
    def num_votes(self) -> int:
        return len(self.cells)

    @property
    def pairs(self) -> npt.NDArray[np.int64]:
        return pairs_of(len(self.systems))

    def counts(self, weights: Floats) -> Floats:
        """``[B, P, 3]`` first wins, second wins, ties, from the weight of each vote ``[B, votes]``."""
        order = np.argsort(self.cells, kind="stable")
        present, starts = np.unique(self.cells[order], return_index=True)
        flat = np.zeros((len(weights), 3 * len(self.pairs)))
        flat[:, present] = np.add.reduceat(weights[:, order], starts, axis=1)
        return flat.reshape(len(weights), len(self.pairs), 3)


@dataclass(frozen=True, eq=False)
class _Samples:
    """What the resamples say: counts ``[B, P, 3]`` and strengths ``[B, K]``."""

    counts: Floats
    strengths: Floats


def _tabulate(comparisons: Sequence[Comparison]) -> _Table:
    if not comparisons:
        raise RequestError("there are no votes to rank.", "Collect votes with the page that `mova arena make` writes.")
    systems = tuple(sorted({name for one in comparisons for name in (one.left, one.right)}))
    index = {name: number for number, name in enumerate(systems)}
    number_of_pair = {(int(i), int(j)): number for number, (i, j) in enumerate(pairs_of(len(systems)))}
    cells = []
    for one in comparisons:
        left, right = index[one.left], index[one.right]
        if left == right:
            raise RequestError(f"a vote compares {one.left!r} with itself.", "Such pairs are checks, not comparisons.")
        outcome = _TIE if one.choice == "tie" else _FIRST if (one.choice == "left") == (left < right) else _SECOND
        cells.append(3 * number_of_pair[min(left, right), max(left, right)] + outcome)
    prompts, num_prompts = _numbered([one.prompt for one in comparisons])
    raters, num_raters = _numbered([one.rater for one in comparisons])
    return _Table(systems, np.array(cells, dtype=np.int64), prompts, raters, num_prompts, num_raters)


def _numbered(names: list[str]) -> tuple[npt.NDArray[np.int64], int]:
    numbers = {name: number for number, name in enumerate(sorted(set(names)))}
    return np.array([numbers[name] for name in names], dtype=np.int64), len(numbers)


def _check_connected(table: _Table) -> None:
    met = np.unique(table.cells // 3)
    edges = table.pairs[met]
    groups = _groups(np.concatenate([edges, edges[:, ::-1]]), len(table.systems))
    if len(groups) > 1:
        named = ["{" + ", ".join(table.systems[k] for k in group) + "}" for group in groups]
        raise RequestError(
            f"the systems fall into {len(groups)} groups that were never compared with each other: {' and '.join(named)}.",
            "Collect votes between the groups, or rank each group alone.",
        )


def _groups(edges: npt.NDArray[np.int64], size: int) -> list[list[int]]:
    """Groups within which everyone is reached from everyone along directed ``edges`` ``[E, 2]``, by their first member."""
    adjacent = np.zeros((size, size), dtype=np.bool_)
    adjacent[edges[:, 0], edges[:, 1]] = True
    _, labels = connected_components(adjacent, connection="strong")
    return [np.flatnonzero(labels == label).tolist() for label in dict.fromkeys(labels.tolist())]


def _resample(table: _Table, num_resamples: int, seed: int) -> _Samples | None:
    """Counts and strengths of the resamples in which all systems are connected; None if there is nothing to draw."""
    if num_resamples == 0 or (table.num_prompts == 1 and table.num_raters == 1):
        return None
    generator = np.random.default_rng(seed)
    counts, strengths = [], []
    for start in range(0, num_resamples, _CHUNK):
        size = min(_CHUNK, num_resamples - start)
        of_prompt = _drawn(generator, table.num_prompts, size)
        of_rater = _drawn(generator, table.num_raters, size)
        drawn = table.counts(of_prompt[:, table.prompts] * of_rater[:, table.raters])
        usable = drawn[_is_connected(drawn, table)]
        if len(usable):
            counts.append(usable)
            strengths.append(fit(_as_counts(usable), len(table.systems)).strengths)
    # where most resamples lose a system, the rest says little of the spread
    if sum(map(len, counts)) * 2 < num_resamples:
        return None
    return _Samples(np.concatenate(counts), np.concatenate(strengths))


def _drawn(generator: np.random.Generator, size: int, times: int) -> Floats:
    """``[times, size]``: how often each of ``size`` things comes in ``size`` draws with replacement."""
    return generator.multinomial(size, np.full(size, 1.0 / size), size=times).astype(np.float64)


def _is_connected(counts: Floats, table: _Table) -> npt.NDArray[np.bool_]:
    """``[B]``: whether all systems hang together by who met whom."""
    size = len(table.systems)
    edges = [table.pairs[met] for met in counts.sum(axis=2) > 0]
    return np.array([len(_groups(np.concatenate([one, one[:, ::-1]]), size)) == 1 for one in edges], dtype=np.bool_)


def _as_counts(counts: Floats) -> Counts:
    return Counts(counts[:, :, _FIRST], counts[:, :, _SECOND], counts[:, :, _TIE])


def _rating(k: int, table: _Table, whole: Floats, *, strengths: Floats, samples: _Samples | None) -> Rating:
    wins, losses, ties = (int(count) for count in _results(k, table, whole[None])[0])
    ranks = net_interval = interval = None
    if samples is not None:
        interval = _interval(samples.strengths[:, k] * POINTS_PER_NATURAL_UNIT)
        place = 1 + (samples.strengths > samples.strengths[:, k : k + 1] + 1e-9).sum(axis=1)
        low, high = np.percentile(place, (2.5, 97.5), method="inverted_cdf")
        ranks = (int(low), int(high))
        results = _results(k, table, samples.counts)
        net_interval = _interval(100.0 * (results[:, 0] - results[:, 1]) / results.sum(axis=1))
    return Rating(
        system=table.systems[k],
        rating=float(strengths[k]) * POINTS_PER_NATURAL_UNIT,
        interval=interval,
        ranks=ranks,
        net_win_rate=100.0 * (wins - losses) / (wins + ties + losses),
        net_win_interval=net_interval,
        wins=wins,
        ties=ties,
        losses=losses,
    )


def _results(k: int, table: _Table, counts: Floats) -> Floats:
    """``[B, 3]``: votes that system ``k`` won, lost and tied."""
    is_first, is_second = table.pairs[:, 0] == k, table.pairs[:, 1] == k
    first, second = counts[:, is_first].sum(axis=1), counts[:, is_second].sum(axis=1)
    return np.asarray(first + second[:, [_SECOND, _FIRST, _TIE]], dtype=np.float64)


def _meeting(a: int, b: int, table: _Table, whole: Floats, *, samples: _Samples | None) -> PairResult:
    pair = int(np.flatnonzero((table.pairs == sorted((a, b))).all(axis=1))[0])
    columns = [_FIRST, _SECOND, _TIE] if a < b else [_SECOND, _FIRST, _TIE]
    wins, losses, ties = (int(count) for count in whole[pair, columns])
    met = wins + losses + ties
    net_interval = chance = None
    if samples is not None:
        results = samples.counts[:, pair][:, columns]
        results = results[results.sum(axis=1) > 0]
        if met and len(results):
            net_interval = _interval(100.0 * (results[:, 0] - results[:, 1]) / results.sum(axis=1))
        chance = float(np.mean(samples.strengths[:, a] > samples.strengths[:, b]))
    return PairResult(
        first=table.systems[a],
        second=table.systems[b],
        wins=wins,
        ties=ties,
        losses=losses,
        net_win_rate=100.0 * (wins - losses) / met if met else None,
        net_win_interval=net_interval,
        chance_above=chance,
    )


def _interval(values: Floats) -> Interval:
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)


def _notes(table: _Table, whole: Floats, samples: _Samples | None, *, num_resamples: int) -> tuple[str, ...]:
    notes = []
    pairs = table.pairs
    beaten = [pairs[whole[:, _FIRST] > 0], pairs[whole[:, _SECOND] > 0][:, ::-1]]
    tied = pairs[whole[:, _TIE] > 0]
    if len(_groups(np.concatenate([*beaten, tied, tied[:, ::-1]]), len(table.systems))) > 1:
        notes.append(
            "some systems won every vote against some others: their distance is a lower bound, held finite by a weak prior"
        )
    if num_resamples and samples is None:
        notes.append("too few prompts and raters for intervals")
    elif samples is not None:
        if len(samples.counts) < num_resamples:
            lost = num_resamples - len(samples.counts)
            notes.append(f"{lost} of {num_resamples} resamples had no path between all systems and were left out")
        for number, name in ((table.num_raters, "rater"), (table.num_prompts, "prompt")):
            if number == 1:
                notes.append(f"one {name} only: the intervals say nothing about other {name}s")
    return tuple(notes)
