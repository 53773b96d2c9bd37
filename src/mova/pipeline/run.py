"""A batch of clips with every value resolved, from plans or from the arguments of a call, and its run on one page.

prompts -> embeddings; what is given -> a task (given latents and noise levels); cues -> channels; seeds -> noise; then the
sampling loop; then both codecs -> clips.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import Tensor

from mova.conditioning.given import Given
from mova.conditioning.prepare import Prepared, given_edges
from mova.errors import RequestError
from mova.pipeline.latents import Codecs, MOVAPipelineOutput, build_task, pack_output
from mova.pipeline.prompts import Prompts, Sheet, Texts, add_cue_channels, embed_prompts_for, plan_cue_sheets
from mova.pipeline.reading import ReadPrompt
from mova.progress import Reporter
from mova.request.arguments import SamplingArguments, check_names
from mova.request.plan import Canvas, Capabilities, resolve_fps, resolve_length, resolve_size, value_or
from mova.request.reading import PromptReading
from mova.request.schema import Modality, TextOnly
from mova.request.terms import read_terms
from mova.runtime.threads import use_threads
from mova.sampling.denoise import Progress, cfg_batch_of, denoise, denoise_windows, plan_windows
from mova.sampling.guidance import Experts, Guidance, Guider, guidance_of
from mova.sampling.solvers import Solver, SolverSpec, find_solver
from mova.sampling.task import AVTensors, Generator, Task, draw_noise, draw_seeds
from mova.timeline import Timeline

GivenOf = Callable[[int], Sequence[Given]]


@dataclass(frozen=True, eq=False)
class Batch:
    """Clips of one size, length and sampling.

    Args:
        prompts: Prompts or embeddings, one a clip.
        width: Width in pixels.
        height: Height in pixels.
        num_frames: Length in frames.
        timeline: The clock at the frame rate.
        num_inference_steps: Sampler steps.
        guidance: Guidance.
        solver: Name of a solver, a step function, or a ``SolverSpec``.
        seed: Seed or seeds of the video, or ``None`` to draw them.
        audio_seed: Seed or seeds of the audio; those of the video if ``None``.
        generator: In place of ``seed``: generators to draw seeds from.
        shift: Timestep shift of the video, or the checkpoint's.
        audio_shift: Timestep shift of the audio.
        cues: One sheet a clip, or ``None`` to plan them.
        given: What is given of each clip, from the number of clips.
        task: In place of ``given``: latents and noise levels.
        latents: In place of the video's noise, ``[B, C, T, H, W]``.
        audio_latents: In place of the audio's noise, ``[B, C, L]``.
        text_only: Stand-in for a first frame that is not given.
        truncate: Whether to cut prompts that are too long.
        readings: What was understood of each prompt, one a clip; empty where they are taken as they are.
    """

    prompts: Prompts
    width: int
    height: int
    num_frames: int
    timeline: Timeline
    num_inference_steps: int
    guidance: Guider
    solver: Any
    seed: int | Sequence[int] | None = None
    audio_seed: int | Sequence[int] | None = None
    generator: Any = None
    shift: float | None = None
    audio_shift: float | None = None
    cues: Sequence[Sheet] | None = None
    given: GivenOf = lambda batch: [Given()] * batch
    task: Task | None = None
    latents: Tensor | None = None
    audio_latents: Tensor | None = None
    text_only: TextOnly | None = None
    truncate: bool = False
    readings: Sequence[PromptReading | None] = ()


def batch_of(prepared: Sequence[Prepared], *, guidance: Guider | None = None) -> Batch:
    """The batch of prepared clips that can share a run (:func:`can_share`).

    Args:
        prepared: Clips, at least one.
        guidance: In place of what the requests ask for.
    """
    first = prepared[0]
    plan, request = first.plan, first.plan.request
    lead_s = float(first.lead_frames / plan.timeline.fps)
    requests = [one.plan.request for one in prepared]
    cues = [None if one.cues is None else [(cue.time_s + lead_s, cue.label) for cue in one.cues] for one in requests]
    given = [one.with_lead for one in prepared]
    return Batch(
        prompts=Prompts(
            [one.prompt for one in prepared],
            [one.negative_prompt for one in requests],
            None if request.audio_negative_prompt is None else [one.audio_negative_prompt or "" for one in requests],
        ),
        width=plan.width,
        height=plan.height,
        num_frames=plan.num_frames + first.lead_frames,
        timeline=plan.timeline,
        num_inference_steps=plan.num_inference_steps,
        guidance=guidance or guidance_of(plan),
        solver=plan.solver,
        seed=[one.plan.seed for one in prepared],
        audio_seed=[one.plan.audio_seed for one in prepared],
        shift=request.shift,
        audio_shift=request.audio_shift,
        cues=None if cues[0] is None else [sheet or [] for sheet in cues],
        given=lambda batch: given,
        text_only=request.text_only,
        truncate=request.truncate,
        readings=[None if one.reading is None else one.reading.later(lead_s) for one in prepared],
    )


def can_share(first: Prepared, second: Prepared) -> bool:
    """Whether two clips can be made in one batch: they differ in words, seeds, cue times and given content only."""
    return _shared(first) == _shared(second)


def _shared(prepared: Prepared) -> tuple[Any, ...]:
    own = {"prompt", "negative_prompt", "audio_negative_prompt", "seed", "audio_seed", "cues", *_GIVEN}
    request = prepared.plan.request
    return (
        request.model_dump(exclude=own),
        request.audio_negative_prompt is None,
        request.cues is None,
        prepared.lead_frames,
        _mask_key(prepared.given.keep_picture),
        _mask_key(prepared.given.keep_audio),
        prepared.given.stills,
    )


_GIVEN = ("image", "last_image", "keyframes", "references", "video", "audio", "retake", "repaint", "extend_s", "extend_at")


def _mask_key(mask: Any) -> tuple[Any, ...] | None:
    return None if mask is None else (mask.shape, mask.tobytes())


class PipelineArguments(SamplingArguments, total=False):
    """Keyword arguments of :meth:`MOVAPipeline.__call__`."""

    audio_negative_prompt: Texts | None
    guidance: Guider | None
    solver: str | Solver | SolverSpec | None
    seed: int | Sequence[int] | None
    audio_seed: int | Sequence[int] | None
    generator: Generator | None
    latents: Tensor | None
    audio_latents: Tensor | None
    prompt_embeds: Tensor | None
    negative_prompt_embeds: Tensor | None
    cues: Sequence[Sheet] | None
    image: Any
    last_image: Any
    given: Sequence[Given] | None
    task: Task | None


DESCRIPTIONS = {
    "audio_negative_prompt": "What the audio keeps away from, if not from ``negative_prompt``; one, or one a clip.",
    "guidance": "In place of all scales: any object with the two methods of ``Guider``.",
    "solver": "Name of a solver, a step function, or a ``SolverSpec``.",
    "seed": "Seed of the video; one number (clip i has ``seed + i``) or one a clip. Drawn if not given, nor ``generator``.",
    "audio_seed": "Seed of the audio, likewise; the video's if not given, which gives other noise all the same.",
    "generator": "In place of ``seed``: a generator to draw seeds from, or one a clip.",
    "latents": "In place of the video's noise, ``[B, C, T, H, W]``.",
    "audio_latents": "In place of the audio's noise, ``[B, C, L]``.",
    "prompt_embeds": "In place of ``prompt``, ``[B, S, D]``.",
    "negative_prompt_embeds": "In place of ``negative_prompt``.",
    "cues": "What happens when: a list of (seconds, label) a clip, an empty one to leave it open; planned if nothing is given.",
    "image": "First frame: a path, a PIL image or ``[H, W, 3]`` uint8; one for all, or a list.",
    "last_image": "Last frame, likewise.",
    "given": "In place of images: what is given of each clip, frames and samples.",
    "task": "In place of all of these: given latents and noise levels on :meth:`MOVAPipeline.grid`.",
}
"""Descriptions of the arguments that are no fields of a request, or mean more than those."""
NAMES = (*SamplingArguments.__annotations__, *PipelineArguments.__annotations__)


def pack_batch(
    capabilities: Capabilities,
    prompt: Texts | None,
    negative_prompt: Texts | None,
    arguments: PipelineArguments,
    *,
    read: ReadPrompt | None = None,
) -> Batch:
    """Resolve the arguments of a call for a model.

    Args:
        capabilities: What the model can make.
        prompt: One or several, or ``None`` with embeddings.
        negative_prompt: One for all, or as many.
        arguments: The others.
        read: What reads a prompt; ``None`` leaves them as they are.

    Raises:
        RequestError: If the model cannot make what is asked, or an argument is unknown.
    """
    check_names(values := cast("dict[str, Any]", arguments), NAMES)
    get = values.get
    width, height = resolve_size(capabilities, get("width"), get("height"))
    fps = resolve_fps(capabilities, get("fps"))
    num_frames = resolve_length(capabilities, fps, num_frames=get("num_frames"), seconds=None)
    timeline = capabilities.timeline(fps)
    canvas = Canvas(width, height, num_frames, timeline.samples(num_frames))
    given: Sequence[Given] | None = get("given")
    texts = [prompt] if isinstance(prompt, str) else list(prompt or ())
    read = None if get("as_is", False) else read
    readings = [] if read is None else [read(text, float(num_frames / fps)) for text in texts]
    if readings:
        prompt = [text if one is None else one.text for text, one in zip(texts, readings, strict=True)]

    def given_of(batch: int) -> Sequence[Given]:
        return given or given_edges(canvas, batch, get("image"), get("last_image"), fit=get("fit", "exact"))

    return Batch(
        prompts=Prompts(
            prompt, negative_prompt, get("audio_negative_prompt"), get("prompt_embeds"), get("negative_prompt_embeds")
        ),
        width=width,
        height=height,
        num_frames=num_frames,
        timeline=timeline,
        num_inference_steps=value_or(get("num_inference_steps"), capabilities.num_inference_steps),
        guidance=get("guidance") or _guidance(capabilities, values),
        solver=value_or(get("solver"), capabilities.solver),
        seed=get("seed"),
        audio_seed=get("audio_seed"),
        generator=get("generator"),
        shift=get("shift"),
        audio_shift=get("audio_shift"),
        cues=get("cues"),
        given=given_of,
        task=get("task"),
        latents=get("latents"),
        audio_latents=get("audio_latents"),
        text_only=get("text_only"),
        truncate=get("truncate", False),
        readings=readings,
    )


def check_output_type(output_type: str) -> None:
    """Refuse an unknown form of output.

    Raises:
        RequestError: If it is none.
    """
    if output_type not in ("np", "pil", "pt", "latent", "clips"):
        raise RequestError(f"output_type must be np, pil, pt, latent or clips; got {output_type!r}.", field="output_type")


def _guidance(capabilities: Capabilities, values: Mapping[str, Any]) -> Guidance:
    scales = {
        "guidance_scale": value_or(values.get("guidance_scale"), capabilities.guidance_scale),
        "cross_guidance_scale": value_or(values.get("cross_guidance_scale"), capabilities.cross_guidance_scale),
    }
    return Guidance(read_terms({**values, **scales}))


StepCallback = Callable[[DiffusionPipeline, int, float, dict[str, Tensor]], dict[str, Tensor] | None]


def run(
    pipe: DiffusionPipeline,
    batch: Batch,
    *,
    output_type: str = "clips",
    codecs: Codecs | None = None,
    reporter: Reporter | None = None,
    on_step_end: StepCallback | None = None,
) -> MOVAPipelineOutput:
    """Make the clips of a batch. Each is what a run of its own would give.

    Args:
        pipe: A :class:`MOVAPipeline`.
        batch: What to make.
        output_type: As for :meth:`MOVAPipeline.__call__`.
        codecs: In place of the pipeline's.
        reporter: Receiver of progress, with the cancel token.
        on_step_end: diffusers' callback: ``f(pipeline, step, timestep, {"latents", "audio_latents"})``.

    Raises:
        RequestError: If the model cannot make what is asked.
        CancelledError: If the run was cancelled.
    """
    runtime = pipe.runtime
    count, is_exact = (None, False) if runtime is None else (runtime.threads, runtime.same_for_any_threads)
    with torch.no_grad(), use_threads(count, is_exact=is_exact):
        return _run(
            pipe, batch, output_type, codecs=codecs or pipe.codecs, reporter=reporter or Reporter(), on_step_end=on_step_end
        )


def _run(
    pipe: DiffusionPipeline,
    batch: Batch,
    output_type: str,
    *,
    codecs: Codecs,
    reporter: Reporter,
    on_step_end: StepCallback | None,
) -> MOVAPipelineOutput:
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
        sheets, until = (
            plan_cue_sheets(
                pipe.cue_planner,
                pipe.tokenizer,
                texts,
                task,
                seeds,
                capabilities,
                num_frames=length,
                fps=timeline.fps,
                readings=batch.readings,
            ),
            window,
        )
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


def _call_back(pipe: DiffusionPipeline, callback: StepCallback, progress: Progress) -> AVTensors:
    now = progress.latents
    values = {"latents": now.video, "audio_latents": now.audio}
    changed = callback(pipe, progress.step - 1, progress.timestep, values) or {}
    return AVTensors(changed.get("latents", now.video), changed.get("audio_latents", now.audio))
