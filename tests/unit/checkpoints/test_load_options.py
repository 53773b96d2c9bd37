"""A model loaded to run in another way gives the same clip, and what cannot be done is told before weights are read."""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from torch import Tensor

from mova.checkpoints.layout import CHECKSUMS, INDEX
from mova.checkpoints.load import Components, load_checkpoint, load_to_run
from mova.checkpoints.save import save_checkpoint
from mova.errors import CheckpointError, MissingExtraError, RequestError
from mova.pipeline import MOVAPipeline
from mova.runtime.options import RuntimeOptions
from mova.runtime.resolve import apply_runtime

WEIGHTS = "diffusion_pytorch_model.safetensors"
CPU: dict[str, Any] = {"device": "cpu", "attention_backend": "sdpa"}
Latents = tuple[Tensor, Tensor]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, tiny_two_experts: Components) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("models") / "tiny", tiny_two_experts)


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(saved, tmp_path / "copy"))
    (folder / CHECKSUMS).unlink()
    return folder


@pytest.fixture(scope="module")
def plain(saved: Path) -> Latents:
    """What a model whose weights are all in memory gives."""
    return run(MOVAPipeline.from_components(load_checkpoint(saved)))


def load(folder: Path, **options: Any) -> MOVAPipeline:
    components, runtime = load_to_run(folder, RuntimeOptions(**(CPU | options)))
    pipeline = MOVAPipeline.from_components(components)
    apply_runtime(pipeline, runtime)
    return pipeline


def run(pipeline: MOVAPipeline, **changes: Any) -> Latents:
    """Three steps, at levels 1, 0.94 and 0.8: two above the boundary."""
    values = {"num_frames": 5, "num_inference_steps": 3, "shift": 8.0, "guidance_scale": 1.0, "solver": "euler", "seed": 3}
    values |= {"output_type": "latent"} | changes
    output = pipeline("a red ball", return_dict=True, **values)
    return output.frames, output.audio


def same(left: Latents, right: Latents) -> bool:
    return torch.equal(left[0], right[0]) and torch.equal(left[1], right[1])


def in_memory(pipeline: MOVAPipeline) -> tuple[bool, bool]:
    first, second = pipeline.transformer, pipeline.transformer_2
    return first.video_head.head.weight.numel() > 0, second.video_head.head.weight.numel() > 0


def test_a_run_uses_both_experts(saved: Path) -> None:
    pipeline, used = MOVAPipeline.from_components(load_checkpoint(saved)), []
    for name in ("transformer", "transformer_2"):
        getattr(pipeline, name).register_forward_pre_hook(lambda *_, name=name: used.append(name))
    run(pipeline)
    assert used == ["transformer", "transformer", "transformer_2"]


@pytest.mark.parametrize(
    ("second", "is_dropped"),
    [("resident", False), ("prefetch", False), ("on_demand", False), ("prefetch", True), ("on_demand", True)],
)
def test_when_an_expert_is_read_and_dropped_changes_no_bit_in_any_run(
    saved: Path, plain: Latents, second: Any, is_dropped: bool
) -> None:
    pipeline = load(saved, second_expert=second, drop_first_expert=is_dropped)
    assert in_memory(pipeline) == (True, second == "resident")
    for _ in range(2):
        assert same(run(pipeline), plain)
        assert in_memory(pipeline) == (not is_dropped, True)


def test_the_second_expert_is_there_before_its_turn(saved: Path) -> None:
    states: list[bool] = []

    def watch(pipeline: MOVAPipeline, *_: Any) -> None:
        for thread in threading.enumerate():
            if thread.name == "mova-second-expert":
                thread.join(30)
        states.append(in_memory(pipeline)[1])

    run(load(saved), callback_on_step_end=watch)
    assert states == [True, True, True]
    states.clear()
    run(load(saved, second_expert="on_demand"), callback_on_step_end=watch)
    assert states == [False, False, True]


def test_runs_in_two_threads_that_drop_each_others_experts_give_the_same_clip(saved: Path, plain: Latents) -> None:
    pipeline, results = load(saved, drop_first_expert=True), []
    threads = [threading.Thread(target=lambda: results.append(run(pipeline))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2
    assert all(same(result, plain) for result in results)


@pytest.mark.parametrize("second", ["prefetch", "on_demand"])
def test_an_expert_that_breaks_after_loading_fails_the_run_and_a_mended_one_runs(
    copied: Path, plain: Latents, second: Any
) -> None:
    pipeline = load(copied, second_expert=second)
    path = copied / "video_dit_2" / WEIGHTS
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"video_dit_2.*broken"):
        run(pipeline)
    assert in_memory(pipeline) == (True, False)
    path.write_bytes(whole)
    assert same(run(pipeline), plain)


def test_an_expert_that_has_become_another_model_is_refused_by_name(copied: Path) -> None:
    pipeline = load(copied)
    tensors = load_file(copied / "video_dit_2" / WEIGHTS)
    save_file({f"other.{name}": value for name, value in tensors.items()}, copied / "video_dit_2" / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"video_dit_2 holds an unknown tensor: other\."):
        run(pipeline)


def test_saving_a_model_whose_experts_are_out_writes_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    pipeline = load(saved, second_expert="on_demand", drop_first_expert=True)
    pipeline.save_pretrained(tmp_path / "unread")
    run(pipeline)
    assert in_memory(pipeline) == (False, True)
    pipeline.save_pretrained(tmp_path / "dropped")
    for name in ("video_dit", "video_dit_2", "audio_dit", "dual_tower_bridge"):
        expected = (saved / name / WEIGHTS).read_bytes()
        assert (tmp_path / "unread" / name / WEIGHTS).read_bytes() == expected
        assert (tmp_path / "dropped" / name / WEIGHTS).read_bytes() == expected


def test_adapters_put_on_an_absent_expert_hold_when_it_comes_and_comes_again(saved: Path, plain: Latents) -> None:
    def adapted(**options: Any) -> MOVAPipeline:
        pipeline = load(saved, **options)
        for expert in (pipeline.transformer, pipeline.transformer_2):
            torch.manual_seed(0)
            expert.add_adapter(LoraConfig(r=2, target_modules=r".*\.video\..*to_[qkv]", init_lora_weights=False))
        return pipeline

    expected = run(adapted(second_expert="resident"))
    assert not same(expected, plain)
    pipeline = adapted(drop_first_expert=True)
    for _ in range(2):
        assert same(run(pipeline), expected)


def test_with_fp8_only_the_video_towers_blocks_are_stored_in_eight_bits(saved: Path, plain: Latents) -> None:
    pipeline = load(saved, quantisation="fp8", dtype="bfloat16", second_expert="resident")
    for expert in (pipeline.transformer, pipeline.transformer_2):
        assert expert.dtype == torch.bfloat16
        for name, parameter in expert.named_parameters():
            inside = name.startswith("transformer_blocks.") and ".video." in name
            is_linear = any(f".{layer}." in name for layer in ("to_q", "to_k", "to_v", "to_out", "ffn.0", "ffn.2"))
            assert (parameter.dtype == torch.float8_e4m3fn) == (inside and is_linear), name
            assert parameter.dtype in (torch.float8_e4m3fn, torch.bfloat16)
    in_bfloat16 = run(load(saved, dtype="bfloat16"))
    quantised = run(pipeline)
    assert not same(quantised, in_bfloat16)
    assert (quantised[0] - in_bfloat16[0]).norm() / in_bfloat16[0].norm() < 0.3
    dropping = load(saved, quantisation="fp8", dtype="bfloat16", drop_first_expert=True)
    for _ in range(2):
        assert same(run(dropping), quantised)


@pytest.mark.parametrize("is_dropped", [False, True])
@pytest.mark.parametrize("quantisation", ["none", "fp8"])
def test_blocks_that_wait_in_host_memory_change_no_bit(saved: Path, is_dropped: bool, quantisation: Any) -> None:
    expected = run(load(saved, quantisation=quantisation))
    options = RuntimeOptions(**CPU, quantisation=quantisation, drop_first_expert=is_dropped)
    components, runtime = load_to_run(saved, options)
    pipeline = MOVAPipeline.from_components(components)
    apply_runtime(pipeline, replace(runtime, offload="block"))
    for _ in range(2):
        assert same(run(pipeline), expected)
    assert pipeline("a ball", num_frames=5, num_inference_steps=1, seed=1).clip.frames.shape == (5, 32, 32, 3)


def edited(path: Path, name: str, value: Tensor | None) -> None:
    tensors = load_file(path)
    if value is None:
        del tensors[name]
    else:
        tensors[name] = value
    save_file(tensors, path)


def test_an_expert_that_is_read_later_is_compared_with_its_configuration_at_once(copied: Path) -> None:
    path = copied / "video_dit_2" / WEIGHTS
    whole = path.read_bytes()
    for name, value, message in (
        ("head.modulation", None, r"video_dit_2 lacks .*video_head\.modulation"),
        ("head.modulation", torch.zeros(1, 2, 5), r"head\.modulation has the shape \[1, 2, 5\]"),
        ("head.modulation", torch.zeros(1, 2, 48, dtype=torch.int8), r"head\.modulation is stored as I8.*BF16"),
        ("head.scale", torch.zeros(1), r"video_dit_2 holds an unknown tensor: head\.scale"),
    ):
        edited(path, name, value)
        with pytest.raises(CheckpointError, match=message):
            load(copied)
        path.write_bytes(whole)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"video_dit_2.*broken"):
        load(copied)


@pytest.mark.parametrize(
    ("options", "error", "field"),
    [
        ({"offload": "block"}, RequestError, "offload"),
        ({"vae_tiling": True}, RequestError, "vae_tiling"),
        ({"vae_slicing": True}, RequestError, "vae_slicing"),
        ({"attention_backend": "fast"}, RequestError, "attention_backend"),
        ({"attention_backend": "_native_cudnn"}, RequestError, "attention_backend"),
        ({"device": "cuda:7"}, RequestError, "device"),
        ({"quantisation": "int8"}, MissingExtraError, None),
        ({"attention_backend": "sage"}, MissingExtraError, None),
    ],
)
def test_options_that_cannot_be_had_are_refused_before_a_weight_is_read(
    copied: Path, options: dict[str, Any], error: type[Exception], field: str | None
) -> None:
    # weights whose values cannot be read: names and shapes stand in the first bytes, the rest is a hole
    path = copied / "audio_dit" / WEIGHTS
    size = path.stat().st_size
    header = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    path.write_bytes(path.read_bytes()[:header])
    with path.open("ab") as file:
        file.truncate(size)
    with pytest.raises(error) as caught:
        load(copied, **options)
    assert getattr(caught.value, "field", None) == field


def test_a_model_with_one_expert_runs_with_options_for_two(tmp_path: Path, tiny_components: Components) -> None:
    folder = save_checkpoint(tmp_path / "one", tiny_components)
    assert json.loads((folder / INDEX).read_text())["boundary_ratio"] is None
    components, runtime = load_to_run(folder, RuntimeOptions(device="cpu", drop_first_expert=True))
    assert runtime.second_expert == "resident"
    assert any("one expert" in reason for reason in runtime.reasons)
    expected = run(MOVAPipeline.from_components(load_checkpoint(folder)))
    assert same(run(MOVAPipeline.from_components(components)), expected)
