"""The noise of an instant depends on seed, modality and absolute latent index, and on nothing else."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mova.sampling.task import audio_noise, video_noise

SEEDS = st.integers(0, 2**63 - 1)
GOLDEN_VIDEO = [-1.4074039, 1.5169982, 1.0651841, -0.5246552]
GOLDEN_AUDIO = [-0.7727035, -0.3976004, 0.5622037, 0.6758705]


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(1, 6), st.integers(0, 6), st.integers(0, 1000))
def test_a_longer_video_begins_with_the_same_noise_and_any_part_can_be_drawn_alone(
    seed: int, frames: int, more: int, start: int
) -> None:
    whole = video_noise(seed, (3, frames + more, 2, 5), start=start)
    assert torch.equal(video_noise(seed, (3, frames, 2, 5), start=start), whole[:, :frames])
    if more:
        assert torch.equal(video_noise(seed, (3, more, 2, 5), start=start + frames), whole[:, frames:])


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(1, 20), st.integers(1, 20))
def test_a_longer_audio_begins_with_the_same_noise_and_any_part_can_be_drawn_alone(seed: int, length: int, more: int) -> None:
    whole = audio_noise(seed, (7, length + more))
    assert torch.equal(audio_noise(seed, (7, length)), whole[:, :length])
    assert torch.equal(audio_noise(seed, (7, more), start=length), whole[:, length:])


@settings(max_examples=25, deadline=None)
@given(SEEDS, SEEDS)
def test_other_seeds_and_the_other_modality_give_other_noise(first: int, second: int) -> None:
    video = video_noise(first, (4, 1, 2, 3))
    assert not torch.equal(video.flatten()[:24], audio_noise(first, (24, 1)).flatten())
    assert torch.equal(video, video_noise(second, (4, 1, 2, 3))) == (first == second)


def test_the_noise_is_standard_normal_and_white() -> None:
    noise = video_noise(11, (16, 24, 24, 24)).double()
    count = noise.numel()
    assert abs(float(noise.mean())) < 4 / count**0.5
    assert abs(float(noise.var()) - 1) < 4 * (2 / count) ** 0.5
    assert abs(float((noise**4).mean()) - 3) < 4 * (96 / count) ** 0.5
    assert float((noise.abs() > 1.959964).double().mean()) == pytest.approx(0.05, abs=0.002)
    neighbours = (noise[:, 1:] * noise[:, :-1]).mean()
    assert abs(float(neighbours)) < 4 / count**0.5


def test_the_noise_of_a_seed_never_changes() -> None:
    """Videos made by an earlier version can be made again: these numbers are fixed."""
    expected_video = torch.tensor(GOLDEN_VIDEO)
    expected_audio = torch.tensor(GOLDEN_AUDIO)
    torch.testing.assert_close(video_noise(7, (1, 2, 1, 2)).flatten(), expected_video, rtol=0, atol=1e-6)
    torch.testing.assert_close(audio_noise(7, (2, 2)).flatten(), expected_audio, rtol=0, atol=1e-6)


def test_noise_is_float32_on_the_cpu_and_refuses_what_has_no_meaning() -> None:
    noise = audio_noise(0, (3, 4))
    assert (noise.dtype, noise.device.type, noise.shape) == (torch.float32, "cpu", (3, 4))
    with pytest.raises(ValueError, match="seed"):
        audio_noise(-1, (1, 1))
    with pytest.raises(ValueError, match="start"):
        video_noise(0, (1, 1, 1, 1), start=-1)
