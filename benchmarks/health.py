"""Measures the health gate: of faults put into clean videos of every kind of scene, how many are found; and false alarms.

    python benchmarks/health.py --per-kind 40

Every clip is damaged once in each of the ways of :mod:`mova.lab.faults`; a fault counts as found only if the
gate names its kind. A way that finds no occasion in a clip (a video cannot be seen to hang while nothing moves) is counted
apart. False alarms are clips without a fault in which the gate finds one: as rendered, and after H.264 and AAC.

The scripts come from a seed that none of the limits was set with.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
import zlib
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from rich.console import Console
from rich.table import Table

from mova.files import atomic_write
from mova.lab.faults import INJECTORS
from mova.media.health.files import check_file
from mova.media.health.gate import check_arrays, check_clip
from mova.scenes.kinds import KINDS
from mova.scenes.world import render, sample_scripts

ROOT = Path(__file__).parents[1]
SEED = 880_000
GOAL_FOUND, GOAL_FALSE = 0.95, 0.01


def main() -> None:
    """Measure, print, write."""
    arguments = parse_arguments()
    document = measured(arguments)
    console = Console()
    console.print(table_of(document))
    console.print(
        f"found {document['found']:.2%} of {document['num_faults']} faults (goal {GOAL_FOUND:.0%}); false alarms "
        f"{document['false_alarms']:.2%} of {document['num_clean']} clean clips (goal at most {GOAL_FALSE:.0%}), "
        f"{document['false_alarms_mp4']:.2%} of {document['num_mp4']} after H.264 and AAC; "
        f"{document['check_ms']:.0f} ms a clip"
    )
    for one in document["alarms"]:
        console.print(f"  {one}")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(arguments.output) as beside:
        beside.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-kind", type=int, default=40, help="clips of each kind of scene")
    parser.add_argument("--mp4-per-kind", type=int, default=10, help="of these, how many also go through H.264 and AAC")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "health.json")
    return parser.parse_args()


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """All numbers, ready for JSON."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    tried: dict[str, Counter[str]] = defaultdict(Counter)
    no_occasion: Counter[str] = Counter()
    beside: dict[str, Counter[str]] = defaultdict(Counter)
    alarms, alarms_mp4, seconds = [], [], []
    num_clips, num_mp4 = arguments.per_kind * len(KINDS), arguments.mp4_per_kind * len(KINDS)
    with tempfile.TemporaryDirectory() as folder:
        for index, script in enumerate(sample_scripts(arguments.seed, num_clips)):
            clip = render(script).clip()
            start = time.process_time()
            health = check_clip(clip)
            seconds.append(time.process_time() - start)
            alarms += [f"{script.kind} {index}: {fault.message}" for fault in health.faults[:1]]
            if index < num_mp4:
                path = Path(folder) / "clip.mp4"
                clip.save(path)
                alarms_mp4 += [f"{script.kind} {index}, mp4: {fault.message}" for fault in check_file(path).faults[:1]]
            for name, injector in INJECTORS.items():
                damage = injector.damage(clip, np.random.default_rng([arguments.seed, index, zlib.crc32(name.encode())]))
                if damage is None:
                    no_occasion[name] += 1
                    continue
                kinds = {fault.kind for fault in check_arrays(*damage, fps=clip.fps, sample_rate=clip.sample_rate).faults}
                tried[name][script.kind] += 1
                found[name][script.kind] += injector.kind in kinds
                beside[name].update(kinds - {injector.kind})
    num_faults = sum(counts.total() for counts in tried.values())
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "seed": arguments.seed,
        "num_clean": num_clips,
        "num_mp4": num_mp4,
        "num_faults": num_faults,
        "found": sum(counts.total() for counts in found.values()) / num_faults,
        "false_alarms": len(alarms) / num_clips,
        "false_alarms_mp4": len(alarms_mp4) / max(num_mp4, 1),
        "check_ms": 1000.0 * float(np.median(seconds)),
        "faults": {
            name: {
                "kind": injector.kind,
                "tried": tried[name].total(),
                "found": found[name].total(),
                "no_occasion": no_occasion[name],
                "by_scene": {kind: f"{found[name][kind]}/{tried[name][kind]}" for kind in KINDS},
                "also_named": dict(beside[name]),
            }
            for name, injector in INJECTORS.items()
        },
        "alarms": [*alarms, *alarms_mp4],
    }


def table_of(document: dict[str, Any]) -> Table:
    """A row for each way to damage a clip; the JSON has every kind of scene."""
    table = Table(title="The health gate")
    for column in ("damage", "must be named", "found", "tried", "no occasion", "worst scene"):
        table.add_column(column, justify="right" if column in ("found", "tried", "no occasion") else "left")
    for name, row in document["faults"].items():
        shares = {kind: int(one) / max(int(two), 1) for kind, (one, two) in split(row["by_scene"]).items() if int(two)}
        worst = min(shares, key=lambda kind: shares[kind])
        worst_text = f"{worst} {shares[worst]:.0%}" if shares[worst] < 1.0 else ""
        found = f"{row['found'] / max(row['tried'], 1):.1%}"
        table.add_row(name, row["kind"], found, str(row["tried"]), str(row["no_occasion"]), worst_text)
    return table


def split(by_scene: dict[str, str]) -> dict[str, tuple[str, str]]:
    """``"3/4"`` as two texts, by kind of scene."""
    return {kind: (counts.split("/")[0], counts.split("/")[1]) for kind, counts in by_scene.items()}


if __name__ == "__main__":
    main()
