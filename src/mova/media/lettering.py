"""Text on pictures in any script: fonts of the system where Pillow's own has no glyph, and escapes where none has.

Boxes in place of characters tell nothing; ``\\u84dd`` can be looked up.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from functools import lru_cache
from itertools import groupby
from pathlib import Path

from PIL import ImageDraw, ImageFont

Colour = tuple[int, int, int]

MAX_FONTS = 600
"""Files of fonts that are looked at for a character."""
_SUFFIXES = {".ttf", ".otf", ".ttc"}
_ABSENT = "\U0010ffff"  # no font has it, so it looks like whatever a font has not


def default_font(size: int) -> ImageFont.FreeTypeFont:
    """The font of all pictures."""
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow's wheels have FreeType"
    return font


def draw_line(draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, colour: Colour, size: int) -> None:
    """Draw one line of text from its left top corner on, every character in a font that has it."""
    x, top = place
    baseline = top + default_font(size).getmetrics()[0]
    for run, font in _runs(text, size):
        draw.text((x, baseline), run, colour, font, anchor="ls")
        x += font.getlength(run)


def line_width(text: str, size: int) -> float:
    """Width of a line in pixels, as :func:`draw_line` draws it."""
    return sum(font.getlength(run) for run, font in _runs(text, size))


def shorten(text: str, size: int, width: float) -> str:
    """Shorten a text to one line of at most ``width`` pixels, with an ellipsis."""
    line = " ".join(text.split())
    while len(line) > 1 and (drawn := line_width(line, size)) > width:
        line = line[: max(1, min(len(line) - 2, int(len(line) * width / drawn) - 1))] + "…"
    return line


def _runs(text: str, size: int) -> list[tuple[str, ImageFont.FreeTypeFont]]:
    """The text in pieces of one font each; what no font has as an escape."""
    pieces: list[tuple[str, Path | None]] = []
    for character in text:
        is_joined = bool(pieces) and unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf")
        path = pieces[-1][1] if is_joined else _font_with(character)
        shown = character if path is not _NOWHERE else "" if is_joined else character.encode("unicode_escape").decode("ascii")
        pieces.append((shown, path))
    fonts = [("".join(shown for shown, _ in run), path) for path, run in groupby(pieces, key=lambda piece: piece[1])]
    return [(run, default_font(size) if path in (None, _NOWHERE) else _load(path, size)) for run, path in fonts if run]


_NOWHERE = Path()
"""Stands for no font at all; None for the default one."""


@lru_cache(maxsize=4096)
def _font_with(character: str) -> Path | None:
    if character.isspace() or _has(default_font(16), character):
        return None
    for path in _system_fonts():
        font = _load_if_it_can_be(path, 16)
        if font is not None and _has(font, character):
            return path
    return _NOWHERE


def _has(font: ImageFont.FreeTypeFont, character: str) -> bool:
    """Whether it is drawn in another way than a character that no font has."""
    return bytes(font.getmask(character)) != bytes(font.getmask(_ABSENT))


@lru_cache(maxsize=64)
def _load(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), size)


@lru_cache(maxsize=MAX_FONTS)
def _load_if_it_can_be(path: Path, size: int) -> ImageFont.FreeTypeFont | None:
    """Fonts of bitmaps have one size, and files of any kind may lie there."""
    try:
        return ImageFont.truetype(str(path), size)
    except OSError:
        return None


@lru_cache(maxsize=1)
def _system_fonts() -> tuple[Path, ...]:
    """Files of fonts where systems keep them, upright ones of regular weight first."""
    home = Path.home()
    folders = {
        "darwin": (home / "Library/Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts")),
        "win32": (Path(os.environ.get("WINDIR", r"C:\Windows")) / "Fonts",),
    }.get(
        sys.platform, (home / ".local/share/fonts", home / ".fonts", Path("/usr/local/share/fonts"), Path("/usr/share/fonts"))
    )
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix.lower() in _SUFFIXES]

    def is_marked(path: Path) -> bool:
        return any(word in path.stem.lower() for word in ("bold", "italic", "oblique", "mono", "condensed", "light", "serif"))

    return tuple(sorted(files, key=is_marked)[:MAX_FONTS])
