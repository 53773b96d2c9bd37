"""Reading prompts: from free words to what was understood, and to the wording that the network learnt."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mova.request.plan import Capabilities
from mova.request.reading import PromptReading
from mova.scenes.prompts import interpret, kinds_known
from mova.scenes.wording.grammar import simplify

if TYPE_CHECKING:
    from torch import nn

ReadPrompt = Callable[[str, float], PromptReading | None]
"""``(prompt, seconds of the clip) -> reading``; ``None`` where the model has no prompt reader."""


def read_prompt(reader: nn.Module | None, capabilities: Capabilities, prompt: str, seconds: float) -> PromptReading | None:
    """Read a prompt for a model.

    Args:
        reader: The model's prompt reader, or ``None``.
        capabilities: What the model can make.
        prompt: What to see and hear.
        seconds: Length of the clip.

    Returns:
        What was understood; ``None`` without a reader, or where a kind that the model knows is not installed here.
    """
    from mova.models.reader import mark_prompts

    kinds = kinds_known(capabilities.kinds)
    if reader is None or not kinds or not prompt.strip():
        return None
    known: Any = reader
    own_s = float(capabilities.max_frames / capabilities.default_fps)
    return interpret(mark_prompts(known, [simplify(prompt)])[0], prompt, kinds, seconds=min(seconds, own_s))


def reader_of_folder(folder: Path, capabilities: Capabilities) -> ReadPrompt:
    """What reads prompts for the model of a checkpoint folder; its reader is loaded at the first prompt, and only that.

    Args:
        folder: Checkpoint folder.
        capabilities: What the model can make.
    """
    return partial(_read_for, folder, capabilities)


def _read_for(folder: Path, capabilities: Capabilities, prompt: str, seconds: float) -> PromptReading | None:
    return read_prompt(_load(folder), capabilities, prompt, seconds)


@lru_cache(maxsize=1)
def _load(folder: Path) -> nn.Module | None:
    from mova.checkpoints.load import load_prompt_reader

    return load_prompt_reader(folder)
