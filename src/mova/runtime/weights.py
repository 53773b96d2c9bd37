"""How weights are held: in 8 bits, or in host memory while they do not work.

The video towers hold nearly nine tenths of an official joint network's weights. Audio, bridge, norms, embeddings and heads are
small, and errors in them are audible and visible at once: only the blocks of the video tower are stored in 8 bits. Weights are
quantised one by one as they arrive from the files, so that the whole tower is never in memory in 16 bits.

Offloading goes through the hooks of diffusers and accelerate. Two experts share audio and bridge. Whoever moves an expert as a
whole therefore moves the other's audio as well: out and straight in again at the change of experts, or out for good while the
other still needs it. The functions here know which parts an expert has to itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import torch
from accelerate import cpu_offload_with_hook
from accelerate.hooks import UserCpuOffloadHook
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


class Hooked(Protocol):
    """A pipeline of diffusers, whose components may wait in host memory."""

    def maybe_free_model_hooks(self) -> None:
        """Move every component out again, and clear the step caches."""
        ...


_Pipeline = TypeVar("_Pipeline", bound=Hooked)
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def own_parts(module: nn.Module, other: nn.Module | None) -> list[nn.Module]:
    """The largest modules inside ``module`` none of whose weights ``other`` uses; ``module`` itself without another."""
    if other is None:
        return [module]
    return list(_own_parts(module, {id(parameter) for parameter in other.parameters()}))


def offload_blocks(
    experts: Sequence[JointModel], others: Sequence[nn.Module], *, device: torch.device, is_streamed: bool
) -> None:
    """Keep the joint network in host memory; only the block at work is on the device, and with streams the next one.

    The other components come to the device when they work and leave it when a block of the network or another of
    them does.

    Args:
        experts: One or two joint networks.
        others: Text encoder and codecs, in the order in which they work.
        device: Device that computes.
        is_streamed: Whether the next block is copied while one works. Needs CUDA.
    """
    for expert in experts:
        expert.enable_group_offload(
            onload_device=device,
            offload_device=torch.device("cpu"),
            offload_type="block_level",
            num_blocks_per_group=1,
            use_stream=is_streamed,
            record_stream=is_streamed,
        )
    hooks: list[UserCpuOffloadHook] = []
    for component in others:
        _, hook = cpu_offload_with_hook(component, device, prev_module_hook=hooks[-1] if hooks else None)
        hooks.append(hook)
    if hooks:
        hooks[0].hook.prev_module_hook = hooks[-1]  # the last one of a run makes room for the first of the next
    for expert in experts:
        expert.register_forward_pre_hook(_make_offload_hook(hooks))


def refresh_blocks(model: nn.Module) -> None:
    """Let streamed block hooks see weights that were put in place since: they keep pinned copies, by parameter.

    diffusers' own way removes the hooks and sets them again. It loses the traced order of the blocks, and cannot be done
    while the model is being called.
    """
    for module in model.modules():
        registry = getattr(module, "_diffusers_hook", None)
        hook = registry.get_hook("group_offloading") if registry is not None else None
        if hook is not None:
            hook.group.cpu_param_dict = hook.group._init_cpu_param_dict()


def keep_shared_parts(first: nn.Module | None, second: nn.Module | None, after: nn.Module) -> None:
    """Fix the chain of ``enable_model_cpu_offload`` for two experts.

    By itself that chain moves audio and bridge out with the first expert and in again with the second, and leaves the
    first on the device through the decoding when a run has not come to the second.

    Args:
        first: The expert for high noise, hooked by accelerate.
        second: The expert for low noise; ``None`` with one, which needs no fix.
        after: The component that works next, the video codec.
    """
    if first is None or second is None:
        return
    inside = {id(module) for module in second.modules()}
    shared = [part for part in first.modules() if id(part) in inside and any(True for _ in part.parameters())]
    own = own_parts(first, second)
    _get_hook(second).prev_module_hook = _Leaving(own[0], own)
    _get_hook(after).prev_module_hook = _Leaving(shared[0], [first, second])


def frees_hooks(
    call: Callable[Concatenate[_Pipeline, _Arguments], _Result],
) -> Callable[Concatenate[_Pipeline, _Arguments], _Result]:
    """A pipeline's call after which nothing stays on the device, whether it ends well or fails, wherever it fails."""

    @wraps(call)
    def freeing(pipeline: _Pipeline, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        try:
            return call(pipeline, *args, **kwargs)
        finally:
            pipeline.maybe_free_model_hooks()

    return freeing


def _get_hook(module: nn.Module) -> Any:
    """accelerate's hook of a module."""
    return module._hf_hook


class _Leaving(UserCpuOffloadHook):
    """Hook that moves parts to host memory. accelerate calls it when ``model`` is seen to be elsewhere."""

    def __init__(self, model: nn.Module, parts: Sequence[nn.Module]) -> None:
        super().__init__(model, None)
        self.parts = parts

    def offload(self) -> None:
        for part in self.parts:
            part.to("cpu")


def _make_offload_hook(hooks: Sequence[UserCpuOffloadHook]) -> Callable[..., None]:
    def leave(*_: Any) -> None:
        for hook in hooks:
            if next(hook.model.parameters()).device.type != "cpu":
                hook.offload()

    return leave


def _own_parts(module: nn.Module, foreign: set[int]) -> Iterator[nn.Module]:
    parameters = [id(parameter) for parameter in module.parameters()]
    if parameters and foreign.isdisjoint(parameters):
        yield module
    elif not foreign.issuperset(parameters):
        for child in module.children():
            yield from _own_parts(child, foreign)
