"""Configurations of known sizes, and the names of the official checkpoints' weights.

The official checkpoints keep the towers and the bridge in folders of their own. :func:`official_to_ours` and
:func:`ours_to_official` translate names one by one, so that a loader can stream shards.
"""

from __future__ import annotations

import re
from typing import Any

# MOVA_SPEC section 1; MOVA-720p has the same
MOVA_360P: dict[str, Any] = {
    "video": {
        "dim": 5120,
        "in_dim": 36,
        "ffn_dim": 13824,
        "out_dim": 16,
        "text_dim": 4096,
        "freq_dim": 256,
        "eps": 1e-6,
        "patch_size": [1, 2, 2],
        "num_heads": 40,
        "num_layers": 40,
    },
    "audio": {
        "dim": 1536,
        "in_dim": 128,
        "ffn_dim": 8960,
        "out_dim": 128,
        "text_dim": 4096,
        "freq_dim": 256,
        "eps": 1e-6,
        "patch_size": [1],
        "num_heads": 12,
        "num_layers": 30,
        "vae_type": "dac",
    },
    "bridge": {
        "visual_layers": 40,
        "audio_layers": 30,
        "visual_hidden_dim": 5120,
        "audio_hidden_dim": 1536,
        "audio_fps": 50.0,
        "head_dim": 128,
        "interaction_strategy": "full",
        "apply_cross_rope": True,
        "apply_first_frame_bias_in_rope": False,
        "trainable_condition_scale": False,
        "pooled_adaln": False,
    },
}

# the size that this repository trains and ships
BASE: dict[str, Any] = {
    "video": {
        "dim": 192,
        "in_dim": 16,
        "ffn_dim": 512,
        "out_dim": 16,
        "text_dim": 128,
        "freq_dim": 128,
        "eps": 1e-6,
        "patch_size": [1, 2, 2],
        "num_heads": 4,
        "num_layers": 6,
    },
    "audio": {
        "dim": 128,
        "in_dim": 24,
        "ffn_dim": 384,
        "out_dim": 24,
        "text_dim": 128,
        "freq_dim": 128,
        "eps": 1e-6,
        "patch_size": [1],
        "num_heads": 4,
        "num_layers": 6,
        "vae_type": "dac",
    },
    "bridge": {
        "visual_layers": 6,
        "audio_layers": 6,
        "visual_hidden_dim": 192,
        "audio_hidden_dim": 128,
        "audio_fps": 32.0,
        "head_dim": 32,
        "interaction_strategy": "full",
        "apply_cross_rope": True,
        "apply_first_frame_bias_in_rope": True,
        "trainable_condition_scale": False,
        "pooled_adaln": False,
        "video_stride": 4,
    },
}

VIDEO_COMPONENTS = ("video_dit", "video_dit_2")  # high-noise and low-noise expert: the same names
AUDIO_COMPONENT = "audio_dit"
BRIDGE_COMPONENT = "dual_tower_bridge"

_DIRECTIONS = {"audio_to_video_conditioners": "a2v", "video_to_audio_conditioners": "v2a"}
_PROJECTIONS = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out"}
_OFFICIAL_PROJECTIONS = {ours: official for official, ours in _PROJECTIONS.items()}


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
