"""Write a clip without audio; used only on request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mova.errors import MediaError
from mova.media.clip import Clip
from mova.media.encode import WrittenFile, check_crf, check_metadata, check_target, encode_file, request_comment
from mova.media.kinds import file_kind


def write_silent(
    clip: Clip,
    path: str | Path,
    *,
    overwrite: bool = True,
    crf: int | None = None,
    metadata: Mapping[str, str] | None = None,
) -> WrittenFile:
    """Write the video of ``clip`` without an audio stream, otherwise as :func:`mova.media.encode.write_clip`.

    Args:
        clip: Clip whose frames are written.
        path: Path of the file: ``.mp4``, ``.mov``, ``.webm`` or ``.mkv``; its folder must exist.
        overwrite: Whether an existing file is replaced. It stays intact until the new one is complete.
        crf: Video quality, lower is better.
        metadata: Further tags by name.

    Raises:
        MediaError: As in ``write_clip``. No file is left behind.
    """
    path = Path(path)
    check_target(path, width=clip.width, height=clip.height, overwrite=overwrite)
    kind = replace(file_kind(path), audio=None)
    if kind.video is None:
        raise MediaError(
            f"cannot write {path}: {path.suffix} files cannot hold video.", f"Use {path.with_suffix('.mp4').name}."
        )
    quality = check_crf(kind, crf, path)
    tags = check_metadata(metadata)
    if clip.request is not None:
        tags["comment"] = request_comment(clip.request, clip.made_by)
    return encode_file(clip, path, kind=kind, crf=quality, tags=tags)
