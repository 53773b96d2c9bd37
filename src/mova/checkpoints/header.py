"""The header of a safetensors file, read by hand: no tensor is touched, and nothing of the file is mapped into memory.

The format (github.com/huggingface/safetensors): 8 bytes of length, that many of JSON, then the values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mova.errors import CheckpointError
from mova.files import open_regular
from mova.parsing import parse_json

MAX_HEADER_BYTES = 2**24
"""A name, a shape and offsets take some 150 bytes; the official checkpoints have some 1,000 tensors a file."""
MAX_DIMENSIONS = 8
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4, "I16": 2, "I8": 1,
          "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1}  # fmt: skip


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as a header describes it.

    Args:
        dtype: Number format, as safetensors names it.
        shape: Its sizes.
    """

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Header:
    """Content of a header.

    Args:
        tensors: Tensors by name, in the order of the file.
        metadata: Texts by name.
    """

    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, str]


def read_header(path: Path) -> Header:
    """Read and check the header of a file: its tensors must fill the rest of the file, each as its shape says.

    Raises:
        CheckpointError: If the file is missing, no regular file, or broken.
    """
    try:
        with open_regular(path) as file:
            size = file.seek(0, 2)
            file.seek(0)
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > size - 8:
                raise ValueError("it is shorter than its header says")
            if length > MAX_HEADER_BYTES:
                raise ValueError(f"its header has {length:,} bytes; at most {MAX_HEADER_BYTES:,} are read")
            values = parse_json(file.read(length))
        return _checked(values, num_bytes=size - 8 - length)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.", "Give a whole .safetensors file.") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path} is broken: {error}.", "Download or write the file again.") from None


def _checked(values: Any, *, num_bytes: int) -> Header:
    if not isinstance(values, dict):
        raise ValueError("its header is no mapping")
    metadata = values.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError("its metadata is no mapping of texts")
    tensors, spans = {}, []
    for name, entry in values.items():
        shape, dtype, (begin, end) = tuple(entry["shape"]), entry["dtype"], entry["data_offsets"]
        if not all(type(one) is int and one >= 0 for one in (*shape, begin, end)) or len(shape) > MAX_DIMENSIONS:
            raise ValueError(f"{name[:80]} has no proper shape")
        count = 1
        for one in shape:
            count *= one
        if dtype in _BYTES and count * _BYTES[dtype] != end - begin:
            raise ValueError(f"{name[:80]} has {end - begin} bytes, which its shape {list(shape)} does not")
        tensors[name] = StoredTensor(str(dtype), shape)
        spans.append((begin, end))
    place = 0
    for begin, end in sorted(spans):
        if begin != place:
            raise ValueError("its tensors overlap or leave holes")
        place = end
    if place != num_bytes:
        raise ValueError("it is not as long as it says")
    return Header(tensors, metadata)
