"""What depends on the prompt or on the shape only is computed once, and the result is the same to the bit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from diffusers import FirstBlockCacheConfig
from torch import Tensor, nn

from mova.checkpoints.load import Components
from mova.models.joint import JointModel
from mova.models.layers import (
    VideoRope,
    bridge_angles,
    bridge_positions,
    dac_angles,
    gather_rows,
    rotate_adjacent,
    video_angles,
)
from mova.models.tower import TextContext
from mova.pipeline import MOVAPipeline
from mova.sampling.denoise import MAX_TOKENS_FOR_BATCHED_CFG, cfg_batch, denoise
from mova.sampling.guidance import Experts, Guidance
from mova.sampling.schedule import ScheduleConfig, schedule_pair
from mova.sampling.task import AVTensors, Task, audio_noise, video_noise

CONFIG = ScheduleConfig(shift=2.0, sigma_min=0.0, extra_one_step=True, snap_to_training_grid=False)
NUM_STEPS = 3


class WithoutKeeper(nn.Module):
    """The same network, told the prompt anew at every call, so that it projects it anew."""

    def __init__(self, model: JointModel) -> None:
        super().__init__()
        self.model = model

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("model"), name)

    def encode_text(self, text_embeds: Tensor) -> Tensor:
        return text_embeds

    def forward(self, *latents: Tensor, **rest: Any) -> Any:
        return self.model(*latents, **rest)


def run(models: Sequence[nn.Module], *, frames: int = 2, guidance: Guidance | None = None, **changes: Any) -> AVTensors:
    generator = torch.Generator().manual_seed(0)
    video_schedule, audio_schedule = schedule_pair(CONFIG, NUM_STEPS)
    values: dict[str, Any] = {
        "text_embeds": torch.randn(1, 5, 32, generator=generator),
        "negative_embeds": torch.randn(1, 5, 32, generator=generator),
        "video_schedule": video_schedule,
        "audio_schedule": audio_schedule,
        "guidance": guidance or Guidance.from_scales(3.0),
        "video_fps": 16.0,
        "video_noise": video_noise(1, (4, frames, 4, 4))[None],
        "audio_noise": audio_noise(1, (6, 10))[None],
    }
    task = Task(torch.ones(frames, 4, 4), torch.ones(10))
    return denoise(Experts(models, boundary=0.9), task, **(values | changes))


@contextmanager
def calls_of(*models: nn.Module) -> Iterator[Counter[str]]:
    """Forward calls of every distinct module, by its name in the first network that has it."""
    counts: Counter[str] = Counter()
    hooks, seen = [], set()
    for number, model in enumerate(models):
        for name, module in model.named_modules():
            if module not in seen:
                seen.add(module)
                label = f"{number}.{name}"
                hooks.append(module.register_forward_hook(lambda *_, label=label: counts.update([label])))
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()


def of_the_text(counts: Counter[str]) -> dict[str, int]:
    """Counts of the projections of the prompt: into each tower, and to keys and values of each block."""
    endings = (".text_embedding", ".cross_attn.to_k", ".cross_attn.to_v", ".cross_attn.norm_k")
    return {name: count for name, count in counts.items() if name.endswith(endings)}


@pytest.mark.parametrize("solver", ["euler", "heun", "unipc"])
def test_each_prompt_is_projected_once_a_run_in_every_block(tiny_components: Components, solver: str) -> None:
    model = tiny_components.transformer
    with calls_of(model) as counts:
        run([model], solver=solver)
    projected = of_the_text(counts)
    # two towers, and two blocks of each with k, v and the norm of k
    assert len(projected) == 2 + 2 * 2 * 3
    assert set(projected.values()) == {2}  # the prompt and the negative prompt
    evaluations = 2 * (2 * NUM_STEPS - 1 if solver == "heun" else NUM_STEPS)
    assert counts["0."] == evaluations
    assert counts["0.transformer_blocks.0.video.cross_attn.to_q"] == evaluations


def test_three_branches_still_project_two_prompts(tiny_components: Components) -> None:
    model = tiny_components.transformer
    with calls_of(model) as counts:
        run([model], guidance=Guidance.from_scales(3.0, 2.0))
    assert counts["0."] == 3 * NUM_STEPS
    assert set(of_the_text(counts).values()) == {2}


def test_two_experts_share_the_projections_for_the_audio(tiny_two_experts: Components) -> None:
    models = [tiny_two_experts.transformer, tiny_two_experts.transformer_2]
    assert all(isinstance(model, JointModel) for model in models)
    with calls_of(*models) as counts:  # type: ignore[arg-type]
        run(models)  # type: ignore[arg-type]
    projected = of_the_text(counts)
    assert counts["0."] > 0 and counts["1."] > 0
    assert len([name for name in projected if name.startswith("1.")]) == 1 + 2 * 3  # the second video tower's own
    assert set(projected.values()) == {2}


def test_the_text_encoder_reads_each_prompt_once_whatever_the_number_of_steps(tiny_components: Components) -> None:
    pipeline = MOVAPipeline.from_components(tiny_components)
    for num_steps in (1, 4):
        with calls_of(pipeline.text_encoder) as counts:
            pipeline("a ball", negative_prompt="fog", num_frames=5, num_inference_steps=num_steps, seed=1, output_type="latent")
        assert counts["0."] == 2


def test_what_is_kept_changes_nothing_to_the_bit(tiny_two_experts: Components) -> None:
    models = [model for model in (tiny_two_experts.transformer, tiny_two_experts.transformer_2) if model is not None]
    kept = run(models, guidance=Guidance.from_scales(3.0, 2.0))
    with calls_of(*models) as counts:
        anew = run([WithoutKeeper(model) for model in models], guidance=Guidance.from_scales(3.0, 2.0))
    assert counts["0.audio_embed.text_embedding"] == 3 * NUM_STEPS  # it does project at every call
    assert torch.equal(kept.video, anew.video)
    assert torch.equal(kept.audio, anew.audio)


def test_a_keeper_serves_one_prompt_only(tiny_components: Components) -> None:
    model = tiny_components.transformer
    first, second = run([model], text_embeds=torch.ones(1, 5, 32)), run([model], text_embeds=-torch.ones(1, 5, 32))
    assert not torch.equal(first.video, second.video)
    assert isinstance(model.encode_text(torch.ones(1, 5, 32)), TextContext)
    assert torch.equal(run([model], text_embeds=torch.ones(1, 5, 32)).video, first.video)


@contextmanager
def tables_of(model: JointModel) -> Iterator[dict[str, list[tuple[Tensor, ...]]]]:
    """The position tables that each call of the network gets."""
    seen: dict[str, list[tuple[Tensor, ...]]] = {"video_rope": [], "audio_rope": [], "bridge_rope": []}
    hooks = [
        getattr(model, name).register_forward_hook(lambda _, __, output, name=name: seen[name].append(output)) for name in seen
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def test_position_tables_are_made_once_a_shape_and_are_the_right_ones(tiny_components: Components) -> None:
    model = tiny_components.transformer
    with tables_of(model) as tables:
        for frames in (2, 3, 2):
            run([model], frames=frames)
    for calls in tables.values():
        assert len(calls) == 3 * 2 * NUM_STEPS
        # the very same tensors: nothing was computed again
        assert len({tuple(table.data_ptr() for table in call) for call in calls}) == (1 if calls is tables["audio_rope"] else 2)

    angles = {
        "video_rope": [video_angles(2, 2, 2, 24)],
        "audio_rope": [dac_angles(10, 16)],
        "bridge_rope": [
            bridge_angles(bridge_positions(2, 16.0, 32.0, 4, False).repeat_interleave(4), 8),
            bridge_angles(torch.arange(10), 8),
        ],
    }
    for name, parts in angles.items():
        expected = [turn(part).float() for part in parts for turn in (torch.cos, torch.sin)]
        for table, values in zip(tables[name][0], expected, strict=True):
            assert torch.equal(table[0, :, 0], values)


def test_a_table_is_made_complex_once_and_turns_as_a_new_one_does() -> None:
    made = []

    class Counted(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made.extend([func] if func is torch.complex else [])
            return func(*args, **(kwargs or {}))

    cos, sin = VideoRope(36)((3, 5, 7), torch.device("cpu"))
    x = torch.randn(2, 105, 3, 36, generator=torch.Generator().manual_seed(0))
    with Counted():
        turned = [rotate_adjacent(x, (cos, sin)) for _ in range(3)]
    assert len(made) == 1
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    anew = torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(-2)
    assert all(torch.equal(one, anew) for one in turned)
    # the other way round is another table
    torch.testing.assert_close(rotate_adjacent(turned[0], (cos, -sin)), x, rtol=0, atol=1e-5)


@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize("num_levels", [1, 2])
def test_modulation_gathered_at_once_is_that_of_each_part_to_the_bit(
    tiny_components: Components, per_token: bool, num_levels: int
) -> None:
    model, generator = tiny_components.transformer, torch.Generator().manual_seed(0)
    head = model.video_head
    dim = head.modulation.shape[-1]
    tokens, time = torch.randn(2, 7, dim, generator=generator), torch.randn(num_levels, dim, generator=generator)
    index = torch.randint(num_levels, (2, 7) if per_token else (2,), generator=generator)
    shift, scale = (gather_rows(row, index) for row in (head.modulation + time[:, None]).unbind(1))
    with torch.no_grad():
        assert torch.equal(head(tokens, time, index), head.head(head.norm(tokens) * (1 + scale) + shift))


class Written(nn.Module):
    """A network that keeps the timesteps it is told."""

    def __init__(self, model: JointModel) -> None:
        super().__init__()
        self.model, self.told = model, []

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("model"), name)

    def forward(self, *latents: Tensor, video_timestep: Tensor, audio_timestep: Tensor, **rest: Any) -> Any:
        self.told.append((video_timestep, audio_timestep))
        return self.model(*latents, video_timestep=video_timestep, audio_timestep=audio_timestep, **rest)


def test_a_map_of_levels_is_told_only_where_tokens_differ_and_never_looked_at_again(tiny_components: Components) -> None:
    level = torch.full((2, 4, 4), 0.9)
    level[0] = 0.6
    task = Task(level, torch.ones(10), video=torch.zeros(4, 2, 4, 4))
    model = Written(tiny_components.transformer)
    schedules = schedule_pair(CONFIG, 8)
    generator = torch.Generator().manual_seed(0)
    denoise(
        Experts([model]),
        task,
        text_embeds=torch.randn(1, 5, 32, generator=generator),
        negative_embeds=None,
        video_schedule=schedules[0],
        audio_schedule=schedules[1],
        guidance=Guidance.from_scales(1.0),
        video_fps=16.0,
        video_noise=video_noise(1, (4, 2, 4, 4))[None],
        audio_noise=audio_noise(1, (6, 10))[None],
    )
    kinds = set()
    for (video, audio), timestep in zip(model.told, schedules[0].timesteps, strict=False):
        limited = torch.minimum(1000.0 * level, timestep)
        assert torch.equal(video.expand(2, 4, 4) if video.ndim == 1 else video[0], limited)
        assert (video.ndim == 1) == bool((limited == limited[0, 0, 0]).all())
        assert torch.equal(audio, timestep.reshape(1))
        kinds.add(video.ndim)
    assert kinds == {1, 4}


def test_few_tokens_share_a_pass_between_two_branches_and_many_do_not(
    tiny_components: Components, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [cfg_batch(count) for count in (1, MAX_TOKENS_FOR_BATCHED_CFG, MAX_TOKENS_FOR_BATCHED_CFG + 1)] == [2, 2, 1]
    pipeline, made = MOVAPipeline.from_components(tiny_components), {}
    for limit in (MAX_TOKENS_FOR_BATCHED_CFG, 0):
        monkeypatch.setattr("mova.sampling.denoise.MAX_TOKENS_FOR_BATCHED_CFG", limit)
        with calls_of(pipeline.transformer) as counts:
            made[limit] = pipeline(
                "a ball", num_frames=5, num_inference_steps=3, guidance_scale=3.0, seed=1, solver="euler", output_type="latent"
            )
        assert counts["0."] == (3 if limit else 6)
    together, apart = made.values()
    torch.testing.assert_close(together.frames, apart.frames, rtol=0, atol=1e-4)
    torch.testing.assert_close(together.audio, apart.audio, rtol=0, atol=1e-4)


def test_a_run_begins_with_empty_step_caches_as_every_window_of_a_long_clip_must(tiny_components: Components) -> None:
    model: Any = tiny_components.transformer
    generator = torch.Generator().manual_seed(2)
    other = torch.randn(1, 5, 32, generator=generator)
    model.enable_cache(FirstBlockCacheConfig(threshold=1e3))  # whatever was kept is used again
    try:
        before = run([model])
        run([model], frames=3, text_embeds=other)
        after = run([model])
        assert torch.equal(before.video, after.video) and torch.equal(before.audio, after.audio)
    finally:
        model.disable_cache()


def test_a_run_that_failed_leaves_nothing_in_step_caches(tiny_components: Components) -> None:
    pipeline = MOVAPipeline.from_components(tiny_components)

    def make(prompt: str, callback: Any = None) -> Tensor:
        output = pipeline(
            prompt, num_frames=5, num_inference_steps=3, seed=1, output_type="latent", callback_on_step_end=callback
        )
        return output.frames

    def fail(*_: Any) -> None:
        raise RuntimeError("stop")

    pipeline.transformer.enable_cache(FirstBlockCacheConfig(threshold=1e3))  # whatever was kept is used again
    try:
        before = make("a ball")
        with pytest.raises(RuntimeError, match="stop"):
            make("rain", fail)
        assert torch.equal(make("a ball"), before)
    finally:
        pipeline.transformer.disable_cache()
