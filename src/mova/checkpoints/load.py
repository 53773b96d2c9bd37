"""From a checkpoint folder to modules ready to run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from mova.checkpoints.layout import Index, read_index
from mova.checkpoints.meta import (
    MetaCheckpoint,
    Part,
    build_module,
    drop_tied,
    fill,
    read_meta_checkpoint,
    read_tensors,
)
from mova.errors import CheckpointError, RequestError
from mova.models.bridge import BridgeConfig
from mova.models.joint import JointModel
from mova.runtime.experts import ExpertPair
from mova.runtime.options import RuntimeOptions
from mova.runtime.resolve import ModelFacts, Runtime, resolve_runtime
from mova.runtime.weights import make_quantiser, prepare_storage, quantise_on_arrival
from mova.sampling.schedule import FlowMatchPairScheduler

EXPERTS = {"video_dit", "video_dit_2"}
FULL_PRECISION = ("video_vae", "audio_vae", "cue_planner", "prompt_reader")
"""Parts that are float32 whatever the others are."""


@dataclass(frozen=True)
class Components:
    """A model in memory.

    Args:
        transformer: The joint network; with two experts, the one for high noise.
        transformer_2: The expert for low noise, which shares audio and bridge with the first; ``None`` with
            one expert.
        video_vae: The video codec.
        audio_vae: The audio codec.
        text_encoder: The text encoder.
        tokenizer: Its tokenizer.
        scheduler: The noise levels.
        cue_planner: Planner that writes cue sheets from prompts, or ``None``.
        prompt_reader: Network that marks what a prompt says, or ``None``.
        index: Content of ``model_index.json``.
    """

    transformer: JointModel
    transformer_2: JointModel | None
    video_vae: nn.Module
    audio_vae: nn.Module
    text_encoder: nn.Module
    tokenizer: Any
    scheduler: FlowMatchPairScheduler
    index: Index
    cue_planner: nn.Module | None = None
    prompt_reader: nn.Module | None = None


def load_checkpoint(
    name_or_path: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    should_verify: bool = True,
) -> Components:
    """Load every component; every weight is read now and stays.

    Args:
        name_or_path: ``"mova-base"``, a folder, or a repository of the Hugging Face hub.
        device: Device of the modules.
        dtype: Number format of the joint network and the text encoder; the codecs are float32.
        should_verify: Whether to compare the files with their checksums, where the folder has them.

    Raises:
        CheckpointError: If a file is missing or broken, or tensors do not fit the configuration; the message
            names them.
    """
    checkpoint = read_meta_checkpoint(name_or_path, should_verify=should_verify)
    return _fill_components(checkpoint, Runtime(device=torch.device(device), dtype=dtype))


def load_to_run(name_or_path: str | Path, options: RuntimeOptions, *, should_verify: bool = True) -> tuple[Components, Runtime]:
    """Load a model to run as the options say; what is left of them to do, :func:`mova.runtime.resolve.apply_runtime` does.

    What does not fit, in the folder or in the options, is reported before any weight is read.

    Args:
        name_or_path: See :func:`load_checkpoint`.
        options: Runtime options.
        should_verify: See :func:`load_checkpoint`.

    Returns:
        The components, and the options resolved.

    Raises:
        CheckpointError: As for :func:`load_checkpoint`; an expert that is read later raises it then.
        RequestError: If the options cannot be had here, or the model does not fit in the device's memory.
        MissingExtraError: If they need a package that is not installed.
    """
    checkpoint = read_meta_checkpoint(name_or_path, should_verify=should_verify)
    runtime = resolve_runtime(options, _facts(checkpoint))
    try:
        return _fill_components(checkpoint, runtime), runtime
    except torch.OutOfMemoryError as error:
        raise RequestError(
            f"the model does not fit in the memory of {runtime.device}.",
            "Use offload='component' or 'block', drop_first_expert, or quantisation='fp8'.",
            field="offload",
        ) from error


def load_prompt_reader(folder: Path) -> nn.Module | None:
    """The prompt reader of a checkpoint folder alone, to read prompts before the model is loaded; ``None`` if it has none.

    Raises:
        CheckpointError: If its files are missing or broken.
    """
    index = read_index(folder)
    if "prompt_reader" not in index.classes:
        return None
    reader = build_module(folder, "prompt_reader", index)
    fill(reader, read_tensors(folder / "prompt_reader"), dtype=torch.float32, source=str(folder / "prompt_reader"))
    return reader.requires_grad_(False).eval()


def _fill_components(checkpoint: MetaCheckpoint, runtime: Runtime) -> Components:
    parts = checkpoint.parts
    quantiser = make_quantiser(runtime.quantisation, runtime.dtype)
    for name, part in parts.items():
        _set_dtype(part.module, torch.float32 if name in FULL_PRECISION else runtime.dtype)
    for name in EXPERTS & parts.keys():
        prepare_storage(_expert(parts[name]), runtime.quantisation, runtime.dtype, quantiser=quantiser)
    readers = {name: _Reader(part, runtime, quantiser) for name, part in parts.items()}
    is_later = runtime.second_expert != "resident" and "video_dit_2" in parts
    for name, reader in readers.items():
        if name != "video_dit_2" or not is_later:
            reader.read(runtime.home)
    if is_later:
        ExpertPair(
            _expert(parts["video_dit"]),
            _expert(parts["video_dit_2"]),
            read_first=readers["video_dit"],
            read_second=readers["video_dit_2"],
            is_prefetched=runtime.second_expert == "prefetch",
            drops=runtime.drop_first_expert,
            device=runtime.home,
        )
    for part in parts.values():
        part.module.requires_grad_(False).eval().to(runtime.home)
    return Components(
        transformer=_expert(parts["video_dit"]),
        transformer_2=_expert(parts["video_dit_2"]) if "video_dit_2" in parts else None,
        video_vae=parts["video_vae"].module,
        audio_vae=parts["audio_vae"].module,
        text_encoder=parts["text_encoder"].module,
        tokenizer=checkpoint.tokenizer,
        scheduler=checkpoint.scheduler,
        cue_planner=parts["cue_planner"].module if "cue_planner" in parts else None,
        prompt_reader=parts["prompt_reader"].module if "prompt_reader" in parts else None,
        index=checkpoint.index,
    )


def _expert(part: Part) -> JointModel:
    assert isinstance(part.module, JointModel)
    return cast(JointModel, part.module)


def _facts(checkpoint: MetaCheckpoint) -> ModelFacts:
    parts = checkpoint.parts
    config = _expert(parts["video_dit"]).config
    widths = {config[tower]["dim"] // config[tower]["num_heads"] for tower in ("video", "audio")}
    widths.add(BridgeConfig.from_dict(config["bridge"]).head_dim)
    video_vae = parts["video_vae"].module
    states = {name: part.module.state_dict() for name, part in parts.items()}
    return ModelFacts(
        num_parameters=sum(states[name][key].numel() for name, part in parts.items() for key in part.expected),
        num_experts=2 if "video_dit_2" in parts else 1,
        head_dims=tuple(sorted(widths)),
        video_vae=checkpoint.index.classes["video_vae"][1],
        has_tiling=hasattr(video_vae, "use_tiling"),
        has_slicing=hasattr(video_vae, "use_slicing"),
    )


def _set_dtype(module: nn.Module, dtype: torch.dtype) -> None:
    """Of parameters without values; buffers are no part of a checkpoint and stay as they were built."""
    for owner in module.modules():
        for leaf, parameter in owner.named_parameters(recurse=False):
            owner._parameters[leaf] = nn.Parameter(parameter.to(dtype), requires_grad=False)


class _Reader:
    """Reader of a component's files into its module, now or later; adapters may have wrapped its layers in between.

    Args:
        part: Component to read.
        runtime: Resolved options, which say whether to pin memory.
        quantiser: Quantiser of the experts, see :mod:`mova.runtime.weights`.
    """

    def __init__(self, part: Part, runtime: Runtime, quantiser: Any) -> None:
        self.part, self.quantiser = part, quantiser
        self.is_pinned = runtime.is_streamed
        modules = dict(part.module.named_modules())
        self.owners = {name: modules[name.rpartition(".")[0]] for name in part.expected}

    def __call__(self, device: torch.device) -> None:
        """As :meth:`read`, with weights that do not depend on the file any more: it may change or go."""
        self.read(device, is_copied=True)

    def read(self, device: torch.device, *, is_copied: bool = False) -> None:
        """Fill the module.

        Raises:
            CheckpointError: If the files are missing or broken or have changed.
        """
        module, part = self.part.module, self.part
        prefixes = {id(owner): prefix for prefix, owner in module.named_modules()}
        names = {
            name: ".".join(filter(None, (prefixes[id(owner)], name.rpartition(".")[2]))) for name, owner in self.owners.items()
        }
        tensors = self._convert(drop_tied(read_tensors(part.folder), part.tied), names, device, is_copied)
        if self.quantiser is not None and isinstance(module, JointModel):
            tensors = quantise_on_arrival(module, tensors, quantiser=self.quantiser)
        try:
            fill(module, tensors, dtype=None, source=str(part.folder), expected=set(names.values()))
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
            raise CheckpointError(
                f"{part.folder} does not fit in memory: {error}", "Save it in smaller shards, or free memory."
            ) from error
        for key, source in part.tied.items():
            owner, _, leaf = key.rpartition(".")
            setattr(module.get_submodule(owner), leaf, module.get_parameter(source))

    def _convert(
        self, tensors: Iterable[tuple[str, Tensor]], names: Mapping[str, str], device: torch.device, is_copied: bool
    ) -> Iterator[tuple[str, Tensor]]:
        dtypes = {name: value.dtype for name, value in self.part.module.state_dict().items()}
        for stored, tensor in tensors:
            try:
                name = names.get(self.part.rename(stored), stored)
            except ValueError:
                name = stored  # unknown: fill() reports it
            converted = tensor.to(device, dtypes.get(name), copy=is_copied)
            yield name, converted.pin_memory() if self.is_pinned else converted
