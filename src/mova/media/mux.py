"""Encode a clip into a container file: colours converted, both streams encoded and interleaved on the clock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.codec.context import Flags as CodecFlags
from av.container import OutputContainer
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
    Interpolation,
    VideoReformatter,
)
from av.video.stream import VideoStream
from einops import rearrange
from numpy.typing import NDArray

from mova.media.clip import Clip
from mova.media.kinds import AudioCodec, FileKind, VideoCodec

LAYOUTS = {1: "mono", 2: "stereo"}
# PyAV regroups the samples into the blocks that the codec wants
_BLOCK = 1024


def mux(clip: Clip, path: Path, *, kind: FileKind, crf: int, tags: Mapping[str, str]) -> None:
    """Encode ``clip`` into a container file.

    Args:
        clip: Clip to write, at a sample rate that the audio codec supports.
        path: Path of the file; an incomplete file is left there if anything fails.
        kind: Container and codecs.
        crf: Video quality.
        tags: Metadata of the container.
    """
    # bitexact: no version of the writer and no random identifiers in the file
    options = {**kind.options, "fflags": "+bitexact"}
    if kind.container in ("mp4", "mov"):
        # edit lists count in this unit: with the sample rate they end on the exact sample
        options["movie_timescale"] = str(clip.sample_rate)
    container = av.open(str(path.resolve()), "w", format=kind.container, options=options)
    try:
        container.metadata.update(tags)
        video = None if kind.video is None else _add_video(container, clip, kind.video, crf)
        audio = None
        if kind.audio is not None:
            audio = add_audio(container, kind.audio, channels=clip.waveform.shape[0], sample_rate=clip.sample_rate)
        _interleave(container, clip, video, audio)
        container.close()
    except BaseException:
        # closing tries to finish the file, which may fail again: the first failure is the one to report
        with suppress(Exception):
            container.close()
        raise


def add_audio(container: OutputContainer, codec: AudioCodec, *, channels: int, sample_rate: int) -> AudioStream:
    """Add an audio stream to a container that is being written.

    Args:
        container: Container to add the stream to.
        codec: Codec of the stream.
        channels: Number of channels, 1 or 2.
        sample_rate: Sample rate in Hz; one that the codec supports.
    """
    stream = cast("AudioStream", container.add_stream(codec.encoder, rate=sample_rate, layout=LAYOUTS[channels]))
    stream.time_base = Fraction(1, sample_rate)
    context = stream.codec_context
    context.format = codec.sample_format
    context.flags |= CodecFlags.bitexact.value
    if codec.bit_rate is not None:
        # AAC allows at most 6144 bits per channel in a block of 1024 samples
        context.bit_rate = min(codec.bit_rate, 6 * sample_rate * channels)
    return stream


def audio_blocks(
    waveform: NDArray[np.float32], sample_rate: int, *, sample_format: str, start: int = 0
) -> Iterator[av.AudioFrame]:
    """Split a waveform into the blocks that an encoder takes.

    Args:
        waveform: ``[channels, samples]`` float32; mono or stereo.
        sample_rate: Sample rate in Hz.
        sample_format: ``fltp``, ``flt``, ``s16`` or ``s32``.
        start: Time of the first sample, in samples.
    """
    layout = LAYOUTS[waveform.shape[0]]
    for first in range(0, waveform.shape[1], _BLOCK):
        samples = _convert_samples(waveform[:, first : first + _BLOCK], sample_format)
        frame = av.AudioFrame.from_ndarray(samples, format=sample_format, layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = sample_rate, start + first, Fraction(1, sample_rate)
        yield frame


def _add_video(container: OutputContainer, clip: Clip, codec: VideoCodec, crf: int) -> VideoStream:
    options = {**codec.options, "crf": str(crf)}
    stream = cast("VideoStream", container.add_stream(codec.encoder, rate=clip.fps, options=options))
    stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, "yuv420p"
    stream.time_base = 1 / clip.fps
    context = stream.codec_context
    context.time_base = 1 / clip.fps
    context.flags |= CodecFlags.bitexact.value
    context.colorspace = int(Colorspace.ITU709)
    context.color_primaries = int(ColorPrimaries.BT709)
    context.color_trc = int(ColorTrc.BT709)
    context.color_range = int(ColorRange.MPEG)
    return stream


def _interleave(container: OutputContainer, clip: Clip, video: VideoStream | None, audio: AudioStream | None) -> None:
    """Encode both streams in order of time, so that a player finds audio and video close together."""
    blocks = iter(()) if audio is None else _audio_frames(clip, audio)
    audio_end_s = Fraction(0)
    if video is not None:
        for index, frame in enumerate(_video_frames(clip)):
            container.mux(video.encode(frame))
            while audio is not None and audio_end_s * clip.fps <= index and (block := next(blocks, None)) is not None:
                container.mux(audio.encode(block))
                audio_end_s += Fraction(block.samples, clip.sample_rate)
        container.mux(video.encode(None))
    if audio is not None:
        for block in blocks:
            container.mux(audio.encode(block))
        container.mux(audio.encode(None))


def _video_frames(clip: Clip) -> Iterator[av.VideoFrame]:
    reformatter = VideoReformatter()  # keeps its tables from frame to frame
    for index, rgb in enumerate(clip.frames):
        frame = reformatter.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24"),
            format="yuv420p",
            src_colorspace=Colorspace.ITU709,
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            dst_color_trc=ColorTrc.BT709,
            dst_color_primaries=ColorPrimaries.BT709,
            interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP,
            threads=1,
        )
        frame.pts, frame.time_base, frame.duration = index, 1 / clip.fps, 1
        yield frame


def _audio_frames(clip: Clip, stream: AudioStream) -> Iterator[av.AudioFrame]:
    return audio_blocks(clip.waveform, clip.sample_rate, sample_format=stream.codec_context.format.name)


def _convert_samples(waveform: NDArray[np.float32], sample_format: str) -> NDArray[Any]:
    """Convert ``[channels, samples]`` float32 to the array that PyAV takes: planar as is, packed as one interleaved row."""
    if sample_format == "fltp":
        return np.ascontiguousarray(waveform)
    packed = rearrange(waveform, "channels samples -> 1 (samples channels)")
    if sample_format == "flt":
        return np.ascontiguousarray(packed)
    if sample_format == "s16":
        return np.clip(np.rint(packed.astype(np.float64) * 2**15), -(2**15), 2**15 - 1).astype(np.int16)
    # FLAC keeps the upper 24 bits of each 32-bit word
    level = np.clip(np.rint(packed.astype(np.float64) * 2**23), -(2**23), 2**23 - 1)
    return (level * 2**8).astype(np.int32)
