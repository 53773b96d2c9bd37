"""Measures what the codecs of a model, or two folders of codecs, keep of rendered clips.

    python benchmarks/codecs.py --checkpoint mova-base
    python benchmarks/codecs.py --codecs runs/base/video_codec/codec runs/base/audio_codec/codec

Scripts come from a seed that training never uses. Prints a line a kind and writes JSON.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from fractions import Fraction
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console

from mova.checkpoints.layout import read_index, resolve_model
from mova.data.shards import worker_pool
from mova.lab.documents import machine, write_json
from mova.lab.numbers import Interval, interval, mean_interval, median
from mova.lab.read.readers import read_events
from mova.lab.suite.clips import through_codecs
from mova.lab.suite.tables import number, span
from mova.lab.sync.pairing import match
from mova.media.clip import Clip
from mova.models.codecs.audio import AudioCodec
from mova.models.codecs.video import VideoCodec
from mova.pipeline import MOVAPipeline
from mova.pipeline.latents import Codecs
from mova.scenes.clapper.scene import as_scene
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

WINDOW_MS = 80.0
"""A true event is heard or seen if something is heard or seen this near to it."""


@dataclass(frozen=True)
class CodecReading:
    """One clip through the codecs.

    Args:
        psnr_db: PSNR of all pixels.
        moving_psnr_db: PSNR of the pixels that differ from the true clip's median over time by more than 8 of 255.
        onset_errors_ms: Heard minus true time, of each true event that is heard within 80 ms.
        sight_errors_ms: Seen minus true time, likewise.
        num_events: True events.
        num_heard: Events heard.
        num_seen: Events seen.
        names_right: Events heard that sound like what they are, where the kind's sounds tell (see ``hear``); else None.
    """

    psnr_db: float
    moving_psnr_db: float
    onset_errors_ms: tuple[float, ...]
    sight_errors_ms: tuple[float, ...]
    num_events: int
    num_heard: int
    num_seen: int
    names_right: int | None


@dataclass(frozen=True)
class CodecSummary:
    """Many clips through the codecs; 95 % intervals over clips.

    Args:
        psnr_db: Mean over clips.
        moving_psnr_db: Mean over clips.
        onset_error_ms: Median size of the error of sounds.
        onset_interval: Interval of it.
        heard: Share of true events that are heard within 80 ms.
        heard_extra: Events heard that are none, per true event.
        sight_error_ms: Median size of the error of sights.
        seen: As ``heard``.
        seen_extra: As ``heard_extra``.
        names_right: Share of true events that sound like what they are; nan where sounds have no names.
        names_interval: Interval of it.
    """

    psnr_db: float
    moving_psnr_db: float
    onset_error_ms: float
    onset_interval: Interval
    heard: float
    heard_extra: float
    sight_error_ms: float
    seen: float
    seen_extra: float
    names_right: float
    names_interval: Interval


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
    names = read_index(resolve_model(asked.checkpoint)).capabilities.kinds
    scripts = [script for kind in names for script in sample_scripts(TEST_SEED, asked.per_kind, [kind])]
    read = partial(readings, asked.checkpoint, asked.codecs)
    with worker_pool(asked.processes) as pool:
        shares = [scripts[first :: asked.processes] for first in range(asked.processes)]
        found = [pair for part in pool.map(read, shares) for pair in part]
    kinds = {kind: summarise_codec([reading for one, reading in found if one == kind]) for kind in names}
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


def compare(script: Script, truth: Clip, decoded: Clip) -> CodecReading:
    """Compare a clip that went through codecs with the clip and the script that it was.

    Args:
        script: Script with the true events.
        truth: Clip as rendered.
        decoded: The same after the codecs.
    """
    error = np.square(decoded.frames.astype(np.float64) - truth.frames)
    still = np.median(truth.frames, axis=0)
    moving = (np.abs(truth.frames - still) > 8.0).any(axis=-1)
    reading, limits = read_events(decoded, as_scene(script)), {"low_ms": -WINDOW_MS, "high_ms": WINDOW_MS}
    sights = match([event.time_s for event in script.events], reading.seen_s, **limits)
    sounds = match([event.audio_time_s for event in script.events], reading.heard_s, **limits)
    named = script.kind not in ("metronome", "fireworks")
    return CodecReading(
        psnr_db=_psnr_db(error),
        moving_psnr_db=_psnr_db(error[moving]) if moving.any() else float("nan"),
        onset_errors_ms=tuple(1000 * (reading.heard_s[j] - script.events[i].audio_time_s) for i, j in sounds),
        sight_errors_ms=tuple(1000 * (reading.seen_s[j] - script.events[i].time_s) for i, j in sights),
        num_events=len(script.events),
        num_heard=len(reading.heard),
        num_seen=len(reading.seen),
        names_right=sum(reading.heard[j].label == script.events[i].label for i, j in sounds) if named else None,
    )


def summarise_codec(readings: Sequence[CodecReading], *, num_resamples: int = 1000, seed: int = 0) -> CodecSummary:
    """Numbers of a set of clips.

    Raises:
        ValueError: If there are none.
    """
    if not readings:
        raise ValueError("summarise_codec needs at least one reading; got none.")
    picks = np.random.default_rng(seed).integers(len(readings), size=(num_resamples, len(readings)))
    onsets = [np.abs(np.asarray(reading.onset_errors_ms)) for reading in readings]
    sights = np.concatenate([np.abs(np.asarray(reading.sight_errors_ms)) for reading in readings])
    events = sum(reading.num_events for reading in readings)
    num_matched = sum(errors.size for errors in onsets)
    named = [reading for reading in readings if reading.names_right is not None]
    shares = [(reading.names_right or 0) / max(reading.num_events, 1) for reading in named]
    return CodecSummary(
        psnr_db=float(np.mean([reading.psnr_db for reading in readings])),
        moving_psnr_db=float(np.nanmean([reading.moving_psnr_db for reading in readings])),
        onset_error_ms=median(np.concatenate(onsets)),
        onset_interval=interval(np.array([median(np.concatenate([onsets[i] for i in pick])) for pick in picks])),
        heard=num_matched / events,
        heard_extra=(sum(reading.num_heard for reading in readings) - num_matched) / events,
        sight_error_ms=median(sights),
        seen=sights.size / events,
        seen_extra=(sum(reading.num_seen for reading in readings) - sights.size) / events,
        names_right=float(np.mean(shares)) if shares else float("nan"),
        names_interval=mean_interval(shares),
    )


def _psnr_db(squared_error: npt.NDArray[np.float64]) -> float:
    # half a grey level is the best that 8 bits can show
    return float(10.0 * np.log10(255.0**2 / max(float(squared_error.mean()), 0.25)))


if __name__ == "__main__":
    main()
