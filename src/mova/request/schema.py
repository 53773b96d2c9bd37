"""What to make: one schema for the library, the command line, the HTTP interface and the metadata inside a
video.

``GenerationRequest`` says what is asked, whatever the model; :mod:`mova.request.plan` checks it against what a model can
make (:mod:`mova.request.plan`). Nothing is rounded: what cannot be made as asked is refused with the nearest that can.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.functional_validators import ModelWrapValidatorHandler
from pydantic_core import ErrorDetails

from mova.errors import RequestError
from mova.request.solver_names import KnownSolver
from mova.request.terms import TERMS, read_interval

MAX_PROMPT_CHARACTERS = 2000
MAX_SEED = 2**63 - 1
MAX_PATH_CHARACTERS = 4096
Fit = Literal["exact", "crop", "pad", "stretch"]
TextOnly = Literal["white", "unmasked"]
Modality = Literal["audio", "video"]


class Keyframe(BaseModel):
    """A picture at a moment of the video."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    time_s: float = Field(ge=0, allow_inf_nan=False, description="When it is shown, in seconds.")
    image: str = Field(min_length=1, max_length=MAX_PATH_CHARACTERS, description="The picture: a file.")


class Retake(BaseModel):
    """A span of a clip to generate again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    modality: Literal["audio", "video", "both"] = Field(description="Modality to generate again.")
    from_s: float = Field(ge=0, allow_inf_nan=False, description="Beginning of the span, in seconds.")
    to_s: float = Field(gt=0, allow_inf_nan=False, description="End of the span, in seconds.")


class Cue(BaseModel):
    """Something that happens at a moment of the video."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    time_s: float = Field(ge=0, allow_inf_nan=False, description="When it is seen, in seconds.")
    label: str = Field(default="", max_length=64, description="What it is, in a word that the model knows; empty for anything.")


def _field(
    default: Any, group: str, description: str, *, unit: str | None = None, needs: str = "", **limits: Any
) -> Any:  # as pydantic's Field: the annotation says the type
    """A field of the request.

    Args:
        default: Value where nothing is asked; ``None`` leaves it to the model.
        group: Heading under which help lists it.
        description: Noun phrase for help and documentation.
        unit: Unit of the value, if it has one.
        needs: Fact of a model without which the field has no effect, in words.
        limits: Limits, as pydantic's ``Field`` takes them.
    """
    extra: dict[str, Any] = {"group": group} | {name: fact for name, fact in (("unit", unit), ("needs", needs)) if fact}
    if "max_length" not in limits and any(name in limits for name in ("ge", "gt", "le")):
        limits["allow_inf_nan"] = False
    return Field(default=default, description=description, json_schema_extra=extra, **limits)


WHAT, SIZE, SAMPLING, GUIDANCE, GIVEN = "What to make", "Size and length", "Sampling", "Guidance", "What is given"
GROUPS = (WHAT, SIZE, GIVEN, SAMPLING, GUIDANCE)
"""Headings of the fields, in the order of help."""


class GenerationRequest(BaseModel):
    """What is asked of a model. Unknown fields and wrong types are refused; ``None`` leaves a value to the model.

    Raises:
        RequestError: If a field is wrong; the message and ``field`` name it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    prompt: str = Field(
        description="What to see and hear.", max_length=MAX_PROMPT_CHARACTERS, json_schema_extra={"group": WHAT}
    )
    negative_prompt: str = _field("", WHAT, "What to keep away from.", max_length=MAX_PROMPT_CHARACTERS)
    audio_negative_prompt: str | None = _field(
        None, WHAT, "What the audio keeps away from; negative_prompt if not given.", max_length=MAX_PROMPT_CHARACTERS
    )
    seed: int | None = _field(None, WHAT, "Seed of the video; drawn if not given.", ge=0, le=MAX_SEED)
    audio_seed: int | None = _field(None, WHAT, "Seed of the audio; the video's if not given.", ge=0, le=MAX_SEED)
    seconds: float | None = _field(None, SIZE, "Length; excludes num_frames.", unit="seconds", gt=0, le=86400)
    num_frames: int | None = _field(None, SIZE, "Length; excludes seconds.", unit="frames", ge=1, le=10**7)
    fps: float | None = _field(None, SIZE, "Frame rate.", unit="frames per second", ge=1, le=240)
    width: int | None = _field(None, SIZE, "Width.", unit="pixels", ge=16, le=8192)
    height: int | None = _field(None, SIZE, "Height.", unit="pixels", ge=16, le=8192)
    num_inference_steps: int | None = _field(None, SAMPLING, "Sampler steps.", ge=1, le=1000)
    guidance_scale: float | None = _field(None, GUIDANCE, "Strength of the text; 1 is no guidance.", ge=0, le=100)
    cross_guidance_scale: float | None = _field(
        None, GUIDANCE, "Strength of the bridge between video and audio; 1 is no guidance.", ge=0, le=100
    )
    self_guidance_scale: float = _field(0.0, GUIDANCE, "Strength of perturbed-attention guidance; 0 is off.", ge=0, le=100)
    audio_guidance_scale: float | None = _field(
        None, GUIDANCE, "guidance_scale of the audio; the video's if not given.", ge=0, le=100
    )
    audio_cross_guidance_scale: float | None = _field(
        None, GUIDANCE, "cross_guidance_scale of the audio; the video's if not given.", ge=0, le=100
    )
    audio_self_guidance_scale: float | None = _field(
        None, GUIDANCE, "self_guidance_scale of the audio; the video's if not given.", ge=0, le=100
    )
    guidance_from: float = _field(1.0, GUIDANCE, "Noise level at which guidance begins (1 is pure noise).", ge=0, le=1)
    guidance_to: float = _field(0.0, GUIDANCE, "Noise level at which guidance ends.", ge=0, le=1)
    cross_guidance_from: float | None = _field(
        None, GUIDANCE, "guidance_from of cross guidance; guidance_from if not given.", ge=0, le=1
    )
    cross_guidance_to: float | None = _field(
        None, GUIDANCE, "guidance_to of cross guidance; guidance_to if not given.", ge=0, le=1
    )
    self_guidance_from: float | None = _field(
        None, GUIDANCE, "guidance_from of self-guidance; guidance_from if not given.", ge=0, le=1
    )
    self_guidance_to: float | None = _field(
        None, GUIDANCE, "guidance_to of self-guidance; guidance_to if not given.", ge=0, le=1
    )
    guidance_rescale: float = _field(0.0, GUIDANCE, "Share of guidance's gain in contrast that is taken back.", ge=0, le=1)
    shift: float | None = _field(None, SAMPLING, "Timestep shift; above 1, more steps at high noise.", ge=0.01, le=100)
    audio_shift: float | None = _field(None, SAMPLING, "Timestep shift of the audio.", ge=0.01, le=100)
    solver: KnownSolver | None = _field(None, SAMPLING, "Solver of the sampler.")
    audio_sample_rate: int | None = _field(None, SIZE, "Sample rate of the finished audio.", unit="Hz", ge=8000, le=96000)

    cues: tuple[Cue, ...] | None = _field(
        None,
        WHAT,
        "What happens when; planned from the prompt if not given, and left open if empty.",
        needs="cues",
        max_length=256,
        strict=False,
    )

    image: str | None = _field(None, GIVEN, "First frame: an image file.", min_length=1, max_length=MAX_PATH_CHARACTERS)
    last_image: str | None = _field(None, GIVEN, "Last frame: an image file.", min_length=1, max_length=MAX_PATH_CHARACTERS)
    keyframes: tuple[Keyframe, ...] = _field((), GIVEN, "Frames at moments: image files.", max_length=64, strict=False)
    references: tuple[Annotated[str, Field(min_length=1, max_length=MAX_PATH_CHARACTERS)], ...] = _field(
        (),
        GIVEN,
        "Images of what is to be in the video, which goes on from them and does not show them.",
        max_length=8,
        strict=False,
    )
    video: str | None = _field(
        None,
        GIVEN,
        "Video for which audio is made; with extend_s, retake or repaint, the clip to change.",
        min_length=1,
        max_length=MAX_PATH_CHARACTERS,
    )
    audio: str | None = _field(None, GIVEN, "Audio for which a video is made.", min_length=1, max_length=MAX_PATH_CHARACTERS)
    extend_s: float | None = _field(None, GIVEN, "Length to add to the clip given as video.", unit="seconds", gt=0, le=3600)
    extend_at: Literal["end", "start"] = _field("end", GIVEN, "End of the clip at which extend_s is added.")
    retake: Retake | None = _field(None, GIVEN, "Span of the clip given as video to generate again.", strict=False)
    repaint: str | None = _field(
        None,
        GIVEN,
        "Mask, an image: where it is white, the clip given as video is generated again.",
        min_length=1,
        max_length=MAX_PATH_CHARACTERS,
    )
    only: Modality | None = _field(
        None, WHAT, "Modality to write alone: audio or video; both are generated, each with the other."
    )
    fit: Fit = _field("exact", GIVEN, "Treatment of images of another shape: refuse (exact), crop, pad or stretch them.")
    text_only: TextOnly | None = _field(
        None, GIVEN, "Stand-in for a missing first frame, for a model that was trained with one.", needs="a first frame"
    )
    truncate: bool = _field(False, WHAT, "Whether to cut a prompt that has more tokens than the model reads.")
    as_is: bool = _field(
        False,
        WHAT,
        "Whether the network gets the prompt as it is written, not in the wording that it learnt.",
        needs="a prompt reader",
    )

    @property
    def inputs(self) -> tuple[str, ...]:
        """Every name of something that is given, in order of the fields."""
        pictures = (self.image, self.last_image, *(key.image for key in self.keyframes), *self.references)
        names = (*pictures, self.video, self.audio, self.repaint)
        return tuple(name for name in names if name is not None)

    @classmethod
    def check_field(cls, name: str) -> None:
        """Refuse a name that is no field.

        Raises:
            RequestError: If it is none; the nearest is named.
        """
        if name not in cls.model_fields:
            raise _no_field(name, tuple(cls.model_fields))

    @model_validator(mode="wrap")
    @classmethod
    def _explained(cls, data: Any, handler: ModelWrapValidatorHandler[GenerationRequest]) -> GenerationRequest:
        """Every refusal is a RequestError in the words of the project, wherever the request is built."""
        try:
            request = handler(_plain_numbers(data))
        except ValidationError as error:
            raise explain(error, tuple(cls.model_fields)) from None
        if not request.prompt.strip():
            raise RequestError("prompt is empty.", "Say what to see and hear.", field="prompt")
        if request.seconds is not None and request.num_frames is not None:
            raise both_lengths()
        _check_given(request)
        _check_intervals(request)
        return request


def explain(error: ValidationError, known: tuple[str, ...]) -> RequestError:
    """The first problem of a failed validation, in one error: the field and the nearest legal value."""
    # an unknown name explains a missing one: it is reported first
    problem = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    field = ".".join(str(part) for part in problem["loc"]) or "request"
    if problem["type"] == "extra_forbidden":
        return _no_field(field, known)
    if problem["type"] == "missing":
        return RequestError(f"{field} is missing.", f"Give {field}.", field=field)
    what, hint = _in_words(problem)
    return RequestError(f"{field} {what}; got {_shown(problem['input'])}.", hint, field=field)


def _no_field(field: str, known: tuple[str, ...]) -> RequestError:
    close = difflib.get_close_matches(field, known, n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]}?" if close else _listed(known)
    return RequestError(f"there is no field {field!r}.", hint, field=field)


def _listed(known: tuple[str, ...]) -> str:
    """The fields; those that only say more of another one are left to be guessed from it."""
    finer = ("audio_", *(term.prefix for term in TERMS if term.prefix))
    shown = [name for name in known if not any(name.startswith(one) and name.removeprefix(one) in known for one in finer)]
    rest = "; some also with audio_, cross_ or self_ in front" if len(shown) < len(known) else ""
    return f"The fields are {', '.join(shown)}{rest}."


def _in_words(problem: ErrorDetails) -> tuple[str, str]:
    limits = problem.get("ctx", {})
    match problem["type"]:
        case "greater_than_equal":
            return f"must be at least {limits['ge']}", f"Use {limits['ge']}, the nearest."
        case "less_than_equal":
            return f"must be at most {limits['le']}", f"Use {limits['le']}, the nearest."
        case "greater_than":
            return f"must be more than {limits['gt']}", "Give a positive number."
        case "string_too_long":
            return f"must have at most {limits['max_length']} characters", "Shorten it."
        case "literal_error":
            return f"must be one of {limits['expected']}", "Use one of these."
        case "finite_number":
            return "must be a finite number", "Give a number."
        case "int_type" | "int_from_float" | "int_parsing":
            return "must be a whole number", "Give a whole number."
        case "float_type" | "float_parsing":
            return "must be a number", "Give a number."
        case "string_type":
            return "must be text", "Give text."
        case "tuple_type" | "list_type":
            return "must be a list", "Give a list."
        case "dict_type" | "model_type" | "model_attributes_type" | "dataclass_type":
            return "must be a mapping of names to values", "See the fields of GenerationRequest."
        case _:
            return f"is wrong: {problem['msg']}", "See the fields of GenerationRequest."


def _shown(value: Any) -> str:
    text = repr(value)
    if isinstance(value, str) and len(value) > 40:
        return f"{len(value)} characters"
    return text if len(text) <= 60 else text[:57] + "..."


def _check_given(request: GenerationRequest) -> None:
    changes = {"extend_s": request.extend_s, "retake": request.retake, "repaint": request.repaint}
    asked = [name for name, value in changes.items() if value is not None]
    if len(asked) > 1 and request.extend_s is not None:
        raise RequestError(f"{asked[0]} and {asked[1]} are both given.", "Do one after the other.", field=asked[0])
    if asked and request.video is None:
        raise RequestError(f"{asked[0]} needs a clip to change.", "Give it as video.", field="video")
    if request.extend_s is not None and (request.seconds is not None or request.num_frames is not None):
        raise RequestError("extend_s and a length are both given.", "Say how much to add, or leave it out.", field="extend_s")
    if request.video is not None:
        _check_beside_video(request, asked)
    if request.cues and _keeps_video(request, asked):
        raise RequestError("cues contradict video: no picture is made.", "Leave cues out.", field="cues")
    if request.references and request.image is not None:
        raise RequestError(
            "references contradict image: the video goes on from them, or begins with it.", "Leave one out.", field="references"
        )
    _check_only(request, asked)
    if request.retake is not None and request.retake.from_s >= request.retake.to_s:
        raise RequestError(
            f"retake must end after it begins; got {request.retake.from_s:g} to {request.retake.to_s:g} s.",
            "Give the beginning first.",
            field="retake",
        )


def _check_beside_video(request: GenerationRequest, changes: list[str]) -> None:
    """Refuse pictures where no picture is made, and audio where nothing else or the audio itself is made."""
    pictures = [name for name in ("image", "last_image", "keyframes", "references") if getattr(request, name)]
    sounds = ["audio"] if request.audio is not None else []
    retakes = None if request.retake is None else request.retake.modality
    if not changes:
        contradicting, reason = pictures + sounds, "video: a video is given whole"
    elif retakes == "audio" and request.repaint is None:
        contradicting, reason = pictures + sounds, "retake: only the audio of the given video is generated again"
    else:
        contradicting, reason = sounds if retakes in ("audio", "both") else [], "retake: it generates the audio again"
    if contradicting:
        raise RequestError(f"{contradicting[0]} contradicts {reason}.", "Leave one of them out.", field=contradicting[0])


def _keeps_video(request: GenerationRequest, changes: list[str]) -> bool:
    """Whether nothing of the picture is made."""
    retakes = None if request.retake is None else request.retake.modality
    return request.video is not None and (not changes or (retakes == "audio" and request.repaint is None))


def _check_intervals(request: GenerationRequest) -> None:
    for term in TERMS:
        low, high = read_interval(term, dict(request))
        if high < low:
            to_field, from_field = term.interval_fields
            raise RequestError(
                f"{from_field} must not be below {to_field}; got {high} and {low}.",
                "Noise falls during a run: guidance begins at the higher level.",
                field=from_field,
            )


def _check_only(request: GenerationRequest, changes: list[str]) -> None:
    """Refuse to write alone what is given whole: nothing that was made would be in the file."""
    unchanged = "both" if request.repaint is None else "video"
    makes = unchanged if request.retake is None else request.retake.modality
    is_kept = {
        "audio": request.audio is not None or makes == "video",
        "video": (request.video is not None and not changes) or (makes == "audio" and request.repaint is None),
    }
    if request.only is not None and is_kept[request.only]:
        raise RequestError(
            f"only the {request.only} is wanted, and it is given whole: nothing that is made would be written.",
            f"Leave only={request.only} out.",
            field="only",
        )


def _plain_numbers(data: Any) -> Any:
    """numpy's scalars become Python's, which is what strict types ask for."""
    if not isinstance(data, Mapping):
        return data
    return {
        name: value.item() if type(value).__module__ == "numpy" and hasattr(value, "item") and value.ndim == 0 else value
        for name, value in data.items()
    }


def both_lengths() -> RequestError:
    """The refusal of two lengths."""
    return RequestError("seconds and num_frames are both given; each is the length.", "Give one of the two.", field="seconds")
