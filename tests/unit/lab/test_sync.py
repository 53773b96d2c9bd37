from __future__ import annotations

import numpy as np
import pytest

from mova.lab.sync.summary import ClipEvents, match, mean_interval, score_clips, shuffled_within_kind


def clips(num_clips: int = 40, *, jitter_s: float = 0.0, offset_s: float = 0.0, seed: int = 0) -> list[ClipEvents]:
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(num_clips):
        seen = np.sort(0.12 + 0.3 * np.arange(4) + rng.uniform(0.0, 0.3)) + rng.uniform(-0.03, 0.03, 4)
        heard = seen + offset_s + jitter_s * rng.standard_normal(4)
        made.append(ClipEvents("drums", tuple(seen.tolist()), tuple(heard.tolist())))
    return made


def test_audio_that_is_late_has_a_positive_offset() -> None:
    score = score_clips(clips(offset_s=0.03))
    assert score.offset_ms == pytest.approx(30.0)
    assert score.windows["22.5"].f1 == 0.0
    assert score.windows["45"].f1 == 1.0


def test_a_lag_that_the_scene_means_is_taken_off() -> None:
    score = score_clips([ClipEvents("storm", (0.5,), (1.01,), lag_s=0.5)])
    assert score.offset_ms == pytest.approx(10.0)


def test_missed_and_extra_events_count_on_both_sides() -> None:
    score = score_clips([ClipEvents("ball", (0.2, 0.6, 1.0), (0.2, 1.4))])
    window = score.windows["80"]
    assert (window.matched, score.num_video, score.num_audio) == (1, 3, 2)
    assert window.precision == pytest.approx(1 / 2)
    assert window.recall == pytest.approx(1 / 3)
    assert window.f1 == pytest.approx(2 / 5)


def test_the_bt1359_window_is_wider_for_late_audio() -> None:
    late, early = score_clips(clips(offset_s=0.1)), score_clips(clips(offset_s=-0.1))
    assert late.windows["bt1359_detectability"].f1 == 1.0
    assert early.windows["bt1359_detectability"].f1 == 0.0


def test_pairs_are_one_to_one_as_many_as_possible_and_then_the_closest() -> None:
    assert match([0.0, 0.05], [0.05, 0.1], low_ms=-60, high_ms=60) == [(0, 0), (1, 1)]
    assert match([0.0], [0.02, 0.01], low_ms=-60, high_ms=60) == [(0, 1)]
    assert match([], [0.1], low_ms=-60, high_ms=60) == []


def test_one_missed_audio_does_not_shift_all_the_others() -> None:
    score = score_clips([ClipEvents("drums", (0.2, 0.44, 0.68), (0.44, 0.68, 0.92))])
    assert score.median_abs_ms == pytest.approx(0.0, abs=1e-6)


def test_more_jitter_scores_lower_and_is_measured() -> None:
    scores = [score_clips(clips(jitter_s=jitter)) for jitter in (0.0, 0.02, 0.04, 0.08)]
    f1 = [score.windows["45"].f1 for score in scores]
    assert f1 == sorted(f1, reverse=True)
    assert f1[0] == 1.0 > f1[-1]
    # the median size of a normal error is 0.6745 of its spread
    assert scores[1].median_abs_ms == pytest.approx(0.6745 * 20, rel=0.25)


def test_a_shuffle_never_keeps_a_clip_s_own_audio_and_stays_within_its_kind() -> None:
    some = [ClipEvents(kind, (0.1 * n,), (10.0 * n,)) for kind in ("ball", "mouth") for n in range(1, 6)]
    kinds_by_audio = {(clip.kind, clip.audio_s) for clip in some}
    for clip in shuffled_within_kind(some, num_rounds=4):
        assert clip.audio_s[0] != pytest.approx(100.0 * clip.video_s[0])
        assert (clip.kind, clip.audio_s) in kinds_by_audio
    assert shuffled_within_kind([ClipEvents("ball", (0.1,), (0.1,))]) == []


def test_chance_is_far_below_a_clip_in_step() -> None:
    some = clips(60)
    assert score_clips(shuffled_within_kind(some)).windows["45"].f1 < 0.6 < score_clips(some).windows["45"].f1


def test_intervals_hold_the_value_and_shrink_with_more_clips() -> None:
    few, many = score_clips(clips(8, jitter_s=0.04)), score_clips(clips(128, jitter_s=0.04))
    for score in (few, many):
        low, high = score.windows["45"].f1_interval
        assert low <= score.windows["45"].f1 <= high
    assert np.ptp(many.windows["45"].f1_interval) < np.ptp(few.windows["45"].f1_interval)
    assert mean_interval([1.0, 1.0, 1.0]) == (1.0, 1.0)


def test_clips_without_events_are_no_division_by_zero() -> None:
    score = score_clips([ClipEvents("ball", (), ())])
    assert score.windows["80"].f1 == 1.0
    assert np.isnan(score.offset_ms)
    with pytest.raises(ValueError, match="at least one clip"):
        score_clips([])
