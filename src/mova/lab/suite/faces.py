"""Where the speaker's face is in a video: a document beside it, made by any face detector, that LSE needs.

``video.mp4`` has ``video.faces.json``: one box for the whole video, ``[left, top, right, bottom]`` in pixels, or a list of such
boxes, one a frame.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mova.errors import MediaError

SUFFIX = ".faces.json"
MAX_BYTES = 20_000_000
_FORM = "Give [left, top, right, bottom] in pixels, or a list of such boxes, one for each frame."


def faces_path(video: Path) -> Path:
    """Where the document of a video is, if it has one."""
    return video.with_suffix(SUFFIX)


def read_faces(video: Path, *, num_frames: int, width: int, height: int) -> npt.NDArray[np.float64] | None:
    """``[T, 4]`` left, top, right and bottom in pixels for each frame; None if there is no document beside the video.

    Args:
        video: Its file.
        num_frames: Frames that it has.
        width: Width of its picture.
        height: Likewise.

    Raises:
        MediaError: If the document cannot be read, is too large, or its boxes are not boxes within the picture, one for all
            frames or one for each.
    """
    path = faces_path(video)
    boxes = _numbers_in(path)
    if boxes is None:
        return None
    if boxes.ndim == 1:
        boxes = boxes[None]
    if boxes.ndim != 2 or boxes.shape[1] != 4 or len(boxes) not in (1, num_frames):
        shape = " x ".join(map(str, boxes.shape))
        raise MediaError(f"{path.name} holds {shape} numbers; the video has {num_frames} frames.", _FORM)
    low, high = boxes[:, :2], boxes[:, 2:]
    if not ((low >= 0.0) & (low < high) & (high <= (width, height))).all():
        raise MediaError(f"{path.name} holds a box that is none within {width}x{height} pixels.", _FORM)
    return np.repeat(boxes, num_frames, axis=0) if len(boxes) < num_frames else boxes


def _numbers_in(path: Path) -> npt.NDArray[np.float64] | None:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise MediaError(f"cannot read {path.name}: {problem.strerror or problem}.", _FORM) from None
    if len(data) > MAX_BYTES:
        raise MediaError(f"{path.name} has more than {MAX_BYTES} bytes.", _FORM)
    try:
        document = json.loads(data)
        rows = document if isinstance(document[0], list) else [document]
        # the types one by one: numpy would take true and "1" for numbers
        if not all(type(value) in (int, float) for row in rows for value in row):
            raise ValueError("no numbers")
        return np.asarray(document, dtype=np.float64)
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        raise MediaError(f"{path.name} does not hold boxes.", _FORM) from None
