"""Weights in host memory: nothing that two experts share is moved for nothing or left behind."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from mova.checkpoints.load import Components
from mova.errors import RequestError
from mova.models.joint import JointModel
from mova.pipeline import MOVAPipeline
from mova.runtime.weights import keep_shared_parts, own_parts, refresh_blocks


@pytest.fixture
def experts(tiny_two_experts: Components) -> tuple[JointModel, JointModel]:
    second = tiny_two_experts.transformer_2
    assert second is not None
    return tiny_two_experts.transformer, second


def ids(module: torch.nn.Module) -> set[int]:
    return {id(parameter) for parameter in module.parameters()}


def test_an_experts_own_parts_are_its_video_tower_and_each_once(experts: tuple[JointModel, JointModel]) -> None:
    first, second = experts
    parts = own_parts(first, second)
    names = {id(module): name for name, module in first.named_modules()}
    expected = {"video_embed", "video_head", "transformer_blocks.0.video", "transformer_blocks.1.video"}
    assert {names[id(part)] for part in parts} == expected
    assert set().union(*map(ids, parts)) == ids(first) - ids(second)
    assert own_parts(first, None) == [first]


def test_at_the_change_of_experts_audio_and_bridge_stay(tiny_two_experts: Components) -> None:
    pipeline = MOVAPipeline.from_components(copy.deepcopy(tiny_two_experts))  # hooks, and a tokenizer that has worked
    pipeline.enable_model_cpu_offload(device="cpu")
    try:
        first, second, vae = pipeline.transformer, pipeline.transformer_2, pipeline.video_vae
        keep_shared_parts(first, second, vae)
        leaving = second._hf_hook.prev_module_hook
        assert set().union(*map(ids, leaving.parts)) == ids(first) - ids(second)
        # accelerate looks where this one is: it must go when its expert goes
        assert ids(leaving.model) <= ids(first) - ids(second)
        before_decoding = vae._hf_hook.prev_module_hook
        assert set().union(*map(ids, before_decoding.parts)) == ids(first) | ids(second)
        # present whichever of the two worked last
        assert ids(before_decoding.model) <= ids(first) & ids(second)
        leaving.offload()
        before_decoding.offload()
        assert {parameter.device.type for parameter in second.parameters()} == {"cpu"}
        values = {"num_frames": 5, "num_inference_steps": 3, "shift": 8.0, "seed": 3, "output_type": "latent"}
        offloaded = pipeline("a ball", **values)
    finally:
        pipeline.remove_all_hooks()
    plain = pipeline("a ball", **values)
    assert torch.equal(offloaded.frames, plain.frames)
    assert torch.equal(offloaded.audio, plain.audio)


def test_one_expert_needs_no_mending(tiny_components: Components) -> None:
    vae = tiny_components.video_vae
    keep_shared_parts(tiny_components.transformer, None, vae)
    assert not hasattr(vae, "_hf_hook")


def test_refreshing_a_model_without_block_hooks_changes_nothing(experts: tuple[JointModel, JointModel]) -> None:
    before = dict(experts[0].named_parameters())
    refresh_blocks(experts[0])
    assert all(before[name] is parameter for name, parameter in experts[0].named_parameters())


@pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]
)
@pytest.mark.parametrize("place", ["the text", "a picture of another shape", "the picture's encoding", "a step"])
def test_wherever_a_call_fails_every_component_goes_out_again(tiny_components: Components, place: str, device: str) -> None:
    pipeline = MOVAPipeline.from_components(copy.deepcopy(tiny_components))
    pipeline.enable_model_cpu_offload(device=device)
    picture = np.zeros((32, 32, 3), np.uint8)
    values = {"num_frames": 5, "num_inference_steps": 1, "seed": 3, "output_type": "latent"}
    before = list(pipeline._all_hooks)
    if place == "the text":
        pipeline.text_encoder.register_forward_hook(stop)
    elif place == "a picture of another shape":
        picture = picture[:, :8]
    elif place == "the picture's encoding":
        pipeline.video_vae.encoder.register_forward_hook(stop)
    else:
        values["callback_on_step_end"] = stop
    with pytest.raises((RequestError, Stopped)):
        pipeline("a ball", image=picture, **values)
    # the hooks are new ones: accelerate's own way to move all out that was in
    assert len(pipeline._all_hooks) == len(before) and not set(map(id, before)) & set(map(id, pipeline._all_hooks))
    assert {
        p.device.type
        for module in pipeline.components.values()
        if isinstance(module, torch.nn.Module)
        for p in module.parameters()
    } == {"cpu"}
    pipeline.remove_all_hooks()


class Stopped(Exception):
    """What goes wrong inside a component."""


def stop(*_: object) -> None:
    raise Stopped
