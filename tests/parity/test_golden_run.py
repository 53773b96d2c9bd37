"""The recorded run of the reference: both experts, guidance, image channels, decoding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mova.checkpoints.load import Components, load_checkpoint
from mova.errors import RequestError
from mova.pipeline import MOVAPipeline
from mova.pipeline.latents import MOVAPipelineOutput
from mova.sampling.denoise import Progress, denoise
from mova.sampling.guidance import Experts, Guidance
from mova.sampling.task import Task


@pytest.fixture(scope="module")
def components(official_tiny: Path) -> Components:
    return load_checkpoint(official_tiny)


@pytest.fixture(scope="module")
def golden(official_tiny: Path) -> dict[str, torch.Tensor]:
    return load_file(official_tiny / "golden_run.safetensors")


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
        guidance=Guidance.from_scales(5.0),
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


def run(components: Components, golden: dict[str, torch.Tensor], **changes: Any) -> MOVAPipelineOutput:
    values: dict[str, Any] = {
        "prompt_embeds": golden["inputs.prompt_embeds"],
        "negative_prompt_embeds": golden["inputs.negative_prompt_embeds"],
        "latents": golden["inputs.noise_video"],
        "audio_latents": golden["inputs.noise_audio"],
        "image": golden["inputs.image_uint8_hwc"].numpy(),
        "height": 32,
        "width": 48,
        "num_frames": 9,
        "fps": 24.0,
        "num_inference_steps": 4,
        "guidance_scale": 5.0,
        "output_type": "pt",
    }
    output = MOVAPipeline.from_components(components)(**(values | changes))
    assert isinstance(output, MOVAPipelineOutput)
    return output


def test_the_pipeline_gives_the_recorded_frames_and_audio_from_a_picture(
    components: Components, golden: dict[str, torch.Tensor]
) -> None:
    output = run(components, golden)
    recorded = golden["outputs.video_frames_uint8"].int()
    made = torch.from_numpy(output.clip.frames).int()
    assert int((made - recorded).abs().max()) <= 1
    # the reference does not trim its audio; ours ends with the video: 9 frames at 24 fps and 300 Hz
    assert output.audio.shape[-1] == 112
    expect_close(output.audio, golden["outputs.audio_wave"][..., :112])


def test_latents_come_out_as_recorded(components: Components, golden: dict[str, torch.Tensor]) -> None:
    output = run(components, golden, output_type="latent")
    expect_close(output.frames, golden["outputs.final_video_latents"])
    expect_close(output.audio, golden["outputs.final_audio_latents"])


def test_without_a_picture_the_policy_must_be_said(components: Components, golden: dict[str, torch.Tensor]) -> None:
    with pytest.raises(RequestError, match="trained with a first frame"):
        run(components, golden, image=None)
    white = run(components, golden, image=None, text_only="white", output_type="latent")
    shown = run(components, golden, image=np.full((32, 48, 3), 255, np.uint8), output_type="latent")
    unmasked = run(components, golden, image=None, text_only="unmasked", output_type="latent")
    assert torch.equal(white.frames, shown.frames)
    assert not torch.equal(white.frames, unmasked.frames)


def test_a_last_picture_changes_the_video_and_needs_a_first(components: Components, golden: dict[str, torch.Tensor]) -> None:
    last = np.flip(golden["inputs.image_uint8_hwc"].numpy(), axis=1)
    assert not torch.equal(run(components, golden, last_image=last).frames, run(components, golden).frames)
    with pytest.raises(RequestError, match="only with a first one"):
        run(components, golden, image=None, last_image=last, text_only="white")
    with pytest.raises(RequestError, match="1 \\+ 4 k"):
        run(components, golden, last_image=last, num_frames=8)


def test_a_batch_of_pictures_equals_its_single_runs(components: Components, golden: dict[str, torch.Tensor]) -> None:
    first = golden["inputs.image_uint8_hwc"].numpy()
    other = np.ascontiguousarray(np.flip(first, axis=1))
    twice = {
        name: golden[f"inputs.{key}"].repeat(2, *[1] * (golden[f"inputs.{key}"].ndim - 1))
        for name, key in (
            ("prompt_embeds", "prompt_embeds"),
            ("negative_prompt_embeds", "negative_prompt_embeds"),
            ("latents", "noise_video"),
            ("audio_latents", "noise_audio"),
        )
    }
    both = run(components, golden, **twice, image=[first, other], output_type="latent")
    for index, picture in enumerate((first, other)):
        alone = run(components, golden, image=picture, output_type="latent")
        torch.testing.assert_close(both.frames[index], alone.frames[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(both.audio[index], alone.audio[0], rtol=0, atol=1e-5)
