"""The prompt reader: what wordings of an endless grammar say. Every batch is new."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from mova.data.marks import digest
from mova.models.reader import PromptReader, mark_prompts, spell
from mova.scenes.kind import Kind
from mova.scenes.kinds import load_kinds
from mova.scenes.wording.grammar import LANGUAGES, OUTSIDE, Wording, draw_wording, list_characters, list_tags
from mova.training.objective import Objective, draw_below
from mova.training.recipe import TrainRecipe

IGNORED = -100  # torch's own for cross entropy
ALIKE = 4
"""Batches among which prompts are sorted by length."""
HELD_OUT = 2**40
"""Wordings of seeds from here on are for validation."""


class ReaderRecipe(TrainRecipe):
    """What reads prompts."""

    stage: Literal["reader"] = "reader"
    width: int = Field(default=128, ge=32, multiple_of=32)
    layers: int = Field(default=2, ge=1)
    batch_size: int = Field(default=64, ge=1, description="Prompts per process.")

    def digest_inputs(self) -> dict[str, str]:
        """What the grammar writes now: some wordings."""
        kinds = load_kinds(self.world.kinds)
        wordings = [draw_wording(kinds, np.random.default_rng(seed)) for seed in range(200)]
        return {
            "wordings": digest([[one.prompt, one.kind, *(span.tag for span in one.spans)] for one in wordings]),
            "tags": digest(list_tags(kinds)),
        }

    def build(self, device: str) -> ReaderObjective:
        """A fresh reader for the tags of the kinds."""
        kinds = tuple({kind.name: kind for kind in load_kinds(self.world.kinds)}.values())
        reader = PromptReader(
            characters=list(list_characters()),
            tags=list_tags(kinds),
            kinds=[OUTSIDE, *(kind.name for kind in kinds)],
            languages=LANGUAGES,
            width=self.width,
            num_layers=self.layers,
        )
        return ReaderObjective(reader, kinds, batch_size=self.batch_size, device=device)


class ReaderObjective(Objective):
    """Kind, second kind, language and spans of prompts.

    Args:
        reader: The network.
        kinds: Kinds of scenes.
        batch_size: Prompts per process and step.
        device: Where to train.
    """

    not_matrices = ("embed", "norm", "to_tag", "to_whole")

    def __init__(self, reader: PromptReader, kinds: tuple[Kind, ...], *, batch_size: int, device: str = "cpu") -> None:
        self.modules = nn.ModuleDict({"reader": reader}).to(device)
        self.kinds, self.batch_size, self.device = kinds, batch_size, device

    def loss(self, step: int, num_steps: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Cross entropies of the kind, the second kind, the language, a character's tag and a span's beginning, in nats."""
        seeds = torch.randint(HELD_OUT, (ALIKE * self.batch_size,), generator=generator, device=self.device).tolist()
        wordings = sorted(self._wordings(seeds), key=lambda one: len(one.prompt))  # prompts of one length need no padding
        first = draw_below(ALIKE, generator) * self.batch_size
        terms = self._terms(self.modules["reader"], wordings[first : first + self.batch_size])
        # a prompt has some sixty characters and one kind
        total = terms["kind"] + 0.5 * terms["also"] + 0.3 * terms["language"] + 8.0 * terms["tags"] + 2.0 * terms["begins"]
        return total, {name: term.item() for name, term in terms.items()}

    @torch.no_grad()
    def validate(self, step: int, averaged: nn.ModuleDict, folder: Path) -> dict[str, float]:
        """The same terms on other wordings, and the share of them that are read right from end to end."""
        wordings = self._wordings(range(HELD_OUT, HELD_OUT + 512))
        reader = averaged["reader"]
        assert isinstance(reader, PromptReader)
        marked = mark_prompts(reader, [one.prompt for one in wordings])
        right = [
            (one.kind or OUTSIDE, one.also) == (asked.kind, asked.also)
            and [span.tag for span in one.spans] == [span.tag for span in asked.spans]
            for one, asked in zip(marked, wordings, strict=True)
        ]
        terms = self._terms(reader, wordings)
        return {name: term.item() for name, term in terms.items()} | {"read right": sum(right) / len(right)}

    def _wordings(self, seeds: Iterable[int]) -> list[Wording]:
        return [draw_wording(self.kinds, np.random.default_rng(seed)) for seed in seeds]

    def _terms(self, reader: Any, wordings: Sequence[Wording]) -> dict[str, Tensor]:
        config = reader.config
        ids = spell([one.prompt for one in wordings], config.characters).to(self.device)
        scores = reader(ids)

        def wanted(names: Iterable[str], known: Sequence[str]) -> Tensor:
            return torch.tensor([list(known).index(name) for name in names], device=self.device)

        tags, begins = torch.zeros_like(ids), torch.zeros(ids.shape, device=self.device)
        for row, one in enumerate(wordings):
            for span in one.spans:
                tags[row, span.start : span.stop] = 1 + config.tags.index(span.tag)
                begins[row, span.start : span.start + 1] = 1.0
        is_text = ids != 0
        return {
            "kind": cross_entropy(scores.kind, wanted((one.kind for one in wordings), config.kinds)),
            "also": cross_entropy(scores.also, wanted((one.also or OUTSIDE for one in wordings), config.kinds)),
            "language": cross_entropy(scores.language, wanted((one.language for one in wordings), config.languages)),
            "tags": cross_entropy(scores.tag.transpose(1, 2), tags.masked_fill(~is_text, IGNORED)),
            "begins": binary_cross_entropy_with_logits(scores.begins[is_text], begins[is_text]),
        }
