"""The threads that compute on a CPU, and clips that are the same on machines with any number of cores.

oneDNN's convolutions divide their sums among the threads, so that the last bit of a float32 result depends on how many there
are. Torch's own convolutions give the same with one thread and with two, and cost the same for codecs of the size of
mova-base's (2.3 s of CPU time a clip, both); for larger ones they would need much more memory. With three threads or more,
torch divides sums, too: a run that is to be the same everywhere takes two at most.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

MAX_EXACT_PARAMETERS = 500_000_000
"""Models with more parameters keep oneDNN: their clips are the same for the recorded number of threads."""
MAX_EXACT_THREADS = 2
_onednn: Any = torch.backends.mkldnn
_lock = threading.Lock()
_inside = 0
_was_enabled = True


def choose_threads(count: int | None, *, is_exact: bool) -> int:
    """The number of threads of a run.

    Args:
        count: Threads that were asked for; as many as torch takes if None.
        is_exact: Whether results must not depend on the number.
    """
    count = torch.get_num_threads() if count is None else count
    return min(count, MAX_EXACT_THREADS) if is_exact else count


@contextmanager
def use_threads(count: int | None, *, is_exact: bool) -> Iterator[None]:
    """Compute with a number of threads; the setting of before is restored.

    Args:
        count: Threads; as many as torch takes if None.
        is_exact: Whether results must not depend on the number, which is :data:`MAX_EXACT_THREADS` at most then.
    """
    before = torch.get_num_threads()
    count = choose_threads(count, is_exact=is_exact)
    if count != before:
        torch.set_num_threads(count)
    try:
        if is_exact:
            with _without_onednn():
                yield
        else:
            yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


@contextmanager
def _without_onednn() -> Iterator[None]:
    """The switch is the process's own: the first run that needs it off turns it off, and the last one back."""
    global _inside, _was_enabled
    with _lock:
        if _inside == 0:
            _was_enabled = _onednn.enabled
            _onednn.enabled = False
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _onednn.enabled = _was_enabled
