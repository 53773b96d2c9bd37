"""From a prompt to a clip with its audio: the way of the data, on one page.

prompt -> embeddings; task -> given latents and level maps; seeds -> noise; then the loop; then both codecs ->
clip.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import Tensor

from mova.checkpoints.layout import Index
from mova.checkpoints.load import Components, load_to_run
from mova.checkpoints.lora.pipeline import LoraPipelineMixin
from mova.checkpoints.save import save_checkpoint
from mova.conditioning.given import Given
from mova.conditioning.prepare import given_edges
from mova.errors import CheckpointError, RequestError
from mova.pipeline.cues import CuePipelineMixin, Sheet
from mova.pipeline.grids import GridPipelineMixin
from mova.pipeline.output import MOVAPipelineOutput, finished
from mova.pipeline.prompts import Prompts, embed_prompts_for
from mova.request.capabilities import resolve_fps, resolve_length, resolve_size, value_or
from mova.request.plan import Canvas
from mova.request.schema import Fit, TextOnly
from mova.runtime.apply import apply_runtime
from mova.runtime.offload import frees_hooks, keep_shared_parts
from mova.runtime.options import RuntimeOptions
from mova.runtime.settle import Runtime
from mova.sampling.av_tensors import AVTensors
from mova.sampling.denoise import Experts, Progress, denoise
from mova.sampling.guidance import Guidance, Guider
from mova.sampling.seeds import Generator, draw_seeds
from mova.sampling.solvers import SOLVERS, Solver
from mova.sampling.task import Task
from mova.sampling.windows import denoise_windows, plan_windows

StepCallback = Callable[["MOVAPipeline", int, float, dict[str, Tensor]], dict[str, Tensor] | None]
OnProgress = Callable[[str, int, int], None]


class MOVAPipeline(GridPipelineMixin, CuePipelineMixin, LoraPipelineMixin, DiffusionPipeline):
    """Video and audio in one diffusion process.

    Args:
        transformer: The joint network (with two experts, the one for high noise).
        transformer_2: The expert for low noise, or ``None``.
        video_vae: Video codec.
        audio_vae: Audio codec.
        text_encoder: Text encoder.
        tokenizer: Its tokenizer.
        scheduler: Noise levels.
        cue_planner: What writes cue sheets from prompts, or ``None``.
        index: What the checkpoint's folder says: classes, boundary, world.
    """

    model_cpu_offload_seq = "cue_planner->text_encoder->transformer->transformer_2->video_vae->audio_vae"
    _optional_components = ["transformer_2", "cue_planner"]  # noqa: RUF012

    def __init__(
        self,
        transformer: Any,
        transformer_2: Any,
        video_vae: Any,
        audio_vae: Any,
        text_encoder: Any,
        tokenizer: Any,
        scheduler: Any,
        cue_planner: Any = None,
        index: Index | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            transformer=transformer,
            transformer_2=transformer_2,
            video_vae=video_vae,
            audio_vae=audio_vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            scheduler=scheduler,
            cue_planner=cue_planner,
        )
        self.index = index or Index(classes={})
        self.runtime: Runtime | None = None  # how it runs and why, where that was settled

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        torch_dtype: torch.dtype | None = None,
        device: str | torch.device | None = None,
        runtime: RuntimeOptions | None = None,
    ) -> MOVAPipeline:
        """Load a model: ``"mova-base"``, a folder, or a repository of the hub.

        Args:
            pretrained_model_name_or_path: Which.
            torch_dtype: Of the joint network and the text encoder; in place of ``runtime.dtype``.
            device: Where to run; in place of ``runtime.device``.
            runtime: Offloading, 8-bit weights, attention backend and the like; by default nothing of it, on the
                accelerator if there is one.

        Raises:
            CheckpointError: If there is no such model or its files are broken.
            RequestError: If the model cannot run here as asked.
            MissingExtraError: If that needs a package that is not installed.
        """
        options = runtime or RuntimeOptions()
        options = replace(options, device=device or options.device, dtype=torch_dtype or options.dtype)
        components, settled = load_to_run(pretrained_model_name_or_path, options)
        pipeline = cls.from_components(components)
        apply_runtime(pipeline, settled)
        pipeline.runtime = settled
        return pipeline

    @classmethod
    def from_components(cls, components: Components) -> MOVAPipeline:
        """A pipeline around loaded components."""
        return cls(**{name: getattr(components, name) for name in Components.__dataclass_fields__})

    def save_pretrained(self, save_directory: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Write the model as a checkpoint folder in the official layout.

        Raises:
            CheckpointError: If the folder cannot be written, or the weights have lost bits to quantisation.
        """
        if self.runtime is not None and self.runtime.quantisation != "none":
            raise CheckpointError("the weights are quantised, and would be saved so.", "Load the model without quantisation.")
        names = Components.__dataclass_fields__
        save_checkpoint(save_directory, Components(**{name: getattr(self, name) for name in names}), dtype=dtype)

    def enable_model_cpu_offload(self, gpu_id: int | None = None, device: torch.device | str | None = None) -> None:
        """As diffusers', but audio and bridge stay on the device when one expert follows the other."""
        super().enable_model_cpu_offload(gpu_id=gpu_id, device=device)
        keep_shared_parts(self.transformer, self.transformer_2, self.video_vae)

    @frees_hooks
    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        negative_prompt: str | list[str] | tuple[str, ...] | None = None,
        *,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        fps: float | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        cross_guidance_scale: float | None = None,
        self_guidance_scale: float = 0.0,
        audio_guidance_scale: float | None = None,
        audio_cross_guidance_scale: float | None = None,
        audio_self_guidance_scale: float | None = None,
        audio_negative_prompt: str | list[str] | tuple[str, ...] | None = None,
        guidance: Guider | None = None,
        shift: float | None = None,
        audio_shift: float | None = None,
        solver: str | Solver | None = None,
        seed: int | Sequence[int] | None = None,
        audio_seed: int | Sequence[int] | None = None,
        generator: Generator | None = None,
        latents: Tensor | None = None,
        audio_latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        cues: Sequence[Sheet] | None = None,
        image: Any = None,
        last_image: Any = None,
        fit: Fit = "exact",
        text_only: TextOnly | None = None,
        truncate: bool = False,
        given: Sequence[Given] | None = None,
        task: Task | None = None,
        output_type: str = "np",
        callback_on_step_end: StepCallback | None = None,
        on_progress: OnProgress | None = None,
        return_dict: bool = True,
    ) -> MOVAPipelineOutput | tuple[Any, Any]:
        """Make one clip a prompt. Each clip of a batch is what a run of its own would give.

        Args:
            prompt: What to see and hear; one or several.
            negative_prompt: What to keep away from; one for all, or as many.
            height: Of the picture in pixels.
            width: Of the picture in pixels.
            num_frames: Length, exactly.
            fps: Frames per second.
            num_inference_steps: Steps of the sampler.
            guidance_scale: Strength of the text; 1 is its own.
            cross_guidance_scale: Strength of the bridge; 1 is its own.
            self_guidance_scale: Strength against the network with its middle layers perturbed; 0 is off.
            audio_guidance_scale: The audio's; the video's if not given, as the next two.
            audio_cross_guidance_scale: The audio's.
            audio_self_guidance_scale: The audio's.
            audio_negative_prompt: What the audio keeps away from, if not from ``negative_prompt``.
            guidance: In place of all scales: any object with the two methods of ``Guider``.
            shift: Above 1: more steps at high noise.
            audio_shift: The same for the audio.
            solver: ``"euler"``, ``"heun"``, ``"adams"``, ``"dpmpp"``, ``"unipc"``, or a step function.
            seed: Of the video; one number (clip i has ``seed + i``) or one a prompt. Drawn if neither it nor a
                ``generator`` is given.
            audio_seed: Of the audio, likewise; the video's if not given, which gives other noise all the same.
            generator: In place of ``seed``: seeds are drawn from it, or from one a prompt.
            latents: In place of the video's noise, ``[B, C, T, H, W]``.
            audio_latents: In place of the audio's noise, ``[B, C, L]``.
            prompt_embeds: In place of ``prompt``, ``[B, S, D]``.
            negative_prompt_embeds: In place of ``negative_prompt``.
            cues: What happens when, a list of (seconds, label) a clip, an empty one to leave it open; planned from the
                prompt if not given and nothing else is given either.
            image: The first frame, given: a path, a PIL image or ``[H, W, 3]`` uint8; one for all, or a list.
            last_image: The last frame, likewise.
            fit: What to do with pictures of another shape: refuse them ("exact"), "crop", "pad" or "stretch".
            text_only: For a checkpoint that was trained with a first frame, where none is given: what takes its
                place, "white" or "unmasked" (:mod:`mova.models.conditions.image`).
            truncate: Cut prompts that have more tokens than the model reads; else they are refused.
            given: In place of pictures: what is given of each clip, frames and samples.
            task: In place of all of these: given latents and noise levels on :meth:`grid`.
            output_type: ``"np"``, ``"pil"``, ``"pt"``, ``"latent"``, or ``"clips"`` for clips alone.
            callback_on_step_end: ``f(pipeline, step, timestep, {"latents", "audio_latents"})``; what it
                returns under these names takes their place.
            on_progress: ``f(stage, done, of)`` with the stages text, denoise, decode.
            return_dict: Whether to return an output object and not ``(frames, audio)``.

        Raises:
            RequestError: If the model cannot make what is asked.
        """
        capabilities, device = self.capabilities, self._execution_device
        if output_type not in ("np", "pil", "pt", "latent", "clips"):
            raise RequestError(f"output_type must be np, pil, pt, latent or clips; got {output_type!r}.", field="output_type")
        report = on_progress or (lambda stage, done, of: None)
        width, height = resolve_size(capabilities, width, height)
        exact_fps = resolve_fps(capabilities, fps)
        num_frames = resolve_length(capabilities, exact_fps, num_frames=num_frames, seconds=None)
        timeline = capabilities.timeline(exact_fps)
        chosen = SOLVERS.get(value_or(solver, capabilities.solver)) if not callable(solver) else solver
        if chosen is None:
            raise RequestError(f"solver must be one of {', '.join(SOLVERS)}; got {solver!r}.", field="solver")
        guider = guidance or Guidance(
            text_scale=value_or(guidance_scale, capabilities.guidance_scale),
            cross_scale=value_or(cross_guidance_scale, capabilities.cross_guidance_scale),
            self_scale=self_guidance_scale,
            audio_text_scale=audio_guidance_scale,
            audio_cross_scale=audio_cross_guidance_scale,
            audio_self_scale=audio_self_guidance_scale,
        )

        report("text", 0, 1)
        schedules = self.scheduler.schedules(
            value_or(num_inference_steps, capabilities.num_inference_steps), shift=shift, audio_shift=audio_shift
        )
        needs_negative = any(not branch.has_text for sigma in schedules[0].sigmas for branch in guider.branches(float(sigma)))
        embeds = embed_prompts_for(
            self.tokenizer,
            self.text_encoder,
            Prompts(prompt, negative_prompt, audio_negative_prompt, prompt_embeds, negative_prompt_embeds),
            max_tokens=capabilities.max_tokens,
            device=device,
            needs_negative=needs_negative,
            truncate=truncate,
        )
        report("text", 1, 1)

        batch = embeds.positive.shape[0]
        grid = self.grid(height=height, width=width, num_frames=num_frames, fps=exact_fps)
        if task is None:
            canvas = Canvas(width, height, num_frames, timeline.samples(num_frames))
            given = given or given_edges(canvas, batch, image, last_image, fit=fit)
            task = self.task(given, grid, timeline, text_only=text_only)
        seeds, audio_seeds = draw_seeds(batch, seed, audio_seed, generator)
        window = timeline.video_latents(capabilities.max_frames)
        sheets, until = cues, grid.frames
        if sheets is None:
            sheets, until = self._plan_cue_sheets(prompt, task, seeds, num_frames=num_frames, fps=exact_fps), window
        task = self._add_cue_channels(task, sheets, batch=batch, fps=exact_fps, until=until)
        noise = self._noise(grid, seeds, audio_seeds, latents=latents, audio_latents=audio_latents)

        def after_step(progress: Progress) -> AVTensors | None:
            report("denoise", progress.step, progress.num_steps)
            return self._call_back(callback_on_step_end, progress)

        windows = plan_windows(grid.frames, grid.audio_length, timeline=timeline, max_video=window)
        report("denoise", 0, schedules[0].num_steps * len(windows))
        run = partial(
            denoise,
            self.experts,
            text_embeds=embeds.positive,
            negative_embeds=embeds.negative,
            audio_negative_embeds=embeds.audio_negative,
            video_schedule=schedules[0],
            audio_schedule=schedules[1],
            guidance=guider,
            video_fps=float(exact_fps),
            solver=chosen,
            branches_per_forward=self._branches_per_forward(batch, grid, windows),
        )
        begin = AVTensors(noise.video.to(device), noise.audio.to(device))
        result = denoise_windows(run, task.to(device), windows, begin, on_step=after_step)
        rate = capabilities.sample_rate
        if output_type == "latent":
            output = MOVAPipelineOutput(result.video, result.audio, exact_fps, rate, clips=[], cues=sheets)
        else:
            report("decode", 0, 1)
            num_samples = timeline.samples(num_frames)
            video = self.decode_video(result.video)[:, :, :num_frames]
            audio = self.decode_audio(result.audio)[:, :, :num_samples]
            output = finished(video, audio, output_type, fps=exact_fps, rate=rate, only=task.only, cues=sheets)
            report("decode", 1, 1)
        return output if return_dict else (output.frames, output.audio)

    @property
    def experts(self) -> Experts:
        """The networks that share a run."""
        models = [self.transformer] if self.transformer_2 is None else [self.transformer, self.transformer_2]
        return Experts(models=models, boundary=self.index.boundary_ratio or 0.0)

    def _call_back(self, callback: StepCallback | None, progress: Progress) -> AVTensors | None:
        if callback is None:
            return None
        now = progress.latents
        values = {"latents": now.video, "audio_latents": now.audio}
        changed = callback(self, progress.step - 1, progress.timestep, values) or {}
        return AVTensors(changed.get("latents", now.video), changed.get("audio_latents", now.audio))
