"""Measures every direction of the shipped model against the rendered world: given one thing, how good is the rest?

    python benchmarks/directions.py                                   # 24 clips a task, some minutes on two cores
    python benchmarks/directions.py --per-kind 3 --seeds 3            # 72 clips a task
    python benchmarks/directions.py --tasks video_to_audio,extend --kinds drums --per-kind 4 --steps 4

Films and sounds are rendered from scripts that training never used; what is given is the truth, what is made is judged by
the same detectors as in ``base_model.py``. Prints a line a task as it is done, then a Markdown table of what must be reached
and what is, and writes JSON.
"""

from __future__ import annotations

import argparse
import functools
import os
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from rich.console import Console

from mova.evaluation.acceptance import Verdict, judge, summarise
from mova.evaluation.documents import machine, write_json
from mova.evaluation.suite.clips import BridgeOff
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
from mova.sampling.windows import plan_windows
from mova.scenes.script import Script
from mova.scenes.world import KINDS, render, sample_scripts

ROOT = Path(__file__).parents[1]
TEST_SEED = 991_000
FPS, RATE = Fraction(16), 16000
BATCH = 10


@dataclass(frozen=True, eq=False)
class Case:
    """One clip to be made: its truth and the seed of what is made."""

    script: Script
    truth: Clip
    seed: int


Reading = dict[str, Any]
Pixels = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True, eq=False)
class Maker:
    """The model and how it is run."""

    pipeline: MOVAPipeline
    steps: int | None
    long_s: float


@dataclass(frozen=True)
class Work:
    """One worker's share of one task."""

    task: str
    checkpoint: str
    kinds: tuple[str, ...]
    per_kind: int
    seeds: int
    steps: int | None
    long_s: float
    long_clips: int
    first: int
    step: int


@dataclass(frozen=True)
class Floor:
    """A line of the table: a number of a task, and what it must reach.

    Args:
        task: Which.
        words: What it is.
        value: From the results of all tasks.
        limit: Likewise; at most this where ``is_ceiling``, else at least.
        is_ceiling: Whether less is better.
    """

    task: str
    words: str
    value: Callable[[Mapping[str, Any]], float]
    limit: Callable[[Mapping[str, Any]], float]
    is_ceiling: bool = False


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="mova-base", help="name or folder of the model")
    parser.add_argument("--tasks", default=",".join(TASKS), help="tasks to measure")
    parser.add_argument("--per-kind", type=int, default=3, help="scripts per kind and seed")
    parser.add_argument("--seeds", type=int, default=1, help="seeds per script")
    parser.add_argument("--kinds", default=",".join(KINDS), help="kinds of scene")
    parser.add_argument("--steps", type=int, help="steps of the sampler; the model's own if not given")
    parser.add_argument("--long-seconds", type=float, default=20.0, help="length of the long clips")
    parser.add_argument("--long-clips", type=int, default=1, help="long clips per worker")
    parser.add_argument("--processes", type=int, default=2, help="worker processes of one thread each")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "directions.json")
    arguments = parser.parse_args()
    began = time.monotonic()
    console = Console(width=140)
    results: dict[str, Any] = {}
    asked = arguments.tasks.split(",")
    unknown = [task for task in asked if task not in TASKS]
    if unknown:
        parser.error(f"there is no task {unknown[0]!r}; there are {', '.join(TASKS)}")
    with pool_of(arguments.processes) as run:
        for task in (name for name in TASKS if name in asked):  # in this order: memory is measured first
            work = Work(
                task=task,
                checkpoint=arguments.checkpoint,
                kinds=tuple(arguments.kinds.split(",")),
                per_kind=arguments.per_kind,
                seeds=arguments.seeds,
                steps=arguments.steps,
                long_s=arguments.long_seconds,
                long_clips=arguments.long_clips,
                first=0,
                step=arguments.processes,
            )
            parts = [replace(work, first=first) for first in range(arguments.processes)]
            results[task] = summary([reading for part in run(measure, parts) for reading in part])
            console.print(f"{task}: " + ", ".join(f"{name} {shown(value)}" for name, value in results[task].items()))
    rows = table(results)
    console.print("\n" + markdown(rows), highlight=False)
    write_json(
        arguments.output,
        {
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "options": {**vars(arguments), "output": str(arguments.output.name), "seed": TEST_SEED},
            "minutes": round((time.monotonic() - began) / 60.0, 2),
            "tasks": results,
            "table": rows,
        },
    )
    console.print(f"written to {arguments.output}")


@contextmanager
def pool_of(processes: int) -> Iterator[Callable[..., Any]]:
    """A ``map`` over worker processes; one process is this one."""
    if processes == 1:
        yield map
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield pool.map


def measure(work: Work) -> list[Reading]:
    """One worker's share of one task; model and truth are kept from task to task."""
    torch.set_num_threads(1)
    maker = loaded(work.checkpoint, work.steps, work.long_s)
    cases = rendered(work.kinds, work.per_kind, work.seeds)[work.first :: work.step]
    if work.task == "long":  # ten times as long, so fewer
        cases = cases[: work.long_clips]
    return [reading for start in range(0, len(cases), BATCH) for reading in TASKS[work.task](maker, cases[start:][:BATCH])]


@functools.cache
def loaded(checkpoint: str, steps: int | None, long_s: float) -> Maker:
    """The model, once a worker."""
    return Maker(MOVAPipeline.from_pretrained(checkpoint), steps, long_s)


@functools.cache
def rendered(kinds: tuple[str, ...], per_kind: int, seeds: int) -> list[Case]:
    """All cases, kinds in turn, so that every worker has some of each."""
    scripts = [list(sample_scripts(TEST_SEED, per_kind, [kind])) for kind in kinds]
    return [
        Case(script, as_clip(render(script)), seed) for column in zip(*scripts, strict=True) for script in column
        for seed in range(seeds)
    ]  # fmt: skip


def as_clip(scene: Any) -> Clip:
    """A rendered scene as a clip of the model's rates."""
    return Clip(scene.frames, scene.waveform, FPS, RATE)


@torch.no_grad()
def made(
    maker: Maker, cases: Sequence[Case], given: Sequence[Given], *, guidance: Any = None, num_frames: int = 33
) -> list[Clip]:
    """Clips made of what is given, which is in them as it was."""
    output = maker.pipeline(
        [case.script.caption for case in cases],
        num_inference_steps=maker.steps,
        seed=[(case.script.seed + 7919 * case.seed) % 2**62 for case in cases],
        given=given,
        guidance=guidance,
        num_frames=num_frames,
        output_type="clips",
    )
    timeline = maker.pipeline.world.timeline(FPS)
    return [
        keep_given(clip, one, sound=one.waveform, timeline=timeline) for clip, one in zip(output.clips, given, strict=True)
    ]


def canvas(num_frames: int = 33) -> Canvas:
    """The model's picture at a length."""
    return Canvas(width=96, height=96, num_frames=num_frames, num_samples=num_frames * 1000)


def judged(case: Case, clip: Clip) -> Reading:
    """The clip against its script."""
    return {"verdict": judge(case.script, clip.frames, clip.waveform, fps=16.0, sample_rate=RATE)}


def text(maker: Maker, cases: Sequence[Case]) -> Iterator[Reading]:
    """Nothing is given: what the other tasks are compared with."""
    for case, clip in zip(cases, made(maker, cases, [Given()] * len(cases)), strict=True):
        yield judged(case, clip)


def video_to_audio(maker: Maker, cases: Sequence[Case]) -> Iterator[Reading]:
    """The rendered film is given, its sound is made; the same with the bridge cut."""
    given = [given_film(canvas(), case.truth.frames) for case in cases]
    clips = made(maker, cases, given)
    cut = made(maker, cases, given, guidance=BridgeOff(maker.pipeline.world.guidance_scale))
    for case, clip, other in zip(cases, clips, cut, strict=True):
        without = judged(case, other)["verdict"]
        yield {**judged(case, clip), "bridge_off": without, "film kept": np.array_equal(clip.frames, case.truth.frames)}


def audio_to_video(maker: Maker, cases: Sequence[Case]) -> Iterator[Reading]:
    """The rendered sound is given, its film is made."""
    given = [given_sound(canvas(), case.truth.waveform) for case in cases]
    for case, clip in zip(cases, made(maker, cases, given), strict=True):
        yield {**judged(case, clip), "sound kept": np.array_equal(clip.waveform, case.truth.waveform)}


def first_frame(maker: Maker, cases: Sequence[Case]) -> Iterator[Reading]:
    """The first frame is given: things keep their colour, size and place in the next."""
    given = [given_pictures(canvas(), {0: case.truth.frames[0]}) for case in cases]
    for case, clip in zip(cases, made(maker, cases, given), strict=True):
        yield {**judged(case, clip), "kept": holds(clip.frames, case.truth.frames)}


def key_frame(maker: Maker, cases: Sequence[Case]) -> Iterator[Reading]:
    """A frame in the middle is given."""
    given = [given_pictures(canvas(), {16: case.truth.frames[16]}) for case in cases]
    for case, clip in zip(cases, made(maker, cases, given), strict=True):
        exact = np.array_equal(clip.frames[16], case.truth.frames[16])
        yield {**judged(case, clip), "exact": exact, **continuity(clip.frames, (15, 16), case.truth.frames)}


def retake(maker: Maker, cases: Sequence[Case]) -> Iterator[Reading]:
    """The sound from 0.8 s to 1.6 s is made anew."""
    span = (12800, 25600)
    given = [given_all_but(canvas(), case.truth, frames=None, samples=span) for case in cases]
    for case, clip in zip(cases, made(maker, cases, given), strict=True):
        seam = maker.pipeline.world.timeline(FPS).audio_hop
        outside = np.r_[: span[0] - seam, span[1] + seam : clip.waveform.shape[1]]
        kept = np.array_equal(clip.waveform[:, outside], case.truth.waveform[:, outside])
        kept = kept and np.array_equal(clip.frames, case.truth.frames)
        differs = not np.array_equal(clip.waveform[:, slice(*span)], case.truth.waveform[:, slice(*span)])
        yield {**judged(case, clip), "rest equal": kept, "new differs": differs}


def extend(maker: Maker, cases: Sequence[Case]) -> Iterator[Reading]:
    """The first 17 frames are given, the clip goes on to 33."""
    halves = [replace(case.truth, frames=case.truth.frames[:17], waveform=case.truth.waveform[:, :17000]) for case in cases]
    given = [given_beginning(canvas(), half) for half in halves]
    for case, clip in zip(cases, made(maker, cases, given), strict=True):
        yield {**judged(case, clip), **continuity(clip.frames, (16,), case.truth.frames)}


def long(maker: Maker, cases: Sequence[Case]) -> Iterator[Reading]:
    """20 s from the 2 s model, in overlapping windows; the memory that it took, against that of 4 s."""
    made(maker, cases[:1], [Given()], num_frames=65)
    before = peak_bytes()
    ratio = 0.0
    for case in cases:
        (clip,) = made(maker, [case], [Given()], num_frames=round(maker.long_s * float(FPS)))
        ratio = ratio or peak_bytes() / before  # before a film is judged, which takes memory of its own
        yield {**judged(case, clip), "memory ratio": ratio, **seams_inside(maker.pipeline, clip)}


TASKS: dict[str, Callable[[Maker, Sequence[Case]], Iterator[Reading]]] = {
    "long": long,
    "text": text,
    "video_to_audio": video_to_audio,
    "audio_to_video": audio_to_video,
    "first_frame": first_frame,
    "key_frame": key_frame,
    "retake": retake,
    "extend": extend,
}


def at_least(task: str, words: str, name: str, limit: float) -> Floor:
    """A number that must reach a fixed one."""
    return Floor(task, words, lambda results: results[task][name], lambda results: limit)


FLOORS = (
    at_least("video_to_audio", "event F1 at 45 ms", "F1@45", 0.8),
    Floor("video_to_audio", "its gain over the bridge-off run",
          lambda results: results["video_to_audio"]["F1@45"] - results["video_to_audio"]["bridge off F1@45"],
          lambda results: 0.5),
    Floor("video_to_audio", "median offset, ms",
          lambda results: results["video_to_audio"]["median ms"], lambda results: 25.0, is_ceiling=True),
    at_least("video_to_audio", "film kept to the bit", "film kept", 1.0),
    at_least("audio_to_video", "event F1 at 45 ms", "F1@45", 0.7),
    at_least("audio_to_video", "sound kept to the bit", "sound kept", 1.0),
    at_least("first_frame", "colour, size and place kept", "kept", 0.95),
    at_least("key_frame", "the frame is at its time, to the bit", "exact", 1.0),
    Floor("key_frame", "motion through it continuous, as often as in rendered films",
          lambda results: results["key_frame"]["continuous"], lambda results: results["key_frame"]["truth continuous"]),
    at_least("retake", "untouched part kept to the bit", "rest equal", 1.0),
    at_least("retake", "new part differs", "new differs", 1.0),
    Floor("retake", "event F1 at 45 ms, as in text",
          lambda results: results["retake"]["F1@45"], lambda results: results["text"]["F1@45"]),
    Floor("extend", "goes on in place and velocity, as often as rendered films",
          lambda results: results["extend"]["continuous"], lambda results: results["extend"]["truth continuous"]),
    Floor("long", "event F1 at 45 ms, within 5 points of text",
          lambda results: results["long"]["F1@45"], lambda results: results["text"]["F1@45"] - 0.05),
    at_least("long", "change of picture at a border within 95 % of the interior's", "picture seams inside", 0.9),
    at_least("long", "change of level at a border within 95 % of the interior's", "level seams inside", 0.9),
    Floor("long", "peak memory over that of 4 s",
          lambda results: results["long"]["memory ratio"], lambda results: 1.1, is_ceiling=True),
)  # fmt: skip


def table(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The lines whose tasks were measured."""
    rows: list[dict[str, Any]] = []
    for floor in FLOORS:
        try:
            value, limit = floor.value(results), floor.limit(results)
        except KeyError:
            continue
        is_met = value <= limit if floor.is_ceiling else value >= limit
        sign = "<=" if floor.is_ceiling else ">="
        rows.append({"task": floor.task, "what": floor.words, "sign": sign, "floor": limit, "value": value, "met": is_met})
    return rows


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table as it goes into a report."""
    lines = ["| task | what | floor | value | met |", "|---|---|---|---|---|"]
    for row in rows:
        floor, value = f"{row['sign']} {row['floor']:.2f}", f"{row['value']:.2f}"
        lines.append(f"| {row['task']} | {row['what']} | {floor} | {value} | {'yes' if row['met'] else 'no'} |")
    return "\n".join(lines)


def holds(frames: Pixels, truth: Pixels) -> bool:
    """Whether the frame after the given one shows the same things, as far as the true film's does.

    Every pixel of a thing (what stands out of the commonest colour by more than 40 of 255) must have one of its colour within
    5 pixels in the other frame, both ways: so colour, size and place are kept, and a thing that moves a little is too.
    """
    return alike(frames[0], frames[1]) >= alike(truth[0], truth[1]) - 0.05


def alike(first: Pixels, second: Pixels, *, reach: int = 5, far: int = 40) -> float:
    """The share of the things' pixels, of both pictures, that are found in the other."""
    def found(one: Pixels, other: Pixels) -> float:
        coarse = one.reshape(-1, 3) // 16
        _, index, counts = np.unique(coarse, axis=0, return_index=True, return_counts=True)
        ground = one.reshape(-1, 3)[index[counts.argmax()]].astype(np.int16)
        thing = np.abs(one.astype(np.int16) - ground).max(axis=-1) > far
        padded = np.pad(other.astype(np.int16), ((reach, reach), (reach, reach), (0, 0)), mode="edge")
        nearest = np.full(one.shape[:2], 255, np.int16)
        for down in range(2 * reach + 1):
            for right in range(2 * reach + 1):
                part = padded[down : down + one.shape[0], right : right + one.shape[1]]
                nearest = np.minimum(nearest, np.abs(part - one).max(axis=-1))
        return float((nearest[thing] <= far).mean()) if thing.any() else 1.0

    return min(found(first, second), found(second, first))


def continuity(frames: Pixels, seams: Sequence[int], truth: Pixels) -> Reading:
    """Whether a film goes on over its seams in place and velocity, and whether the true film does by the same measure.

    Args:
        frames: The film.
        seams: Each the frame before a border of given and made.
        truth: The rendered film.
    """
    return {"continuous": is_continuous(frames, seams, truth), "truth continuous": is_continuous(truth, seams, truth)}


def is_continuous(frames: Pixels, seams: Sequence[int], truth: Pixels) -> bool:
    """Whether the change over the seams, and the change of that change, is within the 95th percentile of those inside, of the
    film or of the true one.
    """
    for order in (1, 2):
        change, usual = jumps(frames, order), jumps(truth, order)
        over = sorted({index for seam in seams for index in range(seam - order + 1, seam + 1)})
        limit = max(np.quantile(np.delete(change, over), 0.95), np.quantile(usual, 0.95))
        if change[over].max() > limit:
            return False
    return True


def seams_inside(pipeline: MOVAPipeline, clip: Clip) -> Reading:
    """The share of the windows' borders over which picture and level change no more than at 95 % of the moments inside."""
    timeline = pipeline.world.timeline(FPS)
    num_video = timeline.video_latents(timeline.next_legal_frames(len(clip.frames)))
    longest = timeline.video_latents(pipeline.world.max_frames)
    num_audio = timeline.audio_latents(timeline.frames_of_latents(num_video))
    windows = plan_windows(num_video, num_audio, timeline=timeline, max_video=longest)[:-1]
    films = [timeline.frames_of_latents(window.video[1]) - 1 for window in windows]
    sounds = [window.audio[1] - 1 for window in windows]
    power = np.square(clip.waveform[0, : len(clip.waveform[0]) // timeline.audio_hop * timeline.audio_hop])
    level = 10.0 * np.log10(power.reshape(-1, timeline.audio_hop).mean(axis=1) + 1e-8)
    return {
        "picture seams inside": within(jumps(clip.frames, 1), films),
        "level seams inside": within(np.abs(np.diff(level)), sounds),
    }


def within(change: np.ndarray[Any, Any], seams: Sequence[int]) -> float:
    """The share of seams whose change is within the 95th percentile of the others."""
    return float((change[list(seams)] <= np.quantile(np.delete(change, seams), 0.95)).mean())


def jumps(film: Pixels, order: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Mean absolute difference of an order along time."""
    difference = np.diff(film.astype(np.int16), n=order, axis=0)
    mean: np.ndarray[Any, np.dtype[np.float64]] = np.abs(difference).mean(axis=(1, 2, 3))
    return mean


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
        result[name] = max(values) if name == "memory ratio" else float(np.mean(values))
    return result


def shown(value: Any) -> str:
    """A number in few characters."""
    return str(value) if isinstance(value, int) else f"{value:.2f}"


def peak_bytes() -> int:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
