"""Noise levels and given regions of the joint objective."""

from __future__ import annotations

import pytest
import torch

from mova.training.objectives.joint import NoiseSettings, as_map, draw_levels, masked_mean, sample_cue_mask, total_error

VIDEO, AUDIO = (64, 16, 9, 12, 12), (64, 24, 66)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def settings(**shares: float) -> NoiseSettings:
    zero = {"independent": 0.0, "given_video": 0.0, "given_audio": 0.0, "regions": 0.0}
    return NoiseSettings.model_validate(zero | shares)


def test_without_special_shares_both_modalities_have_the_same_level() -> None:
    levels = draw_levels(VIDEO, AUDIO, settings(), generator())
    assert levels.video.shape == levels.audio.shape == (64,)
    assert torch.equal(levels.video, levels.audio)
    assert levels.video.min() > 0 and levels.video.max() < 1


def test_the_shares_are_those_asked_for() -> None:
    noise = settings(independent=0.2, given_video=0.1, given_audio=0.1)
    counts = torch.zeros(4)
    for seed in range(40):
        levels = draw_levels(VIDEO, AUDIO, noise, generator(seed))
        given_v, given_a = levels.video == 0, levels.audio == 0
        equal = levels.video == levels.audio
        counts += torch.stack([given_v.sum(), given_a.sum(), (~equal & ~given_v & ~given_a).sum(), equal.sum()])
    shares = counts / counts.sum()
    # 2560 draws: three standard errors are at most 0.03
    assert torch.allclose(shares, torch.tensor([0.1, 0.1, 0.2, 0.6]), atol=0.03)


def test_nothing_is_ever_given_in_both_modalities_whole() -> None:
    noise = settings(given_video=0.4, given_audio=0.4)
    levels = draw_levels(VIDEO, AUDIO, noise, generator(1))
    assert not ((levels.video == 0) & (levels.audio == 0)).any()


def test_region_batches_give_some_tokens_and_leave_some_to_make() -> None:
    for seed in range(10):
        levels = draw_levels(VIDEO, AUDIO, settings(regions=1.0), generator(seed))
        assert levels.video.shape == (64, 9, 12, 12) and levels.audio.shape == (64, 66)
        given = (levels.video == 0).flatten(1).any(1) | (levels.audio == 0).any(1)
        to_make = (levels.video > 0).flatten(1).any(1) | (levels.audio > 0).any(1)
        assert given.all() and to_make.all()


def test_regions_reach_every_latent_of_the_picture_and_of_time() -> None:
    made, given = torch.zeros(9, 12, 12), torch.zeros(9, 12, 12)
    for seed in range(30):
        levels = draw_levels(VIDEO, AUDIO, settings(regions=1.0), generator(seed))
        made += (levels.video > 0).sum(0)
        given += (levels.video == 0).sum(0)
    assert bool((made > 0).all()) and bool((given > 0).all())


def test_cues_are_told_of_nothing_all_or_a_beginning() -> None:
    told = sample_cue_mask(4000, 9, NoiseSettings(drop_cues=0.3, partial_cues=0.5), generator())
    lengths = told.sum(1)
    assert torch.equal(told, torch.arange(9) < lengths[:, None]), "what is told is a beginning"
    shares = torch.stack([(lengths == 0).float().mean(), (lengths == 9).float().mean()])
    # 4000 draws: three standard errors are at most 0.024
    assert torch.allclose(shares, torch.tensor([0.3, 0.35]), atol=0.025)
    assert set(lengths.tolist()) == set(range(10))


def test_a_draw_depends_on_its_generator_only() -> None:
    noise = NoiseSettings()
    a, b = (draw_levels(VIDEO, AUDIO, noise, generator(5)) for _ in range(2))
    assert torch.equal(a.video, b.video) and torch.equal(a.audio, b.audio)


def test_levels_and_maps_multiply_latents_alike() -> None:
    latents = torch.randn(VIDEO)
    level = torch.rand(64)
    whole = level[:, None, None, None].expand(64, 9, 12, 12)
    assert torch.equal(latents * as_map(level, latents), latents * as_map(whole, latents))


def test_a_masked_mean_counts_only_what_is_to_be_made() -> None:
    values = torch.tensor([[[1.0, 5.0]], [[3.0, 7.0]]])
    mask = torch.tensor([[[True, False]], [[True, False]]])
    assert masked_mean(values, mask).item() == pytest.approx(2.0)
    assert masked_mean(values, torch.zeros_like(mask)).item() == 0.0


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
