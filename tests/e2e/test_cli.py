"""``mova`` from the outside: what it prints, what it writes, what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from warm_python import COMMAND_LINE, WarmPython

from mova import __version__
from mova.media.decode import read_clip

PROMPT = "drum pads are hit: red, blue, red"
QUICK = ("--steps", "2")
SHORT = (*QUICK, "--num-frames", "9")


def test_importing_mova_does_not_import_torch() -> None:
    code = "import sys, mova; mova.MovaError; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_answers_without_importing_torch(cold_mova) -> None:
    code = "import sys; from mova.cli.app import app; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert "generate" in cold_mova("--help").stdout


def test_a_prompt_becomes_a_video_with_audio_that_reads_back_whole(cold_mova, tmp_path: Path) -> None:
    done = cold_mova("generate", PROMPT, "--seed", "3", *QUICK, "-o", "a.mp4", "--sheet", "a.png")
    assert done.returncode == 0, done.stderr
    assert "a.mp4" in done.stdout and len(done.stdout.strip().splitlines()) == 1
    assert "seed 3" in done.stderr
    clip = read_clip(tmp_path / "a.mp4")
    assert clip.num_frames == 33 and (clip.width, clip.height) == (96, 96)
    assert clip.waveform.shape[1] == clip.num_frames * clip.sample_rate // 16
    assert (tmp_path / "a.png").stat().st_size > 1000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "a.png"]


def test_the_same_seed_gives_the_same_frames_and_samples_and_another_does_not(mova, tmp_path: Path) -> None:
    for name, seed in (("a.mkv", "5"), ("b.mkv", "5"), ("c.mkv", "6")):
        assert mova("generate", PROMPT, "--seed", seed, *SHORT, "-o", name).returncode == 0
    a, b, c = (read_clip(tmp_path / name) for name in ("a.mkv", "b.mkv", "c.mkv"))
    assert np.array_equal(a.frames, b.frames) and np.array_equal(a.waveform, b.waveform)
    assert not np.array_equal(a.frames, c.frames)


@pytest.mark.parametrize(
    ("option", "value", "frames"), [("--num-frames", "20", 20), ("--seconds", "1.0", 16), ("--num-frames", "1", 1)]
)
def test_a_length_is_made_exactly_as_asked(mova, tmp_path: Path, option: str, value: str, frames: int) -> None:
    done = mova("generate", PROMPT, "--seed", "1", *QUICK, option, value, "--json", "-o", "a.mkv")
    facts = json.loads(done.stdout)
    assert facts["num_frames"] == frames
    clip = read_clip(tmp_path / "a.mkv")
    assert clip.num_frames == frames and clip.waveform.shape[1] == frames * clip.sample_rate // 16


def test_several_clips_get_consecutive_seeds_and_numbers(mova, tmp_path: Path) -> None:
    done = mova("generate", PROMPT, "--seed", "9", *SHORT, "-n", "2", "--json", "-o", "a.wav")
    assert [fact["request"]["seed"] for fact in json.loads(done.stdout)] == [9, 10]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-1.wav", "a-2.wav"]


def test_a_foreign_prompt_makes_a_clip_and_says_so(mova, tmp_path: Path) -> None:
    done = mova("generate", "a cat plays with yarn", "--seed", "1", *SHORT, "-o", "cat.mp4")
    assert done.returncode == 0 and (tmp_path / "cat.mp4").exists()
    assert "outside what mova-base knows" in done.stderr and "ball" in done.stderr


def test_a_dry_run_shows_the_plan_and_writes_nothing(mova, tmp_path: Path) -> None:
    done = mova("generate", PROMPT, "--dry-run", "--json", "--seed", "4")
    assert json.loads(done.stdout)["request"]["seed"] == 4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "named", "hint"),
    [
        (("",), "PROMPT", ""),
        (("x" * 2001,), "PROMPT", ""),
        ((PROMPT, "--size", "100x96"), "--size", "96x96"),
        ((PROMPT, "--size", "huge"), "--size", "96x96"),
        ((PROMPT, "--fps", "25"), "--fps", "16"),
        ((PROMPT, "--seconds", "2000"), "--seconds", "300"),
        ((PROMPT, "--num-frames", "0"), "--num-frames", ""),
        ((PROMPT, "--num-frames", "4801"), "--num-frames", "4800"),
        ((PROMPT, "--seconds", "1", "--num-frames", "16"), "--", ""),
        ((PROMPT, "--steps", "0"), "--steps", ""),
        ((PROMPT, "--guidance-scale", "nan"), "--guidance-scale", ""),
        ((PROMPT, "--seed", "-1"), "--seed", ""),
        ((PROMPT, "--audio-sample-rate", "100"), "--audio-sample-rate", ""),
        ((PROMPT, "--solver", "eular"), "--solver", "euler"),
        (("@nowhere.txt",), "PROMPT", ""),
    ],
)
def test_a_wrong_request_is_two_lines_and_exit_2(mova, tmp_path: Path, arguments, named: str, hint: str) -> None:
    done = mova("generate", *arguments)
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert lines[0].startswith("error: ") and len(lines) <= 2, done.stderr
    assert named in lines[0]
    assert hint in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("output", ["no/such/folder/a.mp4", "a.xyz", "."])
def test_an_output_that_cannot_be_written_is_refused_before_the_model_loads(mova, tmp_path: Path, output: str) -> None:
    done = mova("generate", PROMPT, "-o", output)
    assert done.returncode == 1 and "loaded" not in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ")
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_not_there_is_exit_3(mova) -> None:
    done = mova("generate", PROMPT, "--model", "./nothing-here")
    assert done.returncode == 3 and done.stderr.startswith("error: ")


def test_a_broken_weights_file_is_found_by_its_hash(mova, tmp_path: Path, base_folder: Path) -> None:
    import shutil

    shutil.copytree(base_folder, tmp_path / "copy")
    weights = next((tmp_path / "copy" / "audio_vae").glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    done = mova("generate", PROMPT, "--model", "copy", *QUICK, "-o", "a.mp4")
    assert done.returncode == 3 and weights.name in done.stderr and not (tmp_path / "a.mp4").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_no_partial_file_and_says_interrupted(
    warm_python: WarmPython, tmp_path: Path, number: signal.Signals
) -> None:
    process = warm_python.start(COMMAND_LINE, ("generate", PROMPT, "--steps", "500", "-o", "a.mp4"), folder=tmp_path)
    deadline = time.monotonic() + 300
    while not (process.err.exists() and "/500" in process.err.read_text("utf-8")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)
    os.kill(process.pid, number)
    os.kill(process.pid, number)  # as `timeout` sends it: to the command, and to its group
    done = process.wait(30)
    assert done.returncode == 128 + number
    assert "steps" in done.stderr and "/500" in done.stderr
    assert done.stderr.splitlines()[-1] == "interrupted" and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGHUP])
def test_a_signal_ends_the_workers_of_a_run_and_leaves_nothing_half_made(tmp_path: Path, number: signal.Signals) -> None:
    world = "{width: 32, height: 32, num_frames: 9, kinds: [drums]}"
    recipe = "stage: render, num_clips: 40000, num_held_out: 8, clips_per_shard: 100, processes: 2, folder: run"
    (tmp_path / "r.yaml").write_text(f"{{{recipe}, world: {world}}}", encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "mova", "train", "r.yaml"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("run/scenes/train/0*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)  # a terminal sends Ctrl-C to the whole group
    _, said = process.communicate(timeout=30)
    assert process.returncode == 128 + number, said
    assert said.splitlines()[-1] == "interrupted" and "Traceback" not in said
    assert not list(tmp_path.glob("run/scenes/train/.*")) and not (tmp_path / "run" / "render.done").exists()
    deadline = time.monotonic() + 60
    with pytest.raises(ProcessLookupError):  # nothing of its session is left
        while time.monotonic() < deadline:
            os.killpg(process.pid, 0)
            time.sleep(0.1)


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("command", [(), ("generate",), ("scenes", "sheet"), ("eval", "files"), ("arena",)])
def test_every_command_explains_itself(mova, command: tuple[str, ...], flag: str) -> None:
    done = mova(*command, flag)
    assert done.returncode == 0 and "Usage" in done.stdout


def test_the_version_is_told_and_the_package_runs_as_a_module(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mova", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"mova {__version__}\n")


@pytest.mark.parametrize(
    ("typed", "offered"), [("mova gen", "generate"), ("mova eval fi", "files"), ("mova sync --pl", "--plot")]
)
def test_a_shell_completes_commands_and_options(mova, monkeypatch: pytest.MonkeyPatch, typed: str, offered: str) -> None:
    monkeypatch.setenv("_MOVA_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    assert mova().stdout.split() == [offered]


def test_the_scenes_are_drawn(mova, tmp_path: Path) -> None:
    done = mova("scenes", "sheet", "-o", "s.png", "--per-kind", "1", "--kind", "ball", "--kind", "storm")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "s.png").stat().st_size > 1000


def test_an_unknown_kind_names_the_nearest(mova) -> None:
    done = mova("scenes", "sheet", "--kind", "bal")
    assert done.returncode == 2 and "ball" in done.stderr


def test_a_folder_that_may_not_be_written_is_refused(mova, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert mova("generate", PROMPT, "-o", "locked/a.mp4").returncode == 1
