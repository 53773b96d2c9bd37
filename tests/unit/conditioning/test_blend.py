"""Borders of given and made parts: what is given is untouched, and nothing pops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mova.conditioning.given import blend_audio, blend_frames

FRAMES, SIDE, REACH = 12, 16, 4


def still_video(level: int = 100, *, with_detail: bool = True) -> np.ndarray:
    """A picture that stands still, with a bright line that a codec would soften."""
    video = np.full((FRAMES, SIDE, SIDE, 3), level, np.uint8)
    if with_detail:
        video[:, :, 7] = level + 40
    return video


def kept(*indices: int) -> np.ndarray:
    keep = np.zeros((FRAMES, 1, 1), np.bool_)
    keep[list(indices)] = True
    return keep


def test_lost_detail_is_carried_over_and_fades_within_the_reach() -> None:
    truth, made = still_video(), still_video(with_detail=False)
    joined = blend_frames(made, truth, kept(0), reach=REACH)[:, 3, 7, 0].astype(int)
    assert joined[0] == 140
    assert joined[1] > 130  # the first step is the smallest: no pop
    assert (np.diff(joined[: REACH + 2]) <= 0).all()
    assert joined[REACH + 1 :].tolist() == [100] * (FRAMES - REACH - 1)


def test_a_border_on_the_left_and_one_on_the_right_are_alike() -> None:
    truth, made = still_video(), still_video(with_detail=False)
    after = blend_frames(made, truth, kept(0), reach=REACH)
    before = blend_frames(made, truth, kept(FRAMES - 1), reach=REACH)
    assert np.array_equal(after, before[::-1])


def test_between_two_given_frames_the_detail_is_not_carried_twice() -> None:
    truth, made = still_video(), still_video(with_detail=False)
    joined = blend_frames(made, truth, kept(4, 6), reach=REACH)
    assert joined[5].max() <= 140
    assert joined[5, 3, 7, 0] > 130


def test_nothing_is_carried_to_what_shows_another_thing() -> None:
    truth, made = still_video(), still_video(with_detail=False)
    made[1:, :, 4:11] = 220  # something has come between
    joined = blend_frames(made, truth, kept(0), reach=REACH)
    assert np.array_equal(joined[1:, :, 7], made[1:, :, 7])


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_given_pixels_are_equal_to_the_bit_and_far_ones_are_as_made(seed: int, reach: int) -> None:
    rng = np.random.default_rng(seed)
    truth, made = rng.integers(0, 256, (2, FRAMES, SIDE, SIDE, 3)).astype(np.uint8)
    made = (made // 16 + truth // 16 * 15).astype(np.uint8)  # alike, so that detail is carried
    keep = rng.uniform(size=(FRAMES, SIDE, SIDE)) < 0.05
    joined = blend_frames(made, truth, keep, reach=reach)
    assert np.array_equal(joined[keep], truth[keep])
    near = np.zeros_like(keep)
    for offset in range(-reach, reach + 1):
        source = np.arange(FRAMES) + offset
        inside = (source >= 0) & (source < FRAMES)
        near[inside] |= keep[source[inside]]
    assert np.array_equal(joined[~near], made[~near])


@pytest.mark.parametrize("reach", [1, 8])
def test_given_audio_fades_only_at_its_border(reach: int) -> None:
    keep = np.arange(100) < 50
    made, truth = np.zeros((1, 100), np.float32), np.ones((2, 100), np.float32)
    joined = blend_audio(made, truth, keep, reach=reach)
    assert joined.shape == (2, 100)
    assert (joined[:, : 50 - reach] == 1.0).all()
    assert (np.diff(joined[0, 50 - reach : 51]) < 0).all()
    assert (joined[:, 50:] == 0.0).all()
