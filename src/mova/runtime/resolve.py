"""From options to decisions: everything that can be wrong with them is found here, before any weight is read."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import torch

from mova.errors import RequestError
from mova.runtime.attention import AttentionChoice, choose_attention
from mova.runtime.device import choose_device, choose_dtype
from mova.runtime.options import TORCHAO, Offload, Quantisation, RuntimeOptions, SecondExpert
from mova.runtime.quantise import check_quantisation

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

    Args:
        options: Requested options.
        facts: Facts about the model.

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
