"""Noise maps of training on clocks and networks of any stride and patch size."""

from __future__ import annotations

from fractions import Fraction

import torch
from einops import reduce
from hypothesis import given, settings
from hypothesis import strategies as st

from mova.sampling.task import Grid
from mova.timeline import Timeline
from mova.training.noise_maps import MASKED_TASKS, ClipShape, NoiseSettings, draw_levels


@st.composite
def clips(draw: st.DrawFn) -> ClipShape:
    timeline = Timeline(
        Fraction(draw(st.sampled_from([8, 16, 24, 25]))),
        draw(st.sampled_from([16000, 48000])),
        video_stride=draw(st.integers(1, 8)),
        audio_hop=draw(st.sampled_from([320, 500, 960, 2000])),
    )
    patch = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    frames = draw(st.integers(3, 9))
    grid = Grid(
        frames=frames,
        height=patch[0] * draw(st.integers(1, 4)),
        width=patch[1] * draw(st.integers(1, 4)),
        audio_length=timeline.audio_latents(timeline.frames_of_latents(frames)),
    )
    return ClipShape(grid, timeline, patch)


@given(clips(), st.sampled_from(sorted(MASKED_TASKS)), st.integers(0, 10**6))
@settings(deadline=None)
def test_a_task_gives_whole_tokens_on_any_clock(clip: ClipShape, name: str, seed: int) -> None:
    levels = draw_levels(2, clip, NoiseSettings(independent=0.0, tasks={name: 1.0}), torch.Generator().manual_seed(seed))
    grid, (rows, columns) = clip.grid, clip.patch
    assert levels.video.shape == (2, grid.frames, grid.height, grid.width) and levels.audio.shape == (2, grid.audio_length)
    is_made = (levels.video > 0).float()
    by_patch = reduce(is_made, "b t (h p) (w q) -> b t h w", "mean", p=rows, q=columns)
    assert bool(((by_patch == 0) | (by_patch == 1)).all())


@given(clips(), st.integers(0, 10**6))
@settings(deadline=None)
def test_audio_that_is_given_with_a_beginning_ends_with_its_video(clip: ClipShape, seed: int) -> None:
    levels = draw_levels(1, clip, NoiseSettings(independent=0.0, tasks={"extend": 1.0}), torch.Generator().manual_seed(seed))
    num_video, num_audio = int((levels.video[0, :, 0, 0] == 0).sum()), int((levels.audio[0] == 0).sum())
    end = clip.timeline.video_latent_span(num_video - 1)[1]
    assert 1 <= num_video < clip.grid.frames
    assert clip.timeline.audio_latent_span(num_audio)[1] > end, "the next audio latent goes beyond the given video"
    assert num_audio == 0 or clip.timeline.audio_latent_span(num_audio - 1)[1] <= end
