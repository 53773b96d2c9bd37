"""Files and folders that are there whole or not at all: written beside their place, then put there."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A name in the same folder to write a file or a folder under, which takes the place of ``path`` at the end.

    What is at ``path`` already, a file or a whole folder, stays as it is until the new one is complete. If anything goes
    wrong inside, an interrupt too, what was written is removed and ``path`` is as it was.

    Args:
        path: Of the finished file or folder. Its own folder must exist before the end.

    Yields:
        The name, of which there is nothing yet. It is hidden, no other run has it, and it ends as ``path`` does, because
        encoders of videos and pictures choose their format by that.

    Raises:
        OSError: If it cannot be put in its place.
    """
    mark = secrets.token_hex(4)
    beside = path.with_name(f".{mark}.partial{path.suffix.lower()}")
    try:
        yield beside
        if beside.is_dir() and path.is_dir():
            _replace_folder(path, beside, old=path.with_name(f".{mark}.old"))
        else:
            os.replace(beside, path)
    finally:
        _remove(beside)


def remove_leftovers(folder: Path) -> None:
    """Remove what runs that were killed were writing in a folder, where no other run writes now."""
    for path in folder.glob(".????????.partial*"):
        _remove(path)


def _replace_folder(path: Path, beside: Path, *, old: Path) -> None:
    """No call puts one folder in the place of another: the old one steps aside, and comes back if that fails."""
    try:
        os.replace(path, old)
        os.replace(beside, path)
    except BaseException:
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):  # what went wrong before is the error to tell
        path.unlink(missing_ok=True)
