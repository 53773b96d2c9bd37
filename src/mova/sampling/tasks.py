"""A task is a noise map: which latents are given, and how noisy each may become.

A token at level 0 is given and stays as it is; a token at level 1 is made from noise; one between joins the
run when the schedule has come down to its level, and so is changed only that far. To write a new task, fill
the two maps and the given latents: no other part of the library has to know.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


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
            video at the network's door, for checkpoints that condition so.

    Raises:
        ValueError: If a level is outside [0, 1], a shape does not fit, or a level below 1 has nothing given.
    """

    video_level: Tensor
    audio_level: Tensor
    video: Tensor | None = None
    audio: Tensor | None = None
    video_condition: Tensor | None = None

    def __post_init__(self) -> None:
        _check("video", self.video_level, self.video, dims=3)
        _check("audio", self.audio_level, self.audio, dims=1)

    @property
    def grid(self) -> Grid:
        """The latent grids."""
        frames, height, width = self.video_level.shape
        return Grid(frames=frames, height=height, width=width, audio_length=len(self.audio_level))


def text(grid: Grid) -> Task:
    """Everything is made: from a prompt to a clip."""
    return Task(
        video_level=torch.ones(grid.frames, grid.height, grid.width),
        audio_level=torch.ones(grid.audio_length),
    )


def first_frame(grid: Grid, image: Tensor) -> Task:
    """The first latent frame is given.

    Args:
        grid: Of the clip.
        image: Its latents ``[C, 1, H, W]`` or ``[B, C, 1, H, W]``, normalised.
    """
    level = torch.ones(grid.frames, grid.height, grid.width)
    level[0] = 0.0
    return Task(
        video_level=level,
        audio_level=torch.ones(grid.audio_length),
        video=_padded(image, grid.frames, axis=-3),
    )


def video_to_audio(grid: Grid, video: Tensor) -> Task:
    """The film is given, its sound is made.

    Args:
        grid: Of the clip.
        video: Latents ``[C, T, H, W]`` or ``[B, C, T, H, W]``, normalised.
    """
    return Task(
        video_level=torch.zeros(grid.frames, grid.height, grid.width),
        audio_level=torch.ones(grid.audio_length),
        video=video,
    )


def audio_to_video(grid: Grid, audio: Tensor) -> Task:
    """The sound is given, a film to it is made.

    Args:
        grid: Of the clip.
        audio: Latents ``[C, L]`` or ``[B, C, L]``, normalised.
    """
    return Task(
        video_level=torch.ones(grid.frames, grid.height, grid.width),
        audio_level=torch.zeros(grid.audio_length),
        audio=audio,
    )


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


def _padded(latents: Tensor, length: int, *, axis: int) -> Tensor:
    missing = length - latents.shape[axis]
    if missing < 0:
        raise ValueError(f"{latents.shape[axis]} latent frames are given for a clip of {length}.")
    shape = list(latents.shape)
    shape[axis] = missing
    return torch.cat([latents, latents.new_zeros(shape)], dim=axis)
