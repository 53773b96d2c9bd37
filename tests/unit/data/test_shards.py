"""Rendered shards: whole or absent, the same for the same seed, the same clips however they are cut into shards."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

import mova.scenes
from mova.data.shards import World, digest_shards, open_shards, render_arrays, render_shards, scripts_in, shard_folder
from mova.errors import CheckpointError

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
    kept = shard_folder(folder, 0) / "frames.npy"
    before = kept.stat().st_mtime_ns
    shutil.rmtree(shard_folder(folder, 1))
    done: list[tuple[int, int]] = []
    render_shards(folder, seed=3, num_clips=6, clips_per_shard=4, world=WORLD, processes=1, on_shard=lambda *n: done.append(n))
    assert done == [(6, 6)] and kept.stat().st_mtime_ns == before and len(open_shards(folder)) == 2


def test_an_unfinished_shard_is_not_opened_and_the_next_run_removes_it(folder: Path) -> None:
    unfinished = folder / ".0a1b2c3d.partial"
    unfinished.mkdir()
    os.utime(unfinished, (0, 0))
    assert len(open_shards(folder)) == 2
    render_shards(folder, seed=3, num_clips=6, clips_per_shard=4, world=WORLD, processes=1)
    assert not unfinished.exists() and len(open_shards(folder)) == 2


KILLED = """
import os, signal, time
from mova.data.shards import worker_pool
if __name__ == "__main__":
    with worker_pool(2) as pool:
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


ENDED = """
import os, signal, sys
from pathlib import Path
from mova.data.shards import worker_pool

def end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)

if __name__ == "__main__":
    with worker_pool(1) as pool:
        jobs = [pool.submit(end), *(pool.submit(Path("begun").touch) for _ in range(2))]
        print(*(type(job.exception(60)).__name__ for job in jobs))
"""


def test_a_worker_that_has_to_end_begins_no_other_job(tmp_path: Path) -> None:
    (tmp_path / "ended.py").write_text(ENDED, encoding="utf-8")
    run = subprocess.run([sys.executable, "ended.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["SystemExit", "BrokenProcessPool", "BrokenProcessPool"]
    assert not (tmp_path / "begun").exists()


def _is_alive(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


KIND = (Path(mova.scenes.__path__[0]) / "kinds" / "siren.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("change", ["nothing", "seed", "width", "kinds", "clips_per_shard", "kind's file", "more", "fewer"])
def test_shards_of_other_settings_are_made_again_and_no_others(tmp_path: Path, change: str) -> None:
    kind = tmp_path / "own.py"
    kind.write_text(KIND, encoding="utf-8")
    world = replace(WORLD, kinds=(str(kind),))
    options = {"seed": 3, "num_clips": 6, "clips_per_shard": 4, "world": world}
    folder = tmp_path / "shards"
    render_shards(folder, **options, processes=1)
    before, digest = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}, digest_shards(folder)
    if change == "kind's file":
        kind.write_text(KIND + "\n# another colour\n", encoding="utf-8")
    options |= {
        "seed": {"seed": 4},
        "width": {"world": replace(world, width=48)},
        "kinds": {"world": WORLD},
        "clips_per_shard": {"clips_per_shard": 2},
        "more": {"num_clips": 10},
        "fewer": {"num_clips": 4},
    }.get(change, {})
    render_shards(folder, **options, processes=1)
    fresh = tmp_path / "fresh"
    render_shards(fresh, **options, processes=1)
    assert digest_shards(folder) == digest_shards(fresh)
    assert [shard.scripts for shard in open_shards(folder)] == [shard.scripts for shard in open_shards(fresh)]
    kept = {path.name for path in folder.iterdir() if before.get(path.name) == path.stat().st_mtime_ns}
    assert kept == {"nothing": {"00000", "00001"}, "more": {"00000"}, "fewer": {"00000"}}.get(change, set())
    assert (digest_shards(folder) == digest) == (change in ("nothing", "kind's file"))


def test_clips_of_different_settings_side_by_side_are_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "mixed")
    render_shards(tmp_path / "other", seed=4, num_clips=4, clips_per_shard=4, world=WORLD, processes=1)
    shutil.copytree(tmp_path / "other" / "00000", tmp_path / "mixed" / "00000", dirs_exist_ok=True)
    with pytest.raises(CheckpointError, match="interrupted"):
        digest_shards(tmp_path / "mixed")
