from __future__ import annotations

from typing import Any

import pytest
from golden import assert_close, build, load_case, load_official, pick
from torch import Tensor

from mova.models.layers import sinusoid
from mova.models.tower import TowerInputs

VIDEO_STUB = {
    "dim": 24,
    "num_heads": 2,
    "ffn_dim": 8,
    "in_dim": 4,
    "out_dim": 4,
    "patch_size": [1, 2, 2],
    "freq_dim": 8,
}
AUDIO_STUB = {
    "dim": 24,
    "num_heads": 2,
    "ffn_dim": 8,
    "in_dim": 4,
    "out_dim": 4,
    "patch_size": [1],
    "freq_dim": 8,
}


def joint_config(video: dict[str, Any], audio: dict[str, Any]) -> dict[str, Any]:
    bridge = {
        "visual_layers": video["num_layers"],
        "audio_layers": audio["num_layers"],
        "visual_hidden_dim": video["dim"],
        "audio_hidden_dim": audio["dim"],
        "audio_fps": 50.0,
        "head_dim": 24,
        "interaction_strategy": "shallow_focus",
    }
    return {"video": video, "audio": audio, "bridge": bridge}


@pytest.mark.parametrize("rope_dtype", ["float32", "float64"])
def test_video_tower_equals_the_reference_at_every_stage(rope_dtype: str) -> None:
    case, tensors = load_case("case1_video_dit")
    sizes = case["config"]["model"]
    stub = AUDIO_STUB | {"num_layers": 1, "text_dim": sizes["text_dim"]}
    model = build(joint_config(sizes, stub) | {"rope_dtype": rope_dtype})
    load_official(model, "video_dit", pick(tensors, "weights."))
    golden = pick(tensors, "outputs.")
    inputs = pick(tensors, "inputs.")

    assert_close(sinusoid(inputs["timestep"], sizes["freq_dim"]), golden["t_sinusoid"])
    x, levels, time, index = model.video_embed(inputs["x"], inputs["timestep"])
    text = model.video_embed.text_embedding(inputs["context"])
    assert_close(time, golden["t_emb"])
    assert_close(levels.flatten(1), golden["t_mod"])
    assert_close(text, golden["context_emb"])
    assert_close(x, golden["block0_in"])
    grid = (3, 4, 6)
    block_inputs = TowerInputs(levels, index, text, model.video_rope(grid, x.device))
    for number, block in enumerate(model.transformer_blocks):
        x = block.video(x, block_inputs)
        if number == 0:
            assert_close(x, golden["block0"])
    assert_close(x, golden["block_last"])
    head = model.video_head(x, time, index)
    assert_close(head, golden["head"])
    assert_close(model.video_head.unpatchify(head, grid), golden["y"])


@pytest.mark.parametrize("name", ["case2_audio_dit_dac", "case3_audio_dit_oobleck"])
def test_audio_tower_equals_the_reference_at_every_stage(name: str) -> None:
    case, tensors = load_case(name)
    sizes = case["config"]["model"]
    stub = VIDEO_STUB | {"num_layers": 1, "text_dim": sizes["text_dim"]}
    model = build(joint_config(stub, sizes))
    load_official(model, "audio_dit", pick(tensors, "weights."))
    golden = pick(tensors, "outputs.")
    inputs = pick(tensors, "inputs.")

    x, levels, time, index = model.audio_embed(inputs["x"], inputs["timestep"])
    assert_close(x, golden["block0_in"])
    rope = model.audio_rope(case["config"]["length"], x.device)
    assert_close(squeezed(rope[0]), golden["rope_cos"], 1e-6)
    assert_close(squeezed(rope[1]), golden["rope_sin"], 1e-6)
    block_inputs = TowerInputs(levels, index, model.audio_embed.text_embedding(inputs["context"]), rope)
    for number, block in enumerate(model.transformer_blocks):
        x = block.audio(x, block_inputs)
        if number == 0:
            assert_close(x, golden["block0"])
    assert_close(x, golden["block_last"])
    y = model.audio_head.unpatchify(model.audio_head(x, time, index), (case["config"]["length"],))
    assert_close(y, golden["y"])


def squeezed(table: Tensor) -> Tensor:
    return table[0, :, 0]
