"""What a stage was made from: recorded with its result, and compared when a run begins again.

A finished stage has a mark ``STAGE.done`` beside its folder, with its settings and the digests of what it read and of what it
made. It is skipped only while all of them are what they were. Data and checkpoints are made again otherwise. What was trained
is not thrown away in silence: a training state that was begun with other settings or other data is refused, and the message
says what has changed; more steps are no other settings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from mova.errors import CheckpointError
from mova.files import atomic_write, read_text
from mova.parsing import parse_json

STATE = "state.safetensors"
BEGUN = "made_from.json"
HOW = ("folder", "processes", "device", "compile")
"""Fields of a recipe that say how and where it runs, and change nothing of what it makes."""
LENGTH = ("num_steps", "save_every", "validate_every")
"""Fields of ``optim`` that may change between two calls: training goes on."""
Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Mark:
    """What a stage is made from, and what it made.

    Args:
        settings: Fields of the recipe.
        made_from: Digest of everything that the stage reads, by name; empty for what is not there.
        product: Digest of what it made.
    """

    settings: Facts
    made_from: Mapping[str, str]
    product: str = ""


def read_mark(path: Path) -> Mark | None:
    """The mark in a file; ``None`` if there is none that this version wrote."""
    try:
        values = parse_json(read_text(path))
        return Mark(values["settings"], values["made_from"], values["product"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_mark(path: Path, mark: Mark) -> None:
    """Store a mark."""
    values = {"settings": mark.settings, "made_from": mark.made_from, "product": mark.product}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as beside:
        beside.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def find_changes(old: Mark, new: Mark, *, may_extend: bool = False) -> list[str]:
    """Names of the settings and of what is read that are not what they were.

    Args:
        old: The recorded mark. What it does not name was not read, and is not compared.
        new: The mark of now.
        may_extend: Whether the length of a training counts as no change.
    """
    changed = [
        name
        for name in sorted({*old.settings, *new.settings})
        if _compared(name, old.settings, may_extend) != _compared(name, new.settings, may_extend)
    ]
    return changed + [name for name, value in old.made_from.items() if new.made_from.get(name, "") != value]


def check_state(folder: Path, mark: Mark, *, num_steps: int) -> None:
    """Refuse a training state that was begun with other settings or from other data, and record those of one that begins.

    Args:
        folder: Folder of the stage.
        mark: What the stage is made from now.
        num_steps: Steps in all.

    Raises:
        CheckpointError: If there is such a state, or one with more steps; the message names what has changed.
    """
    begun = folder / BEGUN
    if not (folder / STATE).is_file():
        write_mark(begun, mark)
        return
    again = f"Train in another folder; or remove {folder}, which trains it again from the beginning."
    old = read_mark(begun)
    if old is None:
        raise CheckpointError(f"{folder} does not say what it was trained on: an earlier version began it.", again)
    if changed := find_changes(old, mark, may_extend=True):
        raise CheckpointError(
            f"{folder} was trained with something else; since then changed: {', '.join(changed)}.",
            f"Put that back to go on. {again}",
        )
    done = _steps_done(folder / STATE)
    if done > num_steps:
        raise CheckpointError(f"{folder} was trained for {done} steps; the recipe asks for {num_steps}.", again)


def _compared(name: str, settings: Facts, may_extend: bool) -> Any:
    value = settings.get(name)
    if name == "optim" and may_extend and isinstance(value, Mapping):
        return {key: one for key, one in value.items() if key not in LENGTH}
    return value


def _steps_done(path: Path) -> int:
    try:
        with safe_open(path, "pt") as file:
            return int(file.get_tensor("step"))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read the training state {path}: {error}.", "Remove it to start again.") from error
