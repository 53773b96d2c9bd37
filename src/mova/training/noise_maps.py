"""Noise maps of training: what a sample is given, and the noise level of everything else.

A recipe names a share for each task. A task states which frames and samples of a clip are given, on the clip's own clock, and
the mask builders of inference (:mod:`mova.sampling.task`) turn these into levels of latents, so that training and inference
agree on what a given frame, span or region is.

Some tasks need one level per modality, others a map with a level for each latent, which costs the network more. Each batch
draws all its samples from one of these two groups; over many batches every task has its share of the samples.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from mova.sampling.task import AVTensors, Grid, audio_levels, video_levels
from mova.timeline import Timeline

MIN_AUDIO_SPAN_S = 0.25
"""Shortest span of audio that a task makes."""


@dataclass(frozen=True)
class ClipShape:
    """The size of the clips that are trained on.

    Args:
        grid: Latent grids.
        timeline: Clock, which ties frames and samples to latents.
        patch: Latent rows and columns per video token.
    """

    grid: Grid
    timeline: Timeline
    patch: tuple[int, int]

    @property
    def num_frames(self) -> int:
        """Length in frames."""
        return self.timeline.frames_of_latents(self.grid.frames)

    @property
    def num_samples(self) -> int:
        """Length in samples."""
        return self.timeline.samples(self.num_frames)


@dataclass(frozen=True, eq=False)
class GivenMask:
    """What is given of a clip.

    Args:
        frames: ``[F, h, w]`` bool, or ``[F, 1, 1]`` for whole frames: the latent cells of each frame that are given.
        samples: ``[S]`` bool: the samples that are given.
        stills: Frames that are given alone, as pictures.
    """

    frames: NDArray[np.bool_]
    samples: NDArray[np.bool_]
    stills: tuple[int, ...] = ()

    def levels(self, clip: ClipShape) -> tuple[Tensor, Tensor]:
        """``[T, H, W]`` and ``[L]``: 0 where a latent is given, else 1."""
        video = video_levels(self.frames, clip.grid, clip.timeline, stills=self.stills)
        return video, audio_levels(self.samples, clip.grid, clip.timeline)


Pick = Callable[[int], int]
"""Draws a whole number from 0 to below its argument."""


def give_first_frame(clip: ClipShape, pick: Pick) -> GivenMask:
    """The first frame."""
    return GivenMask(_no_frames(clip), _no_samples(clip), stills=(0,))


def give_last_frame(clip: ClipShape, pick: Pick) -> GivenMask:
    """The last frame."""
    return GivenMask(_no_frames(clip), _no_samples(clip), stills=(clip.num_frames - 1,))


def give_key_frame(clip: ClipShape, pick: Pick) -> GivenMask:
    """A frame somewhere in the clip."""
    frame = clip.timeline.frames_of_latent(pick(clip.grid.frames)).start
    return GivenMask(_no_frames(clip), _no_samples(clip), stills=(frame,))


def give_beginning(clip: ClipShape, pick: Pick) -> GivenMask:
    """A beginning of video and audio, which goes on."""
    num_latents = 1 + pick(max(1, clip.grid.frames - 2))
    num_frames = clip.timeline.frames_of_latents(num_latents)
    frames, samples = _no_frames(clip), _no_samples(clip)
    frames[:num_frames] = True
    samples[: clip.timeline.samples(num_frames)] = True
    return GivenMask(frames, samples)


def give_all_but_a_span_of_audio(clip: ClipShape, pick: Pick) -> GivenMask:
    """The video, and the audio outside a span."""
    return GivenMask(~_no_frames(clip), _outside_audio_span(clip, pick))


def give_audio_but_a_span(clip: ClipShape, pick: Pick) -> GivenMask:
    """The audio outside a span; the video is made whole."""
    return GivenMask(_no_frames(clip), _outside_audio_span(clip, pick))


def give_all_but_a_span_of_video(clip: ClipShape, pick: Pick) -> GivenMask:
    """The audio, and the video outside a span."""
    frames = ~_no_frames(clip)
    begin, end = clip.timeline.frame_span(*_draw_span(clip.grid.frames, 1, pick))
    frames[begin:end] = False
    return GivenMask(frames, ~_no_samples(clip))


def give_all_but_a_region(clip: ClipShape, pick: Pick) -> GivenMask:
    """The audio, and the video outside a rectangle of whole patches."""
    sides = zip((clip.grid.height, clip.grid.width), clip.patch, strict=True)
    rows, columns = (slice(*(patch * edge for edge in _draw_span(size // patch, 1, pick))) for size, patch in sides)
    region = np.zeros((1, clip.grid.height, clip.grid.width), np.bool_)
    region[:, rows, columns] = True
    return GivenMask(np.repeat(~region, clip.num_frames, axis=0), ~_no_samples(clip))


WHOLE_TASKS: Mapping[str, tuple[float, float]] = {
    "text": (1.0, 1.0),
    "video_to_audio": (0.0, 1.0),
    "audio_to_video": (1.0, 0.0),
}
"""Tasks with one level per modality: 1 for a video that is made and 0 for one that is given, the same for the audio."""

MASKED_TASKS: Mapping[str, Callable[[ClipShape, Pick], GivenMask]] = {
    "first_frame": give_first_frame,
    "last_frame": give_last_frame,
    "key_frame": give_key_frame,
    "extend": give_beginning,
    "retake_audio": give_all_but_a_span_of_audio,
    "fill_audio": give_audio_but_a_span,
    "retake_video": give_all_but_a_span_of_video,
    "repaint": give_all_but_a_region,
}
"""Tasks with a level for each latent: which frames and samples are given."""

DEFAULT_TASKS: Mapping[str, float] = {
    "video_to_audio": 0.06,
    "audio_to_video": 0.06,
    "first_frame": 0.04125,
    "last_frame": 0.00825,
    "key_frame": 0.0165,
    "extend": 0.033,
    "retake_audio": 0.00825,
    "fill_audio": 0.00825,
    "retake_video": 0.00825,
    "repaint": 0.00825,
}


class NoiseSettings(BaseModel):
    """How noise levels and given parts are drawn: the ``noise`` part of a joint recipe. Shares are of the samples."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    logit_mean: float = Field(default=0.3, description="Mean of logit(sigma): above 0 trains more at high noise.")
    logit_std: float = Field(default=1.1, gt=0)
    tasks: dict[str, float] = Field(
        default=dict(DEFAULT_TASKS), description="Share of each task; what they leave of 1 is text to video and audio."
    )
    independent: float = Field(
        default=0.15, ge=0, le=1, description="Share of samples whose modalities have a noise level each, where both are made."
    )
    temporal_sum_weight: float = Field(
        default=0.0, ge=0, description="Weight of the error summed over time, beside that of each token."
    )
    drop_caption: float = Field(default=0.1, ge=0, le=1)
    drop_cues: float = Field(default=0.35, ge=0, le=1)
    partial_cues: float = Field(default=0.25, ge=0, le=1, description="Share of the cued samples that know a beginning's only.")
    drop_bridge: float = Field(default=0.06, ge=0, le=1)

    @model_validator(mode="after")
    def check_shares(self) -> NoiseSettings:
        """Refuse unknown tasks and shares that leave less than nothing."""
        known = (*WHOLE_TASKS, *MASKED_TASKS)
        for name, share in self.tasks.items():
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                hint = f"the nearest is {close[0]!r}" if close else f"known are {', '.join(known)}"
                raise ValueError(f"there is no task {name!r}; {hint}")
            if share < 0:
                raise ValueError(f"the share of {name!r} must not be negative; got {share:g}")
        if (total := sum(self.tasks.values())) > 1 + 1e-9:
            raise ValueError(f"the shares of the tasks must sum to at most 1; got {total:g}")
        if self.independent > self._both_made + 1e-9:
            raise ValueError(
                f"the share independent must be at most {self._both_made:g}, the share of samples of which both modalities are "
                f"made; got {self.independent:g}"
            )
        return self

    @property
    def _both_made(self) -> float:
        return 1.0 - self.tasks.get("video_to_audio", 0.0) - self.tasks.get("audio_to_video", 0.0)

    @property
    def independent_if_both_made(self) -> float:
        """Chance that a sample of which both modalities are made has a noise level for each."""
        return self.independent / self._both_made if self.independent else 0.0

    @property
    def shares(self) -> dict[str, float]:
        """Share of every task, that of ``text`` included."""
        given = {name: self.tasks.get(name, 0.0) for name in (*WHOLE_TASKS, *MASKED_TASKS)}
        return given | {"text": given["text"] + max(0.0, 1.0 - sum(given.values()))}


def draw_levels(batch: int, clip: ClipShape, noise: NoiseSettings, generator: torch.Generator) -> AVTensors:
    """Noise levels of a batch: one per sample and modality ``[B]``, or maps ``[B, T, H, W]`` and ``[B, L]``.

    Args:
        batch: Samples.
        clip: Their size.
        noise: Shares and the distribution of sigma.
        generator: Source of all randomness, and the device of the result.
    """
    device = generator.device
    logits = noise.logit_mean + noise.logit_std * torch.randn(2, batch, generator=generator, device=device)
    sigma_v, sigma_a = torch.sigmoid(logits)
    is_independent = torch.rand(batch, generator=generator, device=device) < noise.independent_if_both_made
    sigma_a = torch.where(is_independent, sigma_a, sigma_v)
    shares = noise.shares
    num_masked = sum(shares[name] for name in MASKED_TASKS)
    if float(torch.rand((), generator=generator, device=device)) >= num_masked:
        made = torch.tensor([WHOLE_TASKS[name] for name in _draw_tasks(batch, tuple(WHOLE_TASKS), shares, generator)])
        return AVTensors(sigma_v * made[:, 0].to(device), sigma_a * made[:, 1].to(device))

    def pick(limit: int) -> int:
        return int(torch.randint(limit, (), generator=generator, device=device))

    names = _draw_tasks(batch, tuple(MASKED_TASKS), shares, generator)
    video, audio = zip(*(MASKED_TASKS[name](clip, pick).levels(clip) for name in names), strict=True)
    return AVTensors(
        sigma_v[:, None, None, None] * torch.stack(video).to(device), sigma_a[:, None] * torch.stack(audio).to(device)
    )


def _draw_tasks(batch: int, names: tuple[str, ...], shares: Mapping[str, float], generator: torch.Generator) -> list[str]:
    """A task a sample, by the shares of some tasks among themselves."""
    weights = torch.tensor([shares[name] for name in names], device=generator.device)
    drawn = torch.multinomial(weights, batch, replacement=True, generator=generator)
    return [names[index] for index in drawn.tolist()]


def _draw_span(limit: int, least: int, pick: Pick) -> tuple[int, int]:
    """First and last (excluded) of a span of at least ``least`` of ``limit``."""
    least = min(least, limit)
    start, stop = sorted((pick(limit + 1), pick(limit + 1)))
    return min(start, limit - least), max(stop, min(start, limit - least) + least)


def _outside_audio_span(clip: ClipShape, pick: Pick) -> NDArray[np.bool_]:
    least = ceil(MIN_AUDIO_SPAN_S * clip.timeline.audio_latents_per_second)
    begin, end = clip.timeline.sample_span(*_draw_span(clip.grid.audio_length, least, pick))
    samples = ~_no_samples(clip)
    samples[begin:end] = False
    return samples


def _no_frames(clip: ClipShape) -> NDArray[np.bool_]:
    return np.zeros((clip.num_frames, 1, 1), np.bool_)


def _no_samples(clip: ClipShape) -> NDArray[np.bool_]:
    return np.zeros(clip.num_samples, np.bool_)
