"""Files and folders that are written completely or not at all: to a temporary name first, then renamed."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Write a file or a folder under a temporary name in the same folder, and rename it to ``path`` at the end.

    An existing file or folder at ``path`` is left alone until the new one is complete. If the block raises (interrupts
    included), the temporary file is removed and ``path`` is unchanged.

    Args:
        path: Final path of the file or folder. Its parent folder must exist when the block ends.

    Yields:
        The temporary path, at which nothing exists yet. It is hidden, unique to this run, and has the suffix of ``path``,
        because video and image encoders choose their format by it.

    Raises:
        OSError: If it cannot be renamed to ``path``.
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
    """Remove the temporary files that killed runs left in a folder; no other run may be writing there."""
    for path in folder.glob(".????????.partial*"):
        _remove(path)


def _replace_folder(path: Path, beside: Path, *, old: Path) -> None:
    """Replace a folder by another: no single call does this, so the old one is renamed first, and restored on failure."""
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
    with suppress(OSError):  # the earlier error is the one to report
        path.unlink(missing_ok=True)
