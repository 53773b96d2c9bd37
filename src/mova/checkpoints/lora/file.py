"""LoRA files: read, checked and written; safetensors only, a pickle is refused unread.

The namings of diffusers, PEFT, kohya's scripts and the official trainer (spec 4.2) are read, and mixed if a file mixes them
(:mod:`mova.checkpoints.lora.tensor_names`). Rank and alpha are in the file's metadata, in a JSON document beside it
(:mod:`mova.checkpoints.lora.settings`), or in ``<path>.alpha`` tensors; without any, alpha is the rank, as in diffusers.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mova.checkpoints.header import read_header
from mova.checkpoints.lora.settings import PICKLES, Settings, number, read_settings, refuse_pickle
from mova.checkpoints.lora.tensor_names import COMPONENTS, EXPERTS, Place, locate, split_name
from mova.conditioning.sources import content_hash
from mova.errors import CheckpointError, MissingCheckpointError
from mova.files import atomic_write, is_regular, open_regular
from mova.models.joint import VIDEO_COMPONENTS, ours_to_official

Naming = Literal["diffusers", "official"]

DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"
OFFICIAL_FILE = "lora_weights.safetensors"
_FOLDER_FILES = (DIFFUSERS_FILE, "adapter_model.safetensors", OFFICIAL_FILE)
_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@dataclass(frozen=True, eq=False)
class LoraLayer:
    """What is added to one linear layer: ``y = W x + alpha / rank up(down(x))`` (spec 4.2).

    Attributes:
        down: ``[rank, in]``, ``lora_A`` in files.
        up: ``[out, rank]``, ``lora_B``.
        alpha: Strength at scale 1, over the rank.
    """

    down: Tensor
    up: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        """Rank of the update."""
        return self.down.shape[0]


@dataclass(frozen=True)
class LoraFile:
    """A LoRA for a model of one or two experts, by our names of the layers.

    Attributes:
        transformer: Layers of the first expert, and of the audio and the bridge, which both experts share.
        transformer_2: Layers of the second expert's video tower.
    """

    transformer: Mapping[str, LoraLayer]
    transformer_2: Mapping[str, LoraLayer] = field(default_factory=dict)


def read_lora(path: str | Path) -> LoraFile:
    """Read and check a LoRA; whether it fits a model is checked when it is attached.

    Args:
        path: A ``.safetensors`` file, or a folder that holds one.

    Raises:
        CheckpointError: If there is none, or it is a pickle, broken, incomplete, or holds something else.
    """
    file = _find(Path(path).expanduser())
    tensors, metadata = _read(file)
    settings = read_settings(file, metadata)
    experts: dict[str, dict[str, LoraLayer]] = {name: {} for name in EXPERTS}
    for stored, parts in _by_layer(file, tensors).items():
        try:
            place = locate(stored)
        except ValueError as error:
            raise CheckpointError(
                f"{file} names a layer that no model has: {stored} ({error}).",
                f"Names begin with {', '.join((*EXPERTS, *COMPONENTS))}.",
            ) from None
        layer = _layer(file, stored, parts, settings, place)
        known = experts[place.expert].setdefault(place.ours, layer)
        if known is not layer and not _are_equal(known, layer):
            raise CheckpointError(
                f"{file} gives {place.ours} twice, and not alike.", "Both experts share it: keep one of the two."
            )
    return LoraFile(**experts)


def lora_hash(path: str | Path) -> str:
    """SHA-256 of a LoRA's file, 64 hex digits.

    Args:
        path: A ``.safetensors`` file, or a folder that holds one.

    Raises:
        CheckpointError: If there is none.
        MediaError: If it cannot be read.
    """
    return content_hash(str(_find(Path(path).expanduser())))


def write_lora(path: str | Path, lora: LoraFile, *, names: Naming = "diffusers") -> Path:
    """Write a LoRA; a file that is there is replaced when the new one is whole.

    Args:
        path: Ends in ``.safetensors``.
        lora: What to write.
        names: ``"diffusers"``, or ``"official"`` for the reference's trainer and its ports.

    Returns:
        The file.

    Raises:
        CheckpointError: If it cannot be written; nothing is left behind.
    """
    target = Path(path)
    if target.suffix != ".safetensors":
        raise CheckpointError(f"a LoRA is written as .safetensors; got {target.name!r}.", f"Use {target.stem}.safetensors.")
    tensors, metadata = _diffusers_content(lora) if names == "diffusers" else _official_content(lora)
    try:
        with atomic_write(target) as beside:
            save_file(tensors, beside, metadata={"format": "pt", **metadata})
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{target} cannot be written: {reason}.", "Check the folder and its free space.") from error
    return target


def peft_settings(layers: Mapping[str, LoraLayer]) -> dict[str, Any]:
    """Rank, alpha and targets of layers as the arguments of ``peft.LoraConfig``."""
    rank = _most_common(layer.rank for layer in layers.values())
    alpha = _most_common(layer.alpha for layer in layers.values())
    return {
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {f"^{re.escape(name)}": layer.rank for name, layer in layers.items() if layer.rank != rank},
        "alpha_pattern": {f"^{re.escape(name)}": layer.alpha for name, layer in layers.items() if layer.alpha != alpha},
        "target_modules": sorted(layers),
    }


def peft_tensors(layers: Mapping[str, LoraLayer]) -> dict[str, Tensor]:
    """Tensors of layers by PEFT's names."""
    named: dict[str, Tensor] = {}
    for name, layer in layers.items():
        named[f"{name}.lora_A.weight"], named[f"{name}.lora_B.weight"] = layer.down, layer.up
    return named


def _find(path: Path) -> Path:
    if os.path.isdir(path):
        named = [path / name for name in _FOLDER_FILES if is_regular(path / name)]
        found = named[:1] or sorted(path.glob("*.safetensors"))
        if len(found) > 1:
            raise CheckpointError(f"{path} holds {len(found)} .safetensors files.", "Give the file.")
        if not found:
            pickles = sorted(file for file in path.iterdir() if file.suffix in PICKLES)
            if not pickles:
                raise CheckpointError(f"{path} holds no LoRA (*.safetensors).", "Give the file.")
            refuse_pickle(pickles[0])
        path = found[0]
    if not os.path.exists(path):
        raise MissingCheckpointError(f"there is no file {path}.", "Give a LoRA's .safetensors file.")
    return path


def _read(file: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    try:
        with open_regular(file) as stream:
            head = stream.read(9)
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror}.", "Give a LoRA's .safetensors file.") from None
    # the JSON header of safetensors begins at byte 8; "PK" and 0x80 begin a torch file and a bare pickle
    if file.suffix in PICKLES or (head[8:] != b"{" and head.startswith((b"PK\x03\x04", b"\x80"))):
        refuse_pickle(file)
    header = read_header(file)
    try:
        with safe_open(file, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in header.tensors}, header.metadata
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is broken: {error}", "Download or write the file again.") from error


def _by_layer(file: Path, tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Stored name of a layer -> its ``lora_A``, ``lora_B`` and maybe ``alpha``."""
    layers: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        try:
            stored, half = split_name(key)
        except ValueError as error:
            raise CheckpointError(
                f"{file} holds {key[:200]}, which is {error}.", "Only the two halves of a LoRA and its alpha are read."
            ) from None
        if half == "alpha":
            tensor = tensor.to(torch.float64) if tensor.numel() == 1 else tensor
        if tensor.dtype not in _DTYPES or not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{file}: {key} holds other values than finite floats.", "The file is broken.")
        if layers.setdefault(stored, {}).setdefault(half, tensor) is not tensor:
            raise CheckpointError(f"{file} gives {half} of {stored} twice.", "Keep one of the two, or of the adapters.")
    if not layers:
        raise CheckpointError(f"{file} holds no tensors.", "Give another file.")
    return layers


def _layer(file: Path, stored: str, parts: Mapping[str, Tensor], settings: Settings, place: Place) -> LoraLayer:
    down, up = parts.get("lora_A"), parts.get("lora_B")
    if down is None or up is None:
        raise CheckpointError(
            f"{file} has {' and '.join(sorted(parts))} of {stored} without its other half.", "It is cut short."
        )
    if down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1] or 0 in (*down.shape, *up.shape):
        raise CheckpointError(
            f"{file}: {stored} must be [rank, in] and [out, rank]; got {list(down.shape)} and {list(up.shape)}.",
            "Only linear layers take a LoRA.",
        )
    beside = parts.get("alpha")
    if beside is not None and beside.numel() != 1:
        raise CheckpointError(f"{file}: alpha of {stored} must be one number; got {list(beside.shape)}.", "The file is broken.")
    own = None if beside is None else number(file, "alpha", float(beside.item()))
    alpha = settings.alpha(stored, scope=place.scope, local=place.local, rank=down.shape[0], stored=own)
    return LoraLayer(down=down, up=up, alpha=alpha)


def _are_equal(one: LoraLayer, other: LoraLayer) -> bool:
    return one.alpha == other.alpha and torch.equal(one.down, other.down) and torch.equal(one.up, other.up)


def _most_common(values: Any) -> Any:
    return Counter(values).most_common(1)[0][0]


def _diffusers_content(lora: LoraFile) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors: dict[str, Tensor] = {}
    settings: dict[str, Any] = {}
    for expert in EXPERTS:
        if layers := getattr(lora, expert):
            tensors |= {f"{expert}.{name}": _plain(tensor) for name, tensor in peft_tensors(layers).items()}
            settings |= {f"{expert}.{name}": value for name, value in peft_settings(layers).items()}
    return tensors, {"lora_adapter_metadata": json.dumps(settings, sort_keys=True)}


def _official_content(lora: LoraFile) -> tuple[dict[str, Tensor], dict[str, str]]:
    layers: dict[str, LoraLayer] = {}
    for component, named in zip(VIDEO_COMPONENTS, (lora.transformer, lora.transformer_2), strict=True):
        for path, layer in named.items():
            folder, official = ours_to_official(f"{path}.weight")
            folder = component if folder in VIDEO_COMPONENTS else folder
            layers[f"{folder}.{official.removesuffix('.weight')}"] = layer
    settings = peft_settings(layers)
    written = {
        "rank": settings["r"],
        "alpha": settings["lora_alpha"],
        "target_modules": sorted({name.rpartition(".")[2] for name in layers}),
        **{name: settings[name] for name in ("rank_pattern", "alpha_pattern") if settings[name]},
    }
    tensors = {name: _plain(tensor) for name, tensor in peft_tensors(layers).items()}
    return tensors, {"lora_config": json.dumps(written, sort_keys=True)}


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu").contiguous()
