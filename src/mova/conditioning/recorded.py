"""What a file says of how it was made, checked when it is read: it may come from anyone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mova.errors import MediaError, RequestError
from mova.media.probe import MADE_BY, MediaInfo
from mova.request.schema import MAX_PATH_CHARACTERS, GenerationRequest

MAX_SHOTS = 1000
_Name = Annotated[str, Field(max_length=MAX_PATH_CHARACTERS)]
_Number = Annotated[float, Field(allow_inf_nan=False)]


class _Open(BaseModel):
    """Fields that are known have their types; a later version may have written others."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)


class _Lora(_Open):
    name: _Name = ""
    scale: _Number = 1.0
    file: _Name | None = None
    hash: _Name = ""


class _MadeBy(_Open):
    mova: _Name | None = None
    model: _Name | None = None
    weights: _Name | None = None
    dtype: _Name = "auto"
    quantisation: _Name = "none"
    schedule: dict[str, Any] | None = None
    inputs: dict[_Name, _Name] | None = None
    loras: list[_Lora] | dict[_Name, _Number] | None = None  # the second is an older form
    cues: list[Annotated[tuple[_Number, _Name], Field(strict=False)]] | None = None


class _Film(_Open):
    model: _Name | None = None
    shots: list[dict[str, Any]] = Field(max_length=MAX_SHOTS)


class Record(NamedTuple):
    """How a file was made.

    Args:
        request: Fields of the request; of a video of shots, each of them.
        made_by: Version, model, weights and inputs.
    """

    request: dict[str, Any]
    made_by: dict[str, Any]

    @property
    def is_film(self) -> bool:
        """Whether it is a video of several shots."""
        return "shots" in self.request


def read_record(info: MediaInfo) -> Record | None:
    """The record in a media file, checked; ``None`` if there is none.

    Raises:
        MediaError: If a field of it is not what this version or an earlier one writes.
    """
    if info.record is None or info.request is None:
        return None
    try:
        check_record(info.request, info.record.get(MADE_BY))
    except ValueError as error:
        raise MediaError(f"{info.path}: its request is broken: {error}.", "Give a file as mova wrote it.") from None
    return Record(info.request, dict(info.made_by or {}))


def check_record(request: Mapping[str, Any], made_by: object) -> None:
    """Check a request and what made it, as plain JSON values.

    Raises:
        ValueError: If a field is wrong; the message names it.
    """
    try:
        if "shots" in request:
            _Film.model_validate(dict(request))
        else:
            if empty := [name for name, value in request.items() if value is None]:
                raise ValueError(f"{empty[0]} is null, which is never written")
            GenerationRequest.model_validate(request)
        if made_by is not None:
            loras = _MadeBy.model_validate(made_by).loras
            if isinstance(loras, list) and any(lora.file is not None and not lora.hash for lora in loras):
                raise ValueError("loras: one has a file and no hash of it")
    except RequestError as error:
        raise ValueError(error.message.rstrip(".")) from None
    except ValidationError as error:  # which is a ValueError of more lines
        problem = error.errors()[0]
        # a part with a bracket names one of several types that a field may have
        where = ".".join(str(part)[:80] for part in problem["loc"] if "[" not in str(part)) or "made_by"
        raise ValueError(f"{where}: {problem['msg']}") from None
