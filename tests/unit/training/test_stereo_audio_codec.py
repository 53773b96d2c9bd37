"""Training of the stereo audio codec: its sounds, its loss, and that a few steps lower it."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mova.models.codecs.audio_maps import AudioMaps
from mova.models.codecs.audio_stereo import HOP, StereoAudioCodec
from mova.scenes.kinds import load_kinds
from mova.training.objectives.stereo_audio_codec import HELD_OUT, Sounds, StereoAudioCodecObjective, map_terms
from mova.training.optimizer import MuonAdamW


@pytest.fixture(scope="module")
def sounds() -> Sounds:
    return Sounds(load_kinds(["piano", "drums"]), seed=3, seconds=1.0)


@pytest.fixture
def objective(sounds: Sounds) -> StereoAudioCodecObjective:
    torch.manual_seed(0)
    codec = StereoAudioCodec(latent_channels=8, encoder_width=16, decoder_width=16, encoder_blocks=1, decoder_blocks=1)
    return StereoAudioCodecObjective(codec, sounds, num_sounds=3, num_held_out=1, crop_latents=20, batch_size=2)


def test_a_sound_is_the_same_whenever_it_is_rendered(sounds: Sounds) -> None:
    first, again, other = sounds.render(5), sounds.render(5), sounds.render(6)
    assert first.shape == (2, 30 * HOP) and first.dtype == np.float32
    assert np.abs(first).max() <= 1.0
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_held_out_sounds_are_none_that_is_trained_on(sounds: Sounds) -> None:
    held_out = sounds.render(HELD_OUT)
    assert all(not np.array_equal(held_out, sounds.render(index)) for index in range(3))


def test_the_loss_of_what_is_right_is_nothing(sounds: Sounds) -> None:
    maps = AudioMaps(*(part[None].float() for part in sounds.maps(0)))
    assert sum(term.item() for term in map_terms(maps, maps).values()) == 0.0


@pytest.mark.parametrize("name", [field.name for field in fields(AudioMaps)])
def test_an_error_in_any_map_costs_something(sounds: Sounds, name: str) -> None:
    maps = AudioMaps(*(part[None].float() for part in sounds.maps(0)))
    wrong = replace(maps, **{name: getattr(maps, name) + 0.1})
    assert map_terms(wrong, maps)[name].item() > 0.0


def test_the_same_generator_gives_the_same_loss(objective: StereoAudioCodecObjective) -> None:
    losses = [objective.loss(0, 10, torch.Generator().manual_seed(7))[0].item() for _ in range(2)]
    assert losses[0] == losses[1]


def test_a_few_steps_lower_the_loss_on_held_out_sounds(objective: StereoAudioCodecObjective, tmp_path: Path) -> None:
    optimizer = MuonAdamW(dict(objective.codec.named_parameters()), is_matrix=lambda name: False, muon_lr=0.0, adam_lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    modules = nn.ModuleDict({"codec": objective.codec})
    before = sum(objective.validate(0, modules, tmp_path).values())
    for step in range(15):
        optimizer.zero_grad()
        objective.loss(step, 15, generator)[0].backward()
        optimizer.step(1.0)
    assert sum(objective.validate(15, modules, tmp_path).values()) < 0.9 * before
