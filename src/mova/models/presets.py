"""Configurations of known sizes."""

from __future__ import annotations

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
