"""Signals that end a command: Ctrl-C, and what a shell, ``timeout`` or a job queue sends, end it in the same way.

Each raises :class:`Interrupted` where the command is, so that temporary files are removed on the way out.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
REPEAT_S = 1.0
"""Time in which a second Ctrl-C counts as the first: ``timeout`` sends its signal to the command and to its group."""


class Interrupted(BaseException):
    """A signal asked the command to end; no :class:`Exception`, so that nothing on the way takes it for a fault of a file.

    Args:
        number: Number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


_received: list[int] = []


def find_signal() -> int | None:
    """The signal that came, if one did: what it raised may have been made into another error on the way, as imports do."""
    return _received[0] if _received else None


def raise_on_signals() -> None:
    """Let each of :data:`SIGNALS` raise :class:`Interrupted` in the main thread.

    Later signals do not disturb the removal of temporary files, but for a second Ctrl-C, which ends the process at once.
    A signal that the caller ignores (``nohup``) stays ignored. Does nothing outside the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    first: list[float] = []

    def end(number: int, frame: FrameType | None) -> None:
        if not first:
            first.append(time.monotonic())
            _received.append(number)
            raise Interrupted(number)
        if number == signal.SIGINT and time.monotonic() - first[0] > REPEAT_S:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)
