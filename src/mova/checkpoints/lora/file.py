"""LoRA files: read, checked and written; safetensors only, a pickle is refused unread.

Two namings are read, and mixed if a file mixes them: that of diffusers and PEFT, ``transformer.<our
path>.lora_A.weight`` (``transformer_2.`` for the second expert; without either, the first), and that of the official
trainer, ``<component>.<official path>.lora_A.weight`` (spec 4.2). Rank and alpha are in the file's metadata, in a JSON
document beside it, or in ``<path>.alpha`` tensors; without any, alpha is the rank, as in diffusers.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mova.checkpoints.layout import read_json
from mova.conditioning.sources import content_hash
from mova.errors import CheckpointError
from mova.files import atomic_write
from mova.models.presets import (
    AUDIO_COMPONENT,
    BRIDGE_COMPONENT,
    VIDEO_COMPONENTS,
    official_to_ours,
    ours_to_official,
)

Naming = Literal["diffusers", "official"]

DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"
OFFICIAL_FILE = "lora_weights.safetensors"
_FOLDER_FILES = (DIFFUSERS_FILE, "adapter_model.safetensors", OFFICIAL_FILE)
_CONFIG_FILES = ("lora_config.json", "adapter_config.json")
_EXPERTS = ("transformer", "transformer_2")
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
# settings of PEFT that make more than W + alpha / rank B A
_BEYOND_LORA = ("use_dora", "lora_bias", "use_qalora", "modules_to_save", "alora_invocation_tokens", "layer_replication")


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
    settings = _settings(file, metadata)
    experts: dict[str, dict[str, LoraLayer]] = {name: {} for name in _EXPERTS}
    for stored, parts in _by_layer(file, tensors).items():
        expert, ours, scope, local = _locate(file, stored)
        layer = _layer(file, stored, parts, settings.get(scope, settings.get("", {})), local)
        known = experts[expert].setdefault(ours, layer)
        if known is not layer and not _are_equal(known, layer):
            raise CheckpointError(f"{file} gives {ours} twice, and not alike.", "Both experts share it: keep one of the two.")
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


def is_shared(path: str) -> bool:
    """Whether a layer, by our name, belongs to the audio or the bridge, which both experts share.

    Raises:
        ValueError: If the name is unknown.
    """
    return ours_to_official(f"{path}.weight")[0] not in VIDEO_COMPONENTS


def _find(path: Path) -> Path:
    if path.is_dir():
        named = [path / name for name in _FOLDER_FILES if (path / name).is_file()]
        found = named[:1] or sorted(path.glob("*.safetensors"))
        if len(found) > 1:
            raise CheckpointError(f"{path} holds {len(found)} .safetensors files.", "Give the file.")
        if not found:
            pickles = sorted(file for file in path.iterdir() if file.suffix in _PICKLES)
            if not pickles:
                raise CheckpointError(f"{path} holds no LoRA (*.safetensors).", "Give the file.")
            _refuse_pickle(pickles[0])
        path = found[0]
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}.", "Give a LoRA's .safetensors file.")
    return path


def _refuse_pickle(path: Path) -> NoReturn:
    raise CheckpointError(
        f"{path} is a pickle, which can run code, and is not read.",
        "Where you trust it, write torch.load(file, weights_only=True) with safetensors.torch.save_file, "
        'and rank and alpha as {"rank": 16, "alpha": 16} into lora_config.json beside it.',
    )


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with file.open("rb") as stream:
            head = stream.read(9)
        # the JSON header of safetensors begins at byte 8; "PK" and 0x80 begin a torch file and a bare pickle
        if file.suffix in _PICKLES or (head[8:] != b"{" and head.startswith((b"PK\x03\x04", b"\x80"))):
            _refuse_pickle(file)
        with safe_open(file, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
            return tensors, dict(opened.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is broken: {error}", "Download or write the file again.") from error


def _by_layer(file: Path, tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Stored name of a layer -> its ``lora_A``, ``lora_B`` and maybe ``alpha``."""
    layers: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        match = re.fullmatch(r"(?:base_model\.model\.)?(.+)\.(?:(lora_[AB])\.weight|(alpha))", key)
        if match is None:
            raise CheckpointError(f"{file} holds {key}, which is no part of a plain LoRA.", "Only lora_A and lora_B are read.")
        if tensor.dtype not in _DTYPES or not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{file}: {key} holds other values than finite floats.", "The file is broken.")
        layers.setdefault(match[1], {})[match[2] or match[3]] = tensor
    if not layers:
        raise CheckpointError(f"{file} holds no tensors.", "Give another file.")
    return layers


def _locate(file: Path, stored: str) -> tuple[str, str, str, str]:
    """Expert, our name, scope of its settings, and the name that their patterns match."""
    prefix, _, rest = stored.partition(".")
    try:
        if prefix in (*VIDEO_COMPONENTS, AUDIO_COMPONENT, BRIDGE_COMPONENT):
            ours = official_to_ours(prefix, f"{rest}.weight").removesuffix(".weight")
            return _EXPERTS[prefix == VIDEO_COMPONENTS[1]], ours, "", stored
        ours, scope = (rest, prefix) if prefix in _EXPERTS else (stored, "")
        return _EXPERTS[scope == _EXPERTS[1] and not is_shared(ours)], ours, scope, ours
    except ValueError:
        raise CheckpointError(
            f"{file} names a layer that no model has: {stored}.",
            f"Names begin with {', '.join((*_EXPERTS, *VIDEO_COMPONENTS, AUDIO_COMPONENT, BRIDGE_COMPONENT))}.",
        ) from None


def _layer(file: Path, stored: str, parts: Mapping[str, Tensor], settings: Mapping[str, Any], local: str) -> LoraLayer:
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
    rank = down.shape[0]
    said = _setting(file, settings, ("r", "rank"), "rank_pattern", local)
    if said is not None and said != rank:
        raise CheckpointError(
            f"{file}: the rank of {stored} is {rank}; its settings say {said:g}.",
            "Correct rank and alpha: the official trainer writes 16 whatever it used.",
        )
    if "alpha" in parts:
        alpha = _number(file, "alpha", parts["alpha"].tolist())
    else:
        alpha = _setting(file, settings, ("lora_alpha", "alpha"), "alpha_pattern", local) or float(rank)
    if settings.get("use_rslora") and "alpha" not in parts:
        alpha *= math.sqrt(rank)  # alpha / sqrt(rank), in the words of alpha / rank
    return LoraLayer(down=down, up=up, alpha=alpha)


def _settings(file: Path, metadata: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Rank and alpha by scope: an expert's name, or "" for all."""
    if any(name in metadata for name in ("lora_adapter_metadata", "lora_config")):
        name = "lora_adapter_metadata" if "lora_adapter_metadata" in metadata else "lora_config"
        try:
            values = json.loads(metadata[name])
        except ValueError:
            values = None
        if not isinstance(values, dict):
            raise CheckpointError(f"{file}: {name} in its metadata is no JSON mapping.", "Write the file again.")
    elif "alpha" in metadata:
        values = {name: metadata[name] for name in ("rank", "alpha") if name in metadata}
    else:
        beside = [file.with_name(name) for name in (f"{file.stem}.json", *_CONFIG_FILES)]
        values = next((read_json(path) for path in beside if path.is_file()), {})
        if not values and (pickle := file.with_name("lora_config.pt")).exists():
            _refuse_pickle(pickle)
    scopes: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        prefix, dot, rest = key.partition(".")
        scope, name = (prefix, rest) if dot and prefix in _EXPERTS else ("", key)
        scopes.setdefault(scope, {})[name] = value
    for scope in scopes.values():
        _check_plain(file, scope)
    return scopes


def _check_plain(file: Path, settings: Mapping[str, Any]) -> None:
    beyond = [name for name in _BEYOND_LORA if settings.get(name)]
    start = settings.get("init_lora_weights", True)
    if isinstance(start, str) and start != "gaussian":  # PiSSA and the like change the base weights too
        beyond.append(f"init_lora_weights={start}")
    if beyond:
        raise CheckpointError(f"{file} is not a plain LoRA: {', '.join(beyond)}.", "Convert it to a plain LoRA with PEFT.")


def _setting(file: Path, settings: Mapping[str, Any], names: tuple[str, ...], patterns: str, layer: str) -> float | None:
    """A layer's own value, or that of all; PEFT's rule: a pattern matches the end of the name, from a dot on."""
    given = settings.get(patterns) or {}
    if not isinstance(given, dict):
        raise CheckpointError(f"{file}: {patterns} must be a mapping; got {given!r}.", "Correct its settings.")
    for pattern, value in given.items():
        try:
            matches = re.match(rf"(.*\.)?({pattern})$", layer)
        except re.error:
            raise CheckpointError(f"{file}: {patterns} has a broken pattern {pattern!r}.", "Correct its settings.") from None
        if matches:
            return _number(file, patterns, value)
    value = next((settings[name] for name in names if settings.get(name) is not None), None)
    return None if value is None else _number(file, names[-1], value)


def _number(file: Path, name: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise CheckpointError(f"{file}: {name} must be a number above 0; got {value!r}.", "Correct its settings.")
    return number


def _are_equal(one: LoraLayer, other: LoraLayer) -> bool:
    return one.alpha == other.alpha and torch.equal(one.down, other.down) and torch.equal(one.up, other.up)


def _most_common(values: Any) -> Any:
    return Counter(values).most_common(1)[0][0]


def _diffusers_content(lora: LoraFile) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors: dict[str, Tensor] = {}
    settings: dict[str, Any] = {}
    for expert in _EXPERTS:
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
