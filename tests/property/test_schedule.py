"""Noise levels fall from all noise to none, whatever the settings."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mova.sampling.schedule import (
    ScheduleConfig,
    configured_sigmas,
    schedule_pair,
    shifted_sigmas,
    snap_to_training_grid,
)

STEPS = st.integers(1, 200)
SHIFTS = st.floats(0.2, 20)
PLAIN = ScheduleConfig(shift=5.0, sigma_min=0.0, extra_one_step=True)


@settings(max_examples=30, deadline=None)
@given(STEPS, SHIFTS)
def test_levels_fall_strictly_from_one_to_zero(num_steps: int, shift: float) -> None:
    sigmas = shifted_sigmas(num_steps, shift)
    assert sigmas.dtype == torch.float32
    assert len(sigmas) == num_steps + 1
    assert float(sigmas[0]) == pytest.approx(1.0, abs=1e-6)
    assert float(sigmas[-1]) == 0.0
    assert float(sigmas.max()) <= 1.0
    assert bool((sigmas.diff() < 0).all())


@settings(max_examples=30, deadline=None)
@given(STEPS, st.floats(1.01, 20))
def test_a_larger_shift_is_noisier_at_every_inner_step(num_steps: int, shift: float) -> None:
    plain, shifted = shifted_sigmas(num_steps, 1.0), shifted_sigmas(num_steps, shift)
    assert bool((shifted[1:-1] > plain[1:-1]).all())


@settings(max_examples=20, deadline=None)
@given(STEPS, SHIFTS, SHIFTS)
def test_each_modality_has_the_levels_of_its_own_shift(num_steps: int, shift: float, audio_shift: float) -> None:
    config = ScheduleConfig(sigma_min=0.0, extra_one_step=True, snap_to_training_grid=False)
    video, audio = schedule_pair(config, num_steps, shift=shift, audio_shift=audio_shift)
    assert torch.equal(video.sigmas, shifted_sigmas(num_steps, shift))
    assert torch.equal(audio.sigmas, shifted_sigmas(num_steps, audio_shift))
    assert torch.equal(video.timesteps, 1000 * video.sigmas)


@settings(max_examples=20, deadline=None)
@given(STEPS)
def test_snapping_moves_a_level_to_a_training_level_and_no_further_than_half_a_gap(num_steps: int) -> None:
    grid = configured_sigmas(PLAIN, 1000)
    sigmas = configured_sigmas(PLAIN, num_steps)
    snapped = snap_to_training_grid(sigmas, PLAIN)
    assert bool(torch.isin(snapped[:-1], grid).all())
    assert float((snapped - sigmas).abs().max()) <= float(grid.diff().abs().max()) / 2 + 1e-6


@pytest.mark.parametrize("num_steps", [1, 2, 4, 5, 8, 10, 20, 25, 40, 50, 100, 125, 200, 250, 500, 1000])
def test_snapping_changes_nothing_where_the_steps_divide_the_grid(num_steps: int) -> None:
    sigmas = configured_sigmas(PLAIN, num_steps)
    torch.testing.assert_close(snap_to_training_grid(sigmas, PLAIN), sigmas, rtol=0, atol=1e-6)


def test_the_audio_takes_the_videos_shift_unless_it_has_its_own() -> None:
    both = schedule_pair(PLAIN, 7, shift=2.0)
    assert torch.equal(both[0].sigmas, both[1].sigmas)
    config = ScheduleConfig(shift=5.0, audio_shift=1.0, sigma_min=0.0, extra_one_step=True, snap_to_training_grid=False)
    video, audio = schedule_pair(config, 4)
    torch.testing.assert_close(audio.sigmas, torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0]))
    assert float(video.sigmas[2]) > 0.8


def test_the_end_can_be_stretched_to_a_level_and_the_curve_made_exponential() -> None:
    stretched = shifted_sigmas(10, 3.0, sigma_min=0.1, extra_one_step=False, shift_terminal=0.05)
    assert float(stretched[-2]) == pytest.approx(0.05, abs=1e-6)
    exponential = shifted_sigmas(2, 1.0, exponential_shift_mu=1.0)
    assert float(exponential[1]) == pytest.approx(2.718281828 / (2.718281828 + 1), abs=1e-6)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("num_steps", {"num_steps": 0, "shift": 3.0}),
        ("shift", {"num_steps": 4, "shift": 0.0}),
        ("denoising_strength", {"num_steps": 4, "shift": 3.0, "denoising_strength": 0.0}),
    ],
)
def test_a_wrong_argument_is_named(field: str, values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=field):
        shifted_sigmas(**values)


@pytest.mark.parametrize(
    "values",
    [{"shift": -1.0}, {"audio_shift": 0.0}, {"sigma_min": 1.0}, {"exponential_shift": True}, {"shift_terminal": 1.5}],
)
def test_a_wrong_configuration_is_named(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        ScheduleConfig(**values)
