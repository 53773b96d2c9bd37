"""What the joint network costs: operations and weights, from its configuration files alone.

An addition and a multiplication are two operations, and matrix products, convolutions and attention are counted and nothing
else: the rule of torch's ``FlopCounterMode``, whose counts these formulas equal exactly. Everything is a whole number.

Symbols: B batch, D width, F feed-forward width, N layers, P latents per patch, L tokens of a tower (Lv video, La audio),
S text tokens, U distinct noise levels, Dv and Da the widths of the video's and the audio's tower.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

# strategy -> number of interacting layers, given the depth of the shallower tower (spec 3.6); the layers themselves are
# in mova.models.bridge, which needs torch
INTERACTING: dict[str, Callable[[int], int]] = {
    "full": lambda n: n,
    "distributed": lambda n: len(range(0, n, 3)),
    "shallow_focus": lambda n: min(10, n // 3),
    "progressive": lambda n: min(8, n) + len(range(8, n, 3)),
    "custom": lambda n: sum(layer < n for layer in (0, 2, 4, 6, 8, 12, 16, 20)),
}


@dataclass(frozen=True)
class Tower:
    """Sizes of a tower, by the names of its ``config.json``; ``patch`` is P, the product of ``patch_size``."""

    dim: int
    ffn_dim: int
    num_layers: int
    num_heads: int
    in_dim: int
    out_dim: int
    text_dim: int
    freq_dim: int = 256
    patch_size: tuple[int, ...] = (1, 2, 2)

    @property
    def patch(self) -> int:
        """Latents per token."""
        return math.prod(self.patch_size)

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> Tower:
        """Reads a ``config.json``; unknown keys have no effect.

        Raises:
            ValueError: If a size is missing or not a positive whole number.
        """
        names = ("dim", "ffn_dim", "num_layers", "num_heads", "in_dim", "out_dim", "text_dim")
        sizes = {name: whole(config, name) for name in names}
        patch = tuple(config.get("patch_size", (1, 2, 2)))
        return Tower(**sizes, freq_dim=whole(config, "freq_dim", 256), patch_size=patch)


@dataclass(frozen=True)
class Bridge:
    """The bridge: in how many layers the towers read each other, and its two optional parts."""

    num_layers: int
    head_dim: int = 128
    is_pooled: bool = False
    has_trained_scale: bool = False

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> Bridge:
        """Reads a ``config.json``.

        Raises:
            ValueError: If a size is missing or the strategy is unknown.
        """
        strategy = config.get("interaction_strategy", "full")
        if strategy not in INTERACTING:
            raise ValueError(f"interaction_strategy must be one of {', '.join(INTERACTING)}; got {strategy!r}.")
        return Bridge(
            num_layers=INTERACTING[strategy](min(whole(config, "visual_layers"), whole(config, "audio_layers"))),
            head_dim=whole(config, "head_dim", 128),
            is_pooled=bool(config.get("pooled_adaln", False)),
            has_trained_scale=bool(config.get("trainable_condition_scale", False)),
        )


@dataclass(frozen=True)
class Network:
    """Two towers and a bridge: one expert."""

    video: Tower
    audio: Tower
    bridge: Bridge

    @staticmethod
    def from_configs(video: Mapping[str, Any], audio: Mapping[str, Any], bridge: Mapping[str, Any]) -> Network:
        """Of three ``config.json``.

        Raises:
            ValueError: If one of them lacks a size.
        """
        return Network(Tower.from_config(video), Tower.from_config(audio), Bridge.from_config(bridge))


@dataclass(frozen=True)
class Lengths:
    """Tokens of one clip.

    Args:
        video: Video tokens Lv.
        audio: Audio tokens La.
        text: Text tokens S; the prompt is padded, so that its length does not matter.
        frames: Video latents along time.
    """

    video: int
    audio: int
    text: int
    frames: int


@dataclass(frozen=True)
class Weights:
    """Parameters of a stack of layers.

    Args:
        doors: Outside the blocks: embeddings and head.
        blocks: Of each block.
    """

    doors: int
    blocks: tuple[int, ...]

    @property
    def total(self) -> int:
        """All of them."""
        return self.doors + sum(self.blocks)


Branch = tuple[bool, bool, bool]
"""(has text, has bridge, is perturbed): a :class:`mova.request.terms.Branch`."""


def forward_flops(
    network: Network,
    lengths: Lengths,
    *,
    batch: int = 1,
    has_bridge: bool = True,
    is_perturbed: bool = False,
    levels: tuple[int, int] = (1, 1),
) -> dict[str, int]:
    """Operations of one forward pass by part, without those that depend on the text alone (:func:`text_flops`).

    Per layer: self-attention ``4 B L^2 D`` and its projections ``8 B L D^2``; feed-forward ``4 B L D F``; text
    attention ``4 B L S D`` and its query and output projections ``4 B L D^2``. Doors: ``2 B L D P (in + out)`` and the
    time embedding ``2 U (freq D + 7 D^2)``. The bridge: see :func:`reading_flops`.

    Args:
        network: Its sizes.
        lengths: Tokens.
        batch: Clips in the pass.
        has_bridge: False where guidance turns the bridge off: nothing of it is computed then.
        is_perturbed: Whether the tokens of :func:`middle_layers` read themselves only: no attention there, and of its
            projections two.
        levels: Distinct noise levels U of video and audio: 1 unless tokens differ.
    """
    video, audio, text = network.video, network.audio, lengths.text
    video_tokens, audio_tokens = batch * lengths.video, batch * lengths.audio
    bridge_layers = network.bridge.num_layers if has_bridge else 0
    pooling = pooling_flops(network, lengths, batch) if network.bridge.is_pooled else 0
    alone = len(middle_layers(network)) if is_perturbed else 0
    return {
        "video self-attention": (video.num_layers - alone) * 4 * video_tokens * lengths.video * video.dim,
        "video projections": (2 * video.num_layers - alone) * 4 * video_tokens * video.dim**2,
        "video feed-forward": video.num_layers * 4 * video_tokens * video.dim * video.ffn_dim,
        "video text attention": video.num_layers * (4 * video_tokens * text * video.dim + 4 * video_tokens * video.dim**2),
        "audio tower": audio.num_layers
        * (4 * audio_tokens * audio.dim * (lengths.audio + text + 3 * audio.dim + audio.ffn_dim))
        - alone * 4 * audio_tokens * audio.dim * (lengths.audio + audio.dim),
        "bridge a2v": bridge_layers * reading_flops(video_tokens, audio_tokens, lengths.audio, video.dim, audio.dim),
        "bridge v2a": bridge_layers
        * (reading_flops(audio_tokens, video_tokens, lengths.video, audio.dim, video.dim) + pooling),
        "doors and heads": _door_flops(video, video_tokens, levels[0]) + _door_flops(audio, audio_tokens, levels[1]),
    }


def middle_layers(network: Network) -> range:
    """Where self-guidance perturbs: as :attr:`mova.models.joint.JointModel.middle_layers`, which needs torch."""
    depth = min(network.video.num_layers, network.audio.num_layers)
    first = 3 * depth // 8
    return range(first, max(5 * depth // 8, first + 1))


def text_flops(network: Network, lengths: Lengths, *, batch: int = 1) -> dict[str, int]:
    """Operations of a tower on the text alone: ``2 B S (text_dim D + D^2)``, and ``4 B S D^2`` a layer for keys and values.

    A run computes them once a prompt, not once a step; the audio's once for both experts.
    """
    tokens = batch * lengths.text
    return {
        name: 2 * tokens * (tower.text_dim * tower.dim + tower.dim**2) + tower.num_layers * 4 * tokens * tower.dim**2
        for name, tower in (("video", network.video), ("audio", network.audio))
    }


def reading_flops(readers: int, read: int, context: int, dim: int, context_dim: int) -> int:
    """One direction of the bridge in one layer: ``4 X D^2 + 4 Y C D + 4 X Y' D``.

    Args:
        readers: Tokens X that read, of the whole batch.
        read: Tokens Y that are read, of the whole batch.
        context: Tokens Y' that one reader sees.
        dim: Width D of the reader.
        context_dim: Width C of what is read.
    """
    return 4 * readers * dim**2 + 4 * read * context_dim * dim + 4 * readers * context * dim


def pooling_flops(network: Network, lengths: Lengths, batch: int = 1) -> int:
    """Pooled video frames of one layer (``pooled_adaln``): ``4 B T C^2 + 4 B Lv C^2 + 4 B Lv C + 4 B La C D``.

    One learned query a latent frame T over the width C of the video, then a scale and a shift for each audio token.
    """
    frames, video_tokens, audio_tokens = batch * lengths.frames, batch * lengths.video, batch * lengths.audio
    width, dim = network.video.dim, network.audio.dim
    return 4 * frames * width**2 + 4 * video_tokens * width**2 + 4 * video_tokens * width + 4 * audio_tokens * width * dim


def step_flops(network: Network, lengths: Lengths, branches: Collection[Branch]) -> int:
    """Operations of one guided velocity: the sum of its evaluations."""
    return sum(
        sum(forward_flops(network, lengths, has_bridge=has_bridge, is_perturbed=is_perturbed).values())
        for _, has_bridge, is_perturbed in branches
    )


def prompt_flops(network: Network, lengths: Lengths, branches: Collection[Branch], *, num_experts: int = 1) -> int:
    """Operations of a run on its prompts: :func:`text_flops` of each text, the video's once an expert."""
    once = text_flops(network, lengths)
    return num_texts(branches) * (num_experts * once["video"] + once["audio"])


def num_texts(branches: Collection[Branch]) -> int:
    """Texts that evaluations read: the prompt, the negative one, or both."""
    return len({has_text for has_text, _, _ in branches})


def tower_weights(tower: Tower) -> Weights:
    """Parameters of a tower (spec 2).

    A block: ``8 (D^2 + D)`` projections, ``4 D`` query and key norms, ``2 D`` norm, ``2 D F + F + D``, ``6 D`` modulation.
    """
    dim, patch = tower.dim, tower.patch
    block = 8 * (dim**2 + dim) + 4 * dim + 2 * dim + 2 * dim * tower.ffn_dim + tower.ffn_dim + dim + 6 * dim
    doors = (
        (tower.in_dim * patch + 1) * dim  # patches
        + (tower.text_dim + 1) * dim + (dim + 1) * dim  # text
        + (tower.freq_dim + 1) * dim + (dim + 1) * dim + (dim + 1) * 6 * dim  # noise level
        + 2 * dim + (dim + 1) * tower.out_dim * patch  # head
    )  # fmt: skip
    return Weights(doors=doors, blocks=(block,) * tower.num_layers)


def bridge_weights(network: Network) -> Weights:
    """Parameters of the bridge: each direction ``2 (D^2 + D) + 2 (C D + D) + 2 D + 2 C`` with reader D and read C."""
    video, audio, bridge = network.video.dim, network.audio.dim, network.bridge
    layer = _reading_weights(video, audio) + _reading_weights(audio, video)
    if bridge.has_trained_scale:
        layer += 2
    if bridge.is_pooled:
        layer += video + 4 * (video**2 + video) + 2 * video + (video + 1) * 2 * audio
    return Weights(doors=0, blocks=(layer,) * bridge.num_layers)


def network_weights(network: Network) -> Weights:
    """Parameters of one expert with audio and bridge, layer by layer as ``transformer_blocks`` holds them."""
    parts = (tower_weights(network.video), tower_weights(network.audio), bridge_weights(network))
    depth = max(len(part.blocks) for part in parts)
    return Weights(
        doors=sum(part.doors for part in parts),
        # interacting layers need not be the first ones; for the largest layer and the sum it makes no difference
        blocks=tuple(sum(part.blocks[i] for part in parts if i < len(part.blocks)) for i in range(depth)),
    )


def text_encoder_weights(config: Mapping[str, Any]) -> Weights:
    """Parameters of a UMT5 encoder: a layer has ``4 d H + 3 d d_ff + 2 d + heads buckets`` (H all heads together).

    Raises:
        ValueError: If a size is missing.
    """
    dim, inner = whole(config, "d_model"), whole(config, "num_heads") * whole(config, "d_kv")
    bias = whole(config, "num_heads") * whole(config, "relative_attention_num_buckets", 32)
    layer = 4 * dim * inner + 3 * dim * whole(config, "d_ff") + 2 * dim + bias
    return Weights(doors=whole(config, "vocab_size") * dim + dim, blocks=(layer,) * whole(config, "num_layers"))


def text_encoder_flops(config: Mapping[str, Any], tokens: int) -> int:
    """Operations of a UMT5 encoder on one prompt of S tokens: a layer ``8 S d H + 4 S^2 H + 6 S d d_ff``.

    Raises:
        ValueError: If a size is missing.
    """
    dim, inner = whole(config, "d_model"), whole(config, "num_heads") * whole(config, "d_kv")
    layer = 8 * tokens * dim * inner + 4 * tokens**2 * inner + 6 * tokens * dim * whole(config, "d_ff")
    return whole(config, "num_layers") * layer


def whole(config: Mapping[str, Any], name: str, default: int | None = None) -> int:
    """A positive whole number of a configuration.

    Raises:
        ValueError: If it is missing or something else.
    """
    value = config.get(name)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a positive whole number; got {value!r}.")
    return value


def _door_flops(tower: Tower, tokens: int, levels: int) -> int:
    patches = 2 * tokens * tower.dim * tower.patch * (tower.in_dim + tower.out_dim)
    return patches + 2 * levels * (tower.freq_dim * tower.dim + 7 * tower.dim**2)


def _reading_weights(dim: int, context_dim: int) -> int:
    return 2 * (dim**2 + dim) + 2 * (context_dim * dim + dim) + 2 * dim + 2 * context_dim
