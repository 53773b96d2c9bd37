"""Whatever the length, frame rate and sample rate, a file gives back the clip that was written, in step."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mova.media.clip import Clip
from mova.media.decode import read_clip
from mova.timeline import samples_in_frames

FPS = st.sampled_from([12, 16, 23.976, 24, 25, 29.97, 30, 60])
RATES = st.sampled_from([16_000, 22_050, 24_000, 44_100, 48_000])


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mkv"])
@settings(max_examples=10, deadline=None)
@given(
    num_frames=st.integers(1, 40),
    fps=FPS,
    sample_rate=RATES,
    channels=st.sampled_from([1, 2]),
    data=st.data(),
)
def test_every_length_comes_back_exactly_and_in_step(
    suffix: str, num_frames: int, fps: float, sample_rate: int, channels: int, data: st.DataObject
) -> None:
    at_frame = data.draw(st.integers(0, num_frames - 1), label="at_frame")
    frames = np.zeros((num_frames, 32, 32, 3), np.uint8)
    frames[at_frame] = 255
    waveform = np.zeros((channels, samples_in_frames(num_frames, fps, sample_rate)), np.float32)
    click = samples_in_frames(at_frame, fps, sample_rate)
    waveform[:, click] = 0.9
    clip = Clip(frames, waveform, fps, sample_rate)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        written = clip.save(Path(folder) / f"clip{suffix}")
        back = read_clip(written.path)
    assert back.fps == clip.fps
    assert back.num_frames == num_frames
    assert back.waveform.shape == (channels, samples_in_frames(num_frames, fps, back.sample_rate))
    assert int(back.frames.mean(axis=(1, 2, 3)).argmax()) == at_frame
    heard_s = int(np.abs(back.waveform[0]).argmax()) / back.sample_rate
    assert abs(heard_s - click / sample_rate) < 1e-3
    assert written.start_offset_s == 0


@settings(max_examples=50, deadline=None)
@given(num_frames=st.integers(1, 400), fps=FPS, from_rate=RATES, to_rate=RATES)
def test_resampling_gives_the_length_of_the_clock(num_frames: int, fps: float, from_rate: int, to_rate: int) -> None:
    waveform = np.zeros((1, samples_in_frames(num_frames, fps, from_rate)), np.float32)
    clip = Clip(np.zeros((num_frames, 1, 1, 3), np.uint8), waveform, fps, from_rate)  # type: ignore[arg-type]
    assert clip.resampled(to_rate).waveform.shape[1] == samples_in_frames(num_frames, fps, to_rate)
