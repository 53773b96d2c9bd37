"""A car drives by once: with the Doppler shift of its speed, from one side to the other, through a puddle in the middle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.signal import resample

from mova.scenes.kind import Kind, Light, Phrases, ReadingHints, Source, light_up
from mova.scenes.raster import (
    BLACK,
    COLOURS,
    WHITE,
    Box,
    Capsule,
    Colour,
    Disc,
    Ellipse,
    Exposure,
    Polygon,
    View,
    gradient,
    mix,
    paint,
    repeat,
    sparkle,
)
from mova.scenes.script import Attributes, Event, Image, Plan, Script, Value, generator, irregular_events, pick
from mova.scenes.sprites import blur, cut_out, paste
from mova.scenes.waves import MAX_OF_RATE, Band, Signal, Window, band_noise, harmonics, rise, strike, together

CAR_COLOURS = ("red", "orange", "yellow", "green", "blue", "white")
SPEEDS_MPS = {"slow": 8.0, "fast": 17.0}
"""Metres per second, within 5 percent."""
DIRECTIONS = {"left": -1, "right": 1}
WIDTH_M = 9.0
"""Metres that the picture shows from its left to its right edge."""
DISTANCE_M = 3.0
"""From the microphone to where the car passes it."""
SOUND_MPS = 343.0
ROAD_Y, WHEEL_Y = 0.69, 0.845
"""Far edge of the road and where the wheels touch it, in fractions of the height."""
SIZE = 1.2
"""Length of the car over that of the drawing it is made from, which is 0.48 of the short side."""
WHEEL_RADIUS, AXLE = 0.052 * SIZE, 0.145 * SIZE
"""Radius of a wheel and half the distance between the axles, in lengths of the short side."""
BODY_Y = (0.712, 0.752)
"""Rows in which a car has its colour and what is behind it is the road, in fractions of the height."""
PUDDLE_Y = 0.885
WATER: Colour = (0.30, 0.38, 0.47)
FOAM: Colour = (0.93, 0.97, 1.0)
SPLASH_S = 0.15
NUM_DROPS = 46
WIND = 0.035
"""How fast the clouds drift, in widths per second: the street is never quite still."""
IDLE_HZ, HZ_PER_MPS = 24.0, 1.1
"""Half the rate of firing of the engine at rest, and how much it rises with the speed."""


@dataclass(frozen=True)
class CarMotion:
    """When the front wheel is in the middle, its speed in widths per second (negative to the left), and the scenery."""

    pass_s: float
    speed: float
    scenery: int

    def front(self, time_s: Signal) -> Signal:
        """Place of the front wheel in fractions of the width."""
        return 0.5 + self.speed * (time_s - self.pass_s)


def choose(rng: np.random.Generator, seconds: float, pinned: Attributes) -> Attributes:
    """Attributes of a car."""
    return {
        "colour": pick(rng, CAR_COLOURS, pinned.get("colour")),
        "speed": pick(rng, tuple(SPEEDS_MPS), pinned.get("speed")),
        "direction": pick(rng, tuple(DIRECTIONS), pinned.get("direction")),
    }


def plan(rng: np.random.Generator, attributes: Attributes, seconds: float) -> Plan:
    """One pass; the exact speed differs a little from script to script."""
    scenery = int(rng.integers(len(_SKIES)))
    speed = SPEEDS_MPS[str(attributes["speed"])] * float(rng.uniform(0.95, 1.05)) / WIDTH_M
    events = irregular_events(rng, ["pass"], seconds, "pass", lambda _: (0.5, PUDDLE_Y), weakest=0.8)
    return Plan(events, CarMotion(events[0].time_s, speed * DIRECTIONS[str(attributes["direction"])], scenery))


def draw(script: Script, view: View, exposure: Exposure) -> Image:
    """The street once; the car, blurred by its way during an exposure; its wheels and the splash at each moment."""
    motion = script.motion
    assert isinstance(motion, CarMotion)
    colour, side = COLOURS[str(script.attributes["colour"])], 1.0 if motion.speed > 0.0 else -1.0
    dark = _street(view, motion.scenery)
    frames = repeat(dark, exposure.num_frames)

    def bright(_: str) -> Image:
        picture = dark.copy()
        paint(picture, Ellipse(view.at(0.5, PUDDLE_Y), 0.23 * view.unit, 0.05 * view.unit), colour=FOAM, opacity=0.5)
        paint(picture, Ellipse(view.at(0.5, PUDDLE_Y), 0.185 * view.unit, 0.038 * view.unit), colour=FOAM)
        return picture

    light_up(frames, dark, bright, script.events, exposure, SPLASH_S)
    car = cut_out(view, lambda image: _paint_car(image, view, (0.5, WHEEL_Y), side, colour))
    car = blur(car, abs(motion.speed) * view.width * exposure.shutter / exposure.fps)
    clouds = cut_out(view, lambda image: _paint_clouds(image, view, motion.scenery))
    moments = exposure.moments()
    for image, instants, fronts in zip(frames, moments, motion.front(moments), strict=True):
        for turn in (0.0, -1.25):  # what leaves on the right comes in again from the left
            paste(image, clouds, shift_px=((WIND * float(instants.mean())) % 1.25 + turn) * view.width)
        middles = fronts * view.width - side * AXLE * view.unit
        paste(image, car, shift_px=float(middles.mean()) - 0.5 * view.width)
        for axle in (-AXLE, AXLE):
            hubs = [(float(middle) + axle * view.unit, _hub_y(view)) for middle in middles]
            if max(x for x, _ in hubs) > -0.1 * view.width and min(x for x, _ in hubs) < 1.1 * view.width:
                turns = (fronts - 0.5) * view.width / (WHEEL_RADIUS * view.unit)
                _paint_spokes(image, hubs, turns, view)
        _draw_splash(image, view, script, instants, side)
    return frames


def _hub_y(view: View) -> float:
    return WHEEL_Y * view.height - WHEEL_RADIUS * view.unit


def _paint_spokes(image: Image, hubs: Sequence[tuple[float, float]], turns: Signal, view: View) -> None:
    """Five spokes of a wheel at each moment, turned as far as it has rolled (radians)."""
    reach = 0.6 * WHEEL_RADIUS * view.unit
    for spoke in np.arange(5) * 2.0 * np.pi / 5:
        ends = [
            (x + reach * float(np.cos(spoke + turn)), y + reach * float(np.sin(spoke + turn)))
            for (x, y), turn in zip(hubs, turns, strict=True)
        ]
        shapes = [Capsule(hub, end, 0.0095 * view.unit) for hub, end in zip(hubs, ends, strict=True)]
        paint(image, shapes, colour=(0.86, 0.87, 0.90))
    paint(image, [Disc(hub, 0.015 * view.unit) for hub in hubs], colour=(0.94, 0.95, 0.97))


def _draw_splash(image: Image, view: View, script: Script, instants: Signal, side: float) -> None:
    """Spray in two fans from where the wheel is in the water, and drops on ballistic paths, ahead more than behind."""
    (event,) = script.events
    since = instants - event.time_s
    since = since[(since > 0.0) & (since < 0.5)]
    if not since.size:
        return
    seen = since.size / instants.size
    age = float(since.mean())
    height = 0.23 * event.strength * (1.0 - float(np.exp(-age / 0.05)))
    fade = float(np.exp(-age / 0.13))
    for lean, share in ((side, 1.0), (-side, 0.7)):
        foot, tip = (
            view.near((0.5, WHEEL_Y), 0.02 * lean, 0.015),
            view.near((0.5, WHEEL_Y), 0.19 * lean * share, -height * share),
        )
        wide, back = (
            view.near((0.5, WHEEL_Y), 0.24 * lean * share, 0.01),
            view.near((0.5, WHEEL_Y), 0.07 * lean, -0.55 * height),
        )
        fan = Polygon((foot, back, tip, wide))
        paint(image, fan, colour=FOAM, opacity=0.7 * seen * fade, softness_px=max(1.0, 0.09 * view.unit))
    rng = generator(script.kind, script.seed, "drops")
    ahead = rng.uniform(-0.7, 1.1, NUM_DROPS) * side
    up, start, size = rng.uniform(0.35, 1.45, NUM_DROPS), rng.uniform(-0.08, 0.08, NUM_DROPS), rng.uniform(0.5, 1.0, NUM_DROPS)
    ages = since[:, None]
    x = 0.5 * view.width + (start + ahead * ages) * view.unit
    y = WHEEL_Y * view.height + (0.01 - up * event.strength * ages + 2.9 * ages**2) * view.unit
    weights = 0.9 * size * np.exp(-ages / 0.22) * (y < 0.97 * view.height) / instants.size
    points = np.stack((x, y), axis=-1).reshape(-1, 2)
    sparkle(image, points, weights.reshape(-1), colour=(0.85, 0.92, 1.0), radius_px=max(0.8, 0.009 * view.unit))


def _paint_car(image: Image, view: View, place: tuple[float, float], side: float, colour: Colour) -> None:
    """A car that stands with its wheels on a place and looks to the right (1) or to the left (-1)."""
    unit = SIZE * view.unit

    def at(dx: float, dy: float) -> tuple[float, float]:
        return view.near(place, SIZE * side * dx, SIZE * dy)

    def box(left: float, top: float, right: float, bottom: float, corner: float) -> Box:
        (x0, y0), (x1, y1) = at(left, top), at(right, bottom)
        return Box(min(x0, x1), y0, max(x0, x1), y1, corner * unit)

    def shape(*corners: tuple[float, float]) -> Polygon:
        return Polygon(tuple(at(dx, dy) for dx, dy in corners))

    edge, shade, gleam = mix(colour, BLACK, 0.55), mix(colour, BLACK, 0.24), mix(colour, WHITE, 0.45)
    paint(image, Ellipse(at(0.0, 0.004), 0.27 * unit, 0.020 * unit), colour=BLACK, opacity=0.6, softness_px=0.02 * unit)
    # the cabin, then the body with a bonnet that falls towards the front
    cabin = ((-0.185, -0.125), (-0.125, -0.235), (0.035, -0.238), (0.12, -0.125))
    paint(image, shape(*((1.06 * x, y - 0.008) for x, y in cabin)), colour=edge)
    paint(image, shape(*cabin), colour=colour)
    top = ((-0.235, -0.12), (-0.20, -0.150), (0.10, -0.148), (0.205, -0.118), (0.238, -0.085))
    body = (*top, (0.238, -0.035), (-0.238, -0.035))
    paint(image, shape(*((1.03 * x, y - 0.007 if y < -0.1 else y + 0.006) for x, y in body)), colour=edge)
    paint(image, shape(*body), colour=colour)
    paint(image, box(-0.235, -0.075, 0.238, -0.036, 0.01), colour=shade)
    paint(image, box(-0.20, -0.135, 0.12, -0.126, 0.004), colour=gleam, opacity=0.8)
    glass: Colour = (0.16, 0.25, 0.34)
    panes = (
        ((-0.155, -0.147), (-0.112, -0.222), (-0.048, -0.222), (-0.048, -0.147)),
        (
            (-0.032, -0.147),
            (-0.032, -0.222),
            (0.028, -0.224),
            (0.083, -0.147),
        ),
    )
    for pane in panes:
        paint(image, shape(*pane), colour=glass)
    paint(image, Disc(at(0.005, -0.178), 0.019 * unit), colour=(0.80, 0.62, 0.50))
    paint(image, shape((-0.100, -0.222), (-0.078, -0.222), (-0.118, -0.150), (-0.140, -0.150)), colour=WHITE, opacity=0.22)
    paint(image, Capsule(at(-0.040, -0.145), at(-0.040, -0.045), 0.0022 * unit), colour=edge)
    paint(image, box(-0.075, -0.118, -0.050, -0.111, 0.003), colour=edge)
    for end, lamp in ((0.226, (1.0, 0.95, 0.70)), (-0.228, (0.85, 0.10, 0.10))):
        paint(image, box(end - 0.016, -0.105, end + 0.012, -0.080, 0.008), colour=lamp)
    for end in (-0.236, 0.236):
        paint(image, box(end - 0.014, -0.048, end + 0.014, -0.030, 0.007), colour=(0.25, 0.26, 0.28))
    for axle in (-AXLE, AXLE):
        hub, radius = view.near(place, axle, -WHEEL_RADIUS), WHEEL_RADIUS * view.unit
        arch, tyre, rim, disc = mix(edge, BLACK, 0.6), (0.09, 0.09, 0.10), (0.52, 0.54, 0.57), (0.30, 0.31, 0.34)
        for share, shown in ((1.17, arch), (1.0, tyre), (0.66, rim), (0.56, disc)):
            paint(image, Disc(hub, share * radius), colour=shown)


_SKIES: tuple[tuple[Colour, Colour], ...] = (
    ((0.42, 0.66, 0.93), (0.84, 0.92, 0.98)),
    ((0.38, 0.68, 0.96), (0.90, 0.95, 0.92)),
    ((0.30, 0.24, 0.46), (0.98, 0.62, 0.42)),
)


def _street(view: View, scenery: int) -> Image:
    """A town, a country road, or a town at dusk."""
    image = gradient(view, *_SKIES[scenery])
    road_y = ROAD_Y * view.height
    if scenery == 1:
        _paint_hills(image, view)
    else:
        _paint_houses(image, view, is_dusk=scenery == 2)
    road: Colour = (0.30, 0.30, 0.34) if scenery == 2 else (0.40, 0.41, 0.43)
    path: Colour = (0.44, 0.62, 0.30) if scenery == 1 else mix(road, WHITE, 0.35)
    far = view.width + view.unit
    paint(image, Box(-view.unit, road_y - 0.035 * view.height, far, far + view.height), colour=path)
    paint(image, Box(-view.unit, road_y + 0.005 * view.height, far, far + view.height), colour=mix(road, WHITE, 0.55))
    paint(image, Box(-view.unit, road_y + 0.018 * view.height, far, far + view.height), colour=road)
    for x in (0.10, 0.37, 0.63, 0.90):
        ends = view.at(x - 0.055, 0.765), view.at(x + 0.055, 0.765)
        paint(image, Capsule(*ends, 0.008 * view.unit), colour=mix(road, (1.0, 0.98, 0.88), 0.75))
    puddle = view.at(0.5, PUDDLE_Y)
    paint(image, Ellipse(puddle, 0.205 * view.unit, 0.046 * view.unit), colour=mix(road, BLACK, 0.35))
    paint(image, Ellipse(puddle, 0.185 * view.unit, 0.038 * view.unit), colour=WATER)
    for dx, dy, reach in ((-0.06, -0.017, 0.05), (0.07, 0.018, 0.06)):
        ends = view.near((0.5, PUDDLE_Y), dx - reach, dy), view.near((0.5, PUDDLE_Y), dx + reach, dy)
        paint(image, Capsule(*ends, 0.003 * view.unit), colour=mix(WATER, WHITE, 0.35))
    return image


_BRICK, _SAND, _SLATE = (0.74, 0.56, 0.46), (0.80, 0.74, 0.62), (0.60, 0.62, 0.68)
_WALLS: tuple[Colour, ...] = (_BRICK, _SAND, _SLATE, (0.72, 0.48, 0.42), (0.83, 0.79, 0.72))


def _paint_houses(image: Image, view: View, *, is_dusk: bool) -> None:
    rows = ((0.02, 0.21, 0.30), (0.21, 0.38, 0.42), (0.38, 0.60, 0.25), (0.60, 0.80, 0.38), (0.80, 1.02, 0.28))
    for index, ((left, right, top), wall) in enumerate(zip(rows, _WALLS, strict=True)):
        base = mix(wall, (0.16, 0.13, 0.24), 0.78) if is_dusk else wall
        left = -0.5 if index == 0 else left
        right = 1.5 if index == 4 else right
        (x0, y0), (x1, y1) = view.at(left, top), view.at(right, ROAD_Y)
        paint(image, Box(x0, y0, x1, y1), colour=base)
        over, up = 0.008 * view.width, 0.022 * view.height
        paint(image, Box(x0 - over, y0 - up, x1 + over, y0 + 0.3 * up), colour=mix(base, BLACK, 0.4))
        num = 2 if min(right, 1.0) - max(left, 0.0) < 0.19 else 3
        xs = np.linspace(max(left, 0.0), min(right, 1.0), 2 * num + 1)[1::2]
        for row, y in enumerate(np.arange(top + 0.045, 0.60, 0.105)):
            for column, x in enumerate(xs):
                is_lit = is_dusk and (row + 2 * column + index) % 3 == 0
                glass: Colour = (1.0, 0.84, 0.48) if is_lit else mix((0.30, 0.42, 0.54), (0.10, 0.10, 0.20), 0.7 * is_dusk)
                window = Box((x - 0.020) * view.width, y * view.height, (x + 0.020) * view.width, (y + 0.055) * view.height)
                paint(image, window, colour=glass)


def _paint_clouds(image: Image, view: View, scenery: int) -> None:
    colour = (0.98, 0.72, 0.58) if scenery == 2 else WHITE
    for x, y, size in ((0.16, 0.15, 1.0), (0.52, 0.09, 0.85), (0.88, 0.17, 0.7)):
        for dx, dy, radius in ((-0.065, 0.012, 0.034), (0.0, 0.0, 0.047), (0.06, 0.012, 0.036)):
            puff = Disc(view.near((x, y), size * dx, size * dy), size * radius * view.unit)
            paint(image, puff, colour=colour, opacity=0.55 if scenery == 2 else 0.85, softness_px=max(1.0, 0.012 * view.unit))


def _paint_hills(image: Image, view: View) -> None:
    paint(image, Disc(view.at(0.80, 0.17), 0.065 * view.unit), colour=(1.0, 0.95, 0.72))
    for x, rx, ry, colour in ((0.10, 0.52, 0.26, (0.47, 0.66, 0.47)), (0.85, 0.60, 0.31, (0.40, 0.60, 0.40))):
        paint(image, Ellipse(view.at(x, ROAD_Y), rx * view.width, ry * view.height), colour=colour)
    paint(image, Ellipse(view.at(0.45, ROAD_Y), 0.75 * view.width, 0.12 * view.height), colour=(0.50, 0.70, 0.36))
    for x, height in ((0.08, 0.20), (0.30, 0.15), (0.70, 0.17), (0.95, 0.22)):
        foot = view.at(x, ROAD_Y - 0.02)
        trunk = Capsule(foot, (foot[0], foot[1] - 0.5 * height * view.unit), 0.010 * view.unit)
        paint(image, trunk, colour=(0.40, 0.28, 0.18))
        for dx, dy, size in ((-0.25, -0.70, 0.30), (0.25, -0.70, 0.30), (0.0, -0.95, 0.34)):
            crown = Disc((foot[0] + dx * height * view.unit, foot[1] + dy * height * view.unit), size * height * view.unit)
            paint(image, crown, colour=(0.20, 0.47, 0.22) if dx < 0 else (0.25, 0.54, 0.26))


def phrases(given: Mapping[str, Value]) -> Phrases:
    """Names colour, speed and direction."""
    colour, speed, to = given["colour"], given["speed"], given["direction"]
    origin = "left" if to == "right" else "right"
    article = "an" if colour == "orange" else "a"
    return (
        f"{article} {colour} car passes {speed} to the {to} and splashes through a puddle",
        f"a {speed} {colour} car drives through a puddle to the {to}",
        f"{article} {colour} car drives by, {speed}, to the {to}, through a puddle",
        f"a {speed} {colour} car comes from the {origin} and drives by",
    ), (
        f"{article} {colour} car drives by",
        f"a {speed} car passes to the {to}",
        f"{article} {colour} car splashes through a puddle",
    )


def emission_s(heard_s: Signal, speed_mps: float) -> Signal:
    """When what is heard was sent out, both in seconds from the pass.

    Solves ``heard = sent + (sqrt(DISTANCE_M**2 + (speed * sent)**2) - DISTANCE_M) / SOUND_MPS``: the delay of the pass itself
    is left out, so that what is sent out in the middle is heard at the pass.
    """
    arrival = heard_s + DISTANCE_M / SOUND_MPS
    slack = SOUND_MPS**2 - speed_mps**2
    root = np.sqrt((SOUND_MPS * speed_mps * arrival) ** 2 + slack * DISTANCE_M**2)
    return np.asarray((SOUND_MPS**2 * arrival - root) / slack)


def sound(script: Script, sample_rate: int, num_samples: int) -> Sequence[Source]:
    """Engine and tyres, from where the car is, and the splash in the middle."""
    motion, times = script.motion, np.arange(num_samples) / sample_rate
    assert isinstance(motion, CarMotion)
    speed = motion.speed * WIDTH_M
    sent = emission_s(times - motion.pass_s, abs(speed))
    nearness = DISTANCE_M / np.sqrt(DISTANCE_M**2 + (speed * sent) ** 2)
    sources: list[Source] = [(0, nearness * _drive(script, abs(speed), sent, sample_rate), 0.5 + motion.speed * sent)]
    for event in script.events:
        sources.append((*_splash(script, event, sample_rate, num_samples), event.place[0]))
    return sources


def _drive(script: Script, speed: float, sent_s: Signal, sample_rate: int) -> Signal:
    """Engine and tyres as they were at each time of sending: a tone of many harmonics and noise of its own clock."""
    pitch_hz = IDLE_HZ + HZ_PER_MPS * speed
    numbers = np.arange(1, int(min(2400.0, 0.9 * MAX_OF_RATE * sample_rate) / pitch_hz) + 1)
    levels = np.where(numbers % 2 == 0, 1.0, 0.35) / numbers**0.7  # every second harmonic is one of the firing
    levels /= np.sqrt(np.sum(np.square(levels)) / 2.0)
    engine = harmonics(2.0 * np.pi * pitch_hz * sent_s, levels * np.exp(1j * np.pi * numbers**2 / 24.0))
    rng = generator(script.kind, script.seed, "tyres")
    noise = band_noise(Window(0, sample_rate, 0.0, sample_rate), Band(250.0, 2400.0, 1, 1), rng)  # repeats after a second
    fine = resample(noise, 4 * noise.size)
    tyres = map_coordinates(fine, [sent_s * 4 * sample_rate], order=3, mode="grid-wrap")
    return np.asarray(0.055 * engine + (0.012 + 0.0012 * speed) * tyres)


def _splash(script: Script, event: Event, sample_rate: int, num_samples: int) -> tuple[int, Signal]:
    """The blow of the wheel on the water, the spray, and the rain of drops after it; 30 dB down within half a second."""
    rng = generator(script.kind, script.seed, "splash")

    def window(seconds: float) -> Window:
        return Window.after(event.audio_time_s, seconds, sample_rate=sample_rate, clip_samples=num_samples)

    blow, spray, drops = window(0.2), window(0.5), window(0.5)
    thump = 0.30 * np.sin(2.0 * np.pi * 85.0 * blow.times_s) * strike(blow, 0.035)
    water = 0.26 * band_noise(spray, Band(700.0, 6500.0, 2), rng) * strike(spray, 0.075, 0.001)
    rain = 0.05 * band_noise(drops, Band(2500.0, 7500.0, 2), rng) * rise(drops.times_s, 0.12) * np.exp(-drops.times_s / 0.12)
    return spray.first, event.strength**1.2 * together(thump, water, rain)


KIND = Kind(
    name="car",
    description="A car drives by, slowly or fast, to the left or to the right; in the middle it splashes through a puddle.",
    words=frozenset({"car", "cars", "puddle", "puddles"}),
    attributes={"colour": CAR_COLOURS, "speed": tuple(SPEEDS_MPS), "direction": tuple(DIRECTIONS)},
    labels=("pass",),
    choose=choose,
    plan=plan,
    draw=draw,
    sound=sound,
    phrases=phrases,
    example_captions=("a fast red car drives through a puddle to the right", "a blue car passes slow to the left"),
    reading=ReadingHints(
        lights=(Light((0.42, PUDDLE_Y - 0.015, 0.58, PUDDLE_Y + 0.015), WATER, FOAM, SPLASH_S, "pass"),), gap_s=0.2
    ),
)
