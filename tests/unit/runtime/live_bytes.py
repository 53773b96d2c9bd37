"""The largest memory of a computation's tensors at one time, counted on the meta device, where nothing is computed."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def largest_bytes(compute: Callable[[], Any], *, given: list[torch.Tensor]) -> int:
    """Of the tensors that ``compute`` makes; ``given`` are those that it finds."""
    with torch.no_grad(), _Fused(), _Live(given) as live:
        kept = compute()
    del kept
    return live.largest


class _Live(TorchDispatchMode):
    """Counts storages from their first tensor to their last."""

    def __init__(self, given: list[torch.Tensor]) -> None:
        super().__init__()
        self.now = self.largest = 0
        self.seen = {tensor.untyped_storage()._cdata: 0 for tensor in given}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self.seen:
                    self.seen[storage._cdata] = storage.nbytes()
                    self.now += storage.nbytes()
                    self.largest = max(self.largest, self.now)
                    weakref.finalize(storage, self.free, storage._cdata)
        return out

    def free(self, key: int) -> None:
        self.now -= self.seen.pop(key)


class _Fused(TorchFunctionMode):
    """Attention and RMS norm as an accelerator's kernels do them: nothing but the result is held."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (F.scaled_dot_product_attention, F.rms_norm):
            return torch.empty_like(args[0] if args else kwargs["query"])
        return func(*args, **kwargs)
