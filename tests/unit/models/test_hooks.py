"""What diffusers and PEFT do to a model from outside must work on ours."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers import FirstBlockCacheConfig, PyramidAttentionBroadcastConfig, TaylorSeerCacheConfig
from diffusers.hooks import apply_group_offloading
from diffusers.models.attention_dispatch import attention_backend
from peft import LoraConfig
from tiny_joint import TINY, assert_equal, build, inputs, run

from mova.models.joint import JointModel


@pytest.fixture
def model() -> JointModel:
    return build(TINY)


def test_first_block_cache_restores_both_streams(model: JointModel) -> None:
    values = inputs()
    plain = run(model, values)
    model.enable_cache(FirstBlockCacheConfig(threshold=10.0))
    with model.cache_context("cond"):
        first = run(model, values)
        cached = run(model, values)
    assert_equal(first, plain)
    for ours, exact in zip(cached, plain, strict=True):
        torch.testing.assert_close(ours, exact, atol=1e-5, rtol=1e-5)
    moved = values | {"video_latents": values["video_latents"] + 0.01}
    with model.cache_context("cond"):
        reused = run(model, moved)
    model.disable_cache()
    assert not torch.equal(reused[0], run(model, moved)[0])
    assert_equal(run(model, values), plain)


def test_taylorseer_foretells_both_streams(model: JointModel) -> None:
    values = inputs()
    plain = run(model, values)
    blocks = [r"transformer_blocks\.\d+"]
    config = TaylorSeerCacheConfig(
        cache_interval=3, disable_cache_before_step=2, taylor_factors_dtype=torch.float32, cache_identifiers=blocks
    )
    model.enable_cache(config)
    with model.cache_context("cond"):
        # the state does not change, so what is foretold is what is computed
        for _ in range(4):
            for ours, exact in zip(run(model, values), plain, strict=True):
                torch.testing.assert_close(ours, exact, atol=1e-5, rtol=1e-5)
        moved = run(model, values | {"audio_latents": values["audio_latents"] + 0.5})
    model.disable_cache()
    true = run(model, values | {"audio_latents": values["audio_latents"] + 0.5})
    assert not torch.equal(moved[1], true[1])
    assert_equal(run(model, values), plain)


def test_pyramid_attention_broadcast_reuses_attention_and_leaves_again(model: JointModel) -> None:
    values = inputs()
    config = PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2,
        spatial_attention_block_identifiers=("transformer_blocks.*self_attn",),
        current_timestep_callback=lambda: 500,
    )
    moved = values | {"video_latents": values["video_latents"] + 0.5}
    plain, true = run(model, values), run(model, moved)
    model.enable_cache(config)
    assert_equal(run(model, values), plain)
    assert not torch.equal(run(model, moved)[0], true[0])  # every second attention is the one before
    assert_equal(run(model, moved), true)
    model.disable_cache()
    assert_equal(run(model, values), plain)


@pytest.mark.parametrize("level", ["block_level", "leaf_level"])
def test_group_offload_changes_no_bit(model: JointModel, level: str) -> None:
    values = inputs()
    plain = run(model, values)
    cpu = torch.device("cpu")
    blocks = 1 if level == "block_level" else None
    apply_group_offloading(model, onload_device=cpu, offload_device=cpu, offload_type=level, num_blocks_per_group=blocks)
    context = model.encode_text(values.pop("text_embeds"))
    for _ in range(2):
        assert_equal(run(model, values, text_context=context), plain)


def test_blocks_stored_in_float8_still_run(model: JointModel) -> None:
    values = inputs()
    plain = run(model, values)
    model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    block = model.transformer_blocks[0]
    assert block.video.ffn[0].weight.dtype == torch.float8_e4m3fn
    assert block.video.self_attn.norm_q.weight.dtype == torch.float32
    assert model.video_embed.time_embedding[0].weight.dtype == torch.float32
    video, audio = run(model, values)
    assert 0 < (video - plain[0]).norm() / plain[0].norm() < 0.2
    assert 0 < (audio - plain[1]).norm() / plain[1].norm() < 0.2


def test_lora_adds_and_leaves_again(model: JointModel) -> None:
    values = inputs()
    plain = run(model, values)
    model.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_k", "to_v", "to_out"], init_lora_weights=False))
    assert not torch.equal(run(model, values)[0], plain[0])
    assert not torch.equal(run(model, values)[1], plain[1])
    model.unload_lora()
    assert_equal(run(model, values), plain)


def test_attention_backends_agree(model: JointModel) -> None:
    plain = run(model, inputs())
    with attention_backend("native"):  # diffusers' method also changes what other models in the process use: until here
        model.set_attention_backend("_native_math")
        for ours, native in zip(run(model, inputs()), plain, strict=True):
            torch.testing.assert_close(ours, native, atol=1e-5, rtol=1e-5)


def test_towers_and_bridge_compile_as_whole_graphs(model: JointModel) -> None:
    values = inputs()
    context = model.encode_text(values.pop("text_embeds"))
    plain = run(model, values, text_context=context)
    model.compile_repeated_blocks(fullgraph=True, backend="eager")
    for ours, eager in zip(run(model, values, text_context=context), plain, strict=True):
        torch.testing.assert_close(ours, eager, atol=1e-5, rtol=1e-5)


def test_bfloat16_stays_near_float32(model: JointModel) -> None:
    plain = run(model, inputs())
    video, audio = run(copy.deepcopy(model).to(torch.bfloat16), inputs())
    assert video.dtype == audio.dtype == torch.bfloat16
    assert (video - plain[0]).norm() / plain[0].norm() < 0.05
    assert (audio - plain[1]).norm() / plain[1].norm() < 0.05
