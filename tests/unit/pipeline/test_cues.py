"""What happens when: from a request to the network, planned where nobody says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mova.checkpoints.load import Components, load_checkpoint
from mova.cli.options import parse_cues
from mova.errors import CheckpointError, RequestError
from mova.generation.model import MOVAModel
from mova.media.clip import Clip
from mova.pipeline import MOVAPipeline
from mova.pipeline.prompts import add_cue_channels
from mova.request.schema import Cue, GenerationRequest
from mova.sampling.task import Grid, Task

BEGIN = {"prompt": "two drums", "seed": 1, "num_inference_steps": 2, "num_frames": 9}
GREY = np.full((32, 32, 3), 200, np.uint8)


@pytest.fixture(scope="module")
def model(tiny_cued: Components) -> MOVAModel:
    return MOVAModel(MOVAPipeline.from_components(tiny_cued))


def cues_of(clip: Clip) -> list[tuple[float, str]]:
    return [(time_s, label) for time_s, label in (clip.made_by or {})["cues"]]


def nothing_given(grid: Grid) -> Task:
    return Task(torch.ones(grid.frames, grid.height, grid.width), torch.ones(grid.audio_length))


def same(one: Clip, other: Clip) -> bool:
    return np.array_equal(one.frames, other.frames) and np.array_equal(one.waveform, other.waveform)


def test_a_prompt_alone_is_planned_and_the_plan_is_recorded(model: MOVAModel) -> None:
    clip = model.generate(**BEGIN)
    planned = cues_of(clip)
    assert planned and all(0 <= time_s < 9 / 16 and label in ("red", "blue") for time_s, label in planned)
    assert clip.request is not None and "cues" not in clip.request
    assert same(model.generate(**BEGIN, cues=planned), clip), "told what was planned, it makes the same clip"
    assert same(model.generate(**BEGIN), clip)


def test_another_seed_plans_anew_and_another_seed_of_the_audio_does_not(model: MOVAModel) -> None:
    planned = cues_of(model.generate(**BEGIN))
    assert cues_of(model.generate(**(BEGIN | {"seed": 2}))) != planned
    assert cues_of(model.generate(**BEGIN, audio_seed=5)) == planned


def test_no_cues_leaves_it_open(model: MOVAModel) -> None:
    clip = model.generate(**BEGIN, cues=())
    assert cues_of(clip) == []
    assert not same(clip, model.generate(**BEGIN))


def test_where_something_is_given_nothing_is_planned(model: MOVAModel, tmp_path: Path) -> None:
    video = tmp_path / "film.mkv"
    first = model.generate(**BEGIN)
    first.save(video)
    assert cues_of(model.generate("rain", video=video, seed=3, num_inference_steps=2)) == []
    assert cues_of(model.generate(**BEGIN, last_image=GREY)) == []
    assert cues_of(model.generate(**BEGIN, image=GREY)) == []
    assert cues_of(model.reroll(first, "audio", seed=4)) == []


def test_a_clip_that_was_told_can_be_rerolled(model: MOVAModel) -> None:
    told = model.generate(**BEGIN, cues=[(0.2, "red")])
    assert np.array_equal(model.reroll(told, "audio", seed=4).frames, told.frames)
    assert cues_of(model.reroll(told, "video", seed=4)) == [(0.2, "red")]


def test_a_batch_is_planned_as_its_clips_alone(model: MOVAModel) -> None:
    pipeline = model.pipeline
    settings = {"num_frames": 9, "num_inference_steps": 2}
    both = pipeline(["rain", "two drums"], seed=[5, 6], **settings)
    alone = [pipeline(prompt, seed=seed, **settings) for prompt, seed in (("rain", 5), ("two drums", 6))]
    assert list(both.cues) == [one.cues[0] for one in alone]
    assert np.allclose(both.frames[1], alone[1].frames[0], atol=1e-5)


def test_a_clip_of_the_models_own_length_is_told_whole(model: MOVAModel) -> None:
    pipeline = model.pipeline
    seen: list[torch.Tensor] = []
    handle = pipeline.transformer.video_embed.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    try:
        pipeline("rain", seed=1, num_frames=33, num_inference_steps=1)
    finally:
        handle.remove()
    assert seen[0][:, 4].eq(1).all()


def test_what_is_planned_for_a_long_clip_is_told_of_its_beginning_only(model: MOVAModel) -> None:
    pipeline = model.pipeline
    fps = pipeline.capabilities.timeline().fps
    grid = pipeline.grid(height=32, width=32, num_frames=65, fps=fps)
    told = add_cue_channels(nothing_given(grid), [[(0.5, "red")]], pipeline.capabilities, batch=1, fps=fps, until=9)
    assert told.video_condition is not None
    assert told.video_condition[0, 0, :9].eq(1).all() and not told.video_condition[0, :, 9:].any()


def test_a_task_of_the_users_own_needs_no_channels(model: MOVAModel) -> None:
    pipeline = model.pipeline
    grid = pipeline.grid(height=32, width=32, num_frames=9, fps=pipeline.capabilities.timeline().fps)
    settings = {"seed": 1, "num_frames": 9, "num_inference_steps": 1, "output_type": "latent"}
    out = pipeline("rain", task=nothing_given(grid), **settings)
    assert torch.equal(out.frames, pipeline("rain", **settings).frames) and out.cues[0]
    half = nothing_given(grid)
    half.audio_level[:4] = 0.0
    given = replace(half, audio=torch.zeros(6, grid.audio_length))
    assert pipeline("rain", task=given, **settings).cues == [[]], "what it gives has times of its own"


@pytest.mark.parametrize(
    ("change", "named", "hint"),
    [
        ({"cues": [(0.6, "red")]}, "not within the clip of 0.5625 s", "earlier"),
        ({"cues": [(0.2, "redd")]}, "knows no 'redd'", "Did you mean red"),
        ({"cues": [(-1.0, "")]}, "at least 0", "Use 0"),
        ({"cues": [(float("nan"), "")]}, "finite|at least", ""),
    ],
)
def test_a_wrong_cue_is_refused_with_the_nearest_that_is_right(model: MOVAModel, change: dict, named: str, hint: str) -> None:
    with pytest.raises(RequestError, match=named) as caught:
        model.generate(**(BEGIN | change))
    assert hint in caught.value.hint


def test_a_pipeline_refuses_sheets_that_do_not_fit_its_clips(model: MOVAModel, tiny_components: Components) -> None:
    settings = {"num_frames": 9, "num_inference_steps": 1}
    with pytest.raises(RequestError, match="1 cue sheets for 2 clips"):
        model.pipeline(["rain", "two drums"], cues=[[(0.1, "")]], **settings)
    with pytest.raises(RequestError, match="known are red, blue"):
        model.pipeline("rain", cues=[[(0.1, "green")]], **settings)
    with pytest.raises(RequestError, match="takes no cues"):
        MOVAPipeline.from_components(tiny_components)("rain", cues=[[(0.1, "")]], **settings)


def test_cues_for_a_video_that_is_given_are_refused() -> None:
    with pytest.raises(RequestError, match="contradict video"):
        GenerationRequest(prompt="rain", video="film.mp4", cues=(Cue(time_s=0.5),))


def test_a_model_that_takes_no_cues_says_so(tiny_components: Components) -> None:
    with pytest.raises(RequestError, match="takes no cues"):
        MOVAModel(MOVAPipeline.from_components(tiny_components)).generate(**BEGIN, cues=[(0.1, "")])


def test_the_planner_is_saved_and_loaded(model: MOVAModel, tmp_path: Path) -> None:
    model.pipeline.save_pretrained(tmp_path / "model")
    again = MOVAModel(MOVAPipeline.from_components(load_checkpoint(tmp_path / "model")))
    assert cues_of(again.generate(**BEGIN)) == cues_of(model.generate(**BEGIN))


@pytest.mark.parametrize(
    ("file", "change", "named"),
    [
        ("model_index.json", lambda values: values["world"].update(cues=["red"]), "1 cues need a network of 10 channels"),
        ("model_index.json", lambda values: values["world"].update(cues=["red", "C"]), "other cues than the network knows"),
        ("cue_planner/config.json", lambda values: values.pop("steps_per_s"), "lacks steps_per_s"),
    ],
)
def test_a_folder_whose_parts_disagree_is_refused(model: MOVAModel, tmp_path: Path, file: str, change, named: str) -> None:
    folder = tmp_path / "model"
    model.pipeline.save_pretrained(folder)
    values = json.loads((folder / file).read_text(encoding="utf-8"))
    change(values)
    (folder / file).write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(CheckpointError, match=named):
        load_checkpoint(folder, should_verify=False)


def test_cues_are_typed_as_seconds_and_labels() -> None:
    assert parse_cues(["0.5=red", "1"]) == ({"time_s": 0.5, "label": "red"}, {"time_s": 1.0, "label": ""})
    assert parse_cues(["none"]) == () and parse_cues(None) is None
    with pytest.raises(RequestError, match="--cue"):
        parse_cues(["red"])
