"""The recorded run of the reference: both experts, guidance, image channels, decoding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mova.checkpoints.load import Components, load_checkpoint
from mova.pipeline import MOVAPipeline
from mova.sampling.denoise import Experts, Progress, denoise
from mova.sampling.guidance import Guidance
from mova.sampling.tasks import Task

FOLDER = Path(__file__).parents[2].parent / "shared" / "parity" / "official_tiny"

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="the folder of golden tensors is not present")


@pytest.fixture(scope="module")
def components() -> Components:
    return load_checkpoint(FOLDER)


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return load_file(FOLDER / "golden_run.safetensors")


def task(golden: dict[str, torch.Tensor]) -> Task:
    return Task(video_level=torch.ones(3, 4, 6), audio_level=torch.ones(19), video_condition=golden["outputs.condition"])


def expect_close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    limit = 1e-4 * max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(actual, expected, rtol=0, atol=limit)


def test_every_step_of_the_loop_equals_the_recorded_one(components: Components, golden: dict[str, torch.Tensor]) -> None:
    assert components.transformer_2 is not None
    assert components.index.boundary_ratio is not None
    steps: list[Progress] = []
    video_schedule, audio_schedule = components.scheduler.schedules(4)
    final = denoise(
        Experts([components.transformer, components.transformer_2], components.index.boundary_ratio),
        task(golden),
        text_embeds=golden["inputs.prompt_embeds"],
        negative_embeds=golden["inputs.negative_prompt_embeds"],
        video_schedule=video_schedule,
        audio_schedule=audio_schedule,
        guidance=Guidance(5.0),
        video_fps=24.0,
        video_noise=golden["inputs.noise_video"],
        audio_noise=golden["inputs.noise_audio"],
        on_step=steps.append,
    )
    expect_close(video_schedule.timesteps[:-1], golden["outputs.pair_timesteps"][:, 0])
    for index, step in enumerate(steps):
        expect_close(step.latents.video, golden[f"outputs.step{index}.video_latents"])
        expect_close(step.latents.audio, golden[f"outputs.step{index}.audio_latents"])
    expect_close(final.video, golden["outputs.final_video_latents"])
    expect_close(final.audio, golden["outputs.final_audio_latents"])


def test_the_pipeline_gives_the_recorded_frames_and_sound(components: Components, golden: dict[str, torch.Tensor]) -> None:
    pipeline = MOVAPipeline.from_components(components)
    output = pipeline(
        prompt_embeds=golden["inputs.prompt_embeds"],
        negative_prompt_embeds=golden["inputs.negative_prompt_embeds"],
        latents=golden["inputs.noise_video"],
        audio_latents=golden["inputs.noise_audio"],
        height=32,
        width=48,
        num_frames=9,
        fps=24.0,
        num_inference_steps=4,
        guidance_scale=5.0,
        task=task(golden),
        output_type="pt",
    )
    recorded = golden["outputs.video_frames_uint8"].int()
    made = torch.from_numpy(output.clip.frames).int()
    assert int((made - recorded).abs().max()) <= 1
    # the reference does not trim its sound; ours ends with the film: 9 frames at 24 fps and 300 Hz
    assert output.audio.shape[-1] == 112
    expect_close(output.audio, golden["outputs.audio_wave"][..., :112])
