"""Clapper: a measuring suite for sync without a learned judge. Scenes with exact times, detectors, scores, floors, self-test.

``make_scene`` and ``render_scene`` plan and render scenes, ``read_events`` and ``read_all`` find what is seen and heard in a
clip of one, ``score`` says how far the two are in step and how sure that is, ``measure_floor`` what the meter itself gets
wrong, ``self_test`` that it does what it says; ``judge`` says whether a clip is what its caption asked for, ``judge_pair``
whether it changes the right way when one thing in its caption does.
"""

from __future__ import annotations

from mova.lab.adherence.counterfactual import (
    Counterfactual,
    counterfactual_scenes,
    counterfactual_scripts,
    judge_pair,
)
from mova.lab.adherence.judge import Verdict, adherence_floors, judge, score_adherence
from mova.lab.numbers import Number, directional_accuracy
from mova.lab.read.events import Detection, Reading
from mova.lab.read.readers import read_all, read_events
from mova.lab.selftest import Check, self_test
from mova.lab.sync.floors import Floor, measure_floor, score_floors
from mova.lab.sync.scores import ClipTimes, Difference, Score, clip_times, compare, measure, score
from mova.scenes.clapper.scene import FAMILIES, SYNC_FAMILIES, ClapperScene, as_scene, make_scene, render_scene, sample_scenes

__all__ = [
    "FAMILIES",
    "SYNC_FAMILIES",
    "Check",
    "ClapperScene",
    "ClipTimes",
    "Counterfactual",
    "Detection",
    "Difference",
    "Floor",
    "Number",
    "Reading",
    "Score",
    "Verdict",
    "adherence_floors",
    "as_scene",
    "clip_times",
    "compare",
    "counterfactual_scenes",
    "counterfactual_scripts",
    "directional_accuracy",
    "judge",
    "judge_pair",
    "make_scene",
    "measure",
    "measure_floor",
    "read_all",
    "read_events",
    "render_scene",
    "sample_scenes",
    "score",
    "score_adherence",
    "score_floors",
    "self_test",
]
