"""Documents that a measurement writes: plain JSON, and files that are written beside and renamed."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mova.errors import MediaError
from mova.files import atomic_write


def plain(value: Any) -> Any:
    """Plain JSON values: numpy's become Python's, what is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write plain JSON beside ``path`` and rename.

    Raises:
        MediaError: If that cannot be done.
    """
    write_text(path, json.dumps(plain(document), indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text beside ``path`` and rename.

    Raises:
        MediaError: If that cannot be done.
    """
    put(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def put(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` make a file beside ``path``, and rename it; nothing is left behind if it fails.

    Raises:
        MediaError: If that cannot be done.
    """
    try:
        with atomic_write(path) as beside:
            write(beside)
    except OSError as problem:
        raise MediaError(f"cannot write {path}: {problem.strerror or problem}.", "Choose another folder.") from problem


def render_page(template: Path, values: Mapping[str, Any]) -> str:
    """A page from a template (jinja2), in which no text of the values is taken for markup.

    Args:
        template: The file; templates that it includes are beside it.
        values: By name; one that the template wants and that is missing is an error.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(template.parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if hasattr(value, "__html__") else printable(value),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template.name).render(values)


def printable(text: object) -> str:
    """Text without control characters, which file names and prompts of strangers may hold: they are shown as escapes."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in str(text))


def machine() -> dict[str, Any]:
    """What this runs on, to stand beside what was measured: processor, cores, versions, load."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"),
        "load": [round(load, 1) for load in os.getloadavg()],
    }
