"""Training of the full-rate video codec: its spans, its loss, and that a few steps lower it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mova.models.codecs.full_rate import FullRateVideoCodec
from mova.scenes.kinds import load_kinds
from mova.scenes.world import draw, write_script
from mova.training.objectives.full_rate_video_codec import HELD_OUT, FullRateVideoCodecObjective, Spans, video_terms
from mova.training.optimizer import MuonAdamW


@pytest.fixture(scope="module")
def spans() -> Spans:
    return Spans(load_kinds(["ball", "drums"]), seed=3, width=64, height=64, fps=30.0, num_frames=61, num_kept=4)


@pytest.fixture
def objective(spans: Spans) -> FullRateVideoCodecObjective:
    torch.manual_seed(0)
    codec = FullRateVideoCodec(latent_channels=4, widths=(16, 16, 16, 12, 6), encoder_widths=(12, 16, 16))
    return FullRateVideoCodecObjective(codec, spans, crop=64, batch_size=2, steps_per_span=3, num_held_out=2)


def test_a_span_is_a_part_of_its_scene() -> None:
    script = write_script("ball", 5, seconds=2.0)
    whole = draw(script, width=32, height=32, fps=30, num_frames=60)
    assert np.array_equal(draw(script, width=32, height=32, fps=30, num_frames=7, first_frame=20), whole[20:27])


def test_spans_are_the_same_whenever_they_are_rendered(spans: Spans) -> None:
    first, again, other, held_out = (spans._render(index) for index in (4, 4, 6, HELD_OUT))
    assert first.shape == (25, 64, 64, 3) and first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other) and not np.array_equal(first, held_out)


def test_the_loss_of_what_is_right_is_nothing_and_of_what_is_wrong_something() -> None:
    video = torch.rand(1, 3, 9, 32, 32) * 2 - 1
    assert sum(term.item() for term in video_terms(video, video).values()) == 0.0
    grey = video.mean(dim=1, keepdim=True).expand_as(video)
    assert all(term.item() > 0 for term in video_terms(grey, video).values())
    assert video_terms(video + 0.1, video)["colour"].item() == pytest.approx(0.0, abs=1e-6)


def test_the_same_generator_gives_the_same_loss(objective: FullRateVideoCodecObjective) -> None:
    losses = [objective.loss(0, 10, torch.Generator().manual_seed(7))[0].item() for _ in range(2)]
    assert losses[0] == losses[1]


def test_a_few_steps_lower_the_loss(objective: FullRateVideoCodecObjective, tmp_path: Path) -> None:
    optimizer = MuonAdamW(dict(objective.codec.named_parameters()), is_matrix=lambda name: False, muon_lr=0.0, adam_lr=3e-3)
    modules = nn.ModuleDict({"codec": objective.codec})

    def loss() -> float:
        return objective.loss(0, 10, torch.Generator().manual_seed(1))[0].item()

    before, generator = loss(), torch.Generator().manual_seed(0)
    for step in range(12):
        optimizer.zero_grad()
        objective.loss(step, 12, generator)[0].backward()
        optimizer.step(1.0)
    assert loss() < 0.8 * before
    found = objective.validate(12, modules, tmp_path)
    assert set(found) == {"psnr moving", "psnr moving, quarter", "sharpness moving, quarter"}
    assert all(np.isfinite(value) for value in found.values()) and (tmp_path / "sheet-000012.png").is_file()
