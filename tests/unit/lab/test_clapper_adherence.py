from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mova.lab.adherence.families import ADHERENCE, adherence_floors, adherence_of, request_from_video, score_adherence
from mova.lab.read.events import Detection
from mova.lab.read.readers import Reading
from mova.lab.read.traits import Traits, nearest_voice, read_traits
from mova.lab.sync.floors import through_mp4
from mova.scenes.clapper.families import SYNC_FAMILIES, make_scene, render_scene
from mova.scenes.clapper.scene import ClapperScene

COUNTS = {"count_seen", "count_heard"}
ASKS = {
    "bounce": COUNTS | {"colour", "material"},
    "flash_beep": COUNTS | {"colour", "pitch", "tempo_seen", "tempo_heard"},
    "keys": COUNTS | {"pitch", "order_seen", "order_heard"},
    "drum": COUNTS | {"order_seen", "order_heard"},
    "mouth": COUNTS | {"colour", "pitch"},
    "collision": COUNTS | {"colour"},
    "far_flash": COUNTS | {"colour"},
    "moving_source": COUNTS | {"colour", "pitch"},
    "scrape": COUNTS | {"colour"},
}


def true_traits(scene: ClapperScene) -> Traits:
    """What a perfect reader finds in a perfect video."""
    seen, heard = (
        tuple(Detection(one.time_s, one.label, 1.0) for one in scene.events if one.modality == modality)
        for modality in ("video", "audio")
    )
    given = scene.attributes
    colours = frozenset(str(given[name]) for name in ("colour", "colour2") if name in given)
    return Traits(Reading(seen, heard), colours, (str(given["voice"]),) * len(heard) if "voice" in given else ())


def said(scene: ClapperScene) -> set[str]:
    return {name for name, value in adherence_of(scene, true_traits(scene)).items() if value is not None}


@pytest.mark.parametrize("family", SYNC_FAMILIES)
def test_a_true_video_through_a_codec_is_right_in_all_that_its_caption_asks(family: str) -> None:
    wrong = []
    for seed in (3, 4):
        scene = make_scene(family, seed, seconds=2.5)
        clip = through_mp4(render_scene(scene, width=96, height=96))
        values = adherence_of(scene, read_traits(clip, family=family))
        wrong += [f"{name}: {value} of {scene.caption!r}" for name, value in values.items() if value not in (None, 1.0)]
    assert wrong == []


@pytest.mark.parametrize("family", SYNC_FAMILIES)
def test_each_family_is_asked_for_what_its_captions_name(family: str) -> None:
    asked = [said(make_scene(family, seed)) for seed in range(8)]
    assert set().union(*asked) == ASKS[family]
    assert ASKS[family] <= set(ADHERENCE)


def test_what_a_caption_leaves_out_is_not_asked_for() -> None:
    scene = make_scene("bounce", 1)
    brief = replace(scene.picture, caption="a small ball bounces on a wooden floor")
    brief = replace(brief, attributes={**brief.attributes, "size": "small", "floor": "wood"})
    short = replace(scene, caption=brief.caption, attributes=brief.attributes, picture=brief)
    assert request_from_video(short).material == "wood"
    assert request_from_video(short).count is None and request_from_video(short).colours is None
    values = adherence_of(short, true_traits(short))
    assert set(values) == set(ADHERENCE)
    assert {name for name, value in values.items() if value is not None} == {"material"}


def test_a_clip_in_which_nothing_can_be_read_is_wrong_in_all_that_is_asked() -> None:
    for family in SYNC_FAMILIES:
        values = adherence_of(make_scene(family, 2), Traits(Reading((), ())))
        assert {value for value in values.values() if value is not None} == {0.0}, family


def test_a_pad_left_out_costs_its_share_of_the_order_and_a_note_its_place() -> None:
    drum = next(scene for seed in range(9) if request_from_video(scene := make_scene("drum", seed)).order is not None)
    traits = true_traits(drum)
    fewer = replace(traits, reading=Reading(traits.reading.seen[1:], traits.reading.heard))
    values = adherence_of(drum, fewer)
    asked = len(drum.times_s("video"))
    assert values["order_seen"] == pytest.approx((asked - 1) / asked)
    assert (values["order_heard"], values["count_seen"], values["count_heard"]) == (1.0, 0.0, 1.0)
    beep = make_scene("flash_beep", 2)
    traits = true_traits(beep)
    first, *rest = traits.reading.heard
    other = replace(traits, reading=Reading(traits.reading.seen, (replace(first, label="nothing"), *rest)))
    assert adherence_of(beep, other)["pitch"] == pytest.approx(len(rest) / (len(rest) + 1))


def test_half_the_tempo_and_another_colour_are_wrong() -> None:
    scene = make_scene("flash_beep", 2)
    traits = true_traits(scene)
    slow = tuple(replace(one, time_s=2.0 * one.time_s) for one in traits.reading.seen)
    values = adherence_of(scene, replace(traits, reading=Reading(slow, traits.reading.heard), colours=frozenset({"blue"})))
    assert (values["tempo_seen"], values["tempo_heard"], values["colour"]) == (0.0, 1.0, 0.0)


def test_means_have_intervals_chance_and_floors() -> None:
    scenes = [make_scene(family, seed) for family in ("keys", "flash_beep") for seed in range(6)]
    traits = [true_traits(scene) for scene in scenes]
    floors = adherence_floors(scenes, traits)
    found = score_adherence(scenes, traits, floors=floors, num_resamples=50)
    assert set(found) == ASKS["keys"] | ASKS["flash_beep"]
    for name, number in found.items():
        assert number.value == 1.0 and number.interval == (1.0, 1.0), name
        assert number.chance < 0.8, name
        assert 1.0 / len(scenes) <= number.floor <= 1.0 / 2.0, name
    blind = [traits[0], *[Traits(Reading((), ()))] * (len(scenes) - 1)]
    seen = score_adherence(scenes, blind, num_resamples=200)["count_seen"]
    assert seen.value == pytest.approx(1.0 / len(scenes))
    assert seen.interval[0] == 0.0 < seen.value < seen.interval[1]
    assert np.isnan(score_adherence(scenes[:1], traits[:1], num_resamples=2)["count_seen"].chance)
    with pytest.raises(ValueError, match="scenes of all"):
        score_adherence(scenes, traits[1:])
    with pytest.raises(ValueError, match="needs clips"):
        score_adherence([], [])


def test_a_voice_is_told_by_its_pitch_and_noise_has_none() -> None:
    times = np.arange(8000) / 16000
    for name, pitch_hz in (("low", 120.0), ("high", 230.0)):
        buzz = sum(np.sin(2 * np.pi * pitch_hz * number * times) / number for number in range(1, 12))
        assert nearest_voice(0.2 * buzz[None].astype(np.float32), 16000, 0.1) == name
    assert nearest_voice(np.zeros((1, 8000), np.float32), 16000, 0.1) == ""
