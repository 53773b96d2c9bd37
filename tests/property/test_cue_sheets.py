"""Cue channels and cue sheets, whatever the cues and the prompt."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mova.errors import CheckpointError
from mova.models.text import (
    MAX_CUES,
    SheetConstraints,
    build_cue_planner,
    cue_condition,
    num_cue_channels,
    plan_cues,
    sheet_tokens,
)

LABELS = ("red", "blue", "C")
STRIDE, FPS = 4, 16.0
LATENTS = st.integers(1, 12)


@given(LATENTS, st.integers(1, 9), st.lists(st.tuples(st.floats(0.0, 0.999), st.sampled_from(("", *LABELS))), max_size=6))
def test_every_cue_leaves_one_in_its_label_and_its_place_can_be_read_back(
    latents: int, stride: int, drawn: list[tuple[float, str]]
) -> None:
    seconds = (1 + stride * (latents - 1)) / FPS
    cues = [(share * seconds, label) for share, label in drawn]
    channels = cue_condition(cues, LABELS, num_latents=latents, fps=FPS, stride=stride)
    assert channels.shape == (num_cue_channels(len(LABELS), stride=stride), latents)
    assert torch.equal(channels[0], torch.ones(latents))
    for row, label in enumerate(LABELS):
        assert channels[1 + stride + row].sum() == pytest.approx(sum(one == label for _, one in cues), abs=1e-4)
    # a frame's weight stands once in its latent, and in all frame channels of the first
    weights = torch.cat([channels[1:2, 0], channels[1 : 1 + stride, 1:].T.flatten()])
    last = len(weights) - 1
    centre = sum(min(time_s * FPS, last) for time_s, _ in cues)
    assert float((weights * torch.arange(len(weights))).sum()) == pytest.approx(centre, abs=1e-3)


@given(LATENTS)
def test_no_cues_and_not_knowing_differ(latents: int) -> None:
    none, unknown = (cue_condition(cues, LABELS, num_latents=latents, fps=FPS, stride=STRIDE) for cues in ([], None))
    assert not unknown.any() and none[0].all() and not none[1:].any()


@pytest.mark.parametrize(
    ("cue", "named"), [((2.1, "red"), "within the clip"), ((-0.1, ""), "within"), ((0.5, "green"), "red, blue, C")]
)
def test_a_cue_outside_the_clip_or_the_labels_is_refused(cue: tuple[float, str], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        cue_condition([cue], LABELS, num_latents=9, fps=FPS, stride=STRIDE)


@pytest.fixture(scope="module")
def planner() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = build_cue_planner(text_vocab=300, labels=LABELS, seconds=33 / 16, steps_per_s=64, width=32, num_layers=1)
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    return made.eval()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**63 - 1), st.lists(st.integers(2, 299), min_size=1, max_size=8), st.floats(0.1, 3.0))
def test_whatever_is_drawn_is_a_sheet(planner: torch.nn.Module, seed: int, tokens: list[int], before_s: float) -> None:
    ids = torch.tensor(tokens)
    cues = plan_cues(planner, ids, torch.ones_like(ids), seed=seed, before_s=before_s)
    times = [time_s for time_s, _ in cues]
    assert len(cues) <= MAX_CUES and times == sorted(set(times))
    assert all(0 <= time_s < before_s for time_s in times) and all(label in LABELS for _, label in cues)
    assert cues == plan_cues(planner, ids, torch.ones_like(ids), seed=seed, before_s=before_s)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**63 - 1), st.lists(st.integers(2, 299), min_size=1, max_size=8))
def test_cues_keep_their_gap_and_what_is_left_open_is_not_planned(planner: Any, seed: int, tokens: list[int]) -> None:
    ids = torch.tensor(tokens)
    before = planner.config.min_gap_s, planner.config.left_open
    planner.config.min_gap_s, planner.config.left_open = 0.25, ["C"]
    try:
        cues = plan_cues(planner, ids, torch.ones_like(ids), seed=seed, before_s=2.0)
    finally:
        planner.config.min_gap_s, planner.config.left_open = before
    times = [time_s for time_s, _ in cues]
    assert all(later - earlier >= 0.25 for earlier, later in pairwise(times))
    assert not cues or cues[0][1] != "C"


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**63 - 1), st.lists(st.sampled_from(LABELS), min_size=1, max_size=5), st.booleans())
def test_what_is_known_of_a_sheet_is_kept_and_one_that_agrees_is_the_same(
    planner: Any, seed: int, order: list[str], only_number: bool
) -> None:
    ids = torch.tensor([5, 9])
    known = SheetConstraints(number=len(order)) if only_number else SheetConstraints(tuple(order), tuple(order), len(order))
    draw = partial(plan_cues, planner, ids, torch.ones_like(ids), seed=seed, before_s=2.0)
    cues = draw(constraints=known)
    assert len(cues) == len(order) and (only_number or [label for _, label in cues] == order)
    free = draw()
    agreeing = SheetConstraints(tuple(label for _, label in free), tuple(label for _, label in free), len(free))
    assert draw(constraints=agreeing) == free


def test_scores_that_are_not_finite_are_refused(planner: Any) -> None:
    ids, weight = torch.tensor([5, 6, 1]), planner.lm_head.weight
    kept = weight[0, 0].clone()
    with torch.no_grad():
        weight[0, 0] = torch.nan
    try:
        with pytest.raises(CheckpointError, match="scores that are not finite"):
            plan_cues(planner, ids, torch.ones_like(ids), seed=3, before_s=2.0)
    finally:
        with torch.no_grad():
            weight[0, 0] = kept


def test_a_label_that_the_planner_does_not_have_constrains_nothing(planner: Any) -> None:
    ids = torch.tensor([5, 9])
    draw = partial(plan_cues, planner, ids, torch.ones_like(ids), seed=3, before_s=2.0)
    assert draw(constraints=SheetConstraints(labels=("bell",), number=1)) == draw()


@given(st.lists(st.tuples(st.integers(0, 131), st.sampled_from(LABELS)), max_size=8))
def test_a_sheet_is_label_and_step_in_turn_and_an_end(planner: torch.nn.Module, drawn: list[tuple[int, str]]) -> None:
    tokens = sheet_tokens([((step + 0.5) / 64, label) for step, label in drawn], planner.config)
    assert tokens[-1] == 1 and len(tokens) == 2 * len(drawn) + 1
    assert [(tokens[2 * i + 1] - 303, LABELS[tokens[2 * i] - 300]) for i in range(len(drawn))] == drawn
