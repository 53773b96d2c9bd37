"""A clip in latents: its grids, what is given of it as a task, and its noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from mova.checkpoints.layout import Index
from mova.conditioning.given import Given
from mova.errors import RequestError
from mova.pipeline.codecs import CodecPipelineMixin
from mova.pipeline.conditioning import batched, channel_condition, task_of
from mova.request.capabilities import Capabilities, grid_frames
from mova.request.schema import TextOnly
from mova.sampling.av_tensors import AVTensors
from mova.sampling.denoise import cfg_batch
from mova.sampling.noise import audio_noise, video_noise
from mova.sampling.task import Grid, Task
from mova.sampling.windows import Window
from mova.timeline import Timeline


class GridPipelineMixin(CodecPipelineMixin):
    """Adds grids, tasks and noise to a pipeline that has a joint network, codecs and the index of its checkpoint."""

    transformer: Any
    index: Index

    @property
    def capabilities(self) -> Capabilities:
        """What the model can make."""
        return self.index.capabilities

    def grid(self, *, height: int, width: int, num_frames: int, fps: Fraction) -> Grid:
        """The latent grids of a clip of that size and length."""
        capabilities = self.capabilities
        frames = grid_frames(capabilities, num_frames)
        timeline = capabilities.timeline(fps)
        scale = self.video_vae.config.scale_factor_spatial
        return Grid(
            frames=timeline.video_latents(frames),
            height=height // scale,
            width=width // scale,
            audio_length=timeline.audio_latents(frames),
        )

    @torch.no_grad()
    def task(self, given: Sequence[Given], grid: Grid, timeline: Timeline, *, text_only: TextOnly | None = None) -> Task:
        """What the sampler is told of what is given; one entry a clip, all with the same parts.

        Raises:
            RequestError: If the checkpoint needs a first frame, none is given and ``text_only`` does not say what takes
                its place; or if it says so to a checkpoint that needs none.
        """
        sizes = self.transformer.config["video"]
        takes_pictures = sizes["in_dim"] > sizes["out_dim"] and not self.capabilities.cues
        if text_only is not None and not takes_pictures:
            raise RequestError(
                f"{self.capabilities.name} needs no first frame: text_only has nothing to do.", field="text_only"
            )
        tasks = []
        for one in given:
            condition = None
            rest = one
            if takes_pictures:
                condition, rest = channel_condition(
                    one, grid, timeline, self.video_vae, text_only=text_only, device=self._execution_device
                )
            tasks.append(
                task_of(
                    rest,
                    grid,
                    timeline,
                    encode_video=self.encode_video,
                    encode_audio=self.encode_audio,
                    video_condition=condition,
                )
            )
        return batched(tasks)

    def _branches_per_forward(self, batch: int, grid: Grid, windows: Sequence[Window]) -> int:
        """How many branches of guidance share a pass: see :data:`mova.sampling.denoise.MAX_TOKENS_FOR_BATCHED_CFG`."""
        frames = max(window.video[1] - window.video[0] for window in windows)
        audio = max(window.audio[1] - window.audio[0] for window in windows)
        video = frames * grid.height * grid.width // math.prod(self.transformer.video_embed.patch_size)
        return cfg_batch(batch * (video + audio))

    def _shapes(self, grid: Grid) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
        video, audio = self.transformer.config["video"], self.transformer.config["audio"]
        return (video["out_dim"], grid.frames, grid.height, grid.width), (audio["out_dim"], grid.audio_length)

    def _noise(
        self,
        grid: Grid,
        seeds: Sequence[int],
        audio_seeds: Sequence[int],
        *,
        latents: Tensor | None,
        audio_latents: Tensor | None,
    ) -> AVTensors:
        """Where a run begins: what was given in place of noise, else that of the seeds, one a clip."""
        video, audio = self._shapes(grid)
        noise = AVTensors(
            torch.stack([video_noise(seed, video) for seed in seeds]) if latents is None else latents,
            torch.stack([audio_noise(seed, audio) for seed in audio_seeds]) if audio_latents is None else audio_latents,
        )
        _check_noise(noise.video, (len(seeds), *video), "latents")
        _check_noise(noise.audio, (len(seeds), *audio), "audio_latents")
        return noise


def _check_noise(noise: Tensor, shape: tuple[int, ...], field: str) -> None:
    if tuple(noise.shape) != shape:
        raise RequestError(f"{field} must have the shape {list(shape)}; got {list(noise.shape)}.", field=field)
