"""Weights between files and modules: safetensors only, one tensor at a time, every name and shape checked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mova.checkpoints.layout import CHECKSUMS, read_json
from mova.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_SHARD_BYTES = 5_000_000_000
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a component: one, or the shards that its index names.

    Raises:
        CheckpointError: If there is none, or the index names a file that is missing.
    """
    indices = sorted(folder.glob("*.safetensors.index.json"))
    if indices:
        shards = sorted({str(name) for name in read_json(indices[0]).get("weight_map", {}).values()})
        missing = [name for name in shards if Path(name).name != name or not (folder / name).is_file()]
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
    import json

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
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in files}


def verify_checksums(folder: Path) -> None:
    """Compare every listed file with its checksum; a folder without a list passes.

    Raises:
        CheckpointError: If a file is missing or not as listed.
    """
    if not (folder / CHECKSUMS).is_file():
        return
    for name, expected in read_json(folder / CHECKSUMS).items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{path} is missing.", "Install or download the model again.")
        if _sha256(path) != expected:
            raise CheckpointError(f"{path} is broken: it is not what {CHECKSUMS} says.", "Install or download the model again.")


def _put(module: nn.Module, name: str, tensor: Tensor) -> None:
    owner_name, _, leaf = name.rpartition(".")
    owner = module.get_submodule(owner_name)
    if leaf in owner._parameters:
        owner._parameters[leaf] = nn.Parameter(tensor, requires_grad=False)
    else:
        owner._buffers[leaf] = tensor


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
