"""Progress of long work, and a way to cancel it: one event and one token for the library, the command line and servers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mova.errors import MovaError


class CancelledError(MovaError):
    """The work was cancelled by its :class:`CancelToken`; nothing of it is left behind."""

    exit_code = 130

    def __init__(self) -> None:
        super().__init__("cancelled.")


@dataclass(frozen=True)
class Progress:
    """How far a piece of work is.

    Args:
        stage: Name of the stage: ``text``, ``denoise``, ``decode``, ``resample``, or that of a training stage.
        done: Units done.
        total: Units of the whole stage.
        seconds_left: Estimate of the time left in this stage, from the speed seen so far; ``None`` before the second report.
        preview: Gives a preview of the result so far when called (for ``denoise``: the clip of the current latents, decoded
            on demand); ``None`` where there is none.
    """

    stage: str
    done: int
    total: int
    seconds_left: float | None = None
    preview: Callable[[], Any] | None = field(default=None, compare=False, repr=False)


OnProgress = Callable[[Progress], None]


class CancelToken:
    """Asks running work to stop; thread-safe. The work raises :class:`CancelledError` within one sampler step.

    Examples:
        >>> token = CancelToken()
        >>> token.cancel()
        >>> token.is_cancelled
        True
    """

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Ask the work to stop."""
        self._event.set()

    @property
    def is_cancelled(self) -> bool:
        """Whether it was asked to stop."""
        return self._event.is_set()

    def check(self) -> None:
        """Stop here if that was asked.

        Raises:
            CancelledError: If it was.
        """
        if self._event.is_set():
            raise CancelledError


class Reporter:
    """Turns ``(stage, done, total)`` into :class:`Progress` events with an estimate, and checks the cancel token at each.

    Args:
        on_progress: Receiver of the events, if any.
        cancel: Token, if any.
    """

    def __init__(self, on_progress: OnProgress | None = None, cancel: CancelToken | None = None) -> None:
        self.on_progress = on_progress
        self.cancel = cancel
        self._stage = ""
        self._start = (0.0, 0)

    def check(self) -> None:
        """Raise :class:`CancelledError` if the work was cancelled."""
        if self.cancel is not None:
            self.cancel.check()

    def report(self, stage: str, done: int, total: int, *, preview: Callable[[], Any] | None = None) -> None:
        """Send one event.

        Raises:
            CancelledError: If the work was cancelled.
        """
        self.check()
        if self.on_progress is None:
            return
        now = time.monotonic()
        if stage != self._stage or done < self._start[1]:
            self._stage, self._start = stage, (now, done)
        began, first = self._start
        left = (now - began) / (done - first) * (total - done) if done > first else None
        self.on_progress(Progress(stage, done, total, left, preview))
