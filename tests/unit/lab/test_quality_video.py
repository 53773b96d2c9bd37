from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import gaussian_filter, shift

from mova.lab.quality.fidelity import psnr_db, ssim
from mova.lab.quality.video import blockiness, motion, optical_flow, temporal_flicker, video_quality
from mova.scenes.world import render, write_script


def texture(side: int = 96, *, size: float = 3.0, seed: int = 0) -> npt.NDArray[np.float32]:
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal((side, side)), size, mode="wrap")
    return (128.0 + 60.0 * noise / noise.std()).clip(0.0, 255.0).astype(np.float32)


@pytest.mark.parametrize(("right", "down"), [(0.0, 0.0), (1.5, -0.7), (-4.0, 3.0), (9.0, 2.0)])
def test_flow_finds_how_far_a_picture_was_moved(right: float, down: float) -> None:
    picture = texture(size=4.0)
    moved = shift(picture, (down, right), order=3, mode="grid-wrap")
    flow = optical_flow(picture, moved)
    np.testing.assert_allclose(np.median(flow[20:-20, 20:-20], axis=(0, 1)), (right, down), atol=0.08)


def test_flow_is_that_of_each_part_where_two_parts_move_apart() -> None:
    picture = texture()
    moved = np.hstack((np.roll(picture, 2, axis=0)[:, :48], np.roll(picture, -2, axis=0)[:, 48:]))
    flow = optical_flow(picture.astype(np.float32), moved.astype(np.float32))
    np.testing.assert_allclose(np.median(flow[20:-20, 10:30, 1]), 2.0, atol=0.1)
    np.testing.assert_allclose(np.median(flow[20:-20, 66:86, 1]), -2.0, atol=0.1)


def test_flicker_is_the_definition_of_vbench() -> None:
    frames = np.random.default_rng(0).integers(0, 256, size=(5, 8, 9, 3), dtype=np.uint8)
    expected = (255.0 - np.abs(np.diff(frames.astype(np.float64), axis=0)).mean()) / 255.0
    assert temporal_flicker(frames) == pytest.approx(expected, abs=1e-12)
    assert temporal_flicker(np.repeat(frames[:1], 3, axis=0)) == 1.0


def test_motion_is_in_pixels_per_second_and_jerk_needs_a_change_of_acceleration() -> None:
    base = texture(128)
    even = np.stack([shift(base, (0.0, 1.5 * step), order=3, mode="grid-wrap") for step in range(6)])
    speed, jerk = motion(even, 20.0)
    assert speed == pytest.approx(30.0, rel=0.12)  # the border, where the picture leaves, is read low
    shaking = np.stack([shift(base, (0.0, 1.5 * (step % 2)), order=3, mode="grid-wrap") for step in range(6)])
    assert motion(shaking, 20.0)[1] > 10.0 * jerk


def test_blocks_of_eight_stand_out_and_a_smooth_picture_has_none() -> None:
    smooth = np.stack([texture(size=12.0)] * 2)
    steps = np.random.default_rng(0).uniform(-12.0, 12.0, size=(12, 12))
    assert blockiness(smooth) == pytest.approx(1.0, abs=0.15)
    assert blockiness(smooth + np.kron(steps, np.ones((8, 8)))) > 2.0


def test_quality_tells_blur_darkness_and_stillness() -> None:
    frames = render(write_script("metronome", 2)).frames[6:14]
    sharp = video_quality(frames, 16.0)
    soft = video_quality(gaussian_filter(frames, (0, 2, 2, 0)), 16.0)
    assert soft.blur < 0.3 * sharp.blur
    assert sharp.motion_px_s > 1.0
    dark = video_quality(np.zeros_like(frames[:3]), 16.0)
    assert (dark.black_ratio, dark.still_ratio, dark.crushed_ratio, dark.flicker) == (1.0, 1.0, 1.0, 1.0)
    assert dark.as_dict()["blockiness"] is None
    with pytest.raises(ValueError, match="two frames"):
        video_quality(frames[:1], 16.0)


def test_psnr_is_that_of_a_known_error() -> None:
    truth = np.full((2, 16, 16, 3), 100, np.uint8)
    assert psnr_db(truth + np.uint8(5), truth) == pytest.approx(20.0 * np.log10(255.0 / 5.0))
    assert psnr_db(truth, truth) == 99.0
    with pytest.raises(ValueError, match="same shape"):
        psnr_db(truth, truth[:1])


def test_ssim_is_its_formula_on_every_window() -> None:
    rng = np.random.default_rng(0)
    truth = texture(16)[..., None].repeat(3, axis=-1).astype(np.uint8)
    noisy = np.clip(truth + rng.normal(0.0, 20.0, truth.shape), 0.0, 255.0).astype(np.uint8)
    g = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
    window = np.outer(g, g) / g.sum() ** 2
    values = []
    for channel in range(3):
        for y in range(6):
            for x in range(6):
                a, b = (part[y : y + 11, x : x + 11, channel].astype(np.float64) for part in (noisy, truth))
                ma, mb = (window * a).sum(), (window * b).sum()
                va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
                both = (window * (a - ma) * (b - mb)).sum()
                values.append((2 * ma * mb + 6.5025) * (2 * both + 58.5225) / ((ma**2 + mb**2 + 6.5025) * (va + vb + 58.5225)))
    assert ssim(noisy[None], truth[None]) == pytest.approx(np.mean(values), abs=1e-9)
    assert ssim(truth[None], truth[None]) == 1.0
