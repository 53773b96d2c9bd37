"""Defaults of a user's own: a small TOML file whose values stand for options that are not given.

    model = "MOVA-360p"        # every command that has the option

    [generate]
    steps = 8

    [eval.model]
    num-clips = 120

What is typed, and ``MOVA_MODEL``, come before it.
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mova.errors import RequestError
from mova.files import read_text

VARIABLE = "MOVA_CONFIG"
MAX_BYTES = 2**16
_NOT_DEFAULTS = frozenset({"help", "version", "quiet", "verbose", "install-completion", "show-completion"})


def config_path() -> Path | None:
    """The file that ``MOVA_CONFIG`` names, or the one in the user's folder of configurations if there is one; else None.

    An empty ``MOVA_CONFIG`` means none.
    """
    named = os.environ.get(VARIABLE)
    if named is not None:
        return Path(named).expanduser() if named else None
    base = os.environ.get("APPDATA") if sys.platform == "win32" else os.environ.get("XDG_CONFIG_HOME")
    path = (Path(base) if base else Path.home() / ".config") / "mova" / "config.toml"
    return path if path.is_file() else None


def add_defaults(command: Any, path: Path | None) -> Any:
    """Give a command and all below it the defaults of a file, and return it.

    Raises:
        RequestError: If the file cannot be read, or names a command or an option that there is not.
    """
    if path is not None:
        _apply(command, _read(path), {}, path, "")
    return command


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_text(path, max_bytes=MAX_BYTES))
    except (OSError, ValueError) as problem:
        why = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
        raise RequestError(
            f"cannot read the defaults in {path}: {why}.", f"Correct it, or leave {VARIABLE} empty to use none."
        ) from None


def _apply(command: Any, given: Mapping[str, Any], inherited: Mapping[str, Any], path: Path, name: str) -> set[str]:
    """Set the defaults of a command and of those below it.

    Returns:
        The inherited ones that one of them has an option for.
    """
    from mova.scenes.script import nearest_hint

    commands: Mapping[str, Any] = getattr(command, "commands", {})
    options = dict(_options(command))
    tables = {key: value for key, value in given.items() if isinstance(value, dict)}
    own = {key: value for key, value in given.items() if key not in tables}
    for key in tables:
        if key not in commands:
            raise RequestError(f"{path}: there is no command {f'{name} {key}'.strip()!r}.", nearest_hint(key, commands))
    values = {**inherited, **own}
    used = {key for key in values if key in options}
    for key, inner in commands.items():
        used |= _apply(inner, tables.get(key, {}), values, path, f"{name} {key}".strip())
    for key in own:
        if key not in used:
            hint = nearest_hint(key, options) if options else "Name an option without its dashes, as in --help."
            raise RequestError(f"{path}: {name or 'no command'} has no option {key!r}.", hint)
    for key in used & set(options):
        _set(options[key], values[key], path, f"{name} --{key}")
    return used


def _options(command: Any) -> Iterator[tuple[str, Any]]:
    for option in command.params:
        for flag in getattr(option, "opts", ()):
            if flag.startswith("--") and flag[2:] not in _NOT_DEFAULTS:
                yield flag[2:], option


def _set(option: Any, value: Any, path: Path, name: str) -> None:
    """The value as what would be typed: the command checks it as such."""
    is_list, is_flag = bool(option.multiple), bool(getattr(option, "is_flag", False))
    plain = value if isinstance(value, list) else [value]
    if (
        isinstance(value, list) != is_list
        or not all(isinstance(one, bool) == is_flag for one in plain)
        or not all(isinstance(one, str | int | float) for one in plain)
    ):
        wanted = "true or false" if is_flag else "a list" if is_list else "text or a number"
        raise RequestError(f"{path}: {name} takes {wanted}; got {str(value)[:40]!r}.", "See --help of the command.")
    option.default = value if is_flag else [str(one) for one in plain] if is_list else str(value)
