"""The only place that prints. Facts go to stdout, talk and progress to stderr.

Text may come from a file of unknown origin: what would steer a terminal or hide what is written is shown as an
escape, ``\\x1b`` or ``\\u202e``, and so is what the stream's encoding does not have. Talk goes through ``logging``, as the
logger ``mova``.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TextIO

from mova.errors import MovaError, OutputError, number_of
from mova.progress import Progress

LOG = logging.getLogger("mova")
count = number_of
# control characters, formats (which turn the direction of text), surrogates, and the other ends of lines
_UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_JOINERS = "\u200c\u200d"
"""Formats that text is made of: Persian, Hindi and emoji are not the same without them."""


def printable(text: str) -> str:
    """The text with everything that is no visible character as an escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(one) if unicodedata.category(one) in _UNSAFE and one not in _JOINERS else one for one in text)


def start_talking(level: int = logging.INFO) -> None:
    """Send talk from ``level`` on to stderr."""
    handler = _Talk()
    LOG.handlers = [handler]
    LOG.setLevel(level)
    LOG.propagate = False


def say(text: str = "") -> None:
    """A line for people, on stderr."""
    if not LOG.handlers:
        start_talking()
    LOG.info("%s", text)


def fact(text: str) -> None:
    """A line of result, on stdout."""
    _print_fact(printable(text))


def facts_json(value: Any) -> None:
    """Results for programs: one JSON document on stdout."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    if sys.stdout is not None:
        encoding = sys.stdout.encoding or "utf-8"
        text = "".join(one if _is_plain(one, encoding) else _json_escaped(one) for one in text) if not text.isascii() else text
    _print_fact(text)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: Sequence[int] = (0,)) -> None:
    """A table of results on stdout: columns named in ``left`` begin at the left edge, the others end at the right."""
    lines = [[printable(text) for text in line] for line in (header, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        cells = [
            text.ljust(width) if column in left else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        _print_fact("  ".join(cells).rstrip())


def error(problem: MovaError) -> None:
    """Two lines on stderr: what is wrong, and what to do."""
    _print(sys.stderr, f"error: {_line(problem.message)}\n" + (f"  hint: {_line(problem.hint)}\n" if problem.hint else ""))


def finish() -> None:
    """Write what is still held back.

    Raises:
        OutputError: If stdout does not take it.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as problem:
        raise _refused(problem) from None


def _print_fact(line: str) -> None:
    try:
        _print(sys.stdout, line + "\n", is_needed=True)
    except OSError as problem:
        raise _refused(problem) from None


def _print(stream: TextIO | None, text: str, *, is_needed: bool = False) -> None:
    """Write to a stream at once; to a closed one nothing. Talk that cannot be written is no reason to stop."""
    if stream is None:
        return
    encoding = stream.encoding or "utf-8"
    try:
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except OSError:
        if is_needed:
            raise
        _send_nowhere(stream)


def _refused(problem: OSError) -> OutputError:
    _send_nowhere(sys.stdout)
    return OutputError(problem)


def _send_nowhere(stream: TextIO) -> None:
    """Drop what is held back, so that the interpreter does not try it again when it ends."""
    with open(os.devnull, "w") as nowhere, suppress(OSError, ValueError):  # a stream without a file
        os.dup2(nowhere.fileno(), stream.fileno())


def _line(text: str) -> str:
    """One line, however many a library's message has."""
    return printable(" ".join(text.split()))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _is_plain(character: str, encoding: str) -> bool:
    if character.isascii() and character.isprintable():
        return True
    if unicodedata.category(character) in _UNSAFE and character not in _JOINERS:
        return False
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _json_escaped(character: str) -> str:
    """As in JSON, two units for a character beyond the first plane."""
    return "\\u007f" if character == "\x7f" else json.dumps(character)[1:-1]


class _Talk(logging.Handler):
    """Lines on stderr; those of other modules than this one with their name, and only if they warn or everything is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.name != LOG.name:
            if record.levelno < logging.WARNING and LOG.level > logging.DEBUG:
                return
            text = f"{record.name}: {text}"
        if record.exc_info:
            text += "\n" + logging.Formatter().formatException(record.exc_info)
        _print(sys.stderr, "\n".join(printable(line) for line in text.split("\n")) + "\n")


def say_interrupted() -> None:
    """A last line on stderr, below a line of progress that was being rewritten."""
    say(("\n" if sys.stderr.isatty() else "") + "interrupted")


class ProgressLine:
    """A line on stderr, rewritten in place on a terminal; elsewhere a line every ten seconds and one at the end."""

    def __init__(self, label: str) -> None:
        import time

        self._time = time.monotonic
        self.label = label
        self.start = self._time()
        self.last_print = 0.0
        self.on_terminal = sys.stderr is not None and sys.stderr.isatty()
        self.is_shown = LOG.isEnabledFor(logging.INFO) if LOG.handlers else True
        self.first: tuple[float, int] | None = None

    def show(self, progress: Progress) -> None:
        """Show a progress event."""
        self._write(progress.done, progress.total, progress.seconds_left, "")

    def update(self, done: int, total: int, note: str = "") -> None:
        """Show ``done`` of ``total`` with an estimate of the time left, from the speed seen since the first update."""
        now = self._time()
        if self.first is None:
            self.first = (now, done)
        began, count = self.first
        self._write(done, total, (now - began) / (done - count) * (total - done) if done > count else None, note)

    def _write(self, done: int, total: int, left: float | None, note: str) -> None:
        now = self._time()
        estimate = "" if left is None or done == total else f", about {clock_text(left)} left"
        text = printable(f"{self.label} {done}/{total}{estimate}{'  ' + note if note else ''}")
        if not self.is_shown:
            return
        if self.on_terminal:
            _print(sys.stderr, f"\r\033[K{text}" + ("" if done < total else "\n"))
        elif total > 1 and (done == total or now - self.last_print > 10.0):
            _print(sys.stderr, text + "\n")
            self.last_print = now


def clock_text(seconds: float) -> str:
    """Seconds as people say them: 4 s, 2 min 05 s, 1 h 10 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def quantity_text(value: float, unit: str) -> str:
    """A number of a unit with three figures and a prefix of thousands: 28.6 GB, 5.53 PFLOP, 0 B."""
    prefixes = ("", "k", "M", "G", "T", "P", "E")
    power = 0
    while value >= 999.5 and power < len(prefixes) - 1:
        value, power = value / 1000, power + 1
    digits = 0 if value >= 99.95 or (power == 0 and value == round(value)) else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f} {prefixes[power]}{unit}"
