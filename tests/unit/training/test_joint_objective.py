"""The loss of the joint objective, and which cues it shows."""

from __future__ import annotations

import pytest
import torch

from mova.training.cues import sample_cue_mask
from mova.training.losses import as_map, mean_over_mask, total_error
from mova.training.noise_maps import NoiseSettings

VIDEO = (64, 16, 9, 12, 12)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_cues_are_told_of_nothing_all_or_a_beginning() -> None:
    told = sample_cue_mask(4000, 9, NoiseSettings(drop_cues=0.3, partial_cues=0.5), generator())
    lengths = told.sum(1)
    assert torch.equal(told, torch.arange(9) < lengths[:, None]), "what is told is a beginning"
    shares = torch.stack([(lengths == 0).float().mean(), (lengths == 9).float().mean()])
    # 4000 draws: three standard errors are at most 0.024
    assert torch.allclose(shares, torch.tensor([0.3, 0.35]), atol=0.025)
    assert set(lengths.tolist()) == set(range(10))


def test_levels_and_maps_multiply_latents_alike() -> None:
    latents = torch.randn(VIDEO)
    level = torch.rand(64)
    whole = level[:, None, None, None].expand(64, 9, 12, 12)
    assert torch.equal(latents * as_map(level, latents), latents * as_map(whole, latents))


def test_a_masked_mean_counts_only_what_is_to_be_made() -> None:
    values = torch.tensor([[[1.0, 5.0]], [[3.0, 7.0]]])
    mask = torch.tensor([[[True, False]], [[True, False]]])
    assert mean_over_mask(values, mask).item() == pytest.approx(2.0)
    assert mean_over_mask(values, torch.zeros_like(mask)).item() == 0.0


def test_the_total_error_sees_a_wrong_number_that_errors_of_tokens_hardly_see() -> None:
    made = torch.ones(1, 1, 100, 1, 1, dtype=torch.bool)
    spread = torch.full((4, 3, 100, 2, 2), 0.1)  # a little everywhere: an event too many, its time unknown
    signs = torch.tensor([1.0, -1.0]).repeat(50)[:, None, None]
    assert total_error(spread, made).item() == pytest.approx(100 * 0.01)
    assert total_error(spread * signs, made).item() == pytest.approx(0.0, abs=1e-9)
    noise = torch.randn(64, 8, 100, generator=torch.Generator().manual_seed(0))
    assert total_error(noise, torch.ones(1, 1, 100, dtype=torch.bool)).item() == pytest.approx(1.0, rel=0.1)


def test_given_tokens_count_for_nothing_in_the_total_error() -> None:
    error = torch.ones(1, 2, 10)
    made = (torch.arange(10) >= 6)[None, None]
    error[..., :6] = 1000.0
    assert total_error(error, made).item() == pytest.approx(4.0)
    assert total_error(error, torch.zeros_like(made)).item() == 0.0
