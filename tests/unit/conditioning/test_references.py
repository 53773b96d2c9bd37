"""Pictures that a video goes on from and does not show."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mova.checkpoints.load import Components
from mova.conditioning.given import Given, prepend_references
from mova.conditioning.prepare import prepare
from mova.errors import RequestError
from mova.generation.model import MOVAModel
from mova.pipeline import MOVAPipeline
from mova.request.plan import resolve
from mova.request.schema import GenerationRequest

GREY = np.full((32, 32, 3), 200, np.uint8)
BLACK = np.zeros((32, 32, 3), np.uint8)
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 9000)).astype(np.float32)


@pytest.fixture(scope="module")
def model(tiny_components: Components) -> MOVAModel:
    return MOVAModel(MOVAPipeline.from_components(tiny_components))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_clip_has_the_length_asked_for_and_begins_after_the_references(model: MOVAModel, count: int) -> None:
    stages: list[str] = []
    clip = model.generate(
        "rain", seed=1, num_frames=6, num_inference_steps=2, references=[GREY, BLACK, GREY][:count],
        on_progress=lambda progress: stages.append(progress.stage),
    )  # fmt: skip
    assert clip.num_frames == 6
    assert not (clip.frames[0] == GREY).all()
    assert "decode" in stages


def test_references_fit_into_the_models_own_length_when_none_is_asked_for(model: MOVAModel) -> None:
    request = GenerationRequest(prompt="rain", references=("memory:a", "memory:b"))
    prepared = prepare(request, model.capabilities, {"memory:a": GREY, "memory:b": BLACK})
    assert prepared.plan.num_frames + prepared.lead_frames == model.capabilities.max_frames


def test_what_is_given_of_the_clip_moves_behind_the_references(model: MOVAModel) -> None:
    plan = resolve(GenerationRequest(prompt="rain", num_frames=6), model.capabilities)
    keep = np.zeros((6, 1, 1), np.bool_)
    keep[2] = True
    audio = np.zeros((1, plan.canvas.num_samples), np.float32)
    given = Given(np.repeat(GREY[None], 6, axis=0), keep, audio, np.ones(plan.canvas.num_samples, np.bool_), stills=(2,))
    lead = prepend_references([BLACK, GREY], plan.canvas, given, plan.timeline)
    stride = plan.timeline.frames_of_latents(2) - 1
    assert lead.frames is not None and lead.keep_picture is not None and lead.keep_audio is not None
    kept = lead.keep_picture[:, 0, 0]
    assert kept.tolist() == [True] * (1 + stride) + [False, False, True, False, False, False]
    assert (lead.frames[0] == BLACK).all() and (lead.frames[1 : 1 + stride] == GREY).all()
    assert lead.stills == (0, 3 + stride)
    assert not lead.keep_audio[: plan.timeline.samples(1 + stride) - 1].any()
    assert lead.keep_audio.sum() == plan.canvas.num_samples


def test_a_given_audio_is_the_clips_own_behind_references(model: MOVAModel) -> None:
    clip = model.generate("rain", seed=1, num_frames=6, num_inference_steps=2, references=[GREY], audio=(NOISE, 16000))
    np.testing.assert_array_equal(clip.waveform, NOISE[:, : clip.waveform.shape[1]])


@pytest.mark.parametrize("other", [{"image": "a.png"}, {"video": "a.mp4"}])
def test_references_contradict_what_stands_in_their_place(other: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as caught:
        GenerationRequest(prompt="rain", references=("b.png",), **other)
    assert caught.value.field == "references"


def test_a_clip_that_is_too_long_with_its_references_is_refused(model: MOVAModel) -> None:
    request = GenerationRequest(prompt="rain", references=("b.png",), num_frames=model.capabilities.longest)
    with pytest.raises(RequestError, match=f"at most {model.capabilities.longest - 1} frames"):
        prepare(request, model.capabilities)
