"""What a film says of how it was made: to vary it, and to make it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import yaml

from mova.cli import console
from mova.errors import MediaError, RequestError


def recorded_request(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The request inside a film, and what made it.

    Raises:
        MediaError: If the file cannot be read or holds no request.
    """
    from mova.media.probe import probe

    info = probe(path)
    if info.request is None:
        raise MediaError(f"{path} does not say how it was made.", "Give a film that mova wrote.")
    return info.request, info.made_by or {}


def varied(recorded: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """A recorded request with ``name=value`` changes; values are read as YAML, ``null`` leaves one to the model.

    Raises:
        RequestError: If a change is not of that form.
    """
    values = dict(recorded)
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals or not name:
            raise RequestError(f"--set: takes field=value; got {change[:40]!r}.", "For example --set guidance_scale=3.")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise RequestError(f"--set: {text[:40]!r} is no value.", "For example --set guidance_scale=3.") from None
        # a whole number is a number too; which of both a field wants, the request knows
        values[name] = value
        if name in ("seconds", "num_frames"):  # one length takes the other's place
            values.pop("num_frames" if name == "seconds" else "seconds", None)
    return {name: value for name, value in values.items() if value is not None}


def rerolled_from(path: Path | None, recorded: Mapping[str, Any], modality: str) -> dict[str, Any]:
    """The request that makes the sound or the film of a film's file anew, for the other as it is in the file.

    Args:
        path: The film.
        recorded: The request inside it.
        modality: What is made anew.

    Raises:
        RequestError: If there is no film, or ``modality`` is none.
    """
    from mova.reroll import reroll_values

    if path is None:
        raise RequestError("--reroll: needs a clip of which a part is kept.", "Give it as --from clip.mp4.")
    values = reroll_values(recorded, cast(Any, modality), kept=str(path))  # which checks the modality
    if modality == "audio":
        values.pop("num_frames", None)  # the length is the film's, whose picture stream is then copied
    return values


def replay(path: Path, output: Path | None, *, model: str | None, is_json: bool) -> None:
    """Make a film again from what it says of itself, and say whether it is the same.

    Raises:
        MediaError: If the file holds no request, or an input of it is gone.
        RequestError: If an input of it has changed.
    """
    from mova.checkpoints.layout import BASE_NAME, read_index, resolve_model
    from mova.cli.generate import Choice, Output, run

    request, made_by = recorded_request(path)
    name = model or made_by.get("model") or BASE_NAME
    target = output or path.with_name(f"{path.stem}-replay{path.suffix}")
    _check_inputs(made_by.get("inputs") or {})
    index = read_index(resolve_model(name))
    if made_by.get("weights") not in (None, index.fingerprint):
        console.say(f"note: {path.name} was made with other weights ({made_by['weights']}, here {index.fingerprint})")
    wanted = Output(target, sheet=None, has_sidecar=False, is_json=is_json, is_dry_run=False, num_clips=1)
    run(request, Choice(name), wanted)
    same = target.read_bytes() == path.read_bytes()
    console.say(f"{target.name} {'is' if same else 'is not'} the same as {path.name}, byte by byte")


def _check_inputs(inputs: Mapping[str, str]) -> None:
    from mova.names import PREFIX, content_hash

    for name, expected in inputs.items():
        if name.startswith(PREFIX):
            raise RequestError(f"{name} was in memory when the film was made.", "Make it again from Python.", field="image")
        if content_hash(name) != expected:
            raise RequestError(f"{name} is not what it was when the film was made.", "Put the old file back.", field="video")
