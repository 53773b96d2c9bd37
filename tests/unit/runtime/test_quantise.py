"""Only the video tower's blocks lose bits, and each weight as it arrives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers.quantizers.base import DiffusersQuantizer
from diffusers.quantizers.quantization_config import QuantizationConfigMixin
from torch import Tensor, nn

from mova.checkpoints.load import Components
from mova.models.joint import JointModel
from mova.runtime.weights import KEPT, list_quantised_weights, make_quantiser, prepare_storage, quantise_on_arrival


class RowsOfInt8(nn.Module):
    """A linear layer with int8 weights and a scale a row."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.scale = nn.Buffer(weight.abs().amax(1, keepdim=True) / 127)
        self.weight = nn.Parameter((weight / self.scale).round().to(torch.int8), requires_grad=False)
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight.to(x.dtype) * self.scale, self.bias)


class Int8Quantiser(DiffusersQuantizer):
    """int8 in plain torch behind diffusers' interface, as the packages that this machine lacks do it."""

    requires_calibration = False
    required_packages = None

    def __init__(self) -> None:
        config = QuantizationConfigMixin(quant_method="torchao")
        super().__init__(config)
        self.arrived: list[tuple[str, int]] = []

    def _process_model_before_weight_loading(self, model: Any, **_: Any) -> None:
        model.config.quantization_config = self.quantization_config

    def _process_model_after_weight_loading(self, model: Any, **_: Any) -> Any:
        return model

    def create_quantized_param(self, model: Any, value: Tensor, name: str, device: Any, **_: Any) -> None:
        path = name.removesuffix(".weight")
        linear = model.get_submodule(path)
        assert torch.equal(linear.weight, value)
        model.set_submodule(path, RowsOfInt8(value, linear.bias))
        self.arrived.append((name, sum(1 for module in model.modules() if isinstance(module, RowsOfInt8))))

    @property
    def is_serializable(self) -> bool:
        return False

    @property
    def is_trainable(self) -> bool:
        return False


@pytest.fixture
def model(tiny_components: Components) -> JointModel:
    import copy

    return copy.deepcopy(tiny_components.transformer)


def video_linears(model: JointModel) -> set[str]:
    attention = ("to_q", "to_k", "to_v", "to_out")
    layers = [f"{kind}_attn.{name}" for kind in ("self", "cross") for name in attention] + ["ffn.0", "ffn.2"]
    return {f"transformer_blocks.{i}.video.{layer}.weight" for i in range(len(model.transformer_blocks)) for layer in layers}


def test_quantised_are_the_linear_layers_of_the_video_towers_blocks(model: JointModel) -> None:
    assert list_quantised_weights(model) == video_linears(model)
    for name in video_linears(model):
        # the record that goes to diffusers, by its rule, keeps none of them
        assert not any(f"{kept}." in name or kept == name for kept in KEPT), name


def test_every_weight_is_quantised_right_after_it_was_put_in_place(model: JointModel) -> None:
    values = {name: value.clone() for name, value in model.state_dict().items()}
    quantiser = Int8Quantiser()
    prepare_storage(model, "int8", torch.float32, quantiser=quantiser)

    def stream() -> Iterator[tuple[str, Tensor]]:
        for index, (name, value) in enumerate(values.items()):
            assert len(quantiser.arrived) == len(set(list(values)[:index]) & video_linears(model))
            yield name, value

    names = []
    for name, _ in quantise_on_arrival(model, stream(), quantiser=quantiser):
        names.append(name)
    assert names == list(values)
    assert [name for name, _ in quantiser.arrived] == [name for name in values if name in video_linears(model)]
    assert [count for _, count in quantiser.arrived] == list(range(1, len(quantiser.arrived) + 1))
    for name, value in values.items():
        if name not in video_linears(model):
            assert torch.equal(model.state_dict()[name], value)


def test_without_a_quantiser_tensors_pass_unchanged(model: JointModel) -> None:
    assert make_quantiser("none", torch.float32) is None
    assert make_quantiser("fp8", torch.bfloat16) is None
    values = model.state_dict()
    passed = dict(quantise_on_arrival(model, values.items()))
    assert all(passed[name] is values[name] for name in values)


def test_the_quantised_model_runs_near_the_plain_one(model: JointModel) -> None:
    plain, quantiser = run(model), Int8Quantiser()
    prepare_storage(model, "int8", torch.float32, quantiser=quantiser)
    for _ in quantise_on_arrival(model, list(model.state_dict().items()), quantiser=quantiser):
        pass
    for ours, exact in zip(run(model), plain, strict=True):
        assert 0 < (ours - exact).norm() / exact.norm() < 0.1


@pytest.mark.parametrize("kind", ["int8", "fp8_scaled"])
def test_torchao_keeps_the_model_near_the_plain_one(model: JointModel, kind: Any) -> None:
    pytest.importorskip("torchao", reason="torchao is not installed")
    model.to(torch.bfloat16)
    plain, quantiser = run(model), make_quantiser(kind, torch.bfloat16)
    prepare_storage(model, kind, torch.bfloat16, quantiser=quantiser)
    for _ in quantise_on_arrival(model, list(model.state_dict().items()), quantiser=quantiser):
        pass
    for ours, exact in zip(run(model), plain, strict=True):
        assert 0 < (ours - exact).norm() / exact.norm() < 0.2


@torch.no_grad()
def run(model: JointModel) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return model(
        torch.randn(1, 4, 2, 4, 4, generator=generator),
        torch.randn(1, 6, 9, generator=generator),
        video_timestep=torch.tensor([700.0]),
        audio_timestep=torch.tensor([700.0]),
        video_fps=16.0,
        text_embeds=torch.randn(1, 5, 32, generator=generator),
        return_dict=False,
    )
