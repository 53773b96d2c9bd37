"""From a checkpoint folder to modules ready to run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn

from mova.checkpoints.layout import (
    BUILDERS,
    CONFIG,
    SCHEDULER_CONFIG,
    Index,
    read_index,
    read_json,
    resolve_model,
)
from mova.checkpoints.tensors import fill, read_tensors, verify_checksums, weight_files
from mova.errors import CheckpointError
from mova.models.joint import JointModel, share_audio_and_bridge
from mova.models.presets import official_to_ours, ours_to_official
from mova.sampling.scheduler import FlowMatchPairScheduler


@dataclass(frozen=True)
class Components:
    """A model in memory.

    Args:
        transformer: The joint network; with two experts, the one for high noise.
        transformer_2: The expert for low noise, which shares sound and bridge with the first; ``None`` with
            one expert.
        video_vae: The video codec.
        audio_vae: The audio codec.
        text_encoder: The text encoder.
        tokenizer: Its tokenizer.
        scheduler: The noise levels.
        index: What the folder said: classes, boundary, world.
    """

    transformer: JointModel
    transformer_2: JointModel | None
    video_vae: nn.Module
    audio_vae: nn.Module
    text_encoder: nn.Module
    tokenizer: Any
    scheduler: FlowMatchPairScheduler
    index: Index


def load_checkpoint(
    name_or_path: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    should_verify: bool = True,
) -> Components:
    """Load every component.

    Args:
        name_or_path: ``"mova-base"``, a folder, or a repository of the Hugging Face hub.
        device: Where to put the modules.
        dtype: Of the joint network and the text encoder; the codecs are float32.
        should_verify: Whether to compare the files with their checksums, where the folder has them.

    Raises:
        CheckpointError: If a file is missing or broken, or tensors do not fit the configuration; the message
            names them.
    """
    folder = resolve_model(name_or_path)
    index = read_index(folder)
    for name in index.classes:
        if name not in ("tokenizer", "scheduler"):
            weight_files(folder / name)  # what is missing is told before anything large is read
    if should_verify:
        verify_checksums(folder)
    transformer = _load_joint(folder, "video_dit", dtype, shared=None)
    second = None
    if "video_dit_2" in index.classes:
        second = _load_joint(folder, "video_dit_2", dtype, shared=transformer)
    modules: dict[str, nn.Module] = {
        name: _load_module(folder, name, index, dtype if name == "text_encoder" else torch.float32) for name in BUILDERS
    }
    for module in (transformer, second, *modules.values()):
        if module is not None:
            module.requires_grad_(False).eval().to(device)
    return Components(
        transformer=transformer,
        transformer_2=second,
        video_vae=modules["video_vae"],
        audio_vae=modules["audio_vae"],
        text_encoder=modules["text_encoder"],
        tokenizer=_load_tokenizer(folder / "tokenizer"),
        scheduler=_load_scheduler(folder / "scheduler"),
        index=index,
    )


def _load_joint(folder: Path, expert: str, dtype: torch.dtype, *, shared: JointModel | None) -> JointModel:
    """One expert; ``shared`` is the other, whose sound and bridge it uses."""
    configs = {
        part: _plain(read_json(folder / name / CONFIG))
        for part, name in (("video", expert), ("audio", "audio_dit"), ("bridge", "dual_tower_bridge"))
    }
    try:
        with init_empty_weights(include_buffers=False):
            model: JointModel = JointModel(**configs)
    except ValueError as error:
        raise CheckpointError(f"{folder}: {error}", "The configuration files do not fit each other.") from error
    if shared is not None:
        share_audio_and_bridge(shared, model)
    by_component: dict[str, set[str]] = {}
    for name in model.state_dict():
        by_component.setdefault(ours_to_official(name)[0], set()).add(name)
    for component, expected in by_component.items():
        if shared is not None and component != "video_dit":
            continue
        stored = expert if component == "video_dit" else component
        fill(
            model,
            read_tensors(folder / stored),
            dtype=dtype,
            source=str(folder / stored),
            rename=lambda key, stored=stored: official_to_ours(stored, key),  # type: ignore[misc]
            expected=expected,
        )
    return model


def _load_module(folder: Path, name: str, index: Index, dtype: torch.dtype) -> nn.Module:
    config = _plain(read_json(folder / name / CONFIG))
    try:
        with init_empty_weights(include_buffers=False):
            module = BUILDERS[name][index.classes[name][1]](config)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / name / CONFIG}: {error}", "Download the folder again.") from error
    tied: Mapping[str, str] = getattr(module, "_tied_weights_keys", None) or {}
    expected = set(module.state_dict()) - set(tied)
    tensors = _untied(read_tensors(folder / name), tied)
    fill(module, tensors, dtype=dtype, source=str(folder / name), expected=expected)
    for key, source in tied.items():
        owner, _, leaf = key.rpartition(".")
        setattr(module.get_submodule(owner), leaf, module.get_parameter(source))
    return module


def _untied(tensors: Iterable[tuple[str, Tensor]], tied: Mapping[str, str]) -> Iterator[tuple[str, Tensor]]:
    """A tied tensor is stored under either of its names or under both; here it comes once, under its own."""
    given: set[str] = set()
    for key, value in tensors:
        name = tied.get(key, key)
        if name not in given:
            given.add(name)
            yield name, value


def _load_tokenizer(folder: Path) -> Any:
    from transformers.tokenization_utils_tokenizers import PreTrainedTokenizerFast

    if not (folder / "tokenizer.json").is_file():
        raise CheckpointError(f"{folder / 'tokenizer.json'} is missing.", "Download the folder again.")
    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the tokenizers' Rust library raises bare exceptions for a broken file
        raise CheckpointError(f"{folder} holds a broken tokenizer: {error}", "Download the folder again.") from error
    for name in ("is_local", "local_files_only"):  # how it was read is no part of what it is
        tokenizer.init_kwargs.pop(name, None)
    return tokenizer


def _load_scheduler(folder: Path) -> FlowMatchPairScheduler:
    values = _plain(read_json(folder / SCHEDULER_CONFIG))
    accepted = set(FlowMatchPairScheduler._get_init_keys(FlowMatchPairScheduler)) - {"self"}
    try:
        scheduler: FlowMatchPairScheduler = FlowMatchPairScheduler(
            **{name: value for name, value in values.items() if name in accepted}
        )
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / SCHEDULER_CONFIG}: {error}", "Download the folder again.") from error
    return scheduler


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Without the keys that diffusers adds for itself."""
    return {name: value for name, value in config.items() if not name.startswith("_")}
