"""The untouched picture of a video into another container: whether it can be copied as it is, and the file for it."""

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
from mova.media.kinds import FILE_KINDS, AudioCodec, FileKind, kind_of, writable_rate
from mova.media.mux import add_audio
from mova.media.probe import opened, reason, video_stream
from mova.media.remux.track import PictureTrack, picture_track

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm")

_MATROSKA_TICK = Fraction(1, 1000)
_LARGEST_TIMESCALE = 2**31 - 1
# What says something of the picture itself; other tags count the old file's bytes
_STREAM_TAGS = ("language", "handler_name", "title")
_AS_PLAIN = "Write it out as a plain video first, from its first frame on."


@dataclass(frozen=True)
class DisplayParameters:
    """How a picture is to be shown: what a copy must not change.

    Args:
        size: Stored width and height in pixels.
        pixel_format: FFmpeg's name.
        pixel_aspect: Width of a stored pixel divided by its height.
        colours: Code points of matrix, primaries, transfer and range.
        rotation: In degrees, counter-clockwise.
    """

    size: tuple[int, int]
    pixel_format: str | None
    pixel_aspect: Fraction
    colours: tuple[int, ...]
    rotation: int


@dataclass(frozen=True)
class CopyPlan:
    """A copy that can be made.

    Args:
        track: The video's picture.
        path: Where it goes.
        kind: What is written.
        audio: How the audio beside it is written.
        codec_tag: The video's own four letters for its codec, where the new container knows them; None: FFmpeg's choice.
        look: How the picture is shown.
    """

    track: PictureTrack
    path: Path
    kind: FileKind
    audio: AudioCodec
    codec_tag: str | None
    look: DisplayParameters

    @property
    def has_edits(self) -> bool:
        """Whether the new file has edit lists."""
        return self.kind.container in ("mp4", "mov")

    def timescale(self, sample_rate: int) -> int:
        """A unit for edit lists in which the starts and ends of picture and audio are whole; if too fine, the starts."""
        start = self.track.start_s.denominator
        fitting = [math.lcm(sample_rate, start, self.track.seconds.denominator), math.lcm(sample_rate, start), start]
        return next(timescale for timescale in fitting if timescale <= _LARGEST_TIMESCALE)


def planned_copy(video: Path, path: Path, *, overwrite: bool) -> CopyPlan:
    """Look at a video, and refuse to copy its picture into ``path`` where that would change it.

    Args:
        video: The video.
        path: Where its picture will go, with audio.
        overwrite: Whether a file that is there may be replaced.

    Raises:
        MediaError: If the video cannot be read, nothing can be written to ``path``, or the picture's codec, times or edit
            list do not go into this kind of file unchanged; the hint says what can be done.
    """
    kind = kind_of(path)
    if kind.audio is None or path.suffix.lower() not in VIDEO_SUFFIXES:
        raise MediaError(
            f"cannot write {path}: {path.suffix} files do not hold a video with its audio.",
            f"Use one of {', '.join(VIDEO_SUFFIXES)}.",
        )
    check_place(path, overwrite)
    track = picture_track(video)
    if path.exists() and path.samefile(video):
        raise MediaError(f"cannot write {path}: it is the video itself.", "Choose another name.")
    with opened(video) as container:
        stream = picture_of(container)
        _check_codec(stream, video, path)
        _check_times(track, kind, path)
        plan = CopyPlan(track, path, kind, kind.audio, _own_tag(stream), look_of(container, stream))
        if _refusal(plan, stream) is not None:
            # another container may not know the video's letters; those that FFmpeg chooses mean the same codec
            plan = replace(plan, codec_tag=None)
            refusal = _refusal(plan, stream)
            if refusal is not None:
                raise _uncopiable(stream, video, path, f"{path.suffix} files do not take it ({refusal})")
    return plan


def opened_target(target: str | io.BytesIO, plan: CopyPlan, *, sample_rate: int, tags: Mapping[str, str]) -> OutputContainer:
    """A container to be written, without streams yet.

    Args:
        target: Name of a file, or memory.
        plan: What goes into it.
        sample_rate: Of its audio, in Hz.
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


def add_picture(container: OutputContainer, plan: CopyPlan, source: VideoStream) -> VideoStream:
    """A stream for the packets of ``source``, with all that its header says of them."""
    stream = container.add_stream_from_template(source, opaque=True)
    if plan.codec_tag is not None:
        stream.codec_context.codec_tag = plan.codec_tag
    if plan.track.info.video is not None and plan.track.info.video.fps is not None:
        # Matroska states the length of a frame by it
        stream.codec_context.framerate = plan.track.info.video.fps
    stream.metadata.update({name: value for name, value in source.metadata.items() if name in _STREAM_TAGS})
    return stream


def picture_of(container: InputContainer) -> VideoStream:
    """The main picture stream of a video that is known to have one."""
    stream = video_stream(container)
    assert stream is not None, "picture_track found it"
    return stream


def look_of(container: InputContainer, stream: VideoStream) -> DisplayParameters:
    """How the picture is shown, by its header and its first frame."""
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
    if name not in _copiable(path.suffix.lower()):
        raise _uncopiable(stream, video, path, f"{path.suffix} files do not hold {name}")
    # a length-prefixed stream states its version, 1, first; a start code begins with 0
    if name in ("h264", "hevc") and (stream.codec_context.extradata or b"")[:1] != b"\1":
        raise MediaError(
            f"the picture of {video} is a stream with start codes, whose bytes would have to change in {path.name}.",
            f"Put it into a container first: ffmpeg -i {video.name} -c copy film.mp4",
        )


def _copiable(suffix: str) -> set[str]:
    with av.open(io.BytesIO(), "w", format=FILE_KINDS[suffix].container) as container:
        return container.supported_codecs


def _uncopiable(stream: VideoStream, video: Path, path: Path, why: str) -> MediaError:
    name = stream.codec_context.name
    others = [suffix for suffix in VIDEO_SUFFIXES if suffix != path.suffix.lower() and name in _copiable(suffix)]
    return MediaError(
        f"the picture of {video} cannot be copied into {path.name}: {why}.",
        f"Write {' or '.join(others)}." if others else "Convert the video to H.264 first.",
    )


def _check_times(track: PictureTrack, kind: FileKind, path: Path) -> None:
    refused = f"the picture of {track.info.path} cannot be copied into {path.name}"
    if track.edits is not None and not track.edits.is_plain:
        raise MediaError(f"{refused}: its edit list joins several stretches, or changes their speed.", _AS_PLAIN)
    if track.starts_within_frame:
        raise MediaError(f"{refused}: its edit list starts within a frame.", _AS_PLAIN)
    start, first = round(track.start_s / track.time_base), track.packets[0].pts
    # FFmpeg hides what lies before 0, or else delays the first packet: it cannot do both, nor hide anything after 0
    is_both = start > 0 and first < 0
    if start < 0 or is_both or any(0 <= p.pts < (start if p.is_discard else first) for p in track.packets):
        raise MediaError(f"{refused}: it starts late, with hidden frames before its start.", _AS_PLAIN)
    if kind.container in ("mp4", "mov"):
        return
    if track.ends_by_edit or any(packet.is_discard for packet in track.packets):
        raise MediaError(
            f"{refused}: its edit list hides part of it, and {path.suffix} files have no edit lists.", "Write .mp4 or .mov."
        )
    off = next((p.pts * track.time_base for p in track.packets if p.pts * track.time_base % _MATROSKA_TICK), None)
    if off is not None:
        raise MediaError(
            f"{refused}: {path.suffix} files keep times in whole milliseconds; it has a frame at {float(off):.6f} s.",
            "Write .mp4 or .mov.",
        )


def _own_tag(stream: VideoStream) -> str | None:
    """The video's letters for its codec, which tell more than the codec where it has variants (hvc1, apch)."""
    if "mp4" not in stream.container.format.name:
        return None
    with suppress(UnicodeDecodeError):
        tag = stream.codec_context.codec_tag
        return tag if tag.isprintable() else None
    return None


def _refusal(plan: CopyPlan, source: VideoStream) -> str | None:
    """Why FFmpeg does not write the head of such a file; None if it does."""
    rate = writable_rate(plan.audio, 48_000)
    # in memory, and without the second look at the file that moves its index to the front
    plan = replace(plan, kind=replace(plan.kind, options={}))
    container = opened_target(io.BytesIO(), plan, sample_rate=rate, tags={})
    try:
        add_picture(container, plan, source)
        add_audio(container, plan.audio, channels=1, sample_rate=rate)
        container.start_encoding()
    except (av.error.FFmpegError, ValueError) as error:
        return reason(error)
    finally:
        with suppress(Exception):
            container.close()
    return None
