"""What a settled request asks of the network: its guidance, and the evaluations of every velocity of its run."""

from __future__ import annotations

from mova.request.plan import Plan
from mova.runtime.costs import points_in
from mova.sampling.guidance import Branch, Guidance
from mova.sampling.schedule import ScheduleConfig, schedule_pair


def guidance_of(plan: Plan) -> Guidance:
    """The guidance that a request asks for."""
    request = plan.request
    return Guidance(
        text_scale=plan.guidance_scale,
        cross_scale=plan.cross_guidance_scale,
        self_scale=request.self_guidance_scale,
        audio_text_scale=request.audio_guidance_scale,
        audio_cross_scale=request.audio_cross_guidance_scale,
        audio_self_scale=request.audio_self_guidance_scale,
        interval=request.guidance_span(),
        cross_interval=request.guidance_span("cross_"),
        self_interval=request.guidance_span("self_"),
        rescale=request.guidance_rescale,
    )


def branches_of_run(plan: Plan, config: ScheduleConfig) -> tuple[tuple[Branch, ...], ...]:
    """The evaluations of each guided velocity of a run, in order; for a long clip, of each window's run.

    Args:
        plan: The settled request.
        config: The noise levels of the checkpoint, on which the intervals of guidance depend.
    """
    guidance = guidance_of(plan)
    steps, request = plan.num_inference_steps, plan.request
    video, _ = schedule_pair(config, steps, shift=request.shift, audio_shift=request.audio_shift)
    return tuple(guidance.branches(float(video.sigmas[point])) for point in points_in(steps, plan.solver))
