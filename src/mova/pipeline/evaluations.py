"""The guidance of a plan, and the evaluations of the network for every velocity of its run."""

from __future__ import annotations

from mova.request.plan import Plan
from mova.request.solver_names import evaluation_points
from mova.request.terms import Branch, read_terms
from mova.sampling.guidance import Guidance
from mova.sampling.schedule import ScheduleConfig, schedule_pair


def guidance_of(plan: Plan) -> Guidance:
    """Return the guidance of a plan."""
    return Guidance(read_terms(dict(plan.request)), rescale=plan.request.guidance_rescale)


def branches_of_run(plan: Plan, config: ScheduleConfig) -> tuple[tuple[Branch, ...], ...]:
    """Return the evaluations of each guided velocity of a run, in order; for a long clip, of each window's run.

    Args:
        plan: Plan of the clip.
        config: The noise levels of the checkpoint, on which the intervals of guidance depend.
    """
    guidance = guidance_of(plan)
    steps, request = plan.num_inference_steps, plan.request
    video, _ = schedule_pair(config, steps, shift=request.shift, audio_shift=request.audio_shift)
    return tuple(guidance.branches(float(video.sigmas[point])) for point in evaluation_points(plan.solver, steps))
