"""The loop on a tiny joint network with random weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import FirstBlockCacheConfig

from mova.checkpoints.load import Components
from mova.models.joint import JointModel
from mova.sampling.denoise import Progress, denoise
from mova.sampling.guidance import COND, UNCOND, Branch, Experts, Guidance
from mova.sampling.schedule import ScheduleConfig, schedule_pair
from mova.sampling.solvers import SOLVERS
from mova.sampling.task import AVTensors, Task, audio_noise, video_noise

NOTHING_GIVEN = Task(torch.ones(2, 4, 4), torch.ones(10))
CONFIG = ScheduleConfig(shift=2.0, sigma_min=0.0, extra_one_step=True, snap_to_training_grid=False)


def run(components: Components, task: Task | None = None, *, num_steps: int = 2, **changes: Any) -> AVTensors:
    generator = torch.Generator().manual_seed(0)
    video_schedule, audio_schedule = schedule_pair(CONFIG, num_steps, audio_shift=1.0)
    experts = [components.transformer, components.transformer_2]
    values: dict[str, Any] = {
        "text_embeds": torch.randn(1, 5, 32, generator=generator),
        "negative_embeds": torch.randn(1, 5, 32, generator=generator),
        "video_schedule": video_schedule,
        "audio_schedule": audio_schedule,
        "guidance": Guidance.from_scales(3.0),
        "video_fps": 16.0,
        "video_noise": video_noise(1, (4, 2, 4, 4))[None],
        "audio_noise": audio_noise(1, (6, 10))[None],
    }
    models = Experts([expert for expert in experts if expert is not None], boundary=0.9)
    return denoise(models, task or NOTHING_GIVEN, **(values | changes))


def test_given_latents_come_out_as_they_went_in_and_the_rest_is_made(tiny_components: Components) -> None:
    torch.manual_seed(1)
    video, audio = torch.randn(4, 2, 4, 4), torch.randn(6, 10)
    first_frame = torch.ones(2, 4, 4)
    first_frame[0] = 0.0
    plain = run(tiny_components)
    for name in SOLVERS:
        result = run(tiny_components, Task(first_frame, torch.ones(10), video=video), solver=name, num_steps=3)
        assert torch.equal(result.video[0, :, :1], video[:, :1])
        assert not torch.equal(result.video[0, :, 1:], plain.video[0, :, 1:])
    silent = run(tiny_components, Task(torch.zeros(2, 4, 4), torch.ones(10), video=video))
    assert torch.equal(silent.video[0], video)
    assert not torch.equal(silent.audio, plain.audio)
    blind = run(tiny_components, Task(torch.ones(2, 4, 4), torch.zeros(10), audio=audio))
    assert torch.equal(blind.audio[0], audio)
    assert not torch.equal(blind.video, plain.video)


def test_a_half_given_token_is_changed_only_from_its_level_down(tiny_components: Components) -> None:
    video = torch.zeros(4, 2, 4, 4)
    level = torch.full((2, 4, 4), 0.05)
    near = run(tiny_components, Task(level, torch.ones(10), video=video), num_steps=8)
    far = run(tiny_components, Task(torch.ones(2, 4, 4), torch.ones(10), video=video), num_steps=8)
    assert 0 < float(near.video.abs().mean()) < 0.3 * float(far.video.abs().mean())


class PlainGuidance:
    """Classifier-free guidance written out: two passes, the same scale."""

    def branches(self, sigma: float) -> tuple[Branch, ...]:
        return COND, UNCOND

    def combine(self, velocities: Mapping[Branch, AVTensors], sigma: float) -> AVTensors:
        negative, positive = velocities[UNCOND], velocities[COND]
        return AVTensors(*(n + 3.0 * (p - n) for n, p in zip(negative, positive, strict=True)))


def test_a_cross_scale_of_one_equals_plain_guidance_bit_for_bit(tiny_components: Components) -> None:
    ours, plain = run(tiny_components), run(tiny_components, guidance=PlainGuidance())
    assert torch.equal(ours.video, plain.video)
    assert torch.equal(ours.audio, plain.audio)


def test_sharing_a_forward_pass_between_branches_changes_nothing(tiny_components: Components) -> None:
    guidance = Guidance.from_scales(3.0, 2.0)
    apart = run(tiny_components, guidance=guidance)
    for count in (2, 3):
        together = run(tiny_components, guidance=guidance, branches_per_forward=count)
        torch.testing.assert_close(together.video, apart.video, rtol=0, atol=1e-4)
        torch.testing.assert_close(together.audio, apart.audio, rtol=0, atol=1e-4)


def test_without_guidance_no_negative_prompt_is_needed_and_with_it_one_is(tiny_components: Components) -> None:
    run(tiny_components, guidance=Guidance.from_scales(1.0), negative_embeds=None)
    with pytest.raises(ValueError, match="negative_embeds"):
        run(tiny_components, negative_embeds=None)


def test_the_second_expert_works_from_the_boundary_down(tiny_two_experts: Components) -> None:
    calls: list[tuple[str, float]] = []
    hooks = []
    for name in ("transformer", "transformer_2"):
        model = getattr(tiny_two_experts, name)
        hooks.append(
            model.register_forward_pre_hook(
                lambda _, args, kwargs, name=name: calls.append((name, float(kwargs["video_timestep"][0]))),
                with_kwargs=True,
            )
        )
    run(tiny_two_experts, num_steps=10, guidance=Guidance.from_scales(1.0), negative_embeds=None)
    for hook in hooks:
        hook.remove()
    assert len(calls) == 10
    assert all((name == "transformer_2") == (timestep < 900) for name, timestep in calls)
    assert {name for name, _ in calls} == {"transformer", "transformer_2"}


def test_a_callback_sees_every_step_and_can_replace_the_latents(tiny_components: Components) -> None:
    seen: list[Progress] = []
    plain = run(tiny_components, num_steps=3, on_step=seen.append)
    assert [(progress.step, progress.num_steps) for progress in seen] == [(1, 3), (2, 3), (3, 3)]
    assert torch.equal(seen[-1].latents.video, plain.video)
    zeros = AVTensors(torch.zeros_like(plain.video), torch.zeros_like(plain.audio))
    replaced = run(tiny_components, on_step=lambda progress: zeros if progress.step == 2 else None)
    assert float(replaced.video.abs().sum()) == 0.0


@pytest.mark.parametrize("has_step_cache", [False, True])
def test_a_callback_that_raises_ends_the_run_and_leaves_the_network_as_it_was(
    tiny_components: Components, has_step_cache: bool
) -> None:
    model = tiny_components.transformer
    if has_step_cache:
        model.enable_cache(FirstBlockCacheConfig(threshold=0.05))
    try:
        plain = run(tiny_components, num_steps=4)

        def cancel(progress: Progress) -> None:
            if progress.step == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(tiny_components, num_steps=4, on_step=cancel)
        assert torch.is_grad_enabled()
        again = run(tiny_components, num_steps=4)
    finally:
        if has_step_cache:
            model.disable_cache()
    assert torch.equal(again.video, plain.video)
    assert torch.equal(again.audio, plain.audio)


def test_channels_of_a_condition_reach_a_network_that_has_room_for_them(tiny_components: Components) -> None:
    config = tiny_components.transformer.config
    torch.manual_seed(0)
    model = JointModel(video={**config["video"], "in_dim": 7}, audio=config["audio"], bridge=config["bridge"]).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.25)
    components = replace(tiny_components, transformer=model)
    results = [run(components, replace(NOTHING_GIVEN, video_condition=torch.full((3, 2, 4, 4), value))) for value in (0.0, 1.0)]
    assert not torch.equal(results[0].video, results[1].video)


def test_noise_or_schedules_that_do_not_fit_are_refused(tiny_components: Components) -> None:
    with pytest.raises(ValueError, match="the noise has the grids"):
        run(tiny_components, video_noise=torch.zeros(1, 4, 3, 4, 4))
    longer, _ = schedule_pair(CONFIG, 5)
    with pytest.raises(ValueError, match="5 and 2 steps"):
        run(tiny_components, video_schedule=longer)
    with pytest.raises(ValueError, match="experts"):
        Experts([])
