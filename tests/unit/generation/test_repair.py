"""The ladder of repairs on a tiny model of the real classes, whose codecs or clips are damaged on purpose."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mova.checkpoints.load import Components
from mova.checkpoints.save import save_checkpoint
from mova.cli import generate as command
from mova.cli import health as check
from mova.cli.generate import Choice, Output
from mova.conditioning.prepare import Prepared
from mova.conditioning.sources import name_of_audio
from mova.errors import MediaError, MovaError, RequestError
from mova.generation.model import MOVAModel
from mova.generation.run import generate_checked
from mova.media.clip import Clip, NonFiniteError
from mova.media.health.gate import Health
from mova.pipeline import MOVAPipeline
from mova.request.schema import GenerationRequest
from mova.scenes.world import render, write_script


class BrokenAtSeed5(MOVAModel):
    """Its audio is not a number at audio seed 5, whatever else is asked."""

    def run_prepared(self, prepared: Prepared, **how: Any) -> Clip:
        clip = super().run_prepared(prepared, **how)
        if prepared.plan.audio_seed != 5:
            return clip
        return replace(clip, waveform=np.full_like(clip.waveform, np.nan))


def request(**changes: Any) -> GenerationRequest:
    return GenerationRequest(prompt="a red ball bounces", seed=4, audio_seed=5, num_frames=5, **changes)


def kinds(health: Health, modality: str) -> set[str]:
    return {fault.kind for fault in health.faults if fault.modality == modality}


@pytest.fixture
def model(tiny_components: Components) -> BrokenAtSeed5:
    return BrokenAtSeed5(MOVAPipeline.from_components(tiny_components))


@pytest.fixture
def silent_folder(tiny_components: Components, tmp_path: Path) -> Path:
    """A checkpoint whose every audio is silent."""
    audio_vae = copy.deepcopy(tiny_components.audio_vae)
    with torch.no_grad():
        for parameter in audio_vae.parameters():
            parameter.zero_()
    return save_checkpoint(tmp_path / "silent", replace(tiny_components, audio_vae=audio_vae))


def test_a_faulty_clip_is_kept_with_its_verdict_unless_a_repair_is_asked_for(silent_folder: Path) -> None:
    silent = MOVAModel.from_pretrained(silent_folder, device="cpu")
    checked = generate_checked(silent, silent.prepare(request()))
    assert checked.clip is not None
    assert "silence" in kinds(checked.health, "audio")
    assert checked.remedies == () and checked.prepared.plan.audio_seed == 5


def test_a_faulty_audio_is_made_again_from_its_next_seed_and_the_clip_says_which(model: BrokenAtSeed5) -> None:
    told: list[str] = []
    checked = generate_checked(
        model,
        model.prepare(request()),
        on_fault="repair",
        max_attempts=1,
        seed_step=4,
        on_remedy=lambda health, remedy: told.append(remedy),
    )
    assert checked.clip is not None and "nonfinite" not in kinds(checked.health, "audio")
    assert checked.prepared.plan.audio_seed == 9
    assert list(checked.remedies) == told and len(told) == 1 and told[0].startswith("reroll")
    recorded = checked.clip.request or {}
    again = model.run(GenerationRequest(**recorded))
    assert np.array_equal(again.frames, checked.clip.frames) and np.array_equal(again.waveform, checked.clip.waveform)


def test_a_healthy_clip_is_the_one_that_was_asked_for(model: BrokenAtSeed5) -> None:
    asked = model.prepare(request())
    other = asked.with_seeds(4, 6)
    kept, repaired = (generate_checked(model, other, on_fault=choice, max_attempts=0) for choice in ("keep", "repair"))
    assert kept.clip is not None and repaired.clip is not None
    assert np.array_equal(kept.clip.waveform, model.run_prepared(other).waveform)
    assert np.array_equal(kept.clip.waveform, repaired.clip.waveform)


def test_if_no_seed_helps_the_first_of_the_best_is_given(silent_folder: Path) -> None:
    silent = MOVAModel.from_pretrained(silent_folder, device="cpu")
    asked = silent.prepare(request())
    first = generate_checked(silent, asked)
    checked = generate_checked(silent, asked, on_fault="repair", max_attempts=2)
    assert "silence" in kinds(checked.health, "audio")
    assert len(checked.remedies) == 2 and len(checked.health.faults) <= len(first.health.faults)


def test_a_codec_in_half_precision_is_tried_in_float32_with_the_same_seeds(tiny_components: Components) -> None:
    video_vae = copy.deepcopy(tiny_components.video_vae)
    video_vae.register_to_config(latents_std=[1e6] * 4)  # beyond what float16 holds: its pictures are no numbers
    video_vae.to(torch.float16)
    model = MOVAModel(MOVAPipeline.from_components(replace(tiny_components, video_vae=video_vae)))
    asked = model.prepare(request())
    broken = generate_checked(model, asked)
    assert broken.clip is None and kinds(broken.health, "video") == {"nonfinite"}
    checked = generate_checked(model, asked, on_fault="repair", max_attempts=1)
    assert checked.remedies == ("decode_fp32",)
    assert checked.clip is not None and "nonfinite" not in kinds(checked.health, "video")
    assert (checked.prepared.plan.seed, checked.prepared.plan.audio_seed) == (4, 5)
    assert video_vae.dtype == torch.float16


def test_audio_that_is_no_number_gives_no_clip_and_is_repaired(tiny_components: Components) -> None:
    audio_vae = copy.deepcopy(tiny_components.audio_vae)
    audio_vae.register_to_config(latents_std=[float("nan")] * 6)
    model = MOVAModel(MOVAPipeline.from_components(replace(tiny_components, audio_vae=audio_vae)))
    checked = generate_checked(model, model.prepare(request()))
    assert checked.clip is None
    assert kinds(checked.health, "audio") == {"nonfinite"}
    assert json.loads(json.dumps(checked.health.as_dict(), allow_nan=False))["verdict"] == "faulty"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_one_patch_of_a_picture_that_is_no_number_is_a_fault_of_the_picture(tiny_components: Components, value: float) -> None:
    class Patchy(type(tiny_components.video_vae)):  # type: ignore[misc]
        def decode(self, *arguments: Any, **options: Any) -> Any:
            decoded = super().decode(*arguments, **options)
            decoded.sample[:, :, 2, 8:16, 8:16] = value
            return decoded

    video_vae = copy.deepcopy(tiny_components.video_vae)
    video_vae.__class__ = Patchy
    model = MOVAModel(MOVAPipeline.from_components(replace(tiny_components, video_vae=video_vae)))
    asked = model.prepare(request())
    with pytest.raises(NonFiniteError, match="the frames contain values that are not finite"):
        model.run_prepared(asked)
    checked = generate_checked(model, asked, on_fault="repair", max_attempts=1)
    assert checked.clip is None and checked.remedies == ("reroll_video",)
    assert kinds(checked.health, "video") == {"nonfinite"} and checked.health.as_dict()["verdict"] == "faulty"


def test_a_picture_that_is_no_number_is_not_written_whatever_is_asked(
    tiny_components: Components, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video_vae = copy.deepcopy(tiny_components.video_vae)
    with torch.no_grad():
        next(video_vae.decoder.parameters()).fill_(float("nan"))
    folder = save_checkpoint(tmp_path / "broken", replace(tiny_components, video_vae=video_vae))
    with pytest.raises(MovaError, match=r"a\.mkv was not written: the frames contain values"):
        command.run(VALUES, Choice(str(folder)), written(folder, tmp_path, on_fault="keep"))
    facts = json.loads(capsys.readouterr().out)
    assert facts["file"] is None and facts["health"]["faults"][0]["modality"] == "video"
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


def test_a_clip_of_a_model_has_its_verdict_and_what_was_given_is_not_judged(tiny_components: Components) -> None:
    model = MOVAModel(MOVAPipeline.from_components(tiny_components))
    made = model.generate("a red ball", seed=4, num_frames=5)
    assert made.health == generate_checked(model, model.prepare(GenerationRequest(**made.request or {}))).health
    assert made.health.looked_at == ("video", "audio")
    silent = replace(made, waveform=np.zeros_like(made.waveform))
    assert "silence" in kinds(silent.health, "audio") and "silence" not in kinds(made.health, "audio")
    assert model.reroll(silent, "video", seed=1).health.looked_at == ("video",)
    assert made.reroll("audio", seed=1).health.looked_at == ("audio",)


def test_audio_that_was_given_is_not_judged(model: BrokenAtSeed5) -> None:
    memory: dict[str, Any] = {}
    name = name_of_audio((np.zeros((1, 16000), np.float32), 16000), "audio", memory)
    asked = model.prepare(request(audio=name), memory=memory).with_seeds(4, 6)
    assert generate_checked(model, asked).health.looked_at == ("video",)


def test_an_unknown_choice_is_refused_before_anything_is_made(model: BrokenAtSeed5) -> None:
    with pytest.raises(RequestError, match="on_fault must be one of keep, repair, fail"):
        generate_checked(model, model.prepare(request()), on_fault="ignore")  # type: ignore[arg-type]


def written(folder: Path, tmp_path: Path, **changes: Any) -> Output:
    return Output(
        **{
            "path": tmp_path / "a.mkv",
            "sheet": None,
            "has_sidecar": False,
            "is_json": True,
            "is_dry_run": False,
            "num_clips": 1,
            **changes,
        }
    )


VALUES = {"prompt": "a red ball bounces", "seed": 4, "num_frames": 5}


def test_the_command_keeps_a_faulty_clip_and_says_so(
    silent_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command.run(VALUES, Choice(str(silent_folder)), written(silent_folder, tmp_path, has_sidecar=True))
    said = capsys.readouterr()
    facts = json.loads(said.out)
    assert facts["health"]["verdict"] == "faulty" and facts["health"]["remedies"] == []
    assert "silence" in {fault["kind"] for fault in facts["health"]["faults"]}
    assert sum(line.startswith("warning: ") for line in said.err.splitlines()) == 1
    assert (tmp_path / "a.mkv").is_file()
    assert json.loads((tmp_path / "a.json").read_text())["facts"]["health"] == facts["health"]


def test_fail_writes_no_file_names_every_clip_and_is_an_error(
    silent_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(MovaError, match=r"2 of 2 clips were not written: a-1\.mkv: .*; a-2\.mkv: ") as problem:
        command.run(VALUES, Choice(str(silent_folder)), written(silent_folder, tmp_path, num_clips=2, on_fault="fail"))
    assert problem.value.exit_code == 1 and "--on-fault" in problem.value.hint
    facts = json.loads(capsys.readouterr().out)
    assert [fact["file"] for fact in facts] == [None, None]
    assert [fact["request"]["seed"] for fact in facts] == [4, 5]
    assert [path.name for path in tmp_path.iterdir()] == ["silent"]


def test_a_wrong_choice_is_refused_as_it_was_typed(silent_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="--on-fault: must be one of keep, repair, fail"):
        command.run(VALUES, Choice(str(silent_folder)), written(silent_folder, tmp_path, on_fault="ignore"))


def test_check_looks_at_every_file_and_tells_whether_all_are_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = render(write_script("metronome", 3)).clip()
    good, silent, broken = (tmp_path / name for name in ("good.mkv", "silent.mkv", "broken.mkv"))
    clip.save(good)
    replace(clip, waveform=np.zeros_like(clip.waveform)).save(silent)
    broken.write_bytes(b"x")
    assert check.run([good], is_json=False)
    assert capsys.readouterr().out == f"{good}  ok\n"
    assert not check.run([good, broken, silent], is_json=True)
    facts = json.loads(capsys.readouterr().out)
    assert [fact["verdict"] for fact in facts] == ["ok", "unreadable", "faulty"]
    assert not check.run([silent], is_json=False)
    assert "silence in the audio" in capsys.readouterr().out.splitlines()[1]
    with pytest.raises(MediaError, match=r"broken\.mkv"):
        check.run([broken], is_json=False)


def test_check_takes_audio_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    audio = tmp_path / "tick.wav"
    render(write_script("metronome", 3)).clip().save(audio)
    assert check.run([audio], is_json=False)
    assert capsys.readouterr().out == f"{audio}  ok (there is no picture to look at)\n"
