"""Measures what the codecs of a model, or two folders of codecs, keep of rendered clips.

    python benchmarks/codecs.py --checkpoint mova-base
    python benchmarks/codecs.py --codecs runs/base/video_codec/codec runs/base/audio_codec/codec

Scripts come from a seed that training never uses. Prints a line a kind and writes JSON.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from fractions import Fraction
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from rich.console import Console

from mova.data.workers import worker_pool
from mova.lab.codec import CodecReading, CodecSummary, compare, summarise_codec
from mova.lab.documents import machine, write_json
from mova.lab.suite.clips import through_codecs
from mova.lab.suite.words import number, span
from mova.models.codecs.audio import AudioCodec
from mova.models.codecs.video import VideoCodec
from mova.pipeline import MOVAPipeline
from mova.pipeline.codecs import Codecs
from mova.scenes.kinds import KINDS
from mova.scenes.script import Script
from mova.scenes.world import render, sample_scripts
from mova.timeline import Timeline

TEST_SEED = 990_000
ROOT = Path(__file__).parents[1]
FPS, RATE = Fraction(16), 16000
WANTED = {  # floor, goal
    "PSNR of what moves, dB": (None, 32.0),
    "onset error, ms": (5.0, 2.0),
    "share of notes that are what they were": (0.8, 0.98),
}


def load_codecs(video: Path, audio: Path) -> Codecs:
    """Two codecs that are in no model yet, from their folders."""
    return Codecs(VideoCodec.from_pretrained(video).eval(), AudioCodec.from_pretrained(audio).eval())


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="mova-base", help="name or folder of the model")
    parser.add_argument("--codecs", nargs=2, type=Path, metavar=("VIDEO", "AUDIO"), help="two codec folders in its place")
    parser.add_argument("--per-kind", type=int, default=10, help="clips per kind")
    parser.add_argument("--processes", type=int, default=2, help="worker processes of one thread each")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "base_codecs.json")
    asked = parser.parse_args()
    scripts = [script for kind in KINDS for script in sample_scripts(TEST_SEED, asked.per_kind, [kind])]
    read = partial(readings, asked.checkpoint, asked.codecs)
    with worker_pool(asked.processes) as pool:
        shares = [scripts[first :: asked.processes] for first in range(asked.processes)]
        found = [pair for part in pool.map(read, shares) for pair in part]
    kinds = {kind: summarise_codec([reading for one, reading in found if one == kind]) for kind in KINDS}
    summaries = {"all": summarise_codec([reading for _, reading in found]), **kinds}
    Console(width=140).print(markdown(summaries), markup=False, highlight=False)
    write_json(
        asked.output,
        {
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "codecs": [str(folder) for folder in asked.codecs or (asked.checkpoint,)],
            "seed": TEST_SEED,
            "per_kind": asked.per_kind,
            "kinds": {kind: asdict(summary) for kind, summary in summaries.items()},
        },
    )


def readings(checkpoint: str, folders: Sequence[Path] | None, scripts: Sequence[Script]) -> list[tuple[str, CodecReading]]:
    """Kind and reading of each script's clip, in one process of one thread."""
    torch.set_num_threads(1)
    codecs = load_codecs(*folders) if folders else MOVAPipeline.from_pretrained(checkpoint).codecs
    strides = codecs.video_vae.config.scale_factor_temporal, codecs.audio_vae.config.hop_length
    timeline, found = Timeline(FPS, RATE, *strides), []
    for script in scripts:
        truth = render(script, fps=FPS, sample_rate=RATE).clip()
        found.append((script.kind, compare(script, truth, through_codecs(codecs, timeline, truth))))
    return found


def markdown(summaries: Mapping[str, CodecSummary]) -> str:
    """A line a kind, then what must be reached by all kinds together."""
    heads = ("kind", "PSNR", "moving", "onset ms", "95 %", "heard", "extra", "sight ms", "seen", "extra", "names right", "95 %")
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for kind, one in summaries.items():
        onset = (number(one.onset_error_ms), span(one.onset_interval))
        heard = (number(value) for value in (one.heard, one.heard_extra, one.sight_error_ms, one.seen, one.seen_extra))
        names = (number(one.names_right), span(one.names_interval))
        lines.append(f"| {' | '.join([kind, number(one.psnr_db), number(one.moving_psnr_db), *onset, *heard, *names])} |")
    every = summaries["all"]
    measured = (every.moving_psnr_db, every.onset_error_ms, summaries["piano"].names_right)
    values = dict(zip(WANTED, measured, strict=True))
    lines += ["", "| what | value | floor | goal |", "|" + "---|" * 4]
    lines += [f"| {name} | {number(values[name])} | {number(low)} | {number(goal)} |" for name, (low, goal) in WANTED.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
