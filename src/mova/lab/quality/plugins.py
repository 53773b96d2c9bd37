"""The metrics that need trained weights (:mod:`mova.lab.quality.metric`), and what they say of a set of videos.

Weights come from a path the user gives; nothing is downloaded.

    result = measure(list_metrics()["clap"], samples, weights=Path("clap-htsat-unfused"))
    result.status            # "ok", "skipped" (and why) or "failed" (and why)
    result.values["clap"]    # the mean; result.interval, result.num_scored, result.num_failed, result.weights_sha256

A metric without its weights is reported as skipped. A sample that cannot be scored is counted, not scored as 0 and not
passed over in silence: both bend a mean. The hash of the weights goes into the result, since it is part of the metric.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mova.errors import CheckpointError, MovaError
from mova.files import hash_file
from mova.lab.numbers import mean_interval
from mova.lab.quality.learned.clap import ClapScore
from mova.lab.quality.learned.desync import DeSync
from mova.lab.quality.learned.fad import VGGishFAD
from mova.lab.quality.learned.lse import LipSync
from mova.lab.quality.metric import Metric, Sample, Scorer, Scores

Status = Literal["ok", "skipped", "failed"]
ENTRY_POINTS = "mova.metrics"


@dataclass(frozen=True)
class MetricResult:
    """One metric on a set of videos.

    Args:
        name: Name of the metric.
        version: Version of the metric.
        status: ``"ok"``, ``"skipped"`` or ``"failed"``.
        reason: Why it was skipped or failed, or samples that could not be scored; empty if all is well.
        values: Mean by column; empty unless ``"ok"``.
        intervals: 95 % interval of each mean over samples; missing for a metric of sets.
        num_scored: Samples behind the means.
        num_failed: Samples that could not be scored.
        weights_sha256: Hash of what was read.
    """

    name: str
    version: str
    status: Status
    reason: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    num_scored: int = 0
    num_failed: int = 0
    weights_sha256: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class ExternalMetric:
    """A metric that is known but whose network is not in this package: always skipped, with the way to add it.

    Args:
        name: Name of the metric.
        source: Where its code and weights are.
    """

    name: str
    source: str
    version: str = "0"
    requires: frozenset[str] = frozenset()
    of_sets: bool = False

    def load(self, weights: Path, *, device: str) -> Scorer:
        """Refuse: there is no code to read the weights with.

        Raises:
            CheckpointError: Always.
        """
        raise CheckpointError(f"{self.name} is not part of this package.", _how_to_add(self))


def measure(
    metric: Metric,
    samples: Sequence[Sample],
    *,
    references: Sequence[Sample] = (),
    weights: Path | None = None,
    sha256: str | None = None,
    device: str = "cpu",
) -> MetricResult:
    """Score videos with a metric, or say why not.

    Args:
        metric: One of :func:`list_metrics`.
        samples: What to score.
        references: Real videos to compare with; for metrics that require them.
        weights: File or folder with the weights.
        sha256: What their hash must be (:func:`weights_sha256`); None takes them as they are and writes the hash down.
        device: Where to run.

    Raises:
        CheckpointError: If the weights have another hash than asked for: a number made with the wrong weights is worse than
            none.
    """
    skipped = MetricResult(metric.name, metric.version, "skipped")
    if isinstance(metric, ExternalMetric):
        return replace(skipped, reason=f"not part of this package; {_how_to_add(metric)}")
    if weights is None or not weights.exists():
        found = "no weights were given" if weights is None else f"there is nothing at {weights}"
        return replace(skipped, reason=f"{found}; {metric.source}")
    missing = _missing(metric, samples, references)
    if missing:
        return replace(skipped, reason=missing)
    found_sha256 = weights_sha256(weights)
    if sha256 is not None and sha256.lower() != found_sha256:
        raise CheckpointError(
            f"the weights of {metric.name} at {weights} have sha256 {found_sha256}, not {sha256.lower()}.",
            "Give the right file, or leave the hash out to use this one.",
        )
    failed = replace(skipped, status="failed", weights_sha256=found_sha256)
    try:
        scores = metric.load(weights, device=device)(samples, references)
    except MovaError as error:
        return replace(failed, reason=str(error))
    return _summarise(metric, scores, len(samples), failed)


def weights_sha256(path: Path) -> str:
    """Hash of a weights file, or of the names and contents of all files of a folder, in order of name."""
    if path.is_file():
        return hash_file(path)
    total = hashlib.sha256()
    for file in sorted(one for one in path.rglob("*") if one.is_file()):
        total.update(f"{file.relative_to(path).as_posix()}\0{hash_file(file)}\n".encode())
    return total.hexdigest()


def weights_in(folder: Path) -> dict[str, Path]:
    """What a folder has for which metric: ``folder/clap``, ``folder/lse.safetensors`` and so on.

    Args:
        folder: May be missing; then there is nothing.
    """
    found = {}
    for name in list_metrics():
        matches = [folder / name, *sorted(folder.glob(f"{name}.*"))]
        present = [path for path in matches if path.exists()]
        if present:
            found[name] = present[0]
    return found


def list_metrics() -> dict[str, Metric]:
    """Every metric by name: those of this package, and those that installed packages add by entry point."""
    own: tuple[Metric, ...] = (DeSync(), LipSync(), VGGishFAD(), ClapScore(), *_ELSEWHERE)
    known: dict[str, Metric] = {metric.name: metric for metric in own}
    known.update({point.name: point.load()() for point in entry_points(group=ENTRY_POINTS)})
    return known


_ELSEWHERE = (
    ExternalMetric("fvd", "I3D on Kinetics-400: cd-fvd, or embed with any network and give the embeddings to frechet_distance"),
    ExternalMetric("imagebind", "facebookresearch/ImageBind (not for commercial use)"),
    ExternalMetric("dnsmos", "microsoft/DNS-Challenge, DNSMOS P.835 (speech only)"),
    ExternalMetric("vbench", "Vchitect/VBench; temporal flickering, its one dimension without weights, is in video_quality"),
)


def _how_to_add(metric: ExternalMetric) -> str:
    return f"see {metric.source}; a package can add it by an entry point in the group {ENTRY_POINTS!r}."


def _missing(metric: Metric, samples: Sequence[Sample], references: Sequence[Sample]) -> str:
    if not samples:
        return "there are no videos to score"
    if "references" in metric.requires and not references:
        return "it compares with real videos, and none were given"
    if "text" in metric.requires and not any(sample.prompt for sample in samples):
        return "it needs prompts, and no video has one"
    if "face" in metric.requires and all(sample.face is None for sample in samples):
        return "it needs the place of a face in each frame, and no video has one"
    return ""


def _summarise(metric: Metric, scores: Scores, num_samples: int, failed: MetricResult) -> MetricResult:
    reasons = f"{len(scores.reasons)} of {num_samples} could not be scored: {scores.reasons[0]}" if scores.reasons else ""
    failed = replace(failed, num_failed=len(scores.reasons))
    if not any(scores.columns.values()):
        return replace(failed, reason=reasons or "nothing was scored")
    values = {name: float(np.mean(column)) for name, column in scores.columns.items()}
    broken = [name for name, value in values.items() if not np.isfinite(value)]
    if broken:
        return replace(failed, reason=f"{', '.join(broken)} came out as not a number")
    intervals = {} if metric.of_sets else {name: mean_interval(column) for name, column in scores.columns.items()}
    num_scored = num_samples - len(scores.reasons)
    return replace(failed, status="ok", reason=reasons, values=values, intervals=intervals, num_scored=num_scored)
