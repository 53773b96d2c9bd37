from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from mova.lab.adherence.physics import PHYSICS, ball_physics
from mova.lab.read.audio_events import hear
from mova.lab.read.events import Reading
from mova.lab.read.light import find_switches
from mova.lab.read.readers import read_events
from mova.lab.read.trajectories import find_turns, fit_gravities
from mova.lab.read.video_events import see
from mova.lab.sync.floors import floor_of, measure_floor, score_floors
from mova.lab.sync.scores import NAMES
from mova.scenes.clapper.scene import SYNC_FAMILIES, make_scene, render_scene
from mova.scenes.clapper.stages import PICTURES
from mova.scenes.kinds import KINDS


@pytest.mark.parametrize("family", SYNC_FAMILIES)
def test_every_event_of_a_small_picture_is_read_once_and_on_time(family: str) -> None:
    scene = make_scene(family, 1, seconds=2.5)
    clip = render_scene(scene, width=96, height=96, sample_rate=24_000)
    floor = floor_of([scene], [read_events(clip, scene)])
    assert (floor.seen, floor.heard, floor.extra) == (1.0, 1.0, 0)
    # pixels three times as large as in the benchmark
    assert np.abs(floor.video_ms).max() < 5.0
    assert np.abs(floor.audio_ms).max() < 5.0


def test_nothing_is_seen_in_black_and_nothing_heard_in_silence() -> None:
    for picture in (*KINDS, *PICTURES):
        assert see(np.zeros((30, 32, 32, 3), np.uint8), 24.0, kind=picture, shutter=1.0) == []
    for sound in (*KINDS, "scrape"):
        assert hear(np.zeros((1, 16_000), np.float32), 16_000, kind=sound) == []


def test_a_shorter_shutter_is_taken_into_account() -> None:
    light = np.array([0.0, 0.0, 0.0, 0.0, 0.5, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    for shutter, time_s in ((1.0, 4.5 / 10.0), (0.5, 4.25 / 10.0)):
        assert find_switches(light, 10.0, shutter=shutter, least=0.2)[0].time_s == pytest.approx(time_s)


def test_a_way_that_turns_back_between_two_frames_is_placed_between_them() -> None:
    meets = 0.51
    times = (np.arange(24) + 0.5) / 24.0
    (turn,) = find_turns(np.abs(times - meets) * 0.8, 24.0, shutter=1.0)
    # the frame that holds the turn shows the mean of both ways; it is left out
    assert turn.time_s == pytest.approx(meets, abs=1e-4)
    assert turn.strength == pytest.approx(1.6, abs=1e-3)


def test_gravity_is_read_from_each_flight_and_its_change_is_seen() -> None:
    impacts, fps, shutter, floor = (0.31, 0.95, 1.45), 24.0, 0.75, -0.6

    def video(first: float, second: float) -> np.ndarray:
        moments = (np.arange(40)[:, None] + shutter * (np.arange(50) + 0.5) / 50) / fps
        arcs = [
            0.5 * gravity * np.clip((moments - start) * (end - moments), 0.0, None)
            for gravity, (start, end) in zip((first, second), pairwise(impacts), strict=True)
        ]
        return (floor + arcs[0] + arcs[1]).mean(axis=1)

    assert fit_gravities(video(6.0, 6.0), fps, impacts, shutter=shutter) == pytest.approx([6.0, 6.0], rel=1e-3)
    assert fit_gravities(video(6.0, 3.0), fps, impacts, shutter=shutter) == pytest.approx([6.0, 3.0], rel=1e-3)
    hidden = video(6.0, 3.0)
    hidden[8:22] = np.nan  # one frame of the first flight is left
    assert fit_gravities(hidden, fps, impacts, shutter=shutter) == pytest.approx([3.0], rel=1e-3)
    assert fit_gravities(hidden, fps, impacts[:1], shutter=shutter).size == 0


def test_a_clapper_ball_keeps_its_restitution_and_its_gravity() -> None:
    scene = make_scene("bounce", 3, seconds=2.5)
    clip = render_scene(scene, width=96, height=96, sample_rate=24_000)
    found = ball_physics(clip, read_events(clip, scene), shutter=scene.shutter)
    assert tuple(found) == PHYSICS
    assert found["restitution_seen"] == pytest.approx(float(scene.attributes["restitution"]), abs=0.02)
    assert found["restitution_difference"] < 0.02 and found["energy_gain_rate"] == 0.0 and found["g_cv"] < 0.03
    assert found["loudness_speed_rho"] > 0.9
    nothing = Reading(heard=read_events(clip, scene).heard)
    assert ball_physics(clip, nothing, shutter=scene.shutter) == {}


def test_the_floor_of_another_codec_is_measured_the_same_way() -> None:
    late = measure_floor(["flash_beep"], num_clips=1, size=64, seconds=2.5, through=lambda clip: clip.resampled(16_000))
    assert late.seen == late.heard == 1.0
    floors = score_floors(late)
    assert set(floors) == set(NAMES)
    assert 0.0 < floors["offset_ms"] < 5.0
    numbers = late.scores.numbers
    assert floors["median_abs_ms"] == numbers["median_abs_ms"].value
    assert floors["drift_ms_per_s"] == max(abs(end) for end in numbers["drift_ms_per_s"].interval)
    # one event missed or made up is the least that a share can show
    assert floors["sounding_rate"] == pytest.approx(1.0 / late.num_video)
