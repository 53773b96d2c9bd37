from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mova.lab.adherence.judge import adherence_floors, constraints_of, judge, score_adherence
from mova.lab.read.events import Detection, Reading
from mova.lab.read.readers import nearest_voice, read_all
from mova.lab.sync.floors import through_mp4
from mova.scenes.clapper.scene import SYNC_FAMILIES, ClapperScene, make_scene, render_scene

COUNTS = {"count", "count_seen", "count_heard"}
RATES = {"rate", "rate_seen", "rate_heard"}
ASKS = {
    "bounce": COUNTS | {"colour", "sound"},
    "flash_beep": COUNTS | RATES | {"colour", "sound"},
    "keys": COUNTS | {"sequence", "sequence_heard", "key_asked", "key_pitch"},
    "drum": COUNTS | {"sequence", "sequence_heard", "drum_sound"},
    "mouth": COUNTS | {"colour", "sound", "voice"},
    "collision": COUNTS | {"colour"},
    "far_flash": COUNTS | {"colour"},
    "moving_source": COUNTS | {"colour", "sound"},
    "scrape": COUNTS | {"colour"},
}


def true_reading(scene: ClapperScene) -> Reading:
    """What a perfect reader finds in a perfect video."""
    seen = tuple(Detection(one.time_s, one.label, 1.0) for one in scene.picture.events)
    heard = tuple(Detection(one.audio_time_s, one.label, 1.0) for one in scene.audio.events)
    given = scene.attributes
    colours = frozenset(str(given[name]) for name in ("colour", "colour2") if name in given)
    return Reading(seen, heard, colours, (str(given["voice"]),) * len(heard) if "voice" in given else ())


@pytest.mark.parametrize("family", SYNC_FAMILIES)
def test_a_true_video_through_a_codec_is_right_in_all_that_its_caption_asks(family: str) -> None:
    wrong = []
    for seed in (3, 4):
        scene = make_scene(family, seed, seconds=2.5)
        clip = through_mp4(render_scene(scene, width=96, height=96))
        values = judge(scene, read_all(clip, scene)).values
        wrong += [f"{name}: {value} of {scene.caption!r}" for name, value in values.items() if value != 1.0]
    assert wrong == []


@pytest.mark.parametrize("family", SYNC_FAMILIES)
def test_each_family_is_asked_for_what_its_captions_name(family: str) -> None:
    scenes = [make_scene(family, seed) for seed in range(8)]
    assert {name for scene in scenes for name in judge(scene, true_reading(scene)).values} == ASKS[family]


def test_what_a_caption_leaves_out_is_not_asked_for() -> None:
    scene = make_scene("bounce", 1)
    brief = replace(scene.picture, caption="a small ball bounces on a wooden floor")
    brief = replace(brief, attributes={**brief.attributes, "size": "small", "floor": "wood"})
    asked = constraints_of(brief)
    assert asked.sound == "wood" and asked.count is None and asked.colours is None
    assert set(judge(replace(scene, picture=brief), true_reading(scene)).values) == {"sound"}


def test_a_clip_in_which_nothing_can_be_read_is_wrong_in_all_that_is_asked() -> None:
    for family in SYNC_FAMILIES:
        assert set(judge(make_scene(family, 2), Reading()).values.values()) == {0.0}, family


def test_a_pad_left_out_is_another_order_and_a_wrong_note_costs_its_place() -> None:
    drum = next(scene for seed in range(9) if constraints_of((scene := make_scene("drum", seed)).picture).sequence is not None)
    reading = true_reading(drum)
    values = judge(drum, replace(reading, seen=reading.seen[1:])).values
    assert (values["sequence"], values["sequence_heard"], values["drum_sound"]) == (0.0, 1.0, 1.0)
    assert (values["count_seen"], values["count_heard"], values["count"]) == (0.0, 1.0, 0.0)
    keys = next(scene for seed in range(9) if constraints_of((scene := make_scene("keys", seed)).picture).sequence is not None)
    for scene, column in ((keys, "key_asked"), (make_scene("flash_beep", 2), "sound")):
        reading = true_reading(scene)
        first, *rest = reading.heard
        other = replace(reading, heard=(replace(first, label="nothing"), *rest))
        assert judge(scene, other).values[column] == pytest.approx(len(rest) / (len(rest) + 1))


def test_half_the_tempo_and_another_colour_are_wrong() -> None:
    scene = make_scene("flash_beep", 2)
    reading = true_reading(scene)
    slow = tuple(replace(one, time_s=2.0 * one.time_s) for one in reading.seen)
    values = judge(scene, replace(reading, seen=slow, colours=frozenset({"blue"}))).values
    assert (values["rate_seen"], values["rate_heard"], values["rate"], values["colour"]) == (0.0, 1.0, 0.0, 0.0)


def test_means_have_intervals_chance_and_floors() -> None:
    scenes = [make_scene(family, seed) for family in ("keys", "flash_beep") for seed in range(6)]
    readings = [true_reading(scene) for scene in scenes]
    floors = adherence_floors(scenes, readings)
    found = score_adherence(scenes, readings, floors=floors, num_resamples=50)
    assert set(found) == ASKS["keys"] | ASKS["flash_beep"]
    for name, number in found.items():
        assert number.value == 1.0 and number.interval == (1.0, 1.0), name
        assert number.chance < 0.8, name
        assert 1.0 / len(scenes) <= number.floor <= 1.0 / 2.0, name
    blind = [readings[0], *[Reading()] * (len(scenes) - 1)]
    seen = score_adherence(scenes, blind, num_resamples=200)["count_seen"]
    assert seen.value == pytest.approx(1.0 / len(scenes))
    assert seen.interval[0] == 0.0 < seen.value < seen.interval[1]
    assert np.isnan(score_adherence(scenes[:1], readings[:1], num_resamples=2)["count_seen"].chance)
    with pytest.raises(ValueError, match="scenes of all"):
        score_adherence(scenes, readings[1:])
    with pytest.raises(ValueError, match="needs clips"):
        score_adherence([], [])


def test_a_voice_is_told_by_its_pitch_and_noise_has_none() -> None:
    times = np.arange(8000) / 16000
    for name, pitch_hz in (("low", 120.0), ("high", 230.0)):
        buzz = sum(np.sin(2 * np.pi * pitch_hz * number * times) / number for number in range(1, 12))
        assert nearest_voice(0.2 * buzz[None].astype(np.float32), 16000, 0.1) == name
    assert nearest_voice(np.zeros((1, 8000), np.float32), 16000, 0.1) == ""
