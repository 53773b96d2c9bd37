"""The files that a request names, read and fitted to the clip's canvas.

A request holds names. A name is a path, or stands for something in memory that was handed over beside the request
(``memory:`` and the beginning of its SHA-256), so that a recorded request says what it was made from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mova.errors import RequestError
from mova.given import Given, given_pictures
from mova.plan import Canvas
from mova.request import Fit, GenerationRequest

Picture = NDArray[np.uint8]
Memory = Mapping[str, Picture]


def named(value: Any, field: str) -> tuple[str, Picture | None]:
    """The name of a picture, and its pixels if it is in memory.

    Args:
        value: A path, a PIL image, or ``[H, W, 3]`` uint8.
        field: The request's field, for errors.

    Raises:
        RequestError: If it is none of these.
    """
    if isinstance(value, str | Path):
        return str(value), None
    pixels = np.asarray(value.convert("RGB")) if hasattr(value, "convert") else value
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        got = f"{pixels.dtype} {list(pixels.shape)}" if isinstance(pixels, np.ndarray) else type(value).__name__
        raise RequestError(f"{field} must be a path, a PIL image or [H, W, 3] uint8; got {got}.", field=field)
    pixels = np.ascontiguousarray(pixels)
    return f"memory:{hashlib.sha256(pixels.tobytes()).hexdigest()[:16]}", pixels


def remembered(value: Any, field: str, memory: dict[str, Picture]) -> str | None:
    """The name of a picture for a request; one that is in memory is added to ``memory`` under it."""
    if value is None:
        return None
    name, pixels = named(value, field)
    if pixels is not None:
        memory[name] = pixels
    return name


def given_edges(canvas: Canvas, batch: int, image: Any, last_image: Any, *, fit: Fit) -> list[Given]:
    """First and last frames of a batch of clips.

    Args:
        canvas: Of every clip.
        batch: Clips.
        image: ``None``, one picture for all, or a list of one a clip; each a path, a PIL image or ``[H, W, 3]`` uint8.
        last_image: Likewise.
        fit: What to do with pictures of another shape.

    Raises:
        MediaError: If a file cannot be read.
        RequestError: If there are not as many as clips, or one does not fit.
    """
    firsts, lasts = _one_each(image, batch, "image"), _one_each(last_image, batch, "last_image")
    edges = [{"image": first, "last_image": last} for first, last in zip(firsts, lasts, strict=True)]
    return [_pictures({name: value for name, value in edge.items() if value is not None}, canvas, fit, {}) for edge in edges]


def read_given(request: GenerationRequest, canvas: Canvas, memory: Memory) -> Given:
    """Everything that a request gives besides words, on the canvas.

    Raises:
        MediaError: If a file cannot be read.
        RequestError: If what it holds does not fit the clip, or parts contradict each other.
    """
    named_pictures = {name: getattr(request, name) for name in ("image", "last_image") if getattr(request, name) is not None}
    return _pictures(named_pictures, canvas, request.fit, memory)


def _pictures(values: Mapping[str, Any], canvas: Canvas, fit: Fit, memory: Memory) -> Given:
    pictures: dict[int, Picture] = {}
    for field, index in (("image", 0), ("last_image", canvas.num_frames - 1)):
        if field not in values:
            continue
        if index in pictures:
            raise RequestError("a clip of one frame cannot have two pictures.", "Ask for more frames.", field=field)
        name, pixels = named(values[field], field)
        pictures[index] = _fitted(_picture(name, memory) if pixels is None else pixels, canvas, fit, field)
    return given_pictures(canvas, pictures) if pictures else Given()


def _one_each(value: Any, batch: int, field: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        return [value] * batch
    if len(value) != batch:
        raise RequestError(
            f"there are {len(value)} values of {field} for {batch} prompts.", "Give one, or as many.", field=field
        )
    return list(value)


def _picture(name: str, memory: Mapping[str, Picture]) -> Picture:
    from mova.media.image import read_image

    if name in memory:
        return memory[name]
    if name.startswith("memory:"):
        raise RequestError(f"the picture {name} was in memory and is not there.", "Give it again.", field="image")
    return read_image(name)


def _fitted(picture: Picture, canvas: Canvas, fit: Fit, field: str) -> Picture:
    from mova.media.image import fit_image

    if picture.shape[:2] == (canvas.height, canvas.width):
        return picture
    if fit == "exact":
        height, width = picture.shape[:2]
        # another size of the same shape loses nothing of the picture; half a pixel is what rounding may cost
        is_same_shape = abs(width * canvas.height - height * canvas.width) <= max(canvas.width, canvas.height) / 2 + 1
        if not is_same_shape:
            raise RequestError(
                f"{field} is {width}x{height}; the clip is {canvas.width}x{canvas.height}, of another shape.",
                "Say fit=crop, pad or stretch, or choose a size of the same shape.",
                field=field,
            )
        fit = "stretch"
    return fit_image(picture, canvas.width, canvas.height, fit=fit)
