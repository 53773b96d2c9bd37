"""The training loop: one function for every stage, resumable after ``kill -9``.

Randomness is counter based: batch, noise and dropout of a step depend on (seed, step, rank) only, so that a resumed run
goes on exactly as it would have. Processes hold equal weights and average their gradients (``DistributedDataParallel``);
rank 0 writes.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mova.errors import CheckpointError, MovaError
from mova.files import atomic_write, is_regular, remove_leftovers
from mova.training.objective import Objective, is_matrix
from mova.training.optimizer import MuonAdamW
from mova.training.parallel import process_rank

logger = logging.getLogger(__name__)


class OptimSettings(BaseModel):
    """How a stage is optimised: the ``optim`` part of a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_steps: int = Field(ge=1, description="Optimiser steps in all.")
    muon_lr: float = Field(default=4e-3, gt=0, description="Peak learning rate of weight matrices.")
    adam_lr: float = Field(default=1.5e-3, gt=0, description="Peak learning rate of everything else.")
    weight_decay: float = Field(default=0.0, ge=0)
    warmup_steps: int = Field(default=50, ge=0)
    decay_from: float = Field(
        default=0.55, ge=0, le=1, description="Share of the steps after which the rate falls to zero (cosine)."
    )
    ema_decay: float = Field(default=0.99, ge=0, lt=1)
    grad_clip: float = Field(default=1.0, gt=0)
    save_every: int = Field(default=100, ge=1, description="Steps between checkpoints.")
    validate_every: int = Field(default=500, ge=1, description="Steps between validations.")
    seed: int = 0


@dataclass(frozen=True)
class StepReport:
    """What the loop tells after every step, on rank 0."""

    step: int
    num_steps: int
    seconds_per_step: float
    values: dict[str, float]


def run_training(
    objective: Objective, settings: OptimSettings, folder: Path, *, on_step: Callable[[StepReport], None] | None = None
) -> nn.ModuleDict:
    """Train until ``settings.num_steps`` are done, from the newest checkpoint in ``folder`` if there is one.

    Args:
        objective: Modules and loss.
        settings: Optimiser settings.
        folder: Checkpoints (``state.safetensors``), ``metrics.jsonl`` and sheets go here.
        on_step: Called after each step, on rank 0.

    Returns:
        The averaged (EMA) modules.

    Raises:
        MovaError: If the loss is not finite.
        CheckpointError: If the checkpoint belongs to other modules.
    """
    rank, world = process_rank()
    folder.mkdir(parents=True, exist_ok=True)
    if rank == 0:
        remove_leftovers(folder)
    modules = objective.modules
    parameters = {n: p for n, p in modules.named_parameters() if p.requires_grad}
    optimizer = MuonAdamW(
        parameters,
        is_matrix=lambda name: is_matrix(name, objective),
        muon_lr=settings.muon_lr,
        adam_lr=settings.adam_lr,
        weight_decay=settings.weight_decay,
    )
    averaged = AveragedModel(modules, multi_avg_fn=warm_up_ema(settings.ema_decay)).eval()
    state_file = folder / "state.safetensors"
    start = _load_state(state_file, modules, averaged, optimizer) if state_file.exists() else 0
    loss_of: nn.Module = _Loss(objective)
    if world > 1:
        # parameters that a step leaves out are named by each process; buckets then keep their order, which exact resume needs
        loss_of = DistributedDataParallel(loss_of, find_unused_parameters=True)
    device = next(iter(parameters.values())).device
    clock = _Clock()
    for step in range(start, settings.num_steps):
        generator = torch.Generator(device=device).manual_seed(step_seed(settings.seed, step, rank))
        loss, values = loss_of(step, settings.num_steps, generator)
        if not math.isfinite(loss.item()):
            raise MovaError(
                f"the loss is {loss.item()} at step {step}.",
                "Lower the learning rates and resume from an earlier checkpoint.",
            )
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(list(parameters.values()), settings.grad_clip)
        optimizer.step(compute_learning_rate_factor(step, settings))
        averaged.update_parameters(modules)
        if rank != 0:
            continue
        values = {"loss": loss.item(), "grad_norm": float(norm), **values}
        done = step + 1
        report = StepReport(done, settings.num_steps, clock.tick(), values)
        if on_step is not None:
            on_step(report)
        if done % 20 == 0 or done == settings.num_steps:
            _append(folder / "metrics.jsonl", {"step": done, "seconds_per_step": report.seconds_per_step, **values})
        if done % settings.save_every == 0 or done == settings.num_steps:
            _save_state(state_file, done, modules, averaged, optimizer)
        if done % settings.validate_every == 0 or done == settings.num_steps:
            numbers = objective.validate(done, _modules_of(averaged), folder)
            _append(folder / "validation.jsonl", {"step": done, **numbers})
            logger.info("step %d: %s", done, numbers)
    if world > 1:
        dist.barrier()
    return _modules_of(averaged)


def compute_learning_rate_factor(step: int, settings: OptimSettings) -> float:
    """Linear warm-up, constant, then a cosine to zero from ``decay_from`` on."""
    warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    begin = settings.decay_from * settings.num_steps
    if step < begin:
        return warm
    share = (step - begin) / max(1.0, settings.num_steps - begin)
    return warm * 0.5 * (1.0 + math.cos(math.pi * share))


def step_seed(seed: int, step: int, rank: int) -> int:
    """Seed of everything random in a step of one process; distinct for all sensible runs."""
    return (seed * 1_000_003 + step) * 1_009 + rank


def warm_up_ema(decay: float) -> Callable[[Any, Any, Any], None]:
    """Update of an exponential moving average that forgets the first weights fast.

    Args:
        decay: Decay of each step once ``(1 + n) / (10 + n)``, with n steps averaged, is above it.
    """

    def update(averaged: Any, current: Any, num_averaged: Any) -> None:
        steps = int(num_averaged)
        get_ema_multi_avg_fn(min(decay, (1 + steps) / (10 + steps)))(averaged, current, num_averaged)

    return update


class _Loss(nn.Module):
    """The loss of an objective as a module's forward: what averages the gradients of processes wraps a module."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.trained = objective.modules
        self.objective = objective

    def forward(self, step: int, num_steps: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        return self.objective.loss(step, num_steps, generator)


def _modules_of(averaged: AveragedModel) -> nn.ModuleDict:
    modules = averaged.module
    assert isinstance(modules, nn.ModuleDict)
    return modules


def _save_state(path: Path, step: int, modules: nn.Module, averaged: nn.Module, optimizer: MuonAdamW) -> None:
    tensors = {f"model.{n}": t for n, t in modules.state_dict().items()}
    tensors |= {f"averaged.{n}": t for n, t in averaged.state_dict().items()}
    tensors |= {f"optimizer.{n}": t for n, t in optimizer.state_tensors().items()}
    tensors["step"] = torch.tensor(step)
    with atomic_write(path) as beside:
        save_file({n: t.detach().cpu().clone().contiguous() for n, t in tensors.items()}, beside)
        with open(beside, "rb") as handle:
            os.fsync(handle.fileno())


def _load_state(path: Path, modules: nn.Module, averaged: nn.Module, optimizer: MuonAdamW) -> int:
    if not is_regular(path):
        raise CheckpointError(f"the training state {path} is not a file.", "Remove it to start the stage again.")
    try:
        tensors = load_file(path)
        step = int(tensors["step"])
    except (SafetensorError, OSError, KeyError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"the training state {path} is broken: {error}.", "Remove it to start the stage again, or put a copy back."
        ) from error

    def part(prefix: str) -> dict[str, Tensor]:
        return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

    try:
        modules.load_state_dict(part("model."))
        averaged.load_state_dict(part("averaged."))
        optimizer.load_state_tensors(part("optimizer."))
    except (RuntimeError, KeyError) as error:
        raise CheckpointError(
            f"the training state {path} belongs to another model: {error}",
            "Choose another folder, or remove it to start again.",
        ) from error
    return step


def _append(path: Path, values: dict[str, float | int]) -> None:
    with open(path, "a", encoding="utf-8") as handle:
        handle.write(json.dumps({k: round(v, 6) if isinstance(v, float) else v for k, v in values.items()}) + "\n")


class _Clock:
    """Seconds per step as a moving average that forgets slow starts."""

    def __init__(self) -> None:
        self.last = time.monotonic()
        self.average: float | None = None

    def tick(self) -> float:
        now = time.monotonic()
        elapsed, self.last = now - self.last, now
        self.average = elapsed if self.average is None else 0.9 * self.average + 0.1 * elapsed
        return self.average
