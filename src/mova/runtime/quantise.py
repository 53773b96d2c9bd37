"""Weights of the video tower's blocks in 8 bits; everything else stays in the run's number format.

The video towers hold nearly nine tenths of an official joint network's weights. Audio, bridge, norms, embeddings and
heads are small, and errors in them are audible and visible at once. Weights are quantised one by one as they arrive from the
files, so that the whole tower is never in memory in 16 bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from diffusers.hooks import apply_layerwise_casting
from torch import Tensor, nn

from mova.errors import MissingExtraError, RequestError
from mova.models.joint import DualTowerBlock, JointModel
from mova.runtime.options import TORCHAO, Quantisation

EXTRA = "quantise"
KEPT = ("video_embed", "audio_embed", "video_head", "audio_head", "audio", "a2v", "v2a")
STORAGE = torch.float8_e4m3fn


def check_quantisation(kind: Quantisation) -> None:
    """Whether what a quantisation needs is installed.

    Raises:
        MissingExtraError: If it is not.
    """
    if kind in TORCHAO and find_spec("torchao") is None:
        raise MissingExtraError("torchao", EXTRA)


def make_quantiser(kind: Quantisation, dtype: torch.dtype) -> Any:
    """diffusers' quantiser for a kind that stores scales; ``None`` for the others.

    Args:
        kind: See :class:`~mova.runtime.options.RuntimeOptions`.
        dtype: Number format of the products.

    Raises:
        MissingExtraError: If torchao is not installed.
        RequestError: If the installed one cannot do it.
    """
    check_quantisation(kind)
    if kind not in TORCHAO:
        return None
    from diffusers.quantizers.auto import DiffusersAutoQuantizer
    from diffusers.quantizers.quantization_config import TorchAoConfig

    try:
        torchao = import_module("torchao.quantization")
        scheme = torchao.Int8WeightOnlyConfig() if kind == "int8" else torchao.Float8WeightOnlyConfig()
        config = TorchAoConfig(scheme, modules_to_not_convert=list(KEPT))
        quantiser = DiffusersAutoQuantizer.from_config(config, pre_quantized=False)
        quantiser.validate_environment(torch_dtype=dtype, device_map=None)
    except (ImportError, AttributeError, ValueError, RuntimeError) as error:  # too old, or built for another torch
        raise RequestError(
            f"the installed torchao cannot do quantisation={kind!r}: {error}",
            f'Run: pip install -U "mova-av[{EXTRA}]"',
            field="quantisation",
        ) from error
    return quantiser


def prepare_storage(model: JointModel, kind: Quantisation, dtype: torch.dtype, *, quantiser: Any = None) -> None:
    """Make a network that has no weights yet ready for quantised ones.

    With ``"fp8"`` the parameters become float8 and diffusers' layerwise casting brings each layer to ``dtype`` while
    it works.

    Args:
        model: Its parameters may be on the meta device.
        kind: See :class:`~mova.runtime.options.RuntimeOptions`.
        dtype: Number format of the products.
        quantiser: Result of :func:`make_quantiser`.
    """
    if quantiser is not None:
        quantiser.preprocess_model(model, device_map=None, keep_in_fp32_modules=[])
    if kind == "fp8":
        for block in _blocks(model):
            apply_layerwise_casting(block, STORAGE, dtype, skip_modules_pattern=("norm",))


def quantise_on_arrival(
    model: JointModel, tensors: Iterable[tuple[str, Tensor]], *, quantiser: Any = None
) -> Iterator[tuple[str, Tensor]]:
    """The same tensors by their names in the model; each is quantised in the model once the reader has put it there.

    Args:
        model: Network that the reader fills.
        tensors: Names and values.
        quantiser: Result of :func:`make_quantiser`; ``None`` changes nothing.
    """
    chosen = list_quantised_weights(model) if quantiser is not None else set()
    for name, tensor in tensors:
        yield name, tensor
        if name in chosen:
            quantiser.create_quantized_param(
                model, tensor, name, tensor.device, state_dict={}, unexpected_keys=[], dtype=tensor.dtype
            )
            model.get_parameter(name).requires_grad_(False)


def list_quantised_weights(model: JointModel) -> set[str]:
    """Names of the weights that a quantisation changes: those of linear layers in the video tower's blocks."""
    inside = {id(linear) for block in _blocks(model) for linear in block.modules() if isinstance(linear, nn.Linear)}
    return {f"{name}.weight" for name, module in model.named_modules() if id(module) in inside}


def _blocks(model: JointModel) -> Iterator[nn.Module]:
    for block in model.transformer_blocks:
        if isinstance(block, DualTowerBlock) and block.video is not None:
            yield block.video
