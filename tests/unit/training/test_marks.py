"""A stage whose settings or inputs have changed is made again, or refused if it was trained; never kept in silence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mova.checkpoints.layout import DIFFUSERS_WEIGHTS
from mova.errors import CheckpointError
from mova.training.marks import Mark, find_changes
from mova.training.recipe import run_recipes

OPTIM = {"num_steps": 2, "save_every": 1, "validate_every": 2, "warmup_steps": 1}
CLIPS = {"num_clips": 8, "num_held_out": 8, "clips_per_shard": 8}
RECIPES: dict[str, dict[str, Any]] = {
    "1_render": {"stage": "render", **CLIPS},
    "2_audio": {"stage": "audio_codec", "codec": {"width": 32, "num_blocks": 1}, "batch_size": 2, "optim": OPTIM},
    "3_video": {
        "stage": "video_codec",
        "codec": {"base_width": 8, "width": 16},
        "batch_size": 2,
        "num_frames": 9,
        "crop": 32,
        "optim": OPTIM,
    },
    "4_latents": {"stage": "latents", **CLIPS},
    "5_joint": {"stage": "joint", "text_layers": 1, "vocab_size": 400, "batch_size": 2, "optim": OPTIM},
    "6_planner": {"stage": "planner", "width": 32, "layers": 1, "batch_size": 4, "optim": OPTIM},
    "7_reader": {"stage": "reader", "width": 32, "layers": 1, "batch_size": 4, "optim": OPTIM},
    "8_decoder": {
        "stage": "video_codec",
        "name": "video_decoder",
        "start_from": "video_codec",
        "decoder_only_from": 0.0,
        "batch_size": 2,
        "num_frames": 9,
        "crop": 32,
        "optim": OPTIM,
    },
    "9_export": {"stage": "export", "video_codec": "video_decoder", "output": "model"},
}
ALL = {"folder": "run", "processes": 1, "world": {"width": 32, "height": 32, "num_frames": 9, "kinds": ["drums", "piano"]}}
LONGER = {"optim": {**OPTIM, "num_steps": 3}}
Train = Callable[..., dict[str, list[str]]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_all({})
    return folder


@pytest.fixture
def train(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Runs all recipes once more on a finished run, some with other fields; returns which ran again, and what had changed."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return lambda **changes: run_all(changes)


def run_all(changes: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    paths = []
    for name, recipe in RECIPES.items():
        paths.append(Path(f"{name}.yaml"))
        stage = recipe.get("name", recipe["stage"])
        paths[-1].write_text(yaml.safe_dump({**ALL, **recipe, **changes.get(stage, {})}), encoding="utf-8")
    ran: dict[str, list[str]] = {}
    run_recipes(paths, on_again=lambda name, changed: ran.update({name.removesuffix(".yaml"): changed}))
    return ran


def decoder() -> bytes:
    return Path("model", "video_vae", DIFFUSERS_WEIGHTS).read_bytes()


def test_a_finished_run_is_left_alone_wherever_its_folder_is(train: Train) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path("run").rglob("*") if path.is_file()}
    assert train() == {}
    assert train(audio_codec={"processes": 2}, joint={"compile": True}) == {}, "how it runs changes nothing of what it makes"
    assert before == {path: path.stat().st_mtime_ns for path in Path("run").rglob("*") if path.is_file()}


def test_a_stage_that_is_trained_longer_is_exported_again_and_nothing_else_runs(train: Train) -> None:
    before = decoder()
    assert train(video_decoder=LONGER) == {"8_decoder": ["optim"], "9_export": ["video codec", "training"]}
    assert decoder() != before
    assert train(video_decoder=LONGER) == {}


def test_a_longer_joint_stage_leaves_the_planner_whose_tokenizer_is_the_same(train: Train) -> None:
    assert train(joint=LONGER) == {"5_joint": ["optim"], "9_export": ["joint", "text encoder", "training"]}


@pytest.mark.parametrize("change", [{"shift": 2.0}, {"dtype": "float32"}, {"guidance_scale": 3.0}])
def test_an_export_with_other_settings_is_made_again(train: Train, change: dict[str, Any]) -> None:
    assert train(export=change) == {"9_export": list(change)}


def test_a_checkpoint_that_was_removed_is_made_again(train: Train) -> None:
    before = decoder()
    shutil.rmtree("model")
    assert train() == {"9_export": ["its result"]}
    assert decoder() == before


def test_new_clips_are_rendered_and_what_was_trained_on_the_old_ones_is_refused(train: Train) -> None:
    with pytest.raises(CheckpointError, match=r"audio_codec was trained with something else.*scenes") as refused:
        train(render={"seed": 99})
    assert "remove run/audio_codec" in refused.value.hint.replace("\\", "/")
    shutil.rmtree("run/audio_codec")
    shutil.rmtree("run/video_codec")
    with pytest.raises(CheckpointError, match=r"joint was trained with something else.*latents"):
        train(render={"seed": 99})  # both codecs are trained again, and the latents are made of them
    for name in ("joint", "planner", "video_decoder"):
        shutil.rmtree(Path("run", name))
    assert "9_export" in train(render={"seed": 99}) and train(render={"seed": 99}) == {}


@pytest.mark.parametrize(
    ("stage", "change", "named"),
    [
        ("audio_codec", {"batch_size": 3}, "batch_size"),
        ("video_codec", {"kl_weight": 0.1}, "kl_weight"),
        ("joint", {"optim": {**OPTIM, "muon_lr": 0.1}}, "optim"),
        ("planner", {"left_open": ["red"]}, "left_open"),
        ("video_codec", {"optim": {**OPTIM, "num_steps": 1}}, "2 steps"),
    ],
)
def test_a_trained_stage_with_other_settings_is_refused(train: Train, stage: str, change: dict[str, Any], named: str) -> None:
    with pytest.raises(CheckpointError, match=named):
        train(**{stage: change})


def test_an_earlier_versions_training_says_nothing_of_its_data_and_is_refused(train: Train) -> None:
    Path("run", "audio_codec", "made_from.json").unlink()
    Path("run", "audio_codec.done").write_text("{}", encoding="utf-8")
    with pytest.raises(CheckpointError, match="earlier version"):
        train()


def test_what_was_not_read_is_not_compared() -> None:
    old = Mark({"a": 1}, {"scenes": "x"})
    assert find_changes(old, Mark({"a": 1}, {"scenes": "x", "later stage": "y"})) == []
    assert find_changes(old, Mark({"a": 2, "b": 3}, {})) == ["a", "b", "scenes"]
    assert find_changes(Mark({}, {"planner": ""}), Mark({}, {"planner": "x"})) == ["planner"]
    lengths = [Mark({"optim": {"num_steps": steps, "seed": 0}}, {}) for steps in (1, 2)]
    assert find_changes(*lengths) == ["optim"] and find_changes(*lengths, may_extend=True) == []
