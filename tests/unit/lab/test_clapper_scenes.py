from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mova.errors import RequestError
from mova.scenes.clapper.plans import MARGIN_S, MIN_GAP_FRAMES, Rules
from mova.scenes.clapper.scene import FAMILIES, SYNC_FAMILIES, make_scene, render_scene, sample_scenes

CONTROLS = set(FAMILIES) - set(SYNC_FAMILIES)


@settings(max_examples=20, deadline=None)
@given(
    family=st.sampled_from(sorted(FAMILIES)),
    seed=st.integers(0, 10_000),
    fps=st.sampled_from((12, 16, Fraction(24000, 1001), 25, 60)),
    seconds=st.sampled_from((4, 6)),
)
def test_events_keep_their_distance_from_each_other_and_from_the_ends(
    family: str, seed: int, fps: int | Fraction, seconds: int
) -> None:
    scene = make_scene(family, seed, fps=fps, seconds=seconds)
    assert scene.seconds >= seconds
    for modality in ("video", "audio"):
        times = scene.times_s(modality)
        gaps = [second - first for first, second in pairwise(times)]
        assert all(MARGIN_S - 1e-9 <= time <= scene.seconds - MARGIN_S + 1e-9 for time in times)
        assert all(gap >= MIN_GAP_FRAMES / float(scene.fps) - 1e-9 for gap in gaps)
        # a rhythm must not match itself one event later
        assert all(abs(a - b) >= 0.15 * max(a, b) - 1e-9 for a, b in pairwise(gaps))
    if family in SYNC_FAMILIES:
        np.testing.assert_allclose(np.subtract(scene.times_s("audio"), scene.times_s("video")), scene.lag_s, atol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_scene_is_the_same_bytes_and_another_seed_is_another_scene(family: str) -> None:
    size = {"width": 32, "height": 24, "sample_rate": 8000}
    first, again = (render_scene(make_scene(family, 3, fps=12, seconds=2.5), **size) for _ in range(2))
    assert first.frames.tobytes() == again.frames.tobytes()
    assert first.waveform.tobytes() == again.waveform.tobytes()
    assert (first.width, first.height, first.fps, first.sample_rate) == (32, 24, 12, 8000)
    other = make_scene(family, 4, fps=12, seconds=2.5)
    same = make_scene(family, 3, fps=12, seconds=2.5)
    assert (other.picture.events, other.audio.events) != (same.picture.events, same.audio.events)


def test_controls_lack_one_side_or_have_two_that_have_nothing_to_do_with_each_other() -> None:
    assert set(CONTROLS) == {"silent_motion", "off_screen", "unrelated"}
    assert make_scene("silent_motion", 1).times_s("audio") == () != make_scene("silent_motion", 1).times_s("video")
    assert make_scene("off_screen", 1).times_s("video") == () != make_scene("off_screen", 1).times_s("audio")
    unrelated = make_scene("unrelated", 1)
    assert unrelated.times_s("video") != unrelated.times_s("audio")
    still = render_scene(make_scene("off_screen", 1, seconds=2), width=32, height=32).frames
    assert (still == still[0]).all()


def test_a_far_flash_is_heard_at_the_speed_of_audio() -> None:
    scene = make_scene("far_flash", 2)
    assert scene.lag_s == pytest.approx(int(scene.attributes["distance_m"]) / 343.0)
    assert 0.029 < scene.lag_s < 0.31
    assert str(scene.attributes["distance_m"]) in scene.caption


def test_a_moving_source_is_louder_on_the_side_where_it_is() -> None:
    scene = make_scene("moving_source", 5)
    audio = render_scene(scene, width=32, height=32, sample_rate=16_000).waveform
    for event in scene.picture.events:
        first = round(event.time_s * 16_000)
        left, right = np.square(audio[:, first : first + 1600]).sum(axis=1)
        if abs(event.place[0] - 0.5) > 0.05:
            assert (right > left) == (event.place[0] > 0.5)


def test_scenes_of_a_sample_do_not_depend_on_how_many_there_are() -> None:
    few, many = list(sample_scenes(7, 3)), list(sample_scenes(7, 12))
    assert few == many[:3]
    assert [scene.family for scene in many[: len(SYNC_FAMILIES)]] == list(SYNC_FAMILIES)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"family": "bunce"}, "bounce"),
        ({"family": "keys", "fps": 8}, "fps must be 12 to 60"),
        ({"family": "keys", "seconds": 0.5}, "at least 1 s"),
        ({"family": "keys", "seed": -1}, "seed must not be negative"),
    ],
)
def test_a_scene_that_cannot_be_made_is_refused_by_name(arguments: dict[str, object], words: str) -> None:
    given_all = {"seed": 0, **arguments}
    with pytest.raises(RequestError, match=words):
        make_scene(**given_all)  # type: ignore[arg-type]


def test_more_events_than_fit_are_refused() -> None:
    with pytest.raises(RequestError, match="do not fit in 2 s at 24"):
        Rules(Fraction(24), 2.0).times(np.random.default_rng(0), 9)
