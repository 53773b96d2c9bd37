"""What is given becomes levels and latents, and comes back as it was."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from mova.conditioning.given import (
    Given,
    given_audio,
    given_beginning,
    given_end,
    given_pictures,
    given_video,
    merge_given,
    paste_back,
    spatial_inpaint_mask,
    temporal_inpaint_mask,
)
from mova.errors import RequestError
from mova.media.clip import Clip
from mova.pipeline.latents import Codecs, fill_missing_frames, given_levels, task_of
from mova.request.plan import Canvas
from mova.sampling.task import Grid
from mova.timeline import Timeline

CLOCK = Timeline(fps=Fraction(16), sample_rate=16000, video_stride=4, audio_hop=500)
GRID = Grid(frames=5, height=2, width=3, audio_length=34)  # 17 frames of 24 x 16
CANVAS = Canvas(width=24, height=16, num_frames=17, num_samples=17000)


def some_clip(num_frames: int = 17, seed: int = 0) -> Clip:
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (num_frames, 16, 24, 3), dtype=np.uint8)
    waveform = rng.uniform(-0.5, 0.5, (1, num_frames * 1000)).astype(np.float32)
    return Clip(frames, waveform, Fraction(16), 16000)


def test_nothing_given_is_noise_everywhere() -> None:
    assert bool((given_levels(Given(), GRID, CLOCK)[0] == 1).all())
    assert bool((given_levels(Given(), GRID, CLOCK)[1] == 1).all())


def test_a_video_or_audio_given_whole_is_clean_everywhere() -> None:
    clip = some_clip()
    video, audio = given_video(CANVAS, clip.frames), given_audio(CANVAS, clip.waveform)
    assert bool((given_levels(video, GRID, CLOCK)[0] == 0).all())
    assert bool((given_levels(video, GRID, CLOCK)[1] == 1).all())
    assert bool((given_levels(audio, GRID, CLOCK)[1] == 0).all())
    both = merge_given(video, audio)
    assert bool((given_levels(both, GRID, CLOCK)[1] == 0).all())


def test_the_unseen_end_of_a_trimmed_clip_counts_as_its_last_frame() -> None:
    canvas = replace(CANVAS, num_frames=15, num_samples=15000)
    video = given_video(canvas, some_clip(15).frames)
    assert bool((given_levels(video, GRID, CLOCK)[0] == 0).all())


@pytest.mark.parametrize(("frame", "latent"), [(0, 0), (1, 1), (4, 1), (5, 2), (16, 4)])
def test_a_picture_holds_the_latent_of_its_frame_and_no_other(frame: int, latent: int) -> None:
    picture = some_clip().frames[0]
    given = given_pictures(CANVAS, {frame: picture})
    levels = given_levels(given, GRID, CLOCK)[0]
    assert [index for index in range(5) if bool((levels[index] == 0).all())] == [latent]
    assert bool((levels[[i for i in range(5) if i != latent]] == 1).all())
    video = fill_missing_frames(given, GRID, CLOCK)[0]
    expected = torch.from_numpy(picture).permute(2, 0, 1).float() / 127.5 - 1.0
    assert torch.equal(video[:, frame], expected)


def test_a_clip_that_goes_on_gives_only_whole_latents() -> None:
    given = given_beginning(CANVAS, some_clip(7))  # frames 0..6: latents 0 and 1 whole, two frames of latent 2
    assert [float(level) for level in given_levels(given, GRID, CLOCK)[0][:, 0, 0]] == [0, 0, 1, 1, 1]
    assert given_levels(given, GRID, CLOCK)[1].tolist() == [0.0] * 14 + [1.0] * 20


def test_a_clip_that_is_led_up_to_is_given_at_the_end() -> None:
    given = given_end(CANVAS, some_clip(8))  # frames 9..16
    assert [float(level) for level in given_levels(given, GRID, CLOCK)[0][:, 0, 0]] == [1, 1, 1, 0, 0]
    assert given_levels(given, GRID, CLOCK)[1].tolist() == [1.0] * 18 + [0.0] * 16


def test_a_region_is_made_in_every_latent_cell_that_it_touches() -> None:
    region = np.zeros((16, 24), np.bool_)
    region[3, 9] = True
    levels = given_levels(spatial_inpaint_mask(CANVAS, some_clip(), region), GRID, CLOCK)[0]
    assert bool((levels[:, 0, 1] == 1).all())
    assert float(levels.sum()) == 5.0


@pytest.mark.parametrize("span", [(0, 3000), (5000, 9000), (14000, 17000)])
def test_what_is_kept_is_equal_to_the_bit_outside_one_seam(span: tuple[int, int]) -> None:
    source, made = some_clip(), some_clip(seed=1)
    given = temporal_inpaint_mask(CANVAS, source, frames=(4, 9), samples=span)
    finished = paste_back(made, given, audio=source.waveform, timeline=CLOCK)
    changed = np.flatnonzero((finished.frames != source.frames).any(axis=(1, 2, 3)))
    assert changed.tolist() == [4, 5, 6, 7, 8]
    assert np.array_equal(finished.frames[4:9], made.frames[4:9])
    differs = np.flatnonzero(finished.waveform[0] != source.waveform[0])
    assert differs.min() >= span[0] - 500
    assert differs.max() < span[1] + 500
    assert np.array_equal(finished.waveform[:, slice(*span)], made.waveform[:, slice(*span)])


def test_given_audio_keeps_its_own_rate_and_channels() -> None:
    made = some_clip(seed=1).resampled(48000)
    stereo = np.random.default_rng(3).uniform(-1, 1, (2, 51000)).astype(np.float32)
    finished = paste_back(made, given_audio(CANVAS, some_clip().waveform), audio=stereo, timeline=CLOCK)
    assert np.array_equal(finished.waveform, stereo)


def test_the_task_holds_latents_only_of_what_is_given() -> None:
    calls: list[str] = []

    class CountingCodecs(Codecs):
        def encode_video(self, frames: torch.Tensor) -> torch.Tensor:
            calls.append("video")
            assert frames.shape == (1, 3, 17, 16, 24)
            return torch.zeros(1, 4, 5, 2, 3)

        def encode_audio(self, waveform: torch.Tensor) -> torch.Tensor:
            calls.append("audio")
            assert waveform.shape == (1, 1, 17000)
            return torch.zeros(1, 6, 34)

    given = given_video(CANVAS, some_clip().frames)
    task = task_of(given, GRID, CLOCK, CountingCodecs(None, None))
    assert calls == ["video"]
    assert task.video is not None
    assert task.audio is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: given_pictures(CANVAS, {17: some_clip().frames[0]}), "frames 0 to 16"),
        (lambda: given_pictures(CANVAS, {0: np.zeros((8, 8, 3), np.uint8)}), "8x8"),
        (lambda: given_video(CANVAS, some_clip(9).frames), "has 9 frames; the clip has 17"),
        (lambda: given_audio(CANVAS, some_clip(9).waveform), "shorter than the video"),
        (lambda: given_beginning(CANVAS, some_clip(17)), "nothing would be made"),
        (lambda: temporal_inpaint_mask(CANVAS, some_clip(), frames=None, samples=None), "nothing is to be generated"),
        (lambda: spatial_inpaint_mask(CANVAS, some_clip(), np.zeros((4, 4), np.bool_)), "shape"),
        (lambda: spatial_inpaint_mask(CANVAS, some_clip(), np.zeros((16, 24), np.bool_)), "empty"),
        (lambda: merge_given(given_video(CANVAS, some_clip().frames), given_video(CANVAS, some_clip().frames)), "one moment"),
    ],
)
def test_what_does_not_fit_is_refused(make: object, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        make()  # type: ignore[operator]
