"""What ``directions.py`` holds its results against: the readings of a task summed up, the floors, and the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mova.lab.adherence.judge import Verdict
from mova.lab.numbers import average
from mova.lab.sync.scores import measure

VERDICTS = {"verdict": "", "bridge_off": "bridge off ", "span": "span "}
"""What a reading may hold besides numbers, and how the names of what is summed up of it begin."""


@dataclass(frozen=True)
class Floor:
    """A line of the table: a number of a task, and what it must reach.

    Args:
        task: Which.
        words: What it is.
        name: Of the number.
        limit: At most this where ``is_ceiling``, else at least; where ``than`` is given, this more than that.
        than: Task and name of another number.
        is_ceiling: Whether less is better.
    """

    task: str
    words: str
    name: str
    limit: float = 0.0
    than: tuple[str, str] | None = None
    is_ceiling: bool = False


TEXT = ("text", "F1@45")
FLOORS = (
    Floor("video_to_audio", "event F1 at 45 ms", "F1@45", 0.8),
    Floor("video_to_audio", "F1 at 45 ms, 0.5 over bridge off", "F1@45", 0.5, than=("video_to_audio", "bridge off F1@45")),
    Floor("video_to_audio", "median offset, ms", "median ms", 25.0, is_ceiling=True),
    Floor("video_to_audio", "video kept to the bit", "video kept", 1.0),
    Floor("audio_to_video", "event F1 at 45 ms", "F1@45", 0.7),
    Floor("audio_to_video", "audio kept to the bit", "audio kept", 1.0),
    Floor("first_frame", "colour, size and place kept in the next frame", "kept", 0.95),
    Floor("first_frame", "its things still there in the next four, as often as in rendered videos", "still there",
          than=("first_frame", "truth still there")),
    Floor("key_frame", "the frame is at its time, to the bit", "exact", 1.0),
    Floor("key_frame", "motion through it continuous, as often as in rendered videos", "continuous",
          than=("key_frame", "truth continuous")),
    Floor("key_frame", "ball: no jump of place or velocity, as often as in rendered videos", "position continues",
          than=("key_frame", "truth position continues")),
    Floor("retake", "untouched part kept to the bit", "rest equal", 1.0),
    Floor("retake", "new part differs", "new differs", 1.0),
    Floor("retake", "event F1 at 45 ms, as in text", "F1@45", than=TEXT),
    Floor("retake", "event F1 at 45 ms in the new part alone, within 5 points of text", "span F1@45", -0.05, than=TEXT),
    Floor("reroll", "video kept to the bit", "video kept", 1.0),
    Floor("reroll", "new audio differs", "new differs", 1.0),
    Floor("reroll", "event F1 at 45 ms, within 5 points of text", "F1@45", -0.05, than=TEXT),
    Floor("extend", "goes on, pixel by pixel, as often as rendered videos", "continuous", than=("extend", "truth continuous")),
    Floor("extend", "ball: no jump of place or velocity, as often as in rendered videos", "position continues",
          than=("extend", "truth position continues")),
    Floor("long", "event F1 at 45 ms, within 5 points of text", "F1@45", -0.05, than=TEXT),
    Floor("long", "change of picture at a border within 95 % of the interior's", "picture seams inside", 0.9),
    Floor("long", "change of level at a border within 95 % of the interior's", "level seams inside", 0.9),
    Floor("long", "peak memory over that of 4 s", "memory ratio", 1.1, is_ceiling=True),
)  # fmt: skip


def summary(readings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sync and adherence of the verdicts, and the mean of every other number.

    Args:
        readings: One a clip. A number that only some have is followed by how many have it, as ``"<name> clips"``.
    """
    result: dict[str, Any] = {"clips": len(readings)}
    for key, prefix in VERDICTS.items():
        verdicts: list[Verdict] = [reading[key] for reading in readings if key in reading]
        if not verdicts:
            continue
        found = measure([verdict.times for verdict in verdicts])
        result |= {
            f"{prefix}F1@45": found["f1_45"],
            f"{prefix}F1@80": found["f1_80"],
            f"{prefix}median ms": found["median_abs_ms"],
        }
        if key == "verdict":
            means = average([verdict.values for verdict in verdicts])
            result |= {name: means[name].value for name in ("colour", "count") if name in means}
    for name in sorted({name for reading in readings for name in reading} - set(VERDICTS)):
        values = [float(reading[name]) for reading in readings if name in reading]
        result[name] = float(np.mean(values))
        if len(values) < len(readings):
            result[f"{name} clips"] = len(values)
    return result


def table(results: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The lines whose tasks were measured, and those that they are held against."""
    rows: list[dict[str, Any]] = []
    for floor in FLOORS:
        task, other = floor.than or (floor.task, floor.name)
        if floor.name not in results.get(floor.task, {}) or other not in results.get(task, {}):
            continue
        found = results[floor.task]
        value, limit = found[floor.name], floor.limit + (results[task][other] if floor.than else 0.0)
        is_met = value <= limit if floor.is_ceiling else value >= limit
        rows.append(
            {
                "task": floor.task,
                "what": floor.words,
                "clips": found.get(f"{floor.name} clips", found["clips"]),
                "sign": "<=" if floor.is_ceiling else ">=",
                "floor": limit,
                "value": value,
                "met": is_met,
            }
        )
    return rows


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table as it goes into a report."""
    lines = ["| task | what | clips | floor | value | met |", "|---|---|---|---|---|---|"]
    for row in rows:
        floor, value = f"{row['sign']} {row['floor']:.2f}", f"{row['value']:.2f}"
        met = "yes" if row["met"] else "no"
        lines.append(f"| {row['task']} | {row['what']} | {row['clips']} | {floor} | {value} | {met} |")
    return "\n".join(lines)


def shown(value: Any) -> str:
    """A number in few characters."""
    return str(value) if isinstance(value, int) else f"{value:.2f}"
