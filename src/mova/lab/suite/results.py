"""What a run says: the numbers of every track with interval, chance and floor, and the file that holds them.

A file holds every clip's own row besides, so that two of them can be compared clip by clip.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mova.errors import MediaError, RequestError
from mova.files import read_text
from mova.lab.numbers import columns_of, directional_accuracy, mean_interval
from mova.lab.sync.pairing import WINDOWS_MS, match, match_aligned
from mova.lab.sync.scores import HEADLINE, HEADLINE_WINDOW, ClipTimes, score

METRICS_VERSION = 5
"""Grows whenever the same clips would get other or more numbers, or files another form: those of other versions are refused."""
RESULTS = "results.json"
BRIDGE_OFF = "-bridge-off"
"""End of the name of a track whose clips were made with the towers cut apart."""
COUNTERFACTUAL = "counterfactual"
"""Track of pairs of clips whose prompts differ in one thing."""
CONTROLS = "controls"
"""Track of clips for which nothing should be made."""
ALL = "all"
"""Instead of a kind: the floors of all kinds together."""
Row = dict[str, Any]
"""What was measured of one clip: plain JSON values."""
Floors = Mapping[str, Mapping[str, float]]
"""By kind, and of :data:`ALL`; then by name of the number."""


@dataclass(frozen=True)
class Headline:
    """The one number of a run.

    Args:
        track: Whose.
        name: Name of the score.
        value: nan if it could not be measured.
    """

    track: str
    name: str
    value: float


def model_results(facts: Mapping[str, Any], rows: Sequence[Row], truths: Sequence[Row], *, floors: Floors) -> dict[str, Any]:
    """The results of a run of a model.

    Args:
        facts: What was run: model, weights, seed and so on.
        rows: Rows of all tracks but the floor.
        truths: Rows of the floor: the truth through the model's codecs, which gets the same numbers.
        floors: Floors of every number, from the truths.
    """
    tracks = {
        name: track_results([row for row in rows if row["track"] == name], floors=floors)
        for name in dict.fromkeys(row["track"] for row in rows if row["track"] not in (COUNTERFACTUAL, CONTROLS))
    }
    first = next(iter(tracks), None)
    pairs = [row for row in rows if row["track"] == COUNTERFACTUAL]
    return {
        "metrics_version": METRICS_VERSION,
        **facts,
        "headline": {"track": first, "name": HEADLINE, **tracks[first]["numbers"][HEADLINE]} if first else None,
        "floors": dict(floors[ALL]),
        "tracks": tracks,
        "codec": track_results(truths, floors={}),
        COUNTERFACTUAL: pair_results(pairs),
        CONTROLS: control_results([row for row in rows if row["track"] == CONTROLS]),
        "clips": list(rows),
    }


def track_results(rows: Sequence[Row], *, floors: Floors) -> dict[str, Any]:
    """The numbers of one track, and the same of each kind in ``by_kind``.

    Args:
        rows: Rows of its clips, at least one.
        floors: Floors of every number; those of the truths themselves are left out.
    """
    kinds = dict.fromkeys(row["kind"] for row in rows)
    return {
        **_numbers(rows, floors=floors.get(ALL, {})),
        "by_kind": {
            kind: _numbers([row for row in rows if row["kind"] == kind], floors=floors.get(kind, {})) for kind in kinds
        },
        "seconds_per_clip": float(np.mean([row["seconds_taken"] for row in rows])),
    }


def pair_results(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Of each quantity, the share of the pairs of clips in which it moves the right way; none if there are no pairs.

    Args:
        rows: Rows of the track ``counterfactual``.
    """
    made, truth = (
        directional_accuracy([{name: value == 1.0 for name, value in row[column].items()} for row in rows])
        for column in ("values", "codec")
    )
    return {
        name: {
            "value": found.value,
            "interval": list(found.interval),
            "chance": found.chance,
            "codec": truth[name].value,
            "floor": max(1.0 - truth[name].value, 1.0 / truth[name].num_pairs),
            "num_pairs": found.num_pairs,
        }
        for name, found in made.items()
    }


def control_results(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Of each control, how many events per clip were made that should not be there; none if there are no controls.

    Args:
        rows: Rows of the track ``controls``.
    """
    floors = means_of([row["codec"] for row in rows])
    made = means_of([row["values"] for row in rows])
    return {name: {**mean, "floor": floors[name]["value"]} for name, mean in made.items()}


def means_of(values: Sequence[Mapping[str, float | None]]) -> dict[str, dict[str, Any]]:
    """The mean of every column over the rows that have it, with a 95 % interval over rows."""
    given = [{name: value for name, value in row.items() if value is not None} for row in values]
    return {
        name: {"value": float(np.mean(column)), "interval": list(mean_interval(column)), "num_clips": len(column)}
        for name, column in columns_of(given).items()
    }


def times_of(row: Row) -> ClipTimes:
    """A row as the scores take it."""
    return ClipTimes(row["kind"], tuple(row["video_s"]), tuple(row["audio_s"]), row["lag_s"], row["num_expected"])


def offsets_ms(row: Row) -> list[float]:
    """Heard less seen of a clip's pairs after alignment, in milliseconds; a lag that the scene means is taken off."""
    heard = [time_s - row["lag_s"] for time_s in row["audio_s"]]
    return [1000.0 * (heard[second] - row["video_s"][first]) for first, second in match_aligned(row["video_s"], heard)]


def clip_f1(row: Row) -> float:
    """F1 of one clip within BT.1359's detectability window; 0 if nothing is seen and nothing heard."""
    heard = [time_s - row["lag_s"] for time_s in row["audio_s"]]
    low_ms, high_ms = WINDOWS_MS[HEADLINE_WINDOW]
    num_events = len(heard) + len(row["video_s"])
    return 2.0 * len(match(row["video_s"], heard, low_ms=low_ms, high_ms=high_ms)) / num_events if num_events else 0.0


def read_results(path: Path) -> dict[str, Any]:
    """Results from a file.

    Raises:
        MediaError: If it cannot be read or holds none.
        RequestError: If it was measured with another version of the metrics.
    """
    try:
        document: dict[str, Any] = json.loads(read_text(path, max_bytes=2**30))
        if not isinstance(document["metrics_version"], int | str) or not isinstance(document["suite"], str):
            raise ValueError("no version")
        for row in document["clips"]:
            _check_row(row)
        if any("video_s" in row for row in document["clips"]):
            _ = dict(document["floors"])
        version = document["metrics_version"]
    except OSError as problem:
        reason = problem.strerror or problem
        raise MediaError(f"cannot read {path}: {reason}.", f"Give the {RESULTS} of a run.") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise MediaError(f"{path} holds no results of mova eval.", f"Give the {RESULTS} of a run.") from None
    if version != METRICS_VERSION:
        raise RequestError(
            f"{path} was measured with version {version} of the metrics; this mova has version {METRICS_VERSION}.",
            "Measure again; rows of the other version are not taken over, so choose another folder.",
        )
    return document


def check_alike(first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
    """Refuse to hold results against each other that were not measured alike.

    Raises:
        RequestError: If the versions of their metrics or their suites differ.
    """
    versions = first["metrics_version"], second["metrics_version"]
    if versions[0] != versions[1]:
        raise RequestError(
            f"the results were made with different versions of the metrics, {versions[0]} and {versions[1]}.",
            "Measure both with one version.",
        )
    if first["suite"] != second["suite"]:
        raise RequestError(
            f"the results are of different suites, {first['suite']} and {second['suite']}.", "Give two results of one suite."
        )


def headline_of(document: Mapping[str, Any]) -> Headline:
    """The headline of a run of a model.

    Raises:
        MediaError: If the document has none.
    """
    try:
        found = document["headline"]
        value = found["value"]
        return Headline(str(found["track"]), str(found["name"]), math.nan if value is None else float(value))
    except (KeyError, TypeError, ValueError):
        raise MediaError("the results have no headline.", "Give those of mova eval model.") from None


def fall_from(baseline: Headline, now: Headline, *, most: float) -> tuple[bool, str]:
    """Whether the headline fell by more than is allowed, and the numbers in words.

    A headline that could not be measured counts as fallen: a check that measured nothing did not pass.
    """
    words = f"{now.name} of {now.track}: {_number(now.value)}, baseline {_number(baseline.value)}"
    if not math.isfinite(now.value) or not math.isfinite(baseline.value):
        return True, f"{words}: one of them could not be measured"
    fall = baseline.value - now.value
    change = "fell by" if fall > 0.0 else "rose by"
    return fall > most, f"{words}: it {change} {abs(fall):.4f}, and may fall by {most:g}"


def _check_row(row: Any) -> None:
    """What a comparison relies on."""
    _ = str(row["key"]), [float(value) for value in row["values"].values() if value is not None]
    if "video_s" in row:
        _ = str(row["track"]), str(row["kind"])
        _ = [float(value) for value in (*row["video_s"], *row["audio_s"], row["lag_s"], row["num_expected"])]


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "not measured"


def _numbers(rows: Sequence[Row], *, floors: Mapping[str, float]) -> dict[str, Any]:
    """Every number of a set of clips, scores first, each with its interval, its chance and its floor."""
    found = score([times_of(row) for row in rows], floors=floors)
    scores = {name: {**asdict(number), "interval": list(number.interval)} for name, number in found.numbers.items()}
    by_chance = means_of([row["chance"] for row in rows])
    means = {
        name: {
            **mean,
            "chance": by_chance[name]["value"] if name in by_chance else math.nan,
            "floor": floors.get(name, math.nan),
        }
        for name, mean in means_of([row["values"] for row in rows]).items()
    }
    return {
        "num_clips": found.num_clips,
        "num_seen": found.num_seen,
        "num_heard": found.num_heard,
        "num_faulty": sum(bool(row["faults"]) for row in rows),
        "numbers": {
            **scores,
            "missed_80": _rest(scores["recall_80"]),
            "extra_80": _rest(scores["precision_80"]),
            **means,
        },
    }


def _rest(found: Mapping[str, Any]) -> dict[str, Any]:
    """What is missing of a share."""
    low, high = found["interval"]
    return {**found, "value": 1.0 - found["value"], "interval": [1.0 - high, 1.0 - low], "chance": 1.0 - found["chance"]}


SHORT = "ran_short"
"""Name in a row that memory, descriptors or the like ran out for: it says nothing of what was to be measured."""
