"""What a stage trains: its modules, the loss of a step, numbers on held-out data, and what is saved at the end.

A recipe builds one (:meth:`mova.training.recipe.TrainRecipe.build`), and the loop (:mod:`mova.training.trainer`) trains it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mova.files import atomic_write


class Objective(ABC):
    """What a stage trains.

    Attributes:
        modules: The modules; parameters that need no gradient are kept as they are.
        not_matrices: Parts of parameter names. A parameter of two axes or more whose name has none of them is trained by Muon,
            all others by AdamW: embeddings, patch embeddings and heads are no hidden weight matrices (Jordan et al. 2024).
    """

    modules: nn.ModuleDict
    not_matrices: ClassVar[tuple[str, ...]] = ("embed", "head")

    @abstractmethod
    def loss(self, step: int, num_steps: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Loss of one batch, and numbers to log.

        Args:
            step: Steps done before.
            num_steps: Steps in all.
            generator: Source of all randomness, so that a resumed run goes on exactly as it would have.
        """

    def validate(self, step: int, averaged: nn.ModuleDict, folder: Path) -> dict[str, float]:
        """Numbers on held-out data.

        Args:
            step: Steps done.
            averaged: The modules with averaged weights.
            folder: Place for contact sheets.
        """
        return {}

    def save(self, averaged: nn.ModuleDict, folder: Path) -> None:
        """Save the averaged modules, each into a folder of its name.

        Args:
            averaged: The modules with averaged weights.
            folder: Folder of the stage.
        """
        for name, module in averaged.items():
            save_module(module, folder / name)


def is_matrix(name: str, objective: Objective) -> bool:
    """Whether a parameter of that name counts as a hidden weight matrix."""
    return not any(part in name for part in objective.not_matrices)


def save_module(module: Any, folder: Path) -> None:
    """Save a module whole or not at all: by its ``save_pretrained``, else its weights as ``weights.safetensors``."""
    with atomic_write(folder) as beside:
        if hasattr(module, "save_pretrained"):
            module.cpu().save_pretrained(beside)
        else:
            beside.mkdir(parents=True)
            weights = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in module.state_dict().items()}
            save_file(weights, beside / "weights.safetensors")


def draw_below(limit: int, generator: torch.Generator) -> int:
    """A whole number from 0 to ``limit - 1``."""
    return int(torch.randint(limit, (), generator=generator, device=generator.device))
