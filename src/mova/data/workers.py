"""Worker processes that end with the process that started them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from mova.files import remove_leftovers


def exit_with_parent(parent: int) -> None:
    """End this process soon after ``parent`` is gone: a killed run must not leave workers that hold the cores."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def worker_pool(processes: int) -> ProcessPoolExecutor:
    """A pool of fresh processes that do not outlive this one."""
    return ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=exit_with_parent, initargs=(os.getpid(),)
    )


def make_missing_shards(
    make: Callable[[Path, int, int], int],
    path_of: Callable[[int], Path],
    *,
    num_clips: int,
    clips_per_shard: int,
    processes: int,
    on_shard: Callable[[int, int], None] | None = None,
) -> None:
    """Make every shard that is not there yet, several at a time.

    Args:
        make: ``make(path, first clip, clips)`` writes one shard and returns its clips; it must be picklable.
        path_of: Where the shard of a number goes; a shard that exists is whole.
        num_clips: Clips in all.
        clips_per_shard: Clips per shard; the last may have fewer.
        processes: Worker processes.
        on_shard: Function called with (clips done, clips in all) after each shard.
    """
    sizes = {first: min(clips_per_shard, num_clips - first) for first in range(0, num_clips, clips_per_shard)}
    remove_leftovers(path_of(0).parent)
    missing = [first for first in sizes if not path_of(first // clips_per_shard).exists()]
    done = num_clips - sum(sizes[first] for first in missing)
    with worker_pool(processes) as pool:
        jobs = [pool.submit(make, path_of(first // clips_per_shard), first, sizes[first]) for first in missing]
        for job in as_completed(jobs):
            done += job.result()
            if on_shard is not None:
                on_shard(done, num_clips)
