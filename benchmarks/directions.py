"""Measures every direction of the shipped model against the rendered world: given one thing, how good is the rest?

    python benchmarks/directions.py
    python benchmarks/directions.py --tasks video_to_audio,extend --per-kind 4 --seeds 1

Films and sounds are rendered from scripts that training never used; what is given is the truth, what is made is judged by
the same detectors as in ``base_model.py``. Prints one line a task and writes JSON.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from base_model import BridgeOff, machine, write_json
from rich.console import Console

from mova.evaluation.acceptance import Verdict, judge, summarise
from mova.given import (
    Given,
    given_all_but,
    given_beginning,
    given_film,
    given_pictures,
    given_sound,
    keep_given,
)
from mova.media.clip import Clip
from mova.pipeline import MOVAPipeline
from mova.plan import Canvas
from mova.scenes.script import Script
from mova.scenes.world import KINDS, render, sample_scripts

ROOT = Path(__file__).parents[1]
TEST_SEED = 991_000
FPS, RATE = Fraction(16), 16000
SEAM_S = 500 / 16000
BATCH = 10
LONG_S = 20.0


@dataclass(frozen=True, eq=False)
class Case:
    """One clip to be made: its truth and the seed of what is made."""

    script: Script
    truth: Clip
    seed: int


Reading = dict[str, Any]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="mova-base", help="name or folder of the model")
    parser.add_argument("--tasks", default=",".join(TASKS), help="tasks to measure")
    parser.add_argument("--per-kind", type=int, default=3, help="scripts per kind and seed")
    parser.add_argument("--seeds", type=int, default=3, help="seeds per script")
    parser.add_argument("--processes", type=int, default=2, help="worker processes of one thread each")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "directions.json")
    arguments = parser.parse_args()
    began = time.monotonic()
    console = Console(width=140)
    results: dict[str, Any] = {}
    for task in arguments.tasks.split(","):
        parts = [(task, arguments.checkpoint, arguments.per_kind, arguments.seeds, n, arguments.processes)
                 for n in range(arguments.processes)]  # fmt: skip
        with ProcessPoolExecutor(arguments.processes, mp_context=get_context("spawn")) as pool:
            readings = [reading for part in pool.map(measure, parts) for reading in part]
        results[task] = summary(readings)
        console.print(f"{task}: " + ", ".join(f"{name} {shown(value)}" for name, value in results[task].items()))
    write_json(
        arguments.output,
        {
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "options": {"per_kind": arguments.per_kind, "seeds": arguments.seeds, "seed": TEST_SEED},
            "minutes": round((time.monotonic() - began) / 60.0, 2),
            "tasks": results,
        },
    )
    console.print(f"written to {arguments.output}")


@torch.no_grad()
def measure(part: tuple[str, str, int, int, int, int]) -> list[Reading]:
    """One worker's share of one task."""
    task, checkpoint, per_kind, seeds, first, step = part
    torch.set_num_threads(1)
    pipeline = MOVAPipeline.from_pretrained(checkpoint)
    scripts = [script for kind in KINDS for script in sample_scripts(TEST_SEED, per_kind, [kind])]
    cases = [(script, seed) for script in scripts for seed in range(seeds)][first::step]
    rendered = [Case(script, as_clip(render(script)), seed) for script, seed in cases]
    return [reading for start in range(0, len(rendered), BATCH) for reading in TASKS[task](pipeline, rendered[start:][:BATCH])]


def as_clip(scene: Any) -> Clip:
    """A rendered scene as a clip of the model's rates."""
    return Clip(scene.frames, scene.waveform, FPS, RATE)


def made(
    pipeline: MOVAPipeline, cases: Sequence[Case], given: Sequence[Given], *, guidance: Any = None, num_frames: int = 33
) -> list[Clip]:
    """Clips made of what is given, which is in them as it was."""
    output = pipeline(
        [case.script.caption for case in cases],
        seed=[(case.script.seed + 7919 * case.seed) % 2**62 for case in cases],
        given=given,
        guidance=guidance,
        num_frames=num_frames,
    )
    return [
        keep_given(clip, one, sound=one.waveform, seam_s=SEAM_S) for clip, one in zip(output.clips, given, strict=True)
    ]


def canvas(num_frames: int = 33) -> Canvas:
    """The model's picture at a length."""
    return Canvas(width=96, height=96, num_frames=num_frames, num_samples=num_frames * 1000)


def judged(case: Case, clip: Clip) -> Reading:
    """The clip against its script."""
    return {"verdict": judge(case.script, clip.frames, clip.waveform, fps=16.0, sample_rate=RATE)}


def text(pipeline: MOVAPipeline, cases: Sequence[Case]) -> Iterator[Reading]:
    """Nothing is given: what the other tasks are compared with."""
    for case, clip in zip(cases, made(pipeline, cases, [Given()] * len(cases)), strict=True):
        yield judged(case, clip)


def video_to_audio(pipeline: MOVAPipeline, cases: Sequence[Case]) -> Iterator[Reading]:
    """The rendered film is given, its sound is made; the same with the bridge cut."""
    given = [given_film(canvas(), case.truth.frames) for case in cases]
    clips = made(pipeline, cases, given)
    cut = made(pipeline, cases, given, guidance=BridgeOff(pipeline.world.guidance_scale))
    for case, clip, other in zip(cases, clips, cut, strict=True):
        without = judged(case, other)["verdict"]
        yield {**judged(case, clip), "bridge_off": without, "film kept": np.array_equal(clip.frames, case.truth.frames)}


def audio_to_video(pipeline: MOVAPipeline, cases: Sequence[Case]) -> Iterator[Reading]:
    """The rendered sound is given, its film is made."""
    given = [given_sound(canvas(), case.truth.waveform) for case in cases]
    for case, clip in zip(cases, made(pipeline, cases, given), strict=True):
        yield {**judged(case, clip), "sound kept": np.array_equal(clip.waveform, case.truth.waveform)}


def first_frame(pipeline: MOVAPipeline, cases: Sequence[Case]) -> Iterator[Reading]:
    """The first frame is given: things keep their colour, size and place in the next frames."""
    given = [given_pictures(canvas(), {0: case.truth.frames[0]}) for case in cases]
    for case, clip in zip(cases, made(pipeline, cases, given), strict=True):
        yield {**judged(case, clip), "kept": holds(clip.frames, case.truth.frames)}


def key_frame(pipeline: MOVAPipeline, cases: Sequence[Case]) -> Iterator[Reading]:
    """A frame in the middle is given."""
    given = [given_pictures(canvas(), {16: case.truth.frames[16]}) for case in cases]
    for case, clip in zip(cases, made(pipeline, cases, given), strict=True):
        exact = np.array_equal(clip.frames[16], case.truth.frames[16])
        yield {**judged(case, clip), "exact": exact, "continuous": is_continuous(clip.frames, (15, 16), case.truth.frames)}


def retake(pipeline: MOVAPipeline, cases: Sequence[Case]) -> Iterator[Reading]:
    """The sound from 0.8 s to 1.6 s is made anew."""
    span = (12800, 25600)
    given = [given_all_but(canvas(), case.truth, frames=None, samples=span) for case in cases]
    for case, clip in zip(cases, made(pipeline, cases, given), strict=True):
        seam = round(SEAM_S * RATE)
        outside = np.r_[: span[0] - seam, span[1] + seam : clip.waveform.shape[1]]
        kept = np.array_equal(clip.waveform[:, outside], case.truth.waveform[:, outside])
        kept = kept and np.array_equal(clip.frames, case.truth.frames)
        differs = not np.array_equal(clip.waveform[:, slice(*span)], case.truth.waveform[:, slice(*span)])
        yield {**judged(case, clip), "rest equal": kept, "new differs": differs}


def extend(pipeline: MOVAPipeline, cases: Sequence[Case]) -> Iterator[Reading]:
    """The first 17 frames are given, the clip goes on to 33."""
    halves = [replace(case.truth, frames=case.truth.frames[:17], waveform=case.truth.waveform[:, :17000]) for case in cases]
    given = [given_beginning(canvas(), half) for half in halves]
    for case, clip in zip(cases, made(pipeline, cases, given), strict=True):
        yield {**judged(case, clip), "continuous": is_continuous(clip.frames, (16,), case.truth.frames)}


def long(pipeline: MOVAPipeline, cases: Sequence[Case]) -> Iterator[Reading]:
    """20 s from the 2 s model, in overlapping windows; the memory it took."""
    frames = round(LONG_S * float(FPS))
    for case in cases[:2]:  # ten times as long, so fewer
        before = peak_bytes()
        (clip,) = made(pipeline, [case], [Given()], num_frames=frames)
        yield {**judged(case, clip), "grown by MB": (peak_bytes() - before) / 1e6}


TASKS: dict[str, Callable[[MOVAPipeline, Sequence[Case]], Iterator[Reading]]] = {
    "text": text,
    "video_to_audio": video_to_audio,
    "audio_to_video": audio_to_video,
    "first_frame": first_frame,
    "key_frame": key_frame,
    "retake": retake,
    "extend": extend,
    "long": long,
}


def holds(frames: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> bool:
    """Whether frames 1 to 4 show what the given frame shows, as far as the true film's own frames do.

    The share of pixels that differ from the given frame by more than 40 of 255 may be above the true film's by 4 %: a
    thing of another colour, size or place would cover more.
    """
    def changed(film: np.ndarray[Any, Any]) -> float:
        away = np.abs(film[1:5].astype(np.int16) - film[:1].astype(np.int16)).max(axis=-1)
        return float((away > 40).mean())

    return changed(frames) <= changed(truth) + 0.04


def is_continuous(frames: np.ndarray[Any, Any], seams: Sequence[int], truth: np.ndarray[Any, Any]) -> bool:
    """Whether the change over each seam is within the 95th percentile of the changes inside, of the clip or of the truth."""
    def jumps(film: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.abs(np.diff(film.astype(np.int16), axis=0)).mean(axis=(1, 2, 3))

    change = jumps(frames)
    inside = np.delete(change, list(seams))
    limit = max(float(np.quantile(inside, 0.95)), float(np.quantile(jumps(truth), 0.95)))
    return bool(change[list(seams)].max() <= limit)


def summary(readings: Sequence[Reading]) -> dict[str, Any]:
    """Sync and adherence of the verdicts, and the mean of every other number."""
    result: dict[str, Any] = {"clips": len(readings)}
    for key in ("verdict", "bridge_off"):
        verdicts: list[Verdict] = [reading[key] for reading in readings if key in reading]
        if not verdicts:
            continue
        found, prefix = summarise(verdicts), "" if key == "verdict" else "bridge off "
        result[f"{prefix}F1@45"] = found.sync.windows["45"].f1
        result[f"{prefix}F1@80"] = found.sync.windows["80"].f1
        result[f"{prefix}median ms"] = found.sync.median_abs_ms
        if key == "verdict":
            result |= {name: found.means[name].value for name in ("colour", "count") if name in found.means}
    for name in sorted({name for reading in readings for name in reading} - {"verdict", "bridge_off"}):
        values = [float(reading[name]) for reading in readings if name in reading]
        result[name] = max(values) if name.endswith("MB") else float(np.mean(values))
    return result


def shown(value: Any) -> str:
    """A number in few characters."""
    return str(value) if isinstance(value, int) else f"{value:.2f}"


def peak_bytes() -> int:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
