"""What a computation takes, measured on the meta device, where shapes are known and nothing is computed or stored.

Operations are those of torch's ``FlopCounterMode``: matrix products, convolutions and attention, an addition and a
multiplication being two. Memory is that of all tensors that are alive at one time. Attention and RMS norm hold nothing beside
their result, as an accelerator's kernels do.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

PRODUCTS = ("aten.mm", "aten.addmm")


@dataclass(frozen=True)
class Measurement:
    """Operations and memory of a computation.

    Args:
        flops: All operations.
        peak_bytes: Largest memory of the tensors that it makes, its result included.
        by_module: Operations by path of a module inside the module that was called, and kind: ``"products"`` of weight
            matrices, or ``"others"``.
    """

    flops: int
    peak_bytes: int
    by_module: Mapping[tuple[str, str], int]

    def inside(self, path: str, kind: str | None = None) -> int:
        """Operations inside a module, of one kind or of both; 0 where it was not called."""
        return sum(self.by_module.get((path, one), 0) for one in (("products", "others") if kind is None else (kind,)))


def measure(compute: Callable[[], Any], *, given: Iterable[Tensor] = ()) -> Measurement:
    """Measure a computation.

    Args:
        compute: The computation, on tensors of the meta device.
        given: Tensors that exist before it; their memory is not counted.
    """
    live = _LiveBytes(given)
    with (
        torch.no_grad(),
        live,
        _FusedKernels(live),
        FlopCounterMode(display=False) as counter,
    ):
        result = compute()
    del result
    by_module: Counter[tuple[str, str]] = Counter()
    for path, counts in counter.get_flop_counts().items():
        for operation, flops in counts.items():
            kind = "products" if str(operation) in PRODUCTS else "others"
            by_module[path.partition(".")[2], kind] += flops
    return Measurement(counter.get_total_flops(), live.peak, by_module)


class _LiveBytes(TorchDispatchMode):
    """Follows every storage from its first tensor to its last."""

    def __init__(self, given: Iterable[Tensor]) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.is_paused = False
        self.sizes = {tensor.untyped_storage()._cdata: 0 for tensor in given}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out) if not self.is_paused else ():
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self.sizes:
                    self.sizes[storage._cdata] = storage.nbytes()
                    self.now += storage.nbytes()
                    self.peak = max(self.peak, self.now)
                    weakref.finalize(storage, self._free, storage._cdata)
        return out

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Tensors made in the meantime are not counted."""
        self.is_paused = True
        try:
            yield
        finally:
            self.is_paused = False

    def _free(self, key: int) -> None:
        self.now -= self.sizes.pop(key)


class _FusedKernels(TorchFunctionMode):
    """Attention and RMS norm without memory for what is between their inputs and their result."""

    def __init__(self, live: _LiveBytes) -> None:
        super().__init__()
        self.live = live

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in (F.scaled_dot_product_attention, F.rms_norm):
            return func(*args, **kwargs)
        with self.live.paused():
            # attention as matrix products, which are counted the same for every kernel
            (torch.ops.aten._scaled_dot_product_attention_math if func is F.scaled_dot_product_attention else func)(
                *args, **kwargs
            )
        return torch.empty_like(args[0] if args else kwargs["query"])
