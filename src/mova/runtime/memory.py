"""What fits where: bytes of weights and tensors in each stage of a run, for each way of holding the weights.

A run has three stages: the text encoder, the steps, the codecs. ``offload`` says whether the weights all stay on the device,
come and go whole, or, those of the joint network, block by block; and the matrices of the video's blocks can be stored in
8 bits (see :class:`mova.runtime.options.RuntimeOptions`). Weights are counted exactly. Tensors are the largest set that the
code as written holds at one time (:mod:`mova.runtime.meter`), without what the device's driver, its kernels and its allocator
take for themselves, for which :data:`RESERVE_BYTES` is set aside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mova.models.joint import JointModel
from mova.runtime.estimate import ComponentCost, Lengths, NetworkCost, count_parameters
from mova.runtime.options import Offload
from mova.runtime.weights import list_quantised_weights
from mova.sampling.guidance import Branch

Stored = Literal["16 bit", "8 bit"]
Stage = Literal["text", "denoise", "decode"]

RESERVE_BYTES = 10**9  # driver, kernels' workspace, fragments: about a gigabyte on today's devices
OFFLOADS: tuple[Offload, ...] = ("none", "component", "block")
STORED: tuple[Stored, ...] = ("16 bit", "8 bit")
STAGES: tuple[Stage, ...] = ("text", "denoise", "decode")
HALF, FLOAT = 2, 4  # bytes of a number


@dataclass(frozen=True)
class ModelCost:
    """Cost of everything that a run loads.

    Args:
        network: One expert with audio and bridge.
        num_experts: Number of experts, one or two; two share audio and bridge.
        text_encoder: Cost of encoding one prompt.
        video_codec: Cost of decoding the video.
        audio_codec: Cost of decoding the audio.
    """

    network: NetworkCost
    num_experts: int
    text_encoder: ComponentCost
    video_codec: ComponentCost
    audio_codec: ComponentCost


@dataclass(frozen=True)
class StageBytes:
    """Memory of one stage on the device."""

    weights: int
    tensors: int

    @property
    def total(self) -> int:
        """Both."""
        return self.weights + self.tensors


@dataclass(frozen=True)
class Choice:
    """A way of holding the weights, and what it takes.

    Args:
        offload: What comes and goes.
        stored: How the weights of the joint network's blocks are stored.
        stages: Memory of each stage.
        host_bytes: Weights that wait in the host's memory.
        streamed_bytes: Weights that cross to the device in each evaluation of the network.
    """

    offload: Offload
    stored: Stored
    stages: Mapping[Stage, StageBytes]
    host_bytes: int
    streamed_bytes: int

    @property
    def peak_bytes(self) -> int:
        """Of the largest stage, with the reserve."""
        return max(stage.total for stage in self.stages.values()) + RESERVE_BYTES


def choices(model: ModelCost, lengths: Lengths, branches: Sequence[Branch]) -> list[Choice]:
    """Every way, in the order of preference: exact before 8 bit, and within each the fastest first."""
    tensors = model.network.step_bytes(lengths, branches, num_experts=model.num_experts)
    return [_choice(model, tensors, offload, stored) for stored in STORED for offload in OFFLOADS]


def first_that_fits(ways: Sequence[Choice], gpu_bytes: int) -> Choice | None:
    """The first way whose peak is within a device's memory."""
    return next((way for way in ways if way.peak_bytes <= gpu_bytes), None)


def network_bytes(network: JointModel, stored: Stored) -> tuple[int, tuple[int, ...]]:
    """Bytes of one expert with audio and bridge: outside the blocks, and of each block.

    In 8 bit the matrices of a video block (:func:`mova.runtime.weights.list_quantised_weights`) take a byte a number, and four
    for each row's scale. Biases, norms, audio, bridge, and all that is outside the blocks stay as they are.
    """
    saved = _savings(network) if stored == "8 bit" else {}
    blocks = [
        HALF * count_parameters(block) - sum(saved.get(f"transformer_blocks.{index}.{name}", 0) for name in block.state_dict())
        for index, block in enumerate(network.transformer_blocks)
    ]
    inside = count_parameters(network.transformer_blocks)
    return HALF * (count_parameters(network) - inside), tuple(blocks)


def _choice(model: ModelCost, step_tensors: int, offload: Offload, stored: Stored) -> Choice:
    network = model.network.model
    outside, blocks = network_bytes(network, stored)
    encoder = HALF * model.text_encoder.parameters
    codecs = [(FLOAT * codec.parameters, codec.peak_bytes) for codec in (model.video_codec, model.audio_codec)]
    saved = _savings(network) if stored == "8 bit" else {}
    # audio and bridge are shared: another expert adds a video tower
    expert = HALF * model.network.parameters["video_dit"] - sum(saved.values())
    everything = encoder + outside + sum(blocks) + (model.num_experts - 1) * expert + sum(weights for weights, _ in codecs)
    if offload == "none":
        resident: dict[Stage, int] = dict.fromkeys(STAGES, everything)
        decode = StageBytes(everything, max(tensors for _, tensors in codecs))
    else:
        # block by block: the one at work, and the next, which is on its way
        at_work = sum(blocks) if offload == "component" else 2 * max(blocks, default=0)
        resident = {"text": encoder, "denoise": outside + at_work}
        # one codec after the other: only the larger of the two moments counts
        decode = max((StageBytes(*codec) for codec in codecs), key=lambda moment: moment.total)
    # a matrix in 8 bit is widened while it works
    widened = max((HALF * network.get_parameter(name).numel() for name in saved), default=0)
    return Choice(
        offload=offload,
        stored=stored,
        stages={
            "text": StageBytes(resident["text"], model.text_encoder.peak_bytes),
            "denoise": StageBytes(resident["denoise"], step_tensors + widened),
            "decode": decode,
        },
        host_bytes=0 if offload == "none" else everything,
        streamed_bytes=sum(blocks) if offload == "block" else 0,
    )


def _savings(network: JointModel) -> dict[str, int]:
    """Bytes that 8 bit saves in each matrix: one for each number, less four a row."""
    weights = {name: network.get_parameter(name) for name in list_quantised_weights(network)}
    return {name: weight.numel() - FLOAT * weight.shape[0] for name, weight in weights.items()}
