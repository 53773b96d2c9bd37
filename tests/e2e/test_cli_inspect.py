"""``mova inspect`` and ``mova plan`` as a user runs them."""

from __future__ import annotations

import json
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mova.cli.inspect import run as inspect
from mova.media.clip import Clip


def test_a_broken_folder_is_shown_and_then_refused(mova, base_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(base_folder, tmp_path / "model"))
    (folder / "video_dit" / "diffusion_pytorch_model.safetensors").unlink()
    done = mova("inspect", "model")
    assert done.returncode == 3
    assert done.stderr.startswith("error: model is not whole: see video_dit.\n  hint: ")
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert "3,369,856" in rows["video_dit"] and "not there" in rows["video_dit"]
    assert "float16" in rows["audio_dit"] and "1,566,360" in rows["audio_dit"]
    assert "video_dit: lacks " in done.stdout and "and 174 more" in done.stdout


def test_the_shipped_model_is_told_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    inspect("mova-base", is_json=True)
    facts = json.loads(capsys.readouterr().out)
    assert facts["is_whole"] and facts["has_weights"]
    assert facts["num_parameters"] == sum(component["num_parameters"] for component in facts["components"])
    assert facts["components"][0]["dtypes"] == {"float16": facts["components"][0]["num_parameters"]}


def test_a_broken_file_or_nothing_is_refused_in_two_lines(mova, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"x")
    for target, words, code in (("clip.mp4", "cannot be opened", 1), ("nowhere", "no file or model folder 'nowhere'", 2)):
        done = mova("inspect", target)
        assert done.returncode == code and done.stdout == ""
        assert words in done.stderr and len(done.stderr.strip().splitlines()) == 2


def test_a_video_says_how_it_was_made_and_one_that_does_not_is_said_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    frames, audio = np.zeros((8, 16, 16, 3), np.uint8), np.zeros((1, 8000), np.float32)
    made_by = {"mova": "0.1.0", "model": "mova-base", "weights": "a1b2", "schedule": {"shift": 2.0}, "loras": {}}
    request = {"prompt": "rain", "seed": 3, "audio_seed": 4}
    Clip(frames, audio, Fraction(16), 16000, request=request, made_by=made_by).save(tmp_path / "clip.mp4")
    inspect(str(tmp_path / "clip.mp4"), is_json=True)
    facts = json.loads(capsys.readouterr().out)
    assert (facts["request"], facts["made_by"]) == (request, made_by)
    assert (facts["video"]["num_frames"], facts["video"]["fps"], facts["audio"]["sample_rate"]) == (8, 16.0, 16000)
    inspect(str(tmp_path / "clip.mp4"), is_json=False)
    shown = capsys.readouterr().out
    rows = {line.split("  ")[0]: line for line in shown.splitlines()}
    assert "h264, 16x16 at 16 fps, 8 frames, 0.5000 s" in shown and "aac, 16000 Hz, mono" in shown
    assert rows["audio_seed"].endswith("4") and rows["weights"].endswith("a1b2") and rows["schedule"].endswith("shift 2.0")
    Clip(frames, audio, Fraction(16), 16000).save(tmp_path / "foreign.wav")
    inspect(str(tmp_path / "foreign.wav"), is_json=False)
    shown = capsys.readouterr().out
    assert "video: none" in shown and "does not say how it was made" in shown


def test_the_full_model_is_planned_from_its_configuration(mova, official_full_configs: Path) -> None:
    ask = ("plan", "--model", str(official_full_configs), "--size", "640x352", "--num-frames", "193", "--flops", "400TFLOPS")
    done = mova(*ask, "--gpu-memory", "24GB", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["tokens"] == {"video": 43_120, "audio": 403, "text": 512, "frames": 49}
    assert facts["evaluations_per_run"] == 100
    assert facts["flops"]["velocity"] / 1e15 == pytest.approx(5.53, rel=2e-3)
    assert facts["flops"]["stages"]["decode"] / 1e12 == pytest.approx(369.6, rel=2e-3)
    assert facts["seconds"]["run"] == pytest.approx(facts["flops"]["run"] / 4e14)
    assert facts["parameters"]["video_dit_2"] == 14_288_901_184
    assert [way["fits"] for way in facts["memory"]] == [False, False, True, False, False, True]
    assert facts["recommended"] == {"offload": "block", "stored": "16 bit"}
    shown = mova(*ask, "--gpu-memory", "4GB")
    assert "43,120 video, 403 audio" in shown.stdout
    assert "nothing fits in 4.00 GB" in shown.stdout and "11 min" in shown.stdout


def test_guidance_steps_and_length_are_what_the_plan_counts(mova) -> None:
    def velocity(*options: str) -> dict:
        done = mova("plan", "--json", *options)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    plain, both = velocity("--guidance-scale", "1"), velocity("--guidance-scale", "3", "--cross-guidance-scale", "2")
    assert plain["evaluations_per_velocity"] == 1 and both["evaluations_per_velocity"] == 3
    # of the three, the one without text and bridge does not compute the bridge
    bridge = sum(value for name, value in plain["flops"]["evaluation"].items() if name.startswith("bridge"))
    assert both["flops"]["velocity"] == 3 * plain["flops"]["velocity"] - bridge
    heun = velocity("--guidance-scale", "1", "--steps", "4", "--solver", "heun")
    assert heun["evaluations_per_run"] == 7 and heun["flops"]["velocity"] == plain["flops"]["velocity"]
    assert "recommended" not in heun and "seconds" not in heun


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--gpu-memory", "much"), "--gpu-memory: takes a number of bytes such as 24GB; got 'much'"),
        (("--gpu-memory", "0GB"), "--gpu-memory"),
        (("--flops", "fast"), "--flops: takes operations a second such as 400TFLOPS; got 'fast'"),
        (("--size", "97x96"), "--size"),
        (("--num-frames", "100000"), "--num-frames"),
    ],
)
def test_a_mistake_is_told_by_the_option_that_was_typed(mova, options: tuple[str, ...], words: str) -> None:
    done = mova("plan", *options)
    assert done.returncode == 2 and done.stdout == ""
    assert words in done.stderr and len(done.stderr.strip().splitlines()) == 2


def test_a_plan_of_nothing_is_refused(mova, tmp_path: Path) -> None:
    done = mova("plan", "--model", "somebody/something")
    assert done.returncode == 2 and "no file or model folder" in done.stderr
    (tmp_path / "empty").mkdir()
    done = mova("plan", "--model", "empty")
    assert done.returncode == 3 and "not a checkpoint" in done.stderr


def test_a_clip_is_drawn_as_one_picture(mova, tmp_path: Path) -> None:
    Clip(np.zeros((9, 16, 16, 3), np.uint8), np.zeros((1, 9000), np.float32), 16, 16000).save(tmp_path / "clip.mp4")
    done = mova("sheet", "clip.mp4")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "clip.png") as picture:
        assert picture.width > picture.height > 100
    missing = mova("sheet", "nowhere.mp4")
    assert missing.returncode == 2 and missing.stderr.count("\n") <= 2


def test_the_models_of_this_machine_are_listed(mova) -> None:
    done = mova("models", "--json")
    assert done.returncode == 0, done.stderr
    assert "mova-base" in json.dumps(json.loads(done.stdout))
    assert "mova-base" in mova("models").stdout
