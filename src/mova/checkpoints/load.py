"""From a checkpoint folder to modules ready to run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

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
from mova.errors import CheckpointError, RequestError
from mova.models.bridge import BridgeConfig
from mova.models.joint import JointModel, share_audio_and_bridge
from mova.models.presets import official_to_ours, ours_to_official
from mova.runtime.experts import ExpertPair
from mova.runtime.options import RuntimeOptions
from mova.runtime.quantise import make_quantiser, prepare_storage, quantised_on_arrival
from mova.runtime.settle import ModelFacts, Runtime, settle
from mova.sampling.scheduler import FlowMatchPairScheduler

EXPERTS = {"video_dit", "video_dit_2"}
# as safetensors names them; float8 without scales is a plain number format here
FLOATS = {
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F64": torch.float64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


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
    """Load every component; every weight is read now and stays.

    Args:
        name_or_path: ``"mova-base"``, a folder, or a repository of the Hugging Face hub.
        device: Where to put the modules.
        dtype: Of the joint network and the text encoder; the codecs are float32.
        should_verify: Whether to compare the files with their checksums, where the folder has them.

    Raises:
        CheckpointError: If a file is missing or broken, or tensors do not fit the configuration; the message
            names them.
    """
    skeleton = _read_skeleton(name_or_path, should_verify=should_verify)
    return _filled(skeleton, Runtime(device=torch.device(device), dtype=dtype))


def load_to_run(name_or_path: str | Path, options: RuntimeOptions, *, should_verify: bool = True) -> tuple[Components, Runtime]:
    """Load a model to run as the options say; what is left of them to do, :func:`mova.runtime.apply.apply_runtime` does.

    What does not fit, in the folder or in the options, is told before any weight is read.

    Args:
        name_or_path: As for :func:`load_checkpoint`.
        options: How the model is to run.
        should_verify: As for :func:`load_checkpoint`.

    Returns:
        The components, and the options settled.

    Raises:
        CheckpointError: As for :func:`load_checkpoint`; an expert that is read later raises it then.
        RequestError: If the options cannot be had here, or the model does not fit in the device's memory.
        MissingExtraError: If they need a package that is not installed.
    """
    skeleton = _read_skeleton(name_or_path, should_verify=should_verify)
    runtime = settle(options, _facts(skeleton))
    try:
        return _filled(skeleton, runtime), runtime
    except torch.OutOfMemoryError as error:
        raise RequestError(
            f"the model does not fit in the memory of {runtime.device}.",
            "Use offload='component' or 'block', drop_first_expert, or quantisation='fp8'.",
            field="offload",
        ) from error


@dataclass(frozen=True)
class _Skeleton:
    """A checkpoint of which everything is known but the weights."""

    index: Index
    parts: Mapping[str, _Part]
    tokenizer: Any
    scheduler: FlowMatchPairScheduler


def _read_skeleton(name_or_path: str | Path, *, should_verify: bool) -> _Skeleton:
    folder = resolve_model(name_or_path)
    index = read_index(folder)
    for name in index.classes:
        if name not in ("tokenizer", "scheduler"):
            weight_files(folder / name)  # what is missing is told before anything large is read
    if should_verify:
        verify_checksums(folder)
    tokenizer, scheduler = _load_tokenizer(folder / "tokenizer"), _load_scheduler(folder / "scheduler")
    parts = _build_parts(folder, index)
    for part in parts.values():
        _check_headers(part)
    return _Skeleton(index, parts, tokenizer, scheduler)


def _filled(skeleton: _Skeleton, runtime: Runtime) -> Components:
    parts = skeleton.parts
    quantiser = make_quantiser(runtime.quantisation, runtime.dtype)
    for name, part in parts.items():
        _set_dtype(part.module, torch.float32 if name in ("video_vae", "audio_vae") else runtime.dtype)
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
        tokenizer=skeleton.tokenizer,
        scheduler=skeleton.scheduler,
        index=skeleton.index,
    )


def _expert(part: _Part) -> JointModel:
    assert isinstance(part.module, JointModel)
    return cast(JointModel, part.module)


@dataclass(frozen=True)
class _Part:
    """A component's files and the module that they fill; the audio tower and the bridge fill the first expert."""

    module: nn.Module
    folder: Path
    expected: frozenset[str]
    rename: Callable[[str], str] = str
    tied: Mapping[str, str] = field(default_factory=dict)


def _build_parts(folder: Path, index: Index) -> dict[str, _Part]:
    """Every component by its folder's name, on the meta device."""
    first = build_joint(folder, "video_dit")
    expected: dict[str, set[str]] = {}
    for name in first.state_dict():
        expected.setdefault(ours_to_official(name)[0], set()).add(name)
    parts = {name: _Part(first, folder / name, frozenset(expected[name]), partial(official_to_ours, name)) for name in expected}
    if "video_dit_2" in index.classes:
        second = build_joint(folder, "video_dit_2")
        try:
            share_audio_and_bridge(first, second)
        except ValueError as error:
            raise CheckpointError(f"{folder}: {error}", "The configuration files do not fit each other.") from error
        own = frozenset(name for name in second.state_dict() if ours_to_official(name)[0] == "video_dit")
        parts["video_dit_2"] = _Part(second, folder / "video_dit_2", own, partial(official_to_ours, "video_dit_2"))
    for name in BUILDERS:
        module = build_module(folder, name, index)
        tied: Mapping[str, str] = getattr(module, "_tied_weights_keys", None) or {}
        parts[name] = _Part(module, folder / name, frozenset(set(module.state_dict()) - set(tied)), tied=tied)
    return parts


def build_joint(folder: Path, expert: str) -> JointModel:
    """One expert with sound and bridge, as its configuration says, without weights.

    Raises:
        CheckpointError: If a configuration is missing or wrong.
    """
    configs = {
        part: _plain(read_json(folder / name / CONFIG))
        for part, name in (("video", expert), ("audio", "audio_dit"), ("bridge", "dual_tower_bridge"))
    }
    try:
        with init_empty_weights(include_buffers=False):
            model: JointModel = JointModel(**configs)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(f"{folder}: {error}", "The configuration files do not fit each other.") from error
    return model


def build_module(folder: Path, name: str, index: Index) -> nn.Module:
    """A codec or the text encoder, likewise."""
    config = _plain(read_json(folder / name / CONFIG))
    try:
        with init_empty_weights(include_buffers=False):
            return BUILDERS[name][index.classes[name][1]](config)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(f"{folder / name / CONFIG}: {error}", "Download the folder again.") from error


def _check_headers(part: _Part) -> None:
    """Names, shapes and number formats, from the first bytes of the files: what would not fill the module is told."""
    headers = _untied(_headers(part.folder), part.tied)
    fill(part.module, headers, dtype=None, source=str(part.folder), rename=part.rename, expected=set(part.expected))


def _headers(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of a component, the tensors without values.

    The format (github.com/huggingface/safetensors): 8 bytes of length, that many of JSON, then the values. Read by hand,
    because opening a file with the library maps all of it into memory.
    """
    for path in weight_files(folder):
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                size = path.stat().st_size - 8 - length
                header = json.loads(file.read(length) if size >= 0 else b"{}")
            entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
            if max((entry["data_offsets"][1] for entry in entries.values()), default=0) != size:
                raise ValueError("it is not as long as it says")
            for name, entry in entries.items():
                if entry["dtype"] not in FLOATS:
                    raise CheckpointError(
                        f"{path}: {name} is stored as {entry['dtype']}; weights must be one of {', '.join(FLOATS)}.",
                        "Take the model as its makers published it; quantisation is done while loading.",
                    )
                yield name, torch.empty(entry["shape"], dtype=FLOATS[entry["dtype"]], device="meta")
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
            raise CheckpointError(f"{path} is broken: {error}", "Download the folder again.") from error


def _facts(skeleton: _Skeleton) -> ModelFacts:
    parts = skeleton.parts
    config = _expert(parts["video_dit"]).config
    widths = {config[tower]["dim"] // config[tower]["num_heads"] for tower in ("video", "audio")}
    widths.add(BridgeConfig.from_dict(config["bridge"]).head_dim)
    video_vae = parts["video_vae"].module
    states = {name: part.module.state_dict() for name, part in parts.items()}
    return ModelFacts(
        num_parameters=sum(states[name][key].numel() for name, part in parts.items() for key in part.expected),
        num_experts=2 if "video_dit_2" in parts else 1,
        head_dims=tuple(sorted(widths)),
        video_vae=skeleton.index.classes["video_vae"][1],
        has_tiling=hasattr(video_vae, "use_tiling"),
        has_slicing=hasattr(video_vae, "use_slicing"),
    )


def _set_dtype(module: nn.Module, dtype: torch.dtype) -> None:
    """Of parameters without values; buffers are no part of a checkpoint and stay as they were built."""
    for owner in module.modules():
        for leaf, parameter in owner.named_parameters(recurse=False):
            owner._parameters[leaf] = nn.Parameter(parameter.to(dtype), requires_grad=False)


class _Reader:
    """Reads a component's files into its module, now or later; adapters may have wrapped its layers in between.

    Args:
        part: What to read.
        runtime: Whether to pin.
        quantiser: For the experts, see :mod:`mova.runtime.quantise`.
    """

    def __init__(self, part: _Part, runtime: Runtime, quantiser: Any) -> None:
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
        tensors = self._converted(_untied(read_tensors(part.folder), part.tied), names, device, is_copied)
        if self.quantiser is not None and isinstance(module, JointModel):
            tensors = quantised_on_arrival(module, tensors, quantiser=self.quantiser)
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

    def _converted(
        self, tensors: Iterable[tuple[str, Tensor]], names: Mapping[str, str], device: torch.device, is_copied: bool
    ) -> Iterator[tuple[str, Tensor]]:
        dtypes = {name: value.dtype for name, value in self.part.module.state_dict().items()}
        for stored, tensor in tensors:
            try:
                name = names.get(self.part.rename(stored), stored)
            except ValueError:
                name = stored  # unknown: the one who fills will say so
            converted = tensor.to(device, dtypes.get(name), copy=is_copied)
            yield name, converted.pin_memory() if self.is_pinned else converted


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
