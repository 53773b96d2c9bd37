"""What goes into the joint network: the task, noise, and the input of one call, for sampling and training.

A task is a noise map: which latents are given, and how noisy each may become. A token at level 0 is given and stays as it is; a
token at level 1 is made from noise; one between joins the run when the schedule has come down to its level, and so is changed
only that far. To write a new task, fill the two maps and the given latents: no other part of the library has to know.

Noise is a function of (seed, modality, absolute latent index) and nothing else: that of an instant is the same whatever else
is made, a longer clip, another batch size, another device or re-rolled audio. A counter-based generator gives each latent index
its own stream: Philox 4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), key = (seed, modality),
counter = latent index. The normal deviates are made here (Box and Muller 1958) from the generator's raw bits, whose stream
numpy guarantees across versions, unlike that of its ready-made normals.

A call takes noisy latents, the condition channels that some checkpoints read beside the video's latents (cue channels, or a
mask and the latents of given pictures), a noise level for each sample or latent, the text, and the strengths of the bridge.
Whoever calls the network states these; which tensor goes where, and in which number format, is decided here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from mova.errors import RequestError
from mova.request.plan import Capabilities, grid_frames
from mova.timeline import Timeline


class AVTensors(NamedTuple):
    """Latents, velocities or noise levels of both modalities.

    Args:
        video: ``[B, C, T, H, W]``, or levels that broadcast to it.
        audio: ``[B, C, L]``, or levels that broadcast to it.
    """

    video: Tensor
    audio: Tensor


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


VIDEO_KEY = 1
AUDIO_KEY = 2
MAX_SEED = 2**63 - 1


def video_noise(seed: int, shape: Sequence[int], *, start: int = 0) -> Tensor:
    """Standard normal ``[C, T, H, W]`` float32 on the CPU.

    Args:
        seed: Seed of the video, 0 to 2^63 - 1.
        shape: ``(C, T, H, W)``.
        start: Absolute index of the first latent frame.

    Raises:
        ValueError: If the seed or the shape is out of range.
    """
    channels, frames, height, width = shape
    columns = [_normals(seed, VIDEO_KEY, start + index, channels * height * width) for index in range(frames)]
    return torch.from_numpy(np.stack(columns).reshape(frames, channels, height, width)).transpose(0, 1).contiguous()


def audio_noise(seed: int, shape: Sequence[int], *, start: int = 0) -> Tensor:
    """Standard normal ``[C, L]`` float32 on the CPU.

    Args:
        seed: Seed of the audio, 0 to 2^63 - 1; the same number as the video's gives other noise.
        shape: ``(C, L)``.
        start: Absolute index of the first audio latent.

    Raises:
        ValueError: If the seed or the shape is out of range.
    """
    channels, length = shape
    columns = [_normals(seed, AUDIO_KEY, start + index, channels) for index in range(length)]
    return torch.from_numpy(np.stack(columns, axis=1))


def _normals(seed: int, modality: int, index: int, count: int) -> NDArray[np.float32]:
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed must be between 0 and {MAX_SEED}; got {seed}.")
    if index < 0:
        raise ValueError(f"start must not be negative; got {index}.")
    key = np.array([seed, modality], dtype=np.uint64)
    # the lowest word counts blocks inside the latent, the second is the latent itself
    counter = np.array([0, index, 0, 0], dtype=np.uint64)
    pairs = (count + 1) // 2
    bits = np.random.Philox(key=key, counter=counter).random_raw(2 * pairs) >> np.uint64(11)
    radius_from, angle_from = bits.astype(np.float64).reshape(2, pairs) * 2.0**-53
    radius = np.sqrt(-2.0 * np.log(1.0 - radius_from))  # 1 - u lies in (0, 1]: the logarithm is finite
    angle = 2.0 * np.pi * angle_from
    normals = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
    return normals.astype(np.float32)


Generator = torch.Generator | Sequence[torch.Generator]


def draw_seeds(
    batch: int,
    seed: int | Sequence[int] | None,
    audio_seed: int | Sequence[int] | None,
    generator: Generator | None,
) -> tuple[list[int], list[int]]:
    """Seeds of video and audio, one a clip.

    Raises:
        RequestError: If there are not as many as clips, or a seed is out of range, or both kinds are given.
    """
    if seed is not None and generator is not None:
        raise RequestError("seed and generator are both given.", "Give one of the two.", field="seed")
    if seed is None:
        generators = [generator] * batch if isinstance(generator, torch.Generator | None) else list(generator)
        if len(generators) != batch:
            raise RequestError(f"there are {len(generators)} generators for {batch} clips.", field="generator")
        seed = [int(torch.randint(2**32, (), generator=g, device=g.device if g else None)) for g in generators]
    seeds = _one_each(batch, seed, "seed")
    return seeds, seeds if audio_seed is None else _one_each(batch, audio_seed, "audio_seed")


def _one_each(batch: int, seed: int | Sequence[int], field: str) -> list[int]:
    seeds = [seed + index for index in range(batch)] if isinstance(seed, int) else list(seed)
    if len(seeds) != batch:
        raise RequestError(f"there are {len(seeds)} values of {field} for {batch} clips.", field=field)
    if not all(0 <= value < 2**63 for value in seeds):
        raise RequestError(f"{field} must be between 0 and 2^63 - 1; got {seeds}.", field=field)
    return seeds


def draw_noise(
    network: Any,
    grid: Grid,
    seeds: Sequence[int],
    audio_seeds: Sequence[int],
    *,
    latents: Tensor | None = None,
    audio_latents: Tensor | None = None,
) -> AVTensors:
    """Noise of a batch: what is given in its place, else that of the seeds, one a clip.

    Args:
        network: The joint network.
        grid: Latent grids.
        seeds: Seeds of the video.
        audio_seeds: Seeds of the audio.
        latents: In place of the video's noise, ``[B, C, T, H, W]``.
        audio_latents: In place of the audio's noise, ``[B, C, L]``.

    Raises:
        RequestError: If what is given has another shape.
    """
    video = (network.config["video"]["out_dim"], grid.frames, grid.height, grid.width)
    audio = (network.config["audio"]["out_dim"], grid.audio_length)
    noise = AVTensors(
        torch.stack([video_noise(seed, video) for seed in seeds]) if latents is None else latents,
        torch.stack([audio_noise(seed, audio) for seed in audio_seeds]) if audio_latents is None else audio_latents,
    )
    for field, one, shape in (("latents", noise.video, video), ("audio_latents", noise.audio, audio)):
        if one.shape != (len(seeds), *shape):
            raise RequestError(f"{field} must have the shape {[len(seeds), *shape]}; got {list(one.shape)}.", field=field)
    return noise


MAX_TIMESTEP = 1000.0
"""The timestep of pure noise: the network reads ``1000 sigma``."""


@dataclass(frozen=True, eq=False)
class NetworkInput:
    """One call of the joint network.

    Args:
        video: ``[B, C + C', T, H, W]`` noisy latents, then condition channels.
        audio: ``[B, C, L]`` noisy latents.
        video_timestep: ``[B]``, or a map ``[B, T, H, W]``.
        audio_timestep: ``[B]``, or a map ``[B, L]``.
        text: ``[B, S, Dt]`` prompt embeddings, or what the network's ``encode_text`` returned for them.
        video_fps: Frames per second of the video.
        a2v_scale: Strength of audio on video: a number, or one per sample ``[B]``.
        v2a_scale: Strength of video on audio, likewise.
        perturbed_layers: Layers in which self-attention is the identity.
    """

    video: Tensor
    audio: Tensor
    video_timestep: Tensor
    audio_timestep: Tensor
    text: Any
    video_fps: float
    a2v_scale: float | Tensor = 1.0
    v2a_scale: float | Tensor = 1.0
    perturbed_layers: Collection[int] = ()


def build_input(
    latents: AVTensors,
    timesteps: AVTensors,
    *,
    text: Any,
    video_fps: float,
    video_condition: Tensor | None = None,
    a2v_scale: float | Tensor = 1.0,
    v2a_scale: float | Tensor = 1.0,
    perturbed_layers: Collection[int] = (),
) -> NetworkInput:
    """Put latents, condition channels and levels together.

    Args:
        latents: Noisy latents ``[B, C, T, H, W]`` and ``[B, C, L]``.
        timesteps: Per sample ``[B]`` or per latent ``[B, T, H, W]`` and ``[B, L]``, see :func:`timesteps_of`.
        text: As in :class:`NetworkInput`.
        video_fps: Frames per second of the video.
        video_condition: ``[C', T, H, W]`` or ``[B, C', T, H, W]``; axes of length 1 are expanded. ``None`` for a network
            without condition channels.
        a2v_scale: As in :class:`NetworkInput`.
        v2a_scale: As in :class:`NetworkInput`.
        perturbed_layers: As in :class:`NetworkInput`.
    """
    return NetworkInput(
        video=append_condition(latents.video, video_condition),
        audio=latents.audio,
        video_timestep=timesteps.video,
        audio_timestep=timesteps.audio,
        text=text,
        video_fps=video_fps,
        a2v_scale=a2v_scale,
        v2a_scale=v2a_scale,
        perturbed_layers=perturbed_layers,
    )


def append_condition(video: Tensor, condition: Tensor | None) -> Tensor:
    """``[B, C + C', T, H, W]``: the channels of a condition after those of the latents.

    Args:
        video: ``[B, C, T, H, W]``.
        condition: ``[C', T, H, W]`` or ``[B, C', T, H, W]``; axes of length 1 are expanded.
    """
    if condition is None:
        return video
    channels = condition.shape[-4]
    return torch.cat([video, condition.to(video).expand(video.shape[0], channels, *video.shape[2:])], dim=1)


def timesteps_of(levels: AVTensors) -> AVTensors:
    """What the network reads for noise levels between 0 and 1."""
    return AVTensors(MAX_TIMESTEP * levels.video, MAX_TIMESTEP * levels.audio)


def predict_velocity(model: Any, network_input: NetworkInput) -> AVTensors:
    """Call the network in its own number format; velocities (noise - data) in float32.

    Args:
        model: A :class:`~mova.models.joint.JointModel`.
        network_input: From :func:`build_input`.
    """
    text = network_input.text
    prompt = {"text_embeds": text.to(model.dtype)} if isinstance(text, Tensor) else {"text_context": text}
    output = model(
        network_input.video.to(model.dtype),
        network_input.audio.to(model.dtype),
        video_timestep=network_input.video_timestep,
        audio_timestep=network_input.audio_timestep,
        video_fps=network_input.video_fps,
        a2v_scale=network_input.a2v_scale,
        v2a_scale=network_input.v2a_scale,
        perturbed_layers=network_input.perturbed_layers,
        return_dict=True,
        **prompt,
    )
    return AVTensors(output.video.float(), output.audio.float())
