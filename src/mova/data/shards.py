"""Rendered clips on disk: numbered folders of arrays that can be memory mapped, made by several processes, resumable.

A shard ``00012/`` holds ``frames.npy`` uint8 ``[N, T, H, W, 3]``, ``waveforms.npy`` int16 ``[N, S]``, ``scripts.jsonl``
(kind, seed, caption, attributes, events) and ``made_from.json`` (:class:`~mova.data.marks.ShardMark`). It is written beside
under another name and renamed, so that a shard that exists is whole. The script of clip ``i`` depends on (seed, i) only.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from itertools import islice
from multiprocessing import active_children, get_all_start_methods, get_context, parent_process, set_forkserver_preload
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np

from mova.data.marks import MARK, ShardMark, digest, digest_files, digest_kinds, digest_marks, parse_mark
from mova.errors import CheckpointError
from mova.files import atomic_write, is_regular, read_text, remove_leftovers
from mova.parsing import parse_json
from mova.scenes.kinds import load_kinds
from mova.scenes.script import Script
from mova.scenes.world import draw, sample_scripts, synthesise
from mova.timeline import Timeline, samples_in_frames

Result = TypeVar("Result")
CLEANING_S = 1.0
"""Time that a worker has to remove its temporary files once it has to end, in seconds."""


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


@contextmanager
def worker_pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of fresh processes that do not outlive the block: if it raises (interrupts included), they are ended.

    Args:
        processes: How many.
    """
    others = set(active_children())
    pool = _Pool(processes, mp_context=get_context(start_method()), initializer=begin_worker)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        end_processes(set(active_children()) - others)
        raise
    pool.shutdown()


class _Pool(ProcessPoolExecutor):
    """Workers of which one that has to end begins no other job."""

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        return super().submit(_work, fn, *args, **kwargs)


_has_to_end = threading.Event()


def _work(fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Result:
    if _has_to_end.is_set():
        os._exit(1)  # what it began would be cut off with its temporary files
    return fn(*args, **kwargs)


def begin_worker() -> None:
    """Prepare this process as a worker: it ends with the process that asked for it or when that says so, not at Ctrl-C."""

    def end(*_: object) -> NoReturn:
        # the pool takes the exit for the result of a job, and goes on to the next
        _has_to_end.set()
        watch = threading.Timer(CLEANING_S, os._exit, (1,))
        watch.daemon = True
        watch.start()
        sys.exit(1)  # which removes temporary files on the way out

    exit_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it, too
    signal.signal(signal.SIGTERM, end)


def end_processes(processes: Iterable[BaseProcess], *, patience_s: float = 5.0) -> None:
    """End processes: first by asking, so that they can remove temporary files, then by force.

    Args:
        processes: Child processes.
        patience_s: Time to end in, in seconds.
    """
    processes = list(processes)
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + patience_s
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()


def make_missing_shards(
    folder: Path,
    make: Callable[[Path, int, int], int],
    path_of: Callable[[int], Path],
    *,
    settings: str,
    read_mark: Callable[[Path], ShardMark | None],
    num_clips: int,
    clips_per_shard: int,
    processes: int,
    on_shard: Callable[[int, int], None] | None = None,
) -> None:
    """Make every shard that is not there yet or is of other settings, several at a time, and remove those beyond the last.

    Args:
        folder: Folder of the shards; made if it is not there.
        make: ``make(path, first clip, clips)`` writes one shard and returns its clips; it must be picklable.
        path_of: Where the shard of a number goes; a shard that exists is whole.
        settings: Digest of what the clips follow from.
        read_mark: Reads the mark of a shard, if there is one.
        num_clips: Clips in all.
        clips_per_shard: Clips per shard; the last may have fewer.
        processes: How many work side by side; one is this process itself.
        on_shard: Function called with (clips done, clips in all) after each shard.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    sizes = {first: min(clips_per_shard, num_clips - first) for first in range(0, num_clips, clips_per_shard)}
    paths = {first: path_of(first // clips_per_shard) for first in sizes}
    stems = {path.stem for path in paths.values()}
    for path in folder.glob("[0-9]*"):
        if path.stem not in stems:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    missing = []
    for first, path in paths.items():
        mark = read_mark(path)
        if mark is None or not mark.is_of(settings, first, sizes[first]):
            missing.append(first)
    done = num_clips - sum(sizes[first] for first in missing)
    if not missing:
        return

    def report(num_made: int) -> None:
        nonlocal done
        done += num_made
        if on_shard is not None:
            on_shard(done, num_clips)

    if processes == 1 or len(missing) == 1:  # a worker would have to import, for seconds, what is here already
        for first in missing:
            report(make(paths[first], first, sizes[first]))
        return
    with worker_pool(processes) as pool:
        jobs = [pool.submit(make, paths[first], first, sizes[first]) for first in missing]
        for job in as_completed(jobs):
            report(job.result())


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
    """Render ``num_clips`` clips into ``folder``, leaving alone the shards of these settings that are there.

    Shards of other settings are replaced, and those of clips that are not asked for removed.

    Args:
        folder: Where the shards go.
        seed: Names the list of scripts.
        num_clips: Clips in all.
        clips_per_shard: Clips per folder.
        world: Size, rates and kinds.
        processes: How many work side by side; one is this process itself.
        on_shard: Function called with (clips done, clips in all) after each shard.
    """
    settings = digest({"seed": seed, "world": world_settings(world)})
    make_missing_shards(
        folder,
        partial(_render_shard, seed=seed, world=world, settings=settings),
        partial(shard_folder, folder),
        settings=settings,
        read_mark=read_shard_mark,
        num_clips=num_clips,
        clips_per_shard=clips_per_shard,
        processes=processes,
        on_shard=on_shard,
    )


def open_shards(folder: Path) -> list[Shard]:
    """Every shard in ``folder``, in order, memory mapped."""
    return [_open_shard(path) for path in sorted(folder.glob("[0-9]*"))]


def digest_shards(folder: Path) -> str:
    """Digest of the clips in a folder of shards; empty if there are none.

    Raises:
        CheckpointError: If some are of other settings than the others.
    """
    return digest_marks(folder, [read_shard_mark(path) for path in sorted(folder.glob("[0-9]*"))])


def read_shard_mark(path: Path) -> ShardMark | None:
    """The mark of the shard in a folder; ``None`` if there is none."""
    try:
        return parse_mark(read_text(path / MARK))
    except OSError:
        return None


def world_settings(world: World) -> dict[str, Any]:
    """Everything in a world that clips depend on, the code of its kinds included, as JSON values."""
    return asdict(world) | {"kinds": digest_kinds(load_kinds(world.kinds))}


def shard_folder(folder: Path, index: int) -> Path:
    """Folder of shard ``index``."""
    return folder / f"{index:05d}"


def _render_shard(path: Path, first: int, count: int, *, seed: int, world: World, settings: str) -> int:
    scripts = list(scripts_in(seed, first, count, world))
    frames, waveforms = render_arrays(scripts, world)
    with atomic_write(path) as beside:
        beside.mkdir(parents=True)
        np.save(beside / "frames.npy", frames)
        np.save(beside / "waveforms.npy", waveforms)
        lines = (json.dumps(describe(script)) for script in scripts)
        (beside / "scripts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        content = digest_files(sorted(beside.iterdir()))
        (beside / MARK).write_text(ShardMark(settings, first, count, content).as_json() + "\n", encoding="utf-8")
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
