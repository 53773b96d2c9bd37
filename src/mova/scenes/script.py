"""What happens in a rendered clip, before a pixel or a sample of it exists: a script with exact event times.

A script knows no resolution, frame rate or sample rate. Times are seconds from the start of frame 0; places
are unit picture coordinates (x to the right, y down, both in 0..1). The picture (:mod:`mova.scenes.world`)
and the sound (:mod:`mova.scenes.world`) are both made from the script, so the script is the ground truth of
their sync.
"""

from __future__ import annotations

import difflib
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mova.errors import RequestError

if TYPE_CHECKING:
    from mova.scenes.kind import Kind

Value = str | int | float
Attributes = dict[str, Value]
Image = NDArray[np.float32]

DEFAULT_SECONDS = 2.0625
"""33 frames at 16 per second."""
FIRST_EVENT_S = 0.12
"""No event is earlier than this: a detector needs a stretch of quiet before the first onset."""
LAST_EVENT_S = 0.2
"""No event is later than this before the end: a detector needs the start of its decay."""
MIN_GAP_S = 0.22
MIN_SECONDS = 0.5
MAX_COUNT = 12


@dataclass(frozen=True)
class Event:
    """One thing that is seen and heard.

    Args:
        time_s: Time at which it is seen.
        audio_time_s: Time at which it is heard; later than ``time_s`` only for what is far away.
        kind: What it is: impact, hit, note, syllable, tick, switch, thunder, burst.
        label: What it is of its kind: pad colour, note name, vowel, floor, tone.
        place: Place in unit picture coordinates ``(x, y)``, y down.
        strength: Loudness and brightness, in 0..1.
    """

    time_s: float
    audio_time_s: float
    kind: str
    label: str
    place: tuple[float, float]
    strength: float


@dataclass(frozen=True)
class Plan:
    """What a kind makes of its attributes: the events in order of time, and what its own drawing needs."""

    events: tuple[Event, ...]
    motion: object


@dataclass(frozen=True)
class Script:
    """A clip to be: what is in it and when what happens.

    Args:
        kind: Name of its kind.
        seed: Number that, with the kind, the length and the pinned attributes, fixes everything else.
        seconds: Length that the events were placed in.
        caption: The prompt that asks for this clip.
        attributes: Everything that was chosen, by name; pinning all of it gives the same script again.
        events: What happens, in order of ``time_s``.
        motion: The kind's own frozen layout: trajectories, radii, shapes. Only its drawing reads it.
        definition: The kind itself; None for one that is found by its name.

    Raises:
        ValueError: If the definition is that of another kind.
    """

    kind: str
    seed: int
    seconds: float
    caption: str
    attributes: Mapping[str, Value]
    events: tuple[Event, ...]
    motion: object
    definition: Kind | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.definition is not None and self.definition.name != self.kind:
            raise ValueError(f"a script of kind {self.kind!r} cannot have the definition of {self.definition.name!r}.")


def generator(kind: str, seed: int, purpose: str) -> np.random.Generator:
    """A random stream of its own for each (kind, seed, purpose); the same in every process."""
    entropy = [zlib.crc32(kind.encode()), seed, zlib.crc32(purpose.encode())]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


def nearest_hint(given: object, allowed: Iterable[object]) -> str:
    """``Did you mean ...? Allowed: ...`` for a misspelt word."""
    words = [str(word) for word in allowed]
    close = difflib.get_close_matches(str(given), words, n=1, cutoff=0.5)
    guess = f"Did you mean {close[0]!r}? " if close else ""
    return f"{guess}Allowed: {', '.join(words)}."


def pick(rng: np.random.Generator, values: Sequence[Value], pinned: Value | None = None) -> Value:
    """One of ``values``. Draws even if pinned, so that pinning one attribute leaves the others alone."""
    drawn = values[int(rng.integers(len(values)))]
    return drawn if pinned is None else pinned


def pick_count(rng: np.random.Generator, seconds: float, pinned: Attributes, *, low: int, high: int, capacity: int) -> int:
    """How many events: ``low..high`` at the default length, in proportion at others, within ``capacity``.

    Args:
        rng: Drawn from once, pinned or not.
        seconds: Length of the clip.
        pinned: ``count``, if the user gave one.
        low: Fewest at :data:`DEFAULT_SECONDS`.
        high: Most at :data:`DEFAULT_SECONDS`.
        capacity: What fits, from :func:`capacity`.

    Raises:
        RequestError: If a pinned count does not fit.
    """
    scale = seconds / DEFAULT_SECONDS
    most = max(1, min(capacity, MAX_COUNT, round(high * scale)))
    least = min(most, max(1, round(low * min(scale, 1.0))))
    drawn = int(rng.integers(least, most + 1))
    given = pinned.get("count")
    if given is None:
        return drawn
    limit = min(capacity, MAX_COUNT)
    if not isinstance(given, int) or not 1 <= given <= limit:
        raise RequestError(
            f"count must be 1 to {limit} in a clip of {seconds:g} s; got {given}.", "Ask for fewer, or for a longer clip."
        )
    return given


def capacity(seconds: float, *, gap_s: float = MIN_GAP_S, first_s: float = FIRST_EVENT_S, lag_s: float = 0.0) -> int:
    """How many events with a gap of ``gap_s`` fit in ``seconds``, at least one."""
    room = seconds - LAST_EVENT_S - lag_s - first_s
    return max(1, int((room + 1e-9) / gap_s) + 1)


def irregular_times(
    rng: np.random.Generator,
    count: int,
    seconds: float,
    *,
    gap_s: float = MIN_GAP_S,
    first_s: float = FIRST_EVENT_S,
    lag_s: float = 0.0,
) -> list[float]:
    """``count`` times, uniform among all that keep the margins and are at least ``gap_s`` apart.

    Points uniform in the room left over, sorted, then pushed apart: every legal set is equally likely.
    """
    room = seconds - LAST_EVENT_S - lag_s - first_s - gap_s * (count - 1)
    points = np.sort(rng.uniform(0.0, max(room, 0.0), size=count))
    return [first_s + float(point) + gap_s * index for index, point in enumerate(points)]


def periodic_times(rng: np.random.Generator, period_s: float, seconds: float) -> tuple[float, list[float]]:
    """The period, stretched a little if need be, and the times of a beat that never falls in the margins.

    A beat has no say in where it falls, so phase and period are chosen such that the beat before the first is
    before the clip, the beat after the last is after it, and none is closer to an end than the margins.
    """
    margins = FIRST_EVENT_S + LAST_EVENT_S
    gaps = max(0, int((seconds - margins) / period_s))
    period_s = max(period_s, seconds / (gaps + 2))
    slack = seconds - margins - gaps * period_s
    earliest = max(0.0, slack - (period_s - LAST_EVENT_S))
    latest = min(slack, period_s - FIRST_EVENT_S)
    first = FIRST_EVENT_S + float(rng.uniform(earliest, max(earliest, latest)))
    return period_s, [first + index * period_s for index in range(gaps + 1)]


def parse_sequence(given: Value, items: Sequence[str], field: str) -> tuple[str, ...]:
    """The items of a sequence attribute, written with spaces or commas.

    Raises:
        RequestError: If it is empty or names something else.
    """
    lookup = {item.lower(): item for item in items}
    words = str(given).replace(",", " ").split()
    if not words:
        raise RequestError(f"{field} is empty.", nearest_hint("", items))
    for word in words:
        if word.lower() not in lookup:
            raise RequestError(f"{field} has no {word!r}.", nearest_hint(word, items))
    return tuple(lookup[word.lower()] for word in words)


def pick_sequence(
    rng: np.random.Generator,
    seconds: float,
    pinned: Attributes,
    items: Sequence[str],
    *,
    low: int = 2,
    high: int = 4,
    gap_s: float = MIN_GAP_S,
    lag_s: float = 0.0,
) -> Attributes:
    """The attributes ``sequence`` and ``count`` of a kind whose events are items in order.

    Args:
        rng: Drawn from as often, pinned or not.
        seconds: Length of the clip.
        pinned: ``sequence`` or ``count``, if the user gave them.
        items: Items that a sequence can have.
        low: Fewest at :data:`DEFAULT_SECONDS`.
        high: Most at :data:`DEFAULT_SECONDS`.
        gap_s: Least time from item to item.
        lag_s: Time that the last item needs before the end beside :data:`LAST_EVENT_S`.

    Raises:
        RequestError: If the pinned sequence and count disagree, or the sequence does not fit in the clip.
    """
    fits = capacity(seconds, gap_s=gap_s, lag_s=lag_s)
    count = pick_count(rng, seconds, pinned, low=low, high=high, capacity=fits)
    drawn = [items[int(index)] for index in rng.integers(len(items), size=MAX_COUNT)]
    if "sequence" not in pinned:
        return {"sequence": " ".join(drawn[:count]), "count": count}
    sequence = parse_sequence(pinned["sequence"], items, "sequence")
    if "count" in pinned and pinned["count"] != len(sequence):
        raise RequestError(f"count is {pinned['count']} but sequence has {len(sequence)} items.", "Give only the sequence.")
    if len(sequence) > min(fits, MAX_COUNT):
        raise RequestError(
            f"sequence has {len(sequence)} items; {min(fits, MAX_COUNT)} fit in {seconds:g} s.",
            "Shorten it, or ask for a longer clip.",
        )
    return {"sequence": " ".join(sequence), "count": len(sequence)}


def sequence_events(
    rng: np.random.Generator, attributes: Attributes, seconds: float, kind: str, place: Callable[[str], tuple[float, float]]
) -> tuple[Event, ...]:
    """An event for each item of the attribute ``sequence``: at an irregular time, at the item's place, labelled by the item."""
    return irregular_events(rng, str(attributes["sequence"]).split(), seconds, kind, place)


def irregular_events(
    rng: np.random.Generator,
    labels: Sequence[str],
    seconds: float,
    kind: str,
    place: Callable[[str], tuple[float, float]],
    *,
    gap_s: float = MIN_GAP_S,
    lag_s: float = 0.0,
    weakest: float = 0.7,
) -> tuple[Event, ...]:
    """An event for each label in order: at an irregular time, at the label's place, of a strength from ``weakest`` to 1."""
    times = irregular_times(rng, len(labels), seconds, gap_s=gap_s, lag_s=lag_s)
    strengths = rng.uniform(weakest, 1.0, size=len(labels))
    return tuple(
        Event(time, time, kind, label, place(label), float(strength))
        for time, label, strength in zip(times, labels, strengths, strict=True)
    )
