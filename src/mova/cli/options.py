"""From what was typed to a request, and from a request's fields back to what was typed."""

from __future__ import annotations

import re
from pathlib import Path

from mova.errors import RequestError

# how a field of GenerationRequest is typed, where it is not its own name with dashes
FLAGS = {
    "prompt": "PROMPT",
    "num_inference_steps": "--steps",
    "width": "--size",
    "height": "--size",
}


def flag(field: str) -> str:
    """The option that sets ``field``."""
    return FLAGS.get(field, "--" + field.replace("_", "-"))


def in_typed_words(problem: RequestError) -> RequestError:
    """The same error, with the request's field named as the option that sets it."""
    if problem.field is None or not problem.field:
        return problem
    message = problem.message
    if message.startswith(problem.field):
        message = message.removeprefix(problem.field).lstrip(":").strip()
    # other fields that the message names; only those that cannot be ordinary words of it
    message = re.sub(r"\b[a-z]+(_[a-z]+)+\b", lambda found: flag(found[0]), message)
    return RequestError(f"{flag(problem.field)}: {message}", problem.hint, field=problem.field)


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


def read_prompt(text: str) -> str:
    """The prompt itself; ``-`` reads standard input, ``@file`` a file.

    Raises:
        RequestError: If the file cannot be read.
    """
    import sys

    limit = 20_000  # characters: enough to say that a prompt is too long without reading a device for ever
    if text == "-":
        return sys.stdin.read(limit)
    if text.startswith("@"):
        path = Path(text[1:])
        try:
            with open(path, encoding="utf-8") as handle:
                return handle.read(limit)
        except (OSError, UnicodeDecodeError) as error:
            raise RequestError(f"PROMPT: cannot read {path}: {error}", "Give a text file, or the prompt itself.") from error
    return text


def numbered(output: Path, count: int) -> list[Path]:
    """``out.mp4``, or ``out-1.mp4 ... out-n.mp4`` for several clips."""
    if count == 1:
        return [output]
    width = len(str(count))
    return [output.with_name(f"{output.stem}-{i:0{width}d}{output.suffix}") for i in range(1, count + 1)]
