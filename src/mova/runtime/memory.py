"""What fits where: bytes of weights and tensors in each stage of a run, for each way of holding the weights.

A run has three stages: the text encoder, the steps, the codecs. ``offload`` says whether the weights all stay on the device,
come and go whole, or, those of the joint network, block by block; and the matrices of the video's blocks can be stored in
8 bits (see :class:`mova.runtime.options.RuntimeOptions`). Weights are counted exactly. Tensors are estimated: the largest set
that the code as written holds at one time, without what the device's driver, its kernels and its allocator take for
themselves, for which :data:`RESERVE_BYTES` is set aside.

Symbols: L video tokens, D the video's width, F its feed-forward width, S text tokens, a bytes per number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mova.runtime.codec_costs import CodecCost
from mova.runtime.costs import Branch, Lengths, Network, Weights, network_weights, num_texts, tower_weights, whole
from mova.runtime.options import Offload

Stored = Literal["16 bit", "8 bit"]
Stage = Literal["text", "denoise", "decode"]

RESERVE_BYTES = 10**9  # driver, kernels' workspace, fragments: about a gigabyte on today's devices
OFFLOADS: tuple[Offload, ...] = ("none", "component", "block")
STORED: tuple[Stored, ...] = ("16 bit", "8 bit")
STAGES: tuple[Stage, ...] = ("text", "denoise", "decode")
HALF, FLOAT = 2, 4  # bytes of a number


@dataclass(frozen=True)
class Model:
    """Everything that a run loads.

    Args:
        network: One expert with audio and bridge.
        num_experts: One or two; two share audio and bridge.
        text_encoder: Its parameters.
        text_config: Its ``config.json``.
        video_codec: Price of decoding the video.
        audio_codec: Price of decoding the audio.
    """

    network: Network
    num_experts: int
    text_encoder: Weights
    text_config: Mapping[str, Any]
    video_codec: CodecCost
    audio_codec: CodecCost


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


def choices(model: Model, lengths: Lengths, branches: Sequence[Branch]) -> list[Choice]:
    """Every way, in the order of preference: exact before 8 bit, and within each the fastest first."""
    return [_choice(model, lengths, branches, offload, stored) for stored in STORED for offload in OFFLOADS]


def first_that_fits(ways: Sequence[Choice], gpu_bytes: int) -> Choice | None:
    """The first way whose peak is within a device's memory."""
    return next((way for way in ways if way.peak_bytes <= gpu_bytes), None)


def network_bytes(network: Network, stored: Stored) -> tuple[int, tuple[int, ...]]:
    """Bytes of one expert with audio and bridge: outside the blocks, and of each block.

    In 8 bit the eight ``D x D`` and two ``D x F`` matrices of a video block take a byte a number, and four for each row's
    scale. Biases, norms, audio, bridge, and all that is outside the blocks stay as they are.
    """
    weights = network_weights(network)
    saved = 0 if stored == "16 bit" else _saving(network)
    return HALF * weights.doors, tuple(
        HALF * block - (saved if layer < network.video.num_layers else 0) for layer, block in enumerate(weights.blocks)
    )


def denoise_tensors(network: Network, lengths: Lengths, branches: Sequence[Branch], *, num_experts: int, width: int) -> int:
    """Largest memory of tensors during the steps: the video's block at work, the kept text, the positions, the latents.

    At the largest moment a block of the video's tower holds, in units of ``L D a``: the tokens as they came in (and, where
    the bridge reads, their sum with what it read); the normed tokens, query, key before and after turning, and value; and
    while positions turn the key, float32 copies: ``4 L D`` bytes where a is not 4, and ``8 L D`` for the products. Or, if
    that is more, the feed-forward layer's ``2 L F a`` with two ``L D a``.

    Args:
        network: Its sizes.
        lengths: Tokens.
        branches: Evaluations of a step: each text keeps its keys and values.
        num_experts: Experts that keep them; the audio's are shared.
        width: Bytes of a number, a.
    """
    video, audio = network.video, network.audio
    state = lengths.video * video.dim
    came_in = 2 if network.bridge.num_layers else 1
    turning = (came_in + 4) * state * width + state * (8 + (0 if width == FLOAT else 4))
    feeding = (came_in + 2) * state * width + 2 * lengths.video * video.ffn_dim * width
    kept = num_texts(branches) * lengths.text * width * (
        num_experts * (2 * video.num_layers + 1) * video.dim + (2 * audio.num_layers + 1) * audio.dim
    )  # fmt: skip
    positions = lengths.video * (video.dim // video.num_heads + network.bridge.head_dim) * FLOAT
    # noise, latents, the step's result, and one velocity a branch and their sum, all float32; and the network's input
    latents = lengths.video * video.patch * ((4 + len(branches)) * FLOAT * video.out_dim + width * video.in_dim)
    return max(turning, feeding) + kept + positions + latents


def text_tensors(config: Mapping[str, Any], tokens: int, width: int) -> int:
    """Tensors of a UMT5 encoder: six times the scores of all heads, ``heads S^2``, and a gated layer's three states."""
    scores = whole(config, "num_heads") * tokens**2
    return width * (6 * scores + tokens * (3 * whole(config, "d_ff") + 4 * whole(config, "d_model")))


def _choice(model: Model, lengths: Lengths, branches: Sequence[Branch], offload: Offload, stored: Stored) -> Choice:
    network = model.network
    doors, blocks = network_bytes(network, stored)
    encoder = HALF * model.text_encoder.total
    codecs = (FLOAT * model.video_codec.parameters, FLOAT * model.audio_codec.parameters)
    everything = encoder + doors + sum(blocks) + (model.num_experts - 1) * _video_tower_bytes(network, stored) + sum(codecs)
    decoding = (model.video_codec.decode_bytes, model.audio_codec.decode_bytes)
    if offload == "none":
        resident: dict[Stage, int] = dict.fromkeys(STAGES, everything)
        decode = StageBytes(everything, max(decoding))
    else:
        # block by block: the one at work, and the next, which is on its way
        at_work = sum(blocks) if offload == "component" else 2 * max(blocks, default=0)
        resident = {"text": encoder, "denoise": doors + at_work}
        # one codec after the other: only the larger of the two moments counts
        moments = (StageBytes(weights, tensors) for weights, tensors in zip(codecs, decoding, strict=True))
        decode = max(moments, key=lambda moment: moment.total)
    # a matrix in 8 bit is widened while it works
    widened = 0 if stored == "16 bit" else HALF * network.video.dim * max(network.video.dim, network.video.ffn_dim)
    tensors = denoise_tensors(network, lengths, branches, num_experts=model.num_experts, width=HALF)
    return Choice(
        offload=offload,
        stored=stored,
        stages={
            "text": StageBytes(resident["text"], text_tensors(model.text_config, lengths.text, HALF)),
            "denoise": StageBytes(resident["denoise"], tensors + widened),
            "decode": decode,
        },
        host_bytes=0 if offload == "none" else everything,
        streamed_bytes=sum(blocks) if offload == "block" else 0,
    )


def _video_tower_bytes(network: Network, stored: Stored) -> int:
    """What a second expert adds: audio and bridge are shared."""
    tower = tower_weights(network.video)
    return HALF * tower.total - (0 if stored == "16 bit" else _saving(network) * len(tower.blocks))


def _saving(network: Network) -> int:
    """Bytes that 8 bit saves in a video block: one for each number of its matrices, less four a row."""
    dim, ffn_dim = network.video.dim, network.video.ffn_dim
    return 8 * dim**2 + 2 * dim * ffn_dim - FLOAT * (9 * dim + ffn_dim)
