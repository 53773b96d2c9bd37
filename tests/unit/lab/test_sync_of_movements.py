"""Sync of small videos that the tests draw: bounces, strikes, claps and mouths, and things from which nothing can be told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from mova.lab.read.any_video import watch
from mova.lab.read.paths import find_shared_corner
from mova.lab.sync.crosscheck import correlate_onsets, cross_check
from mova.lab.sync.measure import Read, measure
from mova.lab.sync.result import VideoSync, add_pairs

Floats = NDArray[np.float64]
FPS, RATE, SIDE, SECONDS = 30, 16000, 64, 4.5
ROWS, COLUMNS = np.mgrid[0:SIDE, 0:SIDE] + 0.5
TIMES = (0.6, 1.15, 1.9, 2.4, 3.2, 3.75)


def draw(cover: Callable[[float], Floats], *, shutter: float = 0.5) -> NDArray[np.uint8]:
    """Frames of something bright before grey, of which ``cover`` tells at a time how much of each pixel it covers."""
    frames = []
    for index in range(int(SECONDS * FPS)):
        moments = (index + shutter * (np.arange(6) + 0.5) / 6) / FPS
        covered = np.mean([cover(float(time_s)) for time_s in moments], axis=0)[..., None]
        frames.append(np.round(255.0 * (0.3 + covered * (np.array([0.9, 0.7, 0.2]) - 0.3))).astype(np.uint8))
    return np.stack(frames)


def disc(x: float, y: float, radius: float) -> Floats:
    return np.clip(radius + 0.5 - np.hypot(COLUMNS - x, ROWS - y), 0.0, 1.0)


def block(x: float, y: float, width: float, height: float) -> Floats:
    across = np.clip(0.5 * (width + 1.0) - np.abs(COLUMNS - x), 0.0, 1.0)
    return across * np.clip(0.5 * (height + 1.0) - np.abs(ROWS - y), 0.0, 1.0)


def clicks(times_s: tuple[float, ...]) -> NDArray[np.float32]:
    """``[1, S]`` short bursts of noise."""
    rng = np.random.default_rng(0)
    audio = 1e-4 * rng.standard_normal(int(SECONDS * RATE))
    for time_s in times_s:
        first = round(time_s * RATE)
        burst = 0.5 * rng.standard_normal(600) * np.exp(-np.arange(600) / 120)
        audio[first : first + 600] += burst[: max(0, audio.size - first)]
    return audio[None].astype(np.float32)


def voice(loudness: Callable[[float], float]) -> NDArray[np.float32]:
    at_s = np.arange(int(SECONDS * RATE)) / RATE
    tone = np.sum([np.sin(2.0 * np.pi * 150.0 * n * at_s) / n for n in range(1, 8)], axis=0)
    coarse_s = np.arange(0.0, SECONDS, 0.002)
    return (0.2 * tone * np.interp(at_s, coarse_s, [loudness(float(time_s)) for time_s in coarse_s]))[None].astype(np.float32)


def bounces() -> tuple[Callable[[float], Floats], tuple[float, ...]]:
    """A ball that falls from 14 to 52 pixels, again and again lower, and when it touches the ground."""
    gravity, keep, drop = 260.0, 0.82, 38.0
    hits, speed = [0.3 + float(np.sqrt(2.0 * drop / gravity))], keep * float(np.sqrt(2.0 * drop * gravity))
    speeds = [speed]
    while hits[-1] + 2.0 * speeds[-1] / gravity < 3.9:
        hits.append(hits[-1] + 2.0 * speeds[-1] / gravity)
        speeds.append(keep * speeds[-1])

    def cover(time_s: float) -> Floats:
        if time_s < hits[0]:
            return disc(32.0, 14.0 + 0.5 * gravity * max(0.0, time_s - 0.3) ** 2, 5.0)
        last = int(np.searchsorted(hits, time_s, side="right")) - 1
        age = time_s - hits[last]
        return disc(32.0, 52.0 - max(0.0, speeds[last] * age - 0.5 * gravity * age**2), 5.0)

    return cover, tuple(hits)


def near(time_s: float, before_s: float, after_s: float) -> float:
    """1 at each of ``TIMES``, and less in proportion before and after, down to 0."""
    ages = time_s - np.array(TIMES)
    return float(np.clip(np.where(ages < 0.0, 1.0 + ages / before_s, 1.0 - ages / after_s), 0.0, 1.0).max())


def strike(time_s: float) -> Floats:
    return block(32.0, 14.0 + 34.0 * near(time_s, 0.12, 0.25), 24.0, 8.0)


def clap(time_s: float) -> Floats:
    apart = 20.0 * (1.0 - near(time_s, 0.15, 0.2))
    return np.asarray(block(32.0 - 4.0 - apart, 32.0, 8.0, 24.0) + block(32.0 + 4.0 + apart, 32.0, 8.0, 24.0))


def opening(time_s: float) -> float:
    ages = time_s - np.array(TIMES)
    rising = 0.5 - 0.5 * np.cos(np.pi * np.clip(ages / 0.08, 0.0, 1.0))
    return float((rising * (0.5 + 0.5 * np.cos(np.pi * np.clip((ages - 0.08) / 0.16, 0.0, 1.0)))).max())


def mouth(time_s: float) -> Floats:
    return block(32.0, 40.0, 24.0, 1.0 + 14.0 * opening(time_s))


def sync_of(cover: Callable[[float], Floats], audio: NDArray[np.float32]) -> VideoSync:
    return measure(Read(draw(cover), audio, float(FPS), RATE))


@pytest.mark.parametrize(("name", "offset_s"), [("bounce", -0.11), ("strike", 0.07), ("clap", 0.15)])
def test_the_offset_of_a_contact_is_measured_to_a_few_milliseconds(name: str, offset_s: float) -> None:
    ball, hits = bounces()
    cover = {"bounce": ball, "strike": strike, "clap": clap}[name]
    found = sync_of(cover, clicks(tuple(time_s + offset_s for time_s in (hits if name == "bounce" else TIMES))))
    assert found.offset_ms == pytest.approx(1000.0 * offset_s, abs=8.0)
    assert found.correlation_agrees is not False and found.num_events >= 4


def test_the_offset_of_a_mouth_is_measured_from_the_shape_of_its_loudness() -> None:
    found = sync_of(mouth, voice(lambda time_s: opening(time_s - 0.09)))
    assert found.offset_ms == pytest.approx(90.0, abs=5.0)


def test_a_voice_that_is_loudest_at_once_begins_with_the_opening_of_the_mouth() -> None:
    def loudness(time_s: float) -> float:
        ages = time_s - 0.09 - np.array(TIMES)
        return float((np.clip(ages / 0.012, 0.0, 1.0) * np.exp(-np.clip(ages, 0.0, None) / 0.12)).max())

    assert sync_of(mouth, voice(loudness)).offset_ms == pytest.approx(90.0, abs=12.0)


def test_what_closes_like_a_mouth_is_no_lamp_and_what_fades_or_goes_out_is_one() -> None:
    def fading(time_s: float) -> float:
        ages = time_s - np.array(TIMES)
        return float(np.where(ages < 0.0, 0.0, np.exp(-np.clip(ages, 0.0, None) / 0.12)).max())

    def lit(time_s: float) -> float:
        return float(any(0.0 <= time_s - one < 0.13 for one in TIMES))

    def labels(level: Callable[[float], float]) -> set[str]:
        frames = draw(lambda time_s: level(time_s * FPS / 24.0) * disc(32.0, 32.0, 6.0))
        return {train.label for train in watch(frames, 24.0).trains}

    assert "light" not in labels(opening) and "opening" in labels(opening)
    assert labels(fading) == labels(lit) == {"light"}


@pytest.mark.parametrize("hold_s", [0.0, 0.05, 0.08])
def test_what_stays_where_it_struck_is_timed_by_when_it_struck(hold_s: float) -> None:
    """The movement also begins and ends with a corner: neither is the contact."""
    fps, shutter, lag_s = 25.0, 1.0, 0.09
    hits = np.array([0.61, 1.335, 2.002, 2.817, 3.46])
    moments = (np.arange(100)[:, None] + shutter * (np.arange(8) + 0.5) / 8.0) / fps
    ages = moments[..., None] - hits
    falling, rising = np.clip(1.0 + ages / 0.14, 0.0, 1.0), np.clip(1.0 - (ages - hold_s) / 0.2, 0.0, 1.0)
    path = 60.0 * np.where(ages < 0.0, falling, rising).max(axis=2).mean(axis=1)[:, None]
    path = path + 0.3 * np.random.default_rng(0).standard_normal(path.shape)
    found = find_shared_corner(path, fps, shutter, hits + lag_s, lag_s - 0.5 * hold_s)
    assert found is not None and found.lag_s == pytest.approx(lag_s, abs=0.008)


def test_a_ball_that_passes_the_middle_of_its_way_touches_nothing_there() -> None:
    ball, hits = bounces()
    events = [event.time_s for event in watch(draw(ball), FPS).trains[0].events]
    # where it passes at the greatest speed
    passed_s = 0.3 + float(np.sqrt(2.0 * 19.0 / 260.0))
    assert min(abs(time_s - hits[0]) for time_s in events) < 0.006
    assert min(abs(time_s - passed_s) for time_s in events) > 0.05


@pytest.mark.parametrize("shutter", [0.0, 0.5, 1.0])
def test_how_long_the_shutter_was_open_is_measured_to_half_a_frame_from_smeared_edges(shutter: float) -> None:
    assert round(2.0 * watch(draw(strike, shutter=shutter), FPS).shutter) == 2.0 * shutter


def test_a_smooth_movement_has_no_offset() -> None:
    def swing(time_s: float) -> Floats:
        return disc(32.0 + 18.0 * float(np.sin(3.1 * time_s)), 32.0, 6.0)

    assert sync_of(swing, clicks(TIMES)).offset_ms is None


def test_unrelated_clicks_and_silence_have_no_offset() -> None:
    assert sync_of(strike, clicks((0.42, 0.9, 1.4, 2.15, 2.77, 3.5, 4.1))).offset_ms is None
    assert sync_of(strike, np.zeros((1, int(SECONDS * RATE)), np.float32)).offset_ms is None


def test_the_correlation_of_change_and_onsets_finds_a_rough_lag() -> None:
    activity = np.zeros(150)
    activity[[20, 33, 61, 80, 104]] = 1.0
    found = correlate_onsets(activity, 30.0, clicks(tuple(frame / 30.0 + 0.25 for frame in (20, 33, 61, 80, 104))), RATE)
    assert found is not None and found.is_clear
    assert found.lag_ms == pytest.approx(250.0, abs=40.0)
    assert found.differs_from(0.0) and not found.differs_from(200.0)
    assert correlate_onsets(np.zeros(150), 30.0, clicks((1.0,)), RATE) is None
    assert correlate_onsets(activity, 30.0, np.zeros((1, 0), np.float32), RATE) is None


def test_a_result_that_the_correlation_contradicts_gets_no_verdict() -> None:
    """What is paired is in step, but nearly all change comes half a second before what is heard."""
    activity = np.zeros(int(SECONDS * FPS))
    activity[[round((time_s - 0.5) * FPS) for time_s in TIMES]] = 1.0
    start = VideoSync("any video", SECONDS, TIMES, TIMES, activity=tuple(activity.tolist()))
    paired = add_pairs(start, [(time_s, time_s) for time_s in TIMES])
    found = cross_check(paired, FPS, clicks(TIMES), RATE)
    assert (paired.verdict, found.verdict, found.is_sure) == ("in step", "cannot tell", False)
    assert found.correlation_agrees is False and found.correlation_ms == pytest.approx(500.0, abs=40.0)
    assert "+0 ms" in found.why and found.as_dict()["confidence"]["correlation_agrees"] is False
    agreed = cross_check(replace(paired, activity=tuple(np.roll(activity, 15).tolist())), FPS, clicks(TIMES), RATE)
    assert agreed.verdict == "in step" and agreed.correlation_agrees is True
