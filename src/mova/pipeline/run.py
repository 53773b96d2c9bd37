"""From a batch to clips: the way of the data, on one page.

prompts -> embeddings; what is given -> a task (given latents and noise levels); cues -> channels; seeds -> noise; then the
sampling loop; then both codecs -> clips.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mova.pipeline.batch import Batch
from mova.pipeline.codecs import Codecs
from mova.pipeline.conditioning import build_task
from mova.pipeline.output import MOVAPipelineOutput, pack_output
from mova.pipeline.prompts import Sheet, add_cue_channels, embed_prompts_for, plan_cue_sheets
from mova.progress import Reporter
from mova.request.schema import Modality
from mova.sampling.av_tensors import AVTensors
from mova.sampling.denoise import Experts, Progress, denoise
from mova.sampling.noise import draw_noise, draw_seeds
from mova.sampling.solvers import find_solver
from mova.sampling.windows import cfg_batch_of, denoise_windows, plan_windows

if TYPE_CHECKING:
    from mova.pipeline.pipeline import MOVAPipeline

StepCallback = Callable[["MOVAPipeline", int, float, dict[str, Tensor]], dict[str, Tensor] | None]


@torch.no_grad()
def run(
    pipe: MOVAPipeline,
    batch: Batch,
    *,
    output_type: str = "clips",
    codecs: Codecs | None = None,
    reporter: Reporter | None = None,
    on_step_end: StepCallback | None = None,
) -> MOVAPipelineOutput:
    """Make the clips of a batch. Each is what a run of its own would give.

    Args:
        pipe: The model.
        batch: What to make.
        output_type: As for :meth:`MOVAPipeline.__call__`.
        codecs: In place of the pipeline's.
        reporter: Receiver of progress, with the cancel token.
        on_step_end: diffusers' callback: ``f(pipeline, step, timestep, {"latents", "audio_latents"})``.

    Raises:
        RequestError: If the model cannot make what is asked.
        CancelledError: If the run was cancelled.
    """
    reporter, codecs = reporter or Reporter(), codecs or pipe.codecs
    capabilities, device, timeline = pipe.capabilities, pipe._execution_device, batch.timeline
    solver = find_solver(batch.solver)
    schedules = pipe.scheduler.schedules(batch.num_inference_steps, shift=batch.shift, audio_shift=batch.audio_shift)

    reporter.report("text", 0, 1)
    needs_negative = any(
        not branch.has_text for sigma in schedules[0].sigmas for branch in batch.guidance.branches(float(sigma))
    )
    embeds = embed_prompts_for(
        pipe.tokenizer,
        pipe.text_encoder,
        batch.prompts,
        max_tokens=capabilities.max_tokens,
        device=device,
        needs_negative=needs_negative,
        truncate=batch.truncate,
    )
    reporter.report("text", 1, 1)

    size = embeds.positive.shape[0]
    grid = pipe.grid(height=batch.height, width=batch.width, num_frames=batch.num_frames, fps=timeline.fps)
    task = batch.task or build_task(
        batch.given(size), grid, timeline, capabilities, codecs, num_frames=batch.num_frames, text_only=batch.text_only
    )
    seeds, audio_seeds = draw_seeds(size, batch.seed, batch.audio_seed, batch.generator)
    window = timeline.video_latents(capabilities.max_frames)
    sheets, until = batch.cues, grid.frames
    if sheets is None:
        texts, length = batch.prompts.texts, batch.num_frames
        sheets, until = plan_cue_sheets(
            pipe.cue_planner, pipe.tokenizer, texts, task, seeds, capabilities, num_frames=length, fps=timeline.fps
        ), window  # fmt: skip
    task = add_cue_channels(task, sheets, capabilities, batch=size, fps=timeline.fps, until=until)
    noise = draw_noise(pipe.transformer, grid, seeds, audio_seeds, latents=batch.latents, audio_latents=batch.audio_latents)

    def after_step(progress: Progress) -> AVTensors | None:
        now = progress.latents
        preview = partial(_decode, codecs, now, batch, capabilities.sample_rate, "clips")
        reporter.report("denoise", progress.step, progress.num_steps, preview=lambda: preview().clip)
        return None if on_step_end is None else _call_back(pipe, on_step_end, progress)

    windows = plan_windows(grid.frames, grid.audio_length, timeline=timeline, max_video=window)
    reporter.report("denoise", 0, schedules[0].num_steps * len(windows))
    denoise_window = partial(
        denoise,
        Experts(pipe.experts, boundary=pipe.index.boundary_ratio or 0.0),
        text_embeds=embeds.positive,
        negative_embeds=embeds.negative,
        audio_negative_embeds=embeds.audio_negative,
        video_schedule=schedules[0],
        audio_schedule=schedules[1],
        guidance=batch.guidance,
        video_fps=float(timeline.fps),
        solver=solver,
        on_forward=reporter.check,
        branches_per_forward=cfg_batch_of(pipe.transformer, size, grid, windows),
    )
    begin = AVTensors(noise.video.to(device), noise.audio.to(device))
    latents = denoise_windows(denoise_window, task.to(device), windows, begin, on_step=after_step)
    if output_type == "latent":
        fps, rate = timeline.fps, capabilities.sample_rate
        return MOVAPipelineOutput(latents.video, latents.audio, fps, rate, clips=[], cues=sheets)

    reporter.report("decode", 0, 1)
    output = _decode(codecs, latents, batch, capabilities.sample_rate, output_type, only=task.only, cues=sheets)
    reporter.report("decode", 1, 1)
    return output


def _decode(
    codecs: Codecs,
    latents: AVTensors,
    batch: Batch,
    sample_rate: int,
    output_type: str,
    *,
    only: Modality | None = None,
    cues: Sequence[Sheet] = (),
) -> MOVAPipelineOutput:
    """Both codecs, cut to the length of the clip."""
    num_samples = batch.timeline.samples(batch.num_frames)
    video = codecs.decode_video(latents.video)[:, :, : batch.num_frames]
    audio = codecs.decode_audio(latents.audio)[:, :, :num_samples]
    return pack_output(video, audio, output_type, fps=batch.timeline.fps, rate=sample_rate, only=only, cues=cues)


def _call_back(pipe: MOVAPipeline, callback: StepCallback, progress: Progress) -> AVTensors:
    now = progress.latents
    values = {"latents": now.video, "audio_latents": now.audio}
    changed = callback(pipe, progress.step - 1, progress.timestep, values) or {}
    return AVTensors(changed.get("latents", now.video), changed.get("audio_latents", now.audio))
