"""A JSON document next to a clip's file with its request and facts, for programs that do not open videos."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mova.errors import MediaError
from mova.files import atomic_write, read_text
from mova.media.clip import Clip
from mova.parsing import parse_json


def sidecar_path(path: str | Path) -> Path:
    """Return the path of a file's document: ``clip.json`` for ``clip.mp4``."""
    return Path(path).with_suffix(".json")


def check_sidecar(path: str | Path) -> None:
    """Refuse to overwrite a document that is not the sidecar of this file.

    Args:
        path: Path of the clip's file.

    Raises:
        MediaError: If such a document exists.
    """
    path, target = Path(path), sidecar_path(path)
    if target.exists() and _file_of(target) != path.name:
        raise MediaError(
            f"cannot write {target}: it exists and is not the sidecar of {path.name}.", "Move it, or choose another name."
        )


def write_sidecar(clip: Clip, path: str | Path, *, facts: Mapping[str, Any]) -> Path:
    """Write the sidecar of a clip's file: request, model and weights, and measured facts.

    Args:
        clip: Clip with its request.
        path: Path of the clip's file.
        facts: Measured facts, as plain JSON values.

    Returns:
        Path of the document.

    Raises:
        MediaError: If another document exists there, or the disk fails. No file is left behind.
    """
    check_sidecar(path)
    target = sidecar_path(path)
    document = {"file": Path(path).name, "request": clip.request, "made_by": clip.made_by, "facts": dict(facts)}
    try:
        with atomic_write(target) as temporary:
            temporary.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise MediaError(f"cannot write {target}: {error.strerror or error}.", "Choose another folder.") from error
    return target


def _file_of(target: Path) -> Any:
    """Return the file name that a document states; None if it states none."""
    try:
        document = parse_json(read_text(target))
    except (OSError, ValueError):
        return None
    return document.get("file") if isinstance(document, dict) and "made_by" in document else None
