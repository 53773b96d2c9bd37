"""Sync of videos drawn in another style: hard edges on whole pixels, dark on white, each frame a moment without blur."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from mova.lab.read.any_video import watch
from mova.lab.read.audio_events import find_onsets
from mova.lab.sync.align import CHANCE, Seen, align
from mova.lab.sync.measure import Read, measure
from mova.lab.sync.result import VideoSync

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
FPS, RATE, HEIGHT, WIDTH, SECONDS = 25, 22050, 72, 96, 5.0
ROWS, COLUMNS = np.mgrid[0:HEIGHT, 0:WIDTH]
TIMES = (0.713, 1.302, 2.084, 2.651, 3.497, 4.118)


def draw(inked: Callable[[float], Mask], *, paper: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """Frames in which ``inked`` tells at a time which pixels are dark, on white or on a given picture."""
    back = np.full((HEIGHT, WIDTH, 3), 245, np.uint8) if paper is None else paper
    ink = np.array([40, 30, 70], np.uint8)
    return np.stack([np.where(inked(index / FPS)[..., None], ink, back) for index in range(int(SECONDS * FPS))])


def thuds(times_s: tuple[float, ...]) -> NDArray[np.float32]:
    """``[1, S]`` a low tone that dies away, with a rattle at first."""
    rng = np.random.default_rng(1)
    audio = 1e-4 * rng.standard_normal(int(SECONDS * RATE))
    age = np.arange(RATE // 5) / RATE
    for time_s in times_s:
        first = round(time_s * RATE)
        rattle = rng.standard_normal(age.size) * np.exp(-age / 0.004)
        blow = 0.4 * np.sin(2.0 * np.pi * 140.0 * age) * np.exp(-age / 0.05) + 0.1 * rattle
        audio[first : first + age.size] += blow[: max(0, audio.size - first)]
    return audio[None].astype(np.float32)


def nearness(time_s: float, before_s: float, after_s: float, *, hold_s: float = 0.0) -> float:
    """1 at each of ``TIMES`` and ``hold_s`` on, faster and faster before, evenly less after, down to 0."""
    ages = time_s - np.array(TIMES)
    before, after = np.clip(1.0 + ages / before_s, 0.0, 1.0) ** 2, np.clip(1.0 - (ages - hold_s) / after_s, 0.0, 1.0)
    return float(np.where(ages < 0.0, before, after).max())


def hammer(time_s: float) -> Mask:
    """A stick that turns around its left end and strikes with its head."""
    angle = 0.9 * (1.0 - nearness(time_s, 0.14, 0.25))
    x, y = 20.0 + 50.0 * np.cos(angle), 52.0 - 50.0 * np.sin(angle)
    along = np.clip(((COLUMNS - 20.0) * (x - 20.0) + (ROWS - 52.0) * (y - 52.0)) / 2500.0, 0.0, 1.0)
    stick = np.hypot(COLUMNS - 20.0 - along * (x - 20.0), ROWS - 52.0 - along * (y - 52.0)) < 2.0
    return np.asarray(stick | (np.hypot(COLUMNS - x, ROWS - y) < 7.0))


def piston(time_s: float) -> Mask:
    """A block that comes down from above the picture, and rests for a moment where it strikes."""
    end = 50.0 * nearness(time_s, 0.16, 0.22, hold_s=0.06)
    return np.asarray((np.abs(COLUMNS - 48) < 12) & (round(end) > ROWS))


def hands(time_s: float) -> Mask:
    """Two bars that meet in the middle."""
    gap = 26.0 * (1.0 - nearness(time_s, 0.16, 0.2))
    left, right = COLUMNS - (44 - round(gap)), COLUMNS - (52 + round(gap))
    return np.asarray(((np.abs(left) < 4) | (np.abs(right) < 4)) & (np.abs(ROWS - 36) < 16))


def sync_of(inked: Callable[[float], Mask], audio: NDArray[np.float32], **how: NDArray[np.uint8]) -> VideoSync:
    return measure(Read(draw(inked, **how), audio, float(FPS), RATE))


@pytest.mark.parametrize("offset_s", [-0.17, 0.045])
@pytest.mark.parametrize("inked", [hammer, hands])
def test_blows_drawn_with_hard_edges_are_timed_to_a_few_milliseconds(inked: Callable[[float], Mask], offset_s: float) -> None:
    found = sync_of(inked, thuds(tuple(time_s + offset_s for time_s in TIMES)))
    assert found.offset_ms == pytest.approx(1000.0 * offset_s, abs=12.0)


def test_hands_before_a_coarse_pattern_meet_where_they_meet_and_not_where_they_pass_its_edges() -> None:
    pattern = np.where((ROWS // 9 + COLUMNS // 9)[..., None] % 2 == 0, 245, 150) * np.ones(3)
    found = sync_of(hands, thuds(tuple(time_s + 0.08 for time_s in TIMES)), paper=pattern.astype(np.uint8))
    assert found.offset_ms == pytest.approx(80.0, abs=15.0)


def test_what_comes_in_from_one_side_strikes_at_its_end_and_is_no_mouth() -> None:
    found = sync_of(piston, thuds(tuple(time_s - 0.06 for time_s in TIMES)))
    assert found.offset_ms == pytest.approx(-60.0, abs=15.0)


def lit(times_s: tuple[float, ...]) -> Callable[[float], Mask]:
    return lambda time_s: np.full((HEIGHT, WIDTH), any(0.0 <= time_s - one < 0.12 for one in times_s))


def test_flashes_without_blur_are_timed_within_the_frame_that_all_of_them_allow() -> None:
    """Each is known to a frame of 40 ms only; half a frame before most of their frames would be off by 12 ms."""
    late = np.array([0.036, 0.033, 0.029, 0.002, 0.031, 0.038])
    times = tuple((np.array([18, 33, 53, 67, 88, 103]) / FPS - late).tolist())
    found = sync_of(lit(times), thuds(tuple(time_s + 0.11 for time_s in times)))
    assert found.offset_ms == pytest.approx(110.0, abs=4.0)


def test_a_voice_that_swells_with_a_jaw_and_is_silent_in_between_is_timed_by_its_shape() -> None:
    def opened(time_s: float) -> float:
        ages = time_s - np.array(TIMES)
        return float(np.where((ages > 0.0) & (ages < 0.26), np.sin(np.pi * np.clip(ages, 0.0, 0.26) / 0.26), 0.0).max())

    def jaw(time_s: float) -> Mask:
        return np.asarray((np.abs(COLUMNS - 48) < 14) & (np.abs(ROWS - 40) < 1.0 + 14.0 * opened(time_s)))

    at_s = np.arange(int(SECONDS * RATE)) / RATE
    coarse_s = np.arange(0.0, SECONDS, 0.002)
    loudness = np.interp(at_s, coarse_s, [opened(float(time_s) + 0.12) for time_s in coarse_s])
    voice = 0.3 * loudness * np.sign(np.sin(2.0 * np.pi * 130.0 * at_s))
    found = sync_of(jaw, voice[None].astype(np.float32))
    assert found.offset_ms == pytest.approx(-120.0, abs=12.0)


def test_starts_alone_are_never_sure() -> None:
    """What begins to move may be on its way to what is heard."""

    def slider(time_s: float) -> Mask:
        reached = sum(float(np.clip((time_s - one) / 0.35, 0.0, 1.0)) ** 0.5 for one in TIMES)
        return np.asarray((np.abs(COLUMNS - 10 - round(12.0 * reached)) < 6) & (np.abs(ROWS - 36) < 10))

    assert not sync_of(slider, thuds(TIMES)).is_sure


def test_the_click_at_which_a_beep_is_cut_off_is_no_onset() -> None:
    at_s = np.arange(2 * RATE) / RATE
    beeps = sum(
        0.5 * np.sin(2.0 * np.pi * 1002.5 * at_s) * np.clip((at_s - one) / 0.01, 0.0, 1.0) * (at_s - one < 0.1)
        for one in (0.4, 1.2)
    )
    found = [onset.time_s for onset in find_onsets(beeps + 1e-4 * np.random.default_rng(0).standard_normal(at_s.size), RATE)]
    assert found == pytest.approx([0.4, 1.2], abs=0.006)


def test_four_pairs_at_one_lag_are_more_than_chance_and_four_of_any_other_rhythm_are_not() -> None:
    seen = np.array([0.6, 1.35, 1.83, 2.9])
    related = align([Seen(seen, 0.01)], seen + 0.1, seconds=4.0)
    assert related.p_value <= CHANCE and related.lag_s == pytest.approx(0.1, abs=0.01)
    assert align([Seen(seen, 0.01)], np.array([0.5, 0.95, 2.2, 3.1]), seconds=4.0).p_value > CHANCE


def test_a_small_mouth_is_seen_apart_from_a_picture_that_shimmers_everywhere() -> None:
    rng = np.random.default_rng(2)

    def dot(time_s: float) -> Mask:
        return np.asarray(np.hypot(COLUMNS - 40, ROWS - 40) < 2.0 + 7.0 * nearness(time_s, 0.08, 0.15))

    frames = draw(dot).astype(np.float64)
    frames += 14.0 * rng.standard_normal((len(frames), HEIGHT, WIDTH, 1))
    trains = watch(np.clip(frames, 0, 255).astype(np.uint8), float(FPS)).trains
    assert any(len(train.events) >= 5 for train in trains)
