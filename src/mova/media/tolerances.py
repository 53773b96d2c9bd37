"""What readers tolerate and repair in files that play everywhere: one table, with reasons, and a count of what was repaired."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

_logger = logging.getLogger(__name__)

Purpose = Literal["use", "measure"]
"""``"use"``: frames and audio become part of a clip, so that colours and shapes must be right. ``"measure"``: only times and
faults are of interest, and what a player would play is read."""


@dataclass(frozen=True)
class Tolerance:
    """One limit of the readers.

    Args:
        value: The limit.
        unit: Its unit.
        why: Reason for it.
    """

    value: float
    unit: str
    why: str


TOLERANCES: Mapping[str, Tolerance] = {
    "rounding": Tolerance(0.003, "s", "Matroska, WebM and FLV state times in whole milliseconds, of start and end."),
    "jitter": Tolerance(
        0.010,
        "s",
        "Live recorders stamp packets when they arrive, and Ogg dates its blocks from the end of a page. Players play the "
        "samples one after another, and so do the readers: a time is a correction only if those after it agree.",
    ),
    "hole": Tolerance(
        0.250,
        "s",
        "A lost packet is 10 to 60 ms of audio, a lost network packet a few of them. It is filled with silence, so that what "
        "follows stays in step. A longer hole is heard; only what is measured may have one.",
    ),
    "overlap": Tolerance(0.250, "s", "Joined recordings repeat a few packets; those already played are left out."),
    "edge": Tolerance(
        0.250,
        "s",
        "Cameras and cutters start and end audio within a few packets of the picture. A clip has both for all of its length: "
        "silence is added, or what exceeds is cut.",
    ),
    "undecoded": Tolerance(
        0.05, "of the packets", "A few damaged packets cost a moment; with more of them missing a file is not what it was."
    ),
    "crowded": Tolerance(
        0.01, "of the frames", "A constant frame rate is a good clock for a variable one if hardly two frames share a tick."
    ),
    "off_tick": Tolerance(0.15, "of a frame", "How far frames lie from the ticks of their clock by rounding alone."),
}


@dataclass
class Repairs:
    """Counts what a reader repaired.

    Args:
        gaps: Seconds of each gap filled with silence.
        overlaps: Seconds of each overlap left out.
        notes: Further repairs, one line each, in order.
        undecoded: Number of packets that could not be decoded.
        reason: Why the first of them could not.
    """

    gaps: list[float] = field(default_factory=list)
    overlaps: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    undecoded: int = 0
    reason: str | None = None

    def note(self, line: str) -> None:
        """Add a line, once."""
        if line not in self.notes:
            self.notes.append(line)

    def note_undecoded(self, count: int) -> None:
        """Add how many frames could not be decoded; 0 adds nothing."""
        if count > 0:
            self.note(f"{count} undecodable {'frame' if count == 1 else 'frames'}, shown as the one before")

    def lines(self) -> tuple[str, ...]:
        """Return one line for each kind of repair, such as ``1 gap of 20 ms in the audio filled with silence``."""
        spans = [
            _spans_text("gap", self.gaps, "filled with silence"),
            _spans_text("overlap", self.overlaps, "left out"),
        ]
        return (*(line for line in spans if line), *self.notes)


def tell_repairs(name: object, lines: Sequence[str]) -> None:
    """Log what was repaired of a file that becomes part of a clip: a warning, which the command line shows."""
    if lines:
        _logger.warning("%s was repaired: %s", name, "; ".join(lines))


def limit(name: str) -> float:
    """Return the value of a tolerance."""
    return TOLERANCES[name].value


def _spans_text(what: str, spans: list[float], treatment: str) -> str:
    if not spans:
        return ""
    count = f"1 {what} of" if len(spans) == 1 else f"{len(spans)} {what}s of together"
    return f"{count} {1000 * sum(spans):.0f} ms in the audio {treatment}"
