"""Measures the errors of the suite's own readers: true scenes of every family through H.264 and AAC, read again.

    python benchmarks/clapper.py --per-family 24

Prints a markdown table and writes JSON. The limits are those of the suite at 256 x 256 and 24 frames per second; a family
that does not meet one is marked with its name.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from rich.console import Console

from mova.evaluation.clapper.families import SYNC_FAMILIES
from mova.evaluation.clapper.floors import LIMITS_MS, Floor, measure_floor, score_floors

ROOT = Path(__file__).parents[1]
SEED = 910_000


def main() -> None:
    """Measure, print, write."""
    arguments = parse_arguments()
    document = measured(arguments)
    console = Console(width=200)
    console.print(table_of(document), markup=False, highlight=False)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    beside = arguments.output.with_suffix(".partial")
    beside.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    os.replace(beside, arguments.output)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-family", type=int, default=24, help="clips of each family")
    parser.add_argument("--families", default=",".join(SYNC_FAMILIES), help="names, with commas between")
    parser.add_argument("--size", type=int, default=256, help="width and height in pixels")
    parser.add_argument("--fps", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "clapper.json")
    return parser.parse_args()


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """All numbers, ready for JSON."""
    families = arguments.families.split(",")

    def floor_of_families(names: list[str]) -> Floor:
        return measure_floor(
            names,
            num_clips=arguments.per_family,
            size=arguments.size,
            fps=arguments.fps,
            seconds=arguments.seconds,
            seed=arguments.seed,
        )

    rows = {name: row_of(floor_of_families([name])) for name in families}
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "seed": arguments.seed,
        "size": arguments.size,
        "fps": arguments.fps,
        "seconds": arguments.seconds,
        "codec": "H.264 and AAC in MP4",
        "limits_ms": dict(LIMITS_MS),
        "families": rows,
    }


def row_of(floor: Floor) -> dict[str, Any]:
    """What is kept of a family's floor."""
    return {
        "num_clips": floor.num_clips,
        "num_events": floor.num_video,
        "seen": floor.seen,
        "heard": floor.heard,
        "extra": floor.extra,
        **{name: round(value, 3) for name, value in floor.summary().items()},
        "misses": list(floor.misses),
        "score_floors": {name: round(value, 4) for name, value in score_floors(floor).items()},
    }


def table_of(document: dict[str, Any]) -> str:
    """A row for each family, as markdown."""
    columns = ("video_median", "video_p95", "audio_median", "audio_p95", "av_median", "av_p95")
    heads = ["family", "events", "seen", "heard", "extra", *(name.replace("_", " ") + ", ms" for name in columns), "misses"]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for name, row in document["families"].items():
        cells = [name, str(row["num_events"]), f"{row['seen']:.1%}", f"{row['heard']:.1%}", str(row["extra"])]
        cells += [f"{row[column]:.2f}" for column in columns]
        lines.append("| " + " | ".join([*cells, ", ".join(row["misses"])]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
