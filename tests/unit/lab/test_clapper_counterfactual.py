from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from mova.errors import RequestError
from mova.lab.adherence.counterfactual import (
    Counterfactual,
    Measures,
    counterfactual_scenes,
    counterfactual_scripts,
    judge_pair,
    measure_quantities,
    moves,
)
from mova.lab.numbers import directional_accuracy
from mova.lab.read.audio_events import hear
from mova.lab.read.events import Reading
from mova.lab.read.readers import body_hz, centroid_hz, read_all, ring_s
from mova.media.clip import Clip
from mova.scenes.clapper.scene import as_scene
from mova.scenes.kinds.ball import BallMotion
from mova.scenes.script import Script
from mova.scenes.world import render, synthesise, write_script

SILENT = Clip(np.zeros((33, 96, 96, 3), np.uint8), np.zeros((1, 33000), np.float32), Fraction(16), 16000)
NAMES = {
    "ball": {"metal", "size", "count", "colour"},
    "drums": {"count"},
    "piano": {"count"},
    "mouth": {"count", "colour"},
    "metronome": {"colour"},
    "siren": set(),
    "storm": {"count"},
    "fireworks": {"count", "colour"},
}


def measures_of(script: Script, clip: Clip) -> Measures:
    return measure_quantities(read_all(clip, as_scene(script)), clip.waveform, clip.sample_rate)


def full(kind: str) -> Script:
    """A script of a kind whose caption names everything."""
    floor = {"floor": "wood", "number": 1} if kind == "ball" else {}
    scripts = (write_script(kind, seed, attributes=floor) for seed in range(40))
    return next(one for one in scripts if {pair.name for pair in counterfactual_scripts(one)} == NAMES[kind])


@pytest.mark.parametrize("kind", NAMES)
def test_a_script_is_changed_in_one_thing_and_always_in_the_same_way(kind: str) -> None:
    script = full(kind)
    pairs = counterfactual_scripts(script)
    assert pairs == counterfactual_scripts(script)
    for pair in pairs:
        assert pair.first is script
        assert (pair.second.seed, pair.second.seconds) == (script.seed, script.seconds)
        changed = {name for name, value in script.attributes.items() if pair.second.attributes[name] != value}
        assert changed <= {{"metal": "floor"}.get(pair.name, pair.name), *({"sequence"} if pair.name == "count" else ())}
        before, after = script.caption.replace(",", "").split(), pair.second.caption.replace(",", "").split()
        assert len(set(before) ^ set(after)) <= 4 and before != after
        if pair.name != "count":
            assert [one.time_s for one in pair.second.events] == [one.time_s for one in script.events]


def test_what_a_caption_does_not_name_is_not_changed() -> None:
    brief = next(
        script
        for seed in range(200)
        if "ball bounces" in (script := write_script("ball", seed, attributes={"floor": "wood", "number": 1})).caption
        and "times" not in script.caption
        and "twice" not in script.caption
    )
    assert "count" not in {pair.name for pair in counterfactual_scripts(brief)}


def test_where_no_more_events_fit_there_is_one_fewer() -> None:
    fits = {"sequence": "red red green blue"}  # as many as a second holds
    scripts = [write_script("drums", seed, seconds=1.0, attributes=fits) for seed in range(4)]
    (pair, *_) = [pair for script in scripts for pair in counterfactual_scripts(script)]
    assert pair.directions == {"events_seen": -1, "events_heard": -1}
    assert pair.second.attributes["sequence"] == "red red green"


@pytest.mark.parametrize("kind", ["ball", "piano", "mouth", "fireworks"])
def test_true_clips_differ_the_right_way_and_swapped_or_equal_ones_do_not(kind: str) -> None:
    script = full(kind)
    first = render(script).clip()
    before = measures_of(script, first)
    for pair in counterfactual_scripts(script):
        second = render(pair.second).clip()
        after = measures_of(script, second)
        right = moves(pair, before, after)
        assert len(right) == len(pair.directions)
        assert all(right.values()), (pair.first.caption, pair.second.caption, right)
        assert not any(moves(pair, after, before).values())
        assert not any(moves(pair, before, before).values())
    assert judge_pair(pair, first, second) == right


def test_clips_in_which_nothing_can_be_read_do_not_move() -> None:
    for pair in counterfactual_scripts(full("ball")):
        assert not any(judge_pair(pair, SILENT, SILENT).values())


def test_measuring_scenes_differ_in_one_thing_and_audio_like_it() -> None:
    outcomes = []
    for seed in range(3):
        pairs = counterfactual_scenes(seed)
        assert [pair.name for pair in pairs] == ["metal", "drop", "size"]
        for pair in pairs:
            first, second = pair.first.picture.motion, pair.second.picture.motion
            assert isinstance(first, BallMotion) and isinstance(second, BallMotion)
            if pair.name == "drop":
                assert second.flights[0].height(np.array([-9.0])) > 1.5 * first.flights[0].height(np.array([-9.0]))
                assert second.flights[0].impacts_s[0] == first.flights[0].impacts_s[0]
            else:
                assert first.flights == second.flights
                assert (first.radius == second.radius, first.floor == second.floor) == (
                    pair.name == "metal",
                    pair.name == "size",
                )
            measures = []
            for scene in (pair.first, pair.second):
                audio = synthesise(scene.audio, sample_rate=24_000, num_samples=96_000)
                reading = Reading(heard=tuple(hear(audio, 24_000, kind="ball")))
                measures.append(measure_quantities(reading, audio, 24_000))
            outcomes.append(moves(pair, *measures))
    found = directional_accuracy(outcomes)
    # nothing was looked at here
    assert found.pop("drop_first_interval_seen_s").value == 0.0
    assert set(found) == {
        "metal_decay_s",
        "metal_centroid_hz",
        "drop_first_level_db",
        "drop_first_interval_heard_s",
        "size_body_hz",
    }
    assert all(one.value == 1.0 for one in found.values())


def test_a_clip_too_short_for_a_second_bounce_is_refused() -> None:
    with pytest.raises(RequestError, match=r"fit|higher up"):
        counterfactual_scenes(0, seconds=1)


def test_an_accuracy_has_wilsons_interval() -> None:
    found = directional_accuracy([{"metal_decay_s": index > 0} for index in range(10)] + [{"size_body_hz": True}])
    assert (found["metal_decay_s"].value, found["metal_decay_s"].num_pairs) == (0.9, 10)
    # Wilson 1927, z = 1.96: 9 of 10
    assert found["metal_decay_s"].interval == pytest.approx((0.5958, 0.9821), abs=1e-3)
    assert found["size_body_hz"].num_pairs == 1
    assert directional_accuracy([]) == {}


def test_a_colour_that_stays_or_turns_into_a_third_is_no_change() -> None:
    script = write_script("mouth", 1)
    pair = Counterfactual("colour", script, script, {"colour": 1}, ("green", "pink"))
    green, pink, blue = (Measures({}, frozenset({name})) for name in ("green", "pink", "blue"))
    assert moves(pair, green, pink) == {"colour": True}
    assert moves(pair, green, green) == moves(pair, pink, green) == {"colour": False}
    assert moves(replace(pair), blue, blue) == {"colour": False}


def test_audio_rings_until_its_energy_is_spent_and_its_pitch_is_its_own() -> None:
    times = np.arange(16000) / 16000
    for pitch_hz, decay_s in ((200.0, 0.05), (900.0, 0.1)):
        audio = (0.5 * np.exp(-times / decay_s) * np.sin(2 * np.pi * pitch_hz * times))[None].astype(np.float32)
        # energy falls by 20 dB in ln(10) time constants of the amplitude
        assert ring_s(audio, 16000, 0.0, until_s=1.0) == pytest.approx(decay_s * np.log(10.0), rel=0.03)
        assert centroid_hz(audio, 16000, 0.0, until_s=1.0) == pytest.approx(pitch_hz, rel=0.1)
    low, high = (np.sin(2 * np.pi * pitch_hz * times)[None].astype(np.float32) for pitch_hz in (165.0, 250.0))
    assert body_hz(high, 16000, 0.0, until_s=1.0) > body_hz(low, 16000, 0.0, until_s=1.0) + 60.0
    silence = np.zeros((1, 16000), np.float32)
    assert all(np.isnan(one(silence, 16000, 0.0, until_s=1.0)) for one in (ring_s, centroid_hz, body_hz))
