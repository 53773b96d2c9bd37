"""What a metric that needs trained weights must give: the protocol that the networks of this package and of others follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mova.errors import MovaError
from mova.media.clip import Clip


@dataclass(frozen=True, eq=False)
class Sample:
    """A video to be scored.

    Args:
        clip: Frames and audio.
        prompt: What it was made from; needed by metrics of text.
        face: ``[T, 4]`` left, top, right and bottom of the speaker's face in pixels, one row a frame; needed by LSE.
    """

    clip: Clip
    prompt: str | None = None
    face: npt.NDArray[np.floating] | None = None


class UnscorableError(MovaError):
    """A sample that a metric cannot score, such as one that is too short; it is counted."""


class Scorer(Protocol):
    """A metric with its weights read.

    Videos may be decoded as they are taken: go over them one at a time, and keep of each no more than is needed.
    """

    def __call__(self, samples: Sequence[Sample], references: Sequence[Sample]) -> Scores: ...


@dataclass(frozen=True)
class Scores:
    """What a scorer gives.

    Args:
        columns: By name, one value a sample that could be scored; a single value for a metric of sets.
        reasons: Why a sample could not be scored, one entry each.
    """

    columns: Mapping[str, Sequence[float]]
    reasons: Sequence[str] = ()


class Metric(Protocol):
    """A metric that needs weights."""

    @property
    def name(self) -> str:
        """Key in :func:`mova.lab.quality.plugins.list_metrics` and in reports."""
        ...

    @property
    def version(self) -> str:
        """Changes when the numbers do."""
        ...

    @property
    def source(self) -> str:
        """What the weights are, and where people find them."""
        ...

    @property
    def requires(self) -> frozenset[str]:
        """Of ``"video"``, ``"audio"``, ``"text"``, ``"face"``, ``"references"``."""
        ...

    @property
    def of_sets(self) -> bool:
        """True if a value belongs to two sets of videos, not to a video."""
        ...

    @property
    def higher_is_better(self) -> Mapping[str, bool]:
        """By column."""
        ...

    def load(self, weights: Path, *, device: str) -> Scorer:
        """Read the weights.

        Raises:
            CheckpointError: If they are broken or of another shape.
            MissingExtraError: If a package is missing.
        """
        ...


def score_each(samples: Sequence[Sample], score: Callable[[Sample], Mapping[str, float]]) -> Scores:
    """Score one sample after the other; those that raise :class:`UnscorableError` are kept as reasons."""
    columns: dict[str, list[float]] = {}
    reasons = []
    for sample in samples:
        try:
            row = score(sample)
        except UnscorableError as error:
            reasons.append(str(error))
            continue
        for name, value in row.items():
            columns.setdefault(name, []).append(float(value))
    return Scores(columns, reasons)
