"""The processes of a run: which they are, how they are started, and sums over all of them.

On a CPU the stages that train run in one process of one thread per core (two at most by default: more threads in one
process lose to contention); on GPUs in one process for each. Workers find each other through a file, so that no port is opened.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.multiprocessing.spawn import start_processes

from mova.data.shards import begin_worker, end_processes, start_method
from mova.errors import MovaError
from mova.runtime.threads import use_threads

Report = Callable[[Any], None]
Work = Callable[[str, Report | None], None]
"""Does the work of one process on a device; reports go to the function, which is ``None`` in all processes but the first."""


def process_rank() -> tuple[int, int]:
    """Rank and number of processes; (0, 1) outside a process group."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def sum_over_processes(tensors: Sequence[Tensor]) -> None:
    """Replace every tensor by its sum over all processes, in one exchange."""
    if process_rank()[1] == 1 or not tensors:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    offset = 0
    for tensor in tensors:
        tensor.copy_(flat[offset : offset + tensor.numel()].view_as(tensor))
        offset += tensor.numel()


def choose_device(wanted: str) -> str:
    """``"cpu"`` or ``"cuda"``; ``"auto"`` is the GPU if there is one.

    Raises:
        MovaError: If a GPU is asked for and none is there.
    """
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise MovaError("the recipe asks for a GPU and torch sees none.", "Set device: auto, or cpu.")
    return wanted


def choose_processes(wanted: int | str, device: str) -> int:
    """How many processes train; ``"auto"`` is one per GPU, else one per core, two at most.

    Raises:
        MovaError: If more are asked for than there are GPUs.
    """
    gpus = torch.cuda.device_count() if device == "cuda" else 0
    if wanted == "auto":
        return gpus or min(2, os.cpu_count() or 1)
    if gpus and int(wanted) > gpus:
        raise MovaError(f"the recipe asks for {wanted} processes on {gpus} GPUs.", f"Set processes: {gpus} or fewer, or auto.")
    return int(wanted)


def device_of_rank(device: str, rank: int) -> str:
    """The device of one process: GPUs are taken in order."""
    return f"cuda:{rank}" if device == "cuda" else device


_threads: ContextVar[int | None] = ContextVar("threads", default=None)


@contextmanager
def threads_per_process(count: int | None) -> Iterator[None]:
    """Train with a number of threads in each process; with torch's number in one process and one in several if None."""
    token = _threads.set(count)
    try:
        yield
    finally:
        _threads.reset(token)


def run_in_processes(work: Work, processes: int, device: str, on_report: Report | None) -> None:
    """Do the work in one process, this one, or in several that share it.

    Args:
        work: Work of one process; for several it must be picklable.
        processes: How many.
        device: ``"cpu"`` or ``"cuda"``.
        on_report: Receives the reports of the first process, in this one.

    Raises:
        Exception: What a worker raised; the others are ended.
    """
    if processes == 1:
        with use_threads(_threads.get(), is_exact=False):
            work(device_of_rank(device, 0), on_report)
        return
    # without this, every process warns that a step left no parameter out, which is usual
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    method = start_method()
    reports: Any = mp.get_context(method).Queue()
    with tempfile.TemporaryDirectory() as folder:
        workers = start_processes(
            _run_worker,
            args=(processes, str(Path(folder) / "store"), work, device, reports, _threads.get() or 1),
            nprocs=processes,
            join=False,
            start_method=method,
        )
        assert workers is not None
        try:
            # join raises in this process what a worker raised, and ends the others
            while not workers.join(timeout=0.5):
                _drain(reports, on_report)
            _drain(reports, on_report)
        except BaseException:
            end_processes(workers.processes)
            raise


def _drain(reports: Any, on_report: Report | None) -> None:
    while not reports.empty():
        report = reports.get()
        if on_report is not None:
            on_report(report)


def _run_worker(rank: int, world: int, store: str, work: Work, device: str, reports: Any, threads: int) -> None:
    torch.set_num_threads(threads)
    begin_worker()
    own = device_of_rank(device, rank)
    if device == "cuda":
        torch.cuda.set_device(own)
    backend = "nccl" if device == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=f"file://{store}", rank=rank, world_size=world, timeout=timedelta(minutes=30))
    try:
        work(own, reports.put if rank == 0 else None)
    finally:
        dist.destroy_process_group()
