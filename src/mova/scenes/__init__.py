"""The rendered world: clips with exact event times, to learn from and to measure against."""

from __future__ import annotations

from mova.scenes.script import Event, Script
from mova.scenes.world import EVENT_LABELS, KINDS, SceneClip, draw, example_prompts, render, sample_scripts, write_script

__all__ = [
    "EVENT_LABELS",
    "KINDS",
    "Event",
    "SceneClip",
    "Script",
    "draw",
    "example_prompts",
    "render",
    "sample_scripts",
    "write_script",
]
