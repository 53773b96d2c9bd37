"""The scripts that hold the shipped model and its codecs against what they must reach."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mova.checkpoints.load import Components
from mova.evaluation.documents import machine
from mova.evaluation.suite.clips import through_codecs
from mova.pipeline import MOVAPipeline
from mova.scenes.world import render, sample_scripts, write_script
from mova.timeline import Timeline

FOLDER = Path(__file__).parents[3] / "benchmarks"


def script(name: str) -> ModuleType:
    """A script of the folder as a module, under a name that no library has."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_prompts_that_training_never_saw_come_first() -> None:
    base_model = script("base_model")
    drawn = list(sample_scripts(base_model.TEST_SEED, 20, ["ball"]))
    known = frozenset(one.caption for one in drawn[:18])
    fresh = [one for one in drawn if one.caption not in known]
    found = base_model.test_scripts("ball", 4, known)
    assert fresh and found == [*fresh, *(one for one in drawn if one.caption in known)][:4]
    assert base_model.test_scripts("ball", 4, frozenset()) == drawn[:4]


def test_every_prompt_of_training_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base_model = script("base_model")
    monkeypatch.setattr(base_model, "ROOT", tmp_path)  # no latents here: the prompts are written again
    latents, joint = tmp_path / "latents.yaml", FOLDER.parent / "recipes" / "continue" / "2_joint.yaml"
    latents.write_text("stage: latents\nfolder: runs/base\nseed: 3\nnum_clips: 8\nnum_held_out: 8\n")
    known = base_model.training_captions(latents, joint)
    world, count = base_model.load_recipe(latents).world.world(), base_model.load_recipe(joint).phrasings
    written = {one.caption for one in base_model.scripts_in(3, 0, 8, world)}
    assert written <= known and len(known) <= 8 * count


def test_what_is_reached_is_said_of_every_line() -> None:
    base_model = script("base_model")

    def numbers(**values: float) -> dict[str, Any]:
        found = {name: {"value": value, "interval": [value, value], "chance": 0.1} for name, value in values.items()}
        return {"scores": found, "adherence": {}}

    made = numbers(median_abs_ms=11.9, f1_80=0.9, colour=0.92, sequence=0.05)
    tracks = {"text": made, "text-bridge-off": numbers(f1_80=0.29, median_abs_ms=90.0)}
    lines = base_model.acceptance({"tracks": tracks, "codec": numbers(f1_80=0.99, colour=1.0)})
    assert [line["met"] for line in lines] == ["goal", "floor", "no", "reported"]
    table = base_model.markdown(lines).splitlines()
    assert table[2].endswith(", ms | 11.9 | 11.9 to 11.9 | 0.1 | - | 90.0 | 25.0 | 12.0 | goal |")
    assert table[3].endswith("| 0.90 | 0.90 to 0.90 | 0.10 | 0.99 | 0.29 | 0.85 | 0.95 | floor |")


def test_codecs_of_folders_do_what_they_do_inside_a_model(tiny_components: Components, tmp_path: Path) -> None:
    pipeline = MOVAPipeline.from_components(tiny_components)
    pipeline.video_vae.save_pretrained(tmp_path / "video")
    pipeline.audio_vae.save_pretrained(tmp_path / "audio")
    truth = render(write_script("ball", 3, seconds=1.0625), width=32, height=32, num_frames=17)
    timeline = Timeline(truth.fps, truth.sample_rate, 4, 500)
    codecs = script("codecs").Codecs(tmp_path / "video", tmp_path / "audio")
    own, inside = (through_codecs(one, timeline, truth) for one in (codecs, pipeline))
    assert np.array_equal(own.frames, inside.frames) and np.array_equal(own.waveform, inside.waveform)


def test_the_machine_is_named() -> None:
    found = machine()
    assert found["cpu"] and found["cores"] >= 1 and len(found["load"]) == 3 and found["torch"]
