"""One modality alone is written where that is asked for, and never otherwise; and what is written beside a clip."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from mova.checkpoints.load import Components
from mova.errors import MediaError, RequestError
from mova.generation.model import MOVAModel
from mova.media.clip import Clip
from mova.media.decode import read_frames
from mova.media.probe import probe
from mova.media.sidecar import check_sidecar, write_sidecar
from mova.pipeline import MOVAPipeline
from mova.request.schema import GenerationRequest
from mova.sampling.task import Task

SPAN = {"from_s": 0.1, "to_s": 0.2}


@pytest.fixture(scope="module")
def clip() -> Clip:
    frames = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    waveform = np.random.default_rng(1).uniform(-0.5, 0.5, (1, 8000)).astype(np.float32)
    return Clip(frames, waveform, Fraction(16), 16000, request={"prompt": "rain"}, made_by={"model": "tiny"})


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".mov"])
def test_a_video_alone_has_every_frame_and_no_audio_stream(clip: Clip, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"clip{suffix}"
    written = replace(clip, only="video").save(path)
    info = probe(path)
    assert info.audio is None
    assert (written.num_frames, written.sample_rate) == (8, None)
    assert len(read_frames(path).frames) == 8
    assert (info.request, info.made_by) == (clip.request, clip.made_by)
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_audio_that_came_out_empty_is_still_a_stream_of_its_video(clip: Clip, tmp_path: Path) -> None:
    replace(clip, waveform=np.zeros_like(clip.waveform)).save(tmp_path / "clip.mp4")
    audio = probe(tmp_path / "clip.mp4").audio
    assert audio is not None
    assert audio.duration_s == Fraction(1, 2)


@pytest.mark.parametrize(("only", "suffix", "hint"), [("audio", ".mp4", "clip.wav"), ("video", ".wav", "clip.mp4")])
def test_what_is_not_wanted_is_not_written(clip: Clip, only: str, suffix: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="only the") as refusal:
        replace(clip, only=only).save(tmp_path / f"clip{suffix}")  # type: ignore[arg-type]
    assert hint in refusal.value.hint
    assert not list(tmp_path.iterdir())


def test_a_wrong_quality_of_a_video_alone_is_refused(clip: Clip, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="crf"):
        replace(clip, only="video").save(tmp_path / "clip.mp4", crf=99)


def test_a_model_makes_both_and_says_which_is_written(tiny_components: Components, tmp_path: Path) -> None:
    model = MOVAModel(MOVAPipeline.from_components(tiny_components))
    values = {"num_frames": 5, "num_inference_steps": 2, "seed": 1}
    both, audio = model.generate("rain", **values), model.generate("rain", only="audio", **values)
    assert (both.only, audio.only) == (None, "audio")
    assert np.array_equal(both.waveform, audio.waveform)
    audio.save(tmp_path / "sound.wav")
    request = probe(tmp_path / "sound.wav").request
    assert request is not None
    assert request["only"] == "audio"
    pipeline = model.pipeline
    grid = pipeline.grid(height=32, width=32, num_frames=5, fps=Fraction(16))
    task = Task(torch.ones(grid.frames, grid.height, grid.width), torch.ones(grid.audio_length), only="audio")
    assert pipeline("rain", task=task, num_frames=5, num_inference_steps=1, seed=1).clip.only == "audio"


@pytest.mark.parametrize(
    "values",
    [
        {"only": "audio", "audio": "a.wav"},
        {"only": "video", "video": "a.mp4"},
        {"only": "audio", "video": "a.mp4", "repaint": "mask.png"},
        {"only": "video", "video": "a.mp4", "retake": {"modality": "audio", **SPAN}},
        {"only": "audio", "video": "a.mp4", "retake": {"modality": "video", **SPAN}},
    ],
)
def test_what_is_given_whole_is_not_wanted_alone(values: dict[str, object]) -> None:
    with pytest.raises(RequestError, match="given whole") as refusal:
        GenerationRequest(prompt="rain", **values)
    assert refusal.value.field == "only"
    others = {"video": "audio", "audio": "video"}
    assert GenerationRequest(prompt="rain", **(values | {"only": others[str(values["only"])]})).only is not None


def test_a_sidecar_holds_the_record_and_is_written_over_itself_alone(clip: Clip, tmp_path: Path) -> None:
    for seconds in (1.0, 2.0):
        target = write_sidecar(clip, tmp_path / "clip.mp4", facts={"seconds_taken": seconds})
    document = json.loads(target.read_text(encoding="utf-8"))
    expected = {"file": "clip.mp4", "request": clip.request, "made_by": clip.made_by, "facts": {"seconds_taken": 2.0}}
    assert (target.name, document) == ("clip.json", expected)
    assert [item.name for item in tmp_path.iterdir()] == ["clip.json"]
    with pytest.raises(MediaError, match=r"not the sidecar of clip\.mkv"):
        check_sidecar(tmp_path / "clip.mkv")
    for text in ('{"name": "a package"}', "no JSON"):
        target.write_text(text, encoding="utf-8")
        with pytest.raises(MediaError, match=r"clip\.json"):
            write_sidecar(clip, tmp_path / "clip.mp4", facts={})
        assert target.read_text(encoding="utf-8") == text
