"""A checkpoint comes from anyone: no key of it chooses what runs, and nothing in it waits, expands or fills the memory."""

from __future__ import annotations

import base64
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from mova.checkpoints.inspect import inspect_checkpoint
from mova.checkpoints.layout import read_index, resolve_model
from mova.checkpoints.load import load_prompt_reader
from mova.checkpoints.meta import read_meta_checkpoint
from mova.checkpoints.tokenizer import TokenCounter
from mova.errors import CheckpointError
from mova.pipeline.reading import reader_of_folder

WEIGHTS = "diffusion_pytorch_model.safetensors"
Change = Callable[[Path], Any]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the shipped model, without its checksums."""
    folder = tmp_path / "model"
    shutil.copytree(resolve_model("mova-base"), folder)
    (folder / "checksums.json").unlink()
    return folder


def edit(path: str, **values: Any) -> Change:
    def change(folder: Path) -> None:
        file = folder / path
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return change


def write(path: str, content: bytes) -> Change:
    return lambda folder: (folder / path).write_bytes(content)


def pipe(path: str) -> Change:
    def change(folder: Path) -> None:
        (folder / path).unlink(missing_ok=True)
        os.mkfifo(folder / path)

    return change


def link(path: str, target: str) -> Change:
    def change(folder: Path) -> None:
        (folder / path).unlink(missing_ok=True)
        (folder / path).symlink_to(target)

    return change


def world(**values: Any) -> Change:
    def change(folder: Path) -> None:
        file = folder / "model_index.json"
        index = json.loads(file.read_text())
        index["world"] |= values
        file.write_text(json.dumps(index))

    return change


def long_header(folder: Path) -> None:
    path = folder / "video_vae" / WEIGHTS
    path.write_bytes((2**31).to_bytes(8, "little") + b"{")
    os.truncate(path, 2**31 + 8)


def growing(times: int) -> dict[str, Any]:
    rule = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10}
    return {"type": "Sequence", "normalizers": [rule] * times}


def split_by(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def charsmap(longest: int) -> dict[str, Any]:
    data = (4).to_bytes(4, "little") + bytes(4) + b"x" * longest + b"\0"
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(data).decode()}


HUGE = 10**8
HOSTILE: dict[str, Change] = {
    "layers of the text encoder": edit("text_encoder/config.json", num_layers=HUGE),
    "layers beyond the weights": edit("text_encoder/config.json", num_layers=900),
    "layers of a tower": edit("video_dit/config.json", num_layers=HUGE),
    "layers of the bridge": edit("dual_tower_bridge/config.json", visual_layers=HUGE),
    "blocks of a codec": edit("audio_vae/config.json", num_blocks=HUGE),
    "a width": edit("audio_dit/config.json", ffn_dim=10**12),
    "a window": edit("audio_vae/config.json", n_fft=10**10),
    "a vocabulary": edit("text_encoder/config.json", vocab_size=10**11),
    "steps of the scheduler": edit("scheduler/scheduler_config.json", num_train_timesteps=10**10),
    "an endless number": lambda folder: (folder / "video_dit" / "config.json").write_text('{"dim": ' + "9" * 5000 + "}"),
    "no number": lambda folder: (folder / "video_dit" / "config.json").write_text('{"dim": NaN}'),
    "an activation": edit("text_encoder/config.json", feed_forward_proj="gated-evil"),
    "another type": edit("text_encoder/config.json", d_model="128"),
    "a list": edit("video_vae/config.json", latents_mean=[0.0] * 10**5),
    "nesting": write("video_dit/config.json", b"[" * 10**6),
    "a pipe for weights": pipe(f"video_vae/{WEIGHTS}"),
    "a pipe for a configuration": pipe("text_encoder/config.json"),
    "a pipe for the index": pipe("model_index.json"),
    "a pipe beside the tokenizer": pipe("tokenizer/special_tokens_map.json"),
    "an endless device": link(f"audio_vae/{WEIGHTS}", "/dev/zero"),
    "a device for a configuration": link("audio_dit/config.json", "/dev/zero"),
    "a header of 2 GiB": long_header,
    "a boundary": edit("model_index.json", boundary_ratio="x"),
    "tokens": world(max_tokens=10**9),
    "tokens of another type": world(max_tokens=[32]),
    "steps": world(num_inference_steps=10**9),
    "a size": world(default_size=[10**9, 16]),
    "a rule that grows": edit("tokenizer/tokenizer.json", normalizer=growing(9)),
    "a rule that grows a little too often": edit("tokenizer/tokenizer.json", normalizer=growing(1)),
    "a pattern that goes back": edit("tokenizer/tokenizer.json", pre_tokenizer=split_by("(a+)+$")),
    "a map that grows": edit("tokenizer/tokenizer.json", normalizer=charsmap(10**5)),
    "padding": edit("tokenizer/tokenizer.json", padding={"strategy": {"Fixed": 10**9}, "pad_id": 0}),
    "a template that grows": edit(
        "tokenizer/tokenizer.json",
        post_processor={
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "pair": [],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [1] * 10**5, "tokens": ["</s>"] * 10**5}},
        },
    ),
    "an unknown rule": edit("tokenizer/tokenizer.json", pre_tokenizer={"type": "Evil"}),
    "a nested tokenizer": write("tokenizer/tokenizer.json", b"[" * 10**6),
    "a nested configuration of it": write("tokenizer/tokenizer.json", b'{"model": []}'),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_checkpoint_is_refused_at_once(model: Path, case: str) -> None:
    HOSTILE[case](model)
    began = time.process_time()
    with pytest.raises(CheckpointError) as caught:
        inspect_checkpoint(model)
        TokenCounter(model)("a red ball")
        read_meta_checkpoint(model, should_verify=True)
    assert caught.value.hint and len(caught.value.message) < 1000
    assert time.process_time() - began < 20


@pytest.mark.parametrize("part", ["text_encoder", "cue_planner"])
def test_keys_that_choose_what_runs_are_ignored_with_a_word(model: Path, part: str, caplog: pytest.LogCaptureFixture) -> None:
    evil = {
        "attn_implementation": "evil-org/evil-kernel",
        "_attn_implementation": "evil-org/evil-kernel",
        "auto_map": {"AutoModel": "evil--code.Model"},
        "quantization_config": {"quant_method": "evil"},
        "use_kernels": True,
    }
    edit(f"{part}/config.json", **evil)(model)
    checkpoint = read_meta_checkpoint(model, should_verify=False)
    config: Any = checkpoint.parts[part].module.config
    assert not any(hasattr(config, name) for name in ("auto_map", "quantization_config", "use_kernels"))
    assert "evil" not in str(config._attn_implementation)
    assert "attn_implementation, auto_map, quantization_config" in caplog.text


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"tags": ["count=many"]}, "'count=many' is no tag of a prompt"),
        ({"tags": ["colour=" + "x" * 99]}, "is no tag of a prompt"),
        ({"tags": "colour=red"}, "tags must be a list of texts"),
        ({"kinds": []}, "kinds must be a list of texts"),
        ({"characters": [1, 2]}, "characters must be a list of texts"),
        ({"num_heads": 0}, "prompt_reader"),
        ({"width": 2**20}, "width is 1048576"),
        ({"num_layers": 5000}, "num_layers is 5000"),
        ({"languages": ["en"]}, "to_whole"),
    ],
)
def test_a_prompt_reader_of_other_sizes_or_with_other_tags_is_refused(model: Path, values: dict[str, Any], named: str) -> None:
    edit("prompt_reader/config.json", **values)(model)
    for read in (lambda: read_meta_checkpoint(model, should_verify=False), lambda: load_prompt_reader(model)):
        with pytest.raises(CheckpointError, match=named):
            read()


def test_kinds_and_labels_that_only_the_reader_knows_are_outside(model: Path) -> None:
    """A reader of one model in the folder of another must not break a run."""
    edit("prompt_reader/config.json", kinds=["outside", *"abcdefgh"])(model)
    reading = reader_of_folder(model, read_index(model).capabilities)("a red ball bounces", 2.0)
    assert reading is not None and reading.kind is None


def test_a_folder_cannot_name_files_outside_it(model: Path) -> None:
    (model / "checksums.json").write_text('{"../../secret": "00"}')
    with pytest.raises(CheckpointError, match="missing"):
        read_meta_checkpoint(model, should_verify=True)


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "no/such/model/here", "nosuch"])
def test_a_name_that_no_folder_can_have_is_no_model(name: str) -> None:
    with pytest.raises(CheckpointError, match="there is no model"):
        resolve_model(name)


def test_overlapping_tensors_are_refused(model: Path) -> None:
    path = model / "video_vae" / WEIGHTS
    save_file(load_file(path), path)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    names = [name for name in header if name != "__metadata__"]
    header[names[1]] = header[names[0]]
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    with pytest.raises(CheckpointError, match="overlap"):
        inspect_checkpoint(model)


def test_the_shipped_model_passes_every_check() -> None:
    folder = resolve_model("mova-base")
    assert inspect_checkpoint(folder).is_whole
    assert read_index(folder).capabilities.name == "mova-base"
    assert TokenCounter(folder)("a red ball") > 1
