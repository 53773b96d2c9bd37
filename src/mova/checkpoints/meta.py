"""A checkpoint on the meta device, and its weight files: safetensors only, every name and shape checked.

What is missing or does not fit is reported before weights are read; they are read one tensor at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import init_empty_weights
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mova.checkpoints.configs import check_values, read_config
from mova.checkpoints.header import StoredTensor, read_header
from mova.checkpoints.layout import (
    BUILDERS,
    CHECKSUMS,
    CONFIG,
    SCHEDULER_CONFIG,
    Index,
    read_index,
    read_json,
    resolve_model,
)
from mova.checkpoints.tokenizer import check_tokenizer
from mova.errors import CheckpointError
from mova.files import hash_file, is_regular
from mova.models.joint import JointModel, official_to_ours, ours_to_official, share_audio_and_bridge
from mova.models.text import num_cue_channels
from mova.sampling.schedule import FlowMatchPairScheduler

if TYPE_CHECKING:
    from collections.abc import Iterable


_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a component: one, or the shards that its index names.

    Raises:
        CheckpointError: If there is none, or the index names a file that is missing.
    """
    indices = sorted(folder.glob("*.safetensors.index.json"))
    if indices:
        weight_map = read_json(indices[0]).get("weight_map")
        shards = sorted({str(name) for name in weight_map.values()}) if isinstance(weight_map, dict) else []
        missing = [name for name in shards if Path(name).name != name or not is_regular(folder / name)]
        if missing or not shards:
            raise CheckpointError(f"{folder} lacks {', '.join(missing) or 'every shard'}.", "Download the folder again.")
        return [folder / name for name in shards]
    files = sorted(folder.glob("*.safetensors"))
    if len(files) == 1:
        return files
    if files:
        raise CheckpointError(f"{folder} has {len(files)} weight files but no index.", "Download the folder again.")
    pickles = [path.name for pattern in _PICKLES for path in folder.glob(pattern)]
    if pickles:
        raise CheckpointError(
            f"{folder} holds pickled weights ({pickles[0]}), which can run code and are not read.",
            "Convert them to safetensors.",
        )
    raise CheckpointError(f"{folder} holds no weights (*.safetensors).", "Download the folder again.")


def read_tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of a component, one in memory at a time.

    Raises:
        CheckpointError: If a file is missing or broken.
    """
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 (not a dict)
                    yield name, file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is broken: {error}", "Download the folder again.") from error


def fill(
    module: nn.Module,
    tensors: Iterable[tuple[str, Tensor]],
    *,
    dtype: torch.dtype | None,
    source: str,
    rename: Callable[[str], str] = str,
    expected: set[str] | None = None,
) -> None:
    """Put tensors into a module; every parameter named in ``expected`` must come exactly once, in its shape.

    Args:
        module: Its parameters may be on the meta device.
        tensors: Names and values, as :func:`read_tensors` gives them.
        dtype: Number format of floating values; ``None`` keeps the stored one.
        source: Origin of the tensors, for messages.
        rename: Function from a stored name to the module's.
        expected: Names in the module that must come; all of its state by default.

    Raises:
        CheckpointError: If a tensor is missing, unknown or of another shape.
    """
    shapes = {name: value.shape for name, value in module.state_dict().items()}
    wanted = set(shapes) if expected is None else expected
    seen: set[str] = set()
    for stored, tensor in tensors:
        try:
            name = rename(stored)
        except ValueError:
            name = ""
        if name not in wanted:
            raise CheckpointError(f"{source} holds an unknown tensor: {stored}.", "It belongs to another model.")
        if tensor.shape != shapes[name]:
            raise CheckpointError(
                f"{source}: {stored} has the shape {list(tensor.shape)}; its configuration asks for {list(shapes[name])}.",
                "The weights belong to another configuration.",
            )
        converted = tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor
        _put(module, name, converted)
        seen.add(name)
    missing = sorted(wanted - seen)
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise CheckpointError(f"{source} lacks {', '.join(missing[:3])}{more}.", "Download the folder again.")


def verify_checksums(folder: Path) -> None:
    """Compare every listed file with its checksum; a folder without a list passes.

    Raises:
        CheckpointError: If a file is missing or not as listed.
    """
    if not (folder / CHECKSUMS).is_file():
        return
    for name, expected in read_json(folder / CHECKSUMS).items():
        path = folder / name
        if ".." in Path(name).parts or Path(name).is_absolute() or not is_regular(path):
            raise CheckpointError(f"{path} is missing.", "Install or download the model again.")
        if hash_file(path) != expected:
            raise CheckpointError(f"{path} is broken: it is not what {CHECKSUMS} says.", "Install or download the model again.")


def _put(module: nn.Module, name: str, tensor: Tensor) -> None:
    owner_name, _, leaf = name.rpartition(".")
    owner = module.get_submodule(owner_name)
    if leaf in owner._parameters:
        owner._parameters[leaf] = nn.Parameter(tensor, requires_grad=False)
    else:
        owner._buffers[leaf] = tensor


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
class Part:
    """A component's files and the module that they fill; the audio tower and the bridge fill the first expert.

    Args:
        module: Module that the files fill.
        folder: Folder of the files.
        expected: The module's names that they hold.
        rename: Function from a name in the files to the module's.
        tied: Names that are another's tensor, by name.
    """

    module: nn.Module
    folder: Path
    expected: frozenset[str]
    rename: Callable[[str], str] = str
    tied: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class MetaCheckpoint:
    """A checkpoint without its weights.

    Args:
        index: Content of ``model_index.json``.
        parts: Components by their folders' names, their modules on the meta device.
        tokenizer: Tokenizer of the text encoder.
        scheduler: The noise levels.
    """

    index: Index
    parts: Mapping[str, Part]
    tokenizer: Any
    scheduler: FlowMatchPairScheduler


def read_meta_checkpoint(name_or_path: str | Path, *, should_verify: bool) -> MetaCheckpoint:
    """Read all that is small, and check the weights' files against it without reading weights.

    Args:
        name_or_path: A name, a folder, or a repository of the hub.
        should_verify: Whether to compare the files with their checksums, where the folder has them.

    Raises:
        CheckpointError: If a file is missing or broken, or tensors do not fit the configuration; the message
            names them.
    """
    folder = resolve_model(name_or_path)
    index = read_index(folder)
    for name in index.classes:
        if name not in ("tokenizer", "scheduler"):
            weight_files(folder / name)  # what is missing is reported before anything large is read
    if should_verify:
        verify_checksums(folder)
    tokenizer, scheduler = _load_tokenizer(folder / "tokenizer"), _load_scheduler(folder / "scheduler")
    parts = _build_parts(folder, index)
    _check_cues(folder, index, parts)
    for part in parts.values():  # what would not fill the module is reported
        headers = drop_tied(_headers(part.folder), part.tied)
        fill(part.module, headers, dtype=None, source=str(part.folder), rename=part.rename, expected=set(part.expected))
    return MetaCheckpoint(index, parts, tokenizer, scheduler)


def build_joint(folder: Path, expert: str) -> JointModel:
    """One expert with audio and bridge, as its configuration says, without weights.

    Raises:
        CheckpointError: If a configuration is missing or wrong.
    """
    configs = {
        part: read_config(folder, name, tensors=list_stored_tensors(folder / name))
        for part, name in (("video", expert), ("audio", "audio_dit"), ("bridge", "dual_tower_bridge"))
    }
    try:
        with init_empty_weights(include_buffers=False):
            model: JointModel = JointModel(**configs)
    except Exception as error:  # a constructor raises what comes of a size that nothing foresaw
        raise CheckpointError(f"{folder}: {error}", "The configuration files do not fit each other.") from error
    return model


def build_module(folder: Path, name: str, index: Index) -> nn.Module:
    """Another component, likewise."""
    class_name = index.classes[name][1]
    config = read_config(folder, name, class_name=class_name, tensors=list_stored_tensors(folder / name))
    try:
        with init_empty_weights(include_buffers=False):
            return BUILDERS[name][class_name](config)
    except Exception as error:  # likewise; transformers' and diffusers' constructors too
        raise CheckpointError(f"{folder / name / CONFIG}: {error}", "Download the folder again.") from error


def drop_tied(tensors: Iterable[tuple[str, Tensor]], tied: Mapping[str, str]) -> Iterator[tuple[str, Tensor]]:
    """A tied tensor is stored under either of its names or under both; here it comes once, under its own."""
    given: set[str] = set()
    for key, value in tensors:
        name = tied.get(key, key)
        if name not in given:
            given.add(name)
            yield name, value


def _build_parts(folder: Path, index: Index) -> dict[str, Part]:
    """Every component by its folder's name, on the meta device."""
    first = build_joint(folder, "video_dit")
    expected: dict[str, set[str]] = {}
    for name in first.state_dict():
        expected.setdefault(ours_to_official(name)[0], set()).add(name)
    parts = {name: Part(first, folder / name, frozenset(expected[name]), partial(official_to_ours, name)) for name in expected}
    if "video_dit_2" in index.classes:
        second = build_joint(folder, "video_dit_2")
        try:
            share_audio_and_bridge(first, second)
        except ValueError as error:
            raise CheckpointError(f"{folder}: {error}", "The configuration files do not fit each other.") from error
        own = frozenset(name for name in second.state_dict() if ours_to_official(name)[0] == "video_dit")
        parts["video_dit_2"] = Part(second, folder / "video_dit_2", own, partial(official_to_ours, "video_dit_2"))
    for name in BUILDERS.keys() & index.classes.keys():
        module = build_module(folder, name, index)
        tied: Mapping[str, str] = getattr(module, "_tied_weights_keys", None) or {}
        parts[name] = Part(module, folder / name, frozenset(set(module.state_dict()) - set(tied)), tied=tied)
    return parts


def _check_cues(folder: Path, index: Index, parts: Mapping[str, Part]) -> None:
    """The cues of the index must fit the network's input channels, and a planner's labels must be the network's."""
    network: Any = parts["video_dit"].module
    labels, sizes = index.capabilities.cues, network.config["video"]
    needed = sizes["out_dim"] + num_cue_channels(len(labels), stride=index.capabilities.video_stride)
    if labels and sizes["in_dim"] != needed:
        raise CheckpointError(
            f"{folder}: {len(labels)} cues need a network of {needed} channels; its video_dit has {sizes['in_dim']}.",
            "Download the folder again.",
        )
    planner: Any = parts["cue_planner"].module if "cue_planner" in parts else None
    if planner is not None and tuple(planner.config.cue_labels) != labels:
        raise CheckpointError(f"{folder}: the planner writes other cues than the network knows.", "Download the folder again.")


def _headers(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of a component, the tensors without values."""
    for path in weight_files(folder):
        for name, stored in read_header(path).tensors.items():
            if stored.dtype not in FLOATS:
                raise CheckpointError(
                    f"{path}: {name} is stored as {stored.dtype}; weights must be one of {', '.join(FLOATS)}.",
                    "Take the model as its makers published it; quantisation is done while loading.",
                )
            yield name, torch.empty(stored.shape, dtype=FLOATS[stored.dtype], device="meta")


def check_part(folder: Path) -> None:
    """Check a component's configuration and the headers of its weights, before a library reads them.

    Raises:
        CheckpointError: If one is missing or broken, the weights are pickles, or sizes are beyond them.
    """
    weight_files(folder)
    read_config(folder.parent, folder.name, tensors=list_stored_tensors(folder))


def list_stored_tensors(folder: Path) -> dict[str, StoredTensor] | None:
    """Tensors of a component, from its files' headers; ``None`` if it has no safetensors, as where only configuration is.

    Raises:
        CheckpointError: If a file is broken.
    """
    if next(folder.glob("*.safetensors*"), None) is None:
        return None
    return {name: tensor for path in weight_files(folder) for name, tensor in read_header(path).tensors.items()}


def _load_tokenizer(folder: Path) -> Any:
    from transformers.tokenization_utils_tokenizers import PreTrainedTokenizerFast

    check_tokenizer(folder)
    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the tokenizers' Rust library raises bare exceptions for a broken file
        raise CheckpointError(f"{folder} holds a broken tokenizer: {error}", "Download the folder again.") from error
    for name in ("is_local", "local_files_only"):  # how it was read is no part of what it is
        tokenizer.init_kwargs.pop(name, None)
    return tokenizer


def _load_scheduler(folder: Path) -> FlowMatchPairScheduler:
    values = _plain(read_json(folder / SCHEDULER_CONFIG))
    check_values(folder / SCHEDULER_CONFIG, values)
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
