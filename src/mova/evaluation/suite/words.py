"""Numbers and names as people read them, in a terminal and on a page."""

from __future__ import annotations

import math
from typing import Any

MISSING = "-"


def printable(text: object) -> str:
    """Text without control characters, which file names and prompts of strangers may hold: they are shown as escapes."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in str(text))


def number(value: float | None, unit: str = "") -> str:
    """A number with as many digits as it is worth: milliseconds with one, shares with three; ``-`` if there is none."""
    if value is None or not math.isfinite(value):
        return MISSING
    if unit:
        return f"{value:+.1f}"
    return f"{value:.3f}" if abs(value) < 100.0 else f"{value:.1f}"


def span(interval: Any, unit: str = "") -> str:
    """An interval, low to high; ``-`` if there is none."""
    low, high = interval
    words = number(low, unit), number(high, unit)
    return MISSING if MISSING in words else f"{words[0]} to {words[1]}"
