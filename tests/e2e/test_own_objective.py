"""An objective of another package: one file with a recipe and a loss, trained and resumed as the others are."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mova.errors import RequestError
from mova.training.recipe import StageProgress, find_stage, load_recipe, run_recipe, run_recipes

FILE = '''
"""Learns how loud a clip is from its pictures."""

from typing import Literal

import numpy as np
import torch
from torch import nn

from mova.data.shards import open_shards
from mova.training.objective import Objective, draw_below
from mova.training.recipe import TrainRecipe


class LoudnessRecipe(TrainRecipe):
    stage: Literal["loudness"] = "loudness"
    width: int = 8

    def build(self, device):
        return Loudness(open_shards(self.folder / "scenes" / "train"), self.width, device)


class Loudness(Objective):
    def __init__(self, shards, width, device):
        pool = nn.AdaptiveAvgPool3d(1), nn.Flatten()
        net = nn.Sequential(nn.Conv3d(3, width, 4, stride=4), nn.SiLU(), *pool, nn.Linear(width, 1))
        self.modules = nn.ModuleDict({"net": net}).to(device)
        self.shards, self.device = shards, device

    def loss(self, step, num_steps, generator):
        shard = self.shards[draw_below(len(self.shards), generator)]
        index = draw_below(len(shard.frames), generator)
        frames = torch.from_numpy(np.array(shard.frames[index])).to(self.device)
        waveform = torch.from_numpy(np.array(shard.waveforms[index])).to(self.device)
        loudness = (waveform.float() / 32767.0).square().mean().sqrt()
        error = self.modules["net"](frames.permute(3, 0, 1, 2)[None].float() / 255.0)[0, 0] - loudness
        return error.square(), {"error": error.abs().item()}
'''
RENDER = "stage: render\nfolder: run\nnum_clips: 8\nnum_held_out: 8\nclips_per_shard: 8\nprocesses: 1\n"
WORLD = "world: {width: 32, height: 32, num_frames: 9, kinds: [drums]}\n"
OPTIM = "optim: {num_steps: 12, save_every: 5, validate_every: 6, warmup_steps: 1}\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with the file, installed as a package that names its stage."""
    site = tmp_path / "site"
    info = site / "loudness-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "loudness.py").write_text(FILE, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: loudness\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[mova.recipes]\nloudness = loudness:LoudnessRecipe\n", encoding="utf-8")
    monkeypatch.syspath_prepend(site)
    importlib.invalidate_caches()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "1_render.yaml").write_text(RENDER + WORLD, encoding="utf-8")
    (tmp_path / "2_loudness.yaml").write_text(f"stage: loudness\nfolder: run\nprocesses: 1\n{WORLD}{OPTIM}", encoding="utf-8")
    yield tmp_path
    sys.modules.pop("loudness", None)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "loudness" / "net" / "weights.safetensors")


def test_a_recipe_and_a_loss_in_one_file_are_trained_and_resumed_bit_for_bit(package: Path) -> None:
    seen: list[StageProgress] = []
    run_recipes([package / "1_render.yaml", package / "2_loudness.yaml"], on_progress=seen.append)
    assert [one.done for one in seen if one.stage == "loudness"] == list(range(1, 13))
    assert all("error" in one.values for one in seen if one.stage == "loudness")
    whole = weights(package / "run")

    (package / "other").mkdir()
    (package / "other" / "scenes").symlink_to(package / "run" / "scenes")
    recipe = load_recipe(package / "2_loudness.yaml", ("folder=other",))

    def die(progress: StageProgress) -> None:
        if progress.done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, on_progress=die)
    steps: list[int] = []
    run_recipe(recipe, on_progress=lambda progress: steps.append(progress.done))
    assert steps == list(range(6, 13)), "it goes on from the checkpoint after five steps"
    resumed = weights(package / "other")
    assert whole.keys() == resumed.keys() and all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_its_fields_are_checked_as_those_of_every_recipe(package: Path) -> None:
    with pytest.raises(RequestError, match="widht"):
        load_recipe(package / "2_loudness.yaml", ("widht=4",))
    assert load_recipe(package / "2_loudness.yaml", ("width=4",)).width == 4  # type: ignore[attr-defined]


def test_a_stage_that_nobody_installed_names_the_nearest(package: Path) -> None:
    with pytest.raises(RequestError, match="no stage 'loudnes'") as error:
        find_stage("loudnes")
    assert "loudness" in str(error.value.hint)
    entry_points = package / "site" / "loudness-1.0.dist-info" / "entry_points.txt"
    entry_points.write_text("[mova.recipes]\nother = loudness:Loudness\n", encoding="utf-8")
    with pytest.raises(RequestError, match="is no recipe"):
        find_stage("other")
