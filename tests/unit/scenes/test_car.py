"""A passing car is heard from where it is seen, at the pitch that its speed gives it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from mova.scenes.kinds import car, kind_of
from mova.scenes.script import Script
from mova.scenes.world import draw, synthesise, write_script

RATE = 16000


def pass_in_the_middle(speed: str, direction: str) -> Script:
    """The first script of four seconds that has the pass near its middle."""
    scripts = (
        write_script("car", seed, seconds=4.0, attributes={"speed": speed, "direction": direction}) for seed in range(99)
    )
    return next(script for script in scripts if abs(script.events[0].time_s - 2.0) < 0.25)


def line_hz(samples: npt.NDArray[np.floating], expected_hz: float) -> float:
    """Frequency of the strongest line within 15 percent of an expected one."""
    power = np.abs(np.fft.rfft(samples * np.hanning(samples.size), 1 << 19))
    frequencies = np.fft.rfftfreq(1 << 19, 1.0 / RATE)
    near = np.abs(frequencies / expected_hz - 1.0) < 0.15
    return float(frequencies[near][np.argmax(power[near])])


@pytest.mark.parametrize("direction", car.DIRECTIONS)
@pytest.mark.parametrize("speed", car.SPEEDS_MPS)
def test_the_pitch_before_and_after_the_pass_has_the_ratio_that_the_speed_gives(speed: str, direction: str) -> None:
    script = pass_in_the_middle(speed, direction)
    assert isinstance(script.motion, car.CarMotion)
    mps = abs(script.motion.speed) * car.WIDTH_M
    audio = synthesise(script, sample_rate=RATE, num_samples=4 * RATE)[0]
    expected = 2.0 * (car.IDLE_HZ + car.HZ_PER_MPS * mps)
    second = int(script.events[0].time_s * RATE)
    # half of a second that is heard from as far before as after, where the car comes and goes almost straight
    coming = line_hz(audio[second - int(1.6 * RATE) : second - int(0.9 * RATE)], expected)
    going = line_hz(audio[second + int(0.9 * RATE) : second + int(1.6 * RATE)], expected)
    ratio = (car.SOUND_MPS + mps) / (car.SOUND_MPS - mps)
    assert coming / going == pytest.approx(ratio, rel=0.02)
    assert np.sqrt(coming * going) == pytest.approx(expected, rel=0.01)


def test_what_is_heard_was_sent_out_as_much_earlier_as_its_way_is_longer() -> None:
    sent = np.linspace(-2.0, 2.0, 101)
    way = np.sqrt(car.DISTANCE_M**2 + (17.0 * sent) ** 2) - car.DISTANCE_M
    np.testing.assert_allclose(car.emission_s(sent + way / car.SOUND_MPS, 17.0), sent, atol=1e-9)
    assert car.emission_s(np.zeros(1), 17.0)[0] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("direction", car.DIRECTIONS)
def test_the_balance_of_the_channels_follows_the_seen_place_and_the_level_its_distance(direction: str) -> None:
    script = pass_in_the_middle("slow", direction)
    assert isinstance(script.motion, car.CarMotion)
    fps, size = 32, 96
    frames = draw(script, width=size, height=size, fps=fps, num_frames=4 * fps).astype(np.float64)
    changed = np.abs(frames[:, 60:78] - frames[0, 60:78]).sum(axis=(1, 3))  # the street before the car comes
    changed[changed < 0.2 * changed.max()] = 0.0
    seen = changed.sum(axis=1) > 0.5 * changed.sum(axis=1).max()
    places = (changed[seen] @ (np.arange(size) + 0.5)) / changed[seen].sum(axis=1) / size
    audio = synthesise(script, sample_rate=RATE, num_samples=4 * RATE, channels=2).astype(np.float64)
    power = np.square(audio).reshape(2, 4 * fps, -1).mean(axis=2)
    heard = np.arctan2(np.sqrt(power[1]), np.sqrt(power[0])) / (np.pi / 2.0)
    assert seen.sum() > 0.5 * fps
    assert np.corrcoef(places, heard[seen])[0, 1] > 0.95
    level = np.sqrt(power.sum(axis=0))
    assert abs((int(np.argmax(level)) + 0.5) / fps - script.events[0].time_s) < 1.5 / fps
    times = (np.arange(4 * fps) + 0.5) / fps - script.events[0].time_s
    far = np.abs(times) > 0.7
    nearness = 1.0 / np.hypot(car.DISTANCE_M, script.motion.speed * car.WIDTH_M * times)
    assert np.corrcoef(level[far], nearness[far])[0, 1] > 0.95


def test_the_front_wheel_is_in_the_puddle_when_it_splashes() -> None:
    script = write_script("car", 2)
    assert isinstance(script.motion, car.CarMotion)
    assert script.motion.front(np.array([script.events[0].time_s]))[0] == 0.5
    assert script.events[0].place[0] == 0.5 and script.events[0].time_s == script.events[0].audio_time_s


def test_a_police_car_is_a_siren() -> None:
    assert kind_of("a police car at night with a fast siren") == "siren" and kind_of("a police car by day") == "siren"
    assert kind_of("a red car drives by") == "car" and kind_of("a red car drives by, no police") == "car"


def test_the_street_is_never_quite_still() -> None:
    frames = draw(write_script("car", 5), width=96, height=96, fps=16, num_frames=33)
    assert (frames[1:] != frames[:-1]).any(axis=(1, 2, 3)).all()
