from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_joint import FRAMES, LENGTH, SIDE, TINY, assert_equal, build, inputs, run
from torch import Tensor

from mova.models.joint import JointModel, official_to_ours, ours_to_official, share_audio_and_bridge


@pytest.fixture
def model() -> JointModel:
    return build(TINY)


def test_velocities_have_the_shape_of_the_latents(model: JointModel) -> None:
    out = model(**inputs())
    assert out.video.shape == (2, 4, FRAMES, SIDE, SIDE)
    assert out.audio.shape == (2, 5, LENGTH)


def test_a_new_model_says_zero_velocity_and_its_bridge_adds_nothing() -> None:
    model = JointModel(**TINY)
    video, audio = run(model, inputs())
    assert not video.any()
    assert not audio.any()
    for conditioner in (model.transformer_blocks[0].a2v, model.transformer_blocks[1].v2a):
        assert not conditioner.attention.to_out.weight.any()
        assert not conditioner.attention.to_out.bias.any()


def test_scale_zero_equals_no_bridge_bit_for_bit(model: JointModel) -> None:
    off = run(model, inputs(), bridge_scale=0.0)
    as_tensor = run(model, inputs(), a2v_scale=torch.zeros(2), v2a_scale=torch.zeros(2))
    assert_equal(off, as_tensor)
    for block in model.transformer_blocks:
        block.a2v = block.v2a = None
    assert_equal(off, run(model, inputs()))


def test_each_direction_has_its_own_scale(model: JointModel) -> None:
    both, off = run(model, inputs()), run(model, inputs(), bridge_scale=0.0)
    half = run(model, inputs(), a2v_scale=0.0)
    assert not torch.equal(half[1], off[1])
    assert not torch.equal(half[0], both[0])
    assert_equal(run(model, inputs(), bridge_scale=1.0, a2v_scale=0.0), half)


def test_a_trained_scale_counts_unless_the_call_gives_one() -> None:
    config = copy.deepcopy(TINY)
    config["bridge"]["trainable_condition_scale"] = True
    model = build(config)
    plain = run(model, inputs())
    assert_equal(plain, run(model, inputs(), bridge_scale=1.0))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("condition_scale"):
                parameter.fill_(0.5)
    assert_equal(run(model, inputs(), bridge_scale=1.0), plain)
    torch.testing.assert_close(run(model, inputs()), run(model, inputs(), bridge_scale=0.5))


def test_scales_may_differ_within_a_batch(model: JointModel) -> None:
    scale = torch.tensor([0.0, 1.0])
    mixed = run(model, inputs(), a2v_scale=scale, v2a_scale=scale)
    on, off = run(model, inputs()), run(model, inputs(), bridge_scale=0.0)
    for ours, without, with_bridge in zip(mixed, off, on, strict=True):
        torch.testing.assert_close(ours[0], without[0])
        torch.testing.assert_close(ours[1], with_bridge[1])


def test_a_batch_equals_its_samples_alone(model: JointModel) -> None:
    values = inputs(3)
    together = run(model, values)
    for i in range(3):
        alone = run(model, {k: v[i : i + 1] if isinstance(v, Tensor) else v for k, v in values.items()})
        torch.testing.assert_close(together[0][i : i + 1], alone[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together[1][i : i + 1], alone[1], atol=1e-5, rtol=1e-5)


def test_a_constant_map_equals_a_level_per_sample_bit_for_bit(model: JointModel) -> None:
    values = inputs()
    maps = {
        "video_timestep": values["video_timestep"][:, None, None, None].expand(2, FRAMES, SIDE, SIDE),
        "audio_timestep": values["audio_timestep"][:, None].expand(2, LENGTH),
    }
    assert_equal(run(model, values), run(model, values, **maps))


def test_a_token_has_the_highest_level_of_its_patch(model: JointModel) -> None:
    values = inputs(1)
    level = torch.full((1, FRAMES, SIDE, SIDE), 700.0)
    cleaner = level.clone()
    cleaner[:, 0, 0, 0] = 0.0  # its patch still holds noise
    base = run(model, values, video_timestep=level)
    assert_equal(base, run(model, values, video_timestep=cleaner))
    cleaner[:, 0, :2, :2] = 0.0
    assert not torch.equal(base[0], run(model, values, video_timestep=cleaner)[0])


def test_text_context_kept_over_steps_changes_nothing(model: JointModel) -> None:
    values = inputs()
    other = build(TINY, seed=5)
    share_audio_and_bridge(model, other)
    context = model.encode_text(values.pop("text_embeds"))
    for step in range(2):
        for expert in (model, other):
            fresh = run(expert, values, text_embeds=context.text_embeds, bridge_scale=1.0 - step)
            assert_equal(fresh, run(expert, values, text_context=context, bridge_scale=1.0 - step))


def test_experts_share_audio_and_bridge_but_not_video(model: JointModel) -> None:
    other = build(TINY, seed=5)
    share_audio_and_bridge(model, other)
    ours, theirs = (dict(m.named_parameters(remove_duplicate=False)) for m in (model, other))
    for name in ours:
        component, _ = ours_to_official(name)
        assert (ours[name] is theirs[name]) == (component != "video_dit"), name


def test_names_survive_the_way_to_the_official_ones_and_back(model: JointModel) -> None:
    names = list(model.state_dict())
    official = [ours_to_official(name) for name in names]
    assert len(set(official)) == len(names)
    assert [official_to_ours(*pair) for pair in official] == names


@pytest.mark.parametrize(
    ("component", "key"),
    [
        ("video_dit", "blocks.x.modulation"),
        ("dual_tower_bridge", "towers.0.y_norm.weight"),
        ("vae", "head.modulation"),
    ],
)
def test_unknown_official_names_are_refused(component: str, key: str) -> None:
    with pytest.raises(ValueError, match=r"no weight of|unknown component"):
        official_to_ours(component, key)


def test_saved_model_comes_back_the_same(model: JointModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    again = JointModel.from_pretrained(tmp_path)
    assert_equal(run(model, inputs()), run(again, inputs()))


def test_gradients_reach_every_weight_and_checkpointing_does_not_change_them(model: JointModel) -> None:
    def gradients() -> list[Tensor]:
        model.zero_grad()
        out = model(**inputs(), a2v_scale=torch.ones(2), v2a_scale=torch.ones(2))
        (out.video.square().mean() + out.audio.square().mean()).backward()
        return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]

    plain = gradients()
    assert len(plain) == len(list(model.parameters()))
    model.enable_gradient_checkpointing()
    for ours, theirs in zip(gradients(), plain, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_pooled_video_frames_modulate_the_reading_audio() -> None:
    config = copy.deepcopy(TINY)
    config["bridge"]["pooled_adaln"] = True
    model = build(config)
    other = inputs()
    other["video_latents"] = other["video_latents"].flip(2)
    assert not torch.equal(run(model, inputs())[1], run(model, other)[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"video_timestep": torch.zeros(2, 3)}, "timestep must be"),
        ({"audio_timestep": torch.zeros(2, LENGTH + 1)}, "timestep must be"),
        ({"video_latents": torch.zeros(2, 4, FRAMES, SIDE + 1, SIDE)}, "do not divide"),
        ({"text_embeds": None}, "text_embeds or text_context"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(model: JointModel, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(model, inputs(), **changes)


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("video", {"has_image_input": True}, "has_image_input"),
        ("video", {"num_heads": 5}, "divide"),
        ("audio", {"vae_type": "mp3"}, "vae_type"),
        ("bridge", {"visual_layers": 9}, "towers of"),
        ("bridge", {"head_dim": 7}, "head_dim"),
        ("bridge", {"interaction_strategy": "none"}, "interaction_strategy"),
    ],
)
def test_configurations_that_cannot_be_built_are_refused(part: str, changes: dict[str, Any], message: str) -> None:
    config = copy.deepcopy(TINY)
    config[part] |= changes
    with pytest.raises(ValueError, match=message):
        JointModel(**config)


def test_unknown_keys_of_an_official_file_are_accepted() -> None:
    config = copy.deepcopy(TINY)
    config["video"] |= {"_class_name": "WanModel", "require_vae_embedding": True, "has_image_input": False}
    assert JointModel(**config).config["video"]["_class_name"] == "WanModel"


def test_the_time_embedding_of_a_bfloat16_network_is_made_in_float32(model: JointModel) -> None:
    half = copy.deepcopy(model).to(torch.bfloat16)
    wide = copy.deepcopy(half).float()  # the same weights
    latents = inputs()["video_latents"]
    tau = torch.tensor([937.5, 421.875])
    with torch.no_grad():
        _, levels, time, _ = half.video_embed(latents, tau)
        _, exact_levels, exact_time, _ = wide.video_embed(latents, tau)
    assert levels.dtype == time.dtype == torch.bfloat16
    assert torch.equal(levels, exact_levels.bfloat16())
    assert torch.equal(time, exact_time.bfloat16())
