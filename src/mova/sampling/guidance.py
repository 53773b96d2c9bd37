"""Guidance of the sampler: towards the text, towards agreement of video and audio, away from a weakened network.

With T the text, B the bridge between the towers, and ``v~`` the network whose middle layers attend to nothing:

    v = v(0, 0) + s_B [v(0, B) - v(0, 0)] + s_T [v(T, B) - v(0, B)] + s_S [v(T, B) - v~(T, B)]

The first two terms are dual guidance (MOVA, arXiv 2602.08794, section 5.1; spec 3.10). The last is perturbed-attention
guidance (Ahn et al. 2024, arXiv 2403.17377, section 4): in ``v~`` each token of the middle layers' self-attention reads
itself only, so that structure is lost and guidance leads away from that. Video and audio have scales of their own, and
each term its own interval of noise levels (Kynkäänniemi et al. 2024, arXiv 2404.07724).

The sum is taken in the fewest evaluations: ``s_B = 1, s_S = 0`` is plain classifier-free guidance, bit for bit, and
``s_B = s_T`` needs two evaluations as well. The terms are entries of a list (:mod:`mova.request.terms`), to which others
can be added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from mova.request.plan import Plan
from mova.request.solver_names import evaluation_points
from mova.request.terms import COND, PERTURBED, UNCOND, UNCOND_NO_BRIDGE, Branch, Interval, Term, read_terms
from mova.sampling.schedule import ScheduleConfig, schedule_pair
from mova.sampling.task import AVTensors

__all__ = [
    "COND",
    "PERTURBED",
    "UNCOND",
    "UNCOND_NO_BRIDGE",
    "Branch",
    "Difference",
    "Guidance",
    "Guider",
    "Interval",
    "Term",
    "add_differences",
    "rescale_spread",
    "simplify",
]


class Guider(Protocol):
    """What the sampling loop asks of a guidance: write your own with these two methods."""

    def branches(self, sigma: float) -> tuple[Branch, ...]:
        """The evaluations needed at a noise level of the video's schedule."""
        ...

    def combine(self, velocities: Mapping[Branch, AVTensors], sigma: float) -> AVTensors:
        """The guided velocity from them, all float32."""
        ...


class Difference(NamedTuple):
    """``scale [v(towards) - v(away)]``."""

    towards: Branch
    away: Branch
    scale: float


@dataclass(frozen=True)
class Guidance:
    """Guidance by a list of terms.

    Args:
        terms: Terms, added to the base in this order.
        base: Evaluation that they are added to.
        rescale: How far the spread of the guided velocity is brought back to that of the full evaluation, 0 to 1
            (Lin et al. 2023, arXiv 2305.08891, section 3.4).

    Raises:
        ValueError: If ``rescale`` is out of range.
    """

    terms: tuple[Term, ...]
    base: Branch = UNCOND_NO_BRIDGE
    rescale: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.rescale <= 1.0:
            raise ValueError(f"rescale must be between 0 and 1; got {self.rescale}.")

    @classmethod
    def from_scales(
        cls,
        text_scale: float,
        cross_scale: float = 1.0,
        *,
        self_scale: float = 0.0,
        audio_text_scale: float | None = None,
        audio_cross_scale: float | None = None,
        audio_self_scale: float | None = None,
        interval: Interval = (0.0, 1.0),
        cross_interval: Interval | None = None,
        self_interval: Interval | None = None,
        rescale: float = 0.0,
    ) -> Guidance:
        """The guidance of the formula above.

        Args:
            text_scale: ``s_T``; 1 leaves the text's own strength, 0 follows the negative prompt only.
            cross_scale: ``s_B``; 1 leaves the bridge's own strength, above 1 binds video and audio more.
            self_scale: ``s_S``; 0 is off.
            audio_text_scale: ``s_T`` of the audio; the video's if not given, as the next two.
            audio_cross_scale: ``s_B`` of the audio.
            audio_self_scale: ``s_S`` of the audio.
            interval: Lowest and highest sigma at which the text's term guides, and the others where they have none.
            cross_interval: Interval of the bridge's term.
            self_interval: Interval of the self term.
            rescale: See the class.

        Raises:
            ValueError: If a value is out of range.
        """
        values: dict[str, float | None] = {
            "guidance_scale": text_scale,
            "cross_guidance_scale": cross_scale,
            "self_guidance_scale": self_scale,
            "audio_guidance_scale": audio_text_scale,
            "audio_cross_guidance_scale": audio_cross_scale,
            "audio_self_guidance_scale": audio_self_scale,
        }
        for prefix, span in (("", interval), ("cross_", cross_interval), ("self_", self_interval)):
            if span is not None:
                values |= {f"{prefix}guidance_to": span[0], f"{prefix}guidance_from": span[1]}
        return cls(read_terms(values), rescale=rescale)

    def branches(self, sigma: float) -> tuple[Branch, ...]:
        """The evaluations with a weight in either modality at this level, the fullest first."""
        needed = set()
        for base, differences in (self._simplified(sigma, part) for part in (0, 1)):
            needed |= {base, *(branch for one in differences for branch in (one.towards, one.away))}
        if self.rescale:  # the spread to return to is that of the full evaluation, whatever its weight
            needed |= {COND}
        return tuple(sorted(needed, key=lambda one: (one.is_perturbed, not one.has_text, not one.has_bridge)))

    def combine(self, velocities: Mapping[Branch, AVTensors], sigma: float) -> AVTensors:
        """The guided velocity from the evaluations of this level."""
        video, audio = (
            add_differences({branch: pair[part] for branch, pair in velocities.items()}, *self._simplified(sigma, part))
            for part in (0, 1)
        )
        if not self.rescale:
            return AVTensors(video, audio)
        full = velocities[COND]
        return AVTensors(rescale_spread(video, full.video, self.rescale), rescale_spread(audio, full.audio, self.rescale))

    def _simplified(self, sigma: float, part: int) -> tuple[Branch, list[Difference]]:
        return simplify(self.base, [Difference(term.towards, term.away, term.scales(sigma)[part]) for term in self.terms])


def simplify(base: Branch, differences: Sequence[Difference]) -> tuple[Branch, list[Difference]]:
    """The same sum in the fewest evaluations, so that shortcuts are exact and not merely close.

    Differences that lead on from the base, one from where the other ends, are a path. Neighbours on it with equal scales are
    one difference; those of scale 0 vanish; and one of scale 1 from the base moves the base.

    Args:
        base: Evaluation that the differences are added to.
        differences: Weighted differences.

    Returns:
        Base and differences of the shorter sum.
    """
    path: list[Difference] = []
    rest, end = list(differences), base
    while (step := next((one for one in rest if one.away == end), None)) is not None:
        rest.remove(step)
        end = step.towards
        if path and path[-1].scale == step.scale:
            step = step._replace(away=path.pop().away)
        path.append(step)
    while path and path[0].scale == 1.0 and path[0].away == base:
        base = path.pop(0).towards
    return base, [one for one in (*path, *rest) if one.scale]


def add_differences(velocities: Mapping[Branch, Tensor], base: Branch, differences: Sequence[Difference]) -> Tensor:
    """``v(base)`` plus weighted differences, in their order."""
    guided = velocities[base]
    for towards, away, scale in differences:
        guided = guided + scale * (velocities[towards] - velocities[away])
    return guided


def rescale_spread(guided: Tensor, full: Tensor, amount: float) -> Tensor:
    """``guided`` with its spread over each sample moved towards that of ``full``.

    Args:
        guided: ``[B, ...]``.
        full: ``[B, ...]``.
        amount: Share of the way, 0 to 1.
    """
    axes = tuple(range(1, guided.ndim))
    ratio = full.std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True).clamp(min=1e-12)
    return guided * (amount * ratio + (1.0 - amount))


def guidance_of(plan: Plan) -> Guidance:
    """The guidance that a plan's request asks for."""
    return Guidance(read_terms(dict(plan.request)), rescale=plan.request.guidance_rescale)


def branches_of_run(plan: Plan, config: ScheduleConfig) -> tuple[tuple[Branch, ...], ...]:
    """The evaluations of each guided velocity of a run, in order; for a long clip, of each window's run.

    Args:
        plan: Plan of the clip.
        config: The noise levels of the checkpoint, on which the intervals of guidance depend.
    """
    guidance = guidance_of(plan)
    steps, request = plan.num_inference_steps, plan.request
    video, _ = schedule_pair(config, steps, shift=request.shift, audio_shift=request.audio_shift)
    return tuple(guidance.branches(float(video.sigmas[point])) for point in evaluation_points(plan.solver, steps))
