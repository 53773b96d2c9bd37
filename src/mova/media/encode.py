"""Write clips to files: encoded under a temporary name, opened again and checked, then renamed.

Video and audio both start at 0 s. The video has no B-frames, so no player has to shift it; the samples that an audio
codec needs to warm up (priming) are announced in the container (an edit list in mp4, pre-skip in WebM) and skipped by
every player. Files contain no date, version or random number: the same clip gives the same bytes.
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
from mova.media.kinds import FileKind, file_kind, writable_rate
from mova.media.mux import LAYOUTS, mux
from mova.media.probe import MADE_BY, media_info, open_container, reason, stream_time

# Largest allowed difference between the starts of video and audio in a finished file
MAX_START_OFFSET_S = Fraction(1, 1000)
# Tags that every container here preserves; some of them drop others
METADATA_NAMES = ("title", "artist", "comment", "copyright", "date", "genre")


@dataclass(frozen=True)
class WrittenFile:
    """A written file, as measured when it was opened again.

    Args:
        path: The file.
        size_bytes: Size in bytes.
        num_frames: Number of frames; 0 in an audio file.
        sample_rate: Sample rate of the audio in Hz; None without audio. It differs from the clip's if the codec does not
            support that rate.
        start_offset_s: Start of the audio minus start of the video, in seconds; None unless the file holds both.
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
    """Write ``clip`` to ``path``; the suffix selects the file type.

    ``.mp4`` and ``.mov``: H.264 and AAC at 192 kbit/s; ``.webm``: VP9 and Opus; ``.mkv``: H.264 and FLAC (24 bits);
    ``.wav``: 16-bit audio only; ``.gif``: video only. The video is 8-bit 4:2:0 in BT.709, limited range, and tagged so.
    Audio at a rate that the codec does not support is resampled to the next higher rate that it supports (Opus: always
    48 kHz, its own rate), on the clock. ``clip.request`` is stored in the ``comment`` tag as JSON.

    Args:
        clip: Clip to write.
        path: Path of the file; its folder must exist.
        overwrite: Whether an existing file is replaced. It stays intact until the new one is complete.
        crf: Video quality, lower is better: H.264 0 to 51 (default 16), VP9 0 to 63 (default 20).
        metadata: Further tags by name: title, artist, comment, copyright, date, genre.

    Raises:
        MediaError: If the suffix, size, folder or tags do not allow it, if a codec or the disk fails, or if the finished
            file, opened again, is incomplete or out of step. No file is left behind.
    """
    path = Path(path)
    kind = file_kind(path)
    _check_clip(clip, kind, path)
    check_place(path, overwrite)
    quality = check_crf(kind, crf, path)
    tags = _tags(clip, metadata)
    if kind.audio is not None:
        clip = clip.resampled(writable_rate(kind.audio, clip.sample_rate))
    return encode_file(clip, path, kind=kind, crf=quality, tags=tags)


def encode_file(clip: Clip, path: Path, *, kind: FileKind, crf: int, tags: Mapping[str, str]) -> WrittenFile:
    """Encode a clip under a temporary name, check the file, and rename it.

    Args:
        clip: Clip to write, at a sample rate that the audio codec supports.
        path: Path of the file.
        kind: Container and codecs.
        crf: Video quality.
        tags: Metadata of the container.

    Raises:
        MediaError: If a codec or the disk fails, or if the finished file is incomplete or out of step.
    """
    with write_media(path) as temporary:
        if kind.container == "gif":
            write_gif(clip.frames, clip.fps, path=temporary, comment=tags.get("comment"))
        else:
            mux(clip, temporary, kind=kind, crf=crf, tags=tags)
        found = read_contents(temporary, path)
        fault = _fault(clip, found, kind=kind, tags=tags)
        if fault is not None:
            raise verification_error(path, fault)
        size_bytes = temporary.stat().st_size
    return WrittenFile(path, size_bytes, found.num_frames, found.sample_rate, found.start_offset_s)


def check_target(path: str | Path, *, width: int, height: int, overwrite: bool = True) -> None:
    """Refuse a file that could not be written, before a clip is generated for it.

    Args:
        path: Path of the file.
        width: Width of the video in pixels.
        height: Height of the video in pixels.
        overwrite: Whether an existing file may be replaced.

    Raises:
        MediaError: If the suffix, the size or the folder does not allow it.
    """
    path = Path(path)
    _check_size(width, height, file_kind(path), path)
    check_place(path, overwrite)


def _check_size(width: int, height: int, kind: FileKind, path: Path) -> None:
    if kind.video is None or kind.container == "gif":
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
    """Refuse a path that no file can be written to.

    Raises:
        MediaError: If the folder is missing or not writable, or if the file exists and ``overwrite`` is False.
    """
    folder = path.parent
    try:
        os.stat(path)
    except FileNotFoundError:
        pass
    except NotADirectoryError:
        pass  # reported below, with the folder's name
    except (OSError, ValueError) as error:
        raise MediaError(f"cannot write {str(path)!r}: {reason(error)}.", "Choose another name.") from None
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise MediaError(f"cannot write {path}: the folder {folder} {what}.", f"Create it first: mkdir -p {folder}")
    if path.is_dir():
        raise MediaError(f"cannot write {path}: it is a folder.", "Add a file name.")
    if path.exists() and not overwrite:
        raise MediaError(f"cannot write {path}: the file exists.", "Choose another name, or allow overwriting.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise MediaError(f"cannot write {path}: no permission to write to the folder {folder}.", "Choose another folder.")


def check_crf(kind: FileKind, crf: int | None, path: Path) -> int:
    """Return the quality to encode with: ``crf`` if given, else the codec's default; 0 for files without one.

    Raises:
        MediaError: If this type of file does not support the quality.
    """
    video = kind.video
    if crf is None:
        return 0 if video is None else video.crf
    if video is None or video.max_crf == 0:
        raise MediaError(f"cannot write {path}: crf does not apply to {path.suffix} files; got crf={crf}.", "Leave crf out.")
    if isinstance(crf, bool) or not isinstance(crf, int) or not 0 <= crf <= video.max_crf:
        raise MediaError(f"cannot write {path}: crf must be an integer from 0 to {video.max_crf}; got {crf!r}.")
    return crf


def check_metadata(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """Return the tags, of which every file type preserves name and value.

    Raises:
        MediaError: If a name is not one of :data:`METADATA_NAMES`, or a value is not text.
    """
    tags = dict(metadata or {})
    for name, value in tags.items():
        if name not in METADATA_NAMES:
            raise MediaError(f"unknown metadata name {name!r}; known are {', '.join(METADATA_NAMES)}.")
        if not isinstance(value, str) or "\0" in value:
            raise MediaError(f"metadata {name!r} must be text without null characters; got {value!r}.")
    return tags


def request_comment(request: Mapping[str, Any], made_by: Mapping[str, Any] | None = None) -> str:
    """Encode a request, and what the clip was made by, as the JSON of the ``comment`` tag.

    :class:`~mova.media.probe.MediaInfo` reads it.

    Raises:
        MediaError: If ``request`` holds values that JSON cannot represent.
    """
    try:
        values = dict(request) if made_by is None else {**request, MADE_BY: dict(made_by)}
        return json.dumps(values, ensure_ascii=False, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise MediaError(f"the clip's request cannot be written as JSON: {error}.") from None


def _tags(clip: Clip, metadata: Mapping[str, str] | None) -> dict[str, str]:
    tags = check_metadata(metadata)
    if clip.request is not None:
        if "comment" in tags:
            raise MediaError("the comment tag is used for the clip's request; metadata cannot set it.")
        tags["comment"] = request_comment(clip.request, clip.made_by)
    return tags


@contextmanager
def write_media(path: Path) -> Iterator[Path]:
    """Write a video or audio file as :func:`mova.files.atomic_write` does, with errors as :class:`MediaError`."""
    with raise_media_errors(path), atomic_write(path) as temporary:
        yield temporary


@contextmanager
def raise_media_errors(path: Path) -> Iterator[None]:
    """Raise errors of encoders and of the disk as :class:`MediaError` that names ``path``."""
    try:
        yield
    except (av.error.FFmpegError, OSError) as error:
        raise _write_error(path, error) from error


def _write_error(path: Path, error: Exception) -> MediaError:
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return MediaError(f"cannot write {path}: {reason(error)}.", "Free some space, or choose another folder.")
    return MediaError(f"cannot write {path}: {reason(error)}.")


@dataclass
class FileContents:
    """The measured contents of a finished file.

    Args:
        num_frames: Number of video packets.
        num_samples: Number of samples that a player plays.
        sample_rate: Sample rate in Hz; None without audio.
        video_start_s: Time of the first frame in seconds; None without video.
        audio_start_s: Time of the first sample that is played, in seconds; None without audio.
        metadata: Tags of the container, names in lower case.
    """

    num_frames: int = 0
    num_samples: int = 0
    sample_rate: int | None = None
    video_start_s: Fraction | None = None
    audio_start_s: Fraction | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def start_offset_s(self) -> Fraction | None:
        """Start of the audio minus start of the video, in seconds; None unless there are both."""
        if self.audio_start_s is None or self.video_start_s is None:
            return None
        return self.audio_start_s - self.video_start_s


def read_contents(temporary: Path, path: Path) -> FileContents:
    """Count the frames and decode the audio of a file: only a decoder skips what the container marks as skipped."""
    try:
        return _count_contents(temporary)
    except MediaError as error:
        raise verification_error(path, error.message.replace(str(temporary), "it").rstrip(".")) from error


def _count_contents(temporary: Path) -> FileContents:
    found = FileContents()
    with open_container(temporary) as container:
        found.metadata = {name.lower(): value for name, value in container.metadata.items()}
        for packet in container.demux():
            if isinstance(packet.stream, VideoStream):
                found.num_frames += packet.size > 0
                time_s = stream_time(packet.pts, packet.time_base)
                if found.video_start_s is None or (time_s is not None and time_s < found.video_start_s):
                    found.video_start_s = time_s
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


def verification_error(path: Path, fault: str) -> MediaError:
    """Return the error for a finished file that failed its check."""
    return MediaError(f"{path} could not be written correctly: {fault}.", "The file was removed; please report this.")


def _fault(clip: Clip, found: FileContents, *, kind: FileKind, tags: Mapping[str, str]) -> str | None:
    """Describe what is wrong with a finished file; None if it holds the whole clip, in step."""
    starts = []
    if kind.video is not None:
        if found.num_frames != clip.num_frames:
            return f"it holds {found.num_frames} of {clip.num_frames} frames"
        starts.append(("video", found.video_start_s))
    if kind.audio is not None:
        if found.sample_rate != clip.sample_rate:
            return f"its audio is at {found.sample_rate} Hz instead of {clip.sample_rate} Hz"
        # priming that is not announced would show here: the file would play longer than the clip
        if found.num_samples != clip.waveform.shape[1]:
            return f"it plays {found.num_samples} samples instead of {clip.waveform.shape[1]}"
        # an audio file alone needs no timestamps
        starts.append(("audio", found.audio_start_s if kind.video is not None else Fraction(0)))
    for name, start_s in starts:
        if start_s is None or abs(start_s) > MAX_START_OFFSET_S:
            when = "at an unknown time" if start_s is None else f"at {float(start_s):.4f} s"
            return f"its {name} starts {when} instead of 0 s"
    lost = [name for name, value in tags.items() if found.metadata.get(name) != value]
    return f"the metadata {', '.join(lost)} does not read back as given" if lost else None
