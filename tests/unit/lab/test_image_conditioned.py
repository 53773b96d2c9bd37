"""`mova eval model` measures a checkpoint that was trained with a first frame: it gets the first frame of every scene."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mova.checkpoints.layout import read_index
from mova.cli.app import app
from mova.lab.suite.tracks import check_requests, request_of, scripts_for


@pytest.fixture
def folder(official_tiny: Path, tmp_path: Path) -> Path:
    """The tiny official checkpoint, said to make clips that are small enough for a test and have an audible rate."""
    place = tmp_path / "official"
    shutil.copytree(official_tiny, place)
    index = json.loads((place / "model_index.json").read_text())
    index["world"] = {
        "name": "official",
        "default_size": [32, 32],
        "default_fps": 16.0,
        "default_frames": 17,
        "max_frames": 17,
        "sample_rate": 8000,
        "audio_hop": 6,
        "kinds": ["drums"],
    }
    (place / "model_index.json").write_text(json.dumps(index))
    return place


def test_every_track_gives_the_first_frame(folder: Path) -> None:
    capabilities = read_index(folder).capabilities
    assert capabilities.needs_first_frame
    (script,) = scripts_for(capabilities, 1, seed=5)
    check_requests(script, ("text", "v2a", "a2v"), capabilities, steps=1)
    asked = {track: request_of(script, track, capabilities)[0] for track in ("text", "v2a", "a2v")}
    assert asked["text"].image is not None and asked["a2v"].image == asked["text"].image
    assert asked["v2a"].image is None and asked["v2a"].video is not None


def test_the_command_measures_it(folder: Path, tmp_path: Path) -> None:
    arguments = [
        "eval",
        "model",
        str(folder),
        "-n",
        "1",
        "--steps",
        "1",
        "--track",
        "text",
        "-o",
        str(tmp_path / "out"),
        "--json",
    ]
    done = CliRunner().invoke(app, [*arguments, "--device", "cpu", "--processes", "1"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    rows = [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]
    assert {row.get("track") for row in rows} >= {"text", "floor"}


def test_a_model_without_first_frames_gets_none(folder: Path) -> None:
    index = json.loads((folder / "video_dit" / "config.json").read_text())
    index["in_dim"] = index["out_dim"]
    (folder / "video_dit" / "config.json").write_text(json.dumps(index))
    capabilities = read_index(folder).capabilities
    (script,) = scripts_for(capabilities, 1, seed=5)
    assert request_of(script, "text", capabilities)[0].image is None
