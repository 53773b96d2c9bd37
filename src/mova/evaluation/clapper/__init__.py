"""Clapper: a measuring suite for sync without a learned judge. Scenes with exact times, readers, scores, floors, self-test.

``families`` plan and render scenes, ``readers`` find what is seen and heard in a clip of one, ``scores`` say how far the two
are in step and how sure we are, ``floors`` what the meter itself gets wrong, ``selftest`` that it does what it says;
``physics`` what impacts tell besides. ``scene``, ``plans``, ``stages``, ``strokes`` and ``sight`` are their parts.
"""

from __future__ import annotations

from mova.evaluation.clapper.families import FAMILIES, SYNC_FAMILIES, make_scene, render_scene, sample_scenes
from mova.evaluation.clapper.floors import Floor, measure_floor, score_floors
from mova.evaluation.clapper.readers import Reading, read_clip_events
from mova.evaluation.clapper.scene import ClapperEvent, ClapperScene
from mova.evaluation.clapper.scores import ClipTimes, Difference, Number, Score, clip_times, compare, measure, score
from mova.evaluation.clapper.selftest import Check, self_test

__all__ = [
    "FAMILIES",
    "SYNC_FAMILIES",
    "Check",
    "ClapperEvent",
    "ClapperScene",
    "ClipTimes",
    "Difference",
    "Floor",
    "Number",
    "Reading",
    "Score",
    "clip_times",
    "compare",
    "make_scene",
    "measure",
    "measure_floor",
    "read_clip_events",
    "render_scene",
    "sample_scenes",
    "score",
    "score_floors",
    "self_test",
]
