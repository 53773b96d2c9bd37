"""A video without audio: written only where that was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from mova.errors import MediaError
from mova.media.clip import Clip
from mova.media.encode import (
    MAX_START_OFFSET_S,
    WrittenFile,
    beside,
    check_target,
    checked_crf,
    checked_metadata,
    contents,
    request_comment,
    unfit,
)
from mova.media.kinds import kind_of
from mova.media.mux import mux


def write_silent(
    clip: Clip,
    path: str | Path,
    *,
    overwrite: bool = True,
    crf: int | None = None,
    metadata: Mapping[str, str] | None = None,
) -> WrittenFile:
    """Write the picture of ``clip`` with no audio stream beside it, otherwise as :func:`mova.media.encode.write_clip`.

    Args:
        clip: Whose picture to write.
        path: Where: ``.mp4``, ``.mov``, ``.webm`` or ``.mkv``.
        overwrite: Replace a file that is there. The old one stays whole until the new one is complete.
        crf: Picture quality, lower is better.
        metadata: Further tags by name.

    Raises:
        MediaError: As ``write_clip``. Nothing is left behind.
    """
    path = Path(path)
    check_target(path, width=clip.width, height=clip.height, overwrite=overwrite)
    kind = replace(kind_of(path), audio=None)
    if kind.picture is None:
        raise MediaError(f"cannot write {path}: {path.suffix} files hold no video.", f"Use {path.with_suffix('.mp4').name}.")
    quality = checked_crf(kind, crf, path)
    tags = checked_metadata(metadata)
    if clip.request is not None:
        tags["comment"] = request_comment(clip.request, clip.made_by)
    with beside(path) as temporary:
        mux(clip, temporary, kind=kind, crf=quality, tags=tags)
        found = contents(temporary, path)
        if found.num_frames != clip.num_frames:
            raise unfit(path, f"it holds {found.num_frames} of {clip.num_frames} frames")
        if abs(found.picture_start_s or Fraction(0)) > MAX_START_OFFSET_S:
            raise unfit(path, f"its picture starts at {float(found.picture_start_s or 0):.4f} s instead of 0 s")
        lost = [name for name, value in tags.items() if found.metadata.get(name) != value]
        if lost:
            raise unfit(path, f"the metadata {', '.join(lost)} does not come back as given")
        size_bytes = temporary.stat().st_size
    return WrittenFile(path, size_bytes, found.num_frames, sample_rate=None, start_offset_s=None)
