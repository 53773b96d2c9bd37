"""What can go wrong for a user, as one tree.

    MovaError                 exit code 1   something failed while running
    ├── RequestError          exit code 2   the request cannot be done as asked; field names the part to change
    ├── MediaError            exit code 1   a video, audio or picture cannot be read or written
    ├── CheckpointError       exit code 3   weights are missing, broken, or of another shape
    └── MissingExtraError     exit code 3   an optional part of the package is not installed

Every message says what was given and what is allowed; ``hint`` says what to do next. The command line prints the two
as two lines, without a traceback, and exits with ``exit_code``.
"""

from __future__ import annotations

from typing import ClassVar


class MovaError(Exception):
    """Base of every error that a user can cause or mend.

    Args:
        message: What was given and what is allowed.
        hint: What to do next, one sentence; may be empty.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class RequestError(MovaError):
    """The request cannot be done as asked.

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
    """A video, audio or a picture cannot be read or written."""


class CheckpointError(MovaError):
    """Weights are missing, broken, or of another shape than their configuration says."""

    exit_code = 3


class MissingExtraError(MovaError):
    """An optional part of the package is not installed.

    Args:
        package: The import that failed.
        extra: The extra that brings it, as in ``pip install "mova-av[extra]"``.
    """

    exit_code = 3

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"this needs the package {package!r}, which is not installed.", f'Run: pip install "mova-av[{extra}]"')
        self.extra = extra
