"""Clips into files: encoded beside the target, opened again and checked, then renamed into place.

Picture and audio both start at 0 s. The picture has no B-frames, so no player has to shift it; the samples
that an audio codec needs to warm up (priming) are announced in the container (an edit list in mp4, pre-skip in
WebM) and skipped by every player. Files carry no date, version or random number: the same clip gives the same
bytes.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from mova.errors import MediaError
from mova.files import atomic_write
from mova.media.clip import Clip
from mova.media.gif import write_gif
from mova.media.kinds import FileKind, kind_of, writable_rate
from mova.media.mux import LAYOUTS, mux
from mova.media.probe import MADE_BY, media_info, opened, reason, stream_time

# Picture and audio of a finished file must start within this of each other
MAX_START_OFFSET_S = Fraction(1, 1000)
# These come back from every container here; other names are dropped by some of them
METADATA_NAMES = ("title", "artist", "comment", "copyright", "date", "genre")


@dataclass(frozen=True)
class WrittenFile:
    """What was written, as found when the file was opened again.

    Args:
        path: The file.
        size_bytes: Its size.
        num_frames: Frames in it; 0 in a file of audio alone.
        sample_rate: Rate of its audio in Hz; None in a file without audio. It differs from the clip's where
            the codec does not know the clip's rate.
        start_offset_s: Start of the audio minus start of the picture, in seconds; None unless it holds both.
    """

    path: Path
    size_bytes: int
    num_frames: int
    sample_rate: int | None
    start_offset_s: Fraction | None


def write_clip(
    clip: Clip,
    path: str | Path,
    *,
    overwrite: bool = True,
    crf: int | None = None,
    metadata: Mapping[str, str] | None = None,
) -> WrittenFile:
    """Write ``clip`` to ``path``; the suffix chooses the kind of file.

    ``.mp4`` and ``.mov`` H.264 + AAC 192 kbit/s · ``.webm`` VP9 + Opus · ``.mkv`` H.264 + FLAC (24 bit) ·
    ``.wav`` 16-bit audio alone · ``.gif`` picture alone. The picture is 8-bit 4:2:0 in BT.709, limited range,
    and tagged so. Audio at a rate that the codec does not know is resampled to the next higher one it knows
    (Opus: 48 kHz always, its own rate), on the clock. ``clip.request`` goes into the ``comment`` tag as JSON.

    Args:
        clip: What to write.
        path: Where; the folder must exist.
        overwrite: Replace a file that is there. The old one stays whole until the new one is complete.
        crf: Picture quality, lower is better: H.264 0 to 51 (default 16), VP9 0 to 63 (default 20).
        metadata: Further tags by name: title, artist, comment, copyright, date, genre.

    Raises:
        MediaError: If the suffix, size, folder or tags do not allow it, if a codec or the disk fails, or if
            the finished file, opened again, is not in step or not complete. Nothing is left behind.
    """
    path = Path(path)
    kind = kind_of(path)
    _check_clip(clip, kind, path)
    check_place(path, overwrite)
    quality = checked_crf(kind, crf, path)
    tags = _tags(clip, metadata)
    if kind.audio is not None:
        clip = clip.resampled(writable_rate(kind.audio, clip.sample_rate))
    with beside(path) as temporary:
        if kind.container == "gif":
            write_gif(clip.frames, clip.fps, path=temporary, comment=tags.get("comment"))
        else:
            mux(clip, temporary, kind=kind, crf=quality, tags=tags)
        found = contents(temporary, path)
        fault = _fault(clip, found, kind=kind, tags=tags)
        if fault is not None:
            raise unfit(path, fault)
        size_bytes = temporary.stat().st_size
    return WrittenFile(
        path=path,
        size_bytes=size_bytes,
        num_frames=found.num_frames,
        sample_rate=found.sample_rate,
        start_offset_s=found.start_offset_s,
    )


def check_target(path: str | Path, *, width: int, height: int, overwrite: bool = True) -> None:
    """Refuse a file that could not be written, before the work of making a clip for it.

    Args:
        path: Where the video will go.
        width: Of its picture, in pixels.
        height: Of its picture, in pixels.
        overwrite: Whether a file that is there may be replaced.

    Raises:
        MediaError: If the suffix, the size or the folder does not allow it.
    """
    path = Path(path)
    _check_size(width, height, kind_of(path), path)
    check_place(path, overwrite)


def _check_size(width: int, height: int, kind: FileKind, path: Path) -> None:
    if kind.picture is None or kind.container == "gif":
        return
    for name, size in (("width", width), ("height", height)):
        if size % 2:
            nearest = f"{size - 1} or {size + 1}" if size > 1 else f"{size + 1}"
            raise MediaError(f"cannot write {path}: {name} must be even for 4:2:0 video; got {size}.", f"Use {nearest}.")


def _check_clip(clip: Clip, kind: FileKind, path: Path) -> None:
    _check_size(clip.width, clip.height, kind, path)
    channels = clip.waveform.shape[0]
    if kind.audio is not None and channels not in LAYOUTS:
        raise MediaError(
            f"cannot write {path}: audio must be mono or stereo; got {channels} channels.",
            "Mix it down first.",
        )
    if kind.audio is not None and clip.waveform.shape[1] == 0:
        raise MediaError(f"cannot write {path}: the clip has no samples.")


def check_place(path: Path, overwrite: bool) -> None:
    """Refuse a name that no file can be written under.

    Raises:
        MediaError: If the folder is missing or closed, or the name is taken and ``overwrite`` is False.
    """
    folder = path.parent
    try:
        os.stat(path)
    except FileNotFoundError:
        pass
    except NotADirectoryError:
        pass  # told below, by the folder's name
    except (OSError, ValueError) as error:
        raise MediaError(f"cannot write {str(path)!r}: {reason(error)}.", "Choose another name.") from None
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise MediaError(f"cannot write {path}: the folder {folder} {what}.", f"Make it first: mkdir -p {folder}")
    if path.is_dir():
        raise MediaError(f"cannot write {path}: it is a folder.", "Add a file name.")
    if path.exists() and not overwrite:
        raise MediaError(f"cannot write {path}: it exists.", "Choose another name, or allow overwriting.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise MediaError(f"cannot write {path}: the folder {folder} may not be written to.", "Choose another folder.")


def checked_crf(kind: FileKind, crf: int | None, path: Path) -> int:
    """The quality of a file's picture: as asked, or the codec's own; 0 where it has none.

    Raises:
        MediaError: If the file has no such quality.
    """
    picture = kind.picture
    if crf is None:
        return 0 if picture is None else picture.crf
    if picture is None or picture.max_crf == 0:
        raise MediaError(f"cannot write {path}: {path.suffix} files have no crf; got crf={crf}.", "Leave crf out.")
    if isinstance(crf, bool) or not isinstance(crf, int) or not 0 <= crf <= picture.max_crf:
        raise MediaError(f"cannot write {path}: crf must be a whole number from 0 to {picture.max_crf}; got {crf!r}.")
    return crf


def checked_metadata(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """Tags that every kind of file gives back as they are.

    Raises:
        MediaError: If a name is none of :data:`METADATA_NAMES`, or a value is no text.
    """
    tags = dict(metadata or {})
    for name, value in tags.items():
        if name not in METADATA_NAMES:
            raise MediaError(f"unknown metadata name {name!r}; known are {', '.join(METADATA_NAMES)}.")
        if not isinstance(value, str) or "\0" in value:
            raise MediaError(f"metadata {name!r} must be text without null characters; got {value!r}.")
    return tags


def request_comment(request: Mapping[str, Any], made_by: Mapping[str, Any] | None = None) -> str:
    """A request, and what made the clip, as the ``comment`` tag holds them: JSON that
    :class:`~mova.media.probe.MediaInfo` reads.

    Raises:
        MediaError: If ``request`` holds what JSON cannot.
    """
    try:
        values = dict(request) if made_by is None else {**request, MADE_BY: dict(made_by)}
        return json.dumps(values, ensure_ascii=False, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise MediaError(f"the clip's request cannot be written as JSON: {error}.") from None


def _tags(clip: Clip, metadata: Mapping[str, str] | None) -> dict[str, str]:
    tags = checked_metadata(metadata)
    if clip.request is not None:
        if "comment" in tags:
            raise MediaError("the comment tag holds the clip's request; metadata may not set it too.")
        tags["comment"] = request_comment(clip.request, clip.made_by)
    return tags


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """:func:`mova.files.atomic_write` for a video or audio, with errors as :func:`writing` tells them."""
    with writing(path), atomic_write(path) as temporary:
        yield temporary


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What encoders and the disk say inside is told as an error of ``path``."""
    try:
        yield
    except (av.error.FFmpegError, OSError) as error:
        raise _write_error(path, error) from error


def _write_error(path: Path, error: Exception) -> MediaError:
    """The error that tells why a file could not be written."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return MediaError(f"cannot write {path}: {reason(error)}.", "Free some space, or choose another folder.")
    return MediaError(f"cannot write {path}: {reason(error)}.")


@dataclass
class Contents:
    """What is really in a finished file.

    Args:
        num_frames: Picture packets.
        num_samples: Samples that a player plays.
        sample_rate: In Hz; None without audio.
        picture_start_s: Time of the first frame; None without picture.
        audio_start_s: Time of the first sample that is played; None without audio.
        metadata: The container's tags, names in lower case.
    """

    num_frames: int = 0
    num_samples: int = 0
    sample_rate: int | None = None
    picture_start_s: Fraction | None = None
    audio_start_s: Fraction | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def start_offset_s(self) -> Fraction | None:
        """Start of the audio minus start of the picture; None unless there are both."""
        if self.audio_start_s is None or self.picture_start_s is None:
            return None
        return self.audio_start_s - self.picture_start_s


def contents(temporary: Path, path: Path) -> Contents:
    """Count the frames and decode the audio: only a decoder skips what the container says to skip."""
    try:
        return _counted(temporary)
    except MediaError as error:
        raise unfit(path, error.message.replace(str(temporary), "it").rstrip(".")) from error


def _counted(temporary: Path) -> Contents:
    found = Contents()
    with opened(temporary) as container:
        found.metadata = {name.lower(): value for name, value in container.metadata.items()}
        for packet in container.demux():
            if isinstance(packet.stream, VideoStream):
                found.num_frames += packet.size > 0
                time_s = stream_time(packet.pts, packet.time_base)
                if found.picture_start_s is None or (time_s is not None and time_s < found.picture_start_s):
                    found.picture_start_s = time_s
            elif isinstance(packet.stream, AudioStream):
                for block in packet.stream.decode(packet):
                    if found.sample_rate is None:
                        found.sample_rate = block.sample_rate
                        found.audio_start_s = stream_time(block.pts, block.time_base)
                    found.num_samples += block.samples
        stated_s = None if (audio := media_info(container, temporary).audio) is None else audio.duration_s
        if stated_s is not None and found.sample_rate is not None:
            # a decoder returns the last block whole; players stop at the end that the container states
            found.num_samples = min(found.num_samples, round(stated_s * found.sample_rate))
    return found


def unfit(path: Path, fault: str) -> MediaError:
    """The error for a finished file that is not what it should be."""
    return MediaError(f"{path} could not be written right: {fault}.", "Nothing was kept; please report this.")


def _fault(clip: Clip, found: Contents, *, kind: FileKind, tags: Mapping[str, str]) -> str | None:
    """What is wrong with a finished file, in words; None if it holds the whole clip, in step."""
    starts = []
    if kind.picture is not None:
        if found.num_frames != clip.num_frames:
            return f"it holds {found.num_frames} of {clip.num_frames} frames"
        starts.append(("picture", found.picture_start_s))
    if kind.audio is not None:
        if found.sample_rate != clip.sample_rate:
            return f"its audio is at {found.sample_rate} Hz instead of {clip.sample_rate} Hz"
        # priming that is not announced would show here: the file would play longer than the clip
        if found.num_samples != clip.waveform.shape[1]:
            return f"it plays {found.num_samples} samples instead of {clip.waveform.shape[1]}"
        # an audio file alone needs no timestamps
        starts.append(("sound", found.audio_start_s if kind.picture is not None else Fraction(0)))
    for name, start_s in starts:
        if start_s is None or abs(start_s) > MAX_START_OFFSET_S:
            when = "at an unknown time" if start_s is None else f"at {float(start_s):.4f} s"
            return f"its {name} starts {when} instead of 0 s"
    lost = [name for name, value in tags.items() if found.metadata.get(name) != value]
    return f"the metadata {', '.join(lost)} does not come back as given" if lost else None
