"""The pipeline from prompt to clip, on a tiny model of the real classes."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from mova.checkpoints.load import Components
from mova.errors import RequestError
from mova.generation.model import MOVAModel
from mova.pipeline import MOVAPipeline
from mova.pipeline.latents import MOVAPipelineOutput
from mova.runtime.resolve import AttentionChoice, use_attention
from mova.sampling.guidance import Guidance
from mova.sampling.task import Task, audio_noise, draw_seeds, video_noise

SHORT: dict[str, Any] = {"num_frames": 5, "num_inference_steps": 2}


@pytest.fixture(scope="module")
def pipeline(tiny_components: Components) -> MOVAPipeline:
    return MOVAPipeline.from_components(tiny_components)


def latents(pipeline: MOVAPipeline, *prompts: str, **changes: Any) -> MOVAPipelineOutput:
    output = pipeline(list(prompts), output_type="latent", **(SHORT | changes))
    assert isinstance(output, MOVAPipelineOutput)
    return output


def test_each_clip_of_a_batch_of_four_equals_its_single_run(pipeline: MOVAPipeline) -> None:
    prompts = ["a ball", "rain", "two drums", "a bell"]
    batch = pipeline(prompts, seed=5, negative_prompt="fog", output_type="clips", **SHORT).clips
    for index, prompt in enumerate(prompts):
        single = pipeline(prompt, seed=5 + index, negative_prompt="fog", output_type="clips", **SHORT).clip
        # sums of four are taken in another order than of one, which is felt where a value is on the edge of two pixels
        differs = np.abs(batch[index].frames.astype(int) - single.frames.astype(int))
        assert differs.max() <= 1
        assert (differs > 0).mean() < 0.001
        np.testing.assert_allclose(batch[index].waveform, single.waveform, rtol=0, atol=2e-4)


def test_another_audio_seed_starts_from_the_same_video_noise(pipeline: MOVAPipeline) -> None:
    starts: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def watched(audio_seed: int) -> None:
        first: list[tuple[torch.Tensor, torch.Tensor]] = []
        hook = pipeline.transformer.register_forward_pre_hook(lambda _, args: first.append((args[0].clone(), args[1].clone())))
        latents(pipeline, "a ball", seed=3, audio_seed=audio_seed)
        hook.remove()
        starts[audio_seed] = first[0]

    watched(1)
    watched(2)
    assert torch.equal(starts[1][0], starts[2][0])
    assert not torch.equal(starts[1][1], starts[2][1])


@pytest.mark.parametrize("num_frames", [1, 2, 5, 6])
def test_the_clip_has_exactly_the_asked_length_to_the_sample(pipeline: MOVAPipeline, num_frames: int) -> None:
    clip = pipeline("a ball", num_frames=num_frames, num_inference_steps=1, seed=1).clip
    assert clip.frames.shape == (num_frames, 32, 32, 3)
    assert clip.waveform.shape == (1, num_frames * 1000)


def test_output_types_show_the_same_clip(pipeline: MOVAPipeline) -> None:
    outputs = {kind: pipeline("a ball", seed=1, output_type=kind, **SHORT) for kind in ("np", "pt", "pil", "latent")}
    clip = outputs["np"].clip
    assert outputs["np"].frames.shape == (1, 5, 32, 32, 3)
    assert 0.0 <= outputs["np"].frames.min() <= outputs["np"].frames.max() <= 1.0
    np.testing.assert_array_equal(np.round(outputs["np"].frames[0] * 255).astype(np.uint8), clip.frames)
    np.testing.assert_array_equal(outputs["pt"].frames[0].permute(0, 2, 3, 1).numpy(), outputs["np"].frames[0])
    np.testing.assert_array_equal(np.stack([np.asarray(image) for image in outputs["pil"].frames[0]]), clip.frames)
    np.testing.assert_array_equal(outputs["np"].audio[0], clip.waveform)
    assert outputs["latent"].frames.shape == (1, 4, 2, 4, 4)
    decoded = pipeline.codecs.decode_video(outputs["latent"].frames)
    torch.testing.assert_close(decoded[0] / 2 + 0.5, outputs["pt"].frames[0].transpose(0, 1))
    frames, _ = pipeline("a ball", seed=1, return_dict=False, **SHORT)
    np.testing.assert_array_equal(frames, outputs["np"].frames)


def test_given_noise_and_embeddings_take_the_place_of_seeds_and_prompts(pipeline: MOVAPipeline) -> None:
    from mova.models.text import embed_prompts

    plain = latents(pipeline, "a ball", seed=9, negative_prompt="fog")
    embeds = embed_prompts(pipeline.tokenizer, pipeline.text_encoder, ["a ball", "fog"], 24)
    given = pipeline(
        prompt_embeds=embeds[:1],
        negative_prompt_embeds=embeds[1:],
        latents=video_noise(9, (4, 2, 4, 4))[None],
        audio_latents=audio_noise(9, (6, 10))[None],
        output_type="latent",
        **SHORT,
    )
    torch.testing.assert_close(given.frames, plain.frames, rtol=0, atol=1e-5)
    torch.testing.assert_close(given.audio, plain.audio, rtol=0, atol=1e-5)


def test_a_callback_in_diffusers_manner_sees_and_replaces_the_latents(pipeline: MOVAPipeline) -> None:
    seen: list[tuple[int, float]] = []

    def callback(pipe: MOVAPipeline, step: int, timestep: float, values: dict[str, Any]) -> dict[str, Any]:
        assert pipe is pipeline
        seen.append((step, timestep))
        return {"latents": torch.zeros_like(values["latents"])}

    output = latents(pipeline, "a ball", seed=1, callback_on_step_end=callback)
    assert [step for step, _ in seen] == [0, 1]
    assert seen[0][1] == pytest.approx(1000.0)
    assert float(output.frames.abs().max()) == 0.0
    assert float(output.audio.abs().max()) > 0.0


def test_progress_is_told_by_stage_from_nothing_to_all(pipeline: MOVAPipeline) -> None:
    seen: list[tuple[str, int, int]] = []
    pipeline("a ball", seed=1, on_progress=lambda now: seen.append((now.stage, now.done, now.total)), **SHORT)
    assert seen == [
        ("text", 0, 1),
        ("text", 1, 1),
        ("denoise", 0, 2),
        ("denoise", 1, 2),
        ("denoise", 2, 2),
        ("decode", 0, 1),
        ("decode", 1, 1),
    ]


def test_a_video_given_as_a_task_is_kept_while_its_audio_is_made(pipeline: MOVAPipeline) -> None:
    video = torch.rand(1, 3, 5, 32, 32) * 2 - 1
    given = pipeline.codecs.encode_video(video)
    grid = pipeline.grid(height=32, width=32, num_frames=5, fps=16)
    task = Task(torch.zeros(grid.frames, grid.height, grid.width), torch.ones(grid.audio_length), video=given)
    output = latents(pipeline, "a ball", seed=1, task=task)
    torch.testing.assert_close(output.frames, given)
    assert output.audio.shape == (1, 6, 10)


def test_latents_are_normalised_by_the_codecs_statistics(pipeline: MOVAPipeline) -> None:
    audio = torch.rand(1, 1, 2000) * 2 - 1
    raw = pipeline.audio_vae.encode(audio).latent_dist.mode()
    torch.testing.assert_close(pipeline.codecs.encode_audio(audio), (raw - 0.2) / 0.7)
    latents = torch.randn(1, 6, 4)
    plain = pipeline.audio_vae.decode(latents * 0.7 + 0.2).sample
    torch.testing.assert_close(pipeline.codecs.decode_audio(latents), plain)


# the second switches torch's other kernels off while it runs, in the whole process
@pytest.mark.parametrize("backend", ["native", "_native_math"])
def test_two_runs_at_once_do_not_disturb_each_other(tiny_components: Components, backend: str) -> None:
    pipeline = MOVAPipeline.from_components(replace(tiny_components, transformer=copy.deepcopy(tiny_components.transformer)))
    use_attention(pipeline.transformer, AttentionChoice(backend, backend))
    prompts = ("a ball", "rain")
    alone = [latents(pipeline, prompt, seed=1).frames for prompt in prompts]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(4):
            together = list(pool.map(lambda prompt: latents(pipeline, prompt, seed=1).frames, prompts))
            assert all(map(torch.equal, together, alone))
    assert torch.backends.cuda.flash_sdp_enabled()


def test_seeds_count_up_over_a_batch_and_a_generator_gives_the_same_ones_again() -> None:
    assert draw_seeds(3, 7, None, None) == ([7, 8, 9], [7, 8, 9])
    assert draw_seeds(2, [4, 4], 9, None) == ([4, 4], [9, 10])
    drawn = [draw_seeds(2, None, None, torch.Generator().manual_seed(1)) for _ in range(2)]
    assert drawn[0] == drawn[1]
    generator = torch.Generator().manual_seed(1)
    assert draw_seeds(2, None, None, generator) != draw_seeds(2, None, None, generator)
    assert draw_seeds(1, None, None, None) != draw_seeds(1, None, None, None)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": "ball " * 100}, "prompt"),
        ({"negative_prompt": ["a", "b"]}, "negative_prompt"),
        ({"num_frames": 34}, "num_frames"),
        ({"width": 33}, "width"),
        ({"fps": 60.0}, "fps"),
        ({"solver": "rk4"}, "solver"),
        ({"output_type": "gif"}, "output_type"),
        ({"latents": torch.zeros(1, 4, 2, 4, 5)}, "latents"),
        ({"seed": [1, 2]}, "seed"),
        ({"seed": -1}, "seed"),
        ({"seed": 1, "generator": torch.Generator()}, "seed"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(pipeline: MOVAPipeline, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestError) as caught:
        pipeline(**({"prompt": "a ball", "guidance": Guidance.from_scales(2.0)} | SHORT | changes))
    assert caught.value.field == field


def test_a_saved_pipeline_makes_the_same_clip(pipeline: MOVAPipeline, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("saved") / "tiny"
    pipeline.save_pretrained(folder)
    ours = MOVAModel(pipeline).generate("a ball", seed=1, num_frames=5)
    theirs = MOVAModel.from_pretrained(folder).generate("a ball", seed=1, num_frames=5)
    # equal weights; where they lie in memory may change the order of a sum
    np.testing.assert_allclose(ours.frames.astype(int), theirs.frames.astype(int), atol=1)
    np.testing.assert_allclose(ours.waveform, theirs.waveform, atol=1e-3)


def test_the_pipeline_is_a_whole_diffusers_pipeline(pipeline: MOVAPipeline) -> None:
    assert set(pipeline.components) == {
        "transformer",
        "transformer_2",
        "video_vae",
        "audio_vae",
        "text_encoder",
        "tokenizer",
        "scheduler",
        "cue_planner",
        "prompt_reader",
    }
    assert pipeline.to("cpu") is pipeline
