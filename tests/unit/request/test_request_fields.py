"""Every field of a request reaches the clip."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mova.checkpoints.load import Components
from mova.errors import RequestError
from mova.generation.model import MOVAModel
from mova.media.clip import Clip
from mova.models.joint import JointModel
from mova.models.reader import PromptReader
from mova.pipeline import MOVAPipeline
from mova.request.schema import Cue, GenerationRequest, Keyframe, Retake

VIDEO = "film.mkv"  # written by a fixture into the test's folder
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 5000)).astype(np.float32)
LEFT = np.zeros((32, 32, 3), np.uint8)
LEFT[:, :16] = 255
GREY = np.full((32, 32, 3), 200, np.uint8)
LONG = "a red ball bounces twice on wood " * 8
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
    "cues": {"cues": [(0.2, "red")]},
    "image": {"image": GREY},
    "last_image": {"last_image": GREY},
    "keyframes": {"keyframes": {0.25: GREY}},
    "references": {"references": [GREY]},
    "audio": {"audio": (NOISE, 16000)},
    "video": {"video": VIDEO, "num_frames": None},
    # these act on something else that is given
    "extend_s": {"video": VIDEO, "num_frames": None, "extend_s": 0.5},
    "extend_at": {"video": VIDEO, "num_frames": None, "extend_s": 0.25, "extend_at": "start"},
    "retake": {"video": VIDEO, "num_frames": None, "retake": ("both", 0.0, 0.25)},
    "repaint": {"video": VIDEO, "num_frames": None, "repaint": LEFT},
    "fit": {"image": STRIPES, "fit": "pad"},
    "only": {"only": "video"},
    "text_only": {"text_only": "unmasked"},
    "truncate": {"prompt": LONG, "truncate": True},
    "as_is": {"prompt": "two drums", "as_is": True},
    # fields of fields
    "keyframes.time_s": {"keyframes": {0.25: GREY}},
    "keyframes.image": {"keyframes": {0.0: LEFT}},
    "cues.time_s": {"cues": [(0.1, "red")]},
    "cues.label": {"cues": [(0.2, "blue")]},
    "retake.modality": {"video": VIDEO, "num_frames": None, "retake": ("video", 0.25, 0.5)},
    "retake.from_s": {"video": VIDEO, "num_frames": None, "retake": ("both", 0.0, 0.5)},
    "retake.to_s": {"video": VIDEO, "num_frames": None, "retake": ("both", 0.25, 0.375)},
}
# what to compare with, where it is not the beginning
BEFORE = {
    **{field: {"cross_guidance_scale": 2.0} for field in ("cross_guidance_from", "cross_guidance_to")},
    **{field: {"self_guidance_scale": 1.5} for field in ("self_guidance_from", "self_guidance_to")},
    "cues": {"cues": ()},
    **{f"cues.{field}": {"cues": [(0.2, "red")]} for field in ("time_s", "label")},
    "fit": {"image": STRIPES, "fit": "crop"},
    "extend_s": {"video": VIDEO, "num_frames": None, "extend_s": 0.25},
    "extend_at": {"video": VIDEO, "num_frames": None, "extend_s": 0.25},
    "retake": {"video": VIDEO, "num_frames": None, "retake": ("both", 0.25, 0.5)},
    "repaint": {"video": VIDEO, "num_frames": None, "repaint": LEFT[:, ::-1]},
    "text_only": {"text_only": "white"},
    "truncate": {"prompt": LONG},
    "as_is": {"prompt": "two drums"},
    **{field: {"keyframes": {0.0: GREY}} for field in ("keyframes.time_s", "keyframes.image")},
    **{
        f"retake.{field}": {"video": VIDEO, "num_frames": None, "retake": ("both", 0.25, 0.5)}
        for field in ("modality", "from_s", "to_s")
    },
}
FIELDS = [
    *GenerationRequest.model_fields,
    *(f"keyframes.{field}" for field in Keyframe.model_fields),
    *(f"retake.{field}" for field in Retake.model_fields),
    *(f"cues.{field}" for field in Cue.model_fields),
]
PICTURE_ONLY_KEPT = {"audio_sample_rate", "only"}  # change the finished audio alone, or leave it out
AUDIO_ONLY_KEPT = {"repaint"}  # changes the picture alone
REFUSED_BEFORE = {"truncate"}  # says that what is refused without it is made


@pytest.fixture(scope="module")
def model(tiny_components: Components) -> MOVAModel:
    return MOVAModel(MOVAPipeline.from_components(tiny_components))


@pytest.fixture(scope="module")
def model_of_cues(tiny_cued: Components) -> MOVAModel:
    return MOVAModel(MOVAPipeline.from_components(tiny_cued))


@pytest.fixture(scope="module")
def model_with_reader(tiny_components: Components) -> MOVAModel:
    """One that reads every prompt as of a ball."""
    reader = PromptReader(list("abc"), ["colour=red"], ["outside", "ball"], ["en"], width=32, num_layers=1)
    reader.requires_grad_(False)
    for layer, index in ((reader.to_whole, 1), (reader.to_tag, 0)):
        layer.weight.zero_()
        layer.bias.zero_()[index] = 10.0
    index = replace(tiny_components.index, capabilities=replace(tiny_components.index.capabilities, kinds=("ball",)))
    components = replace(tiny_components, prompt_reader=reader.eval(), index=index)
    return MOVAModel(MOVAPipeline.from_components(components))


@pytest.fixture(scope="module")
def begin(model: MOVAModel) -> Clip:
    return model.generate(**BEGIN)


@pytest.fixture(scope="module")
def folder(model: MOVAModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("films")
    model.generate("rain", seed=3, num_inference_steps=2, num_frames=9).save(place / VIDEO)
    return place


@pytest.fixture(scope="module")
def model_of_pictures(tiny_components: Components) -> MOVAModel:
    """One that takes its first frame as extra channels: 4 of a mask and the picture's latents."""
    config = tiny_components.transformer.config
    video = dict(config["video"])
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = JointModel(
            video={**video, "in_dim": 4 + 2 * video["out_dim"]}, audio=dict(config["audio"]), bridge=dict(config["bridge"])
        )
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.25)
    components = replace(tiny_components, transformer=network.requires_grad_(False).eval())
    return MOVAModel(MOVAPipeline.from_components(components))


def same(first: np.ndarray | None, second: np.ndarray | None) -> bool:
    return first is not None and second is not None and np.array_equal(first, second)


def in_file(clip: Clip) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Frames and samples that a file of the clip holds."""
    return None if clip.only == "audio" else clip.frames, None if clip.only == "video" else clip.waveform


@pytest.mark.parametrize("field", sorted(FIELDS))
def test_changing_one_field_changes_the_clip(
    model: MOVAModel,
    model_of_pictures: MOVAModel,
    model_of_cues: MOVAModel,
    model_with_reader: MOVAModel,
    begin: Clip,
    folder: Path,
    field: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    others = {"text_only": model_of_pictures, "cues": model_of_cues, "as_is": model_with_reader}
    used = others.get(field.partition(".")[0], model)
    if field in REFUSED_BEFORE:
        with pytest.raises(RequestError) as caught:
            used.generate(**(BEGIN | BEFORE[field]))
        assert field in caught.value.hint
    elif field in BEFORE:
        begin = used.generate(**(BEGIN | BEFORE[field]))
    frames, waveform = in_file(used.generate(**(BEGIN | CHANGES[field])))
    if field not in REFUSED_BEFORE:
        assert same(waveform, begin.waveform) == (field in AUDIO_ONLY_KEPT)
        assert same(frames, begin.frames) == (field in PICTURE_ONLY_KEPT)


def test_what_is_cut_from_a_prompt_has_no_effect_and_what_is_left_has(model: MOVAModel) -> None:
    texts = (LONG, LONG + "rain", "two drums " + LONG)
    cut, longer, other = (model.generate(**(BEGIN | {"prompt": text, "truncate": True})) for text in texts)
    assert same(longer.frames, cut.frames)
    assert not same(other.frames, cut.frames)


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
    assert set(arguments) - {"self", "on_progress", "cancel"} == set(fields)
    for name, field in fields.items():
        if not field.is_required():
            assert arguments[name].default == field.default, name
