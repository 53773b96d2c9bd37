"""What happens in a scene of each family, placed by the rules: one function per family.

A scene is planned for a frame rate, because what can be measured depends on it: two events must lie six frames apart to be
told apart between frames. :class:`Rules` holds these limits; every family places its events by them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

import numpy as np

from mova.errors import RequestError
from mova.scenes.clapper.stages import PUCK_RADIUS, RAIL_Y, STROKE_S, WALL_X, LampMotion, RailMotion, StrokeMotion
from mova.scenes.kind import counted, times, write_caption
from mova.scenes.kinds import KINDS, ball
from mova.scenes.raster import WALLS
from mova.scenes.script import Event, Script, Value, pick

FPS_RANGE = (12, 60)
MIN_GAP_FRAMES = 6
MARGIN_S = 0.25
IRREGULAR = 0.15
"""Two intervals in a row differ by at least this share of the longer: a rhythm never matches itself one event later."""
SPEED_OF_SOUND = 343.0
"""Metres per second in air of 20 degrees."""
Attributes = dict[str, Value]
LAMP_COLOURS = ("red", "yellow", "green", "white")
PUCK_COLOURS = ("red", "yellow", "green", "white", "pink")


@dataclass(frozen=True)
class Rules:
    """Where events may lie.

    Args:
        fps: Frames per second.
        seconds: Length of the clip.
    """

    fps: Fraction
    seconds: float

    @property
    def gap_s(self) -> float:
        """Smallest distance of two events: six frames, and long enough for the ear to hear two."""
        return max(MIN_GAP_FRAMES / float(self.fps), 0.25)

    @property
    def last_s(self) -> float:
        """No event, seen or heard, is later."""
        return self.seconds - MARGIN_S

    def allow(self, times_s: tuple[float, ...]) -> bool:
        """Whether events of one modality keep margins, gaps and irregular intervals."""
        if not times_s:
            return True
        gaps = [second - first for first, second in pairwise(times_s)]
        inside = times_s[0] >= MARGIN_S - 1e-9 and times_s[-1] <= self.last_s + 1e-9
        apart = all(gap >= self.gap_s - 1e-9 for gap in gaps)
        uneven = all(abs(second - first) >= IRREGULAR * max(first, second) - 1e-9 for first, second in pairwise(gaps))
        return inside and apart and uneven

    def count(self, rng: np.random.Generator, *, most: int = 6, gap_s: float = 0.0, lag_s: float = 0.0) -> int:
        """How many events: up to ``most``, as far as they fit with room to be irregular, at least 3 if they do.

        Raises:
            RequestError: If not even one fits.
        """
        room = self._room(lag_s)
        fits = min(most, 1 + int(room / (1.4 * max(self.gap_s, gap_s))))
        return int(rng.integers(min(3, fits), fits + 1))

    def times(self, rng: np.random.Generator, count: int, *, gap_s: float = 0.0, lag_s: float = 0.0) -> tuple[float, ...]:
        """Irregular times, uniform among all that the rules allow.

        Args:
            rng: Drawn from until the times are irregular.
            count: From :meth:`count`.
            gap_s: A larger gap than the rules ask for.
            lag_s: How much later than these times their sounds come.

        Raises:
            RequestError: If ``count`` events do not fit.
        """
        gap = max(self.gap_s, gap_s)
        slack = self._room(lag_s) - gap * (count - 1)
        for _ in range(2000 if slack >= 0.0 else 0):
            points = np.sort(rng.uniform(0.0, slack, size=count))
            times = tuple(float(MARGIN_S + point + gap * index) for index, point in enumerate(points))
            if self.allow(times):
                return times
        raise self.too_short()

    def too_short(self) -> RequestError:
        """What to say if a clip does not hold its events."""
        return RequestError(
            f"the events do not fit in {self.seconds:g} s at {float(self.fps):g} frames per second.",
            "Ask for a longer clip.",
            field="seconds",
        )

    def _room(self, lag_s: float) -> float:
        room = self.seconds - 2 * MARGIN_S - lag_s
        if room < 0.0:
            raise self.too_short()
        return room


@dataclass(frozen=True)
class Plan:
    """What is drawn, what sounds, and how much later it sounds."""

    picture: Script
    audio: Script
    lag_s: float = 0.0


def bounce(rng: np.random.Generator, rules: Rules, seed: int) -> Plan:
    """One ball whose flights shrink by the same share each time."""
    chosen: Attributes = {
        "colour": pick(rng, ball.BALL_COLOURS),
        "size": pick(rng, tuple(ball.SIZES)),
        "floor": pick(rng, ball.FLOORS),
        "number": 1,
    }
    gravity, release, impacts, restitution = _bounces(rng, rules)
    chosen |= {"count": len(impacts) - 1, "restitution": restitution}
    radius, drift = ball.SIZES[str(chosen["size"])], float(rng.uniform(-0.06, 0.06))
    start = float(rng.uniform(0.4, 0.6)) - 0.5 * drift * (rules.seconds - 2 * impacts[0])
    flight = ball.Flight(release, gravity, impacts, start, drift, str(chosen["colour"]))
    falls = [impacts[0] - release, *(0.5 * (end - begin) for begin, end in pairwise(impacts[:-1]))]
    places = [(start + drift * (time - impacts[0]), ball.FLOOR_Y) for time in impacts[:-1]]
    events = tuple(
        Event(time, time, "impact", str(chosen["floor"]), place, fall / max(falls))
        for time, place, fall in zip(impacts[:-1], places, falls, strict=True)
    )
    motion = ball.BallMotion((flight,), radius, str(chosen["floor"]), int(rng.integers(len(WALLS))))
    script = Script("ball", seed, rules.seconds, write_caption(KINDS["ball"], chosen, rng), chosen, events, motion)
    return Plan(script, script)


def keys(rng: np.random.Generator, rules: Rules, seed: int) -> Plan:
    """Piano keys at irregular times."""
    return _sequence("piano", rng, rules, seed)


def drum(rng: np.random.Generator, rules: Rules, seed: int) -> Plan:
    """Drum pads at irregular times."""
    return _sequence("drums", rng, rules, seed)


def mouth(rng: np.random.Generator, rules: Rules, seed: int) -> Plan:
    """Syllables at irregular times, far enough apart for the mouth to close."""
    kind = KINDS["mouth"]
    chosen: Attributes = {name: pick(rng, kind.attributes[name]) for name in ("colour", "voice", "vowel")}
    chosen["count"] = rules.count(rng, gap_s=0.32)
    return _retimed("mouth", rng, rules, seed, chosen, rules.times(rng, int(chosen["count"]), gap_s=0.32))


def flash_beep(rng: np.random.Generator, rules: Rules, seed: int) -> Plan:
    """A lamp and a note, all flashes of a clip with the same one; two or more have a mean rate that the prompt names."""
    colour, note = pick(rng, LAMP_COLOURS), pick(rng, _NOTES)
    count = rules.count(rng)
    chosen: Attributes = {"colour": colour, "note": note, "count": count}
    times_s = rules.times(rng, count)
    motion = _lamp(rng, times_s, rules, radius=0.13)
    pace = ""
    if count > 1:
        chosen["per_minute"] = 5 * round(12.0 * (count - 1) / (times_s[-1] - times_s[0]))
        pace = f"about {chosen['per_minute']} times a minute, "
    caption = f"a {colour} lamp flashes {times(count)} in a dark room, {pace}each time with a beep, {note}".lower()
    script = _lamp_script("lamp", motion, seed, rules, chosen, caption, labels=[str(note)] * count)
    return Plan(script, replace(script, kind="piano"))


def far_flash(rng: np.random.Generator, rules: Rules, seed: int) -> Plan:
    """A flash at a distance that the prompt names; the bang follows at the speed of sound."""
    colour, distance_m = pick(rng, LAMP_COLOURS), int(rng.integers(10, 104))
    lag = distance_m / SPEED_OF_SOUND
    count = rules.count(rng, most=4, lag_s=lag)
    chosen: Attributes = {"colour": colour, "distance_m": distance_m, "count": count}
    motion = _lamp(rng, rules.times(rng, count, lag_s=lag), rules, radius=0.06)
    caption = f"{colour} fireworks {distance_m} metres away flash {times(count)}; the bang arrives later"
    script = _lamp_script("lamp", motion, seed, rules, chosen, caption, labels=["bang"] * count)
    events = tuple(replace(event, audio_time_s=event.time_s + lag) for event in script.events)
    return Plan(replace(script, events=events), replace(script, kind="fireworks", events=events), lag)


def mover(rng: np.random.Generator, rules: Rules, seed: int) -> Plan:
    """A body that crosses the picture from side to side; its notes are panned to where it is."""
    colour, note, rightward = pick(rng, LAMP_COLOURS), pick(rng, _NOTES), bool(rng.uniform() < 0.5)
    count = rules.count(rng)
    chosen: Attributes = {"colour": colour, "note": note, "to": "right" if rightward else "left", "count": count}
    start = -0.36 if rightward else 0.36
    lamp = _lamp(rng, rules.times(rng, count), rules, radius=0.10)
    motion = replace(lamp, way=(start, float(rng.uniform(-0.15, 0.15)), -2 * start / rules.seconds, 0.0))
    caption = f"a blinking {colour} light crosses to the {chosen['to']} and beeps {times(count)}, {note}".lower()
    script = _lamp_script("mover", motion, seed, rules, chosen, caption, labels=[str(note)] * count)
    return Plan(script, replace(script, kind="piano"))


def collision(rng: np.random.Generator, rules: Rules, seed: int) -> Plan:
    """Two equal pucks: the one that is hit takes over the speed, as in a cradle; a wall gives part of it back."""
    colours = [str(name) for name in rng.permutation(PUCK_COLOURS)[:2]]
    knots, places, contacts, restitution = _cradle(rng, rules)
    chosen: Attributes = {"colour": colours[0], "colour2": colours[1], "count": len(contacts), "restitution": restitution}
    fastest = max(speed for _, _, _, speed in contacts)
    events = tuple(
        Event(time, time, "contact", "wood" if with_wall else "glass", (0.5 + x, 0.5 + RAIL_Y - PUCK_RADIUS), speed / fastest)
        for time, x, with_wall, speed in contacts
    )
    motion = RailMotion(knots, places, (colours[0], colours[1]), int(rng.integers(len(WALLS))))
    caption = f"a {colours[0]} and a {colours[1]} puck on a rail hit each other and the walls {times(len(contacts))}"
    script = Script("rail", seed, rules.seconds, caption, chosen, events, motion)
    # small things ring higher than large ones
    return Plan(script, replace(script, kind="ball", attributes={**chosen, "size": "small"}))


def scrape(rng: np.random.Generator, rules: Rules, seed: int) -> Plan:
    """Strokes to and fro at irregular times; an event is the instant at which a stroke is fastest."""
    gap = STROKE_S + 0.12
    count = rules.count(rng, most=5, gap_s=gap)
    middles = rules.times(rng, count, gap_s=gap)
    start = float(rng.uniform(-0.3, 0.3))
    lengths: list[float] = []
    x = start
    for _ in range(count):
        target = float(rng.uniform(0.05, 0.32)) * (-1.0 if x > 0.0 else 1.0)
        lengths.append(target - x)
        x = target
    colour = str(pick(rng, PUCK_COLOURS))
    fastest = max(abs(length) for length in lengths)
    places = start + np.cumsum([0.0, *lengths])
    events = tuple(
        Event(time, time, "stroke", "", (0.5 + 0.5 * float(places[i] + places[i + 1]), 0.5 + RAIL_Y), abs(lengths[i]) / fastest)
        for i, time in enumerate(middles)
    )
    motion = StrokeMotion(middles, tuple(lengths), start, colour, int(rng.integers(len(WALLS))))
    chosen: Attributes = {"colour": colour, "count": count}
    caption = f"a {colour} block is dragged over a rough floor, {counted(count, 'stroke')} to and fro"
    script = Script("block", seed, rules.seconds, caption, chosen, events, motion)
    return Plan(script, replace(script, kind="scrape"))


def silent_motion(rng: np.random.Generator, rules: Rules, seed: int) -> Plan:
    """A ball that makes no sound."""
    plan = bounce(rng, rules, seed)
    picture = replace(plan.picture, caption=f"{plan.picture.caption}, in complete silence")
    return Plan(picture, replace(plan.audio, events=()))


def off_screen(rng: np.random.Generator, rules: Rules, seed: int) -> Plan:
    """Impacts somewhere else; the picture is an empty room."""
    plan = bounce(rng, rules, seed)
    motion = plan.picture.motion
    assert isinstance(motion, ball.BallMotion)
    caption = f"an empty room with a {plan.picture.attributes['floor']} floor; a ball bounces out of sight"
    picture = replace(plan.picture, caption=caption, events=(), motion=replace(motion, flights=()))
    return Plan(picture, replace(plan.audio, caption=caption))


def unrelated(rng: np.random.Generator, rules: Rules, seed: int) -> Plan:
    """The picture of one ball and the sound of another."""
    seen, heard = bounce(rng, rules, seed), bounce(rng, rules, seed)
    return Plan(seen.picture, heard.audio)


_NOTES = ("C", "D", "E", "F", "G", "A", "B")


def _sequence(kind: str, rng: np.random.Generator, rules: Rules, seed: int) -> Plan:
    count = rules.count(rng)
    items = KINDS[kind].attributes["sequence"]
    sequence = " ".join(str(pick(rng, items)) for _ in range(count))
    chosen: Attributes = {"sequence": sequence, "count": count}
    return _retimed(kind, rng, rules, seed, chosen, rules.times(rng, count))


def _retimed(
    kind: str, rng: np.random.Generator, rules: Rules, seed: int, chosen: Attributes, times_s: tuple[float, ...]
) -> Plan:
    """A scene of the rendered world with its events at other times."""
    made = KINDS[kind].plan(rng, chosen, rules.seconds)
    events = tuple(replace(event, time_s=time, audio_time_s=time) for event, time in zip(made.events, times_s, strict=True))
    caption = write_caption(KINDS[kind], chosen, rng)
    script = Script(kind, seed, rules.seconds, caption, chosen, events, made.motion)
    return Plan(script, script)


def _lamp(rng: np.random.Generator, times_s: tuple[float, ...], rules: Rules, *, radius: float) -> LampMotion:
    """A lamp that is lit long enough to fill at least one frame."""
    lit = max(0.12, 2.5 / float(rules.fps))
    x, y = (float(rng.uniform(-0.2, 0.2)) for _ in range(2))
    return LampMotion(tuple((time, time + lit) for time in times_s), (x, y, 0.0, 0.0), radius, int(rng.integers(len(WALLS))))


def _lamp_script(
    kind: str, motion: LampMotion, seed: int, rules: Rules, chosen: Attributes, caption: str, *, labels: list[str]
) -> Script:
    x, y, dx, dy = motion.way
    events = tuple(
        Event(on, on, "flash", label, (0.5 + x + dx * on, 0.5 + y + dy * on), 1.0)
        for (on, _), label in zip(motion.spans_s, labels, strict=True)
    )
    return Script(kind, seed, rules.seconds, caption, chosen, events, motion)


def _bounces(rng: np.random.Generator, rules: Rules) -> tuple[float, float, tuple[float, ...], float]:
    """Gravity, release, impacts (the one after the clip last) and restitution of a ball that keeps the rules.

    A fall of ``f`` seconds is followed by flights of ``2 f e, 2 f e^2, ...``. Beyond 4 s everything is slower, or the flights
    would be shorter than the gap before the clip ends.

    Raises:
        RequestError: If none of many draws fits.
    """
    slow = max(1.0, rules.seconds / 4.0)
    draws = rng.uniform(size=(3000, 4))
    for gravity_share, height_share, bounce_share, first_share in draws:
        gravity, restitution = (2.5 + 6.0 * gravity_share) / slow**2, 0.6 + 0.25 * bounce_share
        fall = float(np.sqrt(2.0 * (0.15 + 0.35 * height_share) / gravity))
        first = max(MARGIN_S, fall) + 0.6 * slow * first_share
        impacts = [first]
        while impacts[-1] <= rules.last_s:
            impacts.append(impacts[-1] + 2.0 * fall * restitution ** len(impacts))
            if impacts[-1] - impacts[-2] < rules.gap_s:
                break
        # the last one must lie behind the clip, not in its margin and not too close to the one before
        if impacts[-1] < rules.seconds + 0.02 or len(impacts) < 2:
            continue
        if rules.allow(tuple(impacts[:-1])):
            return gravity, first - fall, tuple(float(time) for time in impacts), restitution
    raise rules.too_short()


def _cradle(
    rng: np.random.Generator, rules: Rules
) -> tuple[tuple[float, ...], tuple[tuple[float, ...], ...], list[tuple[float, float, bool, float]], float]:
    """Knots in time, both pucks' places at them, contacts ``(time, x, with a wall, speed)``, and the walls' restitution.

    Raises:
        RequestError: If none of many draws fits.
    """
    edge, reach = WALL_X - PUCK_RADIUS, 2.0 * PUCK_RADIUS
    for left, right, first_speed, give in rng.uniform((-edge, -0.1, 0.25, 0.65), (-0.1, edge - 0.05, 1.6, 0.95), (4000, 4)):
        if right - left < reach + 0.05:
            continue
        time, speed, places = 0.0, float(first_speed) / max(1.0, rules.seconds / 4.0), [float(left), float(right)]
        contacts: list[tuple[float, float, bool, float]] = []
        knots, ways = [0.0], [[places[0]], [places[1]]]
        moving, heading = 0, 1
        while time <= rules.last_s:
            towards_other = (heading > 0) == (moving == 0)
            goal = places[1 - moving] - heading * reach if towards_other else heading * edge
            distance = abs(goal - places[moving])
            time, places[moving] = time + distance / speed, goal
            knots.append(time)
            for way, place in zip(ways, places, strict=True):
                way.append(place)
            contacts.append((time, goal + heading * PUCK_RADIUS, not towards_other, speed))
            if towards_other:
                moving = 1 - moving
            else:
                heading, speed = -heading, speed * give
        inside = contacts[:-1]
        gap = time - inside[-1][0] if inside else 0.0
        if len(inside) < min(3, int(rules.seconds)) or time < rules.seconds + 0.02 or gap < rules.gap_s:
            continue
        if rules.allow(tuple(contact[0] for contact in inside)):
            return tuple(knots), tuple(tuple(way) for way in ways), inside, float(give)
    raise rules.too_short()
