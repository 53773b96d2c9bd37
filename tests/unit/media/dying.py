"""What a decoder does that writes where it must not; a module of its own, as the helper process imports it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator


def die_of(path: str, *, after: int) -> Iterator[int]:
    """Run in the helper process."""
    yield from range(after)
    if path.startswith("bad"):
        os.kill(os.getpid(), signal.SIGSEGV)
