"""From options to decisions, and from decisions to work. Every choice comes with its reason as text, and everything that can be
wrong with the options is found before any weight is read.

Attention goes through diffusers' dispatch. A backend counts as working only when a small call of it has succeeded on the
device, in the number format and at the head widths of the run: packages that are installed but broken, or kernels for other
hardware, are found here and not in the middle of a run.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Protocol

import torch
from diffusers.models.attention_dispatch import AttentionBackendName, attention_backend, dispatch_attention_fn
from torch import nn

from mova.errors import MissingExtraError, RequestError
from mova.models.layers import Attention
from mova.runtime.options import TORCHAO, Offload, Quantisation, RuntimeOptions, SecondExpert
from mova.runtime.threads import MAX_EXACT_PARAMETERS, MAX_EXACT_THREADS
from mova.runtime.weights import check_quantisation, offload_blocks

# a family's members, best first; the plain names that users know
FAMILIES: dict[str, tuple[str, ...]] = {
    "sdpa": ("native",),
    "flash": ("_flash_3", "_flash_3_hub", "flash_4_hub", "flash", "flash_hub", "_native_flash"),
    "flex": ("flex",),
    "sage": ("sage", "sage_hub"),
}
EXACT = "native"
ATTENTION_EXTRA = "attention"


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
        raise MissingExtraError(missing[-1], ATTENTION_EXTRA)
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


def choose_device(asked: str | torch.device) -> tuple[torch.device, str]:
    """The device to compute on, and why.

    Args:
        asked: ``"auto"`` takes the accelerator that torch sees, else the CPU.

    Raises:
        RequestError: If the device asked for is not there.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if str(asked) == "auto":
        if accelerator is None:
            return torch.device("cpu"), "torch sees no accelerator"
        return torch.device(accelerator.type), f"the accelerator of this machine, {device_name(accelerator)}"
    available = ["cpu"]
    if accelerator is not None:
        available += [f"{accelerator.type}:{index}" for index in range(torch.accelerator.device_count())]
    if str(asked) in available or (accelerator is not None and str(asked) == accelerator.type):
        return torch.device(asked), "asked for"
    raise RequestError(
        f"there is no device {str(asked)!r}; this machine has {', '.join(available)}.",
        "Leave device to 'auto', or install a torch that is built for your accelerator.",
        field="device",
    )


def choose_dtype(options: RuntimeOptions, device: torch.device, *, num_parameters: int) -> tuple[torch.dtype, str]:
    """The number format of the joint network and the text encoder, and why.

    Args:
        options: ``dtype`` and ``quantisation`` have a say.
        device: Device of the run.
        num_parameters: Parameters of the whole model; one that would fill the memory in float32 gets bfloat16.
    """
    if options.dtype_name != "auto":
        return getattr(torch, options.dtype_name), "asked for"
    if options.quantisation in TORCHAO:
        return torch.bfloat16, f"{options.quantisation} weights are multiplied in it"
    if device.type == "cuda":
        if torch.cuda.get_device_capability(device) >= (8, 0):
            return torch.bfloat16, f"{device_name(device)} computes in it, and the official weights are stored in it"
        return torch.float32, f"{device_name(device)} has no bfloat16 units, and the text encoder overflows in float16"
    if device.type != "cpu":
        return torch.bfloat16, "the official weights are stored in it"
    needed, memory = 4 * num_parameters, host_memory()
    if needed > memory // 2:
        return torch.bfloat16, f"float32 would take {needed / 1e9:.0f} GB of this machine's {memory / 1e9:.0f} GB"
    return torch.float32, "a CPU gives the same clip everywhere in it"


def device_name(device: torch.device) -> str:
    """A device as people call it, with its memory where torch tells it."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{properties.name} ({properties.total_memory / 1e9:.0f} GB)"
    return device.type


def host_memory() -> int:
    """Bytes of this machine's memory; a petabyte where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on every system
        return 10**15


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelFacts:
    """What the decisions need to know of a model, from its configurations and the headers of its files.

    Attributes:
        num_parameters: Parameters of all components.
        num_experts: Number of experts, one or two.
        head_dims: Widths of its attention heads.
        video_vae: Class of the video codec, for messages.
        has_tiling: Whether that codec can work on tiles.
        has_slicing: Whether it can take clips one by one.
    """

    num_parameters: int
    num_experts: int = 1
    head_dims: tuple[int, ...] = (128,)
    video_vae: str = "the video codec"
    has_tiling: bool = True
    has_slicing: bool = True


@dataclass(frozen=True)
class Runtime:
    """How a model runs: every option resolved.

    Attributes:
        device: Device that computes.
        dtype: Number format of the joint network and the text encoder.
        offload: Weights that wait in host memory.
        quantisation: Weight format of the video tower's blocks.
        attention: Attention backends.
        vae_tiling: Whether the video codec works on tiles.
        vae_slicing: Whether it takes clips one by one.
        threads: Threads that compute on a CPU; torch's own number if None.
        same_for_any_threads: Whether a clip does not depend on it.
        second_expert: Time at which the second expert is read.
        drop_first_expert: Whether an expert leaves memory when the other takes over.
        reasons: Reasons, one line a decision.
    """

    device: torch.device
    dtype: torch.dtype
    offload: Offload = "none"
    quantisation: Quantisation = "none"
    attention: AttentionChoice = field(default_factory=AttentionChoice)
    vae_tiling: bool = False
    vae_slicing: bool = False
    threads: int | None = None
    same_for_any_threads: bool = False
    second_expert: SecondExpert = "resident"
    drop_first_expert: bool = False
    reasons: tuple[str, ...] = ()

    @property
    def home(self) -> torch.device:
        """Where weights rest between calls."""
        return self.device if self.offload == "none" else torch.device("cpu")

    @property
    def is_streamed(self) -> bool:
        """Whether blocks are copied while others work: torchao's tensors cannot be pinned reliably (diffusers issues
        13281 and 14433), and only CUDA has the streams.
        """
        return self.offload == "block" and self.device.type == "cuda" and self.quantisation not in TORCHAO


def resolve_runtime(options: RuntimeOptions, facts: ModelFacts) -> Runtime:
    """Decide, and log the reasons.

    Raises:
        RequestError: If something asked for cannot be had on this machine or from this model.
        MissingExtraError: If it needs a package that is not installed.
    """
    device, why_device = choose_device(options.device)
    check_quantisation(options.quantisation)
    dtype, why_dtype = choose_dtype(options, device, num_parameters=facts.num_parameters)
    offload, why_offload = _offload(options, device)
    _check_codec(options, facts)
    attention = choose_attention(options.attention_backend, device, dtype, head_dims=facts.head_dims)
    names = attention.video if attention.video == attention.others else f"{attention.video} and {attention.others}"
    reasons = [
        f"device {device}: {why_device}",
        f"dtype {str(dtype).removeprefix('torch.')}: {why_dtype}",
        f"attention {names}: {attention.reason}",
        *why_offload,
    ]
    is_small = device.type == "cpu" and dtype == torch.float32 and facts.num_parameters <= MAX_EXACT_PARAMETERS
    is_exact = options.same_for_any_threads and is_small and (options.threads or 0) <= MAX_EXACT_THREADS
    has_two = facts.num_experts == 2
    if options.drop_first_expert and not has_two:
        reasons.append("drop_first_expert: this model has one expert, which stays")
    for reason in reasons:
        logger.info(reason)
    return Runtime(
        device=device,
        dtype=dtype,
        offload=offload,
        quantisation=options.quantisation,
        attention=attention,
        vae_tiling=options.vae_tiling,
        vae_slicing=options.vae_slicing,
        threads=options.threads,
        same_for_any_threads=is_exact,
        second_expert=options.second_expert if has_two else "resident",
        drop_first_expert=options.drop_first_expert and has_two,
        reasons=tuple(reasons),
    )


def _offload(options: RuntimeOptions, device: torch.device) -> tuple[Offload, list[str]]:
    if device.type != "cpu" or options.offload == "none":
        return options.offload, []
    if str(options.device) == "cpu":
        raise RequestError(
            f"offload={options.offload!r} keeps weights in host memory for an accelerator; device 'cpu' computes there.",
            "Leave out offload, or give an accelerator as the device.",
            field="offload",
        )
    return "none", [f"offload none: {options.offload!r} was asked for, but the CPU computes in host memory anyway"]


def _check_codec(options: RuntimeOptions, facts: ModelFacts) -> None:
    for name, is_asked, is_there in (
        ("vae_tiling", options.vae_tiling, facts.has_tiling),
        ("vae_slicing", options.vae_slicing, facts.has_slicing),
    ):
        if is_asked and not is_there:
            raise RequestError(
                f"{name} was asked for; {facts.video_vae}, this model's video codec, cannot do it.",
                "Leave it out: small codecs need little memory.",
                field=name,
            )


class Pipeline(Protocol):
    """What is asked of a pipeline."""

    transformer: Any
    transformer_2: Any
    video_vae: Any
    audio_vae: Any
    text_encoder: Any

    def enable_model_cpu_offload(self, *, device: Any) -> None: ...


def apply_runtime(pipeline: Pipeline, runtime: Runtime) -> None:
    """Attention backends, the codec's tiles and slices, and offloading, in this order.

    Quantisation is in the weights already, and hooks that move weights come last: those that are set before them then
    see weights that are at rest.

    Args:
        pipeline: The pipeline, its weights on ``runtime.home``.
        runtime: Result of :func:`~mova.runtime.resolve.resolve_runtime`.
    """
    experts = [expert for expert in (pipeline.transformer, pipeline.transformer_2) if expert is not None]
    for expert in experts:
        use_attention(expert, runtime.attention)
    if runtime.vae_tiling:
        pipeline.video_vae.enable_tiling()
    if runtime.vae_slicing:
        pipeline.video_vae.enable_slicing()
    if runtime.offload == "component":
        pipeline.enable_model_cpu_offload(device=runtime.device)
    elif runtime.offload == "block":
        others = [pipeline.text_encoder, pipeline.video_vae, pipeline.audio_vae]
        offload_blocks(experts, others, device=runtime.device, is_streamed=runtime.is_streamed)
