"""The rendered world: clips with exact event times, to learn from and to measure against."""

from __future__ import annotations

from mova.scenes.kind import Hit, Kind, Light, ReadingHints, each_event
from mova.scenes.kinds import KINDS
from mova.scenes.script import Event, Plan, Script
from mova.scenes.world import SceneClip, draw, render, sample_scripts, write_script

__all__ = [
    "KINDS",
    "Event",
    "Hit",
    "Kind",
    "Light",
    "Plan",
    "ReadingHints",
    "SceneClip",
    "Script",
    "draw",
    "each_event",
    "render",
    "sample_scripts",
    "write_script",
]
