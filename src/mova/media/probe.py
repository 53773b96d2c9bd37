"""Read the headers of media files, and the only function that opens a file from outside, with its safeguards."""

from __future__ import annotations

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

from mova.errors import MediaError, MissingMediaError
from mova.media.worker import isolate
from mova.parsing import parse_json
from mova.timeline import exact_fps

MAX_STREAMS = 32

# Playlist formats (HLS, DASH, concat) fetch any other file or address that they name, so only self-contained local
# files are opened, whatever their suffix.
_SELF_CONTAINED_FORMATS = ",".join(
    (
        "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,nut,mxf,dv,rm,ivf,gif,apng",
        "yuv4mpegpipe,h264,hevc,m4v,mpegvideo,obu,vc1,mjpeg",
        "wav,w64,flac,mp3,aac,ac3,eac3,dts,dtshd,truehd,caf,aiff,au,wv,tta,ape,amr,mpc,mpc8,tak,voc,dsf",
    )
)
_OPEN_OPTIONS = {
    "format_whitelist": _SELF_CONTAINED_FORMATS,
    "protocol_whitelist": "file",
    "max_streams": str(MAX_STREAMS),
}

# Transfer functions of the code points ITU-T H.273 gives to HDR (PQ and HLG)
_HDR_TRANSFERS = {16: "PQ", 18: "HLG"}

MADE_BY = "made_by"
"""Key in the JSON of the ``comment`` tag, next to the fields of the request."""
MAX_COMMENT = 2**20
"""Characters of the tag that holds a request."""


@dataclass(frozen=True)
class VideoInfo:
    """A video stream as its header states it.

    Args:
        codec: FFmpeg's name of the codec, such as ``h264``.
        width: Stored width in pixels, before any rotation.
        height: Stored height in pixels, before any rotation.
        fps: Frames per second; None if unstated.
        num_frames: Number of frames as stated by the container; None if it does not count them (Matroska, WebM).
        start_s: Time of the first frame in seconds; None if unstated.
        duration_s: Length of the stream in seconds; None if unstated (Matroska, WebM).
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
        sample_rate: Sample rate in Hz.
        channels: Number of channels.
        start_s: Time of the first sample after priming, in seconds; None if unstated.
        duration_s: Length in seconds; None if unstated (Matroska, WebM).
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
        size_bytes: Size in bytes.
        duration_s: Length of the longest stream in seconds; None if unstated.
        num_streams: Number of streams, including subtitles and data.
        video: The main video stream, or None. A cover image does not count.
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
        """The request that :func:`~mova.media.encode.write_clip` stored in the ``comment`` tag, unchecked; or None."""
        value = self.record
        return None if value is None else {name: item for name, item in value.items() if name != MADE_BY}

    @property
    def made_by(self) -> dict[str, Any] | None:
        """Version, model, weights and inputs that the file was generated with, from the same tag, unchecked; or None."""
        value = (self.record or {}).get(MADE_BY)
        return value if isinstance(value, dict) else None

    @property
    def record(self) -> dict[str, Any] | None:
        """Both, as they stand in the tag; None if that is no JSON mapping."""
        try:
            value = parse_json(self.metadata.get("comment", "")[: MAX_COMMENT + 1])
        except ValueError:
            return None
        return value if isinstance(value, dict) else None


@isolate
def probe(path: str | Path) -> MediaInfo:
    """Read the headers of a media file.

    Args:
        path: A local file of a common type (mp4, mov, webm, mkv, wav, flac, mp3, gif, ...).

    Raises:
        MediaError: If the file is missing, is not a media file, or has more than 32 streams.
    """
    with open_container(path) as container:
        return media_info(container, Path(path))


def media_info(container: InputContainer, path: Path) -> MediaInfo:
    """Return the header facts of an open container."""
    video, audio = video_stream(container), audio_stream(container)
    for stream in (video, audio):
        # PyAV leaves the context empty if FFmpeg does not know the codec, which its type hints do not say
        if stream is not None and cast(Any, stream.codec_context) is None:
            raise MediaError(f"the {stream.type} codec of {path} is unknown.", "The file may be damaged.")
    if video is not None and (fps := _header_fps(video)) is not None and fps <= 0:
        raise MediaError(f"{path} states an invalid rate.", "The file may be damaged.")
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
def open_container(path: str | Path) -> Iterator[InputContainer]:
    """Open a local, self-contained media file; codec failures inside the block become :class:`MediaError`."""
    path = Path(path)
    check_file(path)
    try:
        # an absolute path can never be taken for an address such as "concat:..." or "http:..."
        container = av.open(str(path.resolve()), "r", options=dict(_OPEN_OPTIONS), metadata_errors="replace")
    except PermissionError:
        raise MediaError(f"{path}: no permission to read.", "Check the file's permissions.") from None
    except av.error.ArgumentError as error:
        # a demuxer that is not on the list of formats
        raise MediaError(
            f"{path} cannot be opened as a video or audio file: this kind of file is not read.",
            "Videos and audio in the usual containers are; playlists, subtitles and still images are not.",
        ) from error
    except (av.error.FFmpegError, OSError) as error:
        raise MediaError(
            f"{path} cannot be opened as a video or audio file: {reason(error)}.",
            "It may be damaged, incomplete, or not a media file; playlists are not read.",
        ) from error
    with container:
        if len(container.streams) > MAX_STREAMS:
            raise MediaError(f"{path} has {len(container.streams)} streams; at most {MAX_STREAMS} are read.")
        try:
            yield container
        except ZeroDivisionError:
            # PyAV makes exact fractions of any value in the header
            raise MediaError(f"{path} states an invalid rate.", "The file may be damaged.") from None
        except av.error.FFmpegError as error:
            raise MediaError(f"{path} cannot be decoded: {reason(error)}.", "The file may be damaged.") from error


def check_file(path: Path) -> None:
    """Refuse a path that is not a file, or an empty file.

    Raises:
        MediaError: If ``path`` is missing, not a file, empty, or inaccessible.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise MissingMediaError(f"there is no file {path}.", "Check the name.") from None
    except (OSError, ValueError) as error:
        raise MediaError(f"{str(path)!r} cannot be read: {reason(error)}.") from None
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(f"{path} is not a file.")
    if status.st_size == 0:
        raise MediaError(f"{path} is empty.")


def video_stream(container: InputContainer) -> VideoStream | None:
    """Return the main video stream, or None; a cover image does not count."""
    videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    best = container.streams.best("video")
    return best if best in videos else (videos[0] if videos else None)


def audio_stream(container: InputContainer) -> AudioStream | None:
    """Return the main audio stream, or None."""
    stream = cast("AudioStream | None", container.streams.best("audio"))
    if stream is not None and cast(Any, stream.codec_context) is not None:
        _drop_channel_map(stream)
    return stream


def _drop_channel_map(stream: AudioStream) -> None:
    """Replace the channel layout of a decoder by one without a list of channels.

    PyAV shares that list (channels in an order of their own, as 6.1 and 7.1 have in QuickTime files) between objects that
    each free it, which ends the process. Nothing here needs the names of channels; the object made here takes the list with
    it.
    """
    context = stream.codec_context
    if not context.is_open:
        layout = context.layout
        context.layout = layout.name if layout.name in ("mono", "stereo") else f"{layout.nb_channels} channels"


def reason(error: BaseException) -> str:
    """Return the message of an FFmpeg or OS error, without its number and file name."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]


def stream_time(value: int | None, time_base: Fraction | None) -> Fraction | None:
    """Convert a stream's timestamp to seconds; None stays None."""
    return None if value is None or time_base is None else value * time_base


def _video_info(stream: VideoStream) -> VideoInfo:
    context = stream.codec_context
    return VideoInfo(
        codec=context.name,
        width=context.width,
        height=context.height,
        fps=_header_fps(stream),
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


def _header_fps(stream: VideoStream) -> Fraction | None:
    average, guessed = stream.average_rate, stream.guessed_rate
    if not average or stream.codec_context.name == "gif":
        # a GIF states a duration per frame, in hundredths of a second: the first few say little about the rest
        return snap_rate(guessed) if guessed else None
    # the average is off if the last frame's length is odd; the guess, from timestamps, is far off if times vary
    return snap_rate(guessed if guessed and abs(guessed / average - 1) < Fraction(1, 100) else average)


def snap_rate(rate: Fraction) -> Fraction:
    """Round to the integer or broadcast rate within a hundredth of a percent (headers round to nanoseconds)."""
    nearest = round(rate)
    if nearest and abs(rate / nearest - 1) < Fraction(1, 10_000):
        return Fraction(nearest)
    return exact_fps(float(rate))
