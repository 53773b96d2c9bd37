"""A folder is looked at by its headers: what is there, what is missing, what is wrong."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mova.checkpoints.inspect import CheckpointReport, ComponentReport, WrongShape, inspect_checkpoint
from mova.checkpoints.load import Components
from mova.checkpoints.save import save_checkpoint
from mova.errors import CheckpointError

WEIGHTS = "diffusion_pytorch_model.safetensors"
COUNTS = {
    "video_dit": 14_288_901_184,
    "video_dit_2": 14_288_901_184,
    "audio_dit": 1_419_193_472,
    "dual_tower_bridge": 2_659_737_600,
    "audio_vae": 371_539_137,
    "video_vae": 126_892_531,
    "text_encoder": 5_680_910_336,
    "tokenizer": 0,
    "scheduler": 0,
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, tiny_two_experts: Components) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    return save_checkpoint(folder, tiny_two_experts, dtype=torch.bfloat16)


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def part(report: CheckpointReport, name: str) -> ComponentReport:
    return next(component for component in report.components if component.name == name)


def test_a_whole_folder_is_reported_as_it_was_written(saved: Path, tiny_two_experts: Components) -> None:
    report = inspect_checkpoint(saved)
    assert report.is_whole and report.has_weights
    assert (report.name, report.boundary_ratio, report.folder) == ("tiny", 0.9, saved)
    both = sum(p.numel() for p in tiny_two_experts.transformer.parameters())
    names = ("video_dit", "audio_dit", "dual_tower_bridge")
    assert sum(part(report, name).num_parameters for name in names) == both
    stored = {name: load_file(saved / name / WEIGHTS) for name in (*names, "video_dit_2", "video_vae", "audio_vae")}
    for name, tensors in stored.items():
        component = part(report, name)
        assert component.num_tensors == len(tensors)
        assert component.num_bytes == (saved / name / WEIGHTS).stat().st_size
        assert component.dtypes == {"bfloat16": sum(math.prod(tensor.shape) for tensor in tensors.values())}
        assert component.num_parameters == sum(component.dtypes.values())
    assert part(report, "tokenizer").num_parameters == 0 and "tokenizer.json" in part(report, "tokenizer").files
    assert report.num_parameters == sum(component.num_parameters for component in report.components)
    assert report.num_bytes == sum(component.num_bytes for component in report.components)


def test_missing_unknown_and_misshapen_tensors_are_named_together(copied: Path) -> None:
    path = copied / "audio_dit" / WEIGHTS
    tensors = load_file(path)
    del tensors["blocks.1.norm3.bias"], tensors["head.head.bias"]
    tensors["blocks.7.norm3.bias"] = torch.zeros(3)
    tensors["head.modulation"] = torch.zeros(1, 2, 5)
    save_file(tensors, path)
    report = inspect_checkpoint(copied)
    audio = part(report, "audio_dit")
    assert audio.missing == ("blocks.1.norm3.bias", "head.head.bias")
    assert audio.extra == ("blocks.7.norm3.bias",)
    assert audio.wrong_shapes == (WrongShape("head.modulation", (1, 2, 5), (1, 2, 32)),)
    assert set(audio.dtypes) == {"bfloat16", "float32"}
    assert not report.is_whole
    assert [component.name for component in report.components if not component.is_whole] == ["audio_dit"]


def test_a_component_without_weights_lacks_all_of_them(copied: Path) -> None:
    (copied / "video_dit_2" / WEIGHTS).unlink()
    (copied / "tokenizer" / "tokenizer.json").unlink()
    report = inspect_checkpoint(copied)
    assert not report.is_whole
    assert len(part(report, "video_dit_2").missing) == part(report, "video_dit").num_tensors
    assert part(report, "tokenizer").missing == ("tokenizer.json",)


def test_configuration_alone_tells_what_the_weights_would_be(copied: Path) -> None:
    expected = {component.name: component.num_parameters for component in inspect_checkpoint(copied).components}
    for path in copied.rglob("*.safetensors"):
        path.unlink()
    shutil.rmtree(copied / "tokenizer")
    report = inspect_checkpoint(copied)
    assert not report.has_weights and report.is_whole
    assert {component.name: component.num_parameters for component in report.components} == expected
    assert part(report, "video_dit").files == () and part(report, "video_dit").missing == ()


def test_shards_are_one_component_and_a_missing_one_is_an_error(copied: Path) -> None:
    folder = copied / "video_dit"
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = sorted(tensors)
    parts = {"a-00001-of-00002.safetensors": names[::2], "a-00002-of-00002.safetensors": names[1::2]}
    for file, keys in parts.items():
        save_file({key: tensors[key] for key in keys}, folder / file)
    index = {"weight_map": {key: file for file, keys in parts.items() for key in keys}}
    (folder / "a.safetensors.index.json").write_text(json.dumps(index))
    report = inspect_checkpoint(copied)
    assert part(report, "video_dit").files == tuple(parts)
    assert part(report, "video_dit").num_tensors == len(tensors) and report.is_whole
    (folder / "a-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="a-00002-of-00002"):
        inspect_checkpoint(copied)


def test_a_tied_embedding_may_be_stored_under_either_name_or_both(copied: Path) -> None:
    path = copied / "text_encoder" / "model.safetensors"
    tensors = load_file(path)
    assert "shared.weight" in tensors
    shared = tensors["shared.weight"]
    save_file(tensors | {"encoder.embed_tokens.weight": shared.clone()}, path)
    assert inspect_checkpoint(copied).is_whole
    del tensors["shared.weight"]
    save_file(tensors | {"encoder.embed_tokens.weight": shared}, path)
    assert inspect_checkpoint(copied).is_whole


def test_what_is_no_checkpoint_is_one_clear_error(copied: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        inspect_checkpoint(tmp_path / "empty")
    (tmp_path / "film.mp4").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="is a file"):
        inspect_checkpoint(tmp_path / "film.mp4")
    path = copied / "video_vae" / WEIGHTS
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="broken"):
        inspect_checkpoint(copied)
    path.rename(path.with_suffix(".bin"))
    with pytest.raises(CheckpointError, match="pickled"):
        inspect_checkpoint(copied)


@pytest.mark.parametrize(
    ("name", "key", "value"), [("video_dit", "dim", 7), ("audio_vae", "n_fft", "x"), ("audio_dit", "dim", 48)]
)
def test_configurations_that_do_not_fit_are_an_error(copied: Path, name: str, key: str, value: object) -> None:
    path = copied / name / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(CheckpointError, match=copied.name):
        inspect_checkpoint(copied)
    path.unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        inspect_checkpoint(copied)


def test_no_tensor_is_read(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(saved, folder)
    for path in folder.glob("*/*.safetensors"):  # values replaced by a hole of the same length: a header is all there is
        size, length = path.stat().st_size, int.from_bytes(path.read_bytes()[:8], "little")
        os.truncate(path, 8 + length)
        os.truncate(path, size)
    assert inspect_checkpoint(folder).components == inspect_checkpoint(saved).components


def test_the_shipped_model_is_whole() -> None:
    report = inspect_checkpoint("mova-base")
    assert report.is_whole and report.name == "mova-base" and report.boundary_ratio is None
    assert 10_000_000 < report.num_parameters < 15_000_000


@pytest.mark.parametrize("folder", ["official_tiny", "official_full_configs"])
def test_official_folders_are_understood(folder: str, golden_folder: Path) -> None:
    report = inspect_checkpoint(golden_folder / folder)
    assert report.is_whole and report.boundary_ratio == 0.9
    assert report.has_weights == (folder == "official_tiny")
    if not report.has_weights:
        assert {component.name: component.num_parameters for component in report.components} == COUNTS
