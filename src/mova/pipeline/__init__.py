"""From a plan to a clip in tensors: prompts, conditions, noise, the sampler, both codecs."""

from __future__ import annotations

from mova.pipeline.latents import MOVAPipelineOutput
from mova.pipeline.pipeline import MOVAPipeline

__all__ = ["MOVAPipeline", "MOVAPipelineOutput"]
