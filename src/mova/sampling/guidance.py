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

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from mova.request.plan import Plan
from mova.request.solver_names import evaluation_points
from mova.request.terms import COND, PERTURBED, UNCOND, UNCOND_NO_BRIDGE, Branch, Interval, Term, read_terms
from mova.sampling.schedule import ScheduleConfig, schedule_pair
from mova.sampling.task import MAX_TIMESTEP, AVTensors, NetworkInput, build_input, predict_velocity

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


@dataclass(frozen=True)
class Experts:
    """Networks that share a run: the first at high noise, the second below the boundary.

    Args:
        models: One or two joint networks.
        boundary: Sigma of the video below which the second takes over (spec 3.9).

    Raises:
        ValueError: If there are not one or two networks.
    """

    models: Sequence[nn.Module]
    boundary: float = 0.0

    def __post_init__(self) -> None:
        if len(self.models) not in (1, 2):
            raise ValueError(f"there must be one or two experts; got {len(self.models)}.")

    def model_at(self, video_timestep: float) -> nn.Module:
        """The expert that works at a timestep of the video's schedule."""
        return self.models[-1] if video_timestep < MAX_TIMESTEP * self.boundary else self.models[0]


@dataclass(frozen=True, eq=False)
class MaxTimesteps:
    """The highest timestep of each token, ``[1, 1, T, H, W]`` or ``[1, 1, L]``, and their range.

    The range is looked at once a run: every look waits for the device.
    """

    timesteps: Tensor
    lowest: float
    highest: float

    @classmethod
    def of(cls, level: Tensor) -> MaxTimesteps:
        """The highest timesteps of levels ``[1, 1, ...]``."""
        timesteps = MAX_TIMESTEP * level
        lowest, highest = torch.stack(torch.aminmax(timesteps)).tolist()
        return cls(timesteps, lowest, highest)

    def at(self, timestep: float, batch: int) -> Tensor:
        """``[B]`` where all tokens share a level at that point of the run, else a map ``[B, T, H, W]`` or ``[B, L]``."""
        if self.lowest == self.highest or timestep <= self.lowest:
            return self.timesteps.new_full((batch,), min(timestep, self.lowest))
        return self.timesteps.clamp(max=timestep)[:, 0].expand(batch, *self.timesteps.shape[2:])


@dataclass(frozen=True, eq=False)
class Texts:
    """What evaluations read: the prompts, or the negative prompts.

    Args:
        positive: ``[B, S, Dt]`` embeddings of the prompts.
        negative: ``[B, S, Dt]`` embeddings of the negative prompts, if an evaluation reads them.
        audio_negative: Those of the audio tower, where they are others.
    """

    positive: Tensor
    negative: Tensor | None
    audio_negative: Tensor | None
    _contexts: dict[tuple[bool, ...], Any] = field(default_factory=dict, repr=False)

    def context(self, model: Any, branches: Sequence[Branch]) -> Any:
        """The text of evaluations that share a forward pass, for every step of a run: see ``JointModel.encode_text``.

        Raises:
            ValueError: If negative prompts are needed and not given.
        """
        has_text = tuple(branch.has_text for branch in branches)
        # one context serves both experts: each adds its own keys and values
        if has_text not in self._contexts:
            video = [self.positive if positive else self.negative for positive in has_text]
            audio = [
                one if positive or self.audio_negative is None else self.audio_negative
                for one, positive in zip(video, has_text, strict=True)
            ]
            is_shared = all(one is other for one, other in zip(video, audio, strict=True))
            parts = (_join(video, model.dtype),) if is_shared else (_join(video, model.dtype), _join(audio, model.dtype))
            self._contexts[has_text] = model.encode_text(*parts)
        return self._contexts[has_text]


@dataclass(frozen=True)
class GuidedVelocity:
    """The guided velocity at a point of a run: one call of the network for each evaluation, or for a few that share one.

    Args:
        experts: The network, or two that share the run.
        guidance: Evaluations and how they are combined.
        sigmas: ``[n + 1]`` noise levels of the video.
        timesteps: ``[n + 1]`` timesteps of both modalities.
        max_timesteps: Highest timesteps of the tokens of both modalities.
        texts: What the evaluations read.
        video_condition: ``[C', T, H, W]`` or ``[B, C', T, H, W]`` condition channels.
        video_fps: Frames per second of the video.
        branches_per_forward: Evaluations that share a forward pass.
        on_forward: Callback before each forward pass.
    """

    experts: Experts
    guidance: Guider
    sigmas: Tensor
    timesteps: AVTensors
    max_timesteps: tuple[MaxTimesteps, MaxTimesteps]
    texts: Texts
    video_condition: Tensor | None
    video_fps: float
    branches_per_forward: int = 1
    on_forward: Callable[[], None] | None = None

    def __call__(self, latents: AVTensors, point: int, /) -> AVTensors:
        """Velocity of ``latents`` at a point of the schedule."""
        sigma = float(self.sigmas[point])
        model: Any = self.experts.model_at(float(self.timesteps.video[point]))
        velocities: dict[Branch, AVTensors] = {}
        for branches in group_branches(self.guidance.branches(sigma), self.branches_per_forward):
            if self.on_forward is not None:
                self.on_forward()
            network_input = self._input(latents, point, branches, model)
            # step caches that diffusers hooks in keep what they remember apart by this name
            with model.cache_context(f"{branches}"):
                velocity = predict_velocity(model, network_input)
            parts = zip(velocity.video.chunk(len(branches)), velocity.audio.chunk(len(branches)), strict=True)
            velocities |= {branch: AVTensors(*part) for branch, part in zip(branches, parts, strict=True)}
        return self.guidance.combine(velocities, sigma)

    def _input(self, latents: AVTensors, point: int, branches: Sequence[Branch], model: Any) -> NetworkInput:
        copies = len(branches)
        batch = copies * latents.video.shape[0]
        timesteps = (
            limits.at(float(timesteps[point]), batch)
            for limits, timesteps in zip(self.max_timesteps, self.timesteps, strict=True)
        )
        condition = self.video_condition
        bridge = _bridge_scale(branches, latents.video)
        return build_input(
            AVTensors(_repeat(latents.video, copies), _repeat(latents.audio, copies)),
            AVTensors(*timesteps),
            text=self.texts.context(model, branches),
            video_fps=self.video_fps,
            video_condition=condition if condition is None or condition.ndim == 4 else _repeat(condition, copies),
            a2v_scale=bridge,
            v2a_scale=bridge,
            perturbed_layers=model.middle_layers if branches[0].is_perturbed else (),
        )


def group_branches(branches: Sequence[Branch], size: int) -> Iterator[Sequence[Branch]]:
    """Evaluations that share a forward pass, at most ``size``. What is perturbed is so for a whole pass."""
    for is_perturbed in (False, True):
        alike = tuple(branch for branch in branches if branch.is_perturbed == is_perturbed)
        for first in range(0, len(alike), size):
            yield alike[first : first + size]


def _bridge_scale(branches: Sequence[Branch], like: Tensor) -> float | Tensor:
    scales = [1.0 if branch.has_bridge else 0.0 for branch in branches]
    if len(set(scales)) == 1:
        return scales[0]
    return torch.tensor(scales, device=like.device).repeat_interleave(like.shape[0])


def _join(embeds: Sequence[Tensor | None], dtype: torch.dtype) -> Tensor:
    given = [one for one in embeds if one is not None]
    if len(given) < len(embeds):
        raise ValueError("this guidance needs negative_embeds.")
    return torch.cat(given).to(dtype)


def _repeat(x: Tensor, copies: int) -> Tensor:
    return x if copies == 1 else x.repeat(copies, *[1] * (x.ndim - 1))
