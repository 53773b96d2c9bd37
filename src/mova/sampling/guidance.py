"""How far the sampler is pushed towards the text, towards agreement of picture and audio, and away from its own weak side.

With T the text, B the bridge between the towers, and ``v~`` the network whose middle layers attend to nothing:

    v = v(0, 0) + s_B [v(0, B) - v(0, 0)] + s_T [v(T, B) - v(0, B)] + s_S [v(T, B) - v~(T, B)]

The first two terms are dual guidance (MOVA, arXiv 2602.08794, section 5.1; spec 3.10). The last is perturbed-attention
guidance (Ahn et al. 2024, arXiv 2403.17377, section 4): in ``v~`` each token of the middle layers' self-attention reads
itself only, so that structure is lost and guidance leads away from that. Video and audio have scales of their own, and
each term its own interval of noise levels.

A branch whose weight is zero in both modalities is not evaluated: ``s_B = 1, s_S = 0`` is plain classifier-free guidance,
bit for bit, and ``s_B = s_T`` needs two evaluations as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import NamedTuple, Protocol

from torch import Tensor

from mova.sampling.av_tensors import AVTensors

Span = tuple[float, float]


class Branch(NamedTuple):
    """One evaluation of the network.

    Args:
        has_text: Whether it reads the prompt, and not the negative prompt.
        has_bridge: Whether picture and audio read each other.
        is_perturbed: Whether the middle layers attend to nothing.
    """

    has_text: bool
    has_bridge: bool
    is_perturbed: bool = False


UNCOND_NO_BRIDGE = Branch(has_text=False, has_bridge=False)
UNCOND = Branch(has_text=False, has_bridge=True)
COND = Branch(has_text=True, has_bridge=True)
PERTURBED = Branch(has_text=True, has_bridge=True, is_perturbed=True)


class Guider(Protocol):
    """What the loop asks of a guidance: write your own with these two methods."""

    def branches(self, sigma: float) -> tuple[Branch, ...]:
        """The evaluations needed at a noise level of the video's schedule."""
        ...

    def combine(self, velocities: Mapping[Branch, AVTensors], sigma: float) -> AVTensors:
        """The guided velocity from them, all float32."""
        ...


class Scales(NamedTuple):
    """The strengths of one modality's terms at one noise level; these leave the full branch as it is.

    Args:
        text: ``s_T``.
        cross: ``s_B``.
        own: ``s_S``.
    """

    text: float = 1.0
    cross: float = 1.0
    own: float = 0.0


@dataclass(frozen=True)
class Guidance:
    """Guidance by the text, by the bridge and by the network itself.

    Intervals are the lowest and the highest sigma (of the video's schedule) at which a term guides; outside, its scale is
    what leaves the velocity alone: 1, and 0 for the self term (Kynkäänniemi et al. 2024, arXiv 2404.07724).

    Args:
        text_scale: ``s_T``; 1 leaves the text's own strength, 0 follows the negative prompt only.
        cross_scale: ``s_B``; 1 leaves the bridge's own strength, above 1 binds picture and audio more.
        interval: Of the text's term, and of the others where they have none.
        rescale: 0 to 1: how far the spread of the guided velocity is brought back to that of the full branch
            (Lin et al. 2023, arXiv 2305.08891, section 3.4).
        self_scale: ``s_S``; 0 is off.
        audio_text_scale: ``s_T`` of the audio; the video's if not given, as the next two.
        audio_cross_scale: ``s_B`` of the audio.
        audio_self_scale: ``s_S`` of the audio.
        cross_interval: Of the bridge's term.
        self_interval: Of the self term.

    Raises:
        ValueError: If a value is out of range.
    """

    text_scale: float
    cross_scale: float = 1.0
    interval: Span = (0.0, 1.0)
    rescale: float = 0.0
    self_scale: float = 0.0
    audio_text_scale: float | None = None
    audio_cross_scale: float | None = None
    audio_self_scale: float | None = None
    cross_interval: Span | None = None
    self_interval: Span | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.rescale <= 1.0:
            raise ValueError(f"rescale must be between 0 and 1; got {self.rescale}.")
        for name in (field.name for field in fields(self) if field.name.endswith("interval")):
            span: Span | None = getattr(self, name)
            if span is not None and not 0.0 <= span[0] <= span[1] <= 1.0:
                raise ValueError(f"{name} must be two sigmas, low before high, between 0 and 1; got {span}.")

    def branches(self, sigma: float) -> tuple[Branch, ...]:
        """The evaluations with a weight in either modality at this level, the fullest first."""
        video, audio = self.scales(sigma)
        needed = _needed(video) | _needed(audio)
        if self.rescale:  # the spread to return to is that of the full branch, whatever its weight
            needed |= {COND}
        return tuple(branch for branch in (COND, UNCOND, UNCOND_NO_BRIDGE, PERTURBED) if branch in needed)

    def combine(self, velocities: Mapping[Branch, AVTensors], sigma: float) -> AVTensors:
        """The guided velocity from the branches of this level."""
        video, audio = self.scales(sigma)
        guided = AVTensors(
            combined({branch: pair.video for branch, pair in velocities.items()}, video),
            combined({branch: pair.audio for branch, pair in velocities.items()}, audio),
        )
        if not self.rescale:
            return guided
        full = velocities[COND]
        return AVTensors(rescaled(guided.video, full.video, self.rescale), rescaled(guided.audio, full.audio, self.rescale))

    def scales(self, sigma: float) -> tuple[Scales, Scales]:
        """The strengths of the video's terms and of the audio's at this level."""
        video = (self.text_scale, self.cross_scale, self.self_scale)
        audio = (self.audio_text_scale, self.audio_cross_scale, self.audio_self_scale)
        spans = (self.interval, self.cross_interval or self.interval, self.self_interval or self.interval)
        guides = [low <= sigma <= high for low, high in spans]
        own = [ours if own is None else own for ours, own in zip(video, audio, strict=True)]
        return _inside(video, guides), _inside(own, guides)


def combined(velocities: Mapping[Branch, Tensor], scales: Scales) -> Tensor:
    """The formula above in the fewest terms, so that the shortcuts are exact and not merely close."""
    guided = _by_text_and_bridge(velocities, scales.text, scales.cross)
    return guided + scales.own * (velocities[COND] - velocities[PERTURBED]) if scales.own else guided


def rescaled(guided: Tensor, full: Tensor, amount: float) -> Tensor:
    """``guided`` with its spread over each sample moved towards that of ``full``.

    Args:
        guided: ``[B, ...]``.
        full: ``[B, ...]``.
        amount: 0 leaves it, 1 moves it all the way.
    """
    axes = tuple(range(1, guided.ndim))
    ratio = full.std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True).clamp(min=1e-12)
    return guided * (amount * ratio + (1.0 - amount))


def _inside(scales: tuple[float, ...] | list[float], guides: list[bool]) -> Scales:
    return Scales(*(ours if is_in else off for ours, is_in, off in zip(scales, guides, Scales(), strict=True)))


def _needed(scales: Scales) -> set[Branch]:
    weights = {UNCOND: scales.cross - scales.text, UNCOND_NO_BRIDGE: 1.0 - scales.cross, PERTURBED: scales.own}
    needed = {branch for branch, weight in weights.items() if weight}
    return needed | {COND} if scales.text or scales.own else needed


def _by_text_and_bridge(velocities: Mapping[Branch, Tensor], text: float, cross: float) -> Tensor:
    if cross == text:
        if text == 1.0:
            return velocities[COND]
        if text == 0.0:
            return velocities[UNCOND_NO_BRIDGE]
        return velocities[UNCOND_NO_BRIDGE] + text * (velocities[COND] - velocities[UNCOND_NO_BRIDGE])
    if cross == 1.0:
        bridged = velocities[UNCOND]
    elif cross == 0.0:
        bridged = velocities[UNCOND_NO_BRIDGE]
    else:
        bridged = velocities[UNCOND_NO_BRIDGE] + cross * (velocities[UNCOND] - velocities[UNCOND_NO_BRIDGE])
    return bridged if text == 0.0 else bridged + text * (velocities[COND] - velocities[UNCOND])
