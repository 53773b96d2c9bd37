"""Windows cover a long clip once, on both grids, in step."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mova.sampling.windows import plan_windows
from mova.timeline import Timeline

BASE = Timeline(fps=Fraction(16), sample_rate=16000, video_stride=4, audio_hop=500)
OFFICIAL = Timeline(fps=Fraction(24), sample_rate=48000, video_stride=4, audio_hop=960)


@pytest.mark.parametrize(("timeline", "longest"), [(BASE, 9), (OFFICIAL, 49)])
@settings(deadline=None)
@given(num_video=st.integers(1, 400))
def test_every_latent_has_a_weight_and_windows_stay_short(timeline: Timeline, longest: int, num_video: int) -> None:
    num_audio = timeline.audio_latents(timeline.frames_of_latents(num_video))
    windows = plan_windows(num_video, num_audio, timeline=timeline, max_video=longest)
    video, audio = torch.zeros(num_video), torch.zeros(num_audio)
    for window in windows:
        assert 0 < window.video[1] - window.video[0] <= longest
        assert len(window.video_weight) == window.video[1] - window.video[0]
        assert len(window.audio_weight) == window.audio[1] - window.audio[0]
        video[slice(*window.video)] += window.video_weight
        audio[slice(*window.audio)] += window.audio_weight
    assert float(video.min()) > 0.0
    assert float(audio.min()) > 0.0


@pytest.mark.parametrize(("timeline", "longest"), [(BASE, 9), (OFFICIAL, 49)])
def test_picture_and_sound_of_a_window_begin_together_to_the_latent(timeline: Timeline, longest: int) -> None:
    for window in plan_windows(200, 4000, timeline=timeline, max_video=longest):
        # time 0 of a window is the frame of index stride * a
        begin = Fraction(timeline.video_stride * window.video[0]) / timeline.fps
        assert begin * timeline.audio_latents_per_second == window.audio[0]


def test_a_later_window_gives_no_weight_to_its_first_latent_which_it_takes_for_a_single_frame() -> None:
    windows = plan_windows(30, 240, timeline=BASE, max_video=9)
    assert len(windows) > 2
    assert float(windows[0].video_weight[0]) == 1.0
    assert all(float(window.video_weight[0]) == 0.0 for window in windows[1:])


def test_a_short_clip_is_one_window_of_full_weight() -> None:
    (window,) = plan_windows(9, 66, timeline=BASE, max_video=9)
    assert (window.video, window.audio) == ((0, 9), (0, 66))
    assert bool((window.video_weight == 1).all())


def test_grids_that_do_not_meet_within_a_window_are_refused() -> None:
    odd = Timeline(fps=Fraction(24000, 1001), sample_rate=48000, video_stride=4, audio_hop=960)
    with pytest.raises(ValueError, match="meet only every"):
        plan_windows(100, 1000, timeline=odd, max_video=9)
