"""``mova inspect``: what a folder holds, and what is wrong with it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mova.checkpoints.layout import BASE_NAME, resolve_model
from mova.cli import console
from mova.errors import CheckpointError

if TYPE_CHECKING:
    from mova.checkpoints.inspect import CheckpointReport, ComponentReport

SHOWN = 3  # names of each problem; all of them are in the JSON


def run(target: str, *, is_json: bool) -> None:
    """Look at what ``target`` names.

    Raises:
        CheckpointError: If it is no checkpoint, or not a whole one; what is there has been shown by then.
    """
    _inspect_model(local_model(target), is_json=is_json)


def local_model(name: str) -> Path:
    """The folder of a model on this machine; nothing is downloaded for a look.

    Raises:
        CheckpointError: If there is none.
    """
    if name != BASE_NAME and not Path(name).expanduser().exists():
        raise CheckpointError(
            f"there is no model folder {name!r} on this machine.",
            f"Give {BASE_NAME}, or a folder; of one that is on the hub the JSON files are enough.",
        )
    return resolve_model(name)


def _inspect_model(folder: Path, *, is_json: bool) -> None:
    from mova.checkpoints.inspect import inspect_checkpoint

    report = inspect_checkpoint(folder)
    if is_json:
        facts = asdict(report) | {
            "num_parameters": report.num_parameters,
            "num_bytes": report.num_bytes,
            "is_whole": report.is_whole,
        }
        console.facts_json(facts)
    else:
        _show(report)
    if not report.is_whole:
        wrong = [component.name for component in report.components if not component.is_whole]
        raise CheckpointError(f"{report.folder} is not whole: see {', '.join(wrong)}.", "Download the folder again.")


def _show(report: CheckpointReport) -> None:
    experts = "one expert" if report.boundary_ratio is None else f"two experts, boundary {report.boundary_ratio:g}"
    console.fact(f"{report.name}, {experts}: {report.folder}")
    if not report.has_weights:
        console.fact("configuration only: the folder holds no weights; parameters are those that it asks for")
    rows = [_row(component) for component in report.components]
    total = ("all", "", f"{report.num_parameters:,}", "", "", console.quantity_text(report.num_bytes, "B"))
    console.table(("component", "class", "parameters", "tensors", "stored as", "on disk"), [*rows, total], left=(0, 1, 4))
    for component in report.components:
        for problem in _problems(component):
            console.fact(f"{component.name}: {problem}")


def _row(component: ComponentReport) -> tuple[str, ...]:
    return (
        component.name,
        component.class_name,
        f"{component.num_parameters:,}" if component.num_parameters else "",
        str(component.num_tensors) if component.num_tensors else "",
        ", ".join(component.dtypes),
        console.quantity_text(component.num_bytes, "B") if component.files else "not there",
    )


def _problems(component: ComponentReport) -> list[str]:
    shapes = [f"{item.name} {list(item.stored)} for {list(item.expected)}" for item in component.wrong_shapes]
    groups = (("lacks", component.missing), ("holds unknown", component.extra), ("has another shape in", shapes))
    return [f"{what} {_some(names)}" for what, names in groups if names]


def _some(names: tuple[str, ...] | list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
