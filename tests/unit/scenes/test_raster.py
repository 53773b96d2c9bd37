"""Shapes cover the area that they should, lights integrate to what they should."""

from __future__ import annotations

import numpy as np
import pytest

from mova.scenes.raster import (
    Box,
    Capsule,
    Disc,
    Ellipse,
    Exposure,
    Overlap,
    Polygon,
    Shape,
    paint,
    shine,
    sparkle,
)

WHITE = (1.0, 1.0, 1.0)


def area(shape: Shape) -> float:
    image = np.zeros((64, 64, 3), dtype=np.float32)
    paint(image, shape, colour=WHITE)
    return float(image[..., 0].sum())


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (Disc((32.3, 31.8), 10.0), np.pi * 100),
        (Ellipse((32.3, 31.8), 16.0, 8.0), np.pi * 128),
        (Box(10.25, 20.5, 40.75, 50.0), 30.5 * 29.5),
        (Box(10.0, 20.0, 40.0, 50.0, 5.0), 900 - (4 - np.pi) * 25),
        (Capsule((16.0, 20.0), (46.0, 40.0), 5.0), np.hypot(30, 20) * 10 + np.pi * 25),
        (Polygon(((10.0, 10.0), (50.0, 14.0), (30.0, 55.0))), 0.5 * abs(40 * 45 - 20 * 4)),
        (Overlap(Disc((32.0, 32.0), 20.0), Box(0.0, 32.0, 64.0, 64.0)), np.pi * 200),
    ],
)
def test_a_painted_shape_covers_its_area(shape: Shape, expected: float) -> None:
    # anti-aliasing by distance is exact on level edges and good to a few tenths of a percent on others
    assert area(shape) == pytest.approx(expected, rel=0.01)


def test_a_shape_outside_the_picture_changes_nothing() -> None:
    image = np.full((8, 8, 3), 0.5, dtype=np.float32)
    paint(image, Disc((-20.0, 4.0), 5.0), colour=WHITE)
    paint(image, Overlap(Disc((2.0, 2.0), 1.0), Disc((7.0, 7.0), 1.0)), colour=WHITE)
    assert np.all(image == 0.5)


def test_motion_blur_is_the_mean_of_the_moments() -> None:
    moments = [Disc((10.0 + 3 * step, 16.0), 4.0) for step in range(3)]
    blurred = np.zeros((32, 32, 3), dtype=np.float32)
    paint(blurred, moments, colour=WHITE)
    mean = np.zeros_like(blurred)
    for disc in moments:
        single = np.zeros_like(blurred)
        paint(single, disc, colour=WHITE)
        mean += single / 3
    np.testing.assert_allclose(blurred, mean, atol=1e-6)


def test_a_flash_integrates_to_the_mean_of_many_samples() -> None:
    exposure = Exposure(16.0, 33)
    onsets, strengths, decay = [0.301, 0.55, 1.2], [0.8, 1.0, 0.7], 0.15
    fine = exposure.opens()[:, None] + (np.arange(4000) + 0.5) * 0.75 / 16 / 4000
    light = np.zeros_like(fine)
    for onset, strength in zip(onsets, strengths, strict=True):
        light = np.where(fine >= onset, strength * np.exp(-(fine - onset) / decay), light)
    np.testing.assert_allclose(exposure.flash(onsets, strengths, decay), light.mean(axis=1), atol=1e-3)


def test_the_onset_of_a_flash_can_be_read_from_one_frame() -> None:
    exposure, decay, onset = Exposure(16.0, 33), 0.15, 0.5123
    first = int(onset * 16)
    closes = (first + 0.75) / 16
    seen = exposure.flash([onset], [1.0], decay)[first] * 0.75 / 16 / decay
    assert closes + decay * np.log(1 - seen) == pytest.approx(onset, abs=1e-9)


def test_a_lamp_is_lit_for_its_share_of_each_exposure() -> None:
    lit = Exposure(10.0, 4, shutter=0.5).lit([(-np.inf, 0.02), (0.21, 0.34)])
    np.testing.assert_allclose(lit, [0.4, 0.0, 0.8, 0.8])


def test_shining_is_linear_and_touches_only_what_differs() -> None:
    dark = np.zeros((6, 6, 3), dtype=np.float32)
    bright = dark.copy()
    bright[2:4, 3:5] = 1.0
    frames = np.stack([dark, dark, dark])
    shine(frames, dark, bright, np.array([0.0, 0.25, 1.0]))
    np.testing.assert_allclose(frames[:, 2, 3, 0], [0.0, 0.25, 1.0])
    assert frames[:, 0].max() == 0.0


def test_sparks_add_the_light_of_a_gaussian_wherever_they_lie() -> None:
    for x in (10.0, 10.3, 10.77):
        image = np.zeros((24, 24, 3), dtype=np.float32)
        sparkle(image, np.array([[x, 12.4]]), np.array([0.5]), colour=(1.0, 0.0, 0.0), radius_px=2.0)
        assert float(image[..., 0].sum()) == pytest.approx(0.5 * np.pi * 4, rel=0.02)
        assert image[..., 1].max() == 0.0
