"""The fields of a request as keyword arguments: what type checkers and editors read, and help and ``inspect`` show.

The schema (:class:`mova.request.schema.GenerationRequest`) is the one source of names, defaults and descriptions; the types
here differ from it only where Python has something nicer than JSON (an image in memory, a mapping of key frames).
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar

from mova.errors import RequestError
from mova.request.schema import Fit, GenerationRequest, Modality, TextOnly
from mova.request.solver_names import SolverName

ImageLike = Any
"""A path, a PIL image, or an array ``[H, W, 3]`` uint8."""
AudioLike = Any
"""A path, or ``(waveform [channels, samples] float32 in [-1, 1], sample_rate)``."""
CueLike = tuple[float, str | None] | tuple[float] | float | str
"""``(seconds, label)``, ``seconds``, or what is typed on the command line: ``"0.5=red"``."""
_Function = TypeVar("_Function", bound=Callable[..., Any])


class SamplingArguments(TypedDict, total=False):
    """Arguments that :meth:`MOVAModel.generate` and :meth:`MOVAPipeline.__call__` share."""

    height: int | None
    width: int | None
    num_frames: int | None
    fps: float | None
    num_inference_steps: int | None
    guidance_scale: float | None
    cross_guidance_scale: float | None
    self_guidance_scale: float
    audio_guidance_scale: float | None
    audio_cross_guidance_scale: float | None
    audio_self_guidance_scale: float | None
    shift: float | None
    audio_shift: float | None
    fit: Fit
    text_only: TextOnly | None
    truncate: bool
    as_is: bool


class RequestArguments(SamplingArguments, total=False):
    """Keyword arguments of :meth:`MOVAModel.generate`: the fields of :class:`GenerationRequest`."""

    negative_prompt: str
    audio_negative_prompt: str | None
    seed: int | None
    audio_seed: int | None
    seconds: float | None
    guidance_from: float
    guidance_to: float
    cross_guidance_from: float | None
    cross_guidance_to: float | None
    self_guidance_from: float | None
    self_guidance_to: float | None
    guidance_rescale: float
    solver: SolverName | str | None
    audio_sample_rate: int | None
    cues: Sequence[CueLike] | CueLike | None
    image: ImageLike
    last_image: ImageLike
    keyframes: Mapping[float, ImageLike] | None
    references: Sequence[ImageLike]
    video: str | Path | None
    audio: AudioLike
    extend_s: float | None
    extend_at: Literal["end", "start"]
    retake: tuple[Literal["audio", "video", "both"], float, float] | None
    repaint: ImageLike
    only: Modality | None


def show_arguments(arguments: Any, *, others: Mapping[str, str] | None = None) -> Callable[[_Function], _Function]:
    """Give a function with ``**arguments`` the signature and the argument docs of its fields.

    Args:
        arguments: A ``TypedDict`` whose names are fields of :class:`GenerationRequest`, or are in ``others``.
        others: Descriptions of arguments that are no fields of a request.
    """

    def decorate(function: _Function) -> _Function:
        fields = GenerationRequest.model_fields
        named = [one for one in inspect.signature(function).parameters.values() if one.kind is not one.VAR_KEYWORD]
        last = [one for one in named if one.kind is one.KEYWORD_ONLY]
        parameters = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=fields[name].get_default() if name in fields else None,
                annotation=hint,
            )
            for name, hint in arguments.__annotations__.items()
        ]
        result = inspect.signature(function).return_annotation
        first = [one for one in named if one not in last]
        function.__signature__ = inspect.Signature([*first, *parameters, *last], return_annotation=result)  # type: ignore[attr-defined]
        texts = dict(others or {})
        for name in arguments.__annotations__.keys() - texts.keys():
            extra = fields[name].json_schema_extra
            unit = extra.get("unit") if isinstance(extra, dict) else None
            texts[name] = f"{fields[name].description}" + (f" In {unit}." if unit else "")
        lines = "\n".join(f"            {name}: {texts[name]}" for name in arguments.__annotations__)
        function.__doc__ = (function.__doc__ or "").replace("            arguments: ", f"{lines}\n            arguments: ", 1)
        return function

    return decorate


def check_names(given: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuse an argument that a function does not have.

    Raises:
        RequestError: With the nearest name.
    """
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"Did you mean {close[0]}?" if close else f"The arguments are {', '.join(known)}."
            raise RequestError(f"there is no argument {name!r}.", hint, field=name)
