"""Shot lists: YAML documents that describe a film, validated completely before anything runs.

A shot has the fields of a request (:class:`mova.request.schema.GenerationRequest`), and states what it keeps of the shot
before. Fields of the film are the defaults of all shots.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from mova.errors import MediaError, RequestError
from mova.files import read_text
from mova.parsing import parse_yaml
from mova.request.schema import MAX_PATH_CHARACTERS, MAX_SEED, GenerationRequest, Retake, explain

MAX_SHOTS = 1000
MAX_DOCUMENT_BYTES = 2**20
DEFAULT_SEED = 0  # a random seed would render every shot again in each run
# fields that all shots share: they belong to the film
SHARED = ("fps", "width", "height", "audio_sample_rate")
# fields of single shots: the film cannot set them for all
OF_ONE_SHOT = (
    "prompt", "cues", "image", "last_image", "keyframes", "video", "audio", "extend_s", "extend_at", "retake", "repaint",
)  # fmt: skip
LENGTHS = ("seconds", "num_frames")
# fields that determine the length
WITH_LENGTH = ("video", "audio")

Kept = Literal["last_frame", "sound"]


class Strict(BaseModel):
    """Base model that refuses unknown fields: a misspelt one must not be ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Take(Strict):
    """A span of a finished shot to generate again, as in ``audio:1.0-1.8`` or, with a seed, ``audio:1.0-1.8:7``."""

    retake: Retake
    seed: int | None = Field(default=None, ge=0, le=MAX_SEED, description="Seed of the span.")


class Bed(Strict):
    """Audio under the whole film."""

    bed: str = Field(min_length=1, max_length=MAX_PATH_CHARACTERS, description="Path of the audio file.")
    gain_db: float = Field(default=0.0, ge=-60, le=24, allow_inf_nan=False, description="Gain of the bed in dB.")
    shots_gain_db: float | None = Field(
        default=None, ge=-60, le=24, allow_inf_nan=False, description="Gain of the shots' own audio in dB; muted if not given."
    )


class Shot(Strict):
    """One shot, with the film's defaults filled in.

    Args:
        request: Request for the model, with paths as written in the document.
        keep: Parts kept of the shot before: its ``last_frame`` is the first frame, its ``sound`` continues over the cut.
        retakes: Spans to generate again in the finished shot, in order.
    """

    request: GenerationRequest
    keep: tuple[Kept, ...] = ()
    retakes: tuple[Take, ...] = ()


class Film(Strict):
    """A shot list.

    Args:
        shots: Shots in order.
        model: Name, folder or hub id of the model.
        sound: ``"per_shot"``, or an audio bed under all shots.
        fade_ms: Duration of the fade-out before a cut and of the fade-in after it, in ms; 0 for none.
        audio_sample_rate: Sample rate of the film's audio in Hz; the highest of its parts if not given.
        folder: Folder that relative paths start from.
    """

    shots: tuple[Shot, ...] = Field(min_length=1, max_length=MAX_SHOTS)
    model: str = "mova-base"
    sound: Literal["per_shot"] | Bed = "per_shot"
    fade_ms: float = 0.0
    audio_sample_rate: int | None = None
    folder: Path = Path()

    def with_takes(self, takes: Mapping[int, tuple[Take, ...]]) -> Film:
        """Return the film with further retakes.

        Args:
            takes: Retakes by number of the shot, from 1.

        Raises:
            RequestError: If there is no such shot.
        """
        shots = list(self.shots)
        for number, more in takes.items():
            if not 1 <= number <= len(shots):
                raise RequestError(
                    f"there is no shot {number}; the film has shots 1 to {len(shots)}.",
                    f"Use {min(max(number, 1), len(shots))}, the nearest.",
                    field="retake",
                )
            shot = shots[number - 1]
            shots[number - 1] = shot.model_copy(update={"retakes": (*shot.retakes, *more)})
        return self.model_copy(update={"shots": tuple(shots)})


def read_film(path: str | Path) -> Film:
    """Read a shot list.

    Args:
        path: Path of a YAML document; paths in it are relative to its folder.

    Raises:
        RequestError: If it cannot be read or is invalid; the message names the shot and the field.
    """
    path = Path(path)
    try:
        document = parse_yaml(read_text(path, max_bytes=MAX_DOCUMENT_BYTES))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RequestError(f"cannot read the shot list {path}: {reason}.", "Give the path of a YAML document.") from error
    return make_film(document, folder=path.parent)


def make_film(document: Any, *, folder: Path = Path()) -> Film:
    """Make a film from a mapping, such as parsed YAML.

    Args:
        document: Mapping with ``shots``, a list of mappings, and the film's own fields.
        folder: Folder that relative paths start from.

    Raises:
        RequestError: If a field is unknown or invalid; the message names the shot, from 1, and the field.
    """
    if not isinstance(document, Mapping):
        raise RequestError(
            "a shot list must be a mapping with shots.", "For example shots: [{prompt: rain, seconds: 2}]", field="shots"
        )
    defaults = {name: value for name, value in document.items() if name not in _FilmFields.model_fields}
    for name in defaults:
        _check_film_name(name)
    try:
        own = _FilmFields.model_validate({name: value for name, value in document.items() if name not in defaults})
    except ValidationError as error:
        raise explain(error, tuple(_FilmFields.model_fields)) from None
    defaults = {"seed": DEFAULT_SEED, **defaults, **_parse_size(own.size, defaults)}
    # errors in the film's fields are reported for the film, not for its first shot
    GenerationRequest.model_validate({"prompt": "any", **defaults})
    rate = defaults.pop("audio_sample_rate", None)
    if not 1 <= len(own.shots) <= MAX_SHOTS:
        raise RequestError(f"a film has 1 to {MAX_SHOTS} shots; got {len(own.shots)}.", "Give a list of shots.", field="shots")
    shots = []
    for number, values in enumerate(own.shots, start=1):
        with add_shot_to_errors(number):
            shots.append(_parse_shot(values, defaults, is_first=number == 1))
    return Film(
        shots=tuple(shots),
        model=own.model,
        sound=_parse_sound(own.sound),
        fade_ms=own.fade_ms,
        audio_sample_rate=rate,
        folder=folder,
    )


def parse_take(text: str) -> Take:
    """Parse a retake, ``audio:1.0-1.8`` or ``audio:1.0-1.8:SEED``, with times in seconds from the start of the shot.

    Raises:
        RequestError: If the text does not have that form.
    """
    found = re.fullmatch(r"([a-z]+):(\d{1,5}(?:\.\d{1,6})?)-(\d{1,5}(?:\.\d{1,6})?)s?(?::(\d{1,19}))?", text)
    if found is None:
        raise RequestError(
            f"a retake is MODALITY:FROM-TO in seconds, or MODALITY:FROM-TO:SEED; got {text[:40]!r}.",
            "For example audio:1.0-1.8, or audio:1.0-1.8:7.",
            field="retake",
        )
    modality, begin, end, seed = found.groups()
    values = {"modality": modality, "from_s": float(begin), "to_s": float(end)}
    try:
        take = Take(retake=Retake.model_validate(values), seed=None if seed is None else int(seed))
    except ValidationError as error:
        problem = explain(error, ("modality", "from_s", "to_s"))
        raise RequestError(f"retake: {problem.message}", problem.hint, field="retake") from None
    if take.retake.from_s >= take.retake.to_s:
        raise RequestError(
            f"a retake must end after it begins; got {begin} to {end} s.", "Put the beginning first.", field="retake"
        )
    return take


@contextmanager
def add_shot_to_errors(number: int) -> Iterator[None]:
    """Add the number of the shot to errors that a user can fix."""
    try:
        yield
    except RequestError as problem:
        field = f"shots.{number}" + (f".{problem.field}" if problem.field else "")
        raise RequestError(f"shot {number}: {problem.message}", problem.hint, field=field) from problem
    except MediaError as problem:
        raise MediaError(f"shot {number}: {problem.message}", problem.hint) from problem


def _to_tuple(value: Any) -> Any:
    """Convert a list to a tuple; a string is a list of one."""
    return tuple(value) if isinstance(value, list) else (value,) if isinstance(value, str) else value


class _FilmFields(Strict):
    """Fields of the film itself in a document."""

    shots: Annotated[tuple[Any, ...], BeforeValidator(_to_tuple)]
    model: str = Field(default="mova-base", min_length=1, max_length=MAX_PATH_CHARACTERS)
    size: str | None = None
    sound: Any = "per_shot"
    fade_ms: float = Field(default=0.0, ge=0, le=100, allow_inf_nan=False)


class _ShotFields(Strict):
    """Fields of a shot in a document, besides those of its request."""

    keep: Annotated[tuple[Kept, ...], BeforeValidator(_to_tuple)] = ()
    retakes: Annotated[tuple[str, ...], BeforeValidator(_to_tuple)] = ()


_REQUEST = tuple(name for name in GenerationRequest.model_fields if name not in ("only", "references"))
_FILM_NAMES = (*_FilmFields.model_fields, *(name for name in _REQUEST if name not in OF_ONE_SHOT))
_SHOT_NAMES = (*(name for name in _REQUEST if name not in SHARED), *_ShotFields.model_fields)


def _parse_shot(values: Any, defaults: Mapping[str, Any], *, is_first: bool) -> Shot:
    if not isinstance(values, Mapping):
        raise RequestError(f"a shot is a mapping; got {str(values)[:40]!r}.", "For example {prompt: rain, seconds: 2}.")
    for name in values:
        _check_shot_name(name)
    try:
        own = _ShotFields.model_validate({name: values[name] for name in _ShotFields.model_fields if name in values})
    except ValidationError as error:
        raise explain(error, _SHOT_NAMES) from None
    given = {name: value for name, value in values.items() if name not in _ShotFields.model_fields}
    # the shot's own length replaces the film's, in seconds or in frames
    has_length = any(given.get(name) is not None for name in (*LENGTHS, *WITH_LENGTH))
    kept = {name: value for name, value in defaults.items() if not (has_length and name in LENGTHS)}
    if "prompt" not in given:
        raise RequestError("prompt is missing.", "Describe what to see and hear.", field="prompt")
    request = GenerationRequest.model_validate({**kept, **given})
    _check_keep(request, own.keep, is_first=is_first)
    return Shot(request=request, keep=own.keep, retakes=tuple(parse_take(text) for text in own.retakes))


def _check_keep(request: GenerationRequest, keep: tuple[Kept, ...], *, is_first: bool) -> None:
    if keep and is_first:
        raise RequestError(f"keep: {keep[0]} needs a shot before this one.", "Leave keep out.", field="keep")
    excluded = {"last_frame": ("image", "video"), "sound": ("audio", "video")}
    for kept in keep:
        for name in excluded[kept]:
            if getattr(request, name) is not None:
                raise RequestError(
                    f"keep: {kept} conflicts with {name}: both determine how the shot begins.",
                    "Leave one of them out.",
                    field="keep",
                )


def _check_film_name(name: Any) -> None:
    if name in OF_ONE_SHOT or name in _ShotFields.model_fields:
        raise RequestError(f"{name} belongs to a shot, not to the film.", f"Write it under shots, as {name}.", field=name)
    _check_name(name, _FILM_NAMES)


def _check_shot_name(name: Any) -> None:
    if name in SHARED or name in _FilmFields.model_fields:
        raise RequestError(f"{name} belongs to the film: all shots share it.", "Write it above shots.", field=name)
    _check_name(name, _SHOT_NAMES)


def _check_name(name: Any, known: tuple[str, ...]) -> None:
    if name in known:
        return
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]}?" if close else f"The fields are {', '.join(known)}."
    raise RequestError(f"there is no field {str(name)[:40]!r}.", hint, field=str(name))


def _parse_size(size: str | None, defaults: Mapping[str, Any]) -> dict[str, int]:
    if size is None:
        return {}
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", size)
    if found is None:
        raise RequestError(f"size must be WIDTHxHEIGHT in pixels; got {size[:40]!r}.", "For example size: 96x96.", field="size")
    if "width" in defaults or "height" in defaults:
        raise RequestError("size and width or height are both given.", "Leave one of them out.", field="size")
    return {"width": int(found[1]), "height": int(found[2])}


def _parse_sound(value: Any) -> Literal["per_shot"] | Bed:
    if value == "per_shot":
        return "per_shot"
    if not isinstance(value, Mapping):
        raise RequestError(
            f"sound must be per_shot or name a bed; got {str(value)[:40]!r}.",
            "For example sound: {bed: rain.wav, shots_gain_db: -6}.",
            field="sound",
        )
    try:
        return Bed.model_validate(dict(value))
    except ValidationError as error:
        problem = explain(error, tuple(Bed.model_fields))
        raise RequestError(f"sound: {problem.message}", problem.hint, field=f"sound.{problem.field}") from None
