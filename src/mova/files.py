"""Opening files that others name, and writing files and folders completely or not at all.

What is opened is a regular file of a limited size: a FIFO would wait for a writer, a device may have no end. What is
written goes to a temporary name first and is renamed. A run that is killed leaves its temporary file behind; the name states
which process writes it, so that the next run that writes into the folder can remove the files of processes that are gone.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import re
import secrets
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

MAX_TEXT_BYTES = 2**24
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_regular(path: str | Path) -> BufferedReader:
    """Open a regular file to read its bytes; it never waits, whatever the name stands for.

    Args:
        path: File, or a link to one.

    Raises:
        OSError: If it is missing, cannot be read, or is a folder, a pipe, a socket or a device; ``strerror`` is the reason.
    """
    try:
        # O_NONBLOCK: opening a pipe without a writer returns at once; it changes nothing for regular files
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError as error:  # a null character in the name
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.EINVAL, "it is a socket, not a file", str(path)) from None
        raise
    try:
        kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
        if kind != stat.S_IFREG:
            raise OSError(errno.EINVAL, f"it is {_KINDS.get(kind, 'something else')}, not a file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def is_regular(path: str | Path) -> bool:
    """Whether a name stands for a regular file or a link to one; false for a name that no file can have."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def read_regular(path: str | Path, *, max_bytes: int = MAX_TEXT_BYTES) -> bytes:
    """Content of a regular file.

    Args:
        path: File, or a link to one.
        max_bytes: Largest size that is read.

    Raises:
        OSError: As for :func:`open_regular`, or if it is larger.
    """
    with open_regular(path) as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise OSError(errno.EFBIG, f"it has more than {max_bytes:,} bytes", str(path))
    return data


def hash_file(path: str | Path) -> str:
    """SHA-256 of a regular file of any size, 64 hexadecimal digits.

    Raises:
        OSError: As for :func:`open_regular`.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_text(path: str | Path, *, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """Text of a regular file in UTF-8, without a byte order mark.

    Args:
        path: File, or a link to one.
        max_bytes: Largest size that is read.

    Raises:
        OSError: As for :func:`read_regular`, or if it is not UTF-8.
    """
    try:
        return read_regular(path, max_bytes=max_bytes).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise OSError(errno.EILSEQ, "it is not UTF-8 text", str(path)) from None


FOREIGN_AGE_S = 24 * 3600.0
"""Age from which the temporary files of another machine, whose processes are unknown here, count as left behind."""

_TEMPORARY = re.compile(
    r"\.(?P<machine>[0-9a-f]{8})(-(?P<process>\d+)-(?P<start>\d+)-[0-9a-f]{8})?\.(partial(\..*)?|old(\.(?P<old>.+))?)",
    re.DOTALL,
)
"""Names of temporary files; those of earlier versions state no process."""
_swept: set[Path] = set()


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Write a file or a folder under a temporary name in the same folder, and rename it to ``path`` at the end.

    An existing file or folder at ``path`` is left alone until the new one is complete. If the block raises (interrupts
    included), the temporary file is removed and ``path`` is unchanged. The first call of a process for a folder also removes
    what killed runs left there (:func:`remove_leftovers`).

    Args:
        path: Final path of the file or folder. Its parent folder must exist when the block ends.

    Yields:
        The temporary path, at which nothing exists yet. It is hidden, unique to this run, and has the suffix of ``path``,
        because video and image encoders choose their format by it.

    Raises:
        OSError: If it cannot be renamed to ``path``.
    """
    folder = path.parent.absolute()
    if folder not in _swept:
        _swept.add(folder)
        remove_leftovers(folder)
    mark = f"{_machine()}-{os.getpid()}-{_start_of(os.getpid()) or 0}-{secrets.token_hex(4)}"
    beside = path.with_name(f".{mark}.partial{path.suffix.lower()}")
    try:
        yield beside
        if beside.is_dir() and path.is_dir():
            _replace_folder(path, beside, old=path.with_name(f".{mark}.old.{path.name}"))
        else:
            os.replace(beside, path)
    finally:
        _remove(beside)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that killed runs left in a folder; those of running processes are left alone.

    A folder that was moved aside when its run was killed, and was not replaced, gets its name back.
    """
    paths: list[Path] = []
    with suppress(OSError):
        paths += [path for path in folder.iterdir() if path.name.startswith(".")]
    for path in paths:
        name = _TEMPORARY.fullmatch(path.name)
        with suppress(OSError):  # another run may remove it at the same time
            if name is None or not _is_left(path, name):
                continue
            if name["old"] and not (target := path.with_name(name["old"])).exists():
                os.replace(path, target)
            else:
                _remove(path)


def _is_left(path: Path, name: re.Match[str]) -> bool:
    """Whether the process that wrote a temporary file is gone."""
    if name["process"] is None or name["machine"] != _machine():
        return time.time() - path.lstat().st_mtime > FOREIGN_AGE_S
    return _start_of(int(name["process"])) != int(name["start"])


@functools.cache
def _machine() -> str:
    """Eight digits for this machine and its table of processes: containers of one machine have tables of their own."""
    try:
        processes = os.readlink("/proc/self/ns/pid")
    except OSError:
        processes = ""
    return hashlib.sha256(f"{socket.gethostname()} {processes}".encode()).hexdigest()[:8]


def _start_of(process: int) -> int | None:
    """When a process started, in the system's own unit; ``None`` if there is no such process, 0 if it is not known when."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else int(fields[19])  # a process that ended and was not waited for is gone
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    except (OSError, IndexError, ValueError):
        pass
    try:
        os.kill(process, 0)  # sends nothing
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return 0


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
