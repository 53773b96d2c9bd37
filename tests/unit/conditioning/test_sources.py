"""Images in memory are read like those of files: nothing hidden is shown, nothing lies on its side."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from mova.conditioning.sources import name_of
from mova.errors import MediaError

RED = (200, 30, 20)


def kept(image: Image.Image) -> np.ndarray:
    memory: dict[str, Any] = {}
    name = name_of(image, "image", memory)
    assert name is not None
    return np.asarray(memory[name])


def test_a_transparent_image_in_memory_is_refused_and_an_opaque_one_with_an_alpha_channel_read() -> None:
    pixels = np.full((4, 6, 4), (*RED, 255), np.uint8)
    assert (kept(Image.fromarray(pixels)) == RED).all()
    pixels[1, 2, 3] = 0
    with pytest.raises(MediaError, match="image given as image has transparent parts"):
        kept(Image.fromarray(pixels))


def test_a_transparent_palette_in_memory_is_refused() -> None:
    image = Image.fromarray(np.eye(4, dtype=np.uint8)).convert("P")
    image.info["transparency"] = 0
    with pytest.raises(MediaError, match="transparent"):
        kept(image)


def test_sixteen_bits_in_memory_are_refused_and_not_cut_at_255() -> None:
    with pytest.raises(MediaError, match="not 8 bits per channel"):
        kept(Image.fromarray(np.full((4, 4), 4000, np.uint16)))


def test_the_orientation_of_a_photograph_in_memory_is_followed() -> None:
    image = Image.fromarray(np.zeros((4, 6, 3), np.uint8))
    image.putpixel((0, 0), RED)
    image.getexif()[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    found = kept(image)
    assert found.shape == (6, 4, 3)
    assert tuple(found[0, 3]) == RED
