"""How long a training step of the joint network takes, forward and backward, by number format, against float32.

    python benchmarks/training_step.py                  # two minutes on one core
    python benchmarks/training_step.py --compile        # and with fused blocks: some minutes more

Every way is timed in turn, several times over, on the same batch and one thread; the median is printed, and its ratio to
float32. The floor of a matrix product of bfloat16 on a CPU with AVX512-BF16 is half the time of float32.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from rich.console import Console

from mova.checkpoints.load import load_checkpoint
from mova.lab.documents import machine, write_json
from mova.models.joint import JointModel
from mova.training.precision import PlainAttention

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="also with fused blocks")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "training_step.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ways = {
        "float32": step_of(arguments.batch, torch.float32, is_plain=False),
        "bfloat16": step_of(arguments.batch, torch.bfloat16, is_plain=False),
        "bfloat16, plain attention": step_of(arguments.batch, torch.bfloat16, is_plain=True),
    }
    if arguments.compile:
        ways["bfloat16, plain attention, fused"] = step_of(arguments.batch, torch.bfloat16, is_plain=True, is_fused=True)
    for step in ways.values():
        step()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.runs):
        for name, step in ways.items():
            begin = time.process_time()
            step()
            times[name].append(time.process_time() - begin)
    seconds = {name: statistics.median(values) for name, values in times.items()}
    console = Console(width=120)
    for name, value in seconds.items():
        ratio = seconds["float32"] / value
        console.print(f"{name:34} {value:.2f} CPU s for {arguments.batch} clips, {ratio:.2f} times float32")
    made = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(arguments.output, {"made": made, "machine": machine(), "batch": arguments.batch, "seconds": seconds})


def step_of(batch: int, dtype: torch.dtype, *, is_plain: bool, is_fused: bool = False) -> Callable[[], None]:
    """One step of the shipped network on noise, in one way."""
    network: JointModel = load_checkpoint("mova-base").transformer.requires_grad_(True).train()
    if is_plain:
        network.set_attn_processor(PlainAttention())
    if is_fused:
        network.compile_repeated_blocks()
    made = torch.Generator().manual_seed(0)
    video = torch.randn(batch, network.config["video"]["in_dim"], 9, 12, 12, generator=made)
    audio = torch.randn(batch, network.config["audio"]["in_dim"], 66, generator=made)
    text = torch.randn(batch, 32, network.config["video"]["text_dim"], generator=made)
    levels = 1000.0 * torch.rand(batch, generator=made)

    def step() -> None:
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            out = network(
                video, audio, video_timestep=levels, audio_timestep=levels, text_embeds=text, video_fps=16.0,
                a2v_scale=torch.ones(batch), v2a_scale=torch.ones(batch),
            )  # fmt: skip
        (out.video.float().square().mean() + out.audio.float().square().mean()).backward()

    return step


if __name__ == "__main__":
    main()
