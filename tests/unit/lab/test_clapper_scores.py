from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mova.lab.adherence.physics import PHYSICS, physics_floors, rank_correlation, restitution, restitutions
from mova.lab.numbers import median, medians
from mova.lab.sync.pairing import drift_ms_per_s, match_aligned
from mova.lab.sync.scores import HEADLINE, NAMES, ClipTimes, compare, measure, score, true_times
from mova.scenes.clapper.scene import sample_scenes

PLANS = [true_times(scene) for scene in sample_scenes(5, 45)]


def late(clips: list[ClipTimes], by_s: float) -> list[ClipTimes]:
    return [replace(clip, audio_s=tuple(time + by_s for time in clip.audio_s)) for clip in clips]


def test_the_truth_scores_one_with_no_offset_whatever_lag_a_scene_means() -> None:
    values = measure(PLANS)
    assert values[HEADLINE] == pytest.approx(1.0)
    assert values["offset_ms"] == pytest.approx(0.0, abs=1e-6)
    assert values["drift_ms_per_s"] == pytest.approx(0.0, abs=1e-6)
    assert (values["sounding_rate"], values["hallucination_rate"], values["coverage"]) == (1.0, 0.0, 1.0)


def test_late_audio_is_positive_and_late_audio_is_not_missing_audio() -> None:
    values = measure(late(PLANS, 0.2))
    assert values["offset_ms"] == pytest.approx(200.0, abs=1.0)
    assert values["sounding_rate"] > 0.95
    assert values["f1_bt1359_acceptability"] < 0.5
    assert measure(late(PLANS, -0.2))["offset_ms"] == pytest.approx(-200.0, abs=1.0)


def test_the_windows_of_bt1359_are_wider_for_late_audio() -> None:
    assert measure(late(PLANS, 0.1))[HEADLINE] == pytest.approx(1.0)
    assert measure(late(PLANS, -0.1))[HEADLINE] < 0.3


def test_sounds_without_a_cause_and_causes_without_audio_are_told_apart() -> None:
    silent = [replace(clip, audio_s=clip.audio_s[:-1]) for clip in PLANS]
    babbling = [replace(clip, audio_s=(*clip.audio_s, clip.audio_s[-1] + 0.15)) for clip in PLANS]
    missed, added = measure(silent), measure(babbling)
    assert missed["sounding_rate"] < 0.85 and missed["hallucination_rate"] < 0.01
    assert added["sounding_rate"] > 0.99 and added["hallucination_rate"] > 0.1


def test_a_clip_in_which_nothing_can_be_read_counts_as_missed() -> None:
    unread = [replace(clip, video_s=(), audio_s=()) if place % 2 else clip for place, clip in enumerate(PLANS)]
    values = measure(unread)
    assert values["coverage"] == pytest.approx(23 / 45)
    assert values["f1_45"] == pytest.approx(0.5, abs=0.1)


def test_every_number_has_an_interval_and_all_but_coverage_a_chance_level() -> None:
    jittered = [
        replace(clip, audio_s=tuple(np.sort(np.add(clip.audio_s, 0.05 * np.sin(np.arange(len(clip.audio_s)))))))
        for clip in PLANS
    ]
    found = score(jittered, floors={"offset_ms": 4.0}, num_resamples=60)
    assert set(found.numbers) == set(NAMES)
    for name, number in found.numbers.items():
        assert number.interval[0] <= number.value <= number.interval[1], name
        assert np.isnan(number.chance) == (name == "coverage"), name
    assert found.headline.chance == pytest.approx(0.0)
    assert found.numbers["f1_45"].chance < 0.4 < found.numbers["f1_45"].value
    assert found.numbers["offset_ms"].floor == 4.0


def test_a_difference_that_the_meter_cannot_tell_is_called_so() -> None:
    found = compare(PLANS, late(PLANS, 0.003), floors={"offset_ms": 4.0}, num_resamples=40)
    assert found["offset_ms"].value == pytest.approx(3.0)
    assert found["offset_ms"].verdict == "below the floor"
    assert compare(PLANS, late(PLANS, 0.03), floors={"offset_ms": 4.0}, num_resamples=40)["offset_ms"].verdict == "different"
    with pytest.raises(ValueError, match="same scenes"):
        compare(PLANS, PLANS[1:], floors={})
    with pytest.raises(ValueError, match="at least one clip"):
        measure([])


def test_alignment_finds_pairs_under_an_offset_and_drift_is_the_slope() -> None:
    video = np.array([0.3, 0.65, 1.4, 1.9])
    assert match_aligned(video, video + 0.4) == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert match_aligned(video, []) == []
    assert drift_ms_per_s(video, 20.0 + 5.0 * video) == pytest.approx(5.0)
    assert np.isnan(drift_ms_per_s(video[:2], [1.0, 2.0]))


def test_flights_shrink_by_the_restitution() -> None:
    np.testing.assert_allclose(restitutions(np.cumsum([0.2, 0.8, 0.64, 0.512])), 0.8)
    assert restitution([0.1, 0.9, 1.5]) == pytest.approx(0.75) and np.isnan(restitution([0.1, 0.9]))
    assert rank_correlation([1, 2, 3], [10, 30, 90]) == pytest.approx(1.0)
    assert np.isnan(rank_correlation([1, 1, 1], [1, 2, 3]))


def test_the_floor_of_physics_is_what_true_clips_are_read_as() -> None:
    one = dict(zip(PHYSICS, (0.81, 0.79, 0.02, 0.0, 0.01, 1.0), strict=True))
    two = one | {"g_cv": 0.03, "loudness_speed_rho": 0.5}
    floors = physics_floors([one, two, {}], [0.8, 0.8, float("nan")])
    assert floors == pytest.approx({
        "restitution_seen": 0.01, "restitution_heard": 0.01, "restitution_difference": 0.02, "energy_gain_rate": 0.5,
        "g_cv": 0.02, "loudness_speed_rho": 0.5,
    })  # fmt: skip
    assert physics_floors([{}], [0.8]) == {}


@given(arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(0, 7)), elements=st.floats(-9, 9) | st.just(np.nan)))
def test_medians_of_rows_are_those_of_one_row_after_the_other(table: npt.NDArray[np.float64]) -> None:
    finite = [row[np.isfinite(row)] for row in table]
    np.testing.assert_array_equal(medians(table), [np.median(row) if row.size else np.nan for row in finite])
    np.testing.assert_array_equal(medians(table), [median(row) for row in table])
