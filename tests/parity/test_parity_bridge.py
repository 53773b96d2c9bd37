from __future__ import annotations

from typing import Any

import pytest
from golden import assert_close, build, load_case, load_official, pick
from torch import Tensor

from mova.models.bridge import BridgeInputs, interaction_layers
from mova.models.joint import DualTowerBlock


@pytest.mark.parametrize("name", ["case4_bridge_cross_rope", "case5_bridge_pooled_adaln"])
def test_bridge_equals_the_reference(name: str) -> None:
    case, tensors = load_case(name)
    config = case["config"]
    model = build(joint_config(config["model"]))
    load_official(model, "dual_tower_bridge", pick(tensors, "weights."))
    golden = pick(tensors, "outputs.")
    visual, audio = tensors["inputs.visual"], tensors["inputs.audio"]

    grid = tuple(config["grid"])
    tables = model.bridge_rope(grid, config["audio_steps"], config["video_fps"], visual.device)
    for table, label in zip(tables, ("cos_visual", "sin_visual", "cos_audio", "sin_audio"), strict=True):
        doubled = table[0, :, 0].repeat(1, 2)[None]
        assert_close(doubled, golden[label], 1e-6)

    scales = {"a2v_scale": config["a2v_scale"], "v2a_scale": config["v2a_scale"]}
    variants: dict[str, BridgeInputs] = {
        "": BridgeInputs(grid[0], tables[:2], tables[2:]),
        "_scaled": BridgeInputs(grid[0], tables[:2], tables[2:], **scales),
        "_norope": BridgeInputs(grid[0], None, None),
    }
    for layer in config["eval_layers"]:
        for suffix, inputs in variants.items():
            ours = bridge_only(model.transformer_blocks[layer], visual, audio, inputs)
            assert_close(ours[0], golden[f"layer{layer}.visual{suffix}"])
            assert_close(ours[1], golden[f"layer{layer}.audio{suffix}"])
    if "pooled_frames" in golden:
        pooled = model.transformer_blocks[0].v2a.per_frame_pooling(visual, grid[0])
        assert_close(pooled, golden["pooled_frames"])


def test_interaction_layers_equal_the_reference_for_every_strategy() -> None:
    case, _ = load_case("case10_interaction_strategies")
    for row in case["expected"]:
        ours = interaction_layers(row["strategy"], row["visual_layers"], row["audio_layers"])
        assert list(ours) == row["layers"], row


def bridge_only(block: DualTowerBlock, visual: Tensor, audio: Tensor, inputs: BridgeInputs) -> tuple[Tensor, Tensor]:
    alone = DualTowerBlock(None, None, block.a2v, block.v2a)
    unused: Any = None  # a block without towers never looks at their inputs
    return alone(visual, audio, unused, unused, inputs)


def joint_config(bridge: dict[str, Any]) -> dict[str, Any]:
    shared = {"ffn_dim": 8, "in_dim": 4, "out_dim": 4, "text_dim": 8, "freq_dim": 8}
    return {
        "video": shared
        | {
            "dim": bridge["visual_hidden_dim"],
            "num_heads": 2,
            "num_layers": bridge["visual_layers"],
            "patch_size": [1, 2, 2],
        },
        "audio": shared
        | {
            "dim": bridge["audio_hidden_dim"],
            "num_heads": 2,
            "num_layers": bridge["audio_layers"],
            "patch_size": [1],
        },
        "bridge": bridge,
    }
