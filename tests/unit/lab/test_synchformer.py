"""Synchformer at tiny size: shapes and names as published, parts against others' code, and DeSync through it."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange
from safetensors.torch import save_file
from torch import nn

from mova.lab.quality.learned.desync import OFFSETS_S, DeSync
from mova.lab.quality.learned.synchformer import (
    DividedAttention,
    Sizes,
    SpectrogramTransformer,
    Synchformer,
    read_synchformer,
)
from mova.lab.quality.metric import Sample
from mova.lab.quality.plugins import measure
from mova.media.clip import Clip

TINY = Sizes(width=8, num_layers=1, num_heads=2, num_sync_layers=1, num_sync_heads=2)


def filled_at_random(module: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "desync.safetensors"
    save_file(filled_at_random(Synchformer(TINY)).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def video() -> Clip:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (125, 16, 16, 3), dtype=np.uint8)
    return Clip(frames, rng.uniform(-0.5, 0.5, (1, 80_000)).astype(np.float32), Fraction(25), 16_000)


def test_the_published_synchformer_has_the_published_names_and_shapes() -> None:
    with torch.device("meta"):
        network = Synchformer()
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    expected = {
        "vfeat_extractor.cls_token": (1, 1, 768),
        "vfeat_extractor.pos_embed": (1, 197, 768),
        "vfeat_extractor.temp_embed": (1, 8, 768),
        "vfeat_extractor.patch_embed.proj.weight": (768, 3, 16, 16),
        "vfeat_extractor.patch_embed_3d.proj.weight": (768, 3, 2, 16, 16),
        "vfeat_extractor.blocks.11.timeattn.qkv.weight": (2304, 768),
        "vfeat_extractor.blocks.0.attn.proj.bias": (768,),
        "vfeat_extractor.blocks.0.mlp.fc1.weight": (3072, 768),
        "vfeat_extractor.blocks.0.norm3.weight": (768,),
        "vfeat_extractor.norm.bias": (768,),
        "vfeat_extractor.spatial_attn_agg.cls_token": (1, 1, 768),
        "vfeat_extractor.spatial_attn_agg.self_attn.in_proj_weight": (2304, 768),
        "vfeat_extractor.spatial_attn_agg.linear2.weight": (768, 3072),
        "afeat_extractor.ast.embeddings.distillation_token": (1, 1, 768),
        "afeat_extractor.ast.embeddings.position_embeddings": (1, 74, 768),
        "afeat_extractor.ast.embeddings.patch_embeddings.projection.weight": (768, 1, 16, 16),
        "afeat_extractor.ast.encoder.layer.11.attention.attention.query.weight": (768, 768),
        "afeat_extractor.ast.encoder.layer.0.attention.output.dense.weight": (768, 768),
        "afeat_extractor.ast.encoder.layer.0.intermediate.dense.weight": (3072, 768),
        "afeat_extractor.ast.encoder.layer.0.output.dense.weight": (768, 3072),
        "afeat_extractor.ast.encoder.layer.0.layernorm_after.weight": (768,),
        "afeat_extractor.ast.layernorm.weight": (768,),
        "afeat_extractor.freq_attn_agg.norm2.weight": (768,),
        "aproj.weight": (768, 768),
        "vproj.bias": (768,),
        "transformer.OFF_tok": (1, 1, 768),
        "transformer.MOD_tok": (1, 1, 768),
        "transformer.vis_in_lnorm.weight": (768,),
        "transformer.pos_emb_cfg.pos_emb": (1, 198, 768),
        "transformer.blocks.2.attn.value.weight": (768, 768),
        "transformer.blocks.0.mlp.2.weight": (768, 3072),
        "transformer.ln_f.bias": (768,),
        "transformer.off_head.weight": (21, 768),
    }
    assert expected.items() <= shapes.items()
    # 12 divided blocks of 18 tensors, 12 layers of 16, 3 of 16; 13 of each pooling layer; the rest stands above
    assert len(shapes) == (12 * 18 + 9 + 13) + (12 * 16 + 7 + 13) + 4 + (3 * 16 + 11)


def test_logits_are_finite_and_those_of_a_clip_do_not_hang_on_the_clip_beside_it() -> None:
    network = filled_at_random(Synchformer(TINY))
    generator = torch.Generator().manual_seed(1)
    video, audio = torch.rand(2, 14, 16, 3, 224, 224, generator=generator), torch.randn(2, 14, 128, 66, generator=generator)
    with torch.inference_mode():
        logits = network(video, audio)
        assert logits.shape == (2, 21) and logits.isfinite().all()
        torch.testing.assert_close(network(video[1:], audio[1:]), logits[1:], atol=1e-5, rtol=1e-4)


def test_every_part_of_the_network_tells_order_and_content_apart() -> None:
    network = filled_at_random(Synchformer(TINY))
    ramp = torch.linspace(-1.0, 1.0, 16)[None, None, :, None, None].expand(1, 3, 16, 224, 224)
    bands = torch.linspace(-2.0, 2.0, 66).expand(1, 1, 128, 66)
    seen, heard = torch.randn(1, 196, 8, generator=torch.Generator().manual_seed(2)).split((112, 84), dim=1)
    with torch.inference_mode():
        for tower, piece, axis in ((network.vfeat_extractor, ramp, 2), (network.afeat_extractor, bands, 3)):
            tokens = tower(piece)
            assert tokens.shape == (1, 8 if axis == 2 else 6, 8)
            assert (tokens[0, 0] - tokens[0, -1]).abs().max() > 1e-3
            assert (tower(piece.flip(axis)) - tokens).abs().max() > 1e-3
        logits = network.transformer(seen, heard)
        assert (network.transformer(seen.flip(1), heard) - logits).abs().max() > 1e-3
        assert (network.transformer(seen, heard.flip(1)) - logits).abs().max() > 1e-3


def test_divided_attention_is_attention_in_which_groups_do_not_see_each_other() -> None:
    attention = filled_at_random(DividedAttention(8, 2))
    generator = torch.Generator().manual_seed(1)
    first, groups = torch.randn(3, 1, 8, generator=generator), torch.randn(3, 4, 5, 8, generator=generator)
    group = torch.tensor([-1, *(number for number in range(4) for _ in range(5))])
    may_see = (group[:, None] == group[None]) | (group[:, None] == -1) | (group[None] == -1)
    tokens = torch.cat((first, groups.flatten(1, 2)), dim=1)
    query, key, value = (rearrange(part, "b l (h d) -> b h l d", h=2) for part in attention.qkv(tokens).chunk(3, dim=-1))
    plain = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=may_see)
    plain = attention.proj(rearrange(plain, "b h l d -> b l (h d)"))
    of_first, of_groups = attention(first, groups)
    torch.testing.assert_close(torch.cat((of_first, of_groups.flatten(1, 2)), dim=1), plain, atol=1e-5, rtol=1e-5)


def test_the_audio_tower_is_the_spectrogram_transformer_of_transformers() -> None:
    from transformers import ASTConfig, ASTModel

    ours = filled_at_random(SpectrogramTransformer(Sizes(width=16, num_layers=2, num_heads=2)))
    theirs = ASTModel(
        ASTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, max_length=66)
    ).eval()
    renamed = {
        "encoder.layer.": "layers.",
        "attention.attention.query": "attention.q_proj",
        "attention.attention.key": "attention.k_proj",
        "attention.attention.value": "attention.v_proj",
        "attention.output.dense": "attention.o_proj",
        "intermediate.dense": "mlp.fc1",
        "output.dense": "mlp.fc2",
    }
    weights = {}
    for name, value in ours.state_dict().items():
        for old, new in renamed.items():
            name = name.replace(old, new)
        weights[name] = value
    theirs.load_state_dict(weights)
    audio = torch.randn(2, 128, 66, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = theirs(audio.transpose(1, 2)).last_hidden_state
        torch.testing.assert_close(ours(audio[:, None]), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("step", [3, 17])
def test_the_class_that_wins_is_an_offset_in_seconds(video: Clip, weights: Path, tmp_path: Path, step: int) -> None:
    network = read_synchformer(weights, sizes=TINY)
    with torch.no_grad():
        network.transformer.off_head.bias[step] = 1e3
    path = tmp_path / "desync.safetensors"
    save_file(network.state_dict(), path)
    result = measure(DeSync(build=partial(read_synchformer, sizes=TINY)), [Sample(video)], weights=path)
    assert result.status == "ok", result.reason
    assert result.values["desync_s"] == pytest.approx(abs(-2.0 + 0.2 * step)) == pytest.approx(abs(OFFSETS_S[step]))


def test_a_video_on_disk_is_scored_and_weights_that_do_not_fit_are_told(video: Clip, weights: Path, tmp_path: Path) -> None:
    from mova.lab.suite.files import WholeVideos

    video.save(tmp_path / "film.mp4")
    metric = DeSync(build=partial(read_synchformer, sizes=TINY))
    result = measure(metric, WholeVideos([tmp_path / "film.mp4"]), weights=weights)
    assert (result.status, result.num_scored) == ("ok", 1) and 0.0 <= result.values["desync_s"] <= 2.0
    save_file(nn.Linear(2, 2).state_dict(), tmp_path / "other.safetensors")
    other = measure(metric, [Sample(video)], weights=tmp_path / "other.safetensors")
    assert (other.status, "does not hold the weights of Synchformer" in other.reason) == ("failed", True)
