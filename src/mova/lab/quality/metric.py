"""What a metric that needs trained weights must give, and what it gets: videos in the form that networks take.

The protocol is the same for the networks of this package and of others. A metric that needs the speaker's face finds it in a
document beside the video, made by any face detector: ``video.mp4`` has ``video.faces.json``, one box for the whole video,
``[left, top, right, bottom]`` in pixels, or a list of such boxes, one a frame.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from einops import rearrange
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mova.errors import CheckpointError, MediaError, MovaError
from mova.files import open_regular
from mova.lab.quality.audio import mono
from mova.media.clip import Clip
from mova.media.resample import resample


@dataclass(frozen=True, eq=False)
class Sample:
    """A video to be scored.

    Args:
        clip: Frames and audio.
        prompt: What it was made from; needed by metrics of text.
        face: ``[T, 4]`` left, top, right and bottom of the speaker's face in pixels, one row a frame; needed by LSE.
    """

    clip: Clip
    prompt: str | None = None
    face: npt.NDArray[np.floating] | None = None


class UnscorableError(MovaError):
    """A sample that a metric cannot score, such as one that is too short; it is counted."""


class Scorer(Protocol):
    """A metric with its weights read.

    Videos may be decoded as they are taken: go over them one at a time, and keep of each no more than is needed.
    """

    def __call__(self, samples: Sequence[Sample], references: Sequence[Sample]) -> Scores: ...


@dataclass(frozen=True)
class Scores:
    """What a scorer gives.

    Args:
        columns: By name, one value a sample that could be scored; a single value for a metric of sets.
        reasons: Why a sample could not be scored, one entry each.
    """

    columns: Mapping[str, Sequence[float]]
    reasons: Sequence[str] = ()


class Metric(Protocol):
    """A metric that needs weights."""

    @property
    def name(self) -> str:
        """Key in :func:`mova.lab.quality.plugins.list_metrics` and in reports."""
        ...

    @property
    def version(self) -> str:
        """Changes when the numbers do."""
        ...

    @property
    def source(self) -> str:
        """What the weights are, and where people find them."""
        ...

    @property
    def requires(self) -> frozenset[str]:
        """Of ``"video"``, ``"audio"``, ``"text"``, ``"face"``, ``"references"``."""
        ...

    @property
    def of_sets(self) -> bool:
        """True if a value belongs to two sets of videos, not to a video."""
        ...

    def load(self, weights: Path, *, device: str) -> Scorer:
        """Read the weights.

        Raises:
            CheckpointError: If they are broken or of another shape.
            MissingExtraError: If a package is missing.
        """
        ...


def score_each(samples: Sequence[Sample], score: Callable[[Sample], Mapping[str, float]]) -> Scores:
    """Score one sample after the other; those that raise :class:`UnscorableError` are kept as reasons."""
    columns: dict[str, list[float]] = {}
    reasons = []
    for sample in samples:
        try:
            row = score(sample)
        except UnscorableError as error:
            reasons.append(str(error))
            continue
        for name, value in row.items():
            columns.setdefault(name, []).append(float(value))
    return Scores(columns, reasons)


def audio_at(clip: Clip, sample_rate: int) -> npt.NDArray[np.float32]:
    """``[S]`` mean of the channels at a rate."""
    return mono(resample(clip.waveform, clip.sample_rate, to_rate=sample_rate)).astype(np.float32)


def frame_indices(clip: Clip, fps: float) -> npt.NDArray[np.int64]:
    """Which frame is shown at each tick of another clock: never by counting, so that no video runs fast or slow."""
    count = int(float(clip.seconds) * fps + 1e-6)
    shown = np.floor(np.arange(count) / fps * float(clip.fps) + 1e-6).astype(np.int64)
    return np.minimum(shown, clip.num_frames - 1)


def pictures(frames: npt.NDArray[np.uint8]) -> Tensor:
    """``[T, 3, H, W]`` float32 in [0, 1]."""
    return rearrange(torch.from_numpy(np.ascontiguousarray(frames)).float() / 255.0, "t h w c -> t c h w")


def resize_square(images: Tensor, side: int) -> Tensor:
    """``[T, C, side, side]`` of ``[T, C, H, W]``: the short side scaled (bicubic, smoothed), the middle cut out."""
    height, width = images.shape[-2:]
    scale = side / min(height, width)
    size = (max(side, round(height * scale)), max(side, round(width * scale)))
    images = F.interpolate(images, size=size, mode="bicubic", antialias=True, align_corners=False).clamp(0.0, 1.0)
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    return images[..., top : top + side, left : left + side]


def load_weights(module: nn.Module, weights: Path, *, device: str) -> nn.Module:
    """A module with weights from a safetensors file, for evaluation.

    Args:
        module: Built with random weights.
        weights: The file, or a folder that holds exactly one.
        device: Where it goes.

    Raises:
        CheckpointError: If the file is pickled or broken, or its tensors do not fit.
    """
    file = _safetensors_in(weights)
    try:
        module.load_state_dict(load_file(file), strict=True)
    except (SafetensorError, RuntimeError, OSError) as error:
        raise CheckpointError(
            f"{file} does not hold the weights of {type(module).__name__}: {str(error).splitlines()[0]}",
            "Convert the original's state dict, name by name, to safetensors.",
        ) from error
    return module.to(device).eval()


def _safetensors_in(weights: Path) -> Path:
    files = sorted(weights.glob("*.safetensors")) if weights.is_dir() else [weights]
    if len(files) != 1 or files[0].suffix != ".safetensors":
        raise CheckpointError(
            f"{weights} is not one safetensors file.",
            "Pickled weights can run code and are not read: save the state dict with safetensors.torch.save_file.",
        )
    return files[0]


FACES_SUFFIX = ".faces.json"
MAX_FACES_BYTES = 20_000_000
_FACES_FORM = "Give [left, top, right, bottom] in pixels, or a list of such boxes, one for each frame."


def faces_path(video: Path) -> Path:
    """Where the document of a video is, if it has one."""
    return video.with_suffix(FACES_SUFFIX)


def read_faces(video: Path, *, num_frames: int, width: int, height: int) -> npt.NDArray[np.float64] | None:
    """``[T, 4]`` left, top, right and bottom in pixels for each frame; None if there is no document beside the video.

    Args:
        video: Its file.
        num_frames: Frames that it has.
        width: Width of its picture.
        height: Likewise.

    Raises:
        MediaError: If the document cannot be read, is too large, or its boxes are not boxes within the picture, one for all
            frames or one for each.
    """
    path = faces_path(video)
    boxes = _numbers_in(path)
    if boxes is None:
        return None
    if boxes.ndim == 1:
        boxes = boxes[None]
    if boxes.ndim != 2 or boxes.shape[1] != 4 or len(boxes) not in (1, num_frames):
        shape = " x ".join(map(str, boxes.shape))
        raise MediaError(f"{path.name} holds {shape} numbers; the video has {num_frames} frames.", _FACES_FORM)
    low, high = boxes[:, :2], boxes[:, 2:]
    if not ((low >= 0.0) & (low < high) & (high <= (width, height))).all():
        raise MediaError(f"{path.name} holds a box that is none within {width}x{height} pixels.", _FACES_FORM)
    return np.repeat(boxes, num_frames, axis=0) if len(boxes) < num_frames else boxes


def _numbers_in(path: Path) -> npt.NDArray[np.float64] | None:
    try:
        with open_regular(path) as file:
            data = file.read(MAX_FACES_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise MediaError(f"cannot read {path.name}: {problem.strerror or problem}.", _FACES_FORM) from None
    if len(data) > MAX_FACES_BYTES:
        raise MediaError(f"{path.name} has more than {MAX_FACES_BYTES} bytes.", _FACES_FORM)
    try:
        document = json.loads(data)
        rows = document if isinstance(document[0], list) else [document]
        # the types one by one: numpy would take true and "1" for numbers
        if not all(type(value) in (int, float) for row in rows for value in row):
            raise ValueError("no numbers")
        return np.asarray(document, dtype=np.float64)
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        raise MediaError(f"{path.name} does not hold boxes.", _FACES_FORM) from None
