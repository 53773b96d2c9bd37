"""What a run costs, counted on the meta device: operations and weights of the networks as they are built, never derived.

Layers that are alike are measured once and multiplied. Everything is a whole number; see :mod:`mova.runtime.meter` for what
counts as an operation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from mova.models.bridge import BridgeInputs
from mova.models.joint import DualTowerBlock, JointModel, ours_to_official
from mova.models.tower import TextContext, TowerBlock, TowerEmbed, TowerHead, TowerInputs
from mova.runtime.meter import Measurement, measure
from mova.sampling.guidance import Branch

META = torch.device("meta")


@dataclass(frozen=True)
class Lengths:
    """Tokens of one clip.

    Args:
        video: Video tokens.
        audio: Audio tokens.
        text: Text tokens; the prompt is padded, so that its length does not matter.
        frames: Video latents along time.
    """

    video: int
    audio: int
    text: int
    frames: int


@dataclass(frozen=True)
class ComponentCost:
    """Cost of the text encoder, or of a codec's decoder.

    Args:
        parameters: Parameters of the whole component.
        flops: Operations for one prompt or one clip.
        peak_bytes: Largest memory of its tensors at one time, result included, weights excluded.
    """

    parameters: int
    flops: int
    peak_bytes: int


class _Layer(NamedTuple):
    """What makes two layers cost the same."""

    has_video: bool
    has_audio: bool
    has_bridge: bool
    is_perturbed: bool


class NetworkCost:
    """Cost of one expert with audio and bridge.

    Args:
        model: The network; it is moved to the meta device.
        dtype: Number format of the run.
    """

    def __init__(self, model: JointModel, dtype: torch.dtype = torch.bfloat16) -> None:
        self.model = model
        _prepare(model, dtype)
        self.dtype = dtype
        self._layers: dict[tuple[_Layer, Lengths, int], Measurement] = {}

    @property
    def parameters(self) -> Mapping[str, int]:
        """Parameters of each component, by its folder's name in a checkpoint."""
        counts: Counter[str] = Counter()
        for name, parameter in self.model.named_parameters():
            counts[ours_to_official(name)[0]] += parameter.numel()
        return counts

    def lengths(self, grid: tuple[int, ...], audio: int, text: int) -> Lengths:
        """Tokens of a clip.

        Args:
            grid: Video latents (T, h, w).
            audio: Audio latents.
            text: Text tokens.
        """
        patches = zip(grid, self.model.video_embed.patch_size, strict=True)
        video = prod(latents // patch for latents, patch in patches)
        return Lengths(video, audio // self.model.audio_embed.patch_size[0], text, grid[0])

    def forward_flops(
        self,
        lengths: Lengths,
        *,
        batch: int = 1,
        has_bridge: bool = True,
        is_perturbed: bool = False,
        levels: tuple[int, int] = (1, 1),
    ) -> dict[str, int]:
        """Operations of one forward pass by part, without those that depend on the text alone (:meth:`text_flops`).

        Args:
            lengths: Tokens.
            batch: Clips in the pass.
            has_bridge: False where guidance turns the bridge off: nothing of it is computed then.
            is_perturbed: Whether the middle layers have identity attention.
            levels: Distinct noise levels of video and audio: 1 unless tokens differ.
        """
        parts: Counter[str] = Counter()
        for layer, number in self._count_layers(has_bridge=has_bridge, is_perturbed=is_perturbed).items():
            block = self._measure(layer, lengths, batch)
            parts["video self-attention"] += number * block.inside("video.self_attn", "others")
            parts["video projections"] += number * block.inside("video.self_attn", "products")
            parts["video feed-forward"] += number * block.inside("video.ffn")
            parts["video text attention"] += number * block.inside("video.cross_attn")
            parts["audio tower"] += number * block.inside("audio")
            parts["bridge a2v"] += number * block.inside("a2v")
            parts["bridge v2a"] += number * block.inside("v2a")
            if layer.is_perturbed:  # identity attention calls the layers of the module, not the module
                parts["video projections"] += number * sum(
                    block.inside(f"video.self_attn.{name}") for name in ("to_v", "to_out")
                )
        model = self.model
        parts["embeddings and heads"] = self._measure_ends(
            model.video_embed, model.video_head, batch * lengths.video, levels[0]
        ) + self._measure_ends(model.audio_embed, model.audio_head, batch * lengths.audio, levels[1])
        return dict(parts)

    def text_flops(self, lengths: Lengths, *, batch: int = 1) -> dict[str, int]:
        """Operations of each tower on the text alone: its embedding, and keys and values of every block.

        A run computes them once a prompt, not once a step; the audio's once for both experts.
        """
        flops = {}
        for tower, embed in (("video", self.model.video_embed), ("audio", self.model.audio_embed)):
            blocks = [block for block in (getattr(block, tower) for block in self._blocks) if block is not None]
            config = self.model.config[tower]
            prompt = self._empty(batch, lengths.text, config["text_dim"])
            tokens = self._empty(batch, lengths.text, config["dim"])
            embedding = measure(partial(embed.text_embedding, prompt))
            projection = measure(partial(blocks[0].cross_attn.project, tokens))
            flops[tower] = embedding.flops + len(blocks) * projection.flops
        return flops

    def step_flops(self, lengths: Lengths, branches: Collection[Branch]) -> int:
        """Operations of one guided velocity: the sum of its evaluations."""
        return sum(
            sum(self.forward_flops(lengths, has_bridge=branch.has_bridge, is_perturbed=branch.is_perturbed).values())
            for branch in branches
        )

    def prompt_flops(self, lengths: Lengths, branches: Collection[Branch], *, num_experts: int = 1) -> int:
        """Operations of a run on its prompts: :meth:`text_flops` of each text, the video's once an expert."""
        once = self.text_flops(lengths)
        return num_texts(branches) * (num_experts * once["video"] + once["audio"])

    def step_bytes(self, lengths: Lengths, branches: Collection[Branch], *, num_experts: int = 1) -> int:
        """Largest memory of tensors during the steps: the block at work, the text cache, the positions, the latents.

        Args:
            lengths: Tokens.
            branches: Evaluations of a step: each text keeps its keys and values.
            num_experts: Experts that keep them; the audio's are shared.
        """
        video, audio, width = self.model.config["video"], self.model.config["audio"], self.dtype.itemsize
        layers = self._count_layers(has_bridge=True, is_perturbed=False)
        block = max(self._measure(layer, lengths, 1).peak_bytes for layer in layers)
        came_in = lengths.video * video["dim"] * width
        text = num_texts(branches) * lengths.text * width * (
            num_experts * (2 * video["num_layers"] + 1) * video["dim"] + (2 * audio["num_layers"] + 1) * audio["dim"]
        )  # fmt: skip
        positions = lengths.video * (self.model.video_rope.head_dim + self.model.bridge_rope.head_dim) * torch.float32.itemsize
        # noise, latents, the step's result, and one velocity a branch and their sum, all float32; and the network's input
        channels = (4 + len(branches)) * torch.float32.itemsize * video["out_dim"] + width * video["in_dim"]
        latents = lengths.video * prod(self.model.video_embed.patch_size) * channels
        return int(came_in + block + text + positions + latents)

    @property
    def _blocks(self) -> list[DualTowerBlock]:
        return [cast(DualTowerBlock, block) for block in self.model.transformer_blocks]

    def _count_layers(self, *, has_bridge: bool, is_perturbed: bool) -> Counter[_Layer]:
        middle = self.model.middle_layers if is_perturbed else ()
        return Counter(
            _Layer(block.video is not None, block.audio is not None, has_bridge and block.a2v is not None, index in middle)
            for index, block in enumerate(self._blocks)
        )

    def _measure(self, layer: _Layer, lengths: Lengths, batch: int) -> Measurement:
        """One layer of a kind; the text's keys and values are there already."""
        key = (layer, lengths, batch)
        if key not in self._layers:
            block = next(
                block
                for block in self._blocks
                if (block.video is not None, block.audio is not None) == (layer.has_video, layer.has_audio)
                and (block.a2v is not None or not layer.has_bridge)
            )
            model = self.model
            video = self._empty(batch, lengths.video, model.config["video"]["dim"])
            audio = self._empty(batch, lengths.audio, model.config["audio"]["dim"])
            context = TextContext(video)
            video_inputs = self._inputs(block.video, video, lengths.text, model.video_rope.head_dim, layer, context)
            audio_inputs = self._inputs(block.audio, audio, lengths.text, model.audio_rope.head_dim, layer, context)
            head_dim, scale = model.bridge_rope.head_dim, None if layer.has_bridge else 0.0
            bridge_inputs = BridgeInputs(
                lengths.frames,
                video_rope=self._rope(lengths.video, head_dim) if model.has_cross_rope else None,
                audio_rope=self._rope(lengths.audio, head_dim) if model.has_cross_rope else None,
                a2v_scale=scale,
                v2a_scale=scale,
            )
            given = [video, audio, *block.parameters(), *context.cache.values(), video_inputs.levels, audio_inputs.levels]
            self._layers[key] = measure(
                lambda: block(video, audio, video_inputs, audio_inputs, bridge_inputs),
                given=[tensor for one in given for tensor in (one if isinstance(one, tuple) else (one,))],
            )
        return self._layers[key]

    def _inputs(
        self, block: TowerBlock | None, tokens: Tensor, num_text: int, head_dim: int, layer: _Layer, context: TextContext
    ) -> TowerInputs:
        batch, length, dim = tokens.shape
        inputs = TowerInputs(
            levels=self._empty(1, 6, dim),
            index=torch.zeros(batch, dtype=torch.long, device=META),
            text=self._empty(batch, num_text, dim),
            rope=self._rope(length, head_dim),
            context=context,
            identity_attention=layer.is_perturbed,
        )
        if block is not None:
            with torch.no_grad():
                block.text_key_value(inputs)  # fills the cache
        return inputs

    def _measure_ends(self, embed: TowerEmbed, head: TowerHead, num_tokens: int, num_levels: int) -> int:
        """Operations of a tower outside its blocks; the noise levels of a run are not known on the meta device."""
        patch = embed.patch_size
        latents = self._empty(1, embed.patch_embedding.in_channels, num_tokens * patch[0], *patch[1:])
        tokens = self._empty(1, num_tokens, head.head.in_features)
        sinusoids = torch.empty(num_levels, embed.freq_dim, device=META)
        return measure(
            lambda: (embed.patch_embedding(latents), embed.time_projection(embed.time_embedding(sinusoids)), head.head(tokens))
        ).flops

    def _empty(self, *shape: int) -> Tensor:
        return torch.empty(*shape, dtype=self.dtype, device=META)

    def _rope(self, length: int, head_dim: int) -> tuple[Tensor, Tensor]:
        cos, sin = (torch.empty(1, length, 1, head_dim // 2, device=META) for _ in range(2))
        return cos, sin


def num_texts(branches: Collection[Branch]) -> int:
    """Texts that evaluations read: the prompt, the negative one, or both."""
    return len({branch.has_text for branch in branches})


def text_encoder_cost(encoder: nn.Module, num_tokens: int, dtype: torch.dtype = torch.bfloat16) -> ComponentCost:
    """Cost of encoding one prompt.

    Args:
        encoder: The text encoder; it is moved to the meta device.
        num_tokens: Tokens of the prompt, padding included.
        dtype: Number format of the run.
    """
    _prepare(encoder, dtype)
    ids = torch.zeros(1, num_tokens, dtype=torch.long, device=META)
    cost = measure(lambda: encoder(input_ids=ids), given=encoder.parameters())
    return ComponentCost(count_parameters(encoder), cost.flops, cost.peak_bytes)


def decode_cost(codec: Any, num_channels: int, grid: tuple[int, ...], *, steady_after: int = 0) -> ComponentCost:
    """Cost of decoding one clip in float32.

    Args:
        codec: A codec (:class:`mova.checkpoints.layout.Codec`); it is moved to the meta device.
        num_channels: Channels of a latent.
        grid: Latents: (T, h, w) of a video, (L,) of audio.
        steady_after: Number of latents after which each further one costs the same, where the codec decodes one after the
            other; 0 measures the whole clip.
    """
    _prepare(codec, torch.float32)
    length, sides = grid[0], grid[1:]

    def decode(number: int) -> Measurement:
        latents = torch.empty(1, num_channels, number, *sides, device=META)
        return measure(lambda: codec.decode(latents), given=[latents, *codec.parameters()])

    if not steady_after or length <= steady_after:
        cost = decode(length)
        return ComponentCost(count_parameters(codec), cost.flops, cost.peak_bytes)
    before, cost = decode(steady_after), decode(steady_after + 1)
    more = length - steady_after - 1
    return ComponentCost(
        count_parameters(codec),
        cost.flops + more * (cost.flops - before.flops),
        cost.peak_bytes + more * (cost.peak_bytes - before.peak_bytes),
    )


def count_parameters(module: nn.Module) -> int:
    """Parameters of a module; a tensor that has two names counts once."""
    tied = getattr(module, "_tied_weights_keys", None) or {}
    return sum(parameter.numel() for name, parameter in module.named_parameters() if name not in tied)


def _prepare(module: nn.Module, dtype: torch.dtype) -> None:
    nn.Module.to(module, META, dtype)  # diffusers' own method warns of layers that stay float32
    module.eval().requires_grad_(False)
