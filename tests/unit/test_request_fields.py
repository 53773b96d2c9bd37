"""Every field of a request reaches the clip."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest

from mova.checkpoints.load import Components
from mova.media.clip import Clip
from mova.model import MOVAModel
from mova.pipeline import MOVAPipeline
from mova.request import GenerationRequest

FILM = "film.mkv"  # written by a fixture into the test's folder
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 5000)).astype(np.float32)
LEFT = np.zeros((32, 32, 3), np.uint8)
LEFT[:, :16] = 255
STRIPES = np.tile(np.arange(0, 256, 4, dtype=np.uint8)[None, :, None], (32, 1, 3))  # 64 x 32
BEGIN = {"prompt": "a red ball", "seed": 1, "num_inference_steps": 3, "num_frames": 5}
# each with what has to be set for the field to have anything to act on
CHANGES = {
    "prompt": {"prompt": "two drums"},
    "negative_prompt": {"negative_prompt": "rain"},
    "audio_negative_prompt": {"audio_negative_prompt": "rain"},
    "seed": {"seed": 2, "audio_seed": 1},
    "audio_seed": {"audio_seed": 2},
    "seconds": {"seconds": 0.5, "num_frames": None},
    "num_frames": {"num_frames": 6},
    "fps": {"fps": 8.0},
    "width": {"width": 48},
    "height": {"height": 48},
    "num_inference_steps": {"num_inference_steps": 4},
    "guidance_scale": {"guidance_scale": 1.5},
    "cross_guidance_scale": {"cross_guidance_scale": 2.0},
    "self_guidance_scale": {"self_guidance_scale": 1.5},
    "audio_guidance_scale": {"audio_guidance_scale": 1.5},
    "audio_cross_guidance_scale": {"audio_cross_guidance_scale": 2.0},
    "audio_self_guidance_scale": {"audio_self_guidance_scale": 1.5},
    "guidance_from": {"guidance_from": 0.9},
    "guidance_to": {"guidance_to": 0.9},
    "cross_guidance_from": {"cross_guidance_scale": 2.0, "cross_guidance_from": 0.9},
    "cross_guidance_to": {"cross_guidance_scale": 2.0, "cross_guidance_to": 0.9},
    "self_guidance_from": {"self_guidance_scale": 1.5, "self_guidance_from": 0.9},
    "self_guidance_to": {"self_guidance_scale": 1.5, "self_guidance_to": 0.9},
    "guidance_rescale": {"guidance_rescale": 0.7},
    "shift": {"shift": 4.0},
    "audio_shift": {"audio_shift": 4.0},
    "solver": {"solver": "heun"},
    "audio_sample_rate": {"audio_sample_rate": 24000},
    "image": {"image": np.full((32, 32, 3), 200, np.uint8)},
    "last_image": {"last_image": np.full((32, 32, 3), 200, np.uint8)},
    "keyframes": {"keyframes": {0.25: np.full((32, 32, 3), 200, np.uint8)}},
    "references": {"references": [np.full((32, 32, 3), 200, np.uint8)]},
    "audio": {"audio": (NOISE, 16000)},
    "video": {"video": FILM, "num_frames": None},
    # these act on something else that is given
    "extend_s": {"video": FILM, "num_frames": None, "extend_s": 0.5},
    "extend_at": {"video": FILM, "num_frames": None, "extend_s": 0.25, "extend_at": "start"},
    "retake": {"video": FILM, "num_frames": None, "retake": ("both", 0.0, 0.25)},
    "repaint": {"video": FILM, "num_frames": None, "repaint": LEFT},
    "fit": {"image": STRIPES, "fit": "pad"},
    "truncate": {"prompt": "a red ball bounces twice on wood " * 8, "truncate": True},
}
# what to compare with, where it is not the beginning
BEFORE = {
    **{field: {"cross_guidance_scale": 2.0} for field in ("cross_guidance_from", "cross_guidance_to")},
    **{field: {"self_guidance_scale": 1.5} for field in ("self_guidance_from", "self_guidance_to")},
    "fit": {"image": STRIPES, "fit": "crop"},
    "extend_s": {"video": FILM, "num_frames": None, "extend_s": 0.25},
    "extend_at": {"video": FILM, "num_frames": None, "extend_s": 0.25},
    "retake": {"video": FILM, "num_frames": None, "retake": ("both", 0.25, 0.5)},
    "repaint": {"video": FILM, "num_frames": None, "repaint": LEFT[:, ::-1]},
}
ON_OTHER_MODELS = {"text_only"}  # tested on a checkpoint that takes a first frame: tests/parity/test_golden_run.py
ON_THE_FILE = {"only"}  # says what is written: tests/unit/test_only.py
PICTURE_ONLY_KEPT = {"audio_sample_rate"}  # changes the finished sound alone
SOUND_ONLY_KEPT = {"repaint"}  # changes the picture alone


@pytest.fixture(scope="module")
def model(tiny_components: Components) -> MOVAModel:
    return MOVAModel(MOVAPipeline.from_components(tiny_components))


@pytest.fixture(scope="module")
def begin(model: MOVAModel) -> Clip:
    return model.generate(**BEGIN)


@pytest.fixture(scope="module")
def folder(model: MOVAModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("films")
    model.generate("rain", seed=3, num_inference_steps=2, num_frames=9).save(place / FILM)
    return place


def same(first: np.ndarray, second: np.ndarray) -> bool:
    return first.shape == second.shape and bool((first == second).all())


@pytest.mark.parametrize("field", sorted(set(GenerationRequest.model_fields) - ON_OTHER_MODELS - ON_THE_FILE))
def test_changing_one_field_changes_the_clip(
    model: MOVAModel, begin: Clip, folder: Path, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    if field in BEFORE:
        begin = model.generate(**(BEGIN | BEFORE[field]))
    clip = model.generate(**(BEGIN | CHANGES[field]))
    assert same(clip.waveform, begin.waveform) == (field in SOUND_ONLY_KEPT)
    assert same(clip.frames, begin.frames) == (field in PICTURE_ONLY_KEPT)


def test_the_same_request_gives_the_same_bytes(model: MOVAModel, begin: Clip) -> None:
    again = model.generate(**BEGIN)
    assert same(again.frames, begin.frames)
    assert same(again.waveform, begin.waveform)


def test_the_recorded_request_makes_the_same_clip_again(model: MOVAModel) -> None:
    clip = model.generate("rain", num_frames=6)
    again = model.run(GenerationRequest(**clip.request))
    assert clip.request["seed"] is not None
    assert same(again.frames, clip.frames)
    assert same(again.waveform, clip.waveform)


def test_generate_takes_exactly_the_fields_of_the_request() -> None:
    arguments = inspect.signature(MOVAModel.generate).parameters
    fields = GenerationRequest.model_fields
    assert set(arguments) - {"self", "on_progress"} == set(fields)
    for name, field in fields.items():
        if not field.is_required():
            # Python takes pictures by their moment, and a request lists them
            assert arguments[name].default == (None if name == "keyframes" else field.default), name
