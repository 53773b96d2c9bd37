"""Measures every direction of the shipped model against the rendered world: given one thing, how good is the rest?

    python benchmarks/directions.py                                   # 72 clips a task, some 20 minutes on two cores
    python benchmarks/directions.py --seeds 1 --long-clips 1          # 24 clips a task
    python benchmarks/directions.py --tasks video_to_audio,extend --kinds drums --per-kind 4 --seeds 1 --steps 4

Videos and sounds are rendered from scripts that training never used; what is given is the truth, what is made is judged by
the same detectors as in ``base_model.py``. The memory that a long clip takes is measured in processes of its own. Prints a
line a task as it is done, then a Markdown table of what must be reached and what is, and writes JSON.
"""

from __future__ import annotations

import argparse
import functools
import os
import resource
import time
from collections.abc import Callable, Iterator, Sequence
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
from directions_measures import continuity, events_in, holds, position_continuity, seams_inside, still_there
from directions_table import markdown, shown, summary, table
from rich.console import Console

from mova.checkpoints.layout import read_index, resolve_model
from mova.conditioning.given import (
    Given,
    given_audio,
    given_beginning,
    given_pictures,
    given_video,
    temporal_inpaint_mask,
)
from mova.conditioning.prepare import Prepared, prepare
from mova.conditioning.reroll import reroll_request
from mova.generation.model import MOVAModel
from mova.generation.run import run_many
from mova.lab.adherence.judge import Verdict, judge_clip
from mova.lab.documents import machine, write_json
from mova.lab.suite.clips import BridgeOff
from mova.media.clip import Clip
from mova.request.plan import Canvas, resolve
from mova.request.schema import GenerationRequest
from mova.scenes.clapper.scene import as_scene
from mova.scenes.script import Script
from mova.scenes.world import render, sample_scripts

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


@dataclass(frozen=True, eq=False)
class Maker:
    """The model and how it is run."""

    model: MOVAModel
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


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="mova-base", help="name or folder of the model")
    parser.add_argument("--tasks", default=",".join(TASKS), help="tasks to measure")
    parser.add_argument("--per-kind", type=int, default=3, help="scripts per kind")
    parser.add_argument("--seeds", type=int, default=3, help="seeds per script")
    parser.add_argument("--kinds", help="kinds of scene; the model's own if not given")
    parser.add_argument("--steps", type=int, help="steps of the sampler; the model's own if not given")
    parser.add_argument("--long-seconds", type=float, default=20.0, help="length of the long clips")
    parser.add_argument("--long-clips", type=int, default=3, help="long clips in all, of the kinds in turn")
    parser.add_argument("--processes", type=int, default=2, help="worker processes of one thread each")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "directions.json")
    arguments = parser.parse_args()
    began = time.monotonic()
    of_model = read_index(resolve_model(arguments.checkpoint)).capabilities.kinds
    kinds = tuple(arguments.kinds.split(",")) if arguments.kinds else of_model
    console = Console(width=140)
    results: dict[str, Any] = {}
    asked = arguments.tasks.split(",")
    unknown = [task for task in asked if task not in TASKS]
    if unknown:
        parser.error(f"there is no task {unknown[0]!r}; there are {', '.join(TASKS)}")
    with pool_of(arguments.processes) as run:
        for task in (name for name in TASKS if name in asked):  # long comes first
            work = Work(
                task=task,
                checkpoint=arguments.checkpoint,
                kinds=kinds,
                per_kind=arguments.per_kind,
                seeds=arguments.seeds,
                steps=arguments.steps,
                long_s=arguments.long_seconds,
                long_clips=arguments.long_clips,
                first=0,
                step=arguments.processes,
            )
            parts = [replace(work, first=first) for first in range(arguments.processes)]
            # memory before anything is made here: a process begins with the peak of the one that starts it
            peaks = memory(work) if task == "long" else {}
            results[task] = summary([reading for part in run(measure, parts) for reading in part]) | peaks
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
    cases = rendered(work.kinds, work.per_kind, work.seeds)
    if work.task == "long":  # ten times as long, so fewer; with one seed first, so that they are of many kinds
        cases = [case for seed in range(work.seeds) for case in cases[seed :: work.seeds]][: work.long_clips]
    cases = cases[work.first :: work.step]
    batches = (tuple(cases[start : start + BATCH]) for start in range(0, len(cases), BATCH))
    return [reading for batch in batches for reading in TASKS[work.task](maker, batch)]


def memory(work: Work) -> dict[str, float]:
    """The most memory that a process takes for one long clip, over that for one of 4 s; each process is fresh."""
    spawn = get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as one, ProcessPoolExecutor(1, mp_context=spawn) as other:
        asked = one.submit(peak_bytes, work, 65), other.submit(peak_bytes, work, round(work.long_s * float(FPS)))
        short, long = (peak.result() for peak in asked)
    return {"memory ratio": long / short, "memory ratio clips": 2, "peak MB of 4 s": short / 1e6, "peak MB of long": long / 1e6}


def peak_bytes(work: Work, num_frames: int) -> int:
    """The most memory that this process has held once it has made a clip."""
    torch.set_num_threads(1)
    made(loaded(work.checkpoint, work.steps, work.long_s), rendered(work.kinds[:1], 1, 1), [Given()], num_frames=num_frames)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@functools.cache
def loaded(checkpoint: str, steps: int | None, long_s: float) -> Maker:
    """The model, once a worker."""
    return Maker(MOVAModel.from_pretrained(checkpoint), steps, long_s)


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
    maker: Maker,
    cases: Sequence[Case],
    given: Sequence[Given],
    *,
    audio_seeds: Sequence[int] | None = None,
    guidance: Any = None,
    num_frames: int = 33,
) -> list[Clip]:
    """Clips made of what is given, which is in them as it was."""
    prepared = []
    for index, (case, one) in enumerate(zip(cases, given, strict=True)):
        request = GenerationRequest(
            prompt=case.script.caption,
            seed=seed_of(case),
            audio_seed=None if audio_seeds is None else audio_seeds[index],
            num_inference_steps=maker.steps,
            num_frames=num_frames,
        )
        prepared.append(Prepared(resolve(request, maker.model.capabilities), one, audio=one.waveform))
    return run_many(maker.model, prepared, batch_size=len(prepared), guidance=guidance)


def seed_of(case: Case) -> int:
    """The noise of a case's clip."""
    return (case.script.seed + 7919 * case.seed) % 2**62


@functools.cache
def from_text(maker: Maker, cases: tuple[Case, ...]) -> list[Clip]:
    """Clips of which nothing is given, made once a worker."""
    return made(maker, cases, [Given()] * len(cases))


def canvas(num_frames: int = 33) -> Canvas:
    """The model's picture at a length."""
    return Canvas(width=96, height=96, num_frames=num_frames, num_samples=num_frames * 1000)


def judged(case: Case, clip: Clip) -> Reading:
    """The clip against its script."""
    return {"verdict": judge_clip(clip, as_scene(case.script))}


def motion(case: Case, clip: Clip, seams: Sequence[int]) -> Reading:
    """How the clip goes on over borders of given and made; of a ball, its place too."""
    videos = clip.frames, seams, case.truth.frames
    return {**continuity(*videos), **(position_continuity(*videos) if case.script.kind == "ball" else {})}


def text(maker: Maker, cases: tuple[Case, ...]) -> Iterator[Reading]:
    """Nothing is given: what the other tasks are compared with."""
    for case, clip in zip(cases, from_text(maker, cases), strict=True):
        yield judged(case, clip)


def reroll(maker: Maker, cases: tuple[Case, ...]) -> Iterator[Reading]:
    """The clips of ``text`` with their audio made anew, as ``clip.reroll("audio")`` asks for it."""
    firsts = from_text(maker, cases)
    known = [replace(clip, request={"prompt": case.script.caption}) for case, clip in zip(cases, firsts, strict=True)]
    asked = [reroll_request(clip, "audio", seed=seed_of(case) + 1) for case, clip in zip(cases, known, strict=True)]
    prepared = [prepare(request, maker.model.capabilities, memory) for request, memory in asked]
    clips = made(maker, cases, [one.given for one in prepared], audio_seeds=[one.plan.audio_seed for one in prepared])
    for case, first, clip in zip(cases, firsts, clips, strict=True):
        differs = not np.array_equal(clip.waveform, first.waveform)
        yield {**judged(case, clip), "video kept": np.array_equal(clip.frames, first.frames), "new differs": differs}


def video_to_audio(maker: Maker, cases: tuple[Case, ...]) -> Iterator[Reading]:
    """The rendered video is given, its audio is made; the same with the bridge cut."""
    given = [given_video(canvas(), case.truth.frames) for case in cases]
    clips = made(maker, cases, given)
    cut = made(maker, cases, given, guidance=BridgeOff(maker.model.capabilities.guidance_scale))
    for case, clip, other in zip(cases, clips, cut, strict=True):
        without = judged(case, other)["verdict"]
        yield {**judged(case, clip), "bridge_off": without, "video kept": np.array_equal(clip.frames, case.truth.frames)}


def audio_to_video(maker: Maker, cases: tuple[Case, ...]) -> Iterator[Reading]:
    """The rendered audio is given, its video is made."""
    given = [given_audio(canvas(), case.truth.waveform) for case in cases]
    for case, clip in zip(cases, made(maker, cases, given), strict=True):
        yield {**judged(case, clip), "audio kept": np.array_equal(clip.waveform, case.truth.waveform)}


def first_frame(maker: Maker, cases: tuple[Case, ...]) -> Iterator[Reading]:
    """The first frame is given: things keep their colour, size and place in the next, and are there in all of the latent."""
    given = [given_pictures(canvas(), {0: case.truth.frames[0]}) for case in cases]
    for case, clip in zip(cases, made(maker, cases, given), strict=True):
        there = still_there(clip.frames, case.truth.frames, num_frames=maker.model.capabilities.timeline(FPS).video_stride)
        yield {**judged(case, clip), "kept": holds(clip.frames, case.truth.frames), **there}


def key_frame(maker: Maker, cases: tuple[Case, ...]) -> Iterator[Reading]:
    """A frame in the middle is given."""
    given = [given_pictures(canvas(), {16: case.truth.frames[16]}) for case in cases]
    for case, clip in zip(cases, made(maker, cases, given), strict=True):
        exact = np.array_equal(clip.frames[16], case.truth.frames[16])
        yield {**judged(case, clip), "exact": exact, **motion(case, clip, (15, 16))}


def retake(maker: Maker, cases: tuple[Case, ...]) -> Iterator[Reading]:
    """The audio from 0.8 s to 1.6 s is made anew."""
    span = (12800, 25600)
    given = [temporal_inpaint_mask(canvas(), case.truth, frames=None, samples=span) for case in cases]
    for case, clip in zip(cases, made(maker, cases, given), strict=True):
        seam = maker.model.capabilities.timeline(FPS).audio_hop
        outside = np.r_[: span[0] - seam, span[1] + seam : clip.waveform.shape[1]]
        kept = np.array_equal(clip.waveform[:, outside], case.truth.waveform[:, outside])
        kept = kept and np.array_equal(clip.frames, case.truth.frames)
        differs = not np.array_equal(clip.waveform[:, slice(*span)], case.truth.waveform[:, slice(*span)])
        whole = judged(case, clip)
        span_s = (span[0] / RATE, span[1] / RATE)
        anew = Verdict(events_in(whole["verdict"].times, span_s), {})
        yield {**whole, "span": anew, "rest equal": kept, "new differs": differs}


def extend(maker: Maker, cases: tuple[Case, ...]) -> Iterator[Reading]:
    """The first 17 frames are given, the clip goes on to 33."""
    halves = [replace(case.truth, frames=case.truth.frames[:17], waveform=case.truth.waveform[:, :17000]) for case in cases]
    given = [given_beginning(canvas(), half) for half in halves]
    for case, clip in zip(cases, made(maker, cases, given), strict=True):
        yield {**judged(case, clip), **motion(case, clip, (16,))}


def long(maker: Maker, cases: tuple[Case, ...]) -> Iterator[Reading]:
    """20 s from the 2 s model, in overlapping windows."""
    capabilities = maker.model.capabilities
    for case in cases:
        (clip,) = made(maker, [case], [Given()], num_frames=round(maker.long_s * float(FPS)))
        yield {**judged(case, clip), **seams_inside(clip, capabilities.timeline(FPS), max_frames=capabilities.max_frames)}


TASKS: dict[str, Callable[[Maker, tuple[Case, ...]], Iterator[Reading]]] = {
    "long": long,
    "text": text,
    "reroll": reroll,
    "video_to_audio": video_to_audio,
    "audio_to_video": audio_to_video,
    "first_frame": first_frame,
    "key_frame": key_frame,
    "retake": retake,
    "extend": extend,
}


if __name__ == "__main__":
    main()
