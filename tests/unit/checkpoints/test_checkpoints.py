"""A checkpoint folder comes back as it was written, and a broken one is refused by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mova.checkpoints.layout import CHECKSUMS, INDEX, read_index, resolve_model
from mova.checkpoints.load import Components, load_checkpoint
from mova.checkpoints.meta import weight_files
from mova.checkpoints.save import save_checkpoint
from mova.errors import CheckpointError

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, tiny_two_experts: Components) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("models") / "tiny", tiny_two_experts)


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    """A copy to break, without checksums so that the inner checks are reached."""
    import shutil

    folder = Path(shutil.copytree(saved, tmp_path / "copy"))
    (folder / CHECKSUMS).unlink()
    return folder


def all_files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_saving_what_was_loaded_writes_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    loaded = load_checkpoint(saved)
    again = save_checkpoint(tmp_path / "again", loaded)
    assert all_files(again) == all_files(saved)


def test_loaded_weights_equal_the_saved_ones_and_experts_share_audio_and_bridge(
    saved: Path, tiny_two_experts: Components
) -> None:
    loaded = load_checkpoint(saved)
    for name in ("transformer", "transformer_2", "video_vae", "audio_vae", "text_encoder"):
        ours, theirs = getattr(tiny_two_experts, name).state_dict(), getattr(loaded, name).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), name
    assert loaded.transformer_2 is not None
    first, second = loaded.transformer.transformer_blocks[0], loaded.transformer_2.transformer_blocks[0]
    assert second.audio is first.audio
    assert second.a2v is first.a2v
    assert second.video is not first.video
    assert loaded.index == tiny_two_experts.index
    assert loaded.tokenizer("a red ball")["input_ids"] == tiny_two_experts.tokenizer("a red ball")["input_ids"]
    assert loaded.scheduler.schedule_config == tiny_two_experts.scheduler.schedule_config


def test_names_on_disk_are_the_official_ones(saved: Path) -> None:
    names = {
        folder: set(load_file(saved / folder / WEIGHTS))
        for folder in ("video_dit", "video_dit_2", "audio_dit", "dual_tower_bridge")
    }
    assert names["video_dit"] == names["video_dit_2"]
    assert {"patch_embedding.weight", "blocks.0.self_attn.q.weight", "head.modulation"} <= names["audio_dit"]
    assert "audio_to_video_conditioners.1.inner.k.bias" in names["dual_tower_bridge"]
    values = json.loads((saved / INDEX).read_text())
    assert values["video_dit"] == ["mova.diffusion.models.wan_video_dit", "WanModel"]
    assert "blocks.0.self_attn.q.weight" in names["video_dit"]


def test_weights_can_be_stored_in_half_the_bytes_and_are_read_in_the_wanted_type(
    tmp_path: Path, tiny_components: Components
) -> None:
    folder = save_checkpoint(tmp_path / "half", tiny_components, dtype=torch.float16, extra_files={"README.md": "x"})
    assert load_file(folder / "video_dit" / WEIGHTS)["head.modulation"].dtype == torch.float16
    loaded = load_checkpoint(folder, dtype=torch.bfloat16)
    assert loaded.transformer.video_head.modulation.dtype == torch.bfloat16
    assert next(loaded.video_vae.parameters()).dtype == torch.float32
    assert (folder / "README.md").read_text() == "x"


def test_shards_with_an_index_are_one_component(copied: Path) -> None:
    folder = copied / "video_dit"
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = sorted(tensors)
    parts = {"a-00001-of-00002.safetensors": names[::2], "a-00002-of-00002.safetensors": names[1::2]}
    for file, keys in parts.items():
        save_file({key: tensors[key] for key in keys}, folder / file)
    index = {"weight_map": {key: file for file, keys in parts.items() for key in keys}}
    (folder / "a.safetensors.index.json").write_text(json.dumps(index))
    loaded = load_checkpoint(copied).transformer.state_dict()
    assert torch.equal(loaded["video_head.modulation"], tensors["head.modulation"])
    (folder / "a-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="a-00002-of-00002"):
        load_checkpoint(copied)


def edited(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    path = folder / "audio_dit" / WEIGHTS
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_missing_unknown_and_misshapen_tensors_are_named(copied: Path) -> None:
    path = copied / "audio_dit" / WEIGHTS
    whole = path.read_bytes()
    edited(copied, lambda tensors: tensors.pop("blocks.1.norm3.bias"))
    with pytest.raises(CheckpointError, match=r"audio_dit lacks .*blocks\.1"):
        load_checkpoint(copied)
    path.write_bytes(whole)
    edited(copied, lambda tensors: tensors.update({"blocks.7.norm3.bias": torch.zeros(3)}))
    with pytest.raises(CheckpointError, match=r"unknown tensor: blocks\.7\.norm3\.bias"):
        load_checkpoint(copied)
    path.write_bytes(whole)
    edited(copied, lambda tensors: tensors.update({"head.modulation": torch.zeros(1, 2, 5)}))
    with pytest.raises(CheckpointError, match=r"head\.modulation has the shape \[1, 2, 5\].*\[1, 2, 32\]"):
        load_checkpoint(copied)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="broken"):
        load_checkpoint(copied)


def test_a_changed_byte_in_any_file_is_found_by_its_checksum(copied: Path, saved: Path) -> None:
    (copied / CHECKSUMS).write_bytes((saved / CHECKSUMS).read_bytes())
    path = copied / "video_vae" / WEIGHTS
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match=r"video_vae.*broken") as caught:
        load_checkpoint(copied)
    assert caught.value.exit_code == 3
    load_checkpoint(copied, should_verify=False)
    (copied / "scheduler" / "scheduler_config.json").unlink()
    with pytest.raises(CheckpointError, match="scheduler_config"):
        load_checkpoint(copied)


def test_pickled_weights_are_refused_unread(copied: Path) -> None:
    (copied / "video_vae" / WEIGHTS).rename(copied / "video_vae" / "diffusion_pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pickled"):
        load_checkpoint(copied)


def test_a_class_that_is_not_known_is_refused_and_nothing_is_imported(copied: Path) -> None:
    values = json.loads((copied / INDEX).read_text())
    (copied / INDEX).write_text(json.dumps(values | {"video_vae": ["os", "system"]}))
    with pytest.raises(CheckpointError, match=r"'system' of video_vae.*VideoCodec"):
        read_index(copied)
    values.pop("audio_dit")
    (copied / INDEX).write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="does not name audio_dit"):
        read_index(copied)


def test_unknown_keys_in_configurations_are_accepted_and_kept(copied: Path, tmp_path: Path) -> None:
    path = copied / "video_dit" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"has_ref_conv": False}))
    index = json.loads((copied / INDEX).read_text())
    (copied / INDEX).write_text(json.dumps(index | {"audio_vae_type": "dac"}))
    again = save_checkpoint(tmp_path / "again", load_checkpoint(copied))
    assert json.loads((again / "video_dit" / "config.json").read_text())["has_ref_conv"] is False
    assert json.loads((again / INDEX).read_text())["audio_vae_type"] == "dac"


@pytest.mark.parametrize("name", ["mova-bse", "a/b/c", "./nothing-here", "nothing"])
def test_a_model_that_is_nowhere_is_one_clear_error(name: str) -> None:
    with pytest.raises(CheckpointError, match="there is no model"):
        resolve_model(name)


def test_a_hub_model_that_cannot_be_reached_is_one_clear_error(tmp_path: Path) -> None:
    code = (
        "from mova.checkpoints.layout import resolve_model\n"
        "from mova.errors import CheckpointError\n"
        "try: resolve_model('somebody/something')\n"
        "except CheckpointError as error: print(error)"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "somebody/something cannot be downloaded" in result.stdout
    assert result.stderr == ""


def test_a_file_or_an_empty_folder_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="is a file"):
        resolve_model(tmp_path / "film.mp4")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        load_checkpoint(tmp_path)


def test_a_folder_that_holds_something_else_is_not_overwritten(tmp_path: Path, tiny_components: Components) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("dear")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        save_checkpoint(tmp_path / "thesis", tiny_components)
    assert [path.name for path in tmp_path.rglob("*")] == ["thesis", "chapter.txt"]


def test_a_failed_save_leaves_nothing_behind(tmp_path: Path, tiny_components: Components) -> None:
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_checkpoint(tmp_path / "model", tiny_components, extra_files={"no/such/folder.txt": "x"})
    assert list(tmp_path.iterdir()) == []


def test_an_older_checkpoint_is_replaced_whole(tmp_path: Path, tiny_components: Components) -> None:
    folder = save_checkpoint(tmp_path / "model", tiny_components, extra_files={"old.txt": "x"})
    save_checkpoint(folder, tiny_components)
    assert not (folder / "old.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert len(weight_files(folder / "video_vae")) == 1
