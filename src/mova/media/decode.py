"""Videos and sounds from files, on the clock: frame ``n`` at ``n / fps``, sample ``k`` at ``k / sample_rate``.

Time 0 is the start of the first frame (of the first sample, in a file of audio alone). Encoder priming and
edit lists are honoured: what a player would not play is not returned. Every limit is checked on the header
before a frame is decoded, and again while decoding, because headers of hostile files lie.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from mova.errors import MediaError
from mova.media.clip import Clip
from mova.media.probe import MediaInfo, VideoInfo, audio_stream, media_info, opened, video_stream
from mova.media.readers import TIMESTAMP_ROUNDING_S, Audio, AudioReader, Limits, Video, VideoReader, check_bytes
from mova.media.resample import resample
from mova.timeline import samples_in_frames

MAX_SECONDS = 300.0
MAX_PIXELS = 4096 * 2304

# Stored sizes may be rounded up to whole blocks inside a decoder, so its own guard is looser than ours
_DECODER_PIXEL_SLACK = 2
_WIDEST_ODD_PIXEL = Fraction(1, 100)


def read_clip(
    path: str | Path,
    *,
    num_frames: int | None = None,
    max_seconds: float = MAX_SECONDS,
    max_pixels: int = MAX_PIXELS,
) -> Clip:
    """Read a video with its audio, at its own size, frame rate and sample rate.

    The audio is made exactly as long as the frames. Codecs work in blocks (1024 samples in AAC), so up to one
    block is cut at the end, or added as zeros; more than that is an error, never a guess. Samples that a
    lossy codec pushed beyond full scale are limited to ``[-1, 1]``, as a player's converter does.

    Args:
        path: The file.
        num_frames: Read only this many frames, and the audio that goes with them. Default: the whole video.
        max_seconds: Refuse what is longer.
        max_pixels: Refuse frames of more pixels.

    Raises:
        MediaError: If the file cannot be read, passes a limit, lacks picture or audio, changes its frame rate
            or size on the way, or if the audio does not cover the picture (or goes on after it, without
            ``num_frames``).
    """
    path = Path(path)
    limits = Limits(max_seconds, max_pixels, num_frames)
    with opened(path) as container:
        info = media_info(container, path)
        video = checked_video(info, limits)
        if info.audio is None:
            raise MediaError(f"{path} has no audio stream; a clip needs one.", "Read the picture alone with read_frames.")
        frame_reader, audio = VideoReader(info, video, limits), AudioReader(info, limits)
        _decode(container, frame_reader, audio)
    frames, fps = frame_reader.result()
    num_samples = samples_in_frames(len(frames), fps, audio.sample_rate)
    waveform = _covering(audio, frame_reader.start_s, num_samples, path, may_cut=num_frames is not None)
    return Clip(frames, np.clip(waveform, -1.0, 1.0), fps, audio.sample_rate, request=info.request, made_by=info.made_by)


def read_frames(
    path: str | Path,
    *,
    num_frames: int | None = None,
    max_seconds: float = MAX_SECONDS,
    max_pixels: int = MAX_PIXELS,
) -> Video:
    """Read the picture of a video; any audio is left unread.

    Args and Raises as :func:`read_clip`.
    """
    path = Path(path)
    limits = Limits(max_seconds, max_pixels, num_frames)
    with opened(path) as container:
        info = media_info(container, path)
        frame_reader = VideoReader(info, checked_video(info, limits), limits)
        _decode(container, frame_reader, None)
    return frame_reader.result()


def read_waveform(path: str | Path, sample_rate: int | None = None, *, max_seconds: float = MAX_SECONDS) -> Audio:
    """Read the audio of an audio file, or of a video, from its own first sample.

    Args:
        path: The file.
        sample_rate: Resample to this rate in Hz. Default: the file's own.
        max_seconds: Refuse what is longer.

    Returns:
        The audio as stored; floating-point files may pass full scale.

    Raises:
        MediaError: If the file cannot be read, is longer than ``max_seconds``, or has no audio or gaps in it.
    """
    path = Path(path)
    if sample_rate is not None and sample_rate < 1:
        raise MediaError(f"sample_rate must be positive; got {sample_rate}.")
    limits = Limits(max_seconds, MAX_PIXELS, None)
    with opened(path) as container:
        info = media_info(container, path)
        if info.audio is None:
            raise MediaError(f"{path} has no audio stream.")
        _check_seconds(info, info.audio.duration_s or info.duration_s, limits)
        audio = AudioReader(info, limits)
        _decode(container, None, audio)
    waveform, _ = audio.result()
    stated_s = info.audio.duration_s
    # only MP4 and its kin count their samples in the header; others estimate, or state what is still there
    if stated_s is not None and "mp4" in info.format:
        missing = round(stated_s * audio.sample_rate) - waveform.shape[1]
        if missing > audio.block:
            raise MediaError(
                f"{path} is cut short: {missing / audio.sample_rate:.3f} s of its audio are missing.",
                "The download or the recording may be incomplete.",
            )
    if not np.isfinite(waveform).all():
        raise MediaError(f"{path} holds samples that are not finite.")
    if sample_rate is None or sample_rate == audio.sample_rate:
        return Audio(waveform, audio.sample_rate)
    return Audio(resample(waveform, audio.sample_rate, to_rate=sample_rate), sample_rate)


def checked_video(info: MediaInfo, limits: Limits) -> VideoInfo:
    """The picture stream of a file, if it passes the limits by its header.

    Raises:
        MediaError: If there is none, or it does not.
    """
    video, path = info.video, info.path
    if video is None:
        raise MediaError(f"{path} has no picture stream.", "Read the audio alone with read_waveform.")
    if video.width * video.height > limits.max_pixels:
        raise MediaError(
            f"{path} is {video.width}x{video.height}; at most {limits.max_pixels} pixels a frame are read.",
            "Scale the video down first, or raise max_pixels.",
        )
    if video.width < 1 or video.height < 1:
        raise MediaError(f"{path} does not state the size of its picture.")
    if video.hdr is not None:
        raise MediaError(
            f"{path} is a high dynamic range video ({video.hdr}); its colours would come out wrong.",
            "Convert it to SDR (BT.709) first.",
        )
    if abs(video.pixel_aspect - 1) > _WIDEST_ODD_PIXEL:
        raise MediaError(
            f"{path} has pixels that are not square ({video.pixel_aspect}); it would come out distorted.",
            "Scale it to square pixels first.",
        )
    if video.fps is None:
        raise MediaError(f"{path} does not state its frame rate.")
    if limits.num_frames is None:
        _check_seconds(info, video.duration_s or info.duration_s, limits)
        frames = video.num_frames or int((info.duration_s or 0) * video.fps)
        check_bytes(info, frames * video.width * video.height * 3)
    return video


def _check_seconds(info: MediaInfo, seconds: Fraction | None, limits: Limits) -> None:
    if seconds is not None and seconds > limits.max_seconds:
        raise MediaError(
            f"{info.path} is {float(seconds):.2f} s long; at most {limits.max_seconds:g} s are read.",
            "Cut it first, or raise max_seconds.",
        )


def _decode(container: InputContainer, frame_reader: VideoReader | None, audio: AudioReader | None) -> None:
    """Feed both readers in one pass, until the video has all it wants and the audio has passed it."""
    streams: list[Any] = []
    if frame_reader is not None:
        stream = video_stream(container)
        assert stream is not None, "checked before"
        stream.codec_context.options = {"max_pixels": str(frame_reader.limits.max_pixels * _DECODER_PIXEL_SLACK)}
        streams.append(stream)
    if audio is not None:
        streams.append(audio_stream(container))
    for frame in container.decode(*streams):
        if isinstance(frame, av.VideoFrame) and frame_reader is not None:
            frame_reader.add(frame)
        elif isinstance(frame, av.AudioFrame) and audio is not None:
            audio.add(frame)
        if frame_reader is not None and frame_reader.is_full and (audio is None or audio.end_s > frame_reader.end_s):
            return


def _covering(audio: AudioReader, start_s: Fraction, num_samples: int, path: Path, *, may_cut: bool) -> NDArray[np.float32]:
    """Exactly ``num_samples`` samples from ``start_s``; one codec block may be cut or added at either end."""
    waveform, audio_start_s = audio.result()
    rate = audio.sample_rate
    slack = audio.block + int(TIMESTAMP_ROUNDING_S * rate)
    lead = round((audio_start_s - start_s) * rate)
    if lead > slack:
        raise MediaError(
            f"the audio of {path} starts {lead / rate:.3f} s after the picture; up to {slack / rate:.3f} s "
            "is taken as silence.",
            "Give the video audio from its first frame on.",
        )
    if lead < -slack:
        raise MediaError(
            f"the audio of {path} starts {-lead / rate:.3f} s before the picture.",
            "Cut both to the same start first.",
        )
    waveform = np.pad(waveform, ((0, 0), (lead, 0))) if lead > 0 else waveform[:, -lead:]
    missing = num_samples - waveform.shape[1]
    if missing > slack:
        raise MediaError(
            f"the audio of {path} ends {missing / rate:.3f} s before the picture ({missing} samples are missing at {rate} Hz).",
            "Read fewer frames with num_frames, or give it audio to the end.",
        )
    if -missing > slack and not may_cut:
        raise MediaError(
            f"the audio of {path} goes on for {-missing / rate:.3f} s after the picture ends.",
            "Read the frames with num_frames to drop it.",
        )
    fit_to_canvas = np.pad(waveform[:, :num_samples], ((0, 0), (0, max(0, missing))))
    return np.ascontiguousarray(fit_to_canvas, dtype=np.float32)
