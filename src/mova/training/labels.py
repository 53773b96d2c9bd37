"""The labels of a run's cue channels: fixed, with their order, when its network is first built, and stored beside it.

A checkpoint says them in its own index, so a model keeps its channels whatever kinds of scenes are added later.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mova.checkpoints.layout import read_index, resolve_model
from mova.errors import CheckpointError, RequestError
from mova.files import atomic_write
from mova.scenes.kind import Kind
from mova.scenes.kinds import labels_of
from mova.training.parallel import process_rank


def choose_labels(run: Path, kinds: Iterable[Kind], *, start_from: str | None = None) -> tuple[str, ...]:
    """Labels of the cue channels of a run.

    Args:
        run: Folder of the run.
        kinds: Kinds of the recipe's scenes.
        start_from: Checkpoint that the run goes on from: its labels come first and keep their order.

    Returns:
        Those that the run began with; else those of the checkpoint and, after them, what the kinds add.

    Raises:
        RequestError: If the run began without one of the kinds' labels.
    """
    if not _file(run).is_file():
        return labels_of(kinds, () if start_from is None else read_index(resolve_model(start_from)).capabilities.cues)
    labels = read_labels(run)
    for label in labels_of(kinds):
        if label not in labels:
            raise RequestError(
                f"the run in {run} began without the label {label!r}.", "Begin with these kinds in another folder."
            )
    return labels


def check_labels(scripts: Iterable[Mapping[str, Any]], labels: tuple[str, ...]) -> None:
    """Refuse clips whose events have other labels.

    Raises:
        RequestError: If a described script has an event of another label.
    """
    strange = {event[3] for script in scripts for event in script["events"]}.difference(labels)
    if strange:
        raise RequestError(
            f"the clips have events labelled {', '.join(sorted(strange))}, which no kind of the recipe names.",
            "Give world.kinds as in the recipe that made the clips.",
        )


def save_labels(run: Path, labels: tuple[str, ...]) -> None:
    """Store the labels that a run begins with; one of several processes writes."""
    if process_rank()[0] == 0:
        _file(run).parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(_file(run)) as beside:
            beside.write_text(json.dumps(list(labels)) + "\n", encoding="utf-8")


def read_labels(run: Path) -> tuple[str, ...]:
    """The labels that a run began with.

    Raises:
        CheckpointError: If it has none.
    """
    try:
        return tuple(json.loads(_file(run).read_text(encoding="utf-8")))
    except FileNotFoundError as missing:
        raise CheckpointError(f"{_file(run)} is missing.", "Run the stage joint first.") from missing


def _file(run: Path) -> Path:
    return run / "joint" / "labels.json"
