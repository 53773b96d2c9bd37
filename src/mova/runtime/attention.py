"""Which attention kernels run: the fastest that work here, tried before any weight is read.

All go through diffusers' dispatch. A backend counts as working only when a small call of it has succeeded on the
device, in the number format and at the head widths of the run: packages that are installed but broken, or kernels for
other hardware, are found here and not in the middle of a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from diffusers.models.attention_dispatch import AttentionBackendName, attention_backend, dispatch_attention_fn
from torch import nn

from mova.errors import MissingExtraError, RequestError
from mova.models.layers import Attention

# a family's members, best first; the plain names that users know
FAMILIES: dict[str, tuple[str, ...]] = {
    "sdpa": ("native",),
    "flash": ("_flash_3", "_flash_3_hub", "flash_4_hub", "flash", "flash_hub", "_native_flash"),
    "flex": ("flex",),
    "sage": ("sage", "sage_hub"),
}
EXACT = "native"
_EXTRA = "attention"


@dataclass(frozen=True)
class AttentionChoice:
    """Backends by diffusers' names.

    Attributes:
        video: Backend of the video tower's self-attention, which is nearly all of the work.
        others: Backend of every other attention. Differs from ``video`` only where that one is approximate.
        reason: Why.
    """

    video: str = EXACT
    others: str = EXACT
    reason: str = "torch's own"


def choose_attention(
    asked: str, device: torch.device, dtype: torch.dtype, *, head_dims: Sequence[int] = (128,)
) -> AttentionChoice:
    """The backends to use, and why.

    Args:
        asked: ``"auto"``, a family (:data:`FAMILIES`), or a name of diffusers.
        device: Device of the run.
        dtype: Number format of the run.
        head_dims: Widths of the model's attention heads.

    Raises:
        RequestError: If there is no such backend, or it does not work on this device.
        MissingExtraError: If its package is not installed.
    """
    if asked == "auto":
        return _choose_exact(device, dtype, head_dims)
    known = {backend.value for backend in AttentionBackendName}
    if asked not in FAMILIES and asked not in known:
        names = ", ".join(("auto", *FAMILIES, *sorted(known - set(FAMILIES))))
        raise RequestError(
            f"there is no attention_backend {asked!r}.", f"It must be one of {names}.", field="attention_backend"
        )
    problems: dict[str, str] = {}
    for backend in FAMILIES.get(asked, (asked,)):
        problem = why_not(backend, device, dtype, head_dims)
        if problem is None:
            return _choose_named(backend, device, dtype, head_dims)
        problems[backend] = problem
    missing = [package for package in map(_package, problems) if package and find_spec(package) is None]
    if len(missing) == len(problems):
        raise MissingExtraError(missing[-1], _EXTRA)
    raise RequestError(
        f"attention_backend {asked!r} does not work on {device} in {str(dtype).removeprefix('torch.')}: "
        + "; ".join(f"{name}: {problem}" for name, problem in problems.items()),
        "Leave attention_backend to 'auto'.",
        field="attention_backend",
    )


def why_not(backend: str, device: torch.device, dtype: torch.dtype, head_dims: Sequence[int]) -> str | None:
    """What keeps a backend from working here; ``None`` if it works."""
    package = _package(backend)
    if package and find_spec(package) is None:
        return f"the package {package} is not installed"
    try:
        with torch.no_grad(), attention_backend(backend):
            # an uncompiled flex attention takes seconds to start and runs everywhere: only its presence is checked
            for width in head_dims if backend != AttentionBackendName.FLEX.value else ():
                # odd lengths, as those of the audio
                query = torch.zeros(1, 37, 2, width, device=device, dtype=dtype)
                context = torch.zeros(1, 53, 2, width, device=device, dtype=dtype)
                out = dispatch_attention_fn(query, context, context)
                if not bool(out.isfinite().all()):  # also waits for the device, whose errors come late
                    return "it gives numbers that are not finite"
    except Exception as error:  # kernels raise whatever they like, import errors and downloads included
        return next(iter(str(error).splitlines()), "") or type(error).__name__
    return None


def use_attention(model: nn.Module, choice: AttentionChoice) -> None:
    """Put the backends to work in a joint network.

    diffusers' ``set_attention_backend`` would change the default of every other model in the process as well.
    """
    for name, module in model.named_modules():
        if isinstance(module, Attention):
            backend = choice.video if name.endswith(".video.self_attn") else choice.others
            module.processor._attention_backend = AttentionBackendName(backend)  # type: ignore[attr-defined]


def _choose_exact(device: torch.device, dtype: torch.dtype, head_dims: Sequence[int]) -> AttentionChoice:
    """The fastest that works: on an H100 at 16k tokens FlashAttention 3 does about 650 TFLOP/s, cuDNN 600, FlashAttention 2
    370 (Shah et al., arXiv 2407.08608).
    """
    candidates: tuple[str, ...] = (EXACT,)
    if device.type == "cuda" and dtype != torch.float32 and torch.version.hip is None:
        generation = torch.cuda.get_device_capability(device)[0]
        if generation >= 10:
            candidates = ("flash_4_hub", "_native_cudnn", EXACT)
        else:
            candidates = ("_flash_3", "_flash_3_hub", "_native_cudnn", EXACT) if generation == 9 else ("flash", EXACT)
    passed_over: list[str] = []
    for backend in candidates:
        problem = why_not(backend, device, dtype, head_dims)
        if problem is None:
            reason = f"the fastest exact one on {device}" + "".join(f"; {text}" for text in passed_over)
            return AttentionChoice(backend, backend, reason)
        passed_over.append(f"not {backend}: {problem}")
    return AttentionChoice(reason="nothing else works" + "".join(f"; {text}" for text in passed_over))


def _choose_named(backend: str, device: torch.device, dtype: torch.dtype, head_dims: Sequence[int]) -> AttentionChoice:
    if "sage" in backend:  # attention itself is approximated, in 8 bits
        others = _choose_exact(device, dtype, head_dims).video
        return AttentionChoice(backend, others, "asked for; 8 bits, so only where video reads video")
    if backend == AttentionBackendName.FLEX.value:
        return AttentionChoice(backend, backend, "asked for; holds all scores in memory unless the model is compiled")
    return AttentionChoice(backend, backend, "asked for")


def _package(backend: str) -> str | None:
    """The import that a backend needs beside torch."""
    if backend.endswith("_hub"):
        return "kernels"
    if backend.startswith(("_flash_3", "_flash_varlen_3")):
        return "flash_attn_interface"
    if backend.startswith("flash"):
        return "flash_attn"
    if "sage" in backend:
        return "sageattention"
    return "xformers" if backend == "xformers" else None
