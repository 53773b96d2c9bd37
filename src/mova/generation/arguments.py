"""From the keyword arguments of :meth:`MOVAModel.generate` to a request, and what its names stand for in memory."""

from __future__ import annotations

from typing import Any, cast

from mova.conditioning.sources import name_of, name_of_audio
from mova.errors import RequestError
from mova.request.arguments import RequestArguments, check_names
from mova.request.schema import GenerationRequest, make_request

DESCRIPTIONS = {
    "cues": "What happens when: (seconds, label) each, of ``capabilities.cues`` or an empty label; planned from the prompt "
    "if not given, and left open if empty.",
    "image": "First frame: a path, a PIL image or ``[H, W, 3]`` uint8.",
    "last_image": "Last frame, likewise.",
    "keyframes": "Frames at moments: seconds to image.",
    "audio": "Audio for which a video is made: a path, or ``(waveform [channels, samples], sample_rate)``.",
    "retake": "Modality, begin and end in seconds of the span of the clip given as video to generate again.",
}
"""Descriptions of arguments that take more in Python than in a request."""
_NAMES = tuple(name for name in GenerationRequest.model_fields if name != "prompt")


def request_of(prompt: str, arguments: RequestArguments) -> tuple[GenerationRequest, dict[str, Any]]:
    """The request of keyword arguments, and what its names stand for where they are no files.

    Args:
        prompt: What to see and hear.
        arguments: The others.

    Raises:
        RequestError: If an argument is unknown or wrong.
    """
    check_names(cast("dict[str, Any]", arguments), _NAMES)
    memory: dict[str, Any] = {}
    values: dict[str, Any] = {"prompt": prompt, **arguments}
    for name in ("image", "last_image", "repaint"):
        if name in values:
            values[name] = name_of(values[name], name, memory)
    if values.get("video") is not None:
        values["video"] = str(values["video"])
    if "audio" in values:
        values["audio"] = name_of_audio(values["audio"], "audio", memory)
    if "references" in values:
        values["references"] = tuple(name_of(one, "references", memory) or "" for one in values["references"])
    if "keyframes" in values:
        shown = (values["keyframes"] or {}).items()
        values["keyframes"] = tuple(
            {"time_s": time_s, "image": name_of(image, "keyframes", memory) or ""} for time_s, image in shown
        )
    if values.get("cues") is not None:
        values["cues"] = tuple(_named(("time_s", "label"), cue, "cues", '(0.5, "red")') for cue in values["cues"])
    if values.get("retake") is not None:
        values["retake"] = _named(("modality", "from_s", "to_s"), values["retake"], "retake", '("audio", 0.8, 1.6)')
    return make_request(values), memory


def _named(names: tuple[str, ...], value: Any, field: str, example: str) -> dict[str, Any]:
    """A tuple as the fields of a part of a request.

    Raises:
        RequestError: If it has another form.
    """
    if not isinstance(value, tuple | list) or len(value) != len(names):
        raise RequestError(f"{field} must be given as {example}; got {str(value)[:40]!r}.", f"Give {example}.", field=field)
    return dict(zip(names, value, strict=True))
