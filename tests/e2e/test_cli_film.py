"""``mova film`` from the outside: one shot list, planned, rendered, rendered again, refused."""

from __future__ import annotations

import json
from pathlib import Path

from mova.media.decode import read_clip

LIST = """
num_inference_steps: 1
guidance_scale: 1
shots:
  - {prompt: a slow metronome, num_frames: 9}
  - {prompt: two blue fireworks, num_frames: 7, keep: [last_frame]}
"""


def test_a_shot_list_becomes_one_film_and_only_what_changed_is_rendered_again(mova, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(LIST)
    planned = mova("film", "a.yaml", "--dry-run")
    assert planned.returncode == 0, planned.stderr
    rows = planned.stdout.splitlines()
    assert "to render" in rows[1]
    assert "0.5625" in rows[2] and "unless shot 1 ends as before" in rows[2]
    assert [path.name for path in tmp_path.iterdir()] == ["a.yaml"]

    done = mova("film", "a.yaml", "--json", "-o", "a.mkv")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert [(shot["first_frame"], shot["first_sample"], shot["rendered"]) for shot in facts["shots"]] == [
        (0, 0, True),
        (9, 9000, True),
    ]
    film = read_clip(tmp_path / "a.mkv")
    assert (film.num_frames, film.waveform.shape) == (16, (1, 16000))
    assert film.request is not None and film.request["shots"][1]["keep"] == ["last_frame"]

    assert all(shot["health"]["looked_at"] == ["video", "audio"] for shot in facts["shots"])

    again = mova("film", "a.yaml", "--json", "-o", "b.mkv")
    kept = json.loads(again.stdout)["shots"]
    assert [shot["health"] for shot in kept] == [shot["health"] for shot in facts["shots"]]
    assert "loaded" not in again.stderr and "2 in a.cache, 0 to render" in again.stderr
    assert (tmp_path / "a.mkv").read_bytes() == (tmp_path / "b.mkv").read_bytes()

    retaken = mova("film", "a.yaml", "--json", "--retake", "2:audio:0.1-0.3", "-o", "c.mkv", "--prune")
    assert [shot["rendered"] for shot in json.loads(retaken.stdout)["shots"]] == [False, True]
    assert "retakes: ['audio:0.1-0.3']" in retaken.stderr
    changed = read_clip(tmp_path / "c.mkv")
    assert (changed.frames == film.frames).all() and (changed.waveform != film.waveform).any()


def test_a_wrong_shot_list_is_two_lines_and_exit_2(mova, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(LIST.replace("keep", "kep"))
    for arguments, named in (
        (("a.yaml",), "error: shot 2: there is no field 'kep'."),
        (("none.yaml",), "error: cannot read the shot list none.yaml"),
    ):
        done = mova("film", *arguments)
        assert done.returncode == 2
        assert done.stderr.startswith(named), done.stderr
        assert len(done.stderr.strip().splitlines()) == 2
    (tmp_path / "a.yaml").write_text(LIST)
    for retake, named in (
        ("3:audio:0-1", "there is no shot 3"),
        ("audio:0-1", "SHOT:MODALITY:FROM-TO"),
        ("1:sound:0-1", "modality"),
    ):
        done = mova("film", "a.yaml", "--retake", retake)
        assert done.returncode == 2 and done.stderr.startswith("error: --retake: ") and named in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.yaml"]
