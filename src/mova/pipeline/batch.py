"""A batch of clips with every value resolved: what :func:`mova.pipeline.run.run` makes, and how it comes from plans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mova.conditioning.given import Given
from mova.conditioning.prepare import Prepared
from mova.pipeline.cues import Sheet
from mova.pipeline.evaluations import guidance_of
from mova.pipeline.prompts import Prompts
from mova.request.schema import TextOnly
from mova.sampling.guidance import Guider
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
