"""What a media file holds, read from its headers, and the one guarded way to open a file from outside."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from mova.errors import MediaError
from mova.timeline import exact_fps

MAX_STREAMS = 32

# Playlist formats (HLS, DASH, concat) fetch whatever other file or address they name, so only self-contained
# files are opened, whatever the suffix says, and only from this machine.
_SELF_CONTAINED_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,wav,w64,flac,mp3,ogg,aac,gif,flv,asf,caf,aiff"
_OPEN_OPTIONS = {
    "format_whitelist": _SELF_CONTAINED_FORMATS,
    "protocol_whitelist": "file",
    "max_streams": str(MAX_STREAMS),
}

# Transfer functions of the code points ITU-T H.273 gives to HDR (PQ and HLG)
_HDR_TRANSFERS = {16: "PQ", 18: "HLG"}

MADE_BY = "made_by"
"""Key of the ``comment`` tag's JSON beside the request's fields."""


@dataclass(frozen=True)
class VideoInfo:
    """A picture stream as its header states it.

    Args:
        codec: FFmpeg's name of the codec, such as ``h264``.
        width: Stored width in pixels, before any rotation.
        height: Stored height in pixels, before any rotation.
        fps: Frames per second, or None where the header states none.
        num_frames: Frames as stated by the container; None where it does not count them (Matroska, WebM).
        start_s: Time of the first frame in seconds; None where unstated.
        duration_s: Length of the stream in seconds; None where unstated (Matroska, WebM).
        pixel_format: FFmpeg's name, such as ``yuv420p``.
        pixel_aspect: Width of a stored pixel divided by its height.
        hdr: ``PQ`` or ``HLG`` for high dynamic range, else None.
    """

    codec: str
    width: int
    height: int
    fps: Fraction | None
    num_frames: int | None
    start_s: Fraction | None
    duration_s: Fraction | None
    pixel_format: str
    pixel_aspect: Fraction
    hdr: str | None


@dataclass(frozen=True)
class AudioInfo:
    """An audio stream as its header states it.

    Args:
        codec: FFmpeg's name of the codec, such as ``aac``.
        sample_rate: In Hz.
        channels: Number of channels.
        start_s: Time of the first sample in seconds after priming; None where unstated.
        duration_s: Length in seconds; None where unstated (Matroska, WebM).
    """

    codec: str
    sample_rate: int
    channels: int
    start_s: Fraction | None
    duration_s: Fraction | None


@dataclass(frozen=True)
class MediaInfo:
    """A media file as its headers state it; nothing is decoded.

    Args:
        path: The file.
        format: FFmpeg's name of the container.
        size_bytes: Size on disk.
        duration_s: Length of the longest stream in seconds; None where unstated.
        num_streams: All streams, also subtitles and data.
        video: The main picture stream, or None. A cover picture is none.
        audio: The main audio stream, or None.
        metadata: The container's tags, names in lower case.
    """

    path: Path
    format: str
    size_bytes: int
    duration_s: Fraction | None
    num_streams: int
    video: VideoInfo | None
    audio: AudioInfo | None
    metadata: Mapping[str, str]

    @property
    def request(self) -> dict[str, Any] | None:
        """The request that :func:`~mova.media.encode.write_clip` put into the ``comment`` tag, or None."""
        value = self._comment
        return None if value is None else {name: item for name, item in value.items() if name != MADE_BY}

    @property
    def made_by(self) -> dict[str, Any] | None:
        """What made the file, from the same tag: version, model, weights, inputs; or None."""
        value = (self._comment or {}).get(MADE_BY)
        return value if isinstance(value, dict) else None

    @property
    def _comment(self) -> dict[str, Any] | None:
        try:
            value = json.loads(self.metadata.get("comment", ""))
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None


def probe(path: str | Path) -> MediaInfo:
    """Read the headers of a media file.

    Args:
        path: A local file of any usual kind (mp4, mov, webm, mkv, wav, flac, mp3, gif, ...).

    Raises:
        MediaError: If the file is missing, is not media, or has more than 32 streams.
    """
    with opened(path) as container:
        return media_info(container, Path(path))


def media_info(container: InputContainer, path: Path) -> MediaInfo:
    """What an open container states about itself."""
    video, audio = video_stream(container), audio_stream(container)
    for stream in (video, audio):
        # PyAV leaves the context empty where FFmpeg does not know the codec, which its type hints do not say
        if stream is not None and cast(Any, stream.codec_context) is None:
            raise MediaError(f"the {stream.type} codec of {path} is unknown.", "The file may be damaged.")
    return MediaInfo(
        path=path,
        format=container.format.name,
        size_bytes=path.stat().st_size,
        duration_s=None if container.duration is None else Fraction(container.duration, av.time_base),
        num_streams=len(container.streams),
        video=None if video is None else _video_info(video),
        audio=None if audio is None else _audio_info(audio),
        metadata={name.lower(): value for name, value in container.metadata.items()},
    )


@contextmanager
def opened(path: str | Path) -> Iterator[InputContainer]:
    """Open a local, self-contained media file; codec failures inside the block become :class:`MediaError`."""
    path = Path(path)
    check_file(path)
    try:
        # an absolute path can never be taken for an address such as "concat:..." or "http:..."
        container = av.open(str(path.resolve()), "r", options=dict(_OPEN_OPTIONS), metadata_errors="replace")
    except PermissionError:
        raise MediaError(f"{path} may not be read.", "Check the file's permissions.") from None
    except (av.error.FFmpegError, OSError) as error:
        raise MediaError(
            f"{path} cannot be opened as a video or audio: {reason(error)}.",
            "It may be damaged, incomplete, or no media file; playlists are not read.",
        ) from error
    with container:
        if len(container.streams) > MAX_STREAMS:
            raise MediaError(f"{path} has {len(container.streams)} streams; at most {MAX_STREAMS} are read.")
        try:
            yield container
        except ZeroDivisionError:
            # PyAV makes exact fractions of whatever the header says
            raise MediaError(f"{path} states an impossible rate.", "The file may be damaged.") from None
        except av.error.FFmpegError as error:
            raise MediaError(f"{path} cannot be decoded: {reason(error)}.", "The file may be damaged.") from error


def check_file(path: Path) -> None:
    """Refuse what is not a file with something in it.

    Raises:
        MediaError: If ``path`` is missing, no file, empty, or cannot be looked at.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise MediaError(f"there is no file {path}.") from None
    except (OSError, ValueError) as error:
        raise MediaError(f"{str(path)!r} cannot be read: {reason(error)}.") from None
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(f"{path} is not a file.")
    if status.st_size == 0:
        raise MediaError(f"{path} is empty.")


def video_stream(container: InputContainer) -> VideoStream | None:
    """The main picture stream; a cover picture does not count."""
    videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    best = container.streams.best("video")
    return best if best in videos else (videos[0] if videos else None)


def audio_stream(container: InputContainer) -> AudioStream | None:
    """The main audio stream."""
    return cast("AudioStream | None", container.streams.best("audio"))


def reason(error: BaseException) -> str:
    """FFmpeg's own words for a failure, without its number and file name."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]


def stream_time(value: int | None, time_base: Fraction | None) -> Fraction | None:
    """A stream's timestamp in seconds; None stays None."""
    return None if value is None or time_base is None else value * time_base


def _video_info(stream: VideoStream) -> VideoInfo:
    context = stream.codec_context
    return VideoInfo(
        codec=context.name,
        width=context.width,
        height=context.height,
        fps=_stated_fps(stream),
        num_frames=stream.frames or None,
        start_s=stream_time(stream.start_time, stream.time_base),
        duration_s=stream_time(stream.duration, stream.time_base),
        pixel_format=context.pix_fmt or "unknown",
        pixel_aspect=stream.sample_aspect_ratio or Fraction(1),
        hdr=_HDR_TRANSFERS.get(int(context.color_trc)),
    )


def _audio_info(stream: AudioStream) -> AudioInfo:
    context = stream.codec_context
    return AudioInfo(
        codec=context.name,
        sample_rate=context.sample_rate,
        channels=context.channels,
        start_s=stream_time(stream.start_time, stream.time_base),
        duration_s=stream_time(stream.duration, stream.time_base),
    )


def _stated_fps(stream: VideoStream) -> Fraction | None:
    average, guessed = stream.average_rate, stream.guessed_rate
    if not average or stream.codec_context.name == "gif":
        # a GIF states a duration per frame, in hundredths of a second: the first few say little of the whole
        return _snapped(guessed) if guessed else None
    # the average suffers when the last frame's length is odd; the guess, from timestamps, is wild when times
    # vary
    return _snapped(guessed if guessed and abs(guessed / average - 1) < Fraction(1, 100) else average)


def _snapped(rate: Fraction) -> Fraction:
    """The whole or broadcast rate within a hundredth of a percent (headers round to nanoseconds)."""
    nearest = round(rate)
    if nearest and abs(rate / nearest - 1) < Fraction(1, 10_000):
        return Fraction(nearest)
    return exact_fps(float(rate))
