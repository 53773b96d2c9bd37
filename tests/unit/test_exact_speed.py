"""What depends on the prompt or on the shape only is computed once, and the result is the same to the bit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mova.checkpoints.load import Components
from mova.models.joint import JointModel
from mova.models.rope import bridge_angles, bridge_positions, dac_angles, video_angles
from mova.models.tower import TextContext
from mova.pipeline import MOVAPipeline
from mova.sampling.denoise import Experts, denoise
from mova.sampling.guidance import Guidance
from mova.sampling.noise import audio_noise, video_noise
from mova.sampling.pair import Pair
from mova.sampling.schedule import ScheduleConfig, schedule_pair
from mova.sampling.solvers import SOLVERS
from mova.sampling.tasks import Grid, text

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

    def forward(self, video: Tensor, audio: Tensor, *, text_context: Tensor, **rest: Any) -> Any:
        return self.model(video, audio, text_embeds=text_context, **rest)


def run(models: Sequence[nn.Module], *, frames: int = 2, guidance: Guidance | None = None, **changes: Any) -> Pair:
    generator = torch.Generator().manual_seed(0)
    video_schedule, audio_schedule = schedule_pair(CONFIG, NUM_STEPS)
    values: dict[str, Any] = {
        "text_embeds": torch.randn(1, 5, 32, generator=generator),
        "negative_embeds": torch.randn(1, 5, 32, generator=generator),
        "video_schedule": video_schedule,
        "audio_schedule": audio_schedule,
        "guidance": guidance or Guidance(3.0),
        "video_fps": 16.0,
        "video_noise": video_noise(1, (4, frames, 4, 4))[None],
        "audio_noise": audio_noise(1, (6, 10))[None],
    }
    grid = Grid(frames=frames, height=4, width=4, audio_length=10)
    return denoise(Experts(models, boundary=0.9), text(grid), **(values | changes))


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
        run([model], solver=SOLVERS[solver])
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
        run([model], guidance=Guidance(3.0, 2.0))
    assert counts["0."] == 3 * NUM_STEPS
    assert set(of_the_text(counts).values()) == {2}


def test_two_experts_share_the_projections_for_the_sound(tiny_two_experts: Components) -> None:
    models = [tiny_two_experts.transformer, tiny_two_experts.transformer_2]
    assert all(isinstance(model, JointModel) for model in models)
    with calls_of(*models) as counts:  # type: ignore[arg-type]
        run(models)  # type: ignore[arg-type]
    projected = of_the_text(counts)
    assert counts["0."] > 0 and counts["1."] > 0
    assert len([name for name in projected if name.startswith("1.")]) == 1 + 2 * 3  # the second film tower's own
    assert set(projected.values()) == {2}


def test_the_text_encoder_reads_each_prompt_once_whatever_the_number_of_steps(tiny_components: Components) -> None:
    pipeline = MOVAPipeline.from_components(tiny_components)
    for num_steps in (1, 4):
        with calls_of(pipeline.text_encoder) as counts:
            pipeline("a ball", negative_prompt="fog", num_frames=5, num_inference_steps=num_steps, seed=1, output_type="latent")
        assert counts["0."] == 2


def test_what_is_kept_changes_nothing_to_the_bit(tiny_two_experts: Components) -> None:
    models = [model for model in (tiny_two_experts.transformer, tiny_two_experts.transformer_2) if model is not None]
    kept = run(models, guidance=Guidance(3.0, 2.0))
    with calls_of(*models) as counts:
        anew = run([WithoutKeeper(model) for model in models], guidance=Guidance(3.0, 2.0))
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
