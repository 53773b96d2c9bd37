"""How the value of an option is shown in help: by what is typed there, not by its type."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

_OF_TYPE = {Path: "FILE", int: "N", float: "X", str: "TEXT", bool: ""}
_OF_OPTION = {
    "output": "PATH",
    "model": "MODEL",
    "device": "DEVICE",
    "cache": "FOLDER",
    "reference": "FOLDER",
    "weights": "FOLDER",
    "set_": "FIELD=VALUE",
    "lora": "FILE[:SCALE]",
    "reroll": "audio|video",
    "on_fault": "keep|repair|fail",
    "dtype": "FORMAT",
    "offload": "none|component|block",
    "quantisation": "FORMAT",
    "attention_backend": "BACKEND",
    "gpu_memory": "BYTES",
    "size": "WIDTHxHEIGHT",
    "kind": "KIND",
    "track": "TRACK",
    "metric": "METRIC",
}


def name_values(command: Any) -> Any:
    """Name the values of the options of a command and all below it, where nothing names them yet, and return it."""
    for option in command.params:
        if getattr(option, "opts", ("",))[0].startswith("-") and option.metavar is None:
            option.metavar = _OF_OPTION.get(option.name, "" if getattr(option, "is_flag", False) else _type_name(option))
    for inner in getattr(command, "commands", {}).values():
        name_values(inner)
    return command


def _type_name(option: Any) -> str:
    """By the annotation, which newer versions of Typer keep, or by the type that older ones made of it."""
    if hasattr(option, "type_descriptor"):
        annotation = option.type_descriptor.annotation
        return _OF_TYPE.get(next(iter(get_args(annotation)), annotation), "TEXT")
    name = option.type.name.removesuffix(" range")
    return {"path": "FILE", "integer": "N", "float": "X"}.get(name, "TEXT")
