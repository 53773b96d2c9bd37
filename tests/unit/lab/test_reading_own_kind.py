"""A kind that the lab has no detector of its own for is read and judged by its hints."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mova.lab.adherence.judge import judge_clip
from mova.scenes.clapper.scene import as_scene
from mova.scenes.kinds import KINDS
from mova.scenes.world import render, write_script

PANS = replace(KINDS["drums"], name="pans")
GALE = replace(KINDS["storm"], name="gale", reading=replace(KINDS["storm"].reading, low_hz=40.0, gap_s=0.3))


def test_lights_and_sounds_of_a_kind_of_ones_own_are_read_and_judged() -> None:
    script = write_script(PANS, 4, attributes={"sequence": "red blue green"})
    script = replace(script, caption="pans are hit: red, blue, green")
    verdict = judge_clip(render(script).clip(), as_scene(script))
    assert verdict.values == {
        "count": 1.0, "count_seen": 1.0, "count_heard": 1.0, "sequence": 1.0, "sequence_heard": 1.0,
    }  # fmt: skip
    np.testing.assert_allclose(verdict.times.video_s, [event.time_s for event in script.events], atol=0.013)


def test_a_kind_without_lights_is_seen_by_sudden_changes_and_its_sounds_are_named() -> None:
    script = write_script(GALE, 3, attributes={"distance": "far"})
    verdict = judge_clip(render(script).clip(), as_scene(replace(script, caption="far lightning, then thunder")))
    assert verdict.values == {"sound": 1.0} and verdict.times.lag_s == 0.5
    seen_s = np.array(verdict.times.video_s)
    assert all(np.abs(seen_s - event.time_s).min() < 0.03 for event in script.events)
