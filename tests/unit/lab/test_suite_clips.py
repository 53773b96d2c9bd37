"""Clips of the suite: made together as they are alone, through codecs and back, and what is measured of each."""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from mova.checkpoints.load import Components
from mova.checkpoints.save import save_checkpoint
from mova.generation.model import MOVAModel
from mova.lab.adherence.physics import restitution
from mova.lab.suite import clips, tracks
from mova.lab.suite.clips import chance_values, codec_floors, row_of
from mova.lab.suite.results import BRIDGE_OFF
from mova.lab.suite.run import measure_model
from mova.media.clip import Clip
from mova.media.decode import read_clip
from mova.pipeline import MOVAPipeline
from mova.sampling.task import AVTensors
from mova.scenes.world import render, sample_scripts, write_script


@pytest.fixture(scope="module")
def components(tiny_components: Components) -> Components:
    """The tiny model with clips that are long enough for a ball to bounce."""
    capabilities = replace(tiny_components.index.capabilities, default_frames=17, max_tokens=64, kinds=("ball",))
    return replace(tiny_components, index=replace(tiny_components.index, capabilities=capabilities))


@pytest.fixture(scope="module")
def model(components: Components) -> MOVAModel:
    return MOVAModel(MOVAPipeline.from_components(components))


def test_the_codecs_give_back_a_clip_of_the_same_length(model: MOVAModel) -> None:
    capabilities = replace(model.capabilities, default_frames=16)  # not a length that the codec can make
    (script,) = tracks.scripts_for(capabilities, 1, seed=5)
    truth = tracks.render_truth(script, capabilities)
    clip = clips.through_codecs(model.pipeline.codecs, capabilities.timeline(truth.fps), truth)
    assert clip.frames.shape == truth.frames.shape and clip.waveform.shape == truth.waveform.shape


def test_the_truth_itself_leaves_a_floor_of_one_event_at_most(components: Components) -> None:
    capabilities = replace(components.index.capabilities, default_size=(96, 96), default_frames=33)
    scripts = tracks.scripts_for(capabilities, 4, seed=5)
    jobs = tracks.clip_jobs(scripts, ())
    rows = [row_of(job, tracks.render_truth(job.script, capabilities).clip()) for job in jobs.values()]
    by_kind = codec_floors(scripts, rows)
    assert set(by_kind) == {"all", "ball"} and by_kind["all"] == by_kind["ball"]
    floors = by_kind["all"]
    events = sum(len(script.events) for script in scripts)
    assert floors["coverage"] == pytest.approx(1.0 / events)
    assert 0.0 <= floors["offset_ms"] < 20.0 and floors["whole"] == 1 / 4
    assert all(row["video_s"] and row["audio_s"] for row in rows)


def test_the_floor_of_what_prompts_ask_for_is_what_the_codecs_take_off_the_truth_but_at_least_a_clip() -> None:
    scripts = [write_script("drums", seed) for seed in range(12)]
    row = {"video_s": [1.0], "audio_s": [1.0], "values": {"colour": 1.0, "count_seen": 1.0, "whole": 1.0}}
    torn = {**row, "values": {"colour": 0.0, "count_seen": 1.0, "whole": 0.0}}
    floors = codec_floors(scripts, [torn, {**row, "values": {"colour": 0.0, "whole": 1.0}}, *[row] * 10])["all"]
    found = {name: floors[name] for name in ("colour", "count_seen", "whole")}
    assert found == pytest.approx({"colour": 2 / 12, "count_seen": 1 / 11, "whole": 1 / 12})


def test_true_balls_fly_as_balls_do_and_other_sounds_do_not_go_with_them() -> None:
    scripts = [write_script("ball", seed, seconds=33 / 16, attributes={"number": 1, "count": 4}) for seed in range(4)]
    rows = [row_of(tracks.ClipJob("", "text", script), render(script, width=96, height=96).clip()) for script in scripts]
    for script, row in zip(scripts, rows, strict=True):
        found = row["values"]
        assert found["restitution_seen"] == pytest.approx(restitution([one.time_s for one in script.events]), abs=0.01)
        assert found["restitution_difference"] < 0.02 and found["energy_gain_rate"] == 0.0 and found["g_cv"] < 0.02
        assert found["loudness_speed_rho"] == 1.0
    strange = [row["chance"]["restitution_difference"] for row in rows if "restitution_difference" in row["chance"]]
    assert strange and min(strange) > 0.02
    floors = codec_floors(scripts, rows)["ball"]
    assert 0.0 < floors["restitution_seen"] < 0.01 and floors["loudness_speed_rho"] == floors["energy_gain_rate"] == 0.25
    drums = row_of(tracks.ClipJob("", "text", write_script("drums", 1)), render(scripts[0]).clip())["values"]
    assert not drums.keys() & found.keys() - {"colour", "count", "count_seen", "count_heard", "whole"}


def test_a_job_can_be_handed_to_another_process(components: Components, tmp_path: Path) -> None:
    jobs = tracks.clip_jobs(tracks.scripts_for(components.index.capabilities, 1, seed=5), ("text",))
    work = partial(clips.clip_rows, clips.ModelSpec(tmp_path, 2, None, tmp_path / "clips"))
    there, again = pickle.loads(pickle.dumps((work, jobs)))  # noqa: S301  our own bytes
    assert again == jobs and there.args == work.args


def test_without_the_bridge_guidance_is_that_of_the_text_alone() -> None:
    guider = clips.BridgeOff(3.0)
    asked, plain = guider.branches(0.5)
    assert (asked.has_text, plain.has_text) == (True, False) and not asked.has_bridge and not plain.has_bridge
    one, two = AVTensors(torch.ones(2), torch.ones(2)), AVTensors(torch.zeros(2), torch.full((2,), 0.5))
    found = guider.combine({asked: one, plain: two}, 0.5)
    assert found.video.tolist() == [3.0, 3.0] and found.audio.tolist() == [2.0, 2.0]


@pytest.mark.parametrize("track", tracks.TRACKS)
def test_a_clip_of_a_batch_is_what_its_request_alone_gives(model: MOVAModel, track: str) -> None:
    jobs = list(tracks.clip_jobs(tracks.scripts_for(model.capabilities, 3, seed=5), (track,)).values())[3:]
    together = clips.make_clips(model, jobs, steps=2)
    for job, clip in zip(jobs, together, strict=True):
        request, memory = tracks.request_of(job.script, track, model.capabilities, steps=2)
        alone = model.run(request, memory=memory)
        # sums of a batch may be taken in another order: the last bits, and at most a level of a pixel
        assert np.abs(clip.frames.astype(int) - alone.frames).max() <= 1
        assert clip.waveform == pytest.approx(alone.waveform, abs=1e-3)
        assert clip.request == alone.request and clip.made_by == alone.made_by


def test_with_the_bridge_off_the_clip_is_another_and_says_of_no_request(model: MOVAModel) -> None:
    scripts = tracks.scripts_for(model.capabilities, 1, seed=5)
    with_bridge, without = (
        clips.make_clips(model, [tracks.ClipJob("", track, scripts[0])], steps=2)[0] for track in ("text", "text" + BRIDGE_OFF)
    )
    assert not np.array_equal(with_bridge.waveform, without.waveform)
    assert with_bridge.request is not None and without.request is None


def test_by_chance_a_perfect_clip_is_what_somebody_else_asked_for() -> None:
    values, chance = [], []
    for script in sample_scripts(3, 18, ["drums", "piano", "fireworks"]):
        row = row_of(tracks.ClipJob("", "text", script), render(script).clip())
        values.append(row["values"])
        chance.append(row["chance"])

    def mean(name: str, rows: list[dict[str, float]]) -> float:
        return float(np.mean([row[name] for row in rows if name in row]))

    for name in ("colour", "count", "key_pitch", "drum_sound", "sequence"):
        assert mean(name, values) > 0.9 and mean(name, chance) < 0.6, name


def test_chance_of_a_clip_depends_on_nothing_but_the_clip() -> None:
    script = write_script("piano", 4)
    clip = render(script).clip()
    silent = Clip(clip.frames, np.zeros_like(clip.waveform), clip.fps, clip.sample_rate)
    assert chance_values(script, clip) == chance_values(script, clip)
    # of pictures, another audio decides: whether the clip has any does not matter
    assert chance_values(script, clip)["key_pitch"] == chance_values(script, silent)["key_pitch"]


def test_any_scripts_are_measured_and_the_codecs_get_the_same_numbers(components: Components, tmp_path: Path) -> None:
    folder, made = tmp_path / "tiny", tmp_path / "clips"
    save_checkpoint(folder, components)
    made.mkdir()
    scripts = [write_script("ball", seed, seconds=1.0625, attributes={"count": 2}) for seed in (3, 8)]
    told: list[tuple[int, int]] = []
    document = measure_model(
        clips.ModelSpec(folder, 1, "cpu", made),
        scripts,
        ("text",),
        tmp_path / "rows.jsonl",
        seed=0,
        on_row=lambda done, of: told.append((done, of)),
    )
    assert told == [(0, 4), (2, 4), (4, 4)]  # both floors together, then both clips
    assert [row["key"] for row in document["clips"]] == [f"text/ball/{seed}" for seed in (3, 8)]
    text, codec = document["tracks"]["text"], document["codec"]
    assert set(text["numbers"]) >= {"f1_80", "colour", "whole"} <= set(codec["numbers"]) and set(text["by_kind"]) == set(
        codec["by_kind"]
    ) == {"ball"}
    assert text["numbers"]["f1_80"]["floor"] is not None and codec["num_clips"] == text["num_clips"] == 2
    for row, path in zip(document["clips"], sorted(made.iterdir()), strict=True):
        assert tmp_path / row["file"] == path and read_clip(path).request is not None
