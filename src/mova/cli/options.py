"""From what was typed to a request, and from a request's fields back to what was typed."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any

from mova.errors import MediaError, RequestError
from mova.files import read_text
from mova.request.schema import GenerationRequest

MAX_PROMPT_FILE_BYTES = 2**20
# how a field of GenerationRequest is typed, where it is not its own name with dashes
FLAGS = {
    "prompt": "PROMPT",
    "num_inference_steps": "--steps",
    "width": "--size",
    "height": "--size",
    "cues": "--cue",
    "keyframes": "--keyframe",
    "references": "--reference",
    "extend_s": "--extend",
    "extend_at": "--extend",
}


def flag(field: str) -> str:
    """The option that sets ``field``."""
    name = field.partition(".")[0]  # a field of a field is typed with it
    return FLAGS.get(name, "--" + name.replace("_", "-"))


def with_flag_names(problem: RequestError) -> RequestError:
    """The same error, with the request's field named as the option that sets it."""
    if not problem.field or (problem.field not in GenerationRequest.model_fields and "there is no field" in problem.message):
        return problem
    message = problem.message
    if message.startswith(problem.field):
        message = message.removeprefix(problem.field).lstrip(":").strip()
    return RequestError(f"{flag(problem.field)}: {name_flags(message)}", problem.hint, field=problem.field)


def with_option_of_file(problem: MediaError, values: Mapping[str, Any]) -> MediaError:
    """The same error, with the option that gave the file in front, where one did."""
    for name in ("image", "last_image", "keyframes", "references", "video", "audio", "repaint"):
        given = values.get(name) or ()
        files = [given] if isinstance(given, str) else [one["image"] if isinstance(one, Mapping) else one for one in given]
        if any(str(file) in problem.message for file in files):
            named = copy(problem)
            named.message = f"{flag(name)}: {problem.message}"
            return named
    return problem


def name_flags(text: str) -> str:
    """The text with the request's fields named as options; only those that cannot be ordinary words."""
    fields = GenerationRequest.model_fields
    return re.sub(r"\b[a-z]+(_[a-z]+)+\b", lambda found: flag(found[0]) if found[0] in fields else found[0], text)


def parse_size(text: str | None) -> tuple[int | None, int | None]:
    """``WIDTHxHEIGHT`` as two numbers.

    Raises:
        RequestError: If it is not of that form.
    """
    if text is None:
        return None, None
    width, by, height = text.lower().partition("x")
    if not (by and width.isascii() and width.isdigit() and height.isascii() and height.isdigit()) or len(text) > 12:
        raise RequestError(f"--size: takes WIDTHxHEIGHT in pixels; got {text[:40]!r}.", "For example --size 96x96.")
    return int(width), int(height)


def parse_keyframes(texts: list[str] | None) -> tuple[dict[str, object], ...] | None:
    """``SECONDS=FILE`` each.

    Raises:
        RequestError: If one is not of that form.
    """
    if not texts:
        return None
    return tuple(
        {"time_s": _seconds(text.partition("=")[0], "--keyframe", text), "image": text.partition("=")[2]} for text in texts
    )


def parse_cues(texts: list[str] | None) -> tuple[dict[str, object], ...] | None:
    """``SECONDS`` or ``SECONDS=LABEL`` each, or ``none`` alone.

    Raises:
        RequestError: If one is not of that form.
    """
    if not texts:
        return None
    if texts == ["none"]:
        return ()
    return tuple({"time_s": _seconds(text.partition("=")[0], "--cue", text), "label": text.partition("=")[2]} for text in texts)


def parse_extend(text: str | None) -> dict[str, object]:
    """``2s`` or ``start:2s`` as fields of a request.

    Raises:
        RequestError: If it is not of that form.
    """
    if text is None:
        return {}
    where, colon, length = text.rpartition(":")
    if colon and where not in ("start", "end"):
        raise RequestError(f"--extend: takes 2s, end:2s or start:2s; got {text[:40]!r}.", "For example --extend 2s.")
    return {"extend_s": _seconds(length.removesuffix("s"), "--extend", text), "extend_at": where or "end"}


def parse_retake(text: str | None) -> dict[str, object] | None:
    """``audio:0.8-1.6`` as a span.

    Raises:
        RequestError: If it is not of that form.
    """
    if text is None:
        return None
    modality, _, span = text.partition(":")
    begin, _, end = span.partition("-")
    return {
        "modality": modality,
        "from_s": _seconds(begin, "--retake", text),
        "to_s": _seconds(end.removesuffix("s"), "--retake", text),
    }


def _seconds(text: str, option: str, whole: str) -> float:
    examples = {"--cue": "0.5=red", "--keyframe": "1.2=picture.png", "--extend": "2s", "--retake": "audio:0.8-1.6"}
    if not re.fullmatch(r"\d{1,5}(\.\d{1,6})?", text):
        raise RequestError(
            f"{option}: takes seconds as in {examples[option]}; got {whole[:40]!r}.",
            f"For example {option} {examples[option]}.",
        )
    return float(text)


def read_prompts(text: str) -> list[str]:
    """The prompt itself; ``-`` reads standard input as one, ``@file`` a file, a prompt a line.

    Raises:
        RequestError: If the file cannot be read, or holds nothing.
    """
    if text == "-":
        # enough to say that a prompt is too long without reading a device for ever
        return ["" if sys.stdin is None else sys.stdin.read(MAX_PROMPT_FILE_BYTES).removeprefix("\ufeff")]
    if not text.startswith("@"):
        return [text]
    path = Path(text[1:])
    try:
        lines = [line.strip() for line in read_text(path, max_bytes=MAX_PROMPT_FILE_BYTES).splitlines()]
    except OSError as error:
        reason = error.strerror or error
        raise RequestError(f"PROMPT: cannot read {path}: {reason}.", "Give a text file, or the prompt itself.") from error
    prompts = [line for line in lines if line]
    if not prompts:
        raise RequestError(f"PROMPT: {path} holds no prompt.", "Write one prompt a line.")
    return prompts


def parse_loras(texts: list[str] | None) -> tuple[tuple[Path, float], ...]:
    """``FILE[:SCALE]`` each, as file and strength; 1 if it is not given.

    Raises:
        RequestError: If a scale is not a finite number.
    """
    return tuple(_parse_lora(text) for text in texts or ())


def _parse_lora(text: str) -> tuple[Path, float]:
    path, colon, typed = text.rpartition(":")
    if not colon or os.path.exists(text) or "/" in typed or "\\" in typed:  # a colon of the path, C:\style
        return Path(text), 1.0
    try:
        scale = float(typed)
    except ValueError:
        scale = math.nan
    if not (path and math.isfinite(scale)):
        raise RequestError(f"--lora: takes FILE or FILE:SCALE; got {text!r}.", "For example --lora style.safetensors:0.6.")
    return Path(path), scale


def number_paths(output: Path, count: int) -> list[Path]:
    """A path for each of several clips.

    Args:
        output: ``out.mp4`` becomes ``out-1.mp4 ... out-n.mp4`` if there are several; the number takes the place of
            ``{index}`` in the name.
        count: Number of clips.
    """
    width = len(str(count))
    if "{index}" in output.name:
        return [output.with_name(output.name.replace("{index}", f"{number:0{width}d}")) for number in range(1, count + 1)]
    if count == 1:
        return [output]
    return [output.with_name(f"{output.stem}-{number:0{width}d}{output.suffix}") for number in range(1, count + 1)]
