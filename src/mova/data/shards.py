"""Rendered clips on disk: numbered folders of arrays that can be memory mapped, made by several processes, resumable.

A shard ``00012/`` holds ``frames.npy`` uint8 ``[N, T, H, W, 3]``, ``waveforms.npy`` int16 ``[N, S]`` and ``scripts.jsonl``
(kind, seed, caption, attributes, events). It is written beside under another name and renamed, so that a shard that exists
is whole. The script of clip ``i`` depends on (seed, i) only.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import islice
from multiprocessing import get_all_start_methods, get_context, parent_process, set_forkserver_preload
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

from mova.errors import CheckpointError
from mova.files import atomic_write, is_regular, read_text, remove_leftovers
from mova.parsing import parse_json
from mova.scenes.kinds import load_kinds
from mova.scenes.script import Script
from mova.scenes.world import draw, sample_scripts, synthesise
from mova.timeline import Timeline, samples_in_frames


def exit_with_parent() -> None:
    """End this worker as soon as the process that asked for it is gone: a killed run must not leave what holds the cores."""

    def watch(parent: BaseProcess) -> None:
        wait([parent.sentinel])
        os._exit(1)

    parent = parent_process()  # not that of getppid: workers are forked by a server, which lives as long as any of them
    assert parent is not None, "only a worker has such a process"
    threading.Thread(target=watch, args=(parent,), daemon=True).start()


WORKER_IMPORTS = (
    "torch",
    "diffusers.models.modeling_utils",
    "mova.scenes.world",
    "mova.generation.model",
    "mova.training.recipe",
)
"""Modules that take long to import and that workers are likely to need."""


def start_method() -> str:
    """How workers are started: forked from a server that has imported, once, what this process has of the slow modules.

    Every worker would import them again otherwise, which takes seconds; forking this process itself is not safe once torch
    has threads or a GPU.
    """
    if "forkserver" not in get_all_start_methods():
        return "spawn"
    set_forkserver_preload(["__main__", *(name for name in WORKER_IMPORTS if name in sys.modules)])
    return "forkserver"


def worker_pool(processes: int) -> ProcessPoolExecutor:
    """A pool of fresh processes that do not outlive this one."""
    return ProcessPoolExecutor(processes, mp_context=get_context(start_method()), initializer=exit_with_parent)


def make_missing_shards(
    make: Callable[[Path, int, int], int],
    path_of: Callable[[int], Path],
    *,
    num_clips: int,
    clips_per_shard: int,
    processes: int,
    on_shard: Callable[[int, int], None] | None = None,
) -> None:
    """Make every shard that is not there yet, several at a time.

    Args:
        make: ``make(path, first clip, clips)`` writes one shard and returns its clips; it must be picklable.
        path_of: Where the shard of a number goes; a shard that exists is whole.
        num_clips: Clips in all.
        clips_per_shard: Clips per shard; the last may have fewer.
        processes: Worker processes.
        on_shard: Function called with (clips done, clips in all) after each shard.
    """
    sizes = {first: min(clips_per_shard, num_clips - first) for first in range(0, num_clips, clips_per_shard)}
    remove_leftovers(path_of(0).parent)
    missing = [first for first in sizes if not path_of(first // clips_per_shard).exists()]
    done = num_clips - sum(sizes[first] for first in missing)
    with worker_pool(processes) as pool:
        jobs = [pool.submit(make, path_of(first // clips_per_shard), first, sizes[first]) for first in missing]
        for job in as_completed(jobs):
            done += job.result()
            if on_shard is not None:
                on_shard(done, num_clips)


@dataclass(frozen=True)
class World:
    """The size in which clips are rendered, the model's own, and the kinds of scenes: names, or paths of ``.py`` files."""

    width: int = 96
    height: int = 96
    fps: int = 16
    num_frames: int = 33
    sample_rate: int = 16000
    kinds: tuple[str, ...] | None = None

    @property
    def num_samples(self) -> int:
        """Samples per clip."""
        return samples_in_frames(self.num_frames, self.fps, self.sample_rate)

    @property
    def seconds(self) -> float:
        """Length of a clip."""
        return self.num_frames / self.fps

    def timeline(self, video_codec: Mapping[str, Any], audio_codec: Mapping[str, Any]) -> Timeline:
        """The clock of clips and of their latents.

        Args:
            video_codec: Configuration of the video codec.
            audio_codec: Configuration of the audio codec.
        """
        return Timeline(
            Fraction(self.fps),
            self.sample_rate,
            video_stride=video_codec["scale_factor_temporal"],
            audio_hop=audio_codec["hop_length"],
        )


@dataclass(frozen=True)
class Shard:
    """One folder of rendered clips; the arrays are memory mapped."""

    frames: np.ndarray[Any, np.dtype[np.uint8]]
    waveforms: np.ndarray[Any, np.dtype[np.int16]]
    scripts: list[dict[str, Any]]


def scripts_in(seed: int, first: int, count: int, world: World) -> Iterator[Script]:
    """Scripts ``first ... first + count - 1`` of the endless list that ``seed`` names."""
    return islice(sample_scripts(seed, first + count, kinds=load_kinds(world.kinds), seconds=world.seconds), first, None)


def render_arrays(
    scripts: list[Script], world: World
) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], np.ndarray[Any, np.dtype[np.int16]]]:
    """Frames uint8 ``[N, T, H, W, 3]`` and mono audio int16 ``[N, S]`` of some scripts."""
    frames = np.empty((len(scripts), world.num_frames, world.height, world.width, 3), np.uint8)
    waveforms = np.empty((len(scripts), world.num_samples), np.int16)
    for index, script in enumerate(scripts):
        frames[index] = draw(script, width=world.width, height=world.height, fps=world.fps, num_frames=world.num_frames)
        audio = synthesise(script, sample_rate=world.sample_rate, num_samples=world.num_samples)[0]
        waveforms[index] = np.round(audio * 32767.0)
    return frames, waveforms


def describe(script: Script) -> dict[str, Any]:
    """A script as plain JSON values: what training and evaluation need of it."""
    return {
        "kind": script.kind,
        "seed": script.seed,
        "caption": script.caption,
        "attributes": dict(script.attributes),
        "events": [[e.time_s, e.audio_time_s, e.kind, e.label, *e.place, e.strength] for e in script.events],
    }


def render_shards(
    folder: Path,
    *,
    seed: int,
    num_clips: int,
    clips_per_shard: int,
    world: World,
    processes: int = 2,
    on_shard: Callable[[int, int], None] | None = None,
) -> None:
    """Render ``num_clips`` clips into ``folder``, leaving alone the shards that are there.

    Args:
        folder: Where the shards go.
        seed: Names the list of scripts.
        num_clips: Clips in all.
        clips_per_shard: Clips per folder.
        world: Size, rates and kinds.
        processes: Worker processes.
        on_shard: Function called with (clips done, clips in all) after each shard.
    """
    folder.mkdir(parents=True, exist_ok=True)
    make_missing_shards(
        partial(_render_shard, seed=seed, world=world),
        partial(shard_folder, folder),
        num_clips=num_clips,
        clips_per_shard=clips_per_shard,
        processes=processes,
        on_shard=on_shard,
    )


def open_shards(folder: Path) -> list[Shard]:
    """Every shard in ``folder``, in order, memory mapped."""
    return [_open_shard(path) for path in sorted(folder.glob("[0-9]*"))]


def shard_folder(folder: Path, index: int) -> Path:
    """Folder of shard ``index``."""
    return folder / f"{index:05d}"


def _render_shard(path: Path, first: int, count: int, *, seed: int, world: World) -> int:
    scripts = list(scripts_in(seed, first, count, world))
    frames, waveforms = render_arrays(scripts, world)
    with atomic_write(path) as beside:
        beside.mkdir(parents=True)
        np.save(beside / "frames.npy", frames)
        np.save(beside / "waveforms.npy", waveforms)
        lines = (json.dumps(describe(script)) for script in scripts)
        (beside / "scripts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return count


def _open_shard(path: Path) -> Shard:
    try:
        if not all(is_regular(path / name) for name in ("frames.npy", "waveforms.npy")):
            raise OSError("it lacks its arrays")
        return Shard(
            frames=np.load(path / "frames.npy", mmap_mode="r", allow_pickle=False),
            waveforms=np.load(path / "waveforms.npy", mmap_mode="r", allow_pickle=False),
            scripts=[parse_json(line) for line in read_text(path / "scripts.jsonl", max_bytes=2**30).splitlines()],
        )
    except (OSError, ValueError, EOFError) as error:
        raise CheckpointError(f"{path} is broken: {error}.", "Remove the folder, and run its stage again.") from error
