"""What to make: one schema for the library, the command line, the HTTP interface and the metadata inside a
video.

``GenerationRequest`` says what is asked, whatever the model; :mod:`mova.request.plan` checks it against what a model can
make (:mod:`mova.request.capabilities`). Nothing is rounded: what cannot be made as asked is refused with the nearest that can.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import ErrorDetails

from mova.errors import RequestError
from mova.request.capabilities import SolverName, both_lengths

MAX_PROMPT_CHARACTERS = 2000
MAX_SEED = 2**63 - 1
MAX_PATH_CHARACTERS = 4096
Fit = Literal["exact", "crop", "pad", "stretch"]
TextOnly = Literal["white", "unmasked"]
Modality = Literal["audio", "video"]
Term = Literal["", "cross_", "self_"]
TERMS: tuple[Term, ...] = ("", "cross_", "self_")
"""Beginnings of the fields of the terms of guidance: the text's, the bridge's and the model's own."""


class Keyframe(BaseModel):
    """A picture at a moment of the video."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    time_s: float = Field(ge=0, allow_inf_nan=False, description="When it is shown, in seconds.")
    image: str = Field(min_length=1, max_length=MAX_PATH_CHARACTERS, description="The picture: a file.")


class Retake(BaseModel):
    """A span of a clip that is made anew."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    modality: Literal["audio", "video", "both"] = Field(description="What is made anew.")
    from_s: float = Field(ge=0, allow_inf_nan=False, description="Beginning of the span, in seconds.")
    to_s: float = Field(gt=0, allow_inf_nan=False, description="End of the span, in seconds.")


class Cue(BaseModel):
    """Something that happens at a moment of the video."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    time_s: float = Field(ge=0, allow_inf_nan=False, description="When it is seen, in seconds.")
    label: str = Field(default="", max_length=64, description="What it is, in a word that the model knows; empty for anything.")


class GenerationRequest(BaseModel):
    """What is asked of a model. Unknown fields and wrong types are refused; ``None`` leaves a value to the
    model.

    Raises:
        RequestError: If a field is wrong; the message and ``field`` name it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    prompt: str = Field(description="What to see and hear.", max_length=MAX_PROMPT_CHARACTERS)
    negative_prompt: str = Field(default="", description="What to keep away from.", max_length=MAX_PROMPT_CHARACTERS)
    audio_negative_prompt: str | None = Field(
        default=None,
        max_length=MAX_PROMPT_CHARACTERS,
        description="What the audio keeps away from, if not from negative_prompt.",
    )
    seed: int | None = Field(default=None, ge=0, le=MAX_SEED, description="Of the video; drawn if not given.")
    audio_seed: int | None = Field(
        default=None,
        ge=0,
        le=MAX_SEED,
        description="Of the audio; follows from the video's seed if not given.",
    )
    seconds: float | None = Field(default=None, gt=0, le=86400, allow_inf_nan=False, description="Length; excludes num_frames.")
    num_frames: int | None = Field(default=None, ge=1, le=10**7, description="Length; excludes seconds.")
    fps: float | None = Field(default=None, ge=1, le=240, allow_inf_nan=False, description="Frames per second.")
    width: int | None = Field(default=None, ge=16, le=8192, description="Of the picture, in pixels.")
    height: int | None = Field(default=None, ge=16, le=8192, description="Of the picture, in pixels.")
    num_inference_steps: int | None = Field(default=None, ge=1, le=1000, description="Steps of the sampler.")
    guidance_scale: float | None = Field(
        default=None, ge=0, le=100, allow_inf_nan=False, description="Strength of the text; 1 is its own."
    )
    cross_guidance_scale: float | None = Field(
        default=None,
        ge=0,
        le=100,
        allow_inf_nan=False,
        description="How far picture and audio are bound; 1 is their own.",
    )
    self_guidance_scale: float = Field(
        default=0.0,
        ge=0,
        le=100,
        allow_inf_nan=False,
        description="How far the model is led away from its own weak side; 0 is off.",
    )
    audio_guidance_scale: float | None = Field(
        default=None, ge=0, le=100, allow_inf_nan=False, description="guidance_scale of the audio; the video's if not given."
    )
    audio_cross_guidance_scale: float | None = Field(
        default=None,
        ge=0,
        le=100,
        allow_inf_nan=False,
        description="cross_guidance_scale of the audio; the video's if not given.",
    )
    audio_self_guidance_scale: float | None = Field(
        default=None,
        ge=0,
        le=100,
        allow_inf_nan=False,
        description="self_guidance_scale of the audio; the video's if not given.",
    )
    guidance_from: float = Field(
        default=1.0,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Noise level at which guidance begins (1 is pure noise).",
    )
    guidance_to: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False, description="Noise level at which guidance ends.")
    cross_guidance_from: float | None = Field(
        default=None, ge=0, le=1, allow_inf_nan=False, description="The same for cross guidance; guidance_from if not given."
    )
    cross_guidance_to: float | None = Field(
        default=None, ge=0, le=1, allow_inf_nan=False, description="The same for cross guidance; guidance_to if not given."
    )
    self_guidance_from: float | None = Field(
        default=None, ge=0, le=1, allow_inf_nan=False, description="The same for self-guidance; guidance_from if not given."
    )
    self_guidance_to: float | None = Field(
        default=None, ge=0, le=1, allow_inf_nan=False, description="The same for self-guidance; guidance_to if not given."
    )
    guidance_rescale: float = Field(
        default=0.0,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="How far guidance's gain in contrast is taken back.",
    )
    shift: float | None = Field(
        default=None, ge=0.01, le=100, allow_inf_nan=False, description="Above 1: more steps at high noise."
    )
    audio_shift: float | None = Field(default=None, ge=0.01, le=100, allow_inf_nan=False, description="The same for the audio.")
    solver: SolverName | None = Field(default=None, description="Method of the sampler.")
    audio_sample_rate: int | None = Field(
        default=None, ge=8000, le=96000, description="Samples per second of the finished audio."
    )

    cues: tuple[Cue, ...] | None = Field(
        default=None,
        max_length=256,
        strict=False,
        description="What happens when; planned from the prompt if not given, and left open if empty.",
    )

    image: str | None = Field(
        default=None, min_length=1, max_length=MAX_PATH_CHARACTERS, description="Picture that the video begins with: a file."
    )
    last_image: str | None = Field(
        default=None, min_length=1, max_length=MAX_PATH_CHARACTERS, description="Picture that the video ends with: a file."
    )
    keyframes: tuple[Keyframe, ...] = Field(
        default=(), max_length=64, strict=False, description="Pictures at moments of the video."
    )
    references: tuple[Annotated[str, Field(min_length=1, max_length=MAX_PATH_CHARACTERS)], ...] = Field(
        default=(),
        max_length=8,
        strict=False,
        description="Pictures that the video goes on from and does not show: of what is to be in it, files.",
    )
    video: str | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_PATH_CHARACTERS,
        description="Video whose audio is made; with extend_s, retake or repaint, the clip that is changed.",
    )
    audio: str | None = Field(
        default=None, min_length=1, max_length=MAX_PATH_CHARACTERS, description="Audio to which a video is made."
    )
    extend_s: float | None = Field(
        default=None, gt=0, le=3600, allow_inf_nan=False, description="Seconds to add to the clip given as video."
    )
    extend_at: Literal["end", "start"] = Field(default="end", description="Where extend_s are added.")
    retake: Retake | None = Field(default=None, strict=False, description="Span of the clip given as video to make anew.")
    repaint: str | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_PATH_CHARACTERS,
        description="Mask, a picture: what is white is painted anew in the clip given as video.",
    )
    only: Modality | None = Field(
        default=None, description="Write the audio (audio) or the video (video) alone; both are made, each with the other."
    )
    fit: Fit = Field(
        default="exact", description="What to do with a picture of another shape: refuse it (exact), crop, pad or stretch it."
    )
    text_only: TextOnly | None = Field(
        default=None, description="For a model that was trained with a first picture, when none is given: what takes its place."
    )
    truncate: bool = Field(default=False, description="Cut a prompt that has more tokens than the model reads.")

    def guidance_span(self, term: Term = "") -> tuple[float, float]:
        """Lowest and highest noise level at which the text's term, or another, guides."""
        low, high = getattr(self, f"{term}guidance_to"), getattr(self, f"{term}guidance_from")
        return self.guidance_to if low is None else low, self.guidance_from if high is None else high

    @property
    def inputs(self) -> tuple[str, ...]:
        """Every name of something that is given, in order of the fields."""
        pictures = (self.image, self.last_image, *(key.image for key in self.keyframes), *self.references)
        names = (*pictures, self.video, self.audio, self.repaint)
        return tuple(name for name in names if name is not None)

    @model_validator(mode="wrap")
    @classmethod
    def _explained(cls, data: Any, handler: ModelWrapValidatorHandler[GenerationRequest]) -> GenerationRequest:
        """Every refusal is a RequestError in the words of the project, wherever the request is built."""
        try:
            request = handler(_plain_numbers(data))
        except ValidationError as error:
            raise explain(error, tuple(cls.model_fields)) from None
        _check_together(request)
        return request


def make_request(values: Mapping[str, Any]) -> GenerationRequest:
    """A request from a mapping, such as parsed JSON or a command line.

    Raises:
        RequestError: If a field is unknown or wrong.
    """
    return GenerationRequest.model_validate(dict(values))


def explain(error: ValidationError, known: tuple[str, ...]) -> RequestError:
    """The first problem of a failed validation, in one error: the field and the nearest legal value."""
    # an unknown name explains a missing one: it is told first
    problem = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    field = ".".join(str(part) for part in problem["loc"]) or "request"
    if problem["type"] == "extra_forbidden":
        close = difflib.get_close_matches(field, known, n=1, cutoff=0.5)
        hint = f"Did you mean {close[0]}?" if close else _listed(known)
        return RequestError(f"there is no field {field!r}.", hint, field=field)
    if problem["type"] == "missing":
        return RequestError(f"{field} is missing.", f"Give a {field}.", field=field)
    what, hint = _in_words(problem)
    return RequestError(f"{field} {what}; got {_shown(problem['input'])}.", hint, field=field)


def _listed(known: tuple[str, ...]) -> str:
    """The fields; those that only say more of another one are left to be guessed from it."""
    finer = ("audio_", "cross_", "self_")
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
        case _:
            return f"is wrong: {problem['msg']}", "See the fields of GenerationRequest."


def _shown(value: Any) -> str:
    text = repr(value)
    if isinstance(value, str) and len(value) > 40:
        return f"{len(value)} characters"
    return text if len(text) <= 60 else text[:57] + "..."


def _check_together(request: GenerationRequest) -> None:
    if not request.prompt.strip():
        raise RequestError("prompt is empty.", "Say what to see and hear.", field="prompt")
    if request.seconds is not None and request.num_frames is not None:
        raise both_lengths()
    _check_given(request)
    _check_spans(request)


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
        contradicting, reason = pictures + sounds, "retake: of the clip given as video only audio is made anew"
    else:
        contradicting, reason = sounds if retakes in ("audio", "both") else [], "retake: it makes audio anew"
    if contradicting:
        raise RequestError(f"{contradicting[0]} contradicts {reason}.", "Leave one of them out.", field=contradicting[0])


def _keeps_video(request: GenerationRequest, changes: list[str]) -> bool:
    """Whether nothing of the picture is made."""
    retakes = None if request.retake is None else request.retake.modality
    return request.video is not None and (not changes or (retakes == "audio" and request.repaint is None))


def _check_spans(request: GenerationRequest) -> None:
    for term in TERMS:
        low, high = request.guidance_span(term)
        if high < low:
            raise RequestError(
                f"{term}guidance_from must not be below {term}guidance_to; got {high} and {low}.",
                "Noise falls during a run: guidance begins at the higher level.",
                field=f"{term}guidance_from",
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
