"""A dual tower of a few thousand weights, and inputs for it."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from mova.models.joint import JointModel

SHARED = {"num_heads": 2, "ffn_dim": 20, "text_dim": 10, "freq_dim": 8}
TINY: dict[str, Any] = {
    "video": SHARED | {"dim": 24, "num_layers": 3, "in_dim": 4, "out_dim": 4, "patch_size": [1, 2, 2]},
    "audio": SHARED | {"dim": 16, "num_layers": 2, "in_dim": 5, "out_dim": 5, "patch_size": [1]},
    "bridge": {
        "visual_layers": 3,
        "audio_layers": 2,
        "visual_hidden_dim": 24,
        "audio_hidden_dim": 16,
        "audio_fps": 32.0,
        "head_dim": 8,
        "apply_first_frame_bias_in_rope": True,
    },
}
FRAMES, SIDE, LENGTH, TEXT = 3, 4, 7, 6


def build(config: dict[str, Any], *, seed: int = 0) -> JointModel:
    """A model whose zero-started parts are random, so that every weight has a say."""
    torch.manual_seed(seed)
    model = JointModel(**copy.deepcopy(config)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.2)
    return model


def inputs(batch: int = 2, *, seed: int = 1) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "video_latents": torch.randn(batch, 4, FRAMES, SIDE, SIDE, generator=generator),
        "audio_latents": torch.randn(batch, 5, LENGTH, generator=generator),
        "video_timestep": 1000 * torch.rand(batch, generator=generator),
        "audio_timestep": 1000 * torch.rand(batch, generator=generator),
        "text_embeds": torch.randn(batch, TEXT, 10, generator=generator),
        "video_fps": 24.0,
    }


@torch.no_grad()
def run(model: JointModel, values: dict[str, Any], **changes: Any) -> tuple[Tensor, Tensor]:
    return model(**(values | changes), return_dict=False)


def assert_equal(left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor]) -> None:
    assert torch.equal(left[0], right[0])
    assert torch.equal(left[1], right[1])
