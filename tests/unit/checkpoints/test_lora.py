"""A LoRA adds exactly what it says, several add up, and taken off they leave nothing behind."""

from __future__ import annotations

import copy
import json
import os
import pickle
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.hooks import apply_group_offloading
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mova.checkpoints.load import Components
from mova.checkpoints.lora.adapters import (
    attach_lora,
    check_fits,
    collect_lora,
    load_lora,
    lora_scales,
    set_lora_scales,
    unload_lora,
)
from mova.checkpoints.lora.attached import LoraSet
from mova.checkpoints.lora.file import LoraFile, LoraLayer, read_lora, write_lora
from mova.errors import CheckpointError, MovaError, RequestError
from mova.models.joint import JointModel, official_to_ours

Experts = tuple[JointModel, JointModel]
Outputs = list[Tensor]
# one linear layer or more of each trained module, by official names
TARGETS = {
    "video_dit": ["blocks.0.self_attn.q", "blocks.1.ffn.2", "text_embedding.0"],
    "video_dit_2": ["blocks.0.self_attn.q", "blocks.1.cross_attn.o"],
    "audio_dit": ["blocks.0.self_attn.v", "blocks.1.cross_attn.k", "blocks.0.ffn.0", "head.head"],
    "dual_tower_bridge": ["audio_to_video_conditioners.0.inner.k", "video_to_audio_conditioners.1.inner.o"],
}


@pytest.fixture
def experts(tiny_two_experts: Components) -> Experts:
    assert tiny_two_experts.transformer_2 is not None
    return copy.deepcopy((tiny_two_experts.transformer, tiny_two_experts.transformer_2))  # in one: they go on sharing


def draw(experts: Sequence[JointModel], *components: str, rank: int = 2, alpha: float = 3.0, seed: int = 0) -> LoraFile:
    """A LoRA that is silent nowhere; each layer has a rank and an alpha of its own if ``rank`` is 0."""
    layers: list[dict[str, LoraLayer]] = [{}, {}]
    for component in components or TARGETS:
        for number, official in enumerate(TARGETS[component]):
            path = official_to_ours(component, f"{official}.weight").removesuffix(".weight")
            linear = experts[0].get_submodule(path)
            generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {component} {official}".encode()))
            own = rank or number + 1
            layers[component == "video_dit_2"][path] = LoraLayer(
                down=0.2 * torch.randn(own, linear.in_features, generator=generator),
                up=0.2 * torch.randn(linear.out_features, own, generator=generator),
                alpha=alpha if rank else 1.5 * own,
            )
    return LoraFile(*layers)


@torch.no_grad()
def run(experts: Sequence[JointModel]) -> Outputs:
    generator = torch.Generator().manual_seed(1)
    values: dict[str, Any] = {
        "video_latents": torch.randn(1, 4, 2, 4, 4, generator=generator),
        "audio_latents": torch.randn(1, 6, 5, generator=generator),
        "video_timestep": torch.tensor([700.0]),
        "audio_timestep": torch.tensor([300.0]),
        "text_embeds": torch.randn(1, 3, 32, generator=generator),
        "video_fps": 16.0,
    }
    return [velocity for expert in experts for velocity in expert(**values, return_dict=False)]


def merged(experts: Experts, *weighed: tuple[LoraFile, float]) -> Outputs:
    """What models with the sum written into their weights give."""
    copies = copy.deepcopy(experts)
    for lora, scale in weighed:
        for expert, layers in zip(copies, (lora.transformer, lora.transformer_2), strict=True):
            for path, layer in layers.items():
                expert.get_submodule(path).weight.data += scale * layer.alpha / layer.rank * layer.up @ layer.down
    return run(copies)


def are_equal(left: Outputs, right: Outputs) -> list[bool]:
    return [torch.equal(one, other) for one, other in zip(left, right, strict=True)]


def assert_close(left: Outputs, right: Outputs) -> None:
    for one, other in zip(left, right, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def fingerprint(experts: Experts) -> list[tuple[str, int, bytes]]:
    """Names, objects and values of everything in both experts."""
    return [
        (name, id(value), value.detach().numpy().tobytes())
        for expert in experts
        for name, value in (*expert.named_parameters(), *expert.named_buffers())
    ]


# --- what a LoRA computes


def test_at_scale_0_a_lora_is_not_there_to_the_last_bit(experts: Experts) -> None:
    plain = run(experts)
    attach_lora(experts, draw(experts), name="style", scale=0.0)
    assert all(are_equal(run(experts), plain))
    set_lora_scales(experts, {"style": 1.0})
    assert not any(are_equal(run(experts), plain))
    set_lora_scales(experts, {"style": 0})
    assert all(are_equal(run(experts), plain))
    assert lora_scales(experts) == {"style": 0.0}


@pytest.mark.parametrize("component", TARGETS)
def test_a_lora_of_each_module_equals_merged_weights(experts: Experts, component: str) -> None:
    plain = run(experts)
    lora = draw(experts, component, rank=0)
    exact = merged(experts, (lora, 0.3))
    attach_lora(experts, lora, name="style", scale=0.3)
    adapted = run(experts)
    assert_close(adapted, exact)
    seen_by = {"video_dit": [True, False], "video_dit_2": [False, True]}.get(component, [True, True])
    changed = [not equal for equal in are_equal(adapted, plain)]
    assert changed[0::2] == seen_by  # video of the first and the second expert
    assert changed[1::2] == seen_by  # audio: the bridge carries a video's change into it


def fresh(experts: Experts) -> Experts:
    """The same experts without LoRA."""
    copies = copy.deepcopy(experts)
    unload_lora(copies)
    return copies


def test_two_loras_add_up_and_can_be_weighed_in_any_order(experts: Experts) -> None:
    one, other = draw(experts), draw(experts, "audio_dit", "video_dit_2", rank=3, seed=1)
    base = fresh(experts)
    attach_lora(experts, one, name="one", scale=0.7)
    attach_lora(experts, other, name="other", scale=0.4)
    both = run(experts)
    assert_close(both, merged(base, (one, 0.7), (other, 0.4)))
    set_lora_scales(experts, {"other": -1.0})
    assert lora_scales(experts) == {"one": 0.7, "other": -1.0}
    assert_close(run(experts), merged(base, (one, 0.7), (other, -1.0)))
    set_lora_scales(experts, {"one": 0.0})
    assert_close(run(experts), merged(base, (other, -1.0)))
    set_lora_scales(experts, {"other": 0.4, "one": 0.7})
    assert all(are_equal(run(experts), both))


# --- sharing, and leaving


def test_experts_share_the_lora_of_audio_and_bridge(experts: Experts) -> None:
    attach_lora(experts, draw(experts, "audio_dit", "dual_tower_bridge"), name="style")
    first, second = (expert.transformer_blocks[0] for expert in experts)
    assert second.audio.self_attn.to_v is first.audio.self_attn.to_v
    assert second.a2v.attention.to_k.lora_A["style"] is first.a2v.attention.to_k.lora_A["style"]
    assert type(second.video.self_attn.to_q) is nn.Linear
    attach_lora(experts, draw(experts, "video_dit_2", seed=1), name="film")
    assert type(first.video.self_attn.to_q) is nn.Linear
    assert set(second.video.self_attn.to_q.lora_A) == {"film"}
    assert lora_scales(experts[1:]) == {"style": 1.0, "film": 1.0}


@pytest.mark.parametrize("order", [["one", "other"], ["other", "one"], [None]])
def test_unloading_restores_outputs_keys_and_the_very_tensors(experts: Experts, order: list[str | None]) -> None:
    plain, before = run(experts), fingerprint(experts)
    modules = [(name, id(module)) for expert in experts for name, module in expert.named_modules()]
    attach_lora(experts, draw(experts), name="one")
    with_one = run(experts)
    attach_lora(experts, draw(experts, "audio_dit", "video_dit", seed=1), name="other")
    if order == ["other", "one"]:
        unload_lora(experts, "other")
        assert all(are_equal(run(experts), with_one))
        order = ["one"]
    for name in order:
        unload_lora(experts, name)
    assert lora_scales(experts) == {}
    assert fingerprint(experts) == before
    assert [(name, id(module)) for expert in experts for name, module in expert.named_modules()] == modules
    assert all(are_equal(run(experts), plain))
    assert not any(hasattr(expert, "peft_config") for expert in experts)
    unload_lora(experts)  # nothing is attached: nothing to do


def test_a_lora_that_is_off_stays_off_when_another_comes_or_goes(experts: Experts) -> None:
    base = fresh(experts)
    one, two = draw(experts), draw(experts, seed=2)
    attach_lora(experts, one, name="one", scale=0.0)
    attach_lora(experts, two, name="two")
    attach_lora(experts, draw(experts, seed=3), name="three")
    unload_lora(experts, "three")
    assert lora_scales(experts) == {"one": 0.0, "two": 1.0}
    assert_close(run(experts), merged(base, (two, 1.0)))


def test_attaching_draws_no_random_numbers_and_keeps_what_is_trained(experts: Experts) -> None:
    head = experts[0].video_head.head.weight.requires_grad_(True)
    state = torch.get_rng_state()
    attach_lora(experts, draw(experts), name="style")
    attach_lora(experts, draw(experts), name="style_2")
    assert torch.equal(torch.get_rng_state(), state)
    trained = [parameter for expert in experts for parameter in expert.parameters() if parameter.requires_grad]
    assert [id(parameter) for parameter in trained] == [id(head)]


def test_a_failure_half_way_leaves_nothing_behind(experts: Experts) -> None:
    class Offloaded:
        """A pipeline that breaks when the second of two experts is being changed."""

        hf_device_map = None
        num_asked = 0

        @property
        def components(self) -> dict[str, nn.Module]:
            self.num_asked += 1
            if self.num_asked > 1:
                raise KeyboardInterrupt
            return {}

    attach_lora(experts, draw(experts, "audio_dit"), name="one", scale=0.5)
    before, scales, now = fingerprint(experts), lora_scales(experts), run(experts)
    with pytest.raises(KeyboardInterrupt):
        attach_lora(experts, draw(experts), name="other", pipeline=Offloaded())
    assert fingerprint(experts) == before
    assert lora_scales(experts) == scales
    assert all(are_equal(run(experts), now))


# --- files


@pytest.mark.parametrize("names", ["diffusers", "official"])
@pytest.mark.parametrize("rank", [4, 0])
def test_a_lora_comes_back_from_either_format_as_it_was(experts: Experts, tmp_path: Path, names: Any, rank: int) -> None:
    lora = draw(experts, rank=rank, alpha=7.0)
    path = write_lora(tmp_path / "my style.v2.safetensors", lora, names=names)
    assert os.listdir(tmp_path) == [path.name]
    assert load_lora(experts, path) == "my_style_v2"
    for again in (read_lora(path), collect_lora(experts, "my_style_v2")):
        for ours, theirs in ((again.transformer, lora.transformer), (again.transformer_2, lora.transformer_2)):
            assert ours.keys() == theirs.keys()
            for name in ours:
                assert torch.equal(ours[name].down, theirs[name].down)
                assert torch.equal(ours[name].up, theirs[name].up)
                assert ours[name].alpha == theirs[name].alpha


def test_both_formats_give_the_same_velocities_and_the_names_they_promise(experts: Experts, tmp_path: Path) -> None:
    lora = draw(experts, rank=0)
    files = [write_lora(tmp_path / f"{names}.safetensors", lora, names=names) for names in ("diffusers", "official")]
    outputs = []
    for file in files:
        name = load_lora(experts, file, scale=0.8)
        outputs.append(run(experts))
        unload_lora(experts, name)
    assert all(are_equal(*outputs))
    assert set(load_file(files[1])) == {
        f"{component}.{path}.lora_{half}.weight" for component, paths in TARGETS.items() for path in paths for half in "AB"
    }
    assert "transformer_2.transformer_blocks.1.video.cross_attn.to_out.lora_A.weight" in load_file(files[0])


def test_what_we_write_diffusers_reads_and_what_it_writes_we_read(experts: Experts, tmp_path: Path) -> None:
    lora = draw(experts, "video_dit", "audio_dit", "dual_tower_bridge", rank=0)
    write_lora(tmp_path / "pytorch_lora_weights.safetensors", lora)
    theirs = fresh(experts)[0]
    theirs.load_lora_adapter(
        tmp_path, weight_name="pytorch_lora_weights.safetensors", use_safetensors=True, adapter_name="a", local_files_only=True
    )
    attach_lora(experts, lora, name="a")
    assert_close(run([theirs]), run(experts[:1]))
    theirs.save_lora_adapter(tmp_path / "theirs", adapter_name="a")
    load_lora(experts, tmp_path / "theirs", name="b", scale=-1.0)
    assert_close(run(experts[:1]), run(fresh(experts)[:1]))


def small(alphas: dict[str, float] | None = None) -> dict[str, Tensor]:
    """Two layers of rank 4 by official names."""
    tensors = {}
    for name, width in (("video_dit.blocks.0.self_attn.q", 48), ("audio_dit.blocks.1.ffn.0", 32)):
        tensors[f"{name}.lora_A.weight"] = torch.ones(4, width)
        tensors[f"{name}.lora_B.weight"] = torch.ones(48, 4)
    return tensors | {f"{name}.alpha": torch.tensor(value) for name, value in (alphas or {}).items()}


@pytest.mark.parametrize(
    ("metadata", "beside", "alphas"),
    [
        ({}, {}, [4.0, 4.0]),
        ({"rank": "4", "alpha": "6"}, {}, [6.0, 6.0]),
        ({"lora_config": '{"rank": 4, "alpha": 2, "target_modules": ["q"]}'}, {}, [2.0, 2.0]),
        ({}, {"lora_config.json": {"rank": 4, "alpha": 8}}, [8.0, 8.0]),
        ({}, {"file.json": {"alpha": 3}, "lora_config.json": {"rank": 4, "alpha": 8}}, [3.0, 3.0]),
        ({}, {"adapter_config.json": {"r": 4, "lora_alpha": 8, "use_rslora": True}}, [16.0, 16.0]),
        ({}, {"adapter_config.json": {"r": 8, "rank_pattern": {"q|ffn.0": 4}, "alpha_pattern": {"q": 5}}}, [5.0, 4.0]),
        ({"lora_adapter_metadata": '{"r": 4, "lora_alpha": 9}'}, {"lora_config.json": {"alpha": 8}}, [9.0, 9.0]),
    ],
)
def test_alpha_is_found_where_each_tool_writes_it(
    tmp_path: Path, metadata: dict[str, str], beside: dict[str, Any], alphas: list[float]
) -> None:
    save_file(small(), tmp_path / "file.safetensors", metadata=metadata)
    for name, values in beside.items():
        (tmp_path / name).write_text(json.dumps(values))
    layers = read_lora(tmp_path).transformer
    names = ["transformer_blocks.0.video.self_attn.to_q", "transformer_blocks.1.audio.ffn.0"]
    assert [layers[name].alpha for name in names] == alphas


def test_alpha_may_stand_beside_each_layer(tmp_path: Path) -> None:
    save_file(small({"audio_dit.blocks.1.ffn.0": 2.5}), tmp_path / "file.safetensors", metadata={"alpha": "6"})
    assert {layer.alpha for layer in read_lora(tmp_path).transformer.values()} == {2.5, 6.0}


def test_shared_layers_may_come_for_both_experts_if_alike(tmp_path: Path) -> None:
    layer = "transformer_blocks.1.audio.ffn.0"
    tensors = {
        f"{expert}.{layer}.{half}.weight": torch.ones(shape)
        for expert in ("transformer", "transformer_2")
        for half, shape in (("lora_A", (4, 32)), ("lora_B", (48, 4)))
    }
    save_file(tensors, tmp_path / "file.safetensors")
    assert list(read_lora(tmp_path).transformer) == [layer]
    assert not read_lora(tmp_path).transformer_2
    tensors[f"transformer_2.{layer}.lora_A.weight"][0, 0] = 2
    save_file(tensors, tmp_path / "file.safetensors")
    with pytest.raises(CheckpointError, match="twice"):
        read_lora(tmp_path)


# --- bad input


def save_small(change: Callable[[dict[str, Tensor]], Any], **metadata: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        tensors = small()
        change(tensors)
        save_file(tensors, path, metadata=metadata)

    return write


def renamed(old: str, new: str) -> Callable[[dict[str, Tensor]], None]:
    def change(tensors: dict[str, Tensor]) -> None:
        for key in [key for key in tensors if old in key]:
            tensors[key.replace(old, new)] = tensors.pop(key)

    return change


def resized(**shapes: tuple[int, ...]) -> Callable[[dict[str, Tensor]], None]:
    def change(tensors: dict[str, Tensor]) -> None:
        for half, shape in shapes.items():
            tensors[f"audio_dit.blocks.1.ffn.0.{half}.weight"] = torch.ones(shape)

    return change


def valued(value: Tensor) -> Callable[[dict[str, Tensor]], None]:
    return lambda tensors: tensors.update({"audio_dit.blocks.1.ffn.0.lora_B.weight": value})


def cut(path: Path) -> None:
    save_file(small(), path)
    path.write_bytes(path.read_bytes()[:-100])


AUDIO = "audio_dit.blocks.1.ffn.0"
BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "another width": (
        save_small(resized(lora_A=(4, 1536), lora_B=(8960, 4))),
        r"1536 to 8960 channels; in this model 32 to 48",
    ),
    "another input": (save_small(resized(lora_A=(4, 48))), r"48 to 48 channels; in this model 32 to 48"),
    "ranks that differ": (save_small(resized(lora_A=(3, 32))), r"\[3, 32\] and \[48, 4\]"),
    "a convolution": (save_small(resized(lora_A=(4, 32, 1), lora_B=(48, 4, 1))), "Only linear layers"),
    "rank 0": (save_small(resized(lora_A=(0, 32), lora_B=(48, 0))), r"\[0, 32\]"),
    "a deeper model": (save_small(renamed("blocks.1", "blocks.39")), r"layers that this model has not.*39\.audio\.ffn\.0"),
    "no linear layer": (save_small(renamed("ffn.0", "norm3")), "not as linear layers"),
    "an unknown module": (save_small(renamed("audio_dit", "image_dit")), r"image_dit\.blocks\.1\.ffn\.0"),
    "an unknown part": (save_small(renamed("audio_dit.blocks.1", "audio_dit.layers.1")), r"audio_dit\.layers\.1"),
    "the inside of a LoRA": (save_small(renamed("ffn.0", "ffn.0.base_layer")), "not as linear layers"),
    "half a layer": (save_small(lambda t: t.pop(f"{AUDIO}.lora_B.weight")), "without its other half"),
    "a bias": (save_small(lambda t: t.update({f"{AUDIO}.lora_B.bias": torch.ones(48)})), "no part of a plain LoRA"),
    "DoRA": (save_small(lambda t: None, lora_config='{"use_dora": true}'), "use_dora"),
    "PiSSA": (save_small(lambda t: None, lora_config='{"init_lora_weights": "pissa"}'), "pissa"),
    "nan": (save_small(valued(torch.full((48, 4), torch.nan))), "finite"),
    "integers": (save_small(valued(torch.ones(48, 4, dtype=torch.int8))), "finite floats"),
    "another rank said": (save_small(lambda t: None, rank="16", alpha="16"), r"rank of .* is 4; its settings say 16"),
    "alpha 0": (save_small(lambda t: None, alpha="0"), "alpha must be a number above 0"),
    "alpha no number": (save_small(lambda t: None, alpha="many"), "alpha must be a number above 0"),
    "broken settings": (save_small(lambda t: None, lora_config="{"), "no JSON mapping"),
    "a broken pattern": (save_small(lambda t: None, lora_config='{"alpha_pattern": {"(": 1}}'), "broken pattern"),
    "no tensors": (lambda path: save_file({}, path), "no tensors"),
    "cut short": (cut, "broken"),
    "empty": (lambda path: path.write_bytes(b""), "broken"),
    "text": (lambda path: path.write_text("<html>404 Not Found</html>"), "broken"),
    "missing": (lambda path: None, "there is no file"),
    "a pickle by another name": (lambda path: torch.save(small(), path), "pickle"),
}


@pytest.fixture(scope="module")
def adapted(tiny_two_experts: Components) -> Experts:
    """For tests that must not change it."""
    copies = copy.deepcopy((tiny_two_experts.transformer, tiny_two_experts.transformer_2))
    attach_lora(copies, draw(copies), name="style", scale=0.5)
    return copies


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_before_anything_changes(adapted: Experts, tmp_path: Path, case: str) -> None:
    experts = adapted
    write, message = BAD[case]
    before, scales = fingerprint(experts), lora_scales(experts)
    path = tmp_path / "bad.safetensors"
    write(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_lora(experts, path)
    assert caught.value.hint
    assert fingerprint(experts) == before
    assert lora_scales(experts) == scales


class Payload:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("name", ["lora_weights.pt", "lora_weights.safetensors", "folder"])
def test_a_pickle_is_refused_unread(tmp_path: Path, name: str) -> None:
    target = tmp_path if name == "folder" else tmp_path / name
    (tmp_path / ("lora_weights.pt" if name == "folder" else name)).write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    with pytest.raises(CheckpointError, match="pickle") as caught:
        read_lora(target)
    assert "safetensors" in caught.value.hint
    assert not (tmp_path / "ran").exists()


def test_an_alpha_that_only_a_pickle_knows_is_not_guessed(tmp_path: Path) -> None:
    save_file(small(), tmp_path / "lora_weights.safetensors")
    torch.save({"rank": 4, "alpha": 8}, tmp_path / "lora_config.pt")
    with pytest.raises(CheckpointError, match=r"lora_config\.pt is a pickle"):
        read_lora(tmp_path)
    (tmp_path / "lora_config.json").write_text('{"rank": 4, "alpha": 8}')
    assert {layer.alpha for layer in read_lora(tmp_path).transformer.values()} == {8.0}


def test_a_lora_of_two_experts_does_not_fit_one(experts: Experts) -> None:
    with pytest.raises(CheckpointError, match="second expert"):
        check_fits(experts[:1], draw(experts))
    check_fits(experts[:1], draw(experts, "video_dit", "audio_dit"))


def test_a_folder_must_say_which_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no LoRA"):
        read_lora(tmp_path)
    for name in ("a", "b"):
        save_file(small(), tmp_path / f"{name}.safetensors")
    with pytest.raises(CheckpointError, match=r"2 \.safetensors files"):
        read_lora(tmp_path)
    save_file(small(), tmp_path / "pytorch_lora_weights.safetensors", metadata={"alpha": "5"})
    assert {layer.alpha for layer in read_lora(tmp_path).transformer.values()} == {5.0}


def test_a_file_that_cannot_be_written_leaves_nothing(experts: Experts, tmp_path: Path) -> None:
    lora = draw(experts)
    with pytest.raises(CheckpointError, match="cannot be written"):
        write_lora(tmp_path / "no folder" / "a.safetensors", lora)
    with pytest.raises(CheckpointError, match="safetensors"):
        write_lora(tmp_path / "a.pt", lora)
    (tmp_path / "b.safetensors").mkdir()
    with pytest.raises(CheckpointError, match="cannot be written"):
        write_lora(tmp_path / "b.safetensors", lora)
    assert os.listdir(tmp_path) == ["b.safetensors"]


@pytest.mark.parametrize("name", ["", "a.b", "keys", "-x", "a b", "style"])
def test_a_name_that_cannot_be_used_is_refused(adapted: Experts, name: str) -> None:
    before = fingerprint(adapted)
    with pytest.raises(RequestError, match="LoRA"):
        attach_lora(adapted, draw(adapted, "audio_dit"), name=name)
    assert fingerprint(adapted) == before


def test_names_made_from_files_are_free_and_usable(experts: Experts, tmp_path: Path) -> None:
    lora = draw(experts, "audio_dit")
    for file in ("keys", "x", "x", "***"):  # nn.ModuleDict has keys of its own
        load_lora(experts, write_lora(tmp_path / f"{file}.safetensors", lora))
    assert list(lora_scales(experts)) == ["keys_2", "lora", "x", "x_2"]
    unload_lora(experts, "x")
    assert list(lora_scales(experts)) == ["keys_2", "lora", "x_2"]


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), "1", True, None])
def test_a_scale_that_is_no_finite_number_is_refused(adapted: Experts, scale: Any) -> None:
    with pytest.raises(RequestError, match="scale"):
        attach_lora(adapted, draw(adapted), name="other", scale=scale)
    with pytest.raises(RequestError, match="scale"):
        set_lora_scales(adapted, {"style": scale})
    assert lora_scales(adapted) == {"style": 0.5}


def test_an_unknown_name_is_refused_with_those_that_are_attached(adapted: Experts) -> None:
    experts = adapted
    for act in (
        lambda: set_lora_scales(experts, {"style": 0.0, "stile": 1.0}),
        lambda: unload_lora(experts, "stile"),
        lambda: collect_lora(experts, "stile"),
    ):
        with pytest.raises(MovaError, match="'stile'") as caught:
            act()
        assert "style" in caught.value.hint
    assert lora_scales(experts) == {"style": 0.5}


# --- beside what else is done to a model


def test_a_fused_lora_is_not_silently_out_of_reach(experts: Experts) -> None:
    attach_lora(experts, draw(experts), name="style")
    experts[0].fuse_lora()
    for act in (
        lambda: set_lora_scales(experts, {"style": 0.5}),
        lambda: attach_lora(experts, draw(experts), name="other"),
    ):
        with pytest.raises(RequestError, match="fused"):
            act()
    experts[0].unfuse_lora()
    set_lora_scales(experts, {"style": 0.5})


def test_a_base_in_bfloat16_takes_a_lora(experts: Experts) -> None:
    exact = merged(experts, (lora := draw(experts), 1.0))
    for expert in experts:
        expert.to(torch.bfloat16)
    attach_lora(experts, lora, name="style")
    for ours, theirs in zip(run(experts), exact, strict=True):
        assert ours.dtype == torch.bfloat16
        assert (ours - theirs).norm() / theirs.norm() < 0.1


def test_a_base_kept_in_float8_takes_a_lora_in_full_precision(experts: Experts) -> None:
    for expert in experts[:1]:
        expert.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    plain = run(experts[:1])
    lora = draw(experts, "video_dit", "audio_dit", "dual_tower_bridge")
    attach_lora(experts[:1], lora, name="style")
    collected = collect_lora(experts[:1], "style").transformer
    assert all(torch.equal(collected[name].down, layer.down) for name, layer in lora.transformer.items())
    assert not any(are_equal(run(experts[:1]), plain))
    unload_lora(experts[:1])
    assert all(are_equal(run(experts[:1]), plain))


@pytest.mark.parametrize("level", ["block_level", "leaf_level"])
def test_an_offloaded_model_takes_a_lora(experts: Experts, level: str) -> None:
    first = experts[:1]
    plain, lora = run(first), draw(experts, "video_dit", "audio_dit", "dual_tower_bridge")
    exact = merged(experts, (lora, 1.0))[:2]
    cpu, blocks = torch.device("cpu"), 1 if level == "block_level" else None
    apply_group_offloading(first[0], onload_device=cpu, offload_device=cpu, offload_type=level, num_blocks_per_group=blocks)
    attach_lora(first, lora, name="style")
    assert_close(run(first), exact)
    unload_lora(first)
    assert all(are_equal(run(first), plain))


# --- a pipeline's methods


class Holder:
    """What a pipeline is to its LoRAs: a holder of two experts."""

    def __init__(self, experts: Experts) -> None:
        self.transformer, self.transformer_2 = experts
        self.loras = LoraSet(self)


def test_diffusers_methods_weigh_list_save_and_unload(experts: Experts, tmp_path: Path) -> None:
    holder, base, plain = Holder(experts), fresh(experts), run(experts)
    pipeline = holder.loras
    one, other = draw(experts, "audio_dit", "video_dit"), draw(experts, "video_dit_2", seed=1)
    files = [write_lora(tmp_path / f"{name}.safetensors", lora) for name, lora in (("one", one), ("other", other))]
    assert [pipeline.load(files[0]), pipeline.load(files[1], "b", scale=0.5)] == ["one", "b"]
    assert_close(run(experts), merged(base, (one, 1.0), (other, 0.5)))
    assert pipeline.by_network() == {"transformer": ["one"], "transformer_2": ["b", "one"]}
    pipeline.activate("b", 0.7)
    assert pipeline.active() == ["b"]
    assert_close(run(experts), merged(base, (other, 0.7)))
    pipeline.activate(["b", "one"])
    assert_close(run(experts), merged(base, (one, 1.0), (other, 1.0)))
    pipeline.set_scales({"one": 0.2})
    assert lora_scales(experts) == {"one": 0.2, "b": 1.0}
    for names in ("diffusers", "official"):
        file = pipeline.save(tmp_path / "new" / names, "one", names=names)
        assert load_file(file).keys() == load_file(write_lora(tmp_path / "x.safetensors", one, names=names)).keys()
    pipeline.detach(["one"])
    assert pipeline.save(tmp_path / "last").name == "pytorch_lora_weights.safetensors"
    assert pipeline.by_network() == {"transformer_2": ["b"]}
    pipeline.detach_all()
    assert pipeline.by_network() == {}
    assert all(are_equal(run(experts), plain))


def test_wrong_words_to_a_pipeline_change_nothing(experts: Experts, tmp_path: Path) -> None:
    holder = Holder(experts)
    pipeline = holder.loras
    for name in ("one", "other"):
        attach_lora(experts, draw(experts, "audio_dit"), name=name)
    for act in (
        lambda: pipeline.activate(["one", "other"], [0.5]),
        lambda: pipeline.activate(["one", "one"], [0.5, 0.5]),
        lambda: pipeline.activate(["one", "none"]),
        lambda: pipeline.detach(["one", "none"]),
        lambda: pipeline.save(tmp_path),
        lambda: pipeline.save(tmp_path, "none"),
    ):
        with pytest.raises(RequestError):
            act()
        assert lora_scales(experts) == {"one": 1.0, "other": 1.0}
    assert not os.listdir(tmp_path)
