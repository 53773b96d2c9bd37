"""What to make: one schema for the library, the command line, the HTTP interface and the metadata inside a
film.

``GenerationRequest`` says what is asked, whatever the model; ``resolve`` checks it against what a model can
make (``ModelWorld``) and fills in the rest (``Plan``). Neither reads weights or imports torch. Nothing is
rounded: what cannot be made as asked is refused with the nearest that can.
"""

from __future__ import annotations

import difflib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import ErrorDetails

from mova.errors import RequestError
from mova.timeline import Timeline, exact_fps, frames_in_seconds

MAX_PROMPT_CHARACTERS = 2000
MAX_SEED = 2**63 - 1
_T = TypeVar("_T")
SolverName = Literal["euler", "heun", "adams"]


class GenerationRequest(BaseModel):
    """What is asked of a model. Unknown fields and wrong types are refused; ``None`` leaves a value to the
    model.

    Raises:
        RequestError: If a field is wrong; the message and ``field`` name it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    prompt: str = Field(description="What to see and hear.", max_length=MAX_PROMPT_CHARACTERS)
    negative_prompt: str = Field(default="", description="What to keep away from.", max_length=MAX_PROMPT_CHARACTERS)
    seed: int | None = Field(default=None, ge=0, le=MAX_SEED, description="Of the film; drawn if not given.")
    audio_seed: int | None = Field(
        default=None,
        ge=0,
        le=MAX_SEED,
        description="Of the sound; follows from the film's seed if not given.",
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
        description="How far picture and sound are bound; 1 is their own.",
    )
    guidance_from: float = Field(
        default=1.0,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Noise level at which guidance begins (1 is pure noise).",
    )
    guidance_to: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False, description="Noise level at which guidance ends.")
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
    audio_shift: float | None = Field(default=None, ge=0.01, le=100, allow_inf_nan=False, description="The same for the sound.")
    solver: SolverName | None = Field(default=None, description="Method of the sampler.")
    audio_sample_rate: int | None = Field(
        default=None, ge=8000, le=96000, description="Samples per second of the finished sound."
    )

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


@dataclass(frozen=True)
class ModelWorld:
    """What a model can make, and what it makes where nothing is asked. Stored as ``world`` in
    ``model_index.json``.

    Args:
        name: How the model is called in messages.
        sizes: Sizes ``(width, height)`` that it makes; empty means any multiple of ``size_multiple``.
        size_multiple: Pixels that width and height must be multiples of.
        default_size: Width and height where none is asked.
        fps_range: Lowest and highest frames per second.
        default_fps: Frames per second where none is asked.
        max_frames: Longest clip, in frames.
        default_frames: Length where none is asked.
        min_grid_frames: Shortest length on which to run the network; shorter clips are cut from it.
        sample_rate: Samples per second of the audio codec.
        audio_hop: Samples per audio latent.
        video_stride: Frames per video latent after the first.
        max_tokens: Tokens of text that the model reads.
        num_inference_steps: Steps where none are asked.
        guidance_scale: Strength of the text where none is asked.
        cross_guidance_scale: The same for the bridge.
        solver: Method of the sampler where none is asked.
        kinds: What the model knows, in a few words each; empty means anything.
    """

    name: str = "this model"
    sizes: tuple[tuple[int, int], ...] = ()
    size_multiple: int = 16
    default_size: tuple[int, int] = (640, 352)
    fps_range: tuple[float, float] = (1.0, 240.0)
    default_fps: float = 24.0
    max_frames: int = 193
    default_frames: int = 193
    min_grid_frames: int = 1
    sample_rate: int = 48000
    audio_hop: int = 960
    video_stride: int = 4
    max_tokens: int = 512
    num_inference_steps: int = 50
    guidance_scale: float = 5.0
    cross_guidance_scale: float = 1.0
    solver: SolverName = "euler"
    kinds: tuple[str, ...] = ()

    def timeline(self, fps: Fraction | None = None) -> Timeline:
        """The clock at a frame rate."""
        return Timeline(
            fps=exact_fps(self.default_fps) if fps is None else fps,
            sample_rate=self.sample_rate,
            video_stride=self.video_stride,
            audio_hop=self.audio_hop,
        )

    @staticmethod
    def from_values(values: Mapping[str, Any]) -> ModelWorld:
        """Of parsed JSON; lists become tuples, unknown keys have no effect."""
        known = {item.name for item in fields(ModelWorld)}
        return ModelWorld(**{name: _as_tuple(value) for name, value in values.items() if name in known})


@dataclass(frozen=True)
class Plan:
    """A request with every value settled for one model.

    Args:
        request: The request, with seeds, length and all scales filled in: run again, it gives the same clip.
        width: Of the picture in pixels.
        height: Of the picture in pixels.
        num_frames: Length of the finished clip.
        grid_frames: Frames that the network makes, of which ``num_frames`` are kept.
        seed: Of the film.
        audio_seed: Of the sound.
        timeline: The clock, at the clip's frame rate.
        sample_rate: Of the finished sound, in Hz.
        num_inference_steps: Steps of the sampler.
        guidance_scale: Strength of the text.
        cross_guidance_scale: Strength of the bridge.
        solver: Method of the sampler.
    """

    request: GenerationRequest
    width: int
    height: int
    num_frames: int
    grid_frames: int
    seed: int
    audio_seed: int
    timeline: Timeline
    sample_rate: int
    num_inference_steps: int
    guidance_scale: float
    cross_guidance_scale: float
    solver: SolverName

    @property
    def num_samples(self) -> int:
        """Samples of the finished sound per channel."""
        return replace(self.timeline, sample_rate=self.sample_rate).samples(self.num_frames)


def make_request(values: Mapping[str, Any]) -> GenerationRequest:
    """A request from a mapping, such as parsed JSON or a command line.

    Raises:
        RequestError: If a field is unknown or wrong.
    """
    return GenerationRequest.model_validate(dict(values))


def resolve(request: GenerationRequest, world: ModelWorld) -> Plan:
    """Settle every value of a request for one model.

    Raises:
        RequestError: If the model cannot make what is asked; the message says what it can, the hint the
            nearest.
    """
    width, height = resolve_size(world, request.width, request.height)
    fps = resolve_fps(world, request.fps)
    num_frames = resolve_length(world, fps, num_frames=request.num_frames, seconds=request.seconds)
    timeline = world.timeline(fps)
    # 32 bits are enough to tell clips apart and short enough to be typed again
    seed = secrets.randbelow(2**32) if request.seed is None else request.seed
    # the two modalities have their own keys: the same number gives different noise
    audio_seed = seed if request.audio_seed is None else request.audio_seed
    plan = Plan(
        request=request,
        width=width,
        height=height,
        num_frames=num_frames,
        grid_frames=grid_frames(world, num_frames),
        seed=seed,
        audio_seed=audio_seed,
        timeline=timeline,
        sample_rate=request.audio_sample_rate or world.sample_rate,
        num_inference_steps=_or(request.num_inference_steps, world.num_inference_steps),
        guidance_scale=_or(request.guidance_scale, world.guidance_scale),
        cross_guidance_scale=_or(request.cross_guidance_scale, world.cross_guidance_scale),
        solver=_or(request.solver, world.solver),
    )
    settled = request.model_copy(
        update={
            "seed": seed,
            "audio_seed": audio_seed,
            "seconds": None,
            "num_frames": num_frames,
            "fps": world.default_fps if request.fps is None else request.fps,
            "width": width,
            "height": height,
            "num_inference_steps": plan.num_inference_steps,
            "guidance_scale": plan.guidance_scale,
            "cross_guidance_scale": plan.cross_guidance_scale,
            "solver": plan.solver,
            "audio_sample_rate": plan.sample_rate,
        }
    )
    return replace(plan, request=settled)


def resolve_size(world: ModelWorld, width: int | None, height: int | None) -> tuple[int, int]:
    """Width and height that the model makes.

    Raises:
        RequestError: If it does not make the asked size; the nearest is named.
    """
    asked = (_or(width, world.default_size[0]), _or(height, world.default_size[1]))
    wrong = "width" if width is not None and (height is None or asked[0] != world.default_size[0]) else "height"
    if world.sizes:
        if asked in world.sizes:
            return asked
        nearest = min(world.sizes, key=lambda size: abs(size[0] - asked[0]) + abs(size[1] - asked[1]))
        allowed = ", ".join(f"{w}x{h}" for w, h in world.sizes)
        raise RequestError(
            f"{wrong}: {world.name} cannot make {asked[0]}x{asked[1]}; it makes {allowed} pixels.",
            f"Use {nearest[0]}x{nearest[1]}, the nearest.",
            field=wrong,
        )
    for name, value in (("width", asked[0]), ("height", asked[1])):
        if value % world.size_multiple:
            nearest_value = max(1, round(value / world.size_multiple)) * world.size_multiple
            raise RequestError(
                f"{name} must be a multiple of {world.size_multiple} for {world.name}; got {value}.",
                f"Use {nearest_value}, the nearest.",
                field=name,
            )
    return asked


def resolve_fps(world: ModelWorld, fps: float | Fraction | None) -> Fraction:
    """Frames per second, exact.

    Raises:
        RequestError: If the model does not make them; the nearest is named.
    """
    asked = exact_fps(world.default_fps if fps is None else fps)
    low, high = (exact_fps(value) for value in world.fps_range)
    if low <= asked <= high:
        return asked
    allowed = f"{float(low):g}" if low == high else f"between {float(low):g} and {float(high):g}"
    nearest = float(min(max(asked, low), high))
    raise RequestError(
        f"fps must be {allowed} for {world.name}; got {float(asked):g}.",
        f"Use {nearest:g}, the nearest.",
        field="fps",
    )


def resolve_length(world: ModelWorld, fps: Fraction, *, num_frames: int | None, seconds: float | None) -> int:
    """Frames of the finished clip.

    Raises:
        RequestError: If the clip is longer than the model makes, or both lengths are given.
    """
    if num_frames is not None and seconds is not None:
        raise _both_lengths()
    limit = Fraction(world.max_frames) / fps
    if seconds is not None:
        frames = frames_in_seconds(seconds, fps)
        if frames > world.max_frames:
            raise RequestError(
                f"seconds must be at most {float(limit):.4f} for {world.name} "
                f"({world.max_frames} frames at {float(fps):g} fps); got {seconds:g}.",
                f"Use {_floor_text(limit)}, the longest.",
                field="seconds",
            )
        return frames
    frames = _or(num_frames, world.default_frames)
    if not 1 <= frames <= world.max_frames:
        raise RequestError(
            f"num_frames must be between 1 and {world.max_frames} for {world.name} "
            f"({float(limit):.4f} s at {float(fps):g} fps); got {frames}.",
            f"Use {min(max(frames, 1), world.max_frames)}, the nearest.",
            field="num_frames",
        )
    return frames


def grid_frames(world: ModelWorld, num_frames: int) -> int:
    """Frames on which to run the network for a clip of ``num_frames``: the next legal length."""
    return world.timeline().next_legal_frames(max(num_frames, world.min_grid_frames))


def explain(error: ValidationError, known: tuple[str, ...]) -> RequestError:
    """The first problem of a failed validation, in one error: the field and the nearest legal value."""
    # an unknown name explains a missing one: it is told first
    problem = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    field = ".".join(str(part) for part in problem["loc"]) or "request"
    if problem["type"] == "extra_forbidden":
        close = difflib.get_close_matches(field, known, n=1, cutoff=0.5)
        hint = f"Did you mean {close[0]}?" if close else f"The fields are {', '.join(known)}."
        return RequestError(f"there is no field {field!r}.", hint, field=field)
    if problem["type"] == "missing":
        return RequestError(f"{field} is missing.", f"Give a {field}.", field=field)
    what, hint = _in_words(problem)
    return RequestError(f"{field} {what}; got {_shown(problem['input'])}.", hint, field=field)


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
        raise _both_lengths()
    if request.guidance_from < request.guidance_to:
        raise RequestError(
            f"guidance_from must not be below guidance_to; got {request.guidance_from} and {request.guidance_to}.",
            "Noise falls during a run: guidance begins at the higher level.",
            field="guidance_from",
        )


def _both_lengths() -> RequestError:
    return RequestError("seconds and num_frames are both given; each is the length.", "Give one of the two.", field="seconds")


def _plain_numbers(data: Any) -> Any:
    """numpy's scalars become Python's, which is what strict types ask for."""
    if not isinstance(data, Mapping):
        return data
    return {
        name: value.item() if type(value).__module__ == "numpy" and hasattr(value, "item") and value.ndim == 0 else value
        for name, value in data.items()
    }


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list | tuple) else value


def _or(value: _T | None, otherwise: _T) -> _T:
    return otherwise if value is None else value


def _floor_text(seconds: Fraction) -> str:
    return f"{int(seconds * 10000) / 10000:g}"
