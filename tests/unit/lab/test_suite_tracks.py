"""Tracks: requests as a user makes them, the batches they are made in, and the command that makes them all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mova.checkpoints.load import Components
from mova.checkpoints.save import save_checkpoint
from mova.cli.app import app
from mova.conditioning.prepare import prepare
from mova.errors import MovaError, RequestError
from mova.lab.adherence.counterfactual import counterfactual_scripts
from mova.lab.documents import write_json
from mova.lab.suite import tracks
from mova.lab.suite.compare import compare_results
from mova.lab.suite.results import BRIDGE_OFF, METRICS_VERSION, read_results
from mova.lab.suite.tracks import control_clip, control_scene, count_made_up
from mova.scenes.clapper.scene import make_scene, render_scene


@pytest.fixture(scope="module")
def components(tiny_components: Components) -> Components:
    """The tiny model with clips that are long enough for a ball to bounce."""
    capabilities = replace(tiny_components.index.capabilities, default_frames=17, max_tokens=64, kinds=("ball",))
    return replace(tiny_components, index=replace(tiny_components.index, capabilities=capabilities))


@pytest.fixture(scope="module")
def folder(components: Components, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same on disk."""
    folder = tmp_path_factory.mktemp("tiny")
    save_checkpoint(folder, components)
    return folder


def test_tracks_are_in_their_own_order_and_a_wrong_name_names_the_nearest() -> None:
    assert tracks.check_tracks(()) == ("text", "v2a", "a2v")
    assert tracks.check_tracks(("a2v", "text"), has_bridge_off=True) == (
        "text", "text-bridge-off", "a2v", "a2v-bridge-off",
    )  # fmt: skip
    assert tracks.check_tracks(("counterfactual", "v2a"), has_bridge_off=True) == ("v2a", "v2a-bridge-off", "counterfactual")
    with pytest.raises(RequestError, match="no track 'v2s'") as caught:
        tracks.check_tracks(("v2s",))
    assert "'v2a'" in caught.value.hint
    with pytest.raises(RequestError, match="no suite 'claper'") as caught:
        tracks.check_suite("claper")
    assert "'clapper'" in caught.value.hint


def test_more_clips_begin_with_the_same_and_keys_name_the_scene(components: Components) -> None:
    capabilities = components.index.capabilities
    few, more = (tracks.scripts_for(capabilities, count, seed=5) for count in (1, 3))
    assert more[:1] == few and {script.kind for script in more} == {"ball"}
    jobs = tracks.clip_jobs(few, ("text", "v2a"))
    assert list(jobs) == [f"{track}/ball/{few[0].seed}" for track in ("floor", "text", "v2a")]


def test_a_pair_is_of_one_seed_and_of_two_prompts_and_no_other_track_has_one(components: Components) -> None:
    scripts = tracks.scripts_for(replace(components.index.capabilities, kinds=("ball", "siren")), 8, seed=5)
    jobs = tracks.clip_jobs(scripts, ("text", "counterfactual"))
    assert jobs == tracks.clip_jobs(scripts, ("text", "counterfactual"))
    pairs = [job.pair for job in jobs.values() if job.track == "counterfactual" and job.pair is not None]
    assert len(pairs) == sum(bool(counterfactual_scripts(script)) for script in scripts) >= 4
    assert all(pair.first.seed == pair.second.seed and pair.first.caption != pair.second.caption for pair in pairs)
    assert len({pair.name for pair in pairs}) > 1
    assert all(job.pair is None for job in jobs.values() if job.track != "counterfactual")


def test_what_is_given_is_the_truth_and_nothing_else(components: Components) -> None:
    capabilities = components.index.capabilities
    (script,) = tracks.scripts_for(capabilities, 1, seed=5)
    truth = tracks.render_truth(script, capabilities)
    found = []
    for track in tracks.TRACKS:
        request, memory = tracks.request_of(script, track, capabilities)
        found.append(prepare(request, capabilities, memory).given)
    text, video, audio = found
    assert text.frames is None and text.waveform is None
    assert video.frames is not None and np.array_equal(video.frames, truth.frames) and video.waveform is None
    assert audio.waveform is not None and np.array_equal(audio.waveform, truth.waveform) and audio.frames is None


def test_a_batch_is_of_one_track_and_every_process_has_some(components: Components) -> None:
    capabilities = components.index.capabilities
    jobs = list(tracks.clip_jobs(tracks.scripts_for(capabilities, 24, seed=5), ("text",)).values())
    for processes, sizes in ((1, [10, 10, 4]), (2, [10, 10, 4]), (5, [5, 5, 5, 5, 4])):
        found = tracks.clip_batches(jobs, capabilities, processes=processes)
        assert [len(batch) for batch in found] == 2 * sizes
        assert all(len({job.track for job in batch}) == 1 for batch in found)
        assert [job for batch in found for job in batch] == jobs
    large = replace(capabilities, default_size=(640, 352), default_frames=193)
    assert {len(batch) for batch in tracks.clip_batches(jobs, large, processes=1)} == {1}


def test_a_run_is_measured_goes_on_and_is_held_against_a_baseline(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    arguments = ["eval", "model", str(folder), "-o", str(output), "--processes", "1", "--steps", "1", "--seed", "5"]
    done = CliRunner().invoke(app, [*arguments, "-n", "1", "--bridge-off", "--by-kind"])
    assert done.exit_code == 0, done.output
    document = read_results(output / "results.json")
    assert set(document["tracks"]) == {track + end for track in tracks.TRACKS for end in ("", BRIDGE_OFF)}
    assert len(document["clips"]) == 6 and document["headline"]["track"] == "text"
    assert "report.html" in done.output and "headline: f1_corrected of text not measured" in done.output
    lines = done.output.splitlines()
    (header,) = [line for line in lines if line.startswith("track")]
    assert header.split("  ")[-1].strip() == "clips" and "codec" in header and "bridge off" in header
    assert {line.split()[1] for line in lines if line.startswith("v2a ")} >= {"f1_45", "f1_80", "missed_80", "count_seen"}
    assert len([line for line in lines if line.split()[:1] == ["bridge"]]) == 3  # of the one kind, on each track
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
    for version, words in ((99, "version 99 of the metrics"), (METRICS_VERSION, "track a2v")):
        write_json(tmp_path / "base.json", {**empty, "metrics_version": version})
        done = CliRunner().invoke(
            app, ["eval", "model", str(folder), "-o", str(tmp_path / "out"), "--baseline", str(tmp_path / "base.json")]
        )
        assert isinstance(done.exception, RequestError) and words in done.exception.message
    assert not (tmp_path / "out").exists()


def test_controls_are_given_what_should_be_answered_with_nothing(components: Components) -> None:
    capabilities = components.index.capabilities
    scripts = tracks.scripts_for(capabilities, 3, seed=5)
    assert tracks.check_tracks(("controls", "text", "counterfactual")) == ("text", "counterfactual", "controls")
    jobs = [job for job in tracks.clip_jobs(scripts, ("controls",)).values() if job.track == "controls"]
    assert [job.control for job in jobs] == ["silent_motion", "off_screen"] * 3
    assert all(len({job.control for job in batch}) == 1 for batch in tracks.clip_batches(jobs, capabilities, processes=1))
    for job in jobs[:2]:
        assert job.control is not None
        request, memory = tracks.request_of(job.script, job.track, capabilities, control=job.control)
        given = prepare(request, capabilities, memory).given
        truth = control_clip(control_scene(job.control, job.script.seed, capabilities), capabilities)
        if job.control == "silent_motion":
            assert given.frames is not None and np.array_equal(given.frames, truth.frames) and given.waveform is None
            assert np.abs(truth.waveform).max() < 0.01 and count_made_up(truth, job.control) == 0
        else:
            assert given.waveform is not None and np.array_equal(given.waveform, truth.waveform) and given.frames is None
            assert np.ptp(truth.frames.astype(int), axis=0).max() <= 2 and count_made_up(truth, job.control) == 0
    bouncing = render_scene(make_scene("bounce", 3, fps=24, seconds=4))
    assert count_made_up(bouncing, "silent_motion") > 1 and count_made_up(bouncing, "off_screen") > 1


def test_controls_are_measured_and_shown_if_they_are_named(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    arguments = ["eval", "model", str(folder), "-o", str(output), "--processes", "1", "--steps", "1", "--seed", "5"]
    done = CliRunner().invoke(app, [*arguments, "-n", "2", "--track", "controls"])
    assert done.exit_code == 0, done.output
    document = read_results(output / "results.json")
    assert document["tracks"] == {} and document["headline"] is None
    found = document["controls"]
    assert set(found) == {"heard_in_silence", "seen_off_screen"}
    for name, one in found.items():
        assert one["num_clips"] == 2 and one["value"] >= 0.0 and one["floor"] >= 0.0
        assert name in done.output and name in (output / "report.html").read_text()
    assert len({row["file"] for row in document["clips"]}) == 4
    assert all((output / row["file"]).is_file() for row in document["clips"])
    lines = compare_results(document, document).lines
    assert {line.name: line.track for line in lines} == dict.fromkeys(found, "controls")
    assert all(line.change == 0.0 for line in lines)


def test_pairs_are_measured_alone_and_have_no_headline(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    arguments = ["eval", "model", str(folder), "-o", str(output), "--processes", "1", "--steps", "1", "--seed", "5"]
    done = CliRunner().invoke(app, [*arguments, "-n", "2", "--track", "counterfactual"])
    assert done.exit_code == 0, done.output
    document = read_results(output / "results.json")
    assert document["tracks"] == {} and document["headline"] is None and "headline" not in done.output
    found = document["counterfactual"]
    assert found and all(0.0 <= one["value"] <= 1.0 and one["chance"] == 0.5 for one in found.values())
    for row in document["clips"]:
        assert set(row["values"]) == set(row["codec"]) <= set(found) and row["prompt"] != row["other_prompt"]
        assert (output / row["file"]).is_file() and (output / row["other_file"]).is_file()
    assert all(name in done.output and name in (output / "report.html").read_text() for name in found)
