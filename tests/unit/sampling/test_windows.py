"""Windows cover a long clip once, on both grids, in step."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mova.sampling.denoise import Progress, denoise_windows, plan_windows
from mova.sampling.task import AVTensors, Task
from mova.timeline import Timeline

BASE = Timeline(fps=Fraction(16), sample_rate=16000, video_stride=4, audio_hop=500)
OFFICIAL = Timeline(fps=Fraction(24), sample_rate=48000, video_stride=4, audio_hop=960)


@pytest.mark.parametrize(("timeline", "longest"), [(BASE, 9), (OFFICIAL, 49)])
@settings(deadline=None)
@given(num_video=st.integers(1, 400))
def test_windows_cover_the_clip_stay_short_and_share_something(timeline: Timeline, longest: int, num_video: int) -> None:
    num_audio = timeline.audio_latents(timeline.frames_of_latents(num_video))
    windows = plan_windows(num_video, num_audio, timeline=timeline, max_video=longest)
    assert windows[0].video[0] == windows[0].audio[0] == 0
    assert (windows[-1].video[1], windows[-1].audio[1]) == (num_video, num_audio)
    for window in windows:
        assert 0 < window.video[1] - window.video[0] <= longest
    for one, following in pairwise(windows):
        assert one.video[0] < following.video[0] < one.video[1] < following.video[1]
        assert one.audio[0] < following.audio[0] < one.audio[1] <= following.audio[1]


@pytest.mark.parametrize(("timeline", "longest"), [(BASE, 9), (OFFICIAL, 49)])
def test_picture_and_audio_of_a_window_begin_together_to_the_latent(timeline: Timeline, longest: int) -> None:
    for window in plan_windows(200, 4000, timeline=timeline, max_video=longest):
        # time 0 of a window is the frame of index stride * a
        begin = Fraction(timeline.video_stride * window.video[0]) / timeline.fps
        assert begin * timeline.audio_latents_per_second == window.audio[0]


def test_a_short_clip_is_one_window() -> None:
    (window,) = plan_windows(9, 66, timeline=BASE, max_video=9)
    assert (window.video, window.audio) == ((0, 9), (0, 66))


def test_each_window_goes_on_from_the_latents_of_the_one_before_and_keeps_what_is_given() -> None:
    windows = plan_windows(21, 162, timeline=BASE, max_video=9)
    noise = AVTensors(torch.randn(2, 3, 21, 1, 1), torch.randn(2, 5, 162))
    given = torch.full((3, 21, 1, 1), 7.0)
    level = torch.ones(21, 1, 1)
    level[[0, 20]] = 0.0
    task = Task(level, torch.ones(162), video=given)
    seen: list[tuple[Task, AVTensors]] = []

    def run(part: Task, *, video_noise: torch.Tensor, audio_noise: torch.Tensor, on_step: object) -> AVTensors:
        made = [torch.full_like(noise, 10.0 + len(seen)) for noise in (video_noise, audio_noise)]
        for index, (latents, has, is_open) in enumerate(
            [(made[0], part.video, part.video_level), (made[1], part.audio, part.audio_level)]
        ):
            if has is not None:
                made[index] = torch.where(is_open == 0, has.expand_as(latents), latents)
        seen.append((part, AVTensors(video_noise, audio_noise)))
        return AVTensors(*made)

    clip = denoise_windows(run, task, windows, noise)
    assert len(seen) == len(windows) == 3
    assert [int((part.video_level[:, 0, 0] == 0).sum()) for part, _ in seen] == [1, 3, 4]  # given, shared, shared and given
    for window, (part, noises), (before, _) in zip(windows[1:], seen[1:], seen, strict=False):
        shared = int((part.audio_level == 0).sum())
        assert shared == windows[windows.index(window) - 1].audio[1] - window.audio[0]
        assert torch.equal(noises.video, noise.video[:, :, slice(*window.video)])
        assert before is not part
    assert clip.video[0, 0, :, 0, 0].tolist() == [7.0, *[10.0] * 8, *[11.0] * 6, *[12.0] * 5, 7.0]
    assert clip.audio[0, 0, 65:67].tolist() == [10.0, 11.0]


def test_steps_are_counted_over_all_windows_and_a_callback_may_replace_latents() -> None:
    windows = plan_windows(15, 114, timeline=BASE, max_video=9)
    noise = AVTensors(torch.zeros(1, 1, 15, 1, 1), torch.zeros(1, 1, 114))

    def run(part: Task, *, video_noise: torch.Tensor, audio_noise: torch.Tensor, on_step: Any) -> AVTensors:
        latents = AVTensors(video_noise, audio_noise)
        for step in (1, 2):
            latents = on_step(Progress(step, 2, 0.0, latents)) or latents
        return latents

    told: list[tuple[int, int, torch.Size]] = []

    def on_step(progress: Progress) -> AVTensors:
        told.append((progress.step, progress.num_steps, progress.latents.video.shape))
        return AVTensors(progress.latents.video + 1.0, progress.latents.audio)

    clip = denoise_windows(run, Task(torch.ones(15, 1, 1), torch.ones(114)), windows, noise, on_step=on_step)
    assert told == [(step, 4, noise.video.shape) for step in (1, 2, 3, 4)]
    assert clip.video[0, 0, :, 0, 0].tolist() == [2.0] * 15


def test_grids_that_do_not_meet_within_a_window_are_refused() -> None:
    odd = Timeline(fps=Fraction(24000, 1001), sample_rate=48000, video_stride=4, audio_hop=960)
    with pytest.raises(ValueError, match="coincide only every"):
        plan_windows(100, 1000, timeline=odd, max_video=9)
