"""Decisions to work: what remains to be done to a pipeline once its weights are read."""

from __future__ import annotations

from typing import Any, Protocol

from mova.runtime.attention import use_attention
from mova.runtime.offload import offload_blocks
from mova.runtime.resolve import Runtime


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
