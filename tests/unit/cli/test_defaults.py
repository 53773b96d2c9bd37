"""Defaults from a user's file stand for what is not typed, and a wrong file is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from mova.cli.app import app
from mova.cli.defaults import add_defaults, config_path
from mova.cli.values import name_values
from mova.errors import RequestError


def command_with(text: str, folder: Path) -> Any:
    (folder / "config.toml").write_text(text, encoding="utf-8")
    return add_defaults(typer.main.get_command(app), folder / "config.toml")


def default_of(command: Any, *names: str) -> Any:
    *path, option = names
    for name in path:
        command = command.commands[name]
    return next(one for one in command.params if f"--{option}" in one.opts).default


def test_values_stand_for_what_is_not_typed(tmp_path: Path) -> None:
    command = command_with(
        'model = "MOVA-360p"\nthreads = 1\n[generate]\nsteps = 8\nsidecar = true\n[eval.model]\ntrack = ["text"]\n', tmp_path
    )
    assert default_of(command, "generate", "model") == default_of(command, "plan", "model") == "MOVA-360p"
    assert (default_of(command, "generate", "steps"), default_of(command, "generate", "sidecar")) == ("8", True)
    assert default_of(command, "eval", "model", "track") == ["text"] and default_of(command, "eval", "model", "threads") == "1"
    assert default_of(typer.main.get_command(app), "generate", "steps") is None


def test_a_default_is_checked_and_used_as_if_it_was_typed(tmp_path: Path) -> None:
    command = command_with("[plan]\nsteps = 3\n", tmp_path)
    assert default_of(command, "plan", "steps") == "3"
    plan = command.commands["plan"]
    for typed, steps in ([], 3), (["--steps", "5"], 5):
        assert plan.make_context("plan", list(typed)).params["steps"] == steps


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[generat]\n", "no command 'generat'"),
        ("[generate]\nstep = 3\n", "generate has no option 'step'"),
        ("colour = 1\n", "no command has no option 'colour'"),
        ("[generate]\nsidecar = 1\n", "generate --sidecar takes true or false; got '1'"),
        ("[generate]\ncue = 0.5\n", "generate --cue takes a list; got '0.5'"),
        ("[generate\n", "cannot read the defaults"),
    ],
)
def test_what_is_wrong_is_named(text: str, named: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=named):
        command_with(text, tmp_path)


def test_the_file_is_the_named_one_or_that_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("MOVA_CONFIG", raising=False)
    assert config_path() is None
    (tmp_path / "mova").mkdir()
    (tmp_path / "mova/config.toml").touch()
    assert config_path() == tmp_path / "mova/config.toml"
    monkeypatch.setenv("MOVA_CONFIG", "other.toml")
    assert config_path() == Path("other.toml")
    monkeypatch.setenv("MOVA_CONFIG", "")
    assert config_path() is None


def test_values_are_named_by_what_is_typed() -> None:
    generate: Any = name_values(typer.main.get_command(app)).commands["generate"]
    shown = {option.name: option.metavar for option in generate.params}
    assert (shown["on_fault"], shown["sheet"], shown["num_clips"], shown["sidecar"]) == ("keep|repair|fail", "FILE", "N", "")
    assert (shown["size"], shown["seed"], shown["guidance_scale"]) == ("WIDTHxHEIGHT", "N", "X")
