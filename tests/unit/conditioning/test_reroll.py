"""One modality of a clip made anew: the other stays as it is, and the request says how."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mova.checkpoints.load import Components
from mova.errors import RequestError
from mova.generation.model import MOVAModel
from mova.media.clip import Clip
from mova.media.decode import read_clip
from mova.pipeline import MOVAPipeline

SHORT = {"num_frames": 7, "num_inference_steps": 2, "seed": 1}


@pytest.fixture(scope="module")
def model(tiny_components: Components) -> MOVAModel:
    return MOVAModel(MOVAPipeline.from_components(tiny_components))


@pytest.fixture(scope="module")
def clip(model: MOVAModel) -> Clip:
    picture = np.full((32, 32, 3), 200, np.uint8)
    return model.generate("a red ball", image=picture, audio_sample_rate=24000, **SHORT)


def test_a_new_audio_leaves_every_frame_and_a_seed_gives_it_again(clip: Clip) -> None:
    first, again, other = clip.reroll("audio", seed=7), clip.reroll("audio", seed=7), clip.reroll("audio")
    for made in (first, other):
        assert np.array_equal(made.frames, clip.frames)
        assert made.waveform.shape == clip.waveform.shape
        assert not np.array_equal(made.waveform, clip.waveform)
    assert np.array_equal(first.waveform, again.waveform)
    assert not np.array_equal(first.waveform, other.waveform)
    assert first.request is not None
    assert (first.request["audio_seed"], first.request["seed"]) == (7, 1)
    assert str(first.request["video"]).startswith("memory:")
    assert "image" not in first.request


def test_a_new_video_leaves_every_sample_and_the_pictures_that_were_given(clip: Clip) -> None:
    made = clip.reroll("video", seed=9)
    assert np.array_equal(made.waveform, clip.waveform)
    assert np.array_equal(made.frames[0], clip.frames[0])
    assert not np.array_equal(made.frames[1:], clip.frames[1:])
    assert made.request is not None
    assert (made.request["seed"], made.request["image"]) == (9, (clip.request or {})["image"])
    assert np.array_equal(made.reroll("audio", seed=1).frames, made.frames)


def test_a_clip_from_a_file_is_taken_by_a_model_and_says_so_itself(model: MOVAModel, clip: Clip, tmp_path: Path) -> None:
    clip.save(tmp_path / "clip.mkv")
    found = read_clip(tmp_path / "clip.mkv")
    with pytest.raises(RequestError, match="not in memory") as refusal:
        found.reroll("audio")
    assert "from_pretrained('tiny')" in refusal.value.hint
    assert np.array_equal(model.reroll(found, "audio", seed=7).frames, found.frames)
    with pytest.raises(RequestError, match="does not say how"):
        model.reroll(replace(found, request=None), "audio")
    with pytest.raises(RequestError, match="audio or video"):
        model.reroll(found, "both")  # type: ignore[arg-type]


def test_a_video_that_only_got_its_audio_keeps_its_own_stream(model: MOVAModel, clip: Clip, tmp_path: Path) -> None:
    clip.save(tmp_path / "film.mkv")
    first = model.generate("rain", video=tmp_path / "film.mkv", num_inference_steps=2, seed=3)
    second = first.reroll("audio", seed=4)
    assert second.source_video == first.source_video == tmp_path / "film.mkv"
    assert np.array_equal(second.frames, first.frames)
    assert not np.array_equal(second.waveform, first.waveform)


def test_a_clip_is_copied_as_it_is_pickled_without_its_model(clip: Clip) -> None:
    other = copy.deepcopy(clip)
    assert clip.reroll_method is not None
    assert other.reroll_method is None
    assert np.array_equal(other.frames, clip.frames)


def test_references_that_were_in_memory_are_asked_for_again_and_those_in_files_are_not(
    model: MOVAModel, tmp_path: Path
) -> None:
    picture = np.full((32, 32, 3), 90, np.uint8)
    from_memory = model.generate("a red ball", references=[picture], **SHORT)
    with pytest.raises(RequestError, match="references of this clip were in memory") as refusal:
        from_memory.reroll("video")
    assert "audio=(clip.waveform, clip.sample_rate)" in refusal.value.hint
    assert np.array_equal(from_memory.reroll("audio", seed=2).frames, from_memory.frames)  # needs no references
    again = model.generate(
        "a red ball", references=[picture], audio=(from_memory.waveform, from_memory.sample_rate), **SHORT | {"seed": 2}
    )
    assert np.array_equal(again.waveform, from_memory.waveform)
    Image.fromarray(picture).save(tmp_path / "ball.png")
    made = model.generate("a red ball", references=[tmp_path / "ball.png"], **SHORT)
    assert np.array_equal(made.reroll("video", seed=2).waveform, made.waveform)
