"""From modules to a checkpoint folder in the official layout; written beside and renamed when whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from mova.checkpoints.layout import (
    CHECKSUMS,
    CONFIG,
    DIFFUSERS_WEIGHTS,
    INDEX,
    SCHEDULER_CONFIG,
    TRANSFORMERS_WEIGHTS,
)
from mova.checkpoints.load import Components
from mova.checkpoints.lora.adapters import lora_scales
from mova.errors import CheckpointError
from mova.files import atomic_write, hash_file
from mova.models.joint import JointModel, ours_to_official

MAX_SHARD_BYTES = 5_000_000_000


def save_checkpoint(
    folder: str | Path,
    components: Components,
    *,
    dtype: torch.dtype | None = None,
    extra_files: Mapping[str, str] | None = None,
) -> Path:
    """Write every component, ``model_index.json`` and the checksums.

    Args:
        folder: Made new; a checkpoint that is there already is replaced when the new one is whole.
        components: Components to write.
        dtype: Number format of the written floating weights; ``None`` keeps each as it is.
        extra_files: File name to text, such as a model card and a licence.

    Returns:
        The folder.

    Raises:
        CheckpointError: If the folder holds something else, or cannot be written; nothing is left behind.
    """
    target = Path(folder)
    if target.exists() and not (target / INDEX).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise CheckpointError(f"{target} exists and is not a checkpoint.", "Give a new or empty folder.")
    experts = [expert for expert in (components.transformer, components.transformer_2) if expert is not None]
    if loras := lora_scales(experts):
        raise CheckpointError(f"a checkpoint holds no LoRA; attached: {', '.join(loras)}.", "Unload it, or save_lora_weights.")
    try:
        with atomic_write(target) as beside:
            beside.mkdir(parents=True)
            _write_all(beside, components, dtype)
            for name, text in (extra_files or {}).items():
                (beside / name).write_text(text, encoding="utf-8")
            _write_json(beside / CHECKSUMS, checksums(beside))
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(
            f"{target} cannot be written: {reason}.",
            "Check the free space and the permissions.",
        ) from error
    return target


def _write_all(folder: Path, components: Components, dtype: torch.dtype | None) -> None:
    experts = {"video_dit": components.transformer}
    if components.transformer_2 is not None:
        experts["video_dit_2"] = components.transformer_2
    for name, expert in experts.items():
        parts = _official_parts(expert, dtype)
        _write_part(folder / name, expert.config["video"], parts["video_dit"], components, name)
        if name == "video_dit":
            for part, key in (("audio_dit", "audio"), ("dual_tower_bridge", "bridge")):
                _write_part(folder / part, expert.config[key], parts.get(part, {}), components, part)
    for name in ("video_vae", "audio_vae", "prompt_reader"):
        module = getattr(components, name)
        if module is None:
            continue
        config = {key: value for key, value in module.config.items() if not key.startswith("_")}
        _write_part(folder / name, config, _convert(module.state_dict(), dtype), components, name)
    _write_transformers_part(folder / "text_encoder", components.text_encoder, dtype)
    if components.cue_planner is not None:
        _write_transformers_part(folder / "cue_planner", components.cue_planner, dtype)
    components.tokenizer.save_pretrained(folder / "tokenizer")
    (folder / "scheduler").mkdir()
    scheduler = {key: value for key, value in components.scheduler.config.items() if not key.startswith("_")}
    _write_json(
        folder / "scheduler" / SCHEDULER_CONFIG,
        {"_class_name": components.index.classes["scheduler"][1], **scheduler},
    )
    _write_json(folder / INDEX, components.index.values())


def _official_parts(expert: JointModel, dtype: torch.dtype | None) -> dict[str, dict[str, Tensor]]:
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in _convert(expert.state_dict(), dtype).items():
        component, official = ours_to_official(name)
        parts.setdefault(component, {})[official] = tensor
    return parts


def _write_part(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor], components: Components, name: str
) -> None:
    folder.mkdir()
    _write_json(folder / CONFIG, {"_class_name": components.index.classes[name][1], **config})
    write_tensors(folder, tensors, name=DIFFUSERS_WEIGHTS)


def _write_transformers_part(folder: Path, encoder: nn.Module, dtype: torch.dtype | None) -> None:
    folder.mkdir()
    tied = getattr(encoder, "_tied_weights_keys", None) or {}
    tensors = {name: value for name, value in encoder.state_dict().items() if name not in tied}
    write_tensors(folder, _convert(tensors, dtype), name=TRANSFORMERS_WEIGHTS)
    encoder.config.save_pretrained(folder)  # type: ignore[union-attr, operator]


def _convert(tensors: Mapping[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    return {
        name: value.to(dtype) if dtype is not None and value.is_floating_point() else value for name, value in tensors.items()
    }


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1, ensure_ascii=False, default=list) + "\n", encoding="utf-8")


def write_tensors(folder: Path, tensors: Mapping[str, Tensor], *, name: str) -> None:
    """Write a component's weights, in shards with an index if they are large.

    Args:
        folder: Exists.
        tensors: Names and values; each its own memory.
        name: File name for weights in one piece.
    """
    whole = {key: value.detach().to("cpu").contiguous() for key, value in tensors.items()}
    if sum(value.nbytes for value in whole.values()) <= MAX_SHARD_BYTES:
        save_file(whole, folder / name, metadata={"format": "pt"})
        return
    from huggingface_hub import split_torch_state_dict_into_shards

    pattern = name.replace(".safetensors", "{suffix}.safetensors")
    split = split_torch_state_dict_into_shards(whole, filename_pattern=pattern, max_shard_size=MAX_SHARD_BYTES)
    for file, keys in split.filename_to_tensors.items():
        save_file({key: whole[key] for key in keys}, folder / file, metadata={"format": "pt"})
    index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
    (folder / f"{name}.index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder but the list of checksums itself, by relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CHECKSUMS)
    return {path.relative_to(folder).as_posix(): hash_file(path) for path in files}
