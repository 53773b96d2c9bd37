"""The file types that can be written, with their containers and codecs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from av.codec.codec import Codec, UnknownCodecError

from mova.errors import MediaError


@dataclass(frozen=True)
class VideoCodec:
    """A video codec: encoder, its options, default quality and largest quality value."""

    encoder: str
    options: Mapping[str, str]
    crf: int
    max_crf: int


@dataclass(frozen=True)
class AudioCodec:
    """An audio codec: encoder, sample format, and largest bit rate in bits per second (None: lossless)."""

    encoder: str
    sample_format: str
    bit_rate: int | None


@dataclass(frozen=True)
class FileKind:
    """A file type: container, codecs (None: the file holds no video, or no audio), container options."""

    container: str
    video: VideoCodec | None
    audio: AudioCodec | None
    options: Mapping[str, str]


# One thread and no CPU-dependent shortcuts: the bytes depend on the clip alone.
_H264 = VideoCodec(
    "libx264",
    {"preset": "medium", "bf": "0", "threads": "1", "x264-params": "cpu-independent=1"},
    crf=16,
    max_crf=51,
)
_VP9 = VideoCodec("libvpx-vp9", {"b": "0", "deadline": "good", "cpu-used": "3", "threads": "1"}, crf=20, max_crf=63)
_AAC = AudioCodec("aac", "fltp", bit_rate=192_000)
_OPUS = AudioCodec("libopus", "flt", bit_rate=160_000)
_FLAC = AudioCodec("flac", "s32", bit_rate=None)
_PCM = AudioCodec("pcm_s16le", "s16", bit_rate=None)

FILE_KINDS: dict[str, FileKind] = {
    ".mp4": FileKind("mp4", _H264, _AAC, {"movflags": "+faststart"}),
    ".mov": FileKind("mov", _H264, _AAC, {"movflags": "+faststart"}),
    ".webm": FileKind("webm", _VP9, _OPUS, {}),
    ".mkv": FileKind("matroska", _H264, _FLAC, {}),
    ".wav": FileKind("wav", None, _PCM, {}),
    ".gif": FileKind("gif", VideoCodec("gif", {}, crf=0, max_crf=0), None, {}),
}


# what is not written, and what is in its place
_NEAREST = {
    **dict.fromkeys((".avi", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".mts", ".ogv", ".3gp"), ".mp4"),
    **dict.fromkeys((".mp3", ".flac", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".aif", ".aiff", ".wma"), ".wav"),
    **dict.fromkeys((".apng", ".webp"), ".gif"),
}


def file_kind(path: Path) -> FileKind:
    """Return the file type of the suffix of ``path``.

    Raises:
        MediaError: If the suffix is unknown, or this build of PyAV lacks one of the encoders.
    """
    suffix = path.suffix.lower()
    if suffix not in FILE_KINDS:
        near = [_NEAREST[suffix]] if suffix in _NEAREST else get_close_matches(suffix, FILE_KINDS, n=1, cutoff=0.5)
        if path.is_dir():
            raise MediaError(f"cannot write {path}: it is a folder.", f"Give a file in it, such as {path / 'mova.mp4'}.")
        raise MediaError(
            f"cannot write {path}: "
            + (f"unknown suffix {path.suffix!r}" if suffix else "the name has no suffix")
            + f"; known are {', '.join(FILE_KINDS)}.",
            f"Did you mean {path.with_suffix(near[0]).name}?" if near else "Use .mp4 if in doubt.",
        )
    kind = FILE_KINDS[suffix]
    for codec in (kind.video, kind.audio):
        if codec is not None:
            try:
                Codec(codec.encoder, "w")
            except UnknownCodecError:
                raise MediaError(
                    f"cannot write {path}: this build of PyAV lacks the encoder {codec.encoder}.",
                    "Install PyAV from its wheel: pip install --force-reinstall av",
                ) from None
    return kind


def writable_rate(audio: AudioCodec, sample_rate: int) -> int:
    """Return ``sample_rate`` if the codec supports it, else the next higher rate that it supports, else its highest."""
    rates = Codec(audio.encoder, "w").audio_rates
    if audio.encoder == "libopus":
        # Opus decoders always run at 48 kHz: resampling here keeps the conversion in one place
        return 48_000
    if not rates or sample_rate in rates:
        return sample_rate
    return min((rate for rate in rates if rate > sample_rate), default=max(rates))
