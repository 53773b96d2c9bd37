"""The health gate of films: every shot has a verdict that stays with it, and a repair never takes its place unasked."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mova.checkpoints.load import Components
from mova.checkpoints.save import save_checkpoint
from mova.cli import film as command
from mova.cli.film import FilmOutput
from mova.conditioning.prepare import Prepared
from mova.errors import MediaError, MovaError, RequestError
from mova.film.cache import ShotCache, ShotClip
from mova.film.plan import FilmPlan, plan_film
from mova.film.render import REPAIR_SEED_STEP, join_shots, render_film, render_shots, shot_states
from mova.film.shots import make_film
from mova.generation.model import MOVAModel
from mova.generation.run import generate_checked
from mova.media.clip import Clip
from mova.media.health.gate import OnFault
from mova.pipeline import MOVAPipeline
from mova.request.schema import GenerationRequest

Planned = Callable[..., FilmPlan]
SILENT, WHOLE = {"prompt": "a red ball", "num_frames": 5, "audio_seed": 5}, {"prompt": "two drums", "num_frames": 5}


class SilentAtSeed5(MOVAModel):
    """Its audio is quiet noise, and none at audio seed 5; audio that is given stays."""

    def run_prepared(self, prepared: Prepared, **how: Any) -> Clip:
        clip = super().run_prepared(prepared, **how)
        if prepared.given.keep_audio is not None:
            return clip
        noise = np.random.default_rng(0).uniform(-0.2, 0.2, clip.waveform.shape).astype(np.float32)
        return replace(clip, waveform=noise * np.float32(prepared.plan.audio_seed != 5))


@pytest.fixture
def model(tiny_components: Components) -> SilentAtSeed5:
    return SilentAtSeed5(MOVAPipeline.from_components(tiny_components))


@pytest.fixture
def cache(tmp_path: Path) -> ShotCache:
    return ShotCache(tmp_path / "cache")


@pytest.fixture(scope="module")
def planned(tiny_components: Components) -> Planned:
    def plan(*shots: dict[str, Any]) -> FilmPlan:
        document = {"fps": 16, "num_inference_steps": 1, "guidance_scale": 1, "shots": list(shots)}
        return plan_film(make_film(document), tiny_components.index.capabilities, model_key="tiny")

    return plan


def no_model() -> MOVAModel:
    raise AssertionError("nothing was to be rendered")


def verdicts(shots: list[ShotClip]) -> list[str]:
    return [shot.health.verdict for shot in shots]


def states(plan: FilmPlan, cache: ShotCache, on_fault: OnFault) -> list[str]:
    return [state.state for state in shot_states(plan, cache, on_fault=on_fault)]


def test_a_cached_shot_keeps_its_verdict(planned: Planned, model: MOVAModel, cache: ShotCache) -> None:
    plan = planned(SILENT, WHOLE)
    made = render_shots(plan, cache, lambda: model)
    assert verdicts(made) == ["faulty", "ok"]
    assert {fault.kind for fault in made[0].health.faults} == {"silence"}
    again = render_shots(plan, cache, no_model)
    assert [shot.health.as_dict() for shot in again] == [shot.health.as_dict() for shot in made]
    assert [cache.health(path.stem).verdict for path in cache.files()].count("faulty") == 1


def test_a_repair_makes_only_what_is_faulty_anew_and_leaves_the_other_where_it_was(
    planned: Planned, model: MOVAModel, cache: ShotCache
) -> None:
    plan = planned(SILENT, WHOLE)
    kept = render_film(plan, cache, lambda: model)
    assert states(plan, cache, "repair") == ["to render", "cached"]
    told: list[tuple[int, str]] = []
    repaired = render_shots(
        plan, cache, lambda: model, on_fault="repair", on_remedy=lambda number, _, remedy: told.append((number, remedy))
    )
    assert verdicts(repaired) == ["ok", "ok"]
    assert told == [(1, "reroll_audio")] and [shot.remedies for shot in repaired] == [("reroll_audio",), ()]
    film = join_shots(plan, repaired)
    assert film.request is not None
    assert [shot["audio_seed"] for shot in film.request["shots"]] == [5 + REPAIR_SEED_STEP, 0]
    # what was repaired is there, and so is what was not
    assert states(plan, cache, "repair") == states(plan, cache, "keep") == ["cached", "cached"]
    assert np.array_equal(render_film(plan, cache, no_model, on_fault="repair").waveform, film.waveform)
    assert np.array_equal(render_film(plan, cache, no_model).waveform, kept.waveform)


def test_a_shot_that_cannot_be_repaired_is_not_tried_again_in_every_run(
    planned: Planned, tiny_components: Components, cache: ShotCache
) -> None:
    class AlwaysSilent(MOVAModel):
        def run_prepared(self, prepared: Prepared, **how: Any) -> Clip:
            clip = super().run_prepared(prepared, **how)
            return replace(clip, waveform=np.zeros_like(clip.waveform))

    model = AlwaysSilent(MOVAPipeline.from_components(tiny_components))
    plan = planned(WHOLE)
    (tried,) = render_shots(plan, cache, lambda: model, on_fault="repair")
    assert tried.health.verdict == "faulty" and len(tried.remedies) == 3
    (again,) = render_shots(plan, cache, no_model, on_fault="repair")
    assert again.remedies == tried.remedies
    assert states(plan, cache, "keep") == ["to render"]


def test_a_retake_of_the_picture_leaves_the_verdict_on_the_audio(planned: Planned, model: MOVAModel, cache: ShotCache) -> None:
    (shot,) = render_shots(planned({**SILENT, "retakes": ["video:0.1-0.2:7"]}), cache, lambda: model)
    assert {fault.kind for fault in shot.health.faults if fault.modality == "audio"} == {"silence"}
    assert shot.health.looked_at == ("video", "audio") and shot.seeds == ((0, 5), (7, 7))


def test_what_is_cut_off_is_not_judged(tiny_components: Components) -> None:
    class LoudBeginning(SilentAtSeed5):
        def run_prepared(self, prepared: Prepared, **how: Any) -> Clip:
            clip = super().run_prepared(prepared, **how)
            clip.waveform[:, :900] = 1.0
            return clip

    model = LoudBeginning(MOVAPipeline.from_components(tiny_components))
    prepared = model.prepare(GenerationRequest(prompt="rain", seed=1, num_frames=9))
    whole, without = (generate_checked(model, prepared, skip_frames=skipped) for skipped in (0, 1))
    assert "clipping" in {fault.kind for fault in whole.health.faults} and without.health.verdict == "ok"
    assert without.clip is not None and without.clip.num_frames == 9


def test_a_shot_that_is_no_clip_at_all_is_named(planned: Planned, tiny_components: Components, cache: ShotCache) -> None:
    audio_vae = copy.deepcopy(tiny_components.audio_vae)
    audio_vae.register_to_config(latents_std=[float("nan")] * 6)
    broken = MOVAModel(MOVAPipeline.from_components(replace(tiny_components, audio_vae=audio_vae)))
    with pytest.raises(MediaError, match="shot 1: the output is not a valid clip: the waveform contains values") as caught:
        render_shots(planned(WHOLE), cache, lambda: broken)
    assert caught.value.message.endswith("(NaN or infinity).")
    assert not cache.files()


def test_the_command_prints_verdicts_and_writes_no_faulty_film_if_it_must_not(
    tiny_components: Components, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audio_vae = copy.deepcopy(tiny_components.audio_vae)
    with torch.no_grad():
        for parameter in audio_vae.parameters():
            parameter.zero_()
    folder = save_checkpoint(tmp_path / "silent", replace(tiny_components, audio_vae=audio_vae))
    shots = tmp_path / "shots.yaml"
    shots.write_text("num_inference_steps: 1\nguidance_scale: 1\nshots: [{prompt: rain, num_frames: 5}]\n")

    def run(on_fault: Any, *, is_json: bool) -> tuple[str, str]:
        output = FilmOutput(tmp_path / "a.mkv", None, False, is_json, False, on_fault)
        command.run(shots, output, retakes=(), model=str(folder))
        return capsys.readouterr()

    with pytest.raises(RequestError, match="--on-fault: must be one of keep, repair, fail"):
        run("ignore", is_json=True)
    with pytest.raises(MovaError, match=r"a\.mkv was not written: shot 1: silence in the audio"):
        run("fail", is_json=True)
    assert not (tmp_path / "a.mkv").exists()
    refused = json.loads(capsys.readouterr().out)
    assert refused["file"] is None and refused["shots"][0]["health"]["verdict"] == "faulty"
    told, warned = run("keep", is_json=False)
    assert "1 shot, 0 rendered, 1 faulty" in told and "warning: shot 1: silence in the audio" in warned
    assert (tmp_path / "a.mkv").exists()
