"""From nothing to a model that makes a clip, by one command, killed once on the way."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file
from warm_python import COMMAND_LINE, WarmPython

from mova.checkpoints.layout import DIFFUSERS_WEIGHTS
from mova.errors import RequestError
from mova.media.decode import read_clip
from mova.training.recipe import load_recipe

ROOT = Path(__file__).parents[2]
WORLD = "{width: 32, height: 32, num_frames: 17, kinds: [drums, piano]}"
OPTIM = "{num_steps: 6, save_every: 2, validate_every: 6, warmup_steps: 1}"
RECIPES = {
    "1_render": "{stage: render, num_clips: 16, num_held_out: 8, clips_per_shard: 8}",
    "2_audio": f"{{stage: audio_codec, codec: {{width: 32, num_blocks: 1}}, batch_size: 2, optim: {OPTIM}}}",
    "3_video": "{stage: video_codec, codec: {base_width: 8, width: 16}, batch_size: 2, num_frames: 9, crop: 32, "
    f"optim: {OPTIM}}}",
    "4_latents": "{stage: latents, num_clips: 16, num_held_out: 8, clips_per_shard: 8}",
    "5_joint": f"{{stage: joint, text_layers: 1, vocab_size: 400, batch_size: 2, optim: {OPTIM}}}",
    "6_planner": f"{{stage: planner, width: 32, layers: 1, batch_size: 4, optim: {OPTIM}}}",
    "7_reader": f"{{stage: reader, width: 32, layers: 1, batch_size: 4, optim: {OPTIM}}}",
    "8_decoder": f"{{stage: video_codec, name: video_decoder, start_from: video_codec, decoder_only_from: 0.0, crop: 32, "
    f"num_frames: 9, batch_size: 2, optim: {OPTIM}}}",
    "9_export": "{stage: export, video_codec: video_decoder, output: model}",
}

GOING_ON = {
    "a_latents": "{stage: latents, codecs_from: model, seed: 5, num_clips: 16, num_held_out: 8, clips_per_shard: 8}",
    "b_joint": "{stage: joint, start_from: model, batch_size: 6, noise: {tasks: {repaint: 0.5}, drop_cues: 0.2}, "
    "optim: {num_steps: 3, save_every: 2, validate_every: 3, warmup_steps: 1}}",
    "c_render": "{stage: render, seed: 6, num_clips: 8, num_held_out: 8, clips_per_shard: 8}",
    "d_decoder": f"{{stage: video_codec, name: video_decoder, start_from: model, decoder_only_from: 0.0, crop: 32, "
    f"num_frames: 9, batch_size: 2, optim: {OPTIM}}}",
    "e_export": "{stage: export, codecs_from: model, video_codec: video_decoder, output: longer}",
}


def test_a_model_is_trained_from_nothing_survives_kill_9_and_makes_a_clip(
    tmp_path: Path, mova, warm_python: WarmPython
) -> None:
    for name, text in RECIPES.items():
        processes = 2 if name == "5_joint" else 1
        document = f"{text[:-1]}, processes: {processes}, folder: run, world: {WORLD}}}\n"
        (tmp_path / f"{name}.yaml").write_text(document, encoding="utf-8")
    command = ("train", *sorted(path.name for path in tmp_path.glob("*.yaml")))
    first = warm_python.start(COMMAND_LINE, command, folder=tmp_path)
    state = tmp_path / "run" / "joint" / "state.safetensors"
    deadline = time.monotonic() + 600
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGKILL)
    assert first.wait(30).returncode == -signal.SIGKILL
    assert state.exists(), "the joint stage never saved"
    again = mova(*command)
    assert again.returncode == 0, again.stderr
    assert "render" not in again.stderr, "a finished stage was run again"

    done = mova("generate", "drum pads are hit: red", "--model", "model", "--steps", "2", "--seed", "1", "-o", "a.mkv")
    assert done.returncode == 0, done.stderr
    clip = read_clip(tmp_path / "a.mkv")
    assert (clip.num_frames, clip.width, clip.height) == (17, 32, 32)
    assert "| run/joint | 6 |" in (tmp_path / "model" / "README.md").read_text(encoding="utf-8")

    for name, text in GOING_ON.items():
        (tmp_path / f"{name}.yaml").write_text(f"{text[:-1]}, processes: 1, folder: more, world: {WORLD}}}\n", encoding="utf-8")
    on = mova("train", *(f"{name}.yaml" for name in GOING_ON))
    assert on.returncode == 0, on.stderr
    card = (tmp_path / "longer" / "README.md").read_text(encoding="utf-8")
    assert "| run/joint | 6 |" in card and "| more/joint | 3 |" in card
    for part, learns in (("video_dit", ""), ("video_vae", "decoder."), ("audio_vae", "nothing")):
        before, after = (load_file(tmp_path / folder / part / DIFFUSERS_WEIGHTS) for folder in ("model", "longer"))
        changed = {name for name in before if not before[name].equal(after[name])}
        assert bool(changed) == (learns != "nothing"), f"{part}: changed {sorted(changed)[:3]}"
        assert not any(name.startswith("encoder.") for name in changed), "the latents are no longer the same"


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").rglob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_recipe_loads(path: Path) -> None:
    assert load_recipe(path).folder


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("stage: joint\nfolder: x\noptim: {num_steps: 0}\n", "num_steps"),
        ("stage: joint\nfolder: x\noptim: {num_step: 5}\n", "num_step"),
        ("stage: jiont\nfolder: x\n", "jiont"),
        ("folder: x\n", "names no stage"),
        ("- a list\n", "not a mapping"),
        ("stage: [\n", "cannot read"),
    ],
)
def test_a_wrong_recipe_names_the_field(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "r.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(RequestError, match=named):
        load_recipe(tmp_path / "r.yaml")


def test_set_overrides_a_nested_field(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("stage: joint\nfolder: x\noptim: {num_steps: 9}\n", encoding="utf-8")
    recipe = load_recipe(tmp_path / "r.yaml", ("optim.num_steps=3", "batch_size=5"))
    assert recipe.optim.num_steps == 3 and recipe.batch_size == 5  # type: ignore[union-attr]
    with pytest.raises(RequestError, match="path=value"):
        load_recipe(tmp_path / "r.yaml", ("nonsense",))
