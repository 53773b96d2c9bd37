"""Options of commands are made from the schema: every field can be typed, under its heading, with its unit and default."""

from __future__ import annotations

import re
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from mova.checkpoints.layout import read_index, resolve_model
from mova.cli.app import app
from mova.cli.options import flag
from mova.cli.request_options import request_options
from mova.request.schema import GROUPS, GenerationRequest


def help_of(*command: str) -> str:
    text = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}).output
    return re.sub(r"\s+", " ", text)


def test_every_field_has_an_option_and_every_heading_is_shown() -> None:
    text = help_of("generate")
    missing = [name for name in GenerationRequest.model_fields if flag(name) not in text]
    assert missing == []
    assert [group for group in GROUPS if group not in text] == []


def test_help_names_units_defaults_and_other_options() -> None:
    text = help_of("generate")
    assert "In frames per second." in text and "In Hz." in text
    assert "euler|heun" in text and "Annotated" not in text
    assert "Default: exact." in text and "exact|crop|pad|stretch" in text
    assert "excludes --num-frames" in text and "num_frames" not in text


@pytest.mark.parametrize("command", ["generate", "plan", "film", "sync", "check", "replay"])
def test_options_are_not_cut_in_a_terminal_of_80_columns(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "80", "NO_COLOR": "1", "TERM": "xterm"}).output
    assert "--help" in shown
    assert "…" not in shown


def test_what_is_typed_arrives_as_fields_and_what_is_not_does_not() -> None:
    seen: list[dict[str, Any]] = []
    small = typer.Typer()

    @small.command()
    @request_options()
    def make(request: dict[str, Any]) -> None:
        """Make."""
        seen.append(request)

    def type_in(*arguments: str) -> dict[str, Any]:
        done = CliRunner().invoke(small, arguments)
        assert done.exit_code == 0, done.output
        return seen.pop()

    assert type_in("rain") == {"prompt": "rain"}
    assert type_in("--size", "96x64", "--steps", "3", "--truncate") == {
        "width": 96,
        "height": 64,
        "num_inference_steps": 3,
        "truncate": True,
    }
    assert type_in("--num-inference-steps", "3", "--seed", "0") == {"num_inference_steps": 3, "seed": 0}
    assert type_in("--cue", "0.5=red", "--cue", "1")["cues"] == (
        {"time_s": 0.5, "label": "red"},
        {"time_s": 1.0, "label": ""},
    )
    assert type_in("--cue", "none") == {"cues": ()}
    assert type_in("--extend", "start:2s") == {"extend_s": 2.0, "extend_at": "start"}
    assert type_in("--negative-prompt", "") == {"negative_prompt": ""}


def test_examples_are_of_the_kinds_that_the_shipped_model_knows() -> None:
    shown = CliRunner().invoke(app, ["examples"]).output
    names = [line.partition(":")[0] for line in shown.splitlines() if not line.startswith(" ")]
    assert names == list(read_index(resolve_model("mova-base")).capabilities.kinds)
    assert 'mova generate "drum pads are hit: red, blue, red"' in shown
