"""Worker processes that end with the process that started them."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context


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
