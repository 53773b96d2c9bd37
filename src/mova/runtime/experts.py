"""Two experts of which one need not be in memory: read in the background, dropped, and read again.

Nothing has to be called. The weights that an expert does not share are fetched when the network is called or when its
state is saved, so that sampling, previews and saving cannot meet a network without weights. Modules stay the same
objects throughout: adapters, hooks and settings made in between hold. While an expert is out, its parameters are empty
tensors of the right type on the right device.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mova.errors import CheckpointError, MovaError
from mova.models.joint import JointModel
from mova.runtime.weights import refresh_blocks

logger = logging.getLogger(__name__)

# reads the weights that an expert has to itself from its files into the module, on a device
Read = Callable[[torch.device], None]


class ExpertPair:
    """Loader of two experts: each comes into memory when it is to work.

    Args:
        first: The expert for high noise, with its weights.
        second: The expert for low noise, which shares audio and bridge with the first; its own weights may be missing.
        read_first: Reads the first's own weights.
        read_second: Reads the second's own weights.
        is_prefetched: Whether the second is read in the background as soon as the first begins to work.
        drops: Whether an expert leaves memory when the other takes over.
        device: Device on which an expert's own weights rest once they are read.
    """

    def __init__(
        self,
        first: JointModel,
        second: JointModel,
        *,
        read_first: Read,
        read_second: Read,
        is_prefetched: bool,
        drops: bool,
        device: torch.device,
    ) -> None:
        self._experts = (
            _OwnWeights("first", first, second, read_first, device),
            _OwnWeights("second", second, first, read_second, device),
        )
        self._is_prefetched, self._drops = is_prefetched, drops
        self._lock = threading.RLock()
        self._inside: tuple[set[int], set[int]] = (set(), set())  # threads in a forward of each
        for index, module in enumerate((first, second)):
            module.register_forward_pre_hook(partial(self._enter, index))
            module.register_forward_hook(partial(self._leave, index), always_call=True)
            module.register_state_dict_pre_hook(partial(self._show, index))

    @property
    def in_memory(self) -> tuple[bool, bool]:
        """Which of the two has its weights in place."""
        return self._experts[0].is_present, self._experts[1].is_present

    def _enter(self, index: int, *_: Any) -> None:
        here, there = self._experts[index], self._experts[1 - index]
        with self._lock:
            if self._drops and there.is_present and not self._inside[1 - index]:
                if there.is_as_read:
                    there.drop()
                else:
                    logger.warning("the %s expert stays in memory: an adapter is fused into its weights", there.name)
            here.ensure()
            self._inside[index].add(threading.get_ident())
            if self._is_prefetched and index == 0:
                # with drops, two experts may not fit on the device: the second waits in host memory for its turn
                there.begin(torch.device("cpu") if self._drops else None)

    def _leave(self, index: int, *_: Any) -> None:
        self._inside[index].discard(threading.get_ident())

    def _show(self, index: int, *_: Any) -> None:
        if not self._experts[index].is_reading_here:
            with self._lock:
                self._experts[index].ensure()


class _OwnWeights:
    """What an expert does not share: absent, being read, or present. Called under the pair's lock."""

    def __init__(self, name: str, module: nn.Module, other: nn.Module, read: Read, device: torch.device) -> None:
        shared = {id(parameter) for parameter in other.parameters()}
        self.name, self.module, self._read_into = name, module, read
        # places, not parameters: a reader puts new ones there, and adapters wrap the modules around them
        self._places = [
            (owner, leaf, parameter.shape)
            for owner in module.modules()
            for leaf, parameter in owner.named_parameters(recurse=False)
            if id(parameter) not in shared
        ]
        self.is_present = not any(parameter.is_meta for parameter in self._parameters())
        self._home = device
        self._reading: Future[None] | None = None
        self._reader: int | None = None
        if not self.is_present:
            self._empty(device)

    @property
    def is_reading_here(self) -> bool:
        """Whether the calling thread is the one that reads."""
        return self._reader == threading.get_ident()

    @property
    def is_as_read(self) -> bool:
        """Whether reading again would give the same weights: not with an adapter fused into them."""
        return not any(getattr(module, "merged", False) for module in self.module.modules())

    def begin(self, device: torch.device | None) -> None:
        """Start reading in the background, onto ``device`` or to where the weights belong; once only."""
        if self.is_present or self._reading is not None:
            return
        self._home = self._device()
        self._reading = Future()
        threading.Thread(
            target=self._work, args=(self._reading, device or self._home), name=f"mova-{self.name}-expert", daemon=True
        ).start()

    def ensure(self) -> None:
        """Wait for the weights, or read them now.

        Raises:
            CheckpointError: If they cannot be read; they are absent then, and a later call tries again.
        """
        if self.is_present:
            return
        try:
            if self._reading is None:
                self._home = self._device()
                self._read(self._home)
            else:
                self._reading.result()
        except Exception as error:
            self._reading = None
            self._empty(self._home)
            if isinstance(error, MovaError):
                raise
            raise CheckpointError(
                f"the {self.name} expert cannot be read: {error}", "Check the folder and the memory."
            ) from error
        self._reading = None
        self._move(self._home)
        self.is_present = True
        refresh_blocks(self.module)

    def drop(self) -> None:
        """Give the memory back."""
        self._empty(self._device())
        self.is_present = False
        refresh_blocks(self.module)
        logger.info("the %s expert has left memory", self.name)

    def _work(self, done: Future[None], device: torch.device) -> None:
        try:
            with _use_copy_stream(device):
                self._read(device)
        except BaseException as error:  # shown by whoever waits
            done.set_exception(error)
        else:
            done.set_result(None)

    def _read(self, device: torch.device) -> None:
        begin, self._reader = time.monotonic(), threading.get_ident()
        try:
            for (owner, leaf, shape), parameter in zip(self._places, self._parameters(), strict=True):
                _put(owner, leaf, torch.empty(shape, dtype=parameter.dtype, device="meta"))
            self._read_into(device)
        finally:
            self._reader = None
        logger.info("the %s expert was read in %.1f s", self.name, time.monotonic() - begin)

    def _move(self, device: torch.device) -> None:
        for (owner, leaf, _), parameter in zip(self._places, self._parameters(), strict=True):
            if parameter.device != device:
                _put(owner, leaf, parameter.detach().to(device))

    def _empty(self, device: torch.device) -> None:
        for (owner, leaf, _), parameter in zip(self._places, self._parameters(), strict=True):
            _put(owner, leaf, torch.empty(0, dtype=parameter.dtype, device=device))

    def _parameters(self) -> list[Tensor]:
        return [owner.get_parameter(leaf) for owner, leaf, _ in self._places]

    def _device(self) -> torch.device:
        return self._parameters()[0].device


@contextmanager
def _use_copy_stream(device: torch.device) -> Iterator[None]:
    """Copies to a GPU take a stream of their own, so that the run's kernels do not wait for them."""
    if device.type != "cuda":
        yield
        return
    stream = torch.cuda.Stream(device)
    with torch.cuda.stream(stream):
        yield
    stream.synchronize()


def _put(owner: nn.Module, leaf: str, tensor: Tensor) -> None:
    owner._parameters[leaf] = nn.Parameter(tensor, requires_grad=False)
