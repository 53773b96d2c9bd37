"""The whole network: video tower, audio tower and bridge, as one model of fused blocks.

Every use of the network goes through :meth:`JointModel.forward`. Its ``transformer_blocks`` hold at layer i the video
block, the audio block and the bridge between them, so that diffusers' caches, offload, quantisation, adapters, compile
and parallel hooks see one ordinary transformer with two streams.

The official checkpoints keep the towers and the bridge in folders of their own. :func:`official_to_ours` and
:func:`ours_to_official` translate names one by one, so that a loader can stream shards.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.loaders import PeftAdapterMixin
from diffusers.models._modeling_parallel import ContextParallelInput, ContextParallelOutput
from diffusers.models.attention import AttentionMixin
from diffusers.models.cache_utils import CacheMixin
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from mova.models.bridge import BridgeConfig, BridgeInputs, CrossModalConditioner, init_conditioner, is_off
from mova.models.layers import AudioRope, BridgeRope, VideoRope
from mova.models.tower import TextContext, TowerBlock, TowerConfig, TowerEmbed, TowerHead, TowerInputs, init_tower

VIDEO_COMPONENTS = ("video_dit", "video_dit_2")  # high-noise and low-noise expert: the same names
AUDIO_COMPONENT = "audio_dit"
BRIDGE_COMPONENT = "dual_tower_bridge"

_DIRECTIONS = {"audio_to_video_conditioners": "a2v", "video_to_audio_conditioners": "v2a"}
_PROJECTIONS = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out"}
_OFFICIAL_PROJECTIONS = {ours: official for official, ours in _PROJECTIONS.items()}

Scale = float | Tensor | None


@dataclass
class JointOutput(BaseOutput):
    """Velocities (noise - data).

    Attributes:
        video: ``[B, out_dim, T, H, W]``.
        audio: ``[B, out_dim, L]``.
    """

    video: Tensor
    audio: Tensor


class DualTowerBlock(nn.Module):
    """Layer i of both towers. A tower that has ended passes its tokens on; ``a2v`` and ``v2a`` exist where they interact."""

    def __init__(
        self,
        video: TowerBlock | None,
        audio: TowerBlock | None,
        a2v: CrossModalConditioner | None = None,
        v2a: CrossModalConditioner | None = None,
    ) -> None:
        super().__init__()
        self.video = video
        self.audio = audio
        self.a2v = a2v
        self.v2a = v2a

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        video_inputs: TowerInputs,
        audio_inputs: TowerInputs,
        bridge_inputs: BridgeInputs,
    ) -> tuple[Tensor, Tensor]:
        """Video tokens and audio tokens one layer later.

        Both updates of the bridge come from the same incoming states; then each tower's block runs on its own.

        Args:
            hidden_states: ``[B, Lv, Dv]`` video tokens.
            encoder_hidden_states: ``[B, La, Da]`` audio tokens.
            video_inputs: Inputs of the video block.
            audio_inputs: Inputs of the audio block.
            bridge_inputs: Inputs of both directions of the bridge.
        """
        video, audio, cross = hidden_states, encoder_hidden_states, bridge_inputs
        from_audio = from_video = None
        if self.a2v is not None and not is_off(cross.a2v_scale):
            from_audio = self.a2v(video, audio, cross.video_rope, cross.audio_rope, cross.frames, cross.a2v_scale)
        if self.v2a is not None and not is_off(cross.v2a_scale):
            from_video = self.v2a(audio, video, cross.audio_rope, cross.video_rope, cross.frames, cross.v2a_scale)
        if from_audio is not None:
            video = video + from_audio
        if from_video is not None:
            audio = audio + from_video
        del from_audio, from_video  # as large as the tokens themselves, while the blocks need the memory

        if self.video is not None:
            video = self.video(video, video_inputs, self.video.text_key_value(video_inputs))
        if self.audio is not None:
            audio = self.audio(audio, audio_inputs, self.audio.text_key_value(audio_inputs))
        return video, audio


class JointModel(ModelMixin, ConfigMixin, CacheMixin, AttentionMixin, PeftAdapterMixin):
    """Two towers and a bridge: noisy latents and noise levels to two velocities.

    Args:
        video: Sizes of the video tower, see :class:`~mova.models.tower.TowerConfig`.
        audio: Sizes of the audio tower.
        bridge: The bridge, see :class:`~mova.models.bridge.BridgeConfig`.
        rope_dtype: ``"float32"``, or ``"float64"`` to repeat the reference to the last bit.

    Raises:
        ValueError: If the three parts do not fit each other.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["DualTowerBlock"]  # noqa: RUF012
    _repeated_blocks = ["TowerBlock", "CrossModalConditioner"]  # noqa: RUF012
    _skip_layerwise_casting_patterns = ["patch", "time", "norm", "modulation", "head"]  # noqa: RUF012
    _keep_in_fp32_modules = ["time_embedding", "time_projection"]  # noqa: RUF012
    _skip_keys = ["text_context"]  # noqa: RUF012
    # video tokens are split, everything else is replicated; see AttentionProcessor for who reads across ranks
    _cp_plan = {  # noqa: RUF012
        "video_embed": {
            0: ContextParallelInput(1, 3, split_output=True),
            3: ContextParallelInput(1, 2, split_output=True),  # a level per token; one per sample is not split
        },
        "video_rope": {i: ContextParallelInput(1, 4, split_output=True) for i in range(2)},
        "bridge_rope": {i: ContextParallelInput(1, 4, split_output=True) for i in range(2)},
        "video_head": ContextParallelOutput(1, 3),
    }

    @register_to_config
    def __init__(
        self,
        video: dict[str, Any],
        audio: dict[str, Any],
        bridge: dict[str, Any],
        rope_dtype: str = "float32",
    ) -> None:
        super().__init__()
        sizes_v, sizes_a, cross = TowerConfig.from_dict(video), TowerConfig.from_dict(audio), BridgeConfig.from_dict(bridge)
        _check_fit(sizes_v, sizes_a, cross)
        dtype = getattr(torch, rope_dtype)
        self.video_embed, self.audio_embed = TowerEmbed(sizes_v), TowerEmbed(sizes_a)
        self.video_rope = VideoRope(sizes_v.head_dim, dtype)
        self.audio_rope = AudioRope(sizes_a.head_dim, sizes_a.vae_type, dtype)
        self.bridge_rope = BridgeRope(
            cross.head_dim,
            audio_fps=cross.audio_fps,
            stride=cross.video_stride,
            first_frame_bias=cross.apply_first_frame_bias_in_rope,
        )
        self.transformer_blocks = nn.ModuleList(
            _build_block(layer, sizes_v, sizes_a, cross) for layer in range(max(sizes_v.num_layers, sizes_a.num_layers))
        )
        self.video_head, self.audio_head = TowerHead(sizes_v), TowerHead(sizes_a)
        self.has_cross_rope = cross.apply_cross_rope
        self.gradient_checkpointing = False
        init_tower(self)
        for module in self.modules():
            if isinstance(module, CrossModalConditioner):
                init_conditioner(module)

    @property
    def middle_layers(self) -> range:
        """The middle quarter of the layers that both towers have: where self-guidance perturbs."""
        depth = min(self.config["video"]["num_layers"], self.config["audio"]["num_layers"])
        first = 3 * depth // 8
        return range(first, max(5 * depth // 8, first + 1))

    def encode_text(self, text_embeds: Tensor, audio_text_embeds: Tensor | None = None) -> TextContext:
        """A text key/value cache: pass it to every step of a run instead of ``text_embeds``.

        Nothing is computed yet; the first forward of each network fills its part of the cache.

        Args:
            text_embeds: ``[B, S, text_dim]`` prompt embeddings.
            audio_text_embeds: Embeddings for the audio tower, where it reads another prompt.
        """
        return TextContext(text_embeds, audio_text_embeds)

    def forward(
        self,
        video_latents: Tensor,
        audio_latents: Tensor,
        *,
        video_timestep: Tensor,
        audio_timestep: Tensor,
        video_fps: float,
        text_embeds: Tensor | None = None,
        text_context: TextContext | None = None,
        a2v_scale: Scale = None,
        v2a_scale: Scale = None,
        bridge_scale: Scale = None,
        perturbed_layers: Collection[int] = (),
        return_dict: bool = True,
    ) -> JointOutput | tuple[Tensor, Tensor]:
        """Velocities of both modalities.

        Args:
            video_latents: ``[B, in_dim, T, H, W]``, conditioning channels included.
            audio_latents: ``[B, in_dim, L]``.
            video_timestep: 1000 sigma: ``[B]``, or a map ``[B, T, H, W]``.
            audio_timestep: ``[B]``, or a map ``[B, L]``.
            video_fps: Video frames per second, for the shared clock.
            text_embeds: ``[B, S, text_dim]`` prompt embeddings.
            text_context: Instead of ``text_embeds``: the result of :meth:`encode_text`, kept over steps.
            a2v_scale: Strength of audio on video: a number (0 skips the computation), or one per sample ``[B]``. The
                stored scale when None, which is 1 unless it was trained.
            v2a_scale: Strength of video on audio, likewise.
            bridge_scale: Both, where the specific one is None.
            perturbed_layers: Layers with identity attention in both towers: a token reads itself only.
            return_dict: Whether to return a :class:`JointOutput` instead of a tuple.

        Raises:
            ValueError: If shapes do not fit, or not exactly one of ``text_embeds`` and ``text_context`` is given.
        """
        if (text_embeds is None) == (text_context is None):
            raise ValueError("give either text_embeds or text_context.")
        prompt = TextContext(text_embeds) if text_embeds is not None else text_context
        assert prompt is not None
        audio_embeds = prompt.text_embeds if prompt.audio_text_embeds is None else prompt.audio_text_embeds
        device = video_latents.device
        video, video_levels, video_time, video_index = self.video_embed(video_latents, video_timestep)
        audio, audio_levels, audio_time, audio_index = self.audio_embed(audio_latents, audio_timestep)
        grid, (length,) = _token_grid(video_latents, self.video_embed), _token_grid(audio_latents, self.audio_embed)
        video_inputs = TowerInputs(
            levels=video_levels,
            index=video_index,
            text=prompt.tokens(self.video_embed.text_embedding, prompt.text_embeds, video.dtype),
            rope=self.video_rope(grid, device),
            context=text_context,
        )
        audio_inputs = TowerInputs(
            levels=audio_levels,
            index=audio_index,
            text=prompt.tokens(self.audio_embed.text_embedding, audio_embeds, audio.dtype),
            rope=self.audio_rope(length, device),
            context=text_context,
        )
        tables = self.bridge_rope(grid, length, video_fps, device) if self.has_cross_rope else None
        bridge_inputs = BridgeInputs(
            frames=grid[0],
            video_rope=tables[:2] if tables else None,
            audio_rope=tables[2:] if tables else None,
            a2v_scale=bridge_scale if a2v_scale is None else a2v_scale,
            v2a_scale=bridge_scale if v2a_scale is None else v2a_scale,
        )

        inputs = video_inputs, audio_inputs
        perturbed_inputs = tuple(replace(one, identity_attention=True) for one in inputs) if perturbed_layers else inputs
        for layer, block in enumerate(self.transformer_blocks):
            video_inputs, audio_inputs = perturbed_inputs if layer in perturbed_layers else inputs
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                video, audio = self._gradient_checkpointing_func(block, video, audio, video_inputs, audio_inputs, bridge_inputs)
            else:
                video, audio = block(
                    hidden_states=video,
                    encoder_hidden_states=audio,
                    video_inputs=video_inputs,
                    audio_inputs=audio_inputs,
                    bridge_inputs=bridge_inputs,
                )

        video = self.video_head.unpatchify(self.video_head(video, video_time, video_index), grid)
        audio = self.audio_head.unpatchify(self.audio_head(audio, audio_time, audio_index), (length,))
        return JointOutput(video=video, audio=audio) if return_dict else (video, audio)


def share_audio_and_bridge(first: JointModel, second: JointModel) -> None:
    """Make ``second`` use the very audio tower and bridge of ``first``: two experts, one audio.

    Raises:
        ValueError: If their audio towers or bridges differ in size.
    """
    if (first.config["audio"], first.config["bridge"]) != (second.config["audio"], second.config["bridge"]):
        raise ValueError("two experts can share an audio tower and a bridge only of the same configuration.")
    second.audio_embed, second.audio_head = first.audio_embed, first.audio_head
    for ours, theirs in zip(second.transformer_blocks, first.transformer_blocks, strict=True):
        ours.audio, ours.a2v, ours.v2a = theirs.audio, theirs.a2v, theirs.v2a


def _build_block(layer: int, video: TowerConfig, audio: TowerConfig, bridge: BridgeConfig) -> DualTowerBlock:
    a2v = v2a = None
    if layer in bridge.layers:
        a2v = CrossModalConditioner(
            video.dim, audio.dim, head_dim=bridge.head_dim, trainable_scale=bridge.trainable_condition_scale
        )
        v2a = CrossModalConditioner(
            audio.dim,
            video.dim,
            head_dim=bridge.head_dim,
            pooled_adaln=bridge.pooled_adaln,
            trainable_scale=bridge.trainable_condition_scale,
            sharding="context",
        )
    return DualTowerBlock(
        TowerBlock(video, splits_tokens=True) if layer < video.num_layers else None,
        TowerBlock(audio) if layer < audio.num_layers else None,
        a2v,
        v2a,
    )


def _check_fit(video: TowerConfig, audio: TowerConfig, bridge: BridgeConfig) -> None:
    towers = (video.num_layers, audio.num_layers, video.dim, audio.dim)
    said = (bridge.visual_layers, bridge.audio_layers, bridge.visual_hidden_dim, bridge.audio_hidden_dim)
    if towers != said:
        raise ValueError(f"the bridge joins towers of (layers, layers, width, width) {said}; got towers of {towers}.")
    if len(video.patch_size) != 3 or len(audio.patch_size) != 1:
        raise ValueError(
            f"patch_size must have three numbers for video and one for audio; got {video.patch_size}, {audio.patch_size}."
        )


def _token_grid(latents: Tensor, embed: TowerEmbed) -> tuple[int, ...]:
    return tuple(n // p for n, p in zip(latents.shape[2:], embed.patch_size, strict=True))


def official_to_ours(component: str, key: str) -> str:
    """Name in :class:`~mova.models.joint.JointModel` of an official weight.

    Args:
        component: Folder: ``"video_dit"``, ``"video_dit_2"``, ``"audio_dit"`` or ``"dual_tower_bridge"``.
        key: Name in that folder's state dict.

    Raises:
        ValueError: If the component or the name is unknown.
    """
    if component == BRIDGE_COMPONENT:
        if not (match := re.fullmatch(r"(\w+)\.(\d+)\.(.+)", key)) or match[1] not in _DIRECTIONS:
            raise ValueError(f"{key!r} is no weight of {component}.")
        part = re.sub(r"^inner\.", "attention.", match[3])
        return f"transformer_blocks.{match[2]}.{_DIRECTIONS[match[1]]}.{_rename(part, _PROJECTIONS)}"
    if component not in (*VIDEO_COMPONENTS, AUDIO_COMPONENT):
        raise ValueError(f"unknown component {component!r}.")
    tower = "audio" if component == AUDIO_COMPONENT else "video"
    if match := re.fullmatch(r"blocks\.(\d+)\.(.+)", key):
        return f"transformer_blocks.{match[1]}.{tower}.{_rename(match[2], _PROJECTIONS)}"
    if key.startswith("head."):
        return f"{tower}_head.{key.removeprefix('head.')}"
    if key.startswith(("patch_embedding.", "text_embedding.", "time_embedding.", "time_projection.")):
        return f"{tower}_embed.{key}"
    raise ValueError(f"{key!r} is no weight of {component}.")


def ours_to_official(key: str) -> tuple[str, str]:
    """Component and official name of one of our weights; the video tower's component is ``"video_dit"``.

    Raises:
        ValueError: If the name is unknown.
    """
    if match := re.fullmatch(r"transformer_blocks\.(\d+)\.(video|audio)\.(.+)", key):
        return f"{match[2]}_dit", f"blocks.{match[1]}.{_rename(match[3], _OFFICIAL_PROJECTIONS)}"
    if match := re.fullmatch(r"transformer_blocks\.(\d+)\.(a2v|v2a)\.(.+)", key):
        direction = next(official for official, ours in _DIRECTIONS.items() if ours == match[2])
        part = re.sub(r"^attention\.", "inner.", _rename(match[3], _OFFICIAL_PROJECTIONS))
        return BRIDGE_COMPONENT, f"{direction}.{match[1]}.{part}"
    if match := re.fullmatch(r"(video|audio)_head\.(.+)", key):
        return f"{match[1]}_dit", f"head.{match[2]}"
    if match := re.fullmatch(r"(video|audio)_embed\.(.+)", key):
        return f"{match[1]}_dit", match[2]
    raise ValueError(f"{key!r} is no weight of a JointModel.")


def _rename(part: str, names: dict[str, str]) -> str:
    """``self_attn.q.weight`` to ``self_attn.to_q.weight``, and back."""
    return re.sub(
        r"^(self_attn|cross_attn|inner|attention)\.(\w+)\.",
        lambda match: f"{match[1]}.{names.get(match[2], match[2])}.",
        part,
    )


TransformerBlockRegistry.register(
    DualTowerBlock,
    TransformerBlockMetadata(return_hidden_states_index=0, return_encoder_hidden_states_index=1),
)
