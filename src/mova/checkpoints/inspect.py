"""What is in a checkpoint folder, and whether it is what its configurations ask for. No tensor is read.

Names, shapes and number formats come from the headers of the files; those that should be there come from networks built on
the meta device. A folder that holds configuration files alone can be inspected too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mova.checkpoints.header import read_header
from mova.checkpoints.layout import (
    BUILDERS,
    CONFIG,
    SCHEDULER_CONFIG,
    Index,
    read_index,
    read_json,
    resolve_model,
)
from mova.checkpoints.meta import build_joint, build_module, weight_files
from mova.models.joint import ours_to_official

Shape = tuple[int, ...]

# as safetensors names them, as people do
NUMBER_FORMATS = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I8": "int8",
    "U8": "uint8",
}
# the text encoder's embedding may be stored under either of its two names, or under both
_TIED = {"encoder.embed_tokens.weight": "shared.weight"}
# what may hold weights, readable or not
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


@dataclass(frozen=True)
class WrongShape:
    """A tensor that is there in another shape than its configuration asks for."""

    name: str
    stored: Shape
    expected: Shape


@dataclass(frozen=True)
class ComponentReport:
    """One component of a folder.

    Args:
        name: Its folder.
        class_name: Class, as ``model_index.json`` names it.
        num_parameters: Parameters that its configuration asks for; 0 for the tokenizer and the scheduler.
        files: Names of its files.
        num_bytes: Size of these files.
        num_tensors: Number of stored tensors.
        dtypes: Stored parameters of each number format.
        missing: Names of tensors (or of files) that are not there.
        extra: Names of tensors that do not belong there.
        wrong_shapes: Tensors of another shape.
    """

    name: str
    class_name: str
    num_parameters: int
    files: tuple[str, ...]
    num_bytes: int
    num_tensors: int
    dtypes: Mapping[str, int]
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    wrong_shapes: tuple[WrongShape, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether everything is there, in its shape, and nothing else."""
        return not (self.missing or self.extra or self.wrong_shapes)


@dataclass(frozen=True)
class CheckpointReport:
    """A checkpoint folder.

    Args:
        folder: Its path.
        name: Name of the model.
        boundary_ratio: Sigma below which the second expert works; ``None`` with one.
        components: Reports in the order of the index.
        has_weights: False for configuration files alone.
    """

    folder: Path
    name: str
    boundary_ratio: float | None
    components: tuple[ComponentReport, ...]
    has_weights: bool

    @property
    def num_parameters(self) -> int:
        """Parameters that the configurations ask for, of all components."""
        return sum(component.num_parameters for component in self.components)

    @property
    def num_bytes(self) -> int:
        """Size of all files."""
        return sum(component.num_bytes for component in self.components)

    @property
    def is_whole(self) -> bool:
        """Whether the folder can be loaded, as far as headers tell; configuration alone has nothing to lack."""
        return not self.has_weights or all(component.is_whole for component in self.components)


def inspect_checkpoint(name_or_path: str | Path) -> CheckpointReport:
    """Look at a folder, or at the shipped model by its name. A repository of the hub is downloaded first.

    Raises:
        CheckpointError: If it is no checkpoint folder, its configurations are missing or do not fit each other, or a weight
            file is broken. Tensors that are missing, extra or misshapen are reported, not raised.
    """
    folder = resolve_model(name_or_path)
    index = read_index(folder)
    expected = list_expected_tensors(folder, index)
    has_weights = any(_holds_weights(folder / name) for name in expected)
    components = tuple(
        _module_report(folder / name, class_name, expected[name], is_asked=has_weights)
        if name in expected
        else _file_report(folder / name, class_name, SCHEDULER_CONFIG if name == "scheduler" else "tokenizer.json")
        for name, (_, class_name) in index.classes.items()
    )
    return CheckpointReport(folder, index.capabilities.name, index.boundary_ratio, components, has_weights)


def list_expected_tensors(folder: Path, index: Index) -> dict[str, dict[str, Shape]]:
    """Names and shapes, as stored, that each component's configuration asks for.

    Raises:
        CheckpointError: If a configuration is missing or wrong.
    """
    expected: dict[str, dict[str, Shape]] = {}
    for expert in ("video_dit", "video_dit_2"):
        if expert not in index.classes:
            continue
        if expert == "video_dit_2" and read_json(folder / expert / CONFIG) == read_json(folder / "video_dit" / CONFIG):
            expected[expert] = expected["video_dit"]
            continue
        for name, value in build_joint(folder, expert).state_dict().items():
            component, stored = ours_to_official(name)
            expected.setdefault(expert if component == "video_dit" else component, {})[stored] = tuple(value.shape)
    for name in BUILDERS.keys() & index.classes.keys():
        module = build_module(folder, name, index)
        tied = set(getattr(module, "_tied_weights_keys", None) or {})
        expected[name] = {key: tuple(value.shape) for key, value in module.state_dict().items() if key not in tied}
    return expected


def read_stored_tensors(folder: Path) -> Iterator[tuple[str, Shape, str]]:
    """Name, shape and number format of every tensor of a component, from the headers of its files.

    Raises:
        CheckpointError: If a file is missing or broken.
    """
    for path in weight_files(folder):
        for name, stored in read_header(path).tensors.items():
            yield name, stored.shape, NUMBER_FORMATS.get(stored.dtype, stored.dtype)


def _module_report(folder: Path, class_name: str, expected: Mapping[str, Shape], *, is_asked: bool) -> ComponentReport:
    """A component with weights; ``is_asked`` is false where no component has any."""
    files = tuple(weight_files(folder)) if _holds_weights(folder) else ()
    shapes: dict[str, Shape] = {}
    dtypes: dict[str, int] = {}
    if files:
        for name, shape, dtype in read_stored_tensors(folder):
            shapes[name] = shape
            dtypes[dtype] = dtypes.get(dtype, 0) + math.prod(shape)
    names = {_TIED[name] if _TIED.get(name) in expected else name: shape for name, shape in shapes.items()}
    return ComponentReport(
        name=folder.name,
        class_name=class_name,
        num_parameters=sum(math.prod(shape) for shape in expected.values()),
        files=tuple(path.name for path in files),
        num_bytes=sum(path.stat().st_size for path in files),
        num_tensors=len(shapes),
        dtypes=dtypes,
        missing=tuple(sorted(set(expected) - set(names))) if is_asked else (),
        extra=tuple(sorted(set(names) - set(expected))),
        wrong_shapes=tuple(
            WrongShape(name, shape, expected[name])
            for name, shape in sorted(names.items())
            if name in expected and expected[name] != shape
        ),
    )


def _file_report(folder: Path, class_name: str, needed: str) -> ComponentReport:
    """The tokenizer or the scheduler: files without tensors."""
    files = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    return ComponentReport(
        name=folder.name,
        class_name=class_name,
        num_parameters=0,
        files=tuple(path.name for path in files),
        num_bytes=sum(path.stat().st_size for path in files),
        num_tensors=0,
        dtypes={},
        missing=() if (folder / needed).is_file() else (needed,),
    )


def _holds_weights(folder: Path) -> bool:
    return any(next(folder.glob(pattern), None) is not None for pattern in _WEIGHTS)
