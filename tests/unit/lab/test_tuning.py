"""The search for scales: rows of numbers, kept, compared and drawn; and the command around it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from mova.checkpoints.load import Components
from mova.cli.app import app
from mova.errors import MediaError, RequestError
from mova.generation.model import MOVAModel
from mova.lab.adherence.judge import Verdict
from mova.lab.sync.scores import ClipTimes
from mova.lab.tuning import Row, Setting, frontier, prompts, read_rows, row_of, try_setting, write_rows
from mova.lab.tuning_plot import draw_rows, rows_image
from mova.pipeline import MOVAPipeline
from mova.sampling.guidance import Guidance
from mova.scenes.kinds import KINDS
from mova.scenes.world import write_script

TRIAL = {"model": "tiny", "prompts": ["a ball"]}


def verdict(late_s: float, values: dict[str, float]) -> Verdict:
    return Verdict(ClipTimes("ball", (0.5, 1.0), (0.5 + late_s, 1.0 + late_s)), values)


def row(text: float, late_s: float, colour: float) -> Row:
    return row_of(Setting(text), [verdict(late_s, {"colour": colour})], seconds_per_clip=1.0)


def test_prompts_ask_for_something_and_more_of_them_begin_with_the_same() -> None:
    few, more = prompts(list(KINDS), 1, seed=3), prompts(["drums"], 3, seed=3)
    assert [script.kind for script in few] == list(KINDS)
    assert [script.kind for script in more] == ["drums"] * 3
    assert more[0] == next(script for script in few if script.kind == "drums")
    with pytest.raises(RequestError, match="no scene kind 'bal'"):
        prompts(["bal"], 1, seed=3)


def test_a_row_holds_sync_and_the_share_of_what_was_asked_that_is_there() -> None:
    verdicts = [verdict(0.02, {"colour": 1.0, "count": 0.0, "count_seen": 1.0}), verdict(0.3, {"colour": 1.0})]
    columns = row_of(Setting(2.0), verdicts, seconds_per_clip=1.0).columns
    assert columns["asked"].value == 0.75  # a half and a whole; how it was counted is not asked for
    assert columns["f1_80"].value == 0.5
    assert columns["sync_ms"].value == pytest.approx(160.0)  # late is not missing
    assert columns["colour"].value == 1.0 and columns["count"].value == 0.0
    assert columns["asked"].low <= 0.75 <= columns["asked"].high


def test_the_frontier_is_what_no_other_row_beats() -> None:
    in_step, as_asked, worse, both = row(1.0, 0.0, 0.0), row(2.0, 0.2, 1.0), row(3.0, 0.2, 0.5), row(4.0, 0.0, 1.0)
    assert frontier([in_step, as_asked, worse]) == [as_asked, in_step]
    assert frontier([in_step, as_asked, worse, both]) == [both]
    assert frontier([in_step, in_step]) == [in_step, in_step]


def test_rows_come_back_as_they_were_written_and_only_for_the_same_trial(tmp_path: Path) -> None:
    silent = row_of(Setting(3.0, 1.0, 0.5, 2.0), [Verdict(ClipTimes("ball", (0.5,), ()), {"count": 0.0})], seconds_per_clip=2.0)
    path = tmp_path / "rows.json"
    assert read_rows(path, TRIAL) == []
    write_rows(path, [silent, row(1.0, 0.0, 1.0)], TRIAL)
    assert "NaN" not in path.read_text()
    first, second = read_rows(path, TRIAL)
    assert first == row(1.0, 0.0, 1.0)
    assert second.setting == silent.setting
    assert math.isnan(second.columns["sync_ms"].value) and second.columns["count"] == silent.columns["count"]
    with pytest.raises(RequestError, match="another trial: prompts differ"):
        read_rows(path, TRIAL | {"prompts": ["two drums"]})
    path.write_text('{"rows": 3}')
    with pytest.raises(MediaError, match="cannot read the rows"):
        read_rows(path, TRIAL)
    assert [one.name for one in tmp_path.iterdir()] == ["rows.json"]


def test_a_setting_says_itself_in_a_few_words_and_is_a_guidance() -> None:
    assert str(Setting(2.0, 1.5)) == "text 2, cross 1.5"
    assert str(Setting(2.0, 1.0, 0.5, 3.0)) == "text 2, cross 1, self 0.5, audio 3"
    assert Setting(2.0, 1.5, 0.5, 3.0).guidance == Guidance.from_scales(2.0, 1.5, self_scale=0.5, audio_text_scale=3.0)


def test_clips_are_the_same_in_batches_of_any_size(tiny_components: Components) -> None:
    model = MOVAModel(MOVAPipeline.from_components(tiny_components))
    asked = {"colour": "red", "count": 2, "number": 1, "floor": "wood"}
    # in words that the tiny tokenizer knows
    scripts = [
        replace(write_script("ball", seed, attributes=asked), caption="a red ball bounces twice on wood") for seed in (1, 2)
    ]
    told: list[tuple[int, int]] = []
    rows = [
        try_setting(
            model,
            Setting(2.0),
            scripts,
            num_inference_steps=2,
            batch_size=size,
            on_progress=lambda now: told.append((now.done, now.total)) if now.stage == "denoise" else None,
        )
        for size in (1, 2)
    ]
    assert rows[0].columns.keys() == rows[1].columns.keys() >= {"sync_ms", "f1_80", "asked"}
    assert rows[0].columns["asked"] == rows[1].columns["asked"]
    # clip by clip, each beginning with no step done; then both at once
    assert told == [(0, 4), (1, 4), (2, 4), (2, 4), (3, 4), (4, 4), (0, 2), (1, 2), (2, 2)]


@pytest.fixture(scope="module")
def folder(tiny_components: Components, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tiny")
    MOVAPipeline.from_components(tiny_components).save_pretrained(place)
    return place


def tune(folder: Path, output: Path, *arguments: str) -> Any:
    fixed = ("-m", str(folder), "-n", "1", "--kinds", "drums", "--steps", "1", "-o", str(output), "--device", "cpu")
    return CliRunner().invoke(app, ["tune-guidance", *fixed, *arguments])


def test_a_search_writes_rows_and_a_plot_and_goes_on_where_it_was(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "found" / "here"
    done = tune(folder, output, "--scales", "1,2", "--cross", "1")
    assert done.exit_code == 0, done.output
    assert "text 1, cross 1" in done.stdout and "text 2, cross 1" in done.stdout
    assert sorted(path.name for path in output.iterdir()) == ["guidance.json", "guidance.png"]
    assert Image.open(output / "guidance.png").width > 500
    before = json.loads((output / "guidance.json").read_text())

    done = tune(folder, output, "--scales", "2,3", "--cross", "1", "--json")
    assert done.exit_code == 0, done.output
    assert "1 settings are in" in done.stderr
    facts = json.loads(done.stdout)
    assert [one["setting"]["text"] for one in facts["rows"]] == [1.0, 2.0, 3.0]
    after = json.loads((output / "guidance.json").read_text())
    assert after["rows"][:2] == before["rows"]  # with the seconds that they took: they were not made again
    assert any(one["is_best"] for one in facts["rows"])

    other = tune(folder, output, "--scales", "2", "--seed", "1")
    assert isinstance(other.exception, RequestError) and "seed" in other.exception.message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--scales", "1,x"), "--scales: takes numbers"),
        (("--cross", "1,-2"), "--cross: a scale is from 0 to 100; got -2"),
        (("--self", "nan"), "--self: a scale"),
        (("--audio-scales", "2,2.0"), "--audio-scales: names a scale twice"),
        (("--kinds", "drum"), "no scene kind 'drum'"),
        (("--kinds", "drums,drums"), "--kinds: names a kind twice"),
    ],
)
def test_a_wrong_option_is_named_before_anything_is_made(
    folder: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    done = tune(folder, tmp_path / "out", *arguments)
    assert isinstance(done.exception, RequestError) and words in done.exception.message
    assert not (tmp_path / "out").exists()


def test_a_file_in_place_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    done = tune(folder, tmp_path / "out")
    assert isinstance(done.exception, MediaError)
    assert (tmp_path / "out").read_text() == "mine"


def test_the_command_line_of_a_clip_takes_the_scales_of_the_audio_and_an_empty_negative_prompt() -> None:
    asked = ("--audio-guidance-scale", "0", "--self-guidance-scale", "1.5", "--audio-negative-prompt", "")
    done = CliRunner().invoke(app, ["generate", "a red ball", *asked, "--set", "self_guidance_from=0.8", "--dry-run", "--json"])
    assert done.exit_code == 0, done.output
    request = json.loads(done.stdout)["request"]
    assert (request["audio_guidance_scale"], request["self_guidance_scale"]) == (0.0, 1.5)
    assert (request["audio_negative_prompt"], request["self_guidance_from"]) == ("", 0.8)


def test_a_plot_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="cannot write"):
        draw_rows(tmp_path / "gone" / "plot.png", [row(1.0, 0.0, 1.0)], title="tiny")
    assert list(tmp_path.iterdir()) == []


def test_labels_of_points_in_one_place_are_one_and_every_setting_is_listed() -> None:
    one = row(1.0, 0.0, 1.0)
    few, many = ([replace(one, setting=Setting(1.0 + index)) for index in range(number)] for number in (2, 40))
    assert rows_image(few, title="tiny").width == 1200
    assert rows_image(many, title="tiny 蓝").height > rows_image(few, title="tiny").height
