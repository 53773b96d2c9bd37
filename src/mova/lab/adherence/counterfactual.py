"""Does a clip change the right way when one thing in its prompt does? Pairs with one seed and one factor changed.

    for pair in counterfactual_scripts(script):            # of the rendered world, for a model: the first is the script itself
        judge_pair(pair, clip_of(pair.first), clip_of(pair.second))
    directional_accuracy(outcomes)["metal_decay_s"]        # value, Wilson interval, number of pairs

Only the direction counts, so nothing has to be calibrated: metal rings longer and brighter than wood, a ball from higher up is
louder and longer in the air, a smaller one is higher in pitch. What does not change, or cannot be read, is wrong: for
quantities that can tie (counts, colours) 0.5 is the most that chance can reach.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from mova.errors import RequestError
from mova.lab.adherence.physics import loudness_db
from mova.lab.numbers import median
from mova.lab.read.attributes import COLOURED
from mova.lab.read.events import Reading
from mova.lab.read.readers import body_hz, centroid_hz, read_all, ring_s
from mova.media.clip import Clip
from mova.scenes.clapper.plans import MARGIN_S
from mova.scenes.clapper.scene import ClapperScene, as_scene, make_scene
from mova.scenes.kinds import ball, definition_of
from mova.scenes.script import Event, Script, Value
from mova.scenes.world import write_script
from mova.timeline import Number

Scene = TypeVar("Scene")
HIGHER = 1.6
"""How many times as high the higher drop is."""


@dataclass(frozen=True)
class Counterfactual(Generic[Scene]):
    """Two scenes, or scripts, of one seed that differ in one thing.

    Args:
        name: Name of the change: ``metal``, ``drop``, ``size``, ``count``, ``colour``.
        first: One.
        second: The other.
        directions: Direction of every quantity that must change: 1 if it is more in the second, -1 if less.
        colours: The first's and the second's, where that is what is changed; the quantity is ``colour``.
    """

    name: str
    first: Scene
    second: Scene
    directions: Mapping[str, int]
    colours: tuple[str, str] | None = None


@dataclass(frozen=True)
class Measures:
    """What is measured of one clip.

    Args:
        values: Values by quantity; nan where it cannot be read.
        colours: Colours of its subject.
    """

    values: Mapping[str, float]
    colours: frozenset[str] = frozenset()


def counterfactual_scripts(script: Script) -> list[Counterfactual[Script]]:
    """Pairs of a script of the rendered world with ones that differ in one thing that its caption names.

    Wood for metal, large for small, one event more (fewer, where no more fit) and another colour, each where the kind has it.
    The second script has the seed and the phrasing of the first; where the number of events is another, so are their times.

    Args:
        script: From :func:`mova.scenes.world.write_script`; it is the first of every pair.

    Returns:
        The same for the same script; empty if its caption names nothing that can be changed.
    """
    pairs: list[Counterfactual[Script]] = []
    for change in _changes(script):
        try:
            other = write_script(definition_of(script), script.seed, seconds=script.seconds, attributes=change.attributes)
        except RequestError:
            continue  # more events than fit
        taken = any(pair.name == change.name for pair in pairs)
        if other.caption != script.caption and not taken:
            pairs.append(Counterfactual(change.name, script, other, change.directions, change.colours))
    return pairs


def counterfactual_scenes(seed: int, *, fps: Number = 24, seconds: Number = 4) -> list[Counterfactual[ClapperScene]]:
    """Pairs of bouncing balls: metal for wood, a higher drop, a smaller ball. Everything else is the same, and exact.

    Args:
        seed: The same seed gives the same pairs.
        fps: As :func:`mova.scenes.clapper.scene.make_scene`.
        seconds: Likewise.

    Raises:
        RequestError: As :func:`mova.scenes.clapper.scene.make_scene`, or if no ball has room for a higher drop.
    """
    base = _with_room(seed, fps, seconds)
    wood, metal = (_variant(base, floor=floor) for floor in ("wood", "metal"))
    low, high = _variant(base, drop=" from low down"), _variant(base, drop=" from high up", higher=HIGHER)
    large, small = (_variant(base, size=size) for size in ("large", "small"))
    return [
        Counterfactual("metal", wood, metal, {"decay_s": 1, "centroid_hz": 1}),
        Counterfactual("drop", low, high, {"first_level_db": 1, "first_interval_seen_s": 1, "first_interval_heard_s": 1}),
        Counterfactual("size", large, small, {"body_hz": 1}),
    ]


def judge_pair(pair: Counterfactual[Script], first: Clip, second: Clip) -> dict[str, bool]:
    """Judge whether two clips, made of a pair's two captions with one seed, differ the right way.

    Args:
        pair: From :func:`counterfactual_scripts`.
        first: Clip of the first.
        second: Clip of the second.

    Returns:
        By the pair's name and the quantity, ``metal_decay_s`` and so on; ``colour`` alone.
    """
    scene = as_scene(pair.first)
    return moves(
        pair, *(measure_quantities(read_all(clip, scene), clip.waveform, clip.sample_rate) for clip in (first, second))
    )


def measure_quantities(reading: Reading, waveform: npt.NDArray[np.float32], sample_rate: int) -> Measures:
    """Measure all that may have to change in a clip; of several sounds the median.

    Args:
        reading: Reading of the clip.
        waveform: ``[channels, S]``, its audio.
        sample_rate: Samples per second.
    """
    sound, times_s = (waveform, sample_rate), reading.heard_s
    spans = list(pairwise([*times_s, waveform.shape[1] / sample_rate]))
    values = {
        "events_seen": float(len(reading.seen)),
        "events_heard": float(len(reading.heard)),
        "first_interval_seen_s": _first_interval(reading.seen_s),
        "first_interval_heard_s": _first_interval(times_s),
        "first_level_db": loudness_db(*sound, times_s[0]) if times_s else float("nan"),
        "decay_s": median([ring_s(*sound, one, until_s=end) for one, end in spans]),
        "centroid_hz": median([centroid_hz(*sound, one, until_s=end) for one, end in spans]),
        "body_hz": median([body_hz(*sound, one, until_s=end) for one, end in spans]),
    }
    return Measures(values, reading.colours)


def moves(pair: Counterfactual[Scene], first: Measures, second: Measures) -> dict[str, bool]:
    """Whether each quantity of a pair moves the right way; one that stays, or cannot be read, does not."""
    values = [dict(one.values) for one in (first, second)]
    if pair.colours is not None:
        before, after = pair.colours
        for row, one in zip(values, (first, second), strict=True):
            row["colour"] = float(after in one.colours) - float(before in one.colours)
    changes = {name: sign * (values[1][name] - values[0][name]) for name, sign in pair.directions.items()}
    return {pair.name if name == pair.name else f"{pair.name}_{name}": bool(change > 0.0) for name, change in changes.items()}


@dataclass(frozen=True)
class _Change:
    """Attributes to pin for the second script of a pair."""

    name: str
    attributes: Mapping[str, Value]
    directions: Mapping[str, int]
    colours: tuple[str, str] | None = None


def _changes(script: Script) -> Iterator[_Change]:
    """What may be changed in a script; of two changes of one name the first that can be made counts."""
    given = dict(script.attributes)
    if given.get("floor") in ("wood", "metal"):
        to_metal = given["floor"] == "wood"
        sign = 1 if to_metal else -1
        floor = "metal" if to_metal else "wood"
        yield _Change("metal", given | {"floor": floor}, {"decay_s": sign, "centroid_hz": sign})
    if "size" in given:
        to_small = given["size"] == "large"
        yield _Change("size", given | {"size": "small" if to_small else "large"}, {"body_hz": 1 if to_small else -1})
    if "count" in given:
        for step in (1, -1):
            yield _Change("count", _with_count(script, step), {"events_seen": step, "events_heard": step})
    if script.kind in COLOURED:
        palette = definition_of(script).attributes["colour"]
        start = palette.index(given["colour"])
        colour = next(name for name in (*palette[start + 1 :], *palette) if name not in (given["colour"], given.get("colour2")))
        yield _Change("colour", given | {"colour": colour}, {"colour": 1}, (str(given["colour"]), str(colour)))


def _with_count(script: Script, step: int) -> dict[str, Value]:
    """The attributes with one event more or fewer; of a sequence, its last item goes, or the next of all items comes."""
    given = dict(script.attributes)
    if "sequence" not in given:
        return given | {"count": int(given["count"]) + step}
    items, allowed = str(given["sequence"]).split(), [str(one) for one in definition_of(script).attributes["sequence"]]
    more = [*items, allowed[(allowed.index(items[-1]) + 1) % len(allowed)]]
    del given["count"]
    return given | {"sequence": " ".join(more if step > 0 else items[:-1])}


_STRIDE, _TRIES = 1_000_003, 400
_HIGHEST = 0.5


def _with_room(seed: int, fps: Number, seconds: Number) -> ClapperScene:
    """The first of many scenes whose ball may fall from higher up, and then bounce again before the clip ends."""
    for attempt in range(_TRIES):
        scene = make_scene("bounce", seed + attempt * _STRIDE, fps=fps, seconds=seconds)
        flight = _flight(scene)
        fall = flight.impacts_s[0] - flight.release_s
        second_s = flight.impacts_s[0] + 2.0 * fall * HIGHER**0.5 * float(scene.attributes["restitution"])
        if 0.5 * flight.gravity * fall**2 * HIGHER <= _HIGHEST and second_s <= scene.seconds - MARGIN_S:
            return scene
    raise RequestError(
        f"no ball bounces from higher up within {float(seconds):g} s.", "Ask for a longer clip.", field="seconds"
    )


def _flight(scene: ClapperScene) -> ball.Flight:
    motion = scene.picture.motion
    assert isinstance(motion, ball.BallMotion)
    return motion.flights[0]


def _variant(
    scene: ClapperScene, *, floor: str | None = None, size: str | None = None, higher: float = 1.0, drop: str = ""
) -> ClapperScene:
    """The scene with one thing changed; loudness is on one scale for all of its variants."""
    motion, flight, given = scene.picture.motion, _flight(scene), dict(scene.attributes)
    assert isinstance(motion, ball.BallMotion)
    given |= {"floor": floor or given["floor"], "size": size or given["size"]}
    lowest = flight.impacts_s[0] - flight.release_s
    fall, restitution = lowest * higher**0.5, float(given["restitution"])
    impacts = [flight.impacts_s[0]]
    while impacts[-1] <= scene.seconds:
        impacts.append(impacts[-1] + 2.0 * fall * restitution ** len(impacts))
    given["count"] = len(impacts) - 1
    flight = replace(flight, release_s=impacts[0] - fall, impacts_s=tuple(impacts))
    hardest = lowest * HIGHER**0.5
    events = tuple(
        Event(
            time,
            time,
            "impact",
            str(given["floor"]),
            (flight.x + flight.drift * (time - impacts[0]), ball.FLOOR_Y),
            fall * restitution**index / hardest,
        )
        for index, time in enumerate(impacts[:-1])
    )
    caption = f"a {given['size']} {given['colour']} ball falls{drop} and bounces on {given['floor']}"
    motion = replace(motion, flights=(flight,), radius=ball.SIZES[str(given["size"])], floor=str(given["floor"]))
    script = replace(scene.picture, caption=caption, attributes=given, events=events, motion=motion)
    return replace(scene, picture=script, audio=script)


def _first_interval(times_s: Sequence[float]) -> float:
    return times_s[1] - times_s[0] if len(times_s) > 1 else float("nan")
