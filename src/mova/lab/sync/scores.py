"""Scores of a set of clips against their own events: every number with its interval, its chance level and its floor.

One sign: time heard - time seen, so positive means that the audio is late; a lag that the scene means is taken off first.

The headline is the F1 of pairs within ITU-R BT.1359's detectability window (-45 to +125 ms), corrected for chance:
``(F1 - chance) / (1 - chance)``, where chance is the F1 of the same pictures with the sounds of other clips of their kind.
It is 1 if everything is in step and 0 if the audio has nothing to do with the picture. Events of all clips count the same;
a clip in which nothing could be read counts as its expected events missed on both sides.

Offsets are taken from pairs after soft alignment (:func:`mova.lab.sync.pairing.match_aligned`), so that sync and existence
are distinguished: audio that is 300 ms late is late, not missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mova.lab.numbers import Interval, Number, interval, medians
from mova.lab.read.events import Reading
from mova.lab.sync.pairing import WINDOWS_MS, drift_ms_per_s, match, match_aligned
from mova.scenes.clapper.scene import ClapperScene

Floats = npt.NDArray[np.float64]
HEADLINE = "f1_corrected"
HEADLINE_WINDOW = "bt1359_detectability"
NUM_CHANCE_ROUNDS = 5


@dataclass(frozen=True)
class ClipTimes:
    """One clip as the scores see it.

    Args:
        kind: Kind or family of the scene: chance pairs a picture with the sounds of other clips of its kind.
        video_s: Times seen.
        audio_s: Times heard.
        lag_s: Time from what is seen to what is heard that the scene means.
        num_expected: Events that were asked for, per modality; what a clip costs in which nothing can be read.
    """

    kind: str
    video_s: tuple[float, ...]
    audio_s: tuple[float, ...]
    lag_s: float = 0.0
    num_expected: int = 0


@dataclass(frozen=True)
class Score:
    """Scores of a set of clips, by name (:data:`NAMES`).

    Args:
        numbers: The scores.
        num_clips: Clips.
        num_seen: Events seen.
        num_heard: Events heard.
    """

    numbers: Mapping[str, Number]
    num_clips: int
    num_seen: int
    num_heard: int

    @property
    def headline(self) -> Number:
        """The chance-corrected F1 in the detectability window."""
        return self.numbers[HEADLINE]


@dataclass(frozen=True)
class Difference:
    """A score of a second set of clips minus that of a first, of the same scenes.

    Args:
        value: Second minus first.
        interval: 95 %, the same clips drawn for both.
        floor: As in :class:`Number`.
    """

    value: float
    interval: Interval
    floor: float

    @property
    def is_below_floor(self) -> bool:
        """Whether the meter cannot tell the two apart, however many clips there are."""
        return bool(abs(self.value) <= self.floor)

    @property
    def verdict(self) -> str:
        """``"below the floor"``, ``"within chance"`` (the interval holds 0) or ``"different"``."""
        if not np.isfinite(self.value):
            return "not measured"
        if self.is_below_floor:
            return "below the floor"
        return "within chance" if self.interval[0] <= 0.0 <= self.interval[1] else "different"


NAMES: Mapping[str, str] = {
    HEADLINE: "",
    "offset_ms": "ms",
    "median_abs_ms": "ms",
    "mad_ms": "ms",
    "drift_ms_per_s": "ms/s",
    "sounding_rate": "",
    "hallucination_rate": "",
    "coverage": "",
    **{f"{part}_{window}": "" for window in WINDOWS_MS for part in ("f1", "precision", "recall")},
}
"""Every score and its unit. ``f1_45`` is the F1 within +-45 ms, and so on for the windows of ``WINDOWS_MS``."""


def clip_times(scene: ClapperScene, reading: Reading) -> ClipTimes:
    """What was read from a clip that was made for a scene."""
    return replace(true_times(scene), video_s=reading.seen_s, audio_s=reading.heard_s)


def true_times(scene: ClapperScene) -> ClipTimes:
    """The truth, as a perfect reader would find it in a perfect clip."""
    seen, heard = scene.times_s("video"), scene.times_s("audio")
    return ClipTimes(scene.family, seen, heard, scene.lag_s, max(len(seen), len(heard)))


def choose_others(kinds: Sequence[str], index: int, seed: int) -> list[int]:
    """Choose up to ``NUM_CHANCE_ROUNDS`` other clips of one clip's kind; which, follows from the seed and the index."""
    others = [place for place, kind in enumerate(kinds) if kind == kinds[index] and place != index]
    return [int(place) for place in np.random.default_rng([seed, index]).permutation(others)[:NUM_CHANCE_ROUNDS]]


def measure(clips: Sequence[ClipTimes], *, seed: int = 0) -> dict[str, float]:
    """The plain values of all scores, without intervals.

    Args:
        clips: At least one; controls have no sync and do not belong here.
        seed: Seed of the shuffles.

    Raises:
        ValueError: If there are no clips.
    """
    own, others = _rows(clips, seed)
    return _only(_values(_counts(own), _pairs(own), _counts(others), _everything(clips)))


def score(
    clips: Sequence[ClipTimes], *, floors: Mapping[str, float] | None = None, num_resamples: int = 1000, seed: int = 0
) -> Score:
    """Score a set of clips.

    Args:
        clips: As :func:`measure`.
        floors: Floors by name, from :func:`mova.lab.sync.floors.score_floors`.
        num_resamples: Draws of the bootstrap.
        seed: Seed of the shuffles and the bootstrap.

    Raises:
        ValueError: If there are no clips.
    """
    own, others = _rows(clips, seed)
    counts, pairs, chance = _counts(own), _pairs(own), _counts(others)
    everything = _everything(clips)
    values = _only(_values(counts, pairs, chance, everything))
    by_chance = _only(_values(chance, _pairs(others), chance, everything)) if chance.seen.any() else {}
    draws = _values(counts, pairs, chance, _picks(len(clips), num_resamples, seed))
    numbers = {
        name: Number(
            value=values[name],
            interval=interval(draws[name]),
            chance=float("nan") if name == "coverage" else by_chance.get(name, float("nan")),
            floor=(floors or {}).get(name, float("nan")),
            unit=unit,
        )
        for name, unit in NAMES.items()
    }
    return Score(numbers, len(clips), int(counts.seen.sum()), int(counts.heard.sum()))


def compare(
    first: Sequence[ClipTimes],
    second: Sequence[ClipTimes],
    *,
    floors: Mapping[str, float],
    num_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Difference]:
    """What changed from one set of clips to another of the same scenes, in the same order.

    Raises:
        ValueError: If there are no clips, or the two are not of the same scenes.
    """
    if [clip.kind for clip in first] != [clip.kind for clip in second]:
        raise ValueError(f"both sets must be of the same scenes in the same order; got {len(first)} and {len(second)} clips.")
    tables = []
    for clips in (first, second):
        own, others = _rows(clips, seed)
        tables.append((_counts(own), _pairs(own), _counts(others)))

    def change(picks: Picks) -> dict[str, Floats]:
        before, after = (_values(counts, pairs, chance, picks) for counts, pairs, chance in tables)
        return {name: after[name] - before[name] for name in NAMES}

    values, draws = _only(change(_everything(first))), change(_picks(len(first), num_resamples, seed))
    return {name: Difference(values[name], interval(draws[name]), floors.get(name, float("nan"))) for name in NAMES}


Rows = Sequence[Sequence[ClipTimes]]
Picks = npt.NDArray[np.int64]
"""``[R, N]``: the clips of each draw."""


@dataclass(frozen=True)
class _Counts:
    """Counts of every clip (of shuffled ones, sums over the rounds), so that a bootstrap only adds up.

    Args:
        seen: ``[N]`` events seen.
        heard: ``[N]`` events heard.
        missed: ``[N]`` events that nothing could be read of, on either side.
        matched: ``[N]`` pairs in each window.
        is_read: ``[N]`` whether anything was seen.
    """

    seen: Floats
    heard: Floats
    missed: Floats
    matched: Mapping[str, Floats]
    is_read: Floats


@dataclass(frozen=True)
class _Pairs:
    """Pairs of every clip after alignment.

    Args:
        paired: ``[N]`` how many.
        apart_ms: Their offsets, by clip.
        drifts: ``[N]`` ms/s; nan where it is unknown.
    """

    paired: Floats
    apart_ms: tuple[Floats, ...]
    drifts: Floats


def _rows(clips: Sequence[ClipTimes], seed: int) -> tuple[Rows, Rows]:
    """The clips as they are, one in a row, and in each row the same picture with the sounds of others of its kind."""
    if not clips:
        raise ValueError("a score needs at least one clip; got none.")
    return [[clip] for clip in clips], [_with_other_sounds(clips, index, seed) for index in range(len(clips))]


def _with_other_sounds(clips: Sequence[ClipTimes], index: int, seed: int) -> list[ClipTimes]:
    """One clip's picture with the sounds of others of its kind."""
    others = (clips[place] for place in choose_others([clip.kind for clip in clips], index, seed))
    return [replace(clips[index], audio_s=other.audio_s, lag_s=other.lag_s) for other in others]


def _counts(rows: Rows) -> _Counts:
    """One row per clip; the clips in a row are added up."""
    matched = {name: np.zeros(len(rows)) for name in WINDOWS_MS}
    seen, heard, missed, is_read = (np.zeros(len(rows)) for _ in range(4))
    for index, row in enumerate(rows):
        for clip in row:
            seen[index] += len(clip.video_s)
            heard[index] += len(clip.audio_s)
            is_read[index] += bool(clip.video_s)
            if not clip.video_s and not clip.audio_s:
                missed[index] += 2 * clip.num_expected
            for name, (low_ms, high_ms) in WINDOWS_MS.items():
                matched[name][index] += len(match(clip.video_s, _without_lag(clip), low_ms=low_ms, high_ms=high_ms))
    return _Counts(seen, heard, missed, matched, is_read)


def _pairs(rows: Rows) -> _Pairs:
    """One row per clip; the pairs of all clips in a row, and the drift of the last."""
    paired, drifts = np.zeros(len(rows)), np.full(len(rows), np.nan)
    apart: list[Floats] = []
    for index, row in enumerate(rows):
        offsets: list[float] = []
        for clip in row:
            audio = _without_lag(clip)
            pairs = match_aligned(clip.video_s, audio)
            paired[index] += len(pairs)
            delta_ms = [1000.0 * float(audio[second] - clip.video_s[first]) for first, second in pairs]
            offsets += delta_ms
            drifts[index] = drift_ms_per_s([clip.video_s[first] for first, _ in pairs], delta_ms)
        apart.append(np.array(offsets))
    return _Pairs(paired, tuple(apart), drifts)


def _without_lag(clip: ClipTimes) -> Floats:
    return np.asarray(clip.audio_s, dtype=np.float64) - clip.lag_s


def _values(own: _Counts, pairs: _Pairs, chance: _Counts, picks: Picks) -> dict[str, Floats]:
    """All scores of each draw: ``[R]`` of the clips in each row of ``picks``."""

    def total(counts: Floats) -> Floats:
        return np.asarray(counts[picks].sum(axis=1))

    seen, heard = total(own.seen), total(own.heard)
    all_events = seen + heard + total(own.missed)
    values = {}
    for name in WINDOWS_MS:
        matched = total(own.matched[name])
        values[f"f1_{name}"] = _share(2.0 * matched, all_events)
        values[f"precision_{name}"] = _share(matched, heard)
        values[f"recall_{name}"] = _share(matched, seen)
    by_chance = _share(2.0 * total(chance.matched[HEADLINE_WINDOW]), total(chance.seen + chance.heard + chance.missed))
    values[HEADLINE] = _share(values[f"f1_{HEADLINE_WINDOW}"] - by_chance, 1.0 - by_chance)
    values["offset_ms"], values["median_abs_ms"], values["mad_ms"] = _medians_of_pairs(pairs, picks)
    values["drift_ms_per_s"] = medians(pairs.drifts[picks])
    paired = total(pairs.paired)
    values["sounding_rate"] = _share(paired, seen)
    values["hallucination_rate"] = 1.0 - _share(paired, heard)
    values["coverage"] = np.mean(own.is_read[picks] > 0.0, axis=1)
    return values


def _medians_of_pairs(pairs: _Pairs, picks: Picks) -> tuple[Floats, Floats, Floats]:
    """Of each draw the median offset of its pairs, that of their sizes, and that of their distances from the offset."""
    table = np.full((len(pairs.apart_ms), max((one.size for one in pairs.apart_ms), default=0)), np.nan)
    for row, apart_ms in zip(table, pairs.apart_ms, strict=True):
        row[: apart_ms.size] = apart_ms
    found = []
    for some in np.array_split(picks, max(1, picks.size * table.shape[1] // _AT_ONCE)):
        apart = table[some].reshape(len(some), -1)
        offset_ms = medians(apart)
        found.append((offset_ms, medians(np.abs(apart)), medians(np.abs(apart - offset_ms[:, None]))))
    offsets, sizes, distances = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return offsets, sizes, distances


_AT_ONCE = 2**20
"""Offsets of pairs that are sorted at once: 8 MB."""


def _everything(clips: Sequence[ClipTimes]) -> Picks:
    return np.arange(len(clips))[None]


def _only(values: Mapping[str, Floats]) -> dict[str, float]:
    """The scores of the one draw that was made."""
    return {name: float(value[0]) for name, value in values.items()}


def _picks(num_clips: int, num_resamples: int, seed: int) -> Picks:
    return np.random.default_rng(seed).integers(num_clips, size=(num_resamples, num_clips))


def _share(part: Floats, whole: Floats) -> Floats:
    share: Floats = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0.0)
    return share
