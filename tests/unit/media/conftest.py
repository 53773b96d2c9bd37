"""Clips with something to measure in them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from mova.media.clip import Clip
from mova.timeline import samples_in_frames

MakeClip = Callable[..., Clip]


def flash_and_click(
    *,
    num_frames: int = 24,
    fps: float | Fraction = 24,
    sample_rate: int = 24_000,
    at_frame: int = 9,
    width: int = 32,
    height: int = 32,
    channels: int = 1,
    request: dict[str, object] | None = None,
) -> Clip:
    """Black and silent but for one white frame, and one loud sample at the very moment that it appears."""
    frames = np.zeros((num_frames, height, width, 3), np.uint8)
    frames[at_frame] = 255
    waveform = np.zeros((channels, samples_in_frames(num_frames, fps, sample_rate)), np.float32)
    waveform[:, samples_in_frames(at_frame, fps, sample_rate)] = 0.9
    return Clip(frames, waveform, fps, sample_rate, request)  # type: ignore[arg-type]


@pytest.fixture
def make_clip() -> MakeClip:
    return flash_and_click
