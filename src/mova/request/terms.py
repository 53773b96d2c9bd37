"""The terms of guidance: what each compares, and the request fields that set it. No torch here.

The guided velocity is that of one evaluation of the network, the base, plus weighted differences of two evaluations:

    v = v(base) + sum of scale [v(towards) - v(away)]

:data:`TERMS` are those that a request can set. A further option is an entry here and its fields in
:class:`mova.request.schema.GenerationRequest`; a term that is no option is passed to
:class:`mova.sampling.guidance.Guidance` beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

Interval = tuple[float, float]


class Branch(NamedTuple):
    """One evaluation of the network.

    Args:
        has_text: Whether it reads the prompt, and not the negative prompt.
        has_bridge: Whether video and audio read each other.
        is_perturbed: Whether self-attention of the middle layers is the identity.
    """

    has_text: bool
    has_bridge: bool
    is_perturbed: bool = False


UNCOND_NO_BRIDGE = Branch(has_text=False, has_bridge=False)
UNCOND = Branch(has_text=False, has_bridge=True)
COND = Branch(has_text=True, has_bridge=True)
PERTURBED = Branch(has_text=True, has_bridge=True, is_perturbed=True)


@dataclass(frozen=True)
class Term:
    """A difference of two evaluations that is added to the velocity.

    Args:
        name: Name in messages.
        towards: Evaluation that the velocity is led towards.
        away: Evaluation that it is led away from.
        scale: Weight for the video.
        audio_scale: Weight for the audio; the video's if not given.
        interval: Lowest and highest sigma (of the video's schedule) at which the term guides.
        neutral: Weight outside the interval, and what leaves the velocity as it is: 1 for a term on the way from the base to
            the full evaluation, 0 for any other.
        prefix: What the names of its request fields begin with, such as ``cross_``.

    Raises:
        ValueError: If the interval is not within 0 and 1.
    """

    name: str
    towards: Branch
    away: Branch
    scale: float
    audio_scale: float | None = None
    interval: Interval = (0.0, 1.0)
    neutral: float = 0.0
    prefix: str = ""

    def __post_init__(self) -> None:
        low, high = self.interval
        if not 0.0 <= low <= high <= 1.0:
            limits = "two sigmas, low before high, between 0 and 1"
            raise ValueError(f"the interval of the {self.name} term must be {limits}; got {self.interval}.")

    def scales(self, sigma: float) -> tuple[float, float]:
        """Weights for the video and for the audio at a noise level."""
        if not self.interval[0] <= sigma <= self.interval[1]:
            return self.neutral, self.neutral
        return self.scale, self.scale if self.audio_scale is None else self.audio_scale

    @property
    def scale_field(self) -> str:
        """Request field of ``scale``."""
        return f"{self.prefix}guidance_scale"

    @property
    def audio_scale_field(self) -> str:
        """Request field of ``audio_scale``."""
        return f"audio_{self.prefix}guidance_scale"

    @property
    def interval_fields(self) -> tuple[str, str]:
        """Request fields of the lowest and of the highest noise level."""
        return f"{self.prefix}guidance_to", f"{self.prefix}guidance_from"


TERMS: tuple[Term, ...] = (
    Term("text", towards=COND, away=UNCOND, scale=1.0, neutral=1.0),
    Term("cross", towards=UNCOND, away=UNCOND_NO_BRIDGE, scale=1.0, neutral=1.0, prefix="cross_"),
    Term("self", towards=COND, away=PERTURBED, scale=0.0, prefix="self_"),
)


def read_interval(term: Term, values: Mapping[str, Any]) -> Interval:
    """Lowest and highest noise level that request fields set for a term: its own, else those of the text's term.

    Args:
        term: One of :data:`TERMS`.
        values: Request fields by name; one that is missing or ``None`` is not set.
    """
    low, high = (
        next((value for value in (values.get(own), values.get(text)) if value is not None), default)
        for own, text, default in zip(term.interval_fields, TERMS[0].interval_fields, term.interval, strict=True)
    )
    return low, high


def read_terms(values: Mapping[str, Any]) -> tuple[Term, ...]:
    """:data:`TERMS` with the scales and intervals of request fields.

    Args:
        values: Request fields by name; one that is missing or ``None`` leaves the value of the term.

    Raises:
        ValueError: If an interval ends before it begins.
    """
    terms = []
    for term in TERMS:
        scale, audio_scale = values.get(term.scale_field), values.get(term.audio_scale_field)
        scale = term.scale if scale is None else scale
        terms.append(replace(term, scale=scale, audio_scale=audio_scale, interval=read_interval(term, values)))
    return tuple(terms)
