"""How a run ends: every error that is not our own as one of ours, and an exit code; never a traceback unless asked for."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from mova.cli import console
from mova.cli.interrupts import Interrupted, find_signal
from mova.errors import MovaError, OutOfMemoryError, OutputError, is_out_of_memory

INTERRUPTED = 130
UNEXPECTED = 70
"""Exit code of a fault of this program."""


def run_to_exit_code(command: Callable[[], Any]) -> int:
    """Run the command line and return its exit code; what went wrong is two lines on stderr.

    Args:
        command: Command line; may end by ``SystemExit``.
    """
    try:
        try:
            command()
            code: Any = 0
        except SystemExit as end:
            code = end.code
        console.finish()
        return code if isinstance(code, int) else 0 if code is None else 1
    except (Interrupted, KeyboardInterrupt) as stop:
        console.say_interrupted()
        return getattr(stop, "exit_code", INTERRUPTED)
    except Exception as problem:
        if (number := find_signal()) is not None:  # the error was made of it on the way
            console.say_interrupted()
            return 128 + number
        if not isinstance(problem, MovaError):
            return _report(problem)
        if not (isinstance(problem, OutputError) and problem.is_unread):
            console.error(problem)
        return problem.exit_code


def _report(problem: Exception) -> int:
    """Two lines for an error that nothing foresaw."""
    console.LOG.debug("the error came from here", exc_info=problem)
    known = as_mova_error(problem)
    if known is not None:
        console.error(known)
        return known.exit_code
    is_shown = console.LOG.isEnabledFor(logging.DEBUG)
    hint = (
        "This is a fault of mova; please report it."
        if is_shown
        else "This is a fault of mova: -v shows where; please report it."
    )
    console.error(MovaError(f"{type(problem).__name__}: {str(problem)[:200]}", hint))
    return UNEXPECTED


def as_mova_error(problem: Exception) -> MovaError | None:
    """A shortage of memory, or of what the system has, as an error of ours; ``None`` for anything else."""
    cause: BaseException | None = problem
    while cause is not None:  # a library may wrap the shortage in an error of an import
        if is_out_of_memory(cause):
            return OutOfMemoryError(str(cause).split("\n")[0][:120])
        cause = cause.__cause__ or cause.__context__
    if isinstance(problem, OSError):
        name = "" if problem.filename is None else f"{problem.filename}: "
        return MovaError(f"{name}{problem.strerror or problem}.", "Check the path, its permissions and the free space.")
    return None


def exit_with(command: Callable[[], Any]) -> None:
    """Run the command line, and end this process."""
    sys.exit(run_to_exit_code(command))
