"""A LoRA is the same whoever wrote its names and wherever they wrote its strength; what cannot be honoured is refused."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from mova.checkpoints.lora.file import LoraFile, read_lora
from mova.checkpoints.lora.patterns import matches_end
from mova.checkpoints.lora.tensor_names import locate, split_name
from mova.errors import CheckpointError
from mova.models.joint import official_to_ours

OFFICIAL = (
    "video_dit.blocks.0.self_attn.q",
    "audio_dit.blocks.11.ffn.0",
    "dual_tower_bridge.audio_to_video_conditioners.1.inner.k",
    "video_dit_2.blocks.3.cross_attn.o",
    "audio_dit.head.head",
    "video_dit.time_projection.1",
    "video_dit.text_embedding.2",
)


def to_ours(official: str) -> str:
    component, _, rest = official.partition(".")
    ours = official_to_ours(component, f"{rest}.weight").removesuffix(".weight")
    return f"transformer_2.{ours}" if component == "video_dit_2" else ours


LAYERS = {official: to_ours(official) for official in OFFICIAL}


def halves(number: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(number)
    return torch.randn(4, 6, generator=generator), torch.randn(5, 4, generator=generator)


NAMINGS = {
    "diffusers": lambda official, ours: (
        (ours if ours.startswith("transformer_2") else f"transformer.{ours}") + ".{}",
        ("lora_A.weight", "lora_B.weight"),
    ),
    "official": lambda official, ours: (official + ".{}", ("lora_A.weight", "lora_B.weight")),
    "PEFT with its adapter": lambda official, ours: (
        f"base_model.model.{ours}.{{}}",
        ("lora_A.default.weight", "lora_B.default.weight"),
    ),
    "another adapter": lambda official, ours: (f"{ours}.{{}}", ("lora_A.my-style_2.weight", "lora_B.my-style_2.weight")),
    "ComfyUI": lambda official, ours: (f"diffusion_model.{ours}.{{}}", ("lora_A.weight", "lora_B.weight")),
    "ComfyUI, official": lambda official, ours: (
        f"model.diffusion_model.{official}.{{}}",
        ("lora_down.weight", "lora_up.weight"),
    ),
    "down and up": lambda official, ours: (f"{official}.{{}}", ("lora_down.weight", "lora_up.weight")),
    "lora.down": lambda official, ours: (f"{ours}.{{}}", ("lora.down.weight", "lora.up.weight")),
    "without weight": lambda official, ours: (f"{ours}.{{}}", ("lora_A", "lora_B")),
    "kohya, official": lambda official, ours: (
        "lora_unet_" + official.replace(".", "_") + ".{}",
        ("lora_down.weight", "lora_up.weight"),
    ),
    "kohya, ours": lambda official, ours: (
        "lora_unet_" + ours.replace(".", "_") + ".{}",
        ("lora_down.weight", "lora_up.weight"),
    ),
    "kohya of a transformer": lambda official, ours: (
        "lora_" + (ours if ours.startswith("transformer_2") else f"transformer.{ours}").replace(".", "_") + ".{}",
        ("lora_down.weight", "lora_up.weight"),
    ),
}


def assert_same(found: LoraFile, *, alpha: float) -> None:
    expected: list[set[str]] = [set(), set()]
    for number, ours in enumerate(LAYERS.values()):
        second = ours.startswith("transformer_2.")
        path = ours.removeprefix("transformer_2.")
        layer = (found.transformer_2 if second else found.transformer)[path]
        down, up = halves(number)
        assert torch.equal(layer.down, down) and torch.equal(layer.up, up)
        assert layer.alpha == alpha
        expected[second].add(path)
    assert [set(found.transformer), set(found.transformer_2)] == expected


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("alpha", [None, torch.tensor(2.0), torch.tensor([2.0]), torch.tensor(2)], ids=str)
def test_every_naming_is_the_same_lora(tmp_path: Path, naming: str, alpha: Tensor | None) -> None:
    tensors = {}
    for number, (official, ours) in enumerate(LAYERS.items()):
        pattern, names = NAMINGS[naming](official, ours)
        tensors |= {pattern.format(name): half for name, half in zip(names, halves(number), strict=True)}
        if alpha is not None:
            tensors[pattern.format("alpha")] = alpha.clone()
    save_file(tensors, tmp_path / "style.safetensors")
    assert_same(read_lora(tmp_path), alpha=4.0 if alpha is None else 2.0)


def test_a_file_may_mix_namings(tmp_path: Path) -> None:
    tensors = {}
    for number, (official, ours) in enumerate(LAYERS.items()):
        pattern, names = list(NAMINGS.values())[number](official, ours)
        tensors |= {pattern.format(name): half for name, half in zip(names, halves(number), strict=True)}
    save_file(tensors, tmp_path / "style.safetensors")
    assert_same(read_lora(tmp_path), alpha=4.0)


def write_one(path: Path, *, metadata: dict[str, str] | None = None, **more: Tensor) -> Path:
    """A layer of rank 4."""
    layer = "transformer.transformer_blocks.0.video.self_attn.to_q"
    down, up = halves(0)
    tensors = {f"{layer}.lora_A.weight": down, f"{layer}.lora_B.weight": up}
    save_file(tensors | {f"{layer}.{name}": value for name, value in more.items()}, path, metadata=metadata)
    return path


def only_alpha(path: Path) -> float:
    (layer,) = read_lora(path).transformer.values()
    return layer.alpha


@pytest.mark.parametrize(
    ("metadata", "alpha"),
    [
        ({}, 4.0),
        ({"alpha": "8"}, 8.0),
        ({"lora_alpha": "8", "rank": "4"}, 8.0),
        ({"ss_network_alpha": "1.0", "ss_network_dim": "4"}, 1.0),
        ({"network_alpha": "2"}, 2.0),
        ({"ss_network_alpha": "None", "ss_alpha_mask": "False"}, 4.0),
        ({"lora_alpha": "8", "use_rslora": "true"}, 16.0),
        ({"lora_alpha": "8", "use_rslora": "False"}, 8.0),
        ({"use_rslora": "True"}, 8.0),
        ({"ss_network_alpha": "3", "ss_network_args": '{"rs_lora": "True", "dora_wd": "False"}'}, 6.0),
        ({"lora_alpha": "8", "alpha_pattern": '{"to_q": 5}'}, 5.0),
        ({"adapter_config": '{"r": 4, "lora_alpha": 6, "bias": "none", "peft_type": "LORA"}'}, 6.0),
        ({"ss_network_dim": "64", "note": "a rank alone says nothing"}, 4.0),
        ({"alpha": "8", "lora_alpha": "8.0"}, 8.0),
    ],
)
def test_alpha_is_honoured_under_every_name(tmp_path: Path, metadata: dict[str, str], alpha: float) -> None:
    assert only_alpha(write_one(tmp_path / "style.safetensors", metadata=metadata)) == alpha


@pytest.mark.parametrize(
    ("metadata", "more", "message"),
    [
        ({"use_dora": "True"}, {}, "use_dora"),
        ({"ss_network_args": '{"dora_wd": "True"}'}, {}, "use_dora"),
        ({}, {"lora_magnitude_vector": torch.ones(5)}, "DoRA"),
        ({}, {"dora_scale": torch.ones(5, 1)}, "DoRA"),
        ({}, {"lokr_w1": torch.ones(2, 2)}, "LoKr"),
        ({}, {"hada_w1_a": torch.ones(2, 2)}, "LoHa"),
        ({}, {"diff": torch.ones(5, 6)}, "whole weights"),
        ({}, {"lora_B.bias": torch.ones(5)}, "bias"),
        ({}, {"lora_A.other.weight": torch.ones(4, 6)}, "twice"),
        ({"lora_alpha": "8", "ss_network_alpha": "4"}, {}, "two values of alpha"),
        ({"effective_alpha": "8"}, {}, "effective_alpha.*not understood"),
        ({"ss_network_alpha": "Dynamic"}, {}, "alpha must be a number"),
        ({"lora_alpha": "9" * 400}, {}, "alpha must be a number"),
        ({"lora_adapter_metadata": '{"r": 4, "peft_type": "LOHA"}'}, {}, "peft_type=LOHA"),
        ({"lora_adapter_metadata": '{"r": 4, "fan_in_fan_out": true}'}, {}, "fan_in_fan_out"),
        ({"lora_adapter_metadata": '{"r": 4, "bias": "lora_only"}'}, {}, "bias=lora_only"),
        ({"lora_adapter_metadata": "[" * 100_000}, {}, "no JSON mapping"),
        ({"lora_adapter_metadata": '{"r": 4, "alpha_pattern": {"(a+)+x": 5}}'}, {}, "repeats a group"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    tmp_path: Path, metadata: dict[str, str], more: dict[str, Tensor], message: str
) -> None:
    path = write_one(tmp_path / "style.safetensors", metadata=metadata, **more)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_lora(path)
    assert caught.value.hint


@pytest.mark.parametrize("name", ["lora_te_text_model_encoder_layers_0.lora_down.weight", "text_encoder.x.lora_A.weight"])
def test_a_lora_of_the_text_encoder_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match="text encoder"):
        locate(split_name(name)[0])


# --- patterns

LAYER_NAMES = ["transformer_blocks.0.video.self_attn.to_q", "transformer_blocks.11.audio.ffn.0", "video_head.head", "q", ""]


def peft_matches(pattern: str, name: str) -> bool:
    return re.match(rf"(.*\.)?({pattern})$", name) is not None


@pytest.mark.parametrize(
    "pattern",
    ["to_q", r"^transformer_blocks\.0\.video", r"^transformer_blocks\.\d+\.\w+\.self_attn\.to_q", "to_q|ffn.0", ".*q", "q", "",
     r"(?:video|audio)\.ffn\.[0-9]", "[^.]+", "head.head$", r"transformer_blocks\.1?1.*", "v.*?q", "^$", "^"],
)  # fmt: skip
def test_a_pattern_matches_what_it_does_in_peft(pattern: str) -> None:
    for name in LAYER_NAMES:
        assert matches_end(pattern, name) == peft_matches(pattern, name), name


ATOM = st.sampled_from(["a", "b", r"\.", ".", "[ab]", "[^a]", r"\w"])
PIECE = st.tuples(ATOM, st.sampled_from(["", "", "*", "+", "?"])).map("".join)
PIECES = st.lists(PIECE, max_size=4).map("".join)
PATTERN = st.recursive(PIECES, lambda inner: st.tuples(inner, inner).map("({0[0]}|{0[1]})".format), max_leaves=4)


@given(pattern=PATTERN, name=st.text("ab.", max_size=8))
def test_any_pattern_of_the_language_matches_as_in_peft(pattern: str, name: str) -> None:
    assert matches_end(pattern, name) == peft_matches(pattern, name)


BROKEN = ("(", ")", "a)", "[", "*a", "a{3}", "(a+)+", "(?=a)", r"\1", "\\", "a" * 501, 30 * "(" + 30 * ")")


@pytest.mark.parametrize("pattern", BROKEN)
def test_a_pattern_that_is_not_read_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError):
        matches_end(pattern, "aaa")


def test_a_pattern_takes_time_in_proportion_to_the_name() -> None:
    began = time.process_time()
    assert not matches_end(".*a" * 160, "a" * 150 + "b" * 800)
    assert time.process_time() - began < 2.0


def test_a_lora_is_a_regular_file(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "link.safetensors").symlink_to("/dev/zero")
    for name, message in (("pipe", "a pipe"), ("link", "a device")):
        with pytest.raises(CheckpointError, match=message):
            read_lora(tmp_path / f"{name}.safetensors")
    for name in ("x" * 300, "a\0b"):
        with pytest.raises(CheckpointError, match="no file"):
            read_lora(tmp_path / name)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (2**31, "shorter"),
        ({"a": {"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 4]}}, "its shape"),
        ({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, "no proper shape"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, "holes"),
        ({"a": 3}, "broken"),
        ({"a": {"dtype": "F32", "shape": [1]}}, "broken"),
        ([1], "no mapping"),
        ({"__metadata__": {"a": 3}}, "no mapping of texts"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, header: Any, message: str) -> None:
    text = b"{" if isinstance(header, int) else json.dumps(header).encode()
    size = header if isinstance(header, int) else len(text)
    (tmp_path / "style.safetensors").write_bytes(size.to_bytes(8, "little") + text + bytes(4))
    with pytest.raises(CheckpointError, match=message):
        read_lora(tmp_path / "style.safetensors")
