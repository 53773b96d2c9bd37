"""How far the sampler is pushed towards the text, and towards agreement of picture and sound.

Dual guidance (MOVA, arXiv 2602.08794, section 5.1; spec 3.10), T the text and B the bridge between the
towers:
``v = v(0, 0) + s_B [v(0, B) - v(0, 0)] + s_T [v(T, B) - v(0, B)]``. Branches whose weight is zero are not
evaluated:
``s_B = 1`` is plain classifier-free guidance, bit for bit, and ``s_B = s_T`` needs two evaluations as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from mova.sampling.pair import Pair


class Branch(NamedTuple):
    """One evaluation of the network."""

    has_text: bool
    has_bridge: bool


NEITHER = Branch(has_text=False, has_bridge=False)
BRIDGE = Branch(has_text=False, has_bridge=True)
BOTH = Branch(has_text=True, has_bridge=True)


class Guider(Protocol):
    """What the loop asks of a guidance: write your own with these two methods."""

    def branches(self, sigma: float) -> tuple[Branch, ...]:
        """The evaluations needed at a noise level of the film's schedule."""
        ...

    def combine(self, velocities: Mapping[Branch, Pair], sigma: float) -> Pair:
        """The guided velocity from them, all float32."""
        ...


@dataclass(frozen=True)
class Guidance:
    """Guidance by text and by the bridge.

    Args:
        text_scale: ``s_T``; 1 leaves the text's own strength, 0 follows the negative prompt only.
        cross_scale: ``s_B``; 1 leaves the bridge's own strength, above 1 binds picture and sound more.
        interval: Lowest and highest sigma (of the film's schedule) at which to guide; outside, both scales
            are 1 (Kynkäänniemi et al. 2024, arXiv 2404.07724).
        rescale: 0 to 1: how far the spread of the guided velocity is brought back to that of the full branch
            (Lin et al. 2023, arXiv 2305.08891, section 3.4).

    Raises:
        ValueError: If a value is out of range.
    """

    text_scale: float
    cross_scale: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)
    rescale: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.rescale <= 1.0:
            raise ValueError(f"rescale must be between 0 and 1; got {self.rescale}.")
        low, high = self.interval
        if not 0.0 <= low <= high <= 1.0:
            raise ValueError(f"interval must be two sigmas, low before high, between 0 and 1; got {self.interval}.")

    def branches(self, sigma: float) -> tuple[Branch, ...]:
        """The evaluations with a weight at this level, the fullest first."""
        text, cross = self._scales(sigma)
        weights = {BOTH: text, BRIDGE: cross - text, NEITHER: 1.0 - cross}
        # the spread to return to is that of the full branch: rescaling needs it at any weight
        return tuple(branch for branch, weight in weights.items() if weight or (branch == BOTH and self.rescale))

    def combine(self, velocities: Mapping[Branch, Pair], sigma: float) -> Pair:
        """The guided velocity from the branches of this level."""
        text, cross = self._scales(sigma)
        guided = Pair(
            combined({branch: pair.video for branch, pair in velocities.items()}, text, cross),
            combined({branch: pair.audio for branch, pair in velocities.items()}, text, cross),
        )
        if not self.rescale:
            return guided
        full = velocities[BOTH]
        return Pair(rescaled(guided.video, full.video, self.rescale), rescaled(guided.audio, full.audio, self.rescale))

    def _scales(self, sigma: float) -> tuple[float, float]:
        low, high = self.interval
        return (self.text_scale, self.cross_scale) if low <= sigma <= high else (1.0, 1.0)


def combined(velocities: Mapping[Branch, Tensor], text: float, cross: float) -> Tensor:
    """Spec 3.10 in the fewest terms, so that the shortcuts are exact and not merely close."""
    if cross == text:
        if text == 1.0:
            return velocities[BOTH]
        if text == 0.0:
            return velocities[NEITHER]
        return velocities[NEITHER] + text * (velocities[BOTH] - velocities[NEITHER])
    if cross == 1.0:
        bridged = velocities[BRIDGE]
    elif cross == 0.0:
        bridged = velocities[NEITHER]
    else:
        bridged = velocities[NEITHER] + cross * (velocities[BRIDGE] - velocities[NEITHER])
    return bridged if text == 0.0 else bridged + text * (velocities[BOTH] - velocities[BRIDGE])


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
