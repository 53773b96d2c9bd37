"""How strong should guidance be? Scales tried on the same prompts and seeds, judged for sync and for what was asked.

More guidance makes clips say what the prompt asks for and, past a point, breaks them. Where that point is depends on the
model: every combination of scales makes the same clips, which are judged as all clips of the rendered world are
(:mod:`mova.lab.adherence.judge`). A combination is one row; rows are kept in a file, so that a search can go on.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mova.errors import MediaError, RequestError
from mova.files import read_text
from mova.generation.model import MOVAModel
from mova.lab.adherence.judge import Verdict, constraints_of, judge_clip
from mova.lab.documents import plain, write_json
from mova.lab.numbers import average, mean_interval
from mova.lab.sync.scores import score
from mova.progress import OnProgress
from mova.request.schema import GenerationRequest
from mova.sampling.guidance import Guidance
from mova.scenes.clapper.scene import as_scene
from mova.scenes.script import Script
from mova.scenes.world import sample_scripts

ASKED = ("colour", "count", "sequence", "sound", "rate")
"""Columns of a verdict that a prompt asks for; their mean is a clip's adherence."""
_TRIED_PER_PROMPT = 50  # scripts that are looked at for one that asks for something


@dataclass(frozen=True, order=True)
class Setting:
    """One combination of scales.

    Args:
        text: Scale of the text.
        cross: Scale of the bridge.
        own: Scale of self-guidance.
        audio_text: Scale of the text for the audio; as for the video if not given.
    """

    text: float
    cross: float = 1.0
    own: float = 0.0
    audio_text: float | None = None

    def __str__(self) -> str:
        sound = "" if self.audio_text is None else f", audio {self.audio_text:g}"
        own = f", self {self.own:g}" if self.own else ""
        return f"text {self.text:g}, cross {self.cross:g}{own}{sound}"

    @property
    def guidance(self) -> Guidance:
        """The guidance itself."""
        return Guidance.from_scales(self.text, self.cross, self_scale=self.own, audio_text_scale=self.audio_text)


@dataclass(frozen=True)
class Measured:
    """A number and its 95 % interval over clips; nan if nothing could be measured."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """What a combination gave.

    Args:
        setting: The combination.
        num_clips: Clips made.
        seconds_per_clip: It took.
        columns: ``sync_ms`` (median distance of video and audio), ``f1_80`` (events paired within 80 ms), ``asked`` (share
            of what the prompts ask for that is there), and the mean of every value of a verdict.
    """

    setting: Setting
    num_clips: int
    seconds_per_clip: float
    columns: Mapping[str, Measured]


def prompts(kinds: Sequence[str], per_kind: int, *, seed: int) -> list[Script]:
    """Scripts whose captions ask for something that can be judged, as many of each kind.

    Raises:
        RequestError: If a kind is unknown.
    """
    chosen: list[Script] = []
    for kind in kinds:
        drawn = sample_scripts(seed, _TRIED_PER_PROMPT * per_kind, [kind])
        asking = (script for script in drawn if any(value is not None for value in asdict(constraints_of(script)).values()))
        chosen += itertools.islice(asking, per_kind)
    return chosen


def try_setting(
    model: MOVAModel,
    setting: Setting,
    scripts: Sequence[Script],
    *,
    num_inference_steps: int,
    batch_size: int = 8,
    on_progress: OnProgress | None = None,
) -> Row:
    """Make a clip of every script's caption, and judge them.

    Args:
        model: The model.
        setting: Scales.
        scripts: Prompts; the seed of a clip is its script's own.
        num_inference_steps: Sampler steps.
        batch_size: Clips made at once; changes speed and memory only.
        on_progress: Receiver of progress events.
    """
    began = time.monotonic()
    clips = model.run_many(
        [request_of(script, setting, num_inference_steps) for script in scripts], batch_size=batch_size, on_progress=on_progress
    )
    verdicts = [judge_clip(clip, as_scene(script)) for script, clip in zip(scripts, clips, strict=True)]
    return row_of(setting, verdicts, seconds_per_clip=(time.monotonic() - began) / len(scripts))


def request_of(script: Script, setting: Setting, num_inference_steps: int) -> GenerationRequest:
    """The request of a script's caption under a setting."""
    return GenerationRequest(
        prompt=script.caption,
        seed=script.seed % 2**62,
        num_inference_steps=num_inference_steps,
        guidance_scale=setting.text,
        cross_guidance_scale=setting.cross,
        self_guidance_scale=setting.own,
        audio_guidance_scale=setting.audio_text,
    )


def row_of(setting: Setting, verdicts: Sequence[Verdict], *, seconds_per_clip: float) -> Row:
    """The numbers of judged clips."""
    sync = score([verdict.times for verdict in verdicts]).numbers
    means = average([verdict.values for verdict in verdicts])
    asked = [[verdict.values[name] for name in ASKED if name in verdict.values] for verdict in verdicts]
    shares = [float(np.mean(values)) for values in asked if values]
    columns = {
        "sync_ms": Measured(sync["median_abs_ms"].value, *sync["median_abs_ms"].interval),
        "f1_80": Measured(sync["f1_80"].value, *sync["f1_80"].interval),
        "asked": Measured(float(np.mean(shares)) if shares else math.nan, *mean_interval(shares)),
        **{name: Measured(mean.value, *mean.interval) for name, mean in sorted(means.items())},
    }
    return Row(setting, len(verdicts), round(seconds_per_clip, 3), columns)


def frontier(rows: Sequence[Row]) -> list[Row]:
    """The rows that no other beats: as good in sync (``f1_80``) and in what was asked, and better in one. By sync, rising."""
    points = [(row.columns["f1_80"].value, row.columns["asked"].value) for row in rows]
    kept = [
        row
        for row, (sync, asked) in zip(rows, points, strict=True)
        if not any(x >= sync and y >= asked and (x, y) != (sync, asked) for x, y in points)
    ]
    return sorted(kept, key=lambda row: (row.columns["f1_80"].value, -row.columns["asked"].value))


def read_rows(path: Path, trial: Mapping[str, Any]) -> list[Row]:
    """The rows of a file; none if there is no such file.

    Args:
        path: What :func:`write_rows` wrote.
        trial: What all rows of a file share: model, prompts, steps.

    Raises:
        RequestError: If the rows are of another trial: they cannot be compared.
        MediaError: If the file cannot be read.
    """
    try:
        document = json.loads(read_text(path, max_bytes=2**30))
        other = [name for name, value in trial.items() if document["trial"].get(name) != value]
        if other:
            raise RequestError(
                f"{path} holds rows of another trial: {', '.join(other)} differ.", "Choose another folder.", field="output"
            )
        return [_row(values) for values in document["rows"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise MediaError(f"cannot read the rows in {path}: {problem}.", "Choose another folder, or move the file.") from problem


def write_rows(path: Path, rows: Sequence[Row], trial: Mapping[str, Any]) -> None:
    """Write rows, in the order of their scales, beside ``path`` and rename; nan becomes null.

    Raises:
        MediaError: If that cannot be written.
    """
    document = {"trial": dict(trial), "rows": [as_json(row) for row in sorted(rows, key=_order)]}
    write_json(path, document)


def as_json(row: Row) -> dict[str, Any]:
    """A row as plain JSON values; nan becomes null."""
    values: dict[str, Any] = plain(asdict(row))
    return values


def _order(row: Row) -> tuple[float, ...]:
    setting = row.setting
    return setting.text, setting.cross, setting.own, -1.0 if setting.audio_text is None else setting.audio_text


def _row(values: Mapping[str, Any]) -> Row:
    columns = {name: Measured(**_with_nan(numbers)) for name, numbers in values["columns"].items()}
    return Row(Setting(**values["setting"]), values["num_clips"], values["seconds_per_clip"], columns)


def _with_nan(numbers: Mapping[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in numbers.items()}
