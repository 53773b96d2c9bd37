"""Videos in the form that the networks of metrics take: audio at their rate, frames at their rate and size, and weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from einops import rearrange
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mova.errors import CheckpointError
from mova.lab.quality.spectra import mono
from mova.media.clip import Clip
from mova.media.resample import resample


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
