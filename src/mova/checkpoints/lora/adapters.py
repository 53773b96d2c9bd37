"""LoRAs on a model: attached, weighed against each other, taken off again.

PEFT wraps each linear layer that a LoRA changes in a layer of its own. Two experts share the very modules of the audio
and the bridge, so a LoRA of those is put into the first expert and thereby is in both; only the video towers are the
experts' own. What is attached, and how strongly, is kept nowhere but in those layers.
"""

from __future__ import annotations

import logging
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffusers.hooks.group_offloading import _maybe_remove_and_reapply_group_offloading
from peft.tuners.lora import LoraLayer as PeftLayer
from torch import nn

from mova.checkpoints.lora.file import LoraFile, LoraLayer, peft_settings, peft_tensors, read_lora
from mova.checkpoints.lora.tensor_names import is_shared
from mova.errors import CheckpointError, RequestError
from mova.models.joint import JointModel

Experts = Sequence[JointModel]


def load_lora(experts: Experts, path: str | Path, *, name: str | None = None, scale: float = 1.0, pipeline: Any = None) -> str:
    """Read a LoRA and add it to what is attached already.

    Args:
        experts: The model's networks, one or two.
        path: A ``.safetensors`` file, or a folder that holds one.
        name: Name of the adapter; made from the file's name if not given.
        scale: Strength of the LoRA; 0 is without it.
        pipeline: Around the experts, if its parts may be offloaded: the hooks are renewed.

    Returns:
        The name.

    Raises:
        CheckpointError: If the file is broken, or made for another model. Nothing has changed then.
        RequestError: If the name or the scale cannot be used.
    """
    lora = read_lora(path)
    chosen = _free_name(Path(path).expanduser().stem, lora_scales(experts)) if name is None else name
    attach_lora(experts, lora, name=chosen, scale=scale, source=str(path), pipeline=pipeline)
    return chosen


def attach_lora(
    experts: Experts, lora: LoraFile, *, name: str, scale: float = 1.0, source: str = "the LoRA", pipeline: Any = None
) -> None:
    """Add a LoRA to what is attached already; either all of it or, after an error, nothing.

    Args:
        experts: The model's networks, one or two.
        lora: What :func:`~mova.checkpoints.lora.file.read_lora` gave.
        name: Unused name of the adapter.
        scale: Strength of the LoRA.
        source: Origin of the LoRA, for messages.
        pipeline: Around the experts, if its parts may be offloaded.

    Raises:
        CheckpointError: If it is made for another model.
        RequestError: If the name or the scale cannot be used.
    """
    _check_scale(name, scale)
    _check_name(name, lora_scales(experts))
    _check_not_fused(experts)
    check_fits(experts, lora, source=source)
    active = {layer: list(layer.active_adapters) for layer in _lora_layers(experts)}
    trainable = [(parameter, parameter.requires_grad) for expert in experts for parameter in expert.parameters()]
    try:
        # the second first: when the shared layers come, every layer of that name is in the file's part
        for expert, layers in reversed(list(zip(experts, (lora.transformer, lora.transformer_2), strict=False))):
            if layers:
                _inject(expert, layers, name, pipeline)
        for layer in _lora_layers(experts):
            layer.set_scale(name, scale)
            own = [name] if name in layer.lora_A and scale != 0 else []
            layer.set_adapter([*active.get(layer, []), *own], inference_mode=True)
    except BaseException:
        _detach(experts, name)
        for layer, names in active.items():
            layer.set_adapter(names, inference_mode=True)
        raise
    finally:
        for parameter, was in trainable:  # PEFT freezes what it finds
            parameter.requires_grad_(was)
    for expert in experts:
        _maybe_remove_and_reapply_group_offloading(expert)


def check_fits(experts: Experts, lora: LoraFile, *, source: str = "the LoRA") -> None:
    """Compare a LoRA with the linear layers of a model; nothing is changed.

    Raises:
        CheckpointError: If a layer is unknown or of another width.
    """
    if lora.transformer_2 and len(experts) == 1:
        raise CheckpointError(f"{source} has layers of a second expert; this model has one.", "It belongs to another model.")
    for expert, layers in zip(experts, (lora.transformer, lora.transformer_2), strict=False):
        linear = _linear_layers(expert) if layers else {}
        unknown = [path for path in layers if path not in linear]
        if unknown:
            more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
            raise CheckpointError(
                f"{source} has layers that this model has not, or not as linear layers: {', '.join(unknown[:3])}{more}.",
                "It belongs to another model.",
            )
        for path, layer in layers.items():
            ours = (linear[path].in_features, linear[path].out_features)
            theirs = (layer.down.shape[1], layer.up.shape[0])
            if theirs != ours:
                raise CheckpointError(
                    f"{source}: {path} takes {theirs[0]} to {theirs[1]} channels; in this model {ours[0]} to {ours[1]}.",
                    "It belongs to a model of another width.",
                )


def lora_scales(experts: Experts) -> dict[str, float]:
    """Name, in the order of the alphabet, and strength of everything attached; 0 where it is attached but off."""
    scales: dict[str, float] = {}
    for layer in _lora_layers(experts):
        for name in layer.lora_A:
            is_on = name in layer.active_adapters and not layer.disable_adapters
            unit = layer.lora_alpha[name] / (math.sqrt(layer.r[name]) if layer.use_rslora[name] else layer.r[name])
            # twelve digits: the layer keeps scale * alpha / rank
            scales[name] = float(f"{layer.scaling[name] / unit:.12g}") if is_on else 0.0
    return dict(sorted(scales.items()))


def set_lora_scales(experts: Experts, scales: Mapping[str, float]) -> None:
    """Set the strength of some; the others keep theirs. At 0 a LoRA is off and costs nothing.

    Raises:
        RequestError: If a name is not attached, or a scale is not a finite number.
    """
    _check_attached(experts, scales)
    for name, scale in scales.items():
        _check_scale(name, scale)
    _check_not_fused(experts)
    for layer in _lora_layers(experts):
        for name, scale in scales.items():
            layer.set_scale(name, scale)
        on = [name for name in layer.lora_A if (scales[name] != 0 if name in scales else name in layer.active_adapters)]
        layer.set_adapter(on, inference_mode=True)


def unload_lora(experts: Experts, name: str | None = None) -> None:
    """Take one off, or all; the layers that no LoRA changes any more are the original objects again.

    Raises:
        RequestError: If the name is not attached.
    """
    names = list(lora_scales(experts)) if name is None else [name]
    _check_attached(experts, names)
    for each in names:
        _detach(experts, each)


def collect_lora(experts: Experts, name: str) -> LoraFile:
    """What is attached under a name, at scale 1, copied out of the model.

    Raises:
        RequestError: If the name is not attached.
    """
    _check_attached(experts, [name])
    found: list[dict[str, LoraLayer]] = [
        {
            path: _collect(layer, name)
            for path, layer in expert.named_modules()
            if isinstance(layer, PeftLayer) and name in layer.lora_A and not (index and is_shared(path))
        }
        for index, expert in enumerate(experts)
    ]
    return LoraFile(*found)


def _inject(expert: JointModel, layers: Mapping[str, LoraLayer], name: str, pipeline: Any) -> None:
    with _without_warnings():
        expert.load_lora_adapter(
            peft_tensors(layers),
            prefix=None,
            adapter_name=name,
            metadata={**peft_settings(layers), "init_lora_weights": False, "inference_mode": True},
            low_cpu_mem_usage=True,  # no weights are drawn only to be replaced: torch's random state stays as it is
            _pipeline=pipeline,
        )
    for path, layer in layers.items():
        wrapped: Any = expert.get_submodule(path)
        for half, tensor in ((wrapped.lora_A[name], layer.down), (wrapped.lora_B[name], layer.up)):
            if half.weight.dtype.itemsize < 2:  # PEFT takes the base's type; float8 is for keeping, not for computing
                half.weight.data = tensor.to(half.weight.device, expert.dtype)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """PEFT warns of a second adapter, diffusers of missing keys where names are parts of one another; all is checked here."""
    logger = logging.getLogger("diffusers.utils.peft_utils")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`")
            yield
    finally:
        logger.setLevel(level)


def _detach(experts: Experts, name: str) -> None:
    for layer in _lora_layers(experts):
        layer.set_adapter([other for other in layer.active_adapters if other != name], inference_mode=True)
    for expert in experts:
        expert.delete_adapters(name)
        for path, layer in list(expert.named_modules()):
            if isinstance(layer, PeftLayer) and not layer.lora_A:
                owner, _, leaf = path.rpartition(".")
                setattr(expert.get_submodule(owner), leaf, layer.get_base_layer())
        _maybe_remove_and_reapply_group_offloading(expert)


def _collect(layer: Any, name: str) -> LoraLayer:
    down, up = (half[name].weight.detach().cpu().clone() for half in (layer.lora_A, layer.lora_B))
    alpha = float(layer.lora_alpha[name]) * (math.sqrt(layer.r[name]) if layer.use_rslora[name] else 1.0)
    return LoraLayer(down=down, up=up, alpha=alpha)


def _lora_layers(experts: Experts) -> Iterator[Any]:
    """Every wrapped layer once, shared ones too."""
    seen: set[int] = set()
    for expert in experts:
        for module in expert.modules():
            if isinstance(module, PeftLayer) and id(module) not in seen:
                seen.add(id(module))
                yield module


def _linear_layers(expert: JointModel) -> dict[str, nn.Linear]:
    """The model's own linear layers, wrapped or not."""
    found: dict[str, nn.Linear] = {}
    wrapped: tuple[str, ...] = ()
    for path, module in expert.named_modules():
        if isinstance(module, PeftLayer):
            wrapped = (*wrapped, f"{path}.")
            module = module.get_base_layer()
        elif path.startswith(wrapped):
            continue
        if isinstance(module, nn.Linear):
            found[path] = module
    return found


def _check_name(name: str, attached: Mapping[str, float]) -> None:
    if not _is_name(name):
        raise RequestError(
            f"{name!r} is no name for a LoRA.", "Letters, digits, - and _, none of torch's own words.", field="lora"
        )
    if name in attached:
        raise RequestError(f"a LoRA named {name!r} is attached already.", "Give another name, or unload it.", field="lora")


def _is_name(name: object) -> bool:
    # the name becomes a key of an nn.ModuleDict, which has attributes of its own
    return isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9][\w-]*", name) is not None and not hasattr(nn.ModuleDict(), name)


def _free_name(stem: str, attached: Mapping[str, float]) -> str:
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", stem).strip("_-") or "lora"
    name, number = plain, 2
    while name in attached or not _is_name(name):
        name, number = f"{plain}_{number}", number + 1
    return name


def _check_scale(name: str, scale: object) -> None:
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not math.isfinite(scale):
        raise RequestError(f"the scale of LoRA {name!r} must be a finite number; got {scale!r}.", field="lora")


def _check_attached(experts: Experts, names: Mapping[str, float] | Sequence[str]) -> None:
    attached = lora_scales(experts)
    for name in names:
        if name not in attached:
            raise RequestError(
                f"no LoRA named {name!r} is attached.", f"Attached: {', '.join(attached) or 'none'}.", field="lora"
            )


def _check_not_fused(experts: Experts) -> None:
    if any(layer.merged for layer in _lora_layers(experts)):
        raise RequestError("a LoRA is fused into the weights.", "Call unfuse_lora of each expert first.", field="lora")
