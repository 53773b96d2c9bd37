"""Convert given frames and samples to the inputs of the sampler: given latents and noise levels.

A latent is given (level 0) if everything that it represents is given, or if it holds a single given image. Checkpoints that
condition by extra channels get them from the same images (:mod:`mova.models.conditions.image`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from einops import rearrange, reduce
from torch import Tensor

from mova.conditioning.fit import check_first_frame
from mova.conditioning.given import Given
from mova.models.conditions.image import image_condition, picture_tensor, text_only_condition
from mova.pipeline.codecs import Codecs
from mova.request.capabilities import Capabilities
from mova.request.schema import TextOnly
from mova.sampling.task import Grid, Task, audio_levels, repeat_last, video_levels
from mova.timeline import Timeline


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

    What is given fits the model (:func:`mova.conditioning.fit.check_first_frame`).
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

    def stack(name: str) -> Tensor | None:
        values = [getattr(task, name) for task in tasks]
        return None if values[0] is None else torch.stack(values)

    condition = stack("video_condition")
    return replace(first, video=stack("video"), audio=stack("audio"), video_condition=condition)


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
