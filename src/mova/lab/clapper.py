"""Clapper: a measuring suite for sync without a learned judge. Scenes with exact times, readers, scores, floors, self-test.

``families`` plan and render scenes, ``readers`` find what is seen and heard in a clip of one, ``scores`` say how far the two
are in step and how sure we are, ``floors`` what the meter itself gets wrong, ``selftest`` that it does what it says;
``adherence`` says whether a clip is what its caption asked for, ``counterfactual`` whether it changes the right way when one
thing in its caption does; ``physics`` what impacts tell besides. ``scene``, ``plans``, ``stages``, ``strokes``, ``sight``,
``traits`` and ``timbre`` are their parts.
"""

from __future__ import annotations

from mova.lab.adherence.counterfactual import (
    Counterfactual,
    counterfactual_scenes,
    counterfactual_scripts,
    directional_accuracy,
    judge_pair,
)
from mova.lab.adherence.families import adherence_floors, adherence_of, score_adherence
from mova.lab.read.readers import Reading, read_clip_events
from mova.lab.read.traits import Traits, read_traits
from mova.lab.selftest import Check, self_test
from mova.lab.sync.floors import Floor, measure_floor, score_floors
from mova.lab.sync.scores import ClipTimes, Difference, Number, Score, clip_times, compare, measure, score
from mova.scenes.clapper.families import FAMILIES, SYNC_FAMILIES, make_scene, render_scene, sample_scenes
from mova.scenes.clapper.scene import ClapperEvent, ClapperScene

__all__ = [
    "FAMILIES",
    "SYNC_FAMILIES",
    "Check",
    "ClapperEvent",
    "ClapperScene",
    "ClipTimes",
    "Counterfactual",
    "Difference",
    "Floor",
    "Number",
    "Reading",
    "Score",
    "Traits",
    "adherence_floors",
    "adherence_of",
    "clip_times",
    "compare",
    "counterfactual_scenes",
    "counterfactual_scripts",
    "directional_accuracy",
    "judge_pair",
    "make_scene",
    "measure",
    "measure_floor",
    "read_clip_events",
    "read_traits",
    "render_scene",
    "sample_scenes",
    "score",
    "score_adherence",
    "score_floors",
    "self_test",
]
