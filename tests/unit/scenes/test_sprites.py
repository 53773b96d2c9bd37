"""A thing that is drawn once moves as if it were painted anew."""

from __future__ import annotations

import numpy as np

from mova.scenes.raster import Disc, View, paint
from mova.scenes.sprites import blur, cut_out, paste


def test_a_sprite_moved_by_whole_pixels_is_what_painting_it_there_gives() -> None:
    view = View(24, 16)
    background = np.linspace(0, 1, 24 * 16 * 3, dtype=np.float32).reshape(16, 24, 3)

    def car(image: np.ndarray, x: float) -> None:
        paint(image, Disc((x, 8.0), 4.0), colour=(0.9, 0.2, 0.1), opacity=0.8)

    sprite = cut_out(view, lambda image: car(image, 9.0))
    pasted, painted = background.copy(), background.copy()
    paste(pasted, sprite, shift_px=5.0)
    car(painted, 14.0)
    np.testing.assert_allclose(pasted, painted, atol=1e-5)
    halfway = background.copy()
    paste(halfway, sprite, shift_px=0.5)
    assert np.abs(halfway - background).max() > 0.1
    paste(background, sprite, shift_px=100.0)


def test_a_blurred_sprite_is_the_mean_of_an_exposure() -> None:
    view = View(40, 12)
    background = np.full((12, 40, 3), 0.4, dtype=np.float32)
    sprite = cut_out(view, lambda image: paint(image, Disc((20.0, 6.0), 4.0), colour=(0.9, 0.2, 0.1)))
    mean = np.zeros_like(background)
    moments = np.linspace(-4.5, 4.5, 181)
    for moment in moments:
        image = background.copy()
        paste(image, sprite, shift_px=float(moment))
        mean += image / moments.size
    at_once = background.copy()
    paste(at_once, blur(sprite, 9.0), shift_px=0.0)
    assert np.abs(at_once - mean).max() < 0.02
    assert blur(sprite, 0.3) is sprite
