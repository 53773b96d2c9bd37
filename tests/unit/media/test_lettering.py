"""Every character on a picture is drawn in a font that has it, or as an escape; never as a box."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from mova.media.lettering import default_font, draw_line, line_width, shorten


def drawn(text: str) -> np.ndarray:
    image = Image.new("RGB", (600, 40))
    draw_line(ImageDraw.Draw(image), (4, 4), text, (255, 255, 255), 17)
    return np.asarray(image)


def test_plain_text_is_drawn_in_the_font_of_all_pictures() -> None:
    image = Image.new("RGB", (600, 40))
    ImageDraw.Draw(image).text((4, 4), "red ball, 3x", (255, 255, 255), default_font(17))
    assert np.array_equal(drawn("red ball, 3x"), np.asarray(image))


def test_what_no_font_has_is_an_escape() -> None:
    missing = "\U0010fffe"  # a noncharacter: no font has it
    assert np.array_equal(drawn(f"a {missing}b"), drawn(r"a \U0010fffeb"))


def test_a_character_that_another_font_has_is_no_box() -> None:
    for text in ("蓝", "🥁", "एक", "шар"):
        box = drawn("\U0010ffff" * 3)
        assert not np.array_equal(drawn(text), box) and line_width(text, 17) > 0


def test_a_long_line_is_cut_where_it_ends() -> None:
    line = shorten("蓝 ball " * 100, 17, 300)
    assert line.endswith("…") and line_width(line, 17) <= 300
