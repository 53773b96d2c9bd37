from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mova.lab.adherence.judge import constraints_of, judge, judge_clip
from mova.lab.numbers import average
from mova.lab.read.events import Detection, Reading
from mova.lab.sync.scores import measure
from mova.scenes.clapper.scene import as_scene
from mova.scenes.kinds import KINDS
from mova.scenes.script import Script
from mova.scenes.world import render, sample_scripts, write_script


def with_caption(script: Script, caption: str) -> Script:
    return replace(script, caption=caption)


@pytest.mark.parametrize("kind", KINDS)
def test_the_renderer_s_own_clips_are_in_step_and_as_asked(kind: str) -> None:
    verdicts = []
    for script in sample_scripts(990_000, 3, [kind]):
        clip = render(script)
        verdicts.append(judge_clip(clip.clip(), as_scene(script)))
    sync = measure([verdict.times for verdict in verdicts])
    assert sync["f1_45"] == 1.0
    assert sync["median_abs_ms"] < 8.0
    means = average([verdict.values for verdict in verdicts])
    assert means and all(mean.value == 1.0 for mean in means.values())


def test_only_what_the_caption_says_is_asked_for() -> None:
    script = write_script("ball", 3, attributes={"colour": "red", "count": 3, "number": 1, "floor": "wood"})
    full = constraints_of(with_caption(script, "a small red ball bounces three times on a wooden floor"))
    assert (full.colours, full.count, full.sound) == (frozenset({"red"}), 3, "wood")
    short = constraints_of(with_caption(script, "a small ball bounces on a wooden floor"))
    assert (short.colours, short.count) == (None, None)
    assert constraints_of(with_caption(script, "three bounces of a large red ball on wood")).count == 3
    # the number of balls is no number of bounces
    pair = write_script("ball", 4, attributes={"number": 2, "count": 2})
    assert constraints_of(with_caption(pair, "two balls bounce on a wooden floor")).count is None


def test_a_sequence_that_is_spelt_out_says_the_count_too() -> None:
    script = write_script("piano", 3, attributes={"sequence": "C E G"})
    assert constraints_of(with_caption(script, "piano notes: c, e, g")).sequence == ("C", "E", "G")
    assert constraints_of(with_caption(script, "piano notes: c, e, g")).count == 3
    assert constraints_of(with_caption(script, "three notes on the piano")).sequence is None
    assert constraints_of(with_caption(script, "three notes on the piano")).count == 3


def test_the_audio_of_other_keys_is_found_out() -> None:
    script = with_caption(write_script("piano", 3, attributes={"sequence": "C E G"}), "piano notes: c, e, g")
    played = render(script)
    other = replace(script, events=tuple(replace(event, label="B") for event in script.events))
    wrong = judge_clip(replace(played.clip(), waveform=render(other).waveform), as_scene(script)).values
    assert (wrong["key_pitch"], wrong["key_asked"], wrong["sequence"], wrong["sequence_heard"]) == (0.0, 0.0, 1.0, 0.0)
    assert wrong["count"] == 1.0


def test_a_clip_with_another_number_or_colour_is_found_out() -> None:
    asked = with_caption(
        write_script("mouth", 3, attributes={"colour": "green", "count": 3, "vowel": "ah"}), "a green face says ah three times"
    )
    made = render(write_script("mouth", 3, attributes={"colour": "pink", "count": 2, "vowel": "ee"}))
    values = judge_clip(made.clip(), as_scene(asked)).values
    assert (values["colour"], values["count"], values["count_seen"], values["count_heard"]) == (0.0, 0.0, 0.0, 0.0)
    assert values["sound"] == 0.0


def test_a_beat_is_asked_for_by_its_word_and_one_missed_tick_is_still_that_beat() -> None:
    slow = with_caption(write_script("metronome", 3, attributes={"tempo": "slow"}), "a slow metronome ticks")
    assert constraints_of(slow).rates_hz == pytest.approx((0.0, np.sqrt(1.6 * 2.4)))
    medium = with_caption(write_script("metronome", 3, attributes={"tempo": "medium"}), "a medium metronome ticks")
    scene, times_s = as_scene(medium), [event.time_s for event in medium.events]
    ticks = tuple(Detection(time_s, "", 1.0) for time_s in times_s)
    assert judge(scene, Reading(ticks, ticks)).values == {"rate": 1.0, "rate_seen": 1.0, "rate_heard": 1.0}
    faster = tuple(replace(one, time_s=one.time_s / 1.5) for one in ticks)
    assert judge(scene, Reading(ticks, faster)).values == {"rate": 0.0, "rate_seen": 1.0, "rate_heard": 0.0}
    assert judge(scene, Reading((*ticks[:1], *ticks[2:]), ticks)).values["rate"] == 1.0


def test_thunder_is_late_as_asked_or_else_as_it_sounds() -> None:
    far = write_script("storm", 3, attributes={"distance": "far", "count": 2})
    near_sounds = Reading(heard=(Detection(1.0, "near", 1.0),))
    assert judge(as_scene(with_caption(far, "far lightning, then thunder")), near_sounds).times.lag_s == 0.5
    assert judge(as_scene(with_caption(far, "lightning strikes twice in a storm")), near_sounds).times.lag_s == 0.0
