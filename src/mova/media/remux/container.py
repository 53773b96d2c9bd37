"""Copy a video stream unchanged into another container: whether that is possible, and the target file."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer, OutputContainer
from av.video.stream import VideoStream

from mova.errors import MediaError
from mova.media.encode import check_place
from mova.media.kinds import FILE_KINDS, AudioCodec, FileKind, file_kind, writable_rate
from mova.media.mux import add_audio
from mova.media.probe import open_container, reason, video_stream
from mova.media.remux.track import VideoTrack, read_video_track

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm")

_MATROSKA_TICK = Fraction(1, 1000)
_LARGEST_TIMESCALE = 2**31 - 1
# Tags of the video itself; others describe the old file, such as its size
_STREAM_TAGS = ("language", "handler_name", "title")
_ENCODE_FIRST = "Encode the video again first, from its first frame on."


@dataclass(frozen=True)
class DisplayParameters:
    """Parameters that determine how a video is displayed; a copy must not change them.

    Args:
        size: Stored width and height in pixels.
        pixel_format: FFmpeg's name, such as ``yuv420p``.
        pixel_aspect: Width of a stored pixel divided by its height.
        colours: Code points of matrix, primaries, transfer function and range.
        rotation: Rotation in degrees, counter-clockwise.
    """

    size: tuple[int, int]
    pixel_format: str | None
    pixel_aspect: Fraction
    colours: tuple[int, ...]
    rotation: int


@dataclass(frozen=True)
class CopyPlan:
    """A copy that is possible.

    Args:
        track: Video track to copy.
        path: Path of the new file.
        kind: Type of the new file.
        audio: Codec of its audio.
        codec_tag: The source's four-character code of its video codec, if the new container supports it; None: FFmpeg's
            choice.
        display: Display parameters of the video.
    """

    track: VideoTrack
    path: Path
    kind: FileKind
    audio: AudioCodec
    codec_tag: str | None
    display: DisplayParameters

    @property
    def has_edits(self) -> bool:
        """Whether files of this type have edit lists."""
        return self.kind.container in ("mp4", "mov")

    def timescale(self, sample_rate: int) -> int:
        """Return a timescale in which starts and ends of video and audio are integers; if too large, only the starts."""
        start = self.track.start_s.denominator
        fitting = [math.lcm(sample_rate, start, self.track.seconds.denominator), math.lcm(sample_rate, start), start]
        return next(timescale for timescale in fitting if timescale <= _LARGEST_TIMESCALE)


def plan_copy(video: Path, path: Path, *, overwrite: bool) -> CopyPlan:
    """Plan the copy of a video stream into a new file, and refuse one that would change the stream.

    Args:
        video: File with the video stream.
        path: Path of the new file, which will have audio too.
        overwrite: Whether an existing file may be replaced.

    Raises:
        MediaError: If the video cannot be read, nothing can be written to ``path``, or this type of file cannot hold the
            stream's codec, times or edit list unchanged; the hint says what can be done.
    """
    kind = file_kind(path)
    if kind.audio is None or path.suffix.lower() not in VIDEO_SUFFIXES:
        raise MediaError(
            f"cannot write {path}: {path.suffix} files cannot hold video and audio.",
            f"Use one of {', '.join(VIDEO_SUFFIXES)}.",
        )
    check_place(path, overwrite)
    track = read_video_track(video)
    if path.exists() and path.samefile(video):
        raise MediaError(f"cannot write {path}: it is the video itself.", "Choose another name.")
    with open_container(video) as container:
        stream = require_video_stream(container)
        _check_codec(stream, video, path)
        _check_times(track, kind, path)
        plan = CopyPlan(track, path, kind, kind.audio, _own_tag(stream), display_parameters(container, stream))
        if _refusal(plan, stream) is not None:
            # another container may not support this code; the one that FFmpeg chooses stands for the same codec
            plan = replace(plan, codec_tag=None)
            refusal = _refusal(plan, stream)
            if refusal is not None:
                raise _copy_error(stream, video, path, f"{path.suffix} files do not accept it ({refusal})")
    return plan


def open_target(target: str | io.BytesIO, plan: CopyPlan, *, sample_rate: int, tags: Mapping[str, str]) -> OutputContainer:
    """Open a container for writing, without streams yet.

    Args:
        target: Path of a file, or a buffer in memory.
        plan: Plan of the copy.
        sample_rate: Sample rate of the audio in Hz.
        tags: Metadata of the container.
    """
    # bitexact: no version of the writer and no random identifiers in the file
    options = {**plan.kind.options, "fflags": "+bitexact"}
    if plan.has_edits:
        options["movie_timescale"] = str(plan.timescale(sample_rate))
        options["video_track_timescale"] = str(plan.track.time_base.denominator)
    container = av.open(target, "w", format=plan.kind.container, options=options)
    container.metadata.update(tags)
    return container


def add_video(container: OutputContainer, plan: CopyPlan, source: VideoStream) -> VideoStream:
    """Add a stream for the packets of ``source``, with the parameters of its header."""
    stream = container.add_stream_from_template(source, opaque=True)
    if plan.codec_tag is not None:
        stream.codec_context.codec_tag = plan.codec_tag
    if plan.track.info.video is not None and plan.track.info.video.fps is not None:
        # Matroska states the duration of a frame by it
        stream.codec_context.framerate = plan.track.info.video.fps
    stream.metadata.update({name: value for name, value in source.metadata.items() if name in _STREAM_TAGS})
    return stream


def require_video_stream(container: InputContainer) -> VideoStream:
    """Return the main video stream of a file that is known to have one."""
    stream = video_stream(container)
    assert stream is not None, "checked by read_video_track"
    return stream


def display_parameters(container: InputContainer, stream: VideoStream) -> DisplayParameters:
    """Read the display parameters of a video stream from its header and its first frame."""
    rotation = next((frame.rotation for frame in container.decode(stream)), 0)
    context = stream.codec_context
    colours = (context.colorspace, context.color_primaries, context.color_trc, context.color_range)
    return DisplayParameters(
        size=(context.width, context.height),
        pixel_format=context.pix_fmt,
        pixel_aspect=stream.sample_aspect_ratio or Fraction(1),
        colours=tuple(int(value) for value in colours),
        rotation=rotation,
    )


def _check_codec(stream: VideoStream, video: Path, path: Path) -> None:
    name = stream.codec_context.name
    if name not in _copiable_codecs(path.suffix.lower()):
        raise _copy_error(stream, video, path, f"{path.suffix} files cannot hold {name}")
    # a length-prefixed stream states its version, 1, first; a start code begins with 0
    if name in ("h264", "hevc") and (stream.codec_context.extradata or b"")[:1] != b"\1":
        raise MediaError(
            f"the video of {video} is a stream with start codes, whose bytes would have to change in {path.name}.",
            f"Put it into a container first: ffmpeg -i {video.name} -c copy video.mp4",
        )


def _copiable_codecs(suffix: str) -> set[str]:
    with av.open(io.BytesIO(), "w", format=FILE_KINDS[suffix].container) as container:
        return container.supported_codecs


def _copy_error(stream: VideoStream, video: Path, path: Path, why: str) -> MediaError:
    name = stream.codec_context.name
    others = [suffix for suffix in VIDEO_SUFFIXES if suffix != path.suffix.lower() and name in _copiable_codecs(suffix)]
    return MediaError(
        f"the video of {video} cannot be copied into {path.name}: {why}.",
        f"Write {' or '.join(others)}." if others else "Convert the video to H.264 first.",
    )


def _check_times(track: VideoTrack, kind: FileKind, path: Path) -> None:
    refused = f"the video of {track.info.path} cannot be copied into {path.name}"
    if track.edits is not None and not track.edits.is_plain:
        raise MediaError(f"{refused}: its edit list joins several segments, or changes their speed.", _ENCODE_FIRST)
    if track.starts_within_frame:
        raise MediaError(f"{refused}: its edit list starts within a frame.", _ENCODE_FIRST)
    start, first = round(track.start_s / track.time_base), track.packets[0].pts
    # FFmpeg hides packets before 0, or delays the first packet: it cannot do both, nor hide packets after 0
    is_both = start > 0 and first < 0
    if start < 0 or is_both or any(0 <= p.pts < (start if p.is_discard else first) for p in track.packets):
        raise MediaError(f"{refused}: it starts late, with hidden frames before its start.", _ENCODE_FIRST)
    if kind.container in ("mp4", "mov"):
        return
    if track.ends_by_edit or any(packet.is_discard for packet in track.packets):
        raise MediaError(
            f"{refused}: its edit list hides part of it, and {path.suffix} files have no edit lists.", "Write .mp4 or .mov."
        )
    off = next((p.pts * track.time_base for p in track.packets if p.pts * track.time_base % _MATROSKA_TICK), None)
    if off is not None:
        raise MediaError(
            f"{refused}: {path.suffix} files store times in whole milliseconds; it has a frame at {float(off):.6f} s.",
            "Write .mp4 or .mov.",
        )


def _own_tag(stream: VideoStream) -> str | None:
    """Return the file's code of its video codec, which distinguishes variants of the codec (hvc1, apch)."""
    if "mp4" not in stream.container.format.name:
        return None
    with suppress(UnicodeDecodeError):
        tag = stream.codec_context.codec_tag
        return tag if tag.isprintable() else None
    return None


def _refusal(plan: CopyPlan, source: VideoStream) -> str | None:
    """Return the reason why FFmpeg cannot write the header of such a file; None if it can."""
    rate = writable_rate(plan.audio, 48_000)
    # in memory, and without the second pass that moves the index to the front
    plan = replace(plan, kind=replace(plan.kind, options={}))
    container = open_target(io.BytesIO(), plan, sample_rate=rate, tags={})
    try:
        add_video(container, plan, source)
        add_audio(container, plan.audio, channels=1, sample_rate=rate)
        container.start_encoding()
    except (av.error.FFmpegError, ValueError) as error:
        return reason(error)
    finally:
        with suppress(Exception):
            container.close()
    return None
