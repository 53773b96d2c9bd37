"""From videos and audio to latents and back: what is given becomes latents and noise levels, and what a run made becomes clips.

A latent is given (level 0) if everything that it represents is given, or if it holds a single given image. Checkpoints that
condition by extra channels get them from the same images (:mod:`mova.models.image_condition`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import torch
from diffusers.utils import BaseOutput
from einops import rearrange, reduce
from torch import Tensor

from mova.conditioning.given import Given
from mova.conditioning.prepare import check_first_frame
from mova.media.clip import Clip, NonFiniteError
from mova.models.image_condition import image_condition, picture_tensor, text_only_condition
from mova.request.plan import Capabilities
from mova.request.schema import TextOnly
from mova.sampling.task import Grid, Task, audio_levels, repeat_last, video_levels
from mova.timeline import Timeline


@dataclass(frozen=True, eq=False)
class Codecs:
    """The two codecs of a model.

    Args:
        video_vae: Video codec.
        audio_vae: Audio codec.
        device: Device on which they work; a pipeline that offloads knows better than they do.
    """

    video_vae: Any
    audio_vae: Any
    device: torch.device | str = "cpu"

    @torch.no_grad()
    def encode_video(self, frames: Tensor) -> Tensor:
        """Normalised latents ``[B, C, t, h, w]`` of video ``[B, 3, T, H, W]`` in [-1, 1]; T = 1 + stride k."""
        return _encode(self.video_vae, frames, self.device)

    @torch.no_grad()
    def encode_audio(self, waveform: Tensor) -> Tensor:
        """Normalised latents ``[B, C, L]`` of audio ``[B, 1, S]`` in [-1, 1] at the codec's rate."""
        return _encode(self.audio_vae, waveform, self.device)

    @torch.no_grad()
    def decode_video(self, latents: Tensor) -> Tensor:
        """Video ``[B, 3, T, H, W]`` in [-1, 1], float32, of normalised latents.

        Raises:
            NonFiniteError: If the codec gives NaN or infinity.
        """
        return _decode_latents(self.video_vae, latents, "video").clamp_(-1.0, 1.0)

    @torch.no_grad()
    def decode_audio(self, latents: Tensor) -> Tensor:
        """Audio ``[B, 1, S]`` in [-1, 1], float32, of normalised latents.

        Raises:
            NonFiniteError: If the codec gives NaN or infinity.
        """
        return _decode_latents(self.audio_vae, latents, "audio").clamp(-1.0, 1.0)


def _encode(codec: Any, signal: Tensor, device: torch.device | str) -> Tensor:
    latents: Tensor = codec.encode(signal.to(device, codec.dtype)).latent_dist.mode().float()
    mean, std = _statistics(codec, latents)
    return (latents - mean) / std


def _decode_latents(codec: Any, latents: Tensor, modality: Literal["audio", "video"]) -> Tensor:
    """Refuses NaN and infinity: later nobody can tell, as infinity is clamped and whole numbers hide NaN."""
    mean, std = _statistics(codec, latents)
    signal: Tensor = codec.decode((latents * std + mean).to(codec.dtype)).sample.to(torch.float32)
    if not all(bool(end.isfinite()) for end in signal.aminmax()):  # NaN anywhere makes both of them NaN
        raise NonFiniteError(modality)
    return signal


def _statistics(codec: Any, latents: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of a codec's latent channels, shaped to its latents; 0 and 1 where it has none."""
    shape = (1, -1, *[1] * (latents.ndim - 2))
    mean, std = codec.config.get("latents_mean"), codec.config.get("latents_std")
    return (
        latents.new_tensor([0.0] if mean is None else mean).view(shape),
        latents.new_tensor([1.0] if std is None else std).view(shape),
    )


def build_task(
    given: Sequence[Given],
    grid: Grid,
    timeline: Timeline,
    capabilities: Capabilities,
    codecs: Codecs,
    *,
    num_frames: int,
    text_only: TextOnly | None = None,
) -> Task:
    """Tell the sampler what is given.

    Args:
        given: One entry a clip, all with the same parts.
        grid: Latent grids of the clips.
        timeline: Their clock.
        capabilities: What the model can make.
        codecs: Codecs of the model.
        num_frames: Length of the clips in frames.
        text_only: Stand-in for a first frame that is not given.

    Raises:
        RequestError: If the model needs a first frame, none is given and ``text_only`` does not say what takes its place;
            or if it says so to a model that needs none.
    """
    tasks = []
    for one in given:
        check_first_frame(one, capabilities, num_frames=num_frames, text_only=text_only)
        condition, rest = None, one
        if capabilities.needs_first_frame:
            condition, rest = channel_condition(
                one, grid, timeline, codecs.video_vae, text_only=text_only, device=torch.device(codecs.device)
            )
        tasks.append(task_of(rest, grid, timeline, codecs, video_condition=condition))
    return stack_tasks(tasks)


def task_of(
    given: Given,
    grid: Grid,
    timeline: Timeline,
    codecs: Codecs,
    *,
    video_condition: Tensor | None = None,
) -> Task:
    """The task of one clip.

    Args:
        given: What is given.
        grid: Grid of the clip's latents.
        timeline: Its clock.
        codecs: Codecs of the model.
        video_condition: Extra channels for the network, if it takes any.
    """
    video_level, audio_level = given_levels(given, grid, timeline)
    video = audio = None
    if bool((video_level < 1).any()):
        video = codecs.encode_video(fill_missing_frames(given, grid, timeline))[0]
    if bool((audio_level < 1).any()):
        assert given.waveform is not None
        samples = timeline.samples_of_latents(grid.audio_length)
        waveform = torch.from_numpy(np.ascontiguousarray(given.waveform))[:, :samples]
        padded = torch.nn.functional.pad(waveform, (0, samples - waveform.shape[1]))
        audio = codecs.encode_audio(padded[None])[0]
    return Task(video_level, audio_level, video=video, audio=audio, video_condition=video_condition)


def channel_condition(
    given: Given,
    grid: Grid,
    timeline: Timeline,
    codec: Any,
    *,
    text_only: TextOnly | None,
    device: torch.device | None = None,
) -> tuple[Tensor, Given]:
    """Extra channels ``[stride + C, T, H, W]`` for a network that takes its first and last frame so, and what else is given.

    What is given fits the model (:func:`mova.conditioning.prepare.check_first_frame`).
    """
    num_frames = timeline.frames_of_latents(grid.frames)
    first, last = given.first_frame, given.last_still
    if first is None:
        assert text_only is not None
        scale = int(codec.config.scale_factor_spatial)
        size = {"height": grid.height * scale, "width": grid.width * scale}
        return text_only_condition(codec, text_only, num_frames=num_frames, device=device, **size)[0], given
    tail = None if last is None else picture_tensor(last)
    pictures = {"image": picture_tensor(first), "last_image": tail}
    condition = image_condition(codec, num_frames=num_frames, device=device, **pictures)[0]
    inner = tuple(index for index in given.stills if 0 < index < num_frames - 1)
    is_video = given.keep_picture is not None and bool(given.keep_picture.any(axis=(1, 2)).sum() > len(given.stills))
    return condition, replace(given, stills=inner) if inner or is_video else replace(given, frames=None, stills=())


def stack_tasks(tasks: Sequence[Task]) -> Task:
    """Stack the tasks of a batch, which share their levels.

    Raises:
        ValueError: If the levels differ.
    """
    first = tasks[0]
    for task in tasks[1:]:
        same = torch.equal(task.video_level, first.video_level) and torch.equal(task.audio_level, first.audio_level)
        if not same or task.grid != first.grid:
            raise ValueError("the clips of one batch must be given the same parts.")
    given = [name for name in ("video", "audio", "video_condition") if getattr(first, name) is not None]
    stacked: dict[str, Any] = {name: torch.stack([getattr(task, name) for task in tasks]) for name in given}
    return replace(first, **stacked)


def given_levels(given: Given, grid: Grid, timeline: Timeline) -> tuple[Tensor, Tensor]:
    """Noise levels ``[T, H, W]`` of the video and ``[L]`` of the audio, float32: 0 where a latent is given, else 1.

    A latent cell is given where every pixel behind it is.
    """
    video, audio = torch.ones(grid.frames, grid.height, grid.width), torch.ones(grid.audio_length)
    if given.frames is not None:
        assert given.keep_picture is not None
        _, height, width, _ = given.frames.shape
        keep = np.broadcast_to(given.keep_picture, given.frames.shape[:3])
        cells = reduce(
            keep, "t (h p) (w q) -> t h w", lambda x, axes: x.all(axis=axes), p=height // grid.height, q=width // grid.width
        )
        video = video_levels(cells, grid, timeline, stills=given.stills)
    if given.waveform is not None:
        assert given.keep_audio is not None
        audio = audio_levels(given.keep_audio, grid, timeline)
    return video, audio


def fill_missing_frames(given: Given, grid: Grid, timeline: Timeline) -> Tensor:
    """``[1, 3, T, H, W]`` in [-1, 1] for the codec: what is given, and the nearest given frame where nothing is."""
    assert given.frames is not None
    assert given.keep_picture is not None
    frames = repeat_last(given.frames, timeline.frames_of_latents(grid.frames))
    has_frame = repeat_last(np.asarray(given.keep_picture.any(axis=(1, 2))), len(frames))
    known = np.flatnonzero(has_frame)
    source = known[np.abs(np.arange(len(frames))[:, None] - known[None, :]).argmin(axis=1)]
    for still in given.stills:
        source[timeline.frames_of_latent(timeline.latent_of_frame(still))] = still
    video = torch.from_numpy(np.ascontiguousarray(frames[source])).float() / 127.5 - 1.0
    return rearrange(video, "t h w c -> 1 c t h w")


@dataclass
class MOVAPipelineOutput(BaseOutput):
    """What a run gives.

    Attributes:
        frames: ``[B, T, H, W, 3]`` float32 in [0, 1] ("np"), ``[B, T, 3, H, W]`` ("pt"), lists of images
            ("pil"), normalised latents ``[B, C, T, H, W]`` ("latent"), or ``None`` ("clips": the clips are all).
        audio: ``[B, channels, samples]`` float32 in [-1, 1], an array or ("pt") a tensor; or latents ``[B, C,
            L]``.
        fps: Frames per second, exact.
        sample_rate: Sample rate of the audio in Hz.
        cues: What happens when, a list of (seconds, label) a clip: as given or planned; empty where it was left open.
        clips: One :class:`~mova.media.clip.Clip` a prompt; empty for latents.
    """

    frames: Any
    audio: Any
    fps: Fraction
    sample_rate: int
    clips: list[Clip]
    cues: Sequence[Sequence[tuple[float, str]]] = ()

    @property
    def clip(self) -> Clip:
        """The first clip."""
        return self.clips[0]


def pack_output(
    video: Tensor,
    audio: Tensor,
    output_type: str,
    *,
    fps: Fraction,
    rate: int,
    only: Literal["audio", "video"] | None = None,
    cues: Sequence[Sequence[tuple[float, str]]] = (),
) -> MOVAPipelineOutput:
    """The output of a decoded run.

    Args:
        video: ``[B, 3, T, H, W]`` float32 in [-1, 1].
        audio: ``[B, channels, S]`` float32 in [-1, 1].
        output_type: ``"np"``, ``"pt"``, ``"pil"`` or ``"clips"``.
        fps: Frames per second.
        rate: Samples per second.
        only: The one modality that the clips are to write.
        cues: What happens when, a list a clip.
    """
    video, audio = video.cpu(), audio.cpu().contiguous()
    pixels = _pixels(video)
    waves: Any = audio.numpy()
    clips = [Clip(frames, wave, fps, rate, only=only) for frames, wave in zip(pixels, waves, strict=True)]
    frames: Any = None
    if output_type == "pil":
        from PIL import Image

        frames = [[Image.fromarray(picture) for picture in frames] for frames in pixels]
    elif output_type == "pt":
        frames, waves = rearrange(video / 2 + 0.5, "b c t h w -> b t c h w"), audio
    elif output_type == "np":
        frames = np.ascontiguousarray(rearrange(video / 2 + 0.5, "b c t h w -> b t h w c").numpy())
    return MOVAPipelineOutput(frames=frames, audio=waves, fps=fps, sample_rate=rate, clips=clips, cues=cues)


def _pixels(video: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """``[B, T, H, W, 3]`` of a video in [-1, 1], frame by frame: a long video in 32 bits is large enough once."""
    batch, channels, length, height, width = video.shape
    pixels = torch.empty(batch, length, height, width, channels, dtype=torch.uint8)
    for index in range(length):
        pixels[:, index] = rearrange((video[:, :, index] / 2 + 0.5) * 255.0, "b c h w -> b h w c").round().to(torch.uint8)
    return pixels.numpy()
