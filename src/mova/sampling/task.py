"""A task is a noise map: which latents are given, and how noisy each may become.

A token at level 0 is given and stays as it is; a token at level 1 is made from noise; one between joins the
run when the schedule has come down to its level, and so is changed only that far. To write a new task, fill
the two maps and the given latents: no other part of the library has to know.

:func:`video_levels` and :func:`audio_levels` make the maps from what is given in frames and samples.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Literal, TypeVar

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from mova.request.capabilities import Capabilities, grid_frames
from mova.timeline import Timeline

_Kind = TypeVar("_Kind", bound=np.generic)


@dataclass(frozen=True)
class Grid:
    """The latent grids of a clip.

    Args:
        frames: Latent frames T.
        height: Latent rows H.
        width: Latent columns W.
        audio_length: Audio latents L.
    """

    frames: int
    height: int
    width: int
    audio_length: int


@dataclass(frozen=True, eq=False)
class Task:
    """What is given and what is to be made.

    Args:
        video_level: ``[T, H, W]`` float32: the highest noise level of each video latent; 0 is given.
        audio_level: ``[L]`` float32, likewise.
        video: Given latents ``[C, T, H, W]`` or ``[B, C, T, H, W]``, normalised; ``None`` where every level
            is 1.
        audio: Given latents ``[C, L]`` or ``[B, C, L]``, likewise.
        video_condition: Channels ``[C', T, H, W]`` or ``[B, C', T, H, W]`` that are appended to the noisy
            video before the patch embedding, for checkpoints that condition so.
        only: The one modality that is wanted. Each is made with the other in any case, as the network has learnt to make
            them; what is not wanted is left out of the file (:meth:`mova.media.clip.Clip.save`).

    Raises:
        ValueError: If a level is outside [0, 1], a shape does not fit, a level below 1 has nothing given, or nothing of
            what alone is wanted is made.
    """

    video_level: Tensor
    audio_level: Tensor
    video: Tensor | None = None
    audio: Tensor | None = None
    video_condition: Tensor | None = None
    only: Literal["audio", "video"] | None = None

    def __post_init__(self) -> None:
        _check("video", self.video_level, self.video, dims=3)
        _check("audio", self.audio_level, self.audio, dims=1)
        wanted = {"audio": self.audio_level, "video": self.video_level}
        if self.only is not None and not bool((wanted[self.only] > 0).any()):
            raise ValueError(f"only the {self.only} is wanted, and all of it is given.")

    @property
    def grid(self) -> Grid:
        """The latent grids."""
        frames, height, width = self.video_level.shape
        return Grid(frames=frames, height=height, width=width, audio_length=len(self.audio_level))

    def to(self, device: torch.device) -> Task:
        """The same task with its tensors on a device."""
        tensors = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "only"}
        return replace(self, **{name: tensor.to(device) for name, tensor in tensors.items() if tensor is not None})


def video_levels(keep: NDArray[np.bool_], grid: Grid, timeline: Timeline, *, stills: Collection[int] = ()) -> Tensor:
    """Noise levels of the video latents: 0 where every frame that a latent stands for is given, else 1.

    Args:
        keep: ``[F, H, W]`` bool, or with one row and column for whole frames: the latent cells of each frame that are given.
            Frames after the last, made and then cut, count as it does.
        grid: Latent grids of the clip.
        timeline: Clock of the clip.
        stills: Frames that are given alone, as pictures: the latent that holds one is given whole.

    Returns:
        ``[T, H, W]`` float32.
    """
    cells = np.broadcast_to(keep, (len(keep), grid.height, grid.width))
    frames = repeat_last(cells, timeline.frames_of_latents(grid.frames))
    # the first latent of a causal codec stands for one frame, each other for a stride of them
    rest = rearrange(frames[1:], "(t s) h w -> t s h w", s=timeline.video_stride).all(axis=1)
    levels = 1.0 - np.concatenate([frames[:1], rest]).astype(np.float32)
    for index in stills:
        levels[timeline.latent_of_frame(index)] = 0.0
    return torch.from_numpy(levels)


def audio_levels(keep: NDArray[np.bool_], grid: Grid, timeline: Timeline) -> Tensor:
    """Noise levels of the audio latents: 0 where every sample that a latent stands for is given, else 1.

    Args:
        keep: ``[S]`` bool: the samples that are given. Samples after the last count as it does.
        grid: Latent grids of the clip.
        timeline: Clock of the clip.

    Returns:
        ``[L]`` float32.
    """
    samples = repeat_last(keep, timeline.samples_of_latents(grid.audio_length))
    return torch.from_numpy(1.0 - samples.reshape(grid.audio_length, -1).all(axis=1).astype(np.float32))


def repeat_last(values: NDArray[_Kind], length: int) -> NDArray[_Kind]:
    """``values`` cut to ``length``, or with the last entry repeated up to it: a clip is cut from a longer legal one."""
    missing = length - len(values)
    return values[:length] if missing <= 0 else np.concatenate([values, np.repeat(values[-1:], missing, axis=0)])


def _check(name: str, level: Tensor, given: Tensor | None, *, dims: int) -> None:
    if level.ndim != dims:
        raise ValueError(f"{name}_level must have {dims} axes; got shape {tuple(level.shape)}.")
    if level.numel() == 0 or not bool(((level >= 0) & (level <= 1)).all()):
        raise ValueError(f"{name}_level must hold values between 0 and 1.")
    if given is None:
        if bool((level < 1).any()):
            raise ValueError(f"{name}_level is below 1 somewhere, but no {name} latents are given.")
    elif given.ndim not in (dims + 1, dims + 2) or given.shape[-dims:] != level.shape:
        raise ValueError(f"{name} latents have shape {tuple(given.shape)}; the levels have {tuple(level.shape)}.")


def latent_grid(capabilities: Capabilities, scale: int, *, height: int, width: int, num_frames: int, fps: Fraction) -> Grid:
    """The latent grids of a clip of a size and length.

    Args:
        capabilities: What the model can make.
        scale: Pixels per latent in height and width.
        height: Height in pixels.
        width: Width in pixels.
        num_frames: Length in frames; the next legal length is made.
        fps: Frames per second.
    """
    frames = grid_frames(capabilities, num_frames)
    timeline = capabilities.timeline(fps)
    return Grid(
        frames=timeline.video_latents(frames),
        height=height // scale,
        width=width // scale,
        audio_length=timeline.audio_latents(frames),
    )
