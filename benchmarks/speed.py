"""Times the shipped model on this machine: a clip with the model loaded, the command from nothing, and peak memory.

    python benchmarks/speed.py --checkpoint mova-base --threads 2

Each number is the median of several runs of a process of its own; the first clip of a process (which warms caches up) is
timed apart. ``mova generate`` is run as a person would run it. Floors and goals are those of the acceptance table.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mova.lab.documents import machine, write_json

ROOT = Path(__file__).parents[1]
PROMPT = "a small red ball bounces three times on a wooden floor"
INSIDE = "--inside"


@dataclass(frozen=True)
class Line:
    """One line of the acceptance table."""

    what: str
    value: float
    floor: float
    goal: float
    unit: str


def main() -> None:
    """Measure, print, write."""
    arguments = parse_arguments()
    if arguments.inside:
        sys.stdout.write(json.dumps(warm_clips(arguments)) + "\n")
        return
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads), "MKL_NUM_THREADS": str(arguments.threads)}
    warm = run_inside(arguments, environment)
    cold = [run_command(arguments, environment) for _ in range(arguments.runs)]
    peak_gb = max(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9, warm["peak_gb"])
    lines = [
        Line(f"{warm['seconds']:.2f} s clip, {warm['steps']} steps, model loaded, file written", warm["median_s"], 5, 2, "s"),
        Line("mova generate, cold, whole process", statistics.median(cold), 15, 8, "s"),
        Line("peak memory", peak_gb, 1.5, 1.0, "GB"),
    ]
    console = Console()
    console.print(table_of(lines, arguments.threads))
    console.print(f"first clip of a process {warm['first_s']:.2f} s; load average {os.getloadavg()[0]:.1f}")
    document = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "threads": arguments.threads,
        "checkpoint": arguments.checkpoint,
        "warm": warm,
        "cold_s": cold,
        "peak_gb": peak_gb,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    write_json(arguments.output, document)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="mova-base", help="name or folder of the model")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--guidance-scale", type=float, help="the model's own if not given")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "speed.json")
    parser.add_argument(INSIDE, action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def warm_clips(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds per clip with the model loaded, file written, and the peak memory of this process."""
    import torch

    from mova.generation.model import MOVAModel

    torch.set_num_threads(arguments.threads)
    model = MOVAModel.from_pretrained(arguments.checkpoint)
    taken = []
    with tempfile.TemporaryDirectory() as folder:
        for index in range(arguments.runs + 1):
            began = time.perf_counter()
            clip = model.generate(
                PROMPT, seed=index, num_inference_steps=arguments.steps, guidance_scale=arguments.guidance_scale
            )
            clip.save(Path(folder) / "clip.mp4")
            taken.append(time.perf_counter() - began)
    return {
        "seconds": float(clip.seconds),
        "steps": arguments.steps,
        "first_s": taken[0],
        "median_s": statistics.median(taken[1:]),
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }


def run_inside(arguments: argparse.Namespace, environment: dict[str, str]) -> dict[str, Any]:
    """``warm_clips`` in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], INSIDE], env=environment, check=True, capture_output=True, text=True
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def run_command(arguments: argparse.Namespace, environment: dict[str, str]) -> float:
    """Seconds of ``mova generate`` from start to exit."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(Path(sys.executable).with_name("mova")), "generate", PROMPT, "--seed", "7"]
        command += ["--model", arguments.checkpoint, "--steps", str(arguments.steps), "-o", str(Path(folder) / "clip.mp4")]
        began = time.perf_counter()
        subprocess.run(command, env=environment, check=True, capture_output=True)
        return time.perf_counter() - began


def table_of(lines: list[Line], threads: int) -> Table:
    """What was measured, beside what is asked."""
    table = Table(title=f"{machine()['cpu']}, {threads} threads", title_justify="left")
    for head in ("what", "measured", "floor", "goal", ""):
        table.add_column(head, justify="left" if head in ("what", "") else "right")
    for line in lines:
        verdict = "goal" if line.value <= line.goal else "floor" if line.value <= line.floor else "below the floor"
        unit = line.unit
        table.add_row(line.what, f"{line.value:.2f} {unit}", f"{line.floor:g} {unit}", f"{line.goal:g} {unit}", verdict)
    return table


if __name__ == "__main__":
    main()
