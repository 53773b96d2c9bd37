from __future__ import annotations

import numpy as np
import pytest

from mova.lab.numbers import average, mean_interval, share_floors
from mova.lab.sync.pairing import match
from mova.lab.sync.scores import ClipTimes, choose_others, measure, score


def clips(num_clips: int = 40, *, jitter_s: float = 0.0, seed: int = 0) -> list[ClipTimes]:
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(num_clips):
        seen = np.sort(0.12 + 0.3 * np.arange(4) + rng.uniform(0.0, 0.3)) + rng.uniform(-0.03, 0.03, 4)
        heard = seen + jitter_s * rng.standard_normal(4)
        made.append(ClipTimes("drums", tuple(seen.tolist()), tuple(heard.tolist())))
    return made


def test_a_lag_that_the_scene_means_is_taken_off() -> None:
    assert measure([ClipTimes("storm", (0.5,), (1.01,), lag_s=0.5)])["offset_ms"] == pytest.approx(10.0)


def test_missed_and_extra_events_count_on_both_sides() -> None:
    values = measure([ClipTimes("ball", (0.2, 0.6, 1.0), (0.2, 1.4))])
    assert values["precision_80"] == pytest.approx(1 / 2)
    assert values["recall_80"] == pytest.approx(1 / 3)
    assert values["f1_80"] == pytest.approx(2 / 5)


def test_pairs_are_one_to_one_as_many_as_possible_and_then_the_closest() -> None:
    assert match([0.0, 0.05], [0.05, 0.1], low_ms=-60, high_ms=60) == [(0, 0), (1, 1)]
    assert match([0.0], [0.02, 0.01], low_ms=-60, high_ms=60) == [(0, 1)]
    assert match([], [0.1], low_ms=-60, high_ms=60) == []


def test_more_jitter_scores_lower_and_is_measured() -> None:
    values = [measure(clips(jitter_s=jitter)) for jitter in (0.0, 0.02, 0.04, 0.08)]
    f1 = [one["f1_45"] for one in values]
    assert f1 == sorted(f1, reverse=True)
    assert f1[0] == 1.0 > f1[-1]
    # the median size of a normal error is 0.6745 of its spread
    assert values[1]["median_abs_ms"] == pytest.approx(0.6745 * 20, rel=0.25)


def test_chance_is_another_clip_of_the_same_kind_and_far_below_a_clip_in_step() -> None:
    kinds = ["ball", "mouth"] * 4 + ["siren"]
    for index, kind in enumerate(kinds):
        others = choose_others(kinds, index, 3)
        assert index not in others and {kinds[place] for place in others} <= {kind}
        assert others == choose_others(kinds, index, 3) and len(others) == (0 if kind == "siren" else 3)
    found = score(clips(60), num_resamples=20).numbers["f1_45"]
    assert found.chance < 0.6 < found.value


def test_intervals_hold_the_value_and_shrink_with_more_clips() -> None:
    few, many = (score(clips(number, jitter_s=0.04), num_resamples=200).numbers["f1_45"] for number in (8, 128))
    for number in (few, many):
        assert number.interval[0] <= number.value <= number.interval[1]
    assert np.ptp(many.interval) < np.ptp(few.interval)
    assert mean_interval([1.0, 1.0, 1.0]) == (1.0, 1.0)


def test_clips_without_events_are_missed_if_any_were_asked_for_and_else_tell_nothing() -> None:
    assert measure([ClipTimes("ball", (), (), num_expected=2)])["f1_80"] == 0.0
    values = measure([ClipTimes("ball", (), ())])
    assert np.isnan(values["f1_80"]) and np.isnan(values["offset_ms"])


def test_values_are_averaged_over_the_clips_that_have_them() -> None:
    rows = [{"colour": 1.0, "count": 0.0}, {"colour": 0.0}, {"colour": 1.0}]
    found = average(rows, by_chance=[{"colour": 0.25}], floors={"count": 0.5}, num_resamples=50)
    assert found["colour"].value == pytest.approx(2 / 3) and found["colour"].chance == 0.25
    assert found["count"].value == 0.0 and found["count"].floor == 0.5 and np.isnan(found["count"].chance)
    assert share_floors(rows) == pytest.approx({"colour": 1 / 3, "count": 1.0})
