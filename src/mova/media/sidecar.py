"""What is known of a clip, as a JSON document beside its file: for programs that do not open videos."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mova.errors import MediaError
from mova.files import atomic_write
from mova.media.clip import Clip


def sidecar_path(path: str | Path) -> Path:
    """Where the document of a file goes: ``clip.mp4`` has ``clip.json``."""
    return Path(path).with_suffix(".json")


def check_sidecar(path: str | Path) -> None:
    """Refuse to write over a document that is not a sidecar of this file.

    Args:
        path: The clip's file.

    Raises:
        MediaError: If there is such a document.
    """
    path, target = Path(path), sidecar_path(path)
    if target.exists() and _file_of(target) != path.name:
        raise MediaError(
            f"cannot write {target}: it is not what was written beside {path.name}.", "Move it, or choose another name."
        )


def write_sidecar(clip: Clip, path: str | Path, *, facts: Mapping[str, Any]) -> Path:
    """Write the document of a clip's file: the request, what made it, and facts.

    Args:
        clip: With its request.
        path: The clip's file.
        facts: What was measured, as plain JSON values.

    Returns:
        Where it is.

    Raises:
        MediaError: If something else is there, or the disk fails. Nothing is left behind.
    """
    check_sidecar(path)
    target = sidecar_path(path)
    document = {"file": Path(path).name, "request": clip.request, "made_by": clip.made_by, "facts": dict(facts)}
    try:
        with atomic_write(target) as beside:
            beside.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise MediaError(f"cannot write {target}: {error.strerror or error}.", "Choose another folder.") from error
    return target


def _file_of(target: Path) -> Any:
    """The file that a document says it is of; None if it says none."""
    try:
        document = json.loads(target.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document.get("file") if isinstance(document, dict) and "made_by" in document else None
