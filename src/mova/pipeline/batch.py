"""A batch of clips with every value resolved: from plans, or from the arguments of :meth:`MOVAPipeline.__call__`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor

from mova.conditioning.given import Given
from mova.conditioning.prepare import Prepared, given_edges
from mova.errors import RequestError
from mova.pipeline.prompts import Prompts, Sheet, Texts
from mova.request.arguments import SamplingArguments, check_names
from mova.request.capabilities import Capabilities, resolve_fps, resolve_length, resolve_size, value_or
from mova.request.plan import Canvas
from mova.request.schema import TextOnly
from mova.request.terms import read_terms
from mova.sampling.guidance import Guidance, Guider, guidance_of
from mova.sampling.noise import Generator
from mova.sampling.solvers import Solver, SolverSpec
from mova.sampling.task import Task
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
            [one.prompt for one in requests],
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
    capabilities: Capabilities, prompt: Texts | None, negative_prompt: Texts | None, arguments: PipelineArguments
) -> Batch:
    """Resolve the arguments of a call for a model.

    Args:
        capabilities: What the model can make.
        prompt: One or several, or ``None`` with embeddings.
        negative_prompt: One for all, or as many.
        arguments: The others.

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
