"""Names of tensors in LoRA files, as the trainers write them, to a layer and the tensor's part in it.

A name is a prefix that says nothing (``diffusion_model.``), a layer, and a part (``lora_A.weight``). Layers are named as in
diffusers or as in the official checkpoints, with dots or, as kohya's scripts do, with underscores throughout.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from mova.models.joint import AUDIO_COMPONENT, BRIDGE_COMPONENT, VIDEO_COMPONENTS, official_to_ours, ours_to_official

Half = Literal["lora_A", "lora_B", "alpha"]

EXPERTS = ("transformer", "transformer_2")
COMPONENTS = (*VIDEO_COMPONENTS, AUDIO_COMPONENT, BRIDGE_COMPONENT)
MAX_NAME = 1000
_WRAPPERS = ("base_model.model.", "model.diffusion_model.", "diffusion_model.", "pipe.dit.", "dit.", "unet.")
_FLAT = ("lora_unet_", "lycoris_unet_", "lycoris_", "lora_")
# the parts of names that hold an underscore themselves, the longer of two that begin alike first
_WORDS = (
    *(
        "video_dit_2",
        "video_dit",
        "audio_dit",
        "dual_tower_bridge",
        "audio_to_video_conditioners",
        "video_to_audio_conditioners",
    ),
    *("transformer_2", "transformer_blocks", "video_embed", "audio_embed", "video_head", "audio_head", "patch_embedding"),
    *("text_embedding", "time_embedding", "time_projection", "self_attn", "cross_attn", "to_q", "to_k", "to_v", "to_out"),
)
_FLAT_PART = re.compile(rf"({'|'.join(_WORDS)}|[^_]+)(?:_|$)")
# PEFT puts the adapter's name between; older diffusers files have "to_q_lora.down" for "to_q.lora_A"
_PEFT = re.compile(r"\.lora_([AB])(?:\.(?!(?:weight|bias)$)[^.]+)?(?:\.weight)?$")
_DOWN_UP = re.compile(r"(?:\.lora_|\.lora\.|\.lora_linear_layer\.|_lora\.)(down|up)(?:\.weight)?$")
_BEYOND = (
    ("lora_magnitude_vector", "DoRA"),
    ("dora_scale", "DoRA"),
    ("hada_", "LoHa"),
    ("lokr_", "LoKr"),
    ("lora_mid", "a Tucker decomposition"),
    ("oft_", "OFT"),
    ("lora_embedding_", "a LoRA of an embedding"),
    ("vera_lambda", "VeRA"),
    ("ia3_l", "IA3"),
    (".diff", "a difference of whole weights"),
    (".bias", "a trained bias"),
)
_TEXT_ENCODERS = ("lora_te", "text_encoder", "lora_text_encoder", "text_model", "cond_stage_model")


class Place(NamedTuple):
    """Where a stored layer belongs.

    Args:
        expert: ``"transformer"`` or ``"transformer_2"``.
        ours: Our name of the layer.
        scope: Expert whose settings hold for it, as it is written; empty if none is.
        local: Name that patterns of the settings match.
    """

    expert: str
    ours: str
    scope: str
    local: str


def split_name(key: str) -> tuple[str, Half]:
    """Stored layer, and the part of its LoRA; which adapter it is called does not matter.

    Raises:
        ValueError: If it is no part of a plain LoRA; the message says what it is.
    """
    if len(key) > MAX_NAME:
        raise ValueError(f"a name of {len(key)} characters")
    if key.endswith(".alpha"):
        return key.removesuffix(".alpha"), "alpha"
    if match := _PEFT.search(key):
        return key[: match.start()], "lora_A" if match[1] == "A" else "lora_B"
    if match := _DOWN_UP.search(key):
        return key[: match.start()].replace(".processor.", "."), "lora_A" if match[1] == "down" else "lora_B"
    kind = next((f": {kind}" for mark, kind in _BEYOND if mark in key), "")
    raise ValueError(f"no part of a plain LoRA{kind}")


def locate(stored: str) -> Place:
    """Expert and our name of a stored layer.

    Raises:
        ValueError: If no model has such a layer; the message is the reason.
    """
    if stored.startswith(_TEXT_ENCODERS):
        raise ValueError("it changes the text encoder, which no LoRA does here")
    name = _with_dots(stored)
    while wrapper := next((one for one in _WRAPPERS if name.startswith(one)), ""):
        name = name.removeprefix(wrapper)
    prefix, _, rest = name.partition(".")
    if prefix in COMPONENTS:
        ours = official_to_ours(prefix, f"{rest}.weight").removesuffix(".weight")
        return Place(EXPERTS[prefix == VIDEO_COMPONENTS[1]], ours, "", name)
    ours, scope = (rest, prefix) if prefix in EXPERTS else (name, "")
    return Place(EXPERTS[scope == EXPERTS[1] and not is_shared(ours)], ours, scope, ours)


def is_shared(path: str) -> bool:
    """Whether a layer, by our name, belongs to the audio or the bridge, which both experts share.

    Raises:
        ValueError: If the name is unknown.
    """
    return ours_to_official(f"{path}.weight")[0] not in VIDEO_COMPONENTS


def _with_dots(stored: str) -> str:
    """``lora_unet_video_dit_blocks_0_self_attn_q`` as ``video_dit.blocks.0.self_attn.q``."""
    prefix = next((one for one in _FLAT if stored.startswith(one)), "")
    if "." in stored or not prefix:
        return stored
    return ".".join(_FLAT_PART.findall(stored.removeprefix(prefix)))
