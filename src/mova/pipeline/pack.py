"""From the arguments of :meth:`MOVAPipeline.__call__` to a batch: every value resolved once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import Tensor

from mova.conditioning.given import Given
from mova.conditioning.prepare import given_edges
from mova.errors import RequestError
from mova.pipeline.batch import Batch
from mova.pipeline.cues import Sheet
from mova.pipeline.prompts import Prompts, Texts
from mova.request.arguments import SamplingArguments, check_names
from mova.request.capabilities import Capabilities, resolve_fps, resolve_length, resolve_size, value_or
from mova.request.plan import Canvas
from mova.request.terms import read_terms
from mova.sampling.guidance import Guidance, Guider
from mova.sampling.seeds import Generator
from mova.sampling.solvers import Solver, SolverSpec
from mova.sampling.task import Task


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
