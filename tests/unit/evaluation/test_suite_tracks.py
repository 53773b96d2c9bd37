"""Tracks: requests as a user makes them, clips as a model makes them, and what its codecs leave of the truth."""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mova.checkpoints.load import Components
from mova.checkpoints.save import save_checkpoint
from mova.cli.app import app
from mova.errors import MovaError, RequestError
from mova.evaluation.documents import write_json
from mova.evaluation.suite import tracks
from mova.evaluation.suite.results import BRIDGE_OFF, read_results
from mova.inputs import prepare
from mova.model import MOVAModel
from mova.pipeline import MOVAPipeline
from mova.sampling.pair import Pair


@pytest.fixture(scope="module")
def components(tiny_components: Components) -> Components:
    """The tiny model with clips that are long enough for a ball to bounce."""
    world = replace(tiny_components.index.world, default_frames=17, max_tokens=64, kinds=("ball",))
    return replace(tiny_components, index=replace(tiny_components.index, world=world))


@pytest.fixture(scope="module")
def folder(components: Components, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same on disk."""
    folder = tmp_path_factory.mktemp("tiny")
    save_checkpoint(folder, components)
    return folder


def test_tracks_are_in_their_own_order_and_a_wrong_name_names_the_nearest() -> None:
    assert tracks.checked_tracks(()) == ("text", "v2a", "a2v")
    assert tracks.checked_tracks(("a2v", "text"), has_bridge_off=True) == (
        "text", "text-bridge-off", "a2v", "a2v-bridge-off",
    )  # fmt: skip
    with pytest.raises(RequestError, match="no track 'v2s'") as caught:
        tracks.checked_tracks(("v2s",))
    assert "'v2a'" in caught.value.hint
    with pytest.raises(RequestError, match="no suite 'claper'") as caught:
        tracks.checked_suite("claper")
    assert "'clapper'" in caught.value.hint


def test_more_clips_begin_with_the_same_and_keys_name_the_scene(components: Components) -> None:
    world = components.index.world
    few, more = (tracks.scripts_for(world, count, seed=5) for count in (1, 3))
    assert more[:1] == few and {script.kind for script in more} == {"ball"}
    jobs = tracks.clip_jobs(few, ("text", "v2a"))
    assert list(jobs) == [f"{track}/ball/{few[0].seed}" for track in ("floor", "text", "v2a")]


def test_what_is_given_is_the_truth_and_nothing_else(components: Components) -> None:
    world = components.index.world
    (script,) = tracks.scripts_for(world, 1, seed=5)
    truth = tracks.rendered(script, world)
    found = []
    for track in tracks.TRACKS:
        request, memory = tracks.request_of(script, track, world)
        found.append(prepare(request, world, memory).given)
    text, film, sound = found
    assert text.frames is None and text.waveform is None
    assert film.frames is not None and np.array_equal(film.frames, truth.frames) and film.waveform is None
    assert sound.waveform is not None and np.array_equal(sound.waveform, truth.waveform) and sound.frames is None


def test_the_codecs_give_back_a_clip_of_the_same_length(components: Components) -> None:
    model = MOVAModel(MOVAPipeline.from_components(components))
    world = replace(model.world, default_frames=16)  # not a length that the codec can make
    (script,) = tracks.scripts_for(world, 1, seed=5)
    truth = tracks.rendered(script, world)
    clip = tracks.through_codecs(model, truth)
    assert clip.frames.shape == truth.frames.shape and clip.waveform.shape == truth.waveform.shape


def test_the_truth_itself_leaves_a_floor_of_one_event_at_most(components: Components) -> None:
    world = replace(components.index.world, default_size=(96, 96), default_frames=33)
    scripts = tracks.scripts_for(world, 4, seed=5)
    jobs = tracks.clip_jobs(scripts, ())
    rows = [tracks.row_of(job, tracks.rendered(job.script, world).clip()) for job in jobs.values()]
    floors = tracks.codec_floors(scripts, rows)
    events = sum(len(script.events) for script in scripts)
    assert floors["coverage"] == pytest.approx(1.0 / events)
    assert 0.0 <= floors["offset_ms"] < 40.0
    assert all(row["video_s"] and row["audio_s"] for row in rows)


def test_a_job_can_be_handed_to_another_process(components: Components, tmp_path: Path) -> None:
    jobs = tracks.clip_jobs(tracks.scripts_for(components.index.world, 1, seed=5), ("text",))
    work = partial(tracks.clip_row, tracks.Maker(tmp_path, 2, None, tmp_path / "clips"))
    there, again = pickle.loads(pickle.dumps((work, jobs)))  # noqa: S301  our own bytes
    assert again == jobs and there.args == work.args


def test_without_the_bridge_guidance_is_that_of_the_text_alone() -> None:
    guider = tracks.BridgeOff(3.0)
    asked, plain = guider.branches(0.5)
    assert (asked.has_text, plain.has_text) == (True, False) and not asked.has_bridge and not plain.has_bridge
    one, two = Pair(torch.ones(2), torch.ones(2)), Pair(torch.zeros(2), torch.full((2,), 0.5))
    found = guider.combine({asked: one, plain: two}, 0.5)
    assert found.video.tolist() == [3.0, 3.0] and found.audio.tolist() == [2.0, 2.0]


def test_a_run_is_measured_goes_on_and_is_held_against_a_baseline(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    arguments = ["eval", "model", str(folder), "-o", str(output), "--processes", "1", "--steps", "1", "--seed", "5"]
    done = CliRunner().invoke(app, [*arguments, "-n", "1", "--bridge-off"])
    assert done.exit_code == 0, done.output
    document = read_results(output / "results.json")
    assert set(document["tracks"]) == {track + end for track in tracks.TRACKS for end in ("", BRIDGE_OFF)}
    assert len(document["clips"]) == 6 and document["headline"]["track"] == "text"
    assert "report.html" in done.output and "headline: f1_corrected of text not measured" in done.output
    files = {row["file"] for row in document["clips"]}
    assert all((output / name).is_file() for name in files) and len(files) == 6

    written = {path: path.stat().st_mtime_ns for path in (output / "clips").iterdir()}
    write_json(tmp_path / "high.json", {**document, "headline": {**document["headline"], "value": 2.5}})
    held = CliRunner().invoke(
        app, [*arguments, "-n", "1", "--track", "text", "--baseline", str(tmp_path / "high.json"), "--fail-below", "0.02"]
    )
    assert held.exit_code == 1 and isinstance(held.exception, MovaError) and "2.5000" in held.exception.message
    assert {path: path.stat().st_mtime_ns for path in (output / "clips").iterdir()} == written  # nothing was made again
    assert set(read_results(output / "results.json")["tracks"]) == {"text"}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--suite", "claper"), "'clapper'"),
        (("--track", "txt"), "'text'"),
        (("--fail-below", "0.1"), "--baseline"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(folder: Path, tmp_path: Path, options: tuple[str, ...], named: str) -> None:
    done = CliRunner().invoke(app, ["eval", "model", str(folder), "-o", str(tmp_path / "out"), *options])
    assert isinstance(done.exception, RequestError) and named in done.exception.hint
    assert not (tmp_path / "out").exists()


def test_a_baseline_of_another_version_or_track_is_refused_before_any_work(folder: Path, tmp_path: Path) -> None:
    empty = {"suite": "clapper", "clips": [], "headline": {"track": "a2v", "name": "f1_corrected", "value": 0.5}}
    for version, words in ((99, "different versions"), (1, "track a2v")):
        write_json(tmp_path / "base.json", {**empty, "metrics_version": version})
        done = CliRunner().invoke(
            app, ["eval", "model", str(folder), "-o", str(tmp_path / "out"), "--baseline", str(tmp_path / "base.json")]
        )
        assert isinstance(done.exception, RequestError) and words in done.exception.message
    assert not (tmp_path / "out").exists()
