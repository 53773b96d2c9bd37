"""The cue planner: the cue sheets of scripts, from their captions. Nothing is drawn or sounded, so that every batch is new."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mova.checkpoints.layout import resolve_model
from mova.checkpoints.tokenizer import check_tokenizer
from mova.data.marks import digest, digest_part
from mova.data.shards import World, describe
from mova.models.text import START, build_cue_planner, plan_cues, sheet_tokens, tokenise
from mova.scenes.kinds import load_kinds
from mova.scenes.script import MIN_GAP_S, Script
from mova.scenes.world import write_script
from mova.training.cues import choose_labels
from mova.training.objective import Objective
from mova.training.recipe import TrainRecipe

IGNORED = -100  # torch's own for cross entropy
HELD_OUT = 2**40
"""Scripts of seeds from here on are for validation."""


class PlannerRecipe(TrainRecipe):
    """What writes cue sheets from prompts."""

    stage: Literal["planner"] = "planner"
    tokenizer_from: str | None = Field(default=None, description="Checkpoint whose tokenizer to use; else that of this run.")
    width: int = Field(default=128, ge=32, multiple_of=32)
    layers: int = Field(default=2, ge=1)
    steps_per_s: int = Field(default=64, ge=8, description="Steps of time per second.")
    left_open: list[str] = Field(default=[], description="Labels of what follows from a motion, of which no sheet is drawn.")
    max_tokens: int = Field(default=32, ge=8)
    batch_size: int = Field(default=128, ge=1, description="Prompts per process.")

    def digest_inputs(self) -> dict[str, str]:
        """The tokenizer, the labels, and what the kinds write now: some scripts of each."""
        kinds = load_kinds(self.world.kinds)
        labels = choose_labels(self.folder, kinds, start_from=self.tokenizer_from)
        scripts = [write_script(kind, seed, seconds=self.world.world().seconds) for kind in kinds for seed in range(8)]
        return {
            "tokenizer": digest_part(self._tokenizer_folder()),
            "labels": digest(labels),
            "kinds of scenes": digest([describe(script) for script in scripts]),
        }

    def build(self, device: str) -> PlannerObjective:
        """A fresh planner for the tokenizer and the labels of the run."""
        from transformers import PreTrainedTokenizerFast

        folder = self._tokenizer_folder()
        check_tokenizer(folder)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
        world = self.world.world()
        planner = build_cue_planner(
            text_vocab=len(tokenizer),
            labels=choose_labels(self.folder, load_kinds(world.kinds), start_from=self.tokenizer_from),
            seconds=world.seconds,
            steps_per_s=self.steps_per_s,
            min_gap_s=MIN_GAP_S,
            left_open=self.left_open,
            width=self.width,
            num_layers=self.layers,
        )
        return PlannerObjective(
            planner, tokenizer, world, batch_size=self.batch_size, max_tokens=self.max_tokens, device=device
        )

    def _tokenizer_folder(self) -> Path:
        return (self.folder / "joint" if self.tokenizer_from is None else resolve_model(self.tokenizer_from)) / "tokenizer"


class PlannerObjective(Objective):
    """Next tokens of cue sheets.

    Args:
        planner: The network.
        tokenizer: Tokenizer of the prompts.
        world: Length and kinds of the clips.
        batch_size: Prompts per process and step.
        max_tokens: Tokens of a prompt at most.
        device: Where to train.
    """

    not_matrices = ("shared", "embed_tokens", "relative_attention_bias", "layer_norm", "lm_head")

    def __init__(
        self, planner: nn.Module, tokenizer: Any, world: World, *, batch_size: int, max_tokens: int, device: str = "cpu"
    ) -> None:
        self.modules = nn.ModuleDict({"planner": planner}).to(device)
        self.tokenizer, self.batch_size, self.max_tokens, self.device = tokenizer, batch_size, max_tokens, device
        self.kinds, self.seconds = load_kinds(world.kinds), world.seconds

    def loss(self, step: int, num_steps: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Mean cross entropy of a label (or end) and of a time, in nats, summed."""
        seeds = torch.randint(HELD_OUT, (self.batch_size,), generator=generator, device=self.device).tolist()
        labels, times = self._losses(self.modules["planner"], self._scripts(seeds))
        return labels + times, {"labels": labels.item(), "times": times.item()}

    @torch.no_grad()
    def validate(self, step: int, averaged: nn.ModuleDict, folder: Path) -> dict[str, float]:
        """Cross entropy on other scripts, and how often a drawn sheet has as many cues as its script.

        One caption in ten does not say how many.
        """
        scripts = self._scripts(range(HELD_OUT, HELD_OUT + 160))
        planner = averaged["planner"]
        input_ids, masks = tokenise(self.tokenizer, [script.caption for script in scripts], self.max_tokens)
        sheets = [
            plan_cues(planner, ids, mask, seed=index, before_s=self.seconds)
            for index, (ids, mask) in enumerate(zip(input_ids, masks, strict=True))
        ]
        right = [len(sheet) == len(script.events) for sheet, script in zip(sheets, scripts, strict=True)]
        labels, times = self._losses(planner, scripts)
        return {"labels": labels.item(), "times": times.item(), "number right": sum(right) / len(right)}

    def _scripts(self, seeds: Any) -> list[Script]:
        return [write_script(self.kinds[seed % len(self.kinds)], seed, seconds=self.seconds) for seed in seeds]

    def _losses(self, planner: Any, scripts: list[Script]) -> tuple[Tensor, Tensor]:
        input_ids, masks = tokenise(self.tokenizer, [script.caption for script in scripts], self.max_tokens)
        sheets = [
            torch.tensor(sheet_tokens([(event.time_s, event.label) for event in script.events], planner.config))
            for script in scripts
        ]
        targets = nn.utils.rnn.pad_sequence(sheets, batch_first=True, padding_value=IGNORED)
        inputs = torch.cat([torch.full((len(sheets), 1), START), targets[:, :-1].clamp(min=START)], dim=1)
        out = planner(
            input_ids=input_ids.to(self.device), attention_mask=masks.to(self.device), decoder_input_ids=inputs.to(self.device)
        )
        # a sheet is label, time, label, time and so on
        labels, times = (
            cross_entropy(out.logits[:, first::2].flatten(0, 1), targets[:, first::2].flatten().to(self.device))
            for first in (0, 1)
        )
        return labels, times
