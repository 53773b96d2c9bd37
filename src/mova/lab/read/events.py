"""What every detector reports: an event, when it was, what it was, how clear it was."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Detection:
    """An event that was seen or heard.

    Args:
        time_s: Seconds from the start of the clip.
        label: What it is, in the words of the scene's events; empty if nothing tells.
        strength: How far it stands out, larger is clearer; comparable within a clip.
    """

    time_s: float
    label: str
    strength: float
