"""The only place that prints. Facts go to stdout, talk and progress to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from mova.errors import MovaError
from mova.progress import Progress


def say(text: str = "") -> None:
    """A line for people, on stderr."""
    print(text, file=sys.stderr, flush=True)


def fact(text: str) -> None:
    """A line of result, on stdout."""
    print(text, flush=True)


def facts_json(value: Any) -> None:
    """Results for programs: one JSON document on stdout."""
    print(json.dumps(value, ensure_ascii=False, default=str), flush=True)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: Sequence[int] = (0,)) -> None:
    """A table of results on stdout: columns named in ``left`` begin at the left edge, the others end at the right."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        cells = [
            text.ljust(width) if column in left else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip(), flush=True)


def error(problem: MovaError) -> None:
    """Two lines on stderr: what is wrong, and what to do."""
    print(f"error: {problem.message}", file=sys.stderr)
    if problem.hint:
        print(f"  hint: {problem.hint}", file=sys.stderr, flush=True)


class ProgressLine:
    """A line on stderr, rewritten in place on a terminal; elsewhere a line every ten seconds and one at the end."""

    def __init__(self, label: str) -> None:
        import time

        self._time = time.monotonic
        self.label = label
        self.start = self._time()
        self.last_print = 0.0
        self.on_terminal = sys.stderr.isatty()
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
        text = f"{self.label} {done}/{total}{estimate}{'  ' + note if note else ''}"
        if self.on_terminal:
            print(f"\r\033[K{text}", end="" if done < total else "\n", file=sys.stderr, flush=True)
        elif total > 1 and (done == total or now - self.last_print > 10.0):
            print(text, file=sys.stderr, flush=True)
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
