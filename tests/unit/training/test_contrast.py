"""Wrong captions, and the loss that tells them from the right ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mova.data.shards import describe
from mova.scenes.captions import NUMBERS, write_caption
from mova.scenes.world import KINDS, sample_scripts
from mova.training.codecs import moving_mask
from mova.training.contrast import contrast_loss, known_counts, twins, wrong_phrasings

COUNTED = ("ball", "drums", "piano", "mouth", "storm", "fireworks")
PHRASINGS = 6


def described(kind: str, count: int = 12) -> list[dict[str, object]]:
    return [describe(script) for script in sample_scripts(5, count, [kind])]


def right_captions(script: dict[str, object]) -> set[str]:
    return {write_caption(script["kind"], script["attributes"], np.random.default_rng(seed)) for seed in range(60)}  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", COUNTED)
def test_a_wrong_caption_is_never_one_that_the_clip_could_have(kind: str) -> None:
    scripts = described(kind)
    counts = known_counts(scripts)
    found = [(script, caption) for script in scripts for caption in wrong_phrasings(script, PHRASINGS, counts) if caption]
    assert len(found) > 0.5 * len(scripts) * PHRASINGS
    for script, caption in found:
        assert caption not in right_captions(script)


@pytest.mark.parametrize("kind", ["drums", "piano"])
def test_a_wrong_sequence_is_one_longer_or_shorter_and_agrees_with_its_number(kind: str) -> None:
    scripts = described(kind)
    for script in scripts:
        own = int(script["attributes"]["count"])  # type: ignore[index]
        for caption in filter(None, wrong_phrasings(script, PHRASINGS, known_counts(scripts))):
            said = [NUMBERS.index(word) for word in caption.replace("twice", "two").split() if word in NUMBERS]
            listed = len(caption.split(", ")) if "," in caption else None
            told = {*said, *([listed] if listed else [])}
            assert len(told) == 1 and abs(told.pop() - own) == 1, (script["caption"], caption)


def test_wrong_captions_are_the_same_every_time_and_empty_where_there_is_no_number() -> None:
    scripts = described("mouth") + described("metronome")
    counts = known_counts(scripts)
    assert set(counts) == {"mouth"} and set(KINDS) > set(counts)
    for script in scripts:
        assert wrong_phrasings(script, PHRASINGS, counts) == wrong_phrasings(script, PHRASINGS, counts)
        if script["kind"] == "metronome":
            assert wrong_phrasings(script, PHRASINGS, counts) == [""] * PHRASINGS


def test_twins_are_usable_samples_where_prompts_can_be_told_apart() -> None:
    levels = torch.tensor([0.9, 0.5, 0.95, 0.995, 0.85, 0.9, 0.9, 0.9])
    usable = torch.tensor([True, True, False, True, True, True, True, True])
    assert twins(levels, usable, 2).tolist() == [0, 4]
    assert twins(levels, usable, 4).tolist() == [0]  # never one whose own place a twin takes
    assert twins(levels, ~torch.ones(8, dtype=torch.bool), 2).tolist() == []


def test_contrast_falls_as_the_wrong_prompt_explains_worse_and_is_a_coin_where_it_does_not() -> None:
    levels = torch.full((3,), 0.9)
    right = torch.full((3,), 100.0)
    losses = [float(contrast_loss(right, right + more, levels)) for more in (-50.0, 0.0, 50.0, 500.0)]
    assert losses == sorted(losses, reverse=True)
    assert losses[1] == pytest.approx(math.log(2.0))


def test_contrast_pulls_the_right_prompt_nearer_and_pushes_the_wrong_one_away() -> None:
    right, wrong = (torch.tensor([100.0], requires_grad=True) for _ in range(2))
    contrast_loss(right, wrong, torch.tensor([0.9])).backward()
    assert right.grad is not None and wrong.grad is not None
    assert right.grad.item() > 0 > wrong.grad.item()


def test_what_moves_is_seen_where_only_its_colour_differs() -> None:
    video = torch.zeros(1, 3, 9, 8, 8)
    video[:, 0, 4, 2:4, 2:4], video[:, 1, 4, 2:4, 2:4] = 0.5, -0.5  # as bright as what is behind
    mask = moving_mask(video)
    assert mask[0, 0, 4, 2:4, 2:4].all() and int(mask.sum()) == 4
