"""Shot lists: one YAML document that says what a film is made of, checked whole before anything runs.

What a shot may say is what a request may say (:class:`mova.request.schema.GenerationRequest`), and what it keeps of the shot
before. What is said of the film holds for every shot that says nothing else.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from mova.errors import MediaError, RequestError
from mova.request.schema import MAX_PATH_CHARACTERS, MAX_SEED, GenerationRequest, Retake, explain, make_request

MAX_SHOTS = 1000
MAX_DOCUMENT_BYTES = 2**20
MAX_DEPTH = 12
DEFAULT_SEED = 0  # a seed that is drawn anew would make every shot anew
# all shots share these: they belong to the film
SHARED = ("fps", "width", "height", "audio_sample_rate")
# these say what is in a shot: none of them holds for all
OF_ONE_SHOT = (
    "prompt", "cues", "image", "last_image", "keyframes", "video", "audio", "extend_s", "extend_at", "retake", "repaint",
)  # fmt: skip
LENGTHS = ("seconds", "num_frames")
# what is given states a length of its own
WITH_LENGTH = ("video", "audio")

Kept = Literal["last_frame", "sound"]


class Strict(BaseModel):
    """Unknown fields are refused: a typo must not make another film."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Take(Strict):
    """A span of a finished shot that is made anew, as in ``audio:1.0-1.8`` or, with a seed, ``audio:1.0-1.8:7``."""

    retake: Retake
    seed: int | None = Field(default=None, ge=0, le=MAX_SEED, description="Of what is made anew.")


class Bed(Strict):
    """Audio that lies under the whole film."""

    bed: str = Field(min_length=1, max_length=MAX_PATH_CHARACTERS, description="The audio: a file.")
    gain_db: float = Field(default=0.0, ge=-60, le=24, allow_inf_nan=False, description="Of the bed.")
    shots_gain_db: float | None = Field(
        default=None, ge=-60, le=24, allow_inf_nan=False, description="Of the shots' own sounds; muted if not given."
    )


class Shot(Strict):
    """One shot, with the film's defaults filled in.

    Args:
        request: What is asked of the model; paths as they are written in the document.
        keep: What goes on from the shot before: it begins with its ``last_frame``, its ``sound`` goes on over the cut.
        retakes: Spans made anew after the shot is there, one after the other.
    """

    request: GenerationRequest
    keep: tuple[Kept, ...] = ()
    retakes: tuple[Take, ...] = ()


class Film(Strict):
    """A shot list.

    Args:
        shots: In their order.
        model: Name, folder or hub id.
        sound: ``"per_shot"``, or what lies under all of them.
        fade_ms: How long a shot's audio fades out before a cut, and the next one's fades in after it. 0 leaves them whole.
        audio_sample_rate: Of the film's audio in Hz; the highest of its parts if not given.
        folder: Where relative paths begin.
    """

    shots: tuple[Shot, ...] = Field(min_length=1, max_length=MAX_SHOTS)
    model: str = "mova-base"
    sound: Literal["per_shot"] | Bed = "per_shot"
    fade_ms: float = 0.0
    audio_sample_rate: int | None = None
    folder: Path = Path()

    def with_takes(self, takes: Mapping[int, tuple[Take, ...]]) -> Film:
        """The same with further retakes.

        Args:
            takes: Number of a shot, from 1, to what is made anew in it.

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
        path: YAML document; paths in it are relative to its folder.

    Raises:
        RequestError: If it cannot be read, or something in it is wrong; the message names the shot and the field.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_DOCUMENT_BYTES + 1)
        if len(data) > MAX_DOCUMENT_BYTES:
            raise RequestError(f"{path} has more than {MAX_DOCUMENT_BYTES} bytes.", "Give a shot list.", field="shots")
        document = yaml.load(data.decode("utf-8"), Loader=_Loader)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise RequestError(f"cannot read the shot list {path}: {reason}.", "Give the path of a YAML document.") from error
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        where = "" if mark is None else f" in line {mark.line + 1}"
        raise RequestError(f"{path} is not YAML{where}: {problem or 'it cannot be parsed'}.", "Mend the line.") from error
    return make_film(document, folder=path.parent)


def make_film(document: Any, *, folder: Path = Path()) -> Film:
    """A film from a mapping, such as parsed YAML.

    Args:
        document: ``shots``, a list of mappings, and the film's own fields.
        folder: Where relative paths begin.

    Raises:
        RequestError: If a field is unknown or wrong; the message names the shot, from 1, and the field.
    """
    if not isinstance(document, Mapping):
        raise RequestError(
            "a shot list is a mapping with a list of shots.", "For example shots: [{prompt: rain, seconds: 2}]", field="shots"
        )
    defaults = {name: value for name, value in document.items() if name not in _FilmFields.model_fields}
    for name in defaults:
        _check_film_name(name)
    try:
        own = _FilmFields.model_validate({name: value for name, value in document.items() if name not in defaults})
    except ValidationError as error:
        raise explain(error, tuple(_FilmFields.model_fields)) from None
    defaults = {"seed": DEFAULT_SEED, **defaults, **_size(own.size, defaults)}
    # a mistake that is the film's is not told of its first shot
    make_request({"prompt": "any", **defaults})
    rate = defaults.pop("audio_sample_rate", None)
    if not 1 <= len(own.shots) <= MAX_SHOTS:
        raise RequestError(f"a film has 1 to {MAX_SHOTS} shots; got {len(own.shots)}.", "Give a list of shots.", field="shots")
    shots = []
    for number, values in enumerate(own.shots, start=1):
        with of_shot(number):
            shots.append(_shot(values, defaults, is_first=number == 1))
    return Film(
        shots=tuple(shots),
        model=own.model,
        sound=_audio(own.sound),
        fade_ms=own.fade_ms,
        audio_sample_rate=rate,
        folder=folder,
    )


def parse_take(text: str) -> Take:
    """``audio:1.0-1.8`` or ``audio:1.0-1.8:SEED``: what is made anew, from when to when, in seconds from the shot's start.

    Raises:
        RequestError: If it is not of that form.
    """
    found = re.fullmatch(r"([a-z]+):(\d{1,5}(?:\.\d{1,6})?)-(\d{1,5}(?:\.\d{1,6})?)s?(?::(\d{1,19}))?", text)
    if found is None:
        raise RequestError(
            f"retake takes MODALITY:FROM-TO in seconds, and a seed after another colon; got {text[:40]!r}.",
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
            f"retake must end after it begins; got {begin} to {end} s.", "Give the beginning first.", field="retake"
        )
    return take


@contextmanager
def of_shot(number: int) -> Iterator[None]:
    """Whatever a user has to mend inside is told with the number of the shot."""
    try:
        yield
    except RequestError as problem:
        field = f"shots.{number}" + (f".{problem.field}" if problem.field else "")
        raise RequestError(f"shot {number}: {problem.message}", problem.hint, field=field) from problem
    except MediaError as problem:
        raise MediaError(f"shot {number}: {problem.message}", problem.hint) from problem


def _listed(value: Any) -> Any:
    """A list as the tuple of a frozen model; one word is a list of one."""
    return tuple(value) if isinstance(value, list) else (value,) if isinstance(value, str) else value


class _FilmFields(Strict):
    """What a document says of the film itself."""

    shots: Annotated[tuple[Any, ...], BeforeValidator(_listed)]
    model: str = Field(default="mova-base", min_length=1, max_length=MAX_PATH_CHARACTERS)
    size: str | None = None
    sound: Any = "per_shot"
    fade_ms: float = Field(default=0.0, ge=0, le=100, allow_inf_nan=False)


class _ShotFields(Strict):
    """What a document says of a shot beside its request."""

    keep: Annotated[tuple[Kept, ...], BeforeValidator(_listed)] = ()
    retakes: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()


_REQUEST = tuple(name for name in GenerationRequest.model_fields if name not in ("only", "references"))
_FILM_NAMES = (*_FilmFields.model_fields, *(name for name in _REQUEST if name not in OF_ONE_SHOT))
_SHOT_NAMES = (*(name for name in _REQUEST if name not in SHARED), *_ShotFields.model_fields)


def _shot(values: Any, defaults: Mapping[str, Any], *, is_first: bool) -> Shot:
    if not isinstance(values, Mapping):
        raise RequestError(f"a shot is a mapping; got {str(values)[:40]!r}.", "For example {prompt: rain, seconds: 2}.")
    for name in values:
        _check_shot_name(name)
    try:
        own = _ShotFields.model_validate({name: values[name] for name in _ShotFields.model_fields if name in values})
    except ValidationError as error:
        raise explain(error, _SHOT_NAMES) from None
    given = {name: value for name, value in values.items() if name not in _ShotFields.model_fields}
    # a length of the shot's own replaces the film's, whichever of the two names they bear
    has_length = any(given.get(name) is not None for name in (*LENGTHS, *WITH_LENGTH))
    kept = {name: value for name, value in defaults.items() if not (has_length and name in LENGTHS)}
    if "prompt" not in given:
        raise RequestError("prompt is missing.", "Say what to see and hear.", field="prompt")
    request = make_request({**kept, **given})
    _check_keep(request, own.keep, is_first=is_first)
    return Shot(request=request, keep=own.keep, retakes=tuple(parse_take(text) for text in own.retakes))


def _check_keep(request: GenerationRequest, keep: tuple[Kept, ...], *, is_first: bool) -> None:
    if keep and is_first:
        raise RequestError(f"keep: {keep[0]} is of the shot before, and there is none.", "Leave keep out.", field="keep")
    excluded = {"last_frame": ("image", "video"), "sound": ("audio", "video")}
    for kept in keep:
        for name in excluded[kept]:
            if getattr(request, name) is not None:
                raise RequestError(
                    f"keep: {kept} contradicts {name}: both say how the shot begins.", "Leave one of them out.", field="keep"
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


def _size(size: str | None, defaults: Mapping[str, Any]) -> dict[str, int]:
    if size is None:
        return {}
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", size)
    if found is None:
        raise RequestError(f"size must be WIDTHxHEIGHT in pixels; got {size[:40]!r}.", "For example size: 96x96.", field="size")
    if "width" in defaults or "height" in defaults:
        raise RequestError("size and width or height are both given.", "Give one of the two.", field="size")
    return {"width": int(found[1]), "height": int(found[2])}


def _audio(value: Any) -> Literal["per_shot"] | Bed:
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


class _Loader(yaml.SafeLoader):
    """YAML without what a shot list has no use for: aliases, which can stand for more than fits into memory, deep nests,
    and a key given twice, of which the first would be lost without a word."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        mark = self.peek_event().start_mark
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="aliases are not read in shot lists", problem_mark=mark)
        if self.depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem="it is nested too deep for a shot list", problem_mark=mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a field's name must be a word", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value[:40]!r} is given twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)
