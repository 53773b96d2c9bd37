"""Errors that a user can cause, as one tree.

    MovaError                 exit code 1   something failed during the run
    ├── RequestError          exit code 2   the request cannot be fulfilled; ``field`` names the field to change
    ├── MediaError            exit code 1   a video, audio or image file cannot be read or written
    ├── CheckpointError       exit code 3   weights are missing, damaged, or do not match the configuration
    └── MissingExtraError     exit code 3   a package of an extra is not installed

Every message states what was given and what is allowed; ``hint`` states what to do next. The command line prints both,
one line each, without a traceback, and exits with ``exit_code``.
"""

from __future__ import annotations

from typing import ClassVar


class MovaError(Exception):
    """Base class of every error that a user can cause or fix.

    Args:
        message: What was given and what is allowed.
        hint: What to do next, in one sentence; may be empty.
    """

    exit_code: ClassVar[int] = 1

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


class CheckpointError(MovaError):
    """Weights are missing, damaged, or do not match their configuration."""

    exit_code = 3


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
