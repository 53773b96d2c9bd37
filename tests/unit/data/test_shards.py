"""Rendered shards: whole or absent, the same for the same seed, the same clips however they are cut into shards."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from mova.data.shards import World, open_shards, render_arrays, render_shards, scripts_in, shard_folder

WORLD = World(width=32, height=32, num_frames=9, kinds=("drums", "storm"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shards")
    render_shards(path, seed=3, num_clips=6, clips_per_shard=4, world=WORLD, processes=1)
    return path


def test_shards_hold_what_was_asked(folder: Path) -> None:
    shards = open_shards(folder)
    assert [len(shard.scripts) for shard in shards] == [4, 2]
    assert shards[0].frames.shape == (4, 9, 32, 32, 3) and shards[0].waveforms.shape == (4, 9000)
    assert {script["kind"] for shard in shards for script in shard.scripts} == {"drums", "storm"}


def test_a_clip_depends_on_the_seed_and_its_number_only(folder: Path) -> None:
    frames, waveforms = render_arrays(list(scripts_in(3, 4, 2, WORLD)), WORLD)
    second = open_shards(folder)[1]
    assert np.array_equal(frames, second.frames) and np.array_equal(waveforms, second.waveforms)


def test_a_shard_that_is_there_is_left_alone_and_a_missing_one_is_made_again(folder: Path) -> None:
    import shutil

    kept = shard_folder(folder, 0) / "frames.npy"
    before = kept.stat().st_mtime_ns
    shutil.rmtree(shard_folder(folder, 1))
    done: list[tuple[int, int]] = []
    render_shards(folder, seed=3, num_clips=6, clips_per_shard=4, world=WORLD, processes=1, on_shard=lambda *n: done.append(n))
    assert done == [(6, 6)] and kept.stat().st_mtime_ns == before and len(open_shards(folder)) == 2


def test_an_unfinished_shard_is_not_opened_and_the_next_run_removes_it(folder: Path) -> None:
    unfinished = folder / ".0a1b2c3d.partial"
    unfinished.mkdir()
    assert len(open_shards(folder)) == 2
    render_shards(folder, seed=3, num_clips=6, clips_per_shard=4, world=WORLD, processes=1)
    assert not unfinished.exists() and len(open_shards(folder)) == 2


KILLED = """
import os, signal, time
from mova.data.shards import worker_pool
if __name__ == "__main__":
    pool = worker_pool(2)
    sleeping = [pool.submit(time.sleep, 600) for _ in range(2)]
    print(*pool._processes, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_workers_of_a_killed_run_end_too(tmp_path: Path) -> None:
    (tmp_path / "killed.py").write_text(KILLED, encoding="utf-8")
    with subprocess.Popen([sys.executable, tmp_path / "killed.py"], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        workers = [int(number) for number in run.stdout.readline().split()]
    assert len(workers) == 2
    deadline = time.monotonic() + 60.0
    while any(_is_alive(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_is_alive(worker) for worker in workers)


def _is_alive(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
