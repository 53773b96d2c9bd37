"""Errors that a user can cause, as one tree.

    MovaError                     exit code 1    something failed during the run
    ├── RequestError              exit code 2    the request cannot be fulfilled; ``field`` names the field to change
    ├── MediaError                exit code 1    a video, audio or image file cannot be read or written
    │   └── MissingMediaError     exit code 2    there is no such file
    ├── CheckpointError           exit code 3    a model is missing, damaged, or does not match its configuration
    │   └── MissingCheckpointError exit code 2   there is no such LoRA
    ├── MissingExtraError         exit code 3    a package of an extra is not installed
    ├── OutOfMemoryError          exit code 1    a computation does not fit in memory
    └── OutputError               exit code 1    results cannot be printed; 141 if nobody reads them any more

Every message states what was given and what is allowed; ``hint`` states what to do next. The command line prints both,
one line each, without a traceback, and exits with ``exit_code``.
"""

from __future__ import annotations

import errno
import os

_SHORTAGES = ("ENOMEM", "EMFILE", "ENFILE", "ENOSPC", "EDQUOT")  # not EIO and EAGAIN, which decoders give for damaged files
_ERRNOS = frozenset(getattr(errno, name) for name in _SHORTAGES if hasattr(errno, name))
_MEMORY_WORDS = (
    "memoryerror",
    "out of memory",
    "not enough memory",
    "insufficient memory",
    "cannot allocate memory",
    "can't allocate memory",
    "failed to map segment",
    "bad_alloc",
    "enomem",
)
"""What libraries say where Python would raise ``MemoryError``."""
_WORDS = (*(os.strerror(number).lower() for number in sorted(_ERRNOS)), *_MEMORY_WORDS, "can't start new thread")


def is_out_of_memory(problem: BaseException) -> bool:
    """Whether this error, not what it came from, is for want of memory."""
    if isinstance(problem, OSError):
        return problem.errno == errno.ENOMEM
    is_stated = isinstance(problem, RuntimeError | ImportError) and any(
        words in str(problem).lower() for words in _MEMORY_WORDS
    )
    return is_stated or isinstance(problem, MemoryError)


def is_shortage(problem: BaseException) -> bool:
    """Whether an error, or one that it came from, is for want of memory, file descriptors, threads or disk space.

    It says nothing of the file that was being read then: what a run keeps of its results must not include it.
    """
    seen: set[int] = set()
    waiting: list[BaseException | None] = [problem]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, MemoryError) or getattr(one, "errno", None) in _ERRNOS or tells_of_shortage(str(one)):
            return True
        waiting += [one.__cause__, one.__context__]
    return False


def tells_of_shortage(text: str) -> bool:
    """Whether the words of an error are those of a shortage (:func:`is_shortage`)."""
    text = text.lower()
    return any(words in text for words in _WORDS)


def number_of(number: int, noun: str) -> str:
    """A number of things, as messages say it: 1 frame, 2 frames."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class MovaError(Exception):
    """Base class of every error that a user can cause or fix.

    Args:
        message: What was given and what is allowed.
        hint: What to do next, in one sentence; may be empty.
    """

    exit_code: int = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class RequestError(MovaError):
    """The request cannot be fulfilled.

    Args:
        message: What was given and what is allowed.
        hint: What to do next.
        field: Name of the request field at fault, as in :class:`mova.request.schema.GenerationRequest`.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str = "", *, field: str | None = None) -> None:
        super().__init__(message, hint)
        self.field = field


class MediaError(MovaError):
    """A video, audio or image file cannot be read or written."""


class MissingMediaError(MediaError):
    """There is no video, audio or image file of that name."""

    exit_code = 2


class CheckpointError(MovaError):
    """A model is missing, damaged, or does not match its configuration."""

    exit_code = 3


class MissingCheckpointError(CheckpointError):
    """There is no file of that name, for a model or a LoRA."""

    exit_code = 2


class MissingExtraError(MovaError):
    """A package of an extra is not installed.

    Args:
        package: Name of the package that could not be imported.
        extra: Extra that contains it, as in ``pip install "mova-av[extra]"``.
    """

    exit_code = 3

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"this needs the package {package!r}, which is not installed.", f'Run: pip install "mova-av[{extra}]"')
        self.extra = extra


class OutOfMemoryError(MovaError):
    """A computation does not fit in memory.

    Args:
        what: Reason, as the system or a library gives it.
    """

    def __init__(self, what: str = "") -> None:
        super().__init__(f"out of memory{': ' + what if what else ''}.", "Free memory, or ask for a smaller or shorter clip.")


class OutputError(MovaError):
    """Results cannot be printed.

    Args:
        problem: Error of the write. If it is a pipe that nobody reads, ``exit_code`` is that of the signal for it.
    """

    def __init__(self, problem: OSError) -> None:
        super().__init__(f"results cannot be printed: {problem.strerror or problem}.", "Redirect them to where there is space.")
        self.is_unread = problem.errno == errno.EPIPE
        if self.is_unread:
            self.exit_code = 141
