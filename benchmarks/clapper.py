"""Measures the errors of the suite's own readers: true scenes of every family through H.264 and AAC, read again.

Times, what captions ask for, the physics of a ball, and pairs of scenes with one thing changed.

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

from mova.files import atomic_write
from mova.lab.adherence.judge import adherence_floors, score_adherence
from mova.lab.adherence.physics import ball_physics, physics_floors
from mova.lab.read.events import Reading
from mova.lab.read.readers import read_all
from mova.lab.suite.results import means_of
from mova.lab.sync.floors import LIMITS_MS, floor_of, measure_directions, score_floors, through_mp4
from mova.scenes.clapper.scene import SYNC_FAMILIES, ClapperScene, make_scene, render_scene

ROOT = Path(__file__).parents[1]
SEED = 910_000


def main() -> None:
    """Measure, print, write."""
    arguments = parse_arguments()
    document = measured(arguments)
    console = Console(width=200)
    console.print(table_of(document), markup=False, highlight=False)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(arguments.output) as beside:
        beside.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-family", type=int, default=24, help="clips of each family")
    parser.add_argument("--pairs", type=int, default=20, help="scenes of which one thing is changed, in every way")
    parser.add_argument("--families", default=",".join(SYNC_FAMILIES), help="names, with commas between")
    parser.add_argument("--size", type=int, default=256, help="width and height in pixels")
    parser.add_argument("--fps", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "clapper.json")
    return parser.parse_args()


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """All numbers, ready for JSON."""
    rows = {}
    for name in arguments.families.split(","):
        scenes, readings, physics = videos_of(name, arguments)
        rows[name] = {**row_of(scenes, readings), "physics": physics_of(scenes, physics)}
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
        "counterfactual": pairs_of(arguments),
    }


def videos_of(family: str, arguments: argparse.Namespace) -> tuple[list[ClapperScene], list[Reading], list[dict[str, float]]]:
    """Scenes of a family, what is read from their videos and, of balls, their physics."""
    places = range(arguments.seed, arguments.seed + arguments.per_family)
    scenes = [make_scene(family, seed, fps=arguments.fps, seconds=arguments.seconds) for seed in places]
    readings, physics = [], []
    for scene in scenes:
        video = through_mp4(render_scene(scene, width=arguments.size, height=arguments.size))
        readings.append(read_all(video, scene))
        physics.append(ball_physics(video, readings[-1], shutter=scene.shutter) if family == "bounce" else {})
    return scenes, readings, physics


def row_of(scenes: list[ClapperScene], readings: list[Reading]) -> dict[str, Any]:
    """What is kept of a family: its floor, and how far its true videos are what their captions ask for."""
    floor = floor_of(scenes, readings)
    asked, floors = score_adherence(scenes, readings), adherence_floors(scenes, readings)
    return {
        "num_clips": floor.num_clips,
        "num_events": floor.num_video,
        "seen": floor.seen,
        "heard": floor.heard,
        "extra": floor.extra,
        **{name: round(value, 3) for name, value in floor.summary().items()},
        "misses": list(floor.misses),
        "score_floors": {name: round(value, 4) for name, value in score_floors(floor).items()},
        "adherence": {
            name: {
                "value": round(one.value, 4),
                "interval": [round(end, 4) for end in one.interval],
                "chance": round(one.chance, 4),
                "floor": round(floors[name], 4),
            }
            for name, one in asked.items()
        },
    }


def physics_of(scenes: list[ClapperScene], physics: list[dict[str, float]]) -> dict[str, Any]:
    """Means of the physics of true balls with their intervals, and the floors that follow from them."""
    floors = physics_floors(physics, [float(scene.attributes.get("restitution", "nan")) for scene in scenes])
    return {name: {**found, "floor": floors[name]} for name, found in means_of(physics).items()}


def pairs_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Directional accuracy on pairs of true videos through the codec."""
    found = measure_directions(arguments.pairs, fps=arguments.fps, seconds=arguments.seconds, seed=arguments.seed)
    return {
        name: {"value": one.value, "interval": list(one.interval), "num_pairs": one.num_pairs, "chance": one.chance}
        for name, one in found.items()
    }


def table_of(document: dict[str, Any]) -> str:
    """A row for each family, then what its captions ask for, then the pairs, as markdown."""
    columns = ("video_median", "video_p95", "audio_median", "audio_p95", "av_median", "av_p95")
    heads = ["family", "events", "seen", "heard", "extra", *(name.replace("_", " ") + ", ms" for name in columns), "misses"]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for name, row in document["families"].items():
        cells = [name, str(row["num_events"]), f"{row['seen']:.1%}", f"{row['heard']:.1%}", str(row["extra"])]
        cells += [f"{row[column]:.2f}" for column in columns]
        lines.append("| " + " | ".join([*cells, ", ".join(row["misses"])]) + " |")
    lines += ["", "| family | asked | right | chance |", "| --- | --- | --- | --- |"]
    for family, row in document["families"].items():
        lines += [f"| {family} | {name} | {one['value']:.1%} | {one['chance']:.1%} |" for name, one in row["adherence"].items()]
    lines += ["", "| family | physics | mean | 95 % | floor |", "| --- | --- | --- | --- | --- |"]
    for family, row in document["families"].items():
        for name, one in row["physics"].items():
            low, high = one["interval"]
            lines.append(f"| {family} | {name} | {one['value']:.4f} | {low:.4f} to {high:.4f} | {one['floor']:.4f} |")
    lines += ["", "| pairs | number | right direction | 95 % |", "| --- | --- | --- | --- |"]
    for name, one in document["counterfactual"].items():
        low, high = one["interval"]
        lines.append(f"| {name} | {one['num_pairs']} | {one['value']:.1%} | {low:.1%} to {high:.1%} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
