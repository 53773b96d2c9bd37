"""Read video and audio files on the clock: frame ``n`` at ``n / fps``, sample ``k`` at ``k / sample_rate``.

Time 0 is the start of the first frame, or of the first sample in an audio file. Encoder priming and edit lists are
honoured: what a player would not play is not returned. Every limit is checked on the header before a frame is decoded,
and again during decoding, because the headers of malicious files may be wrong.
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
from mova.media.probe import MediaInfo, VideoInfo, audio_stream, media_info, open_container, video_stream
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

    The audio is cut or padded to exactly the length of the frames. Codecs work in blocks (1024 samples in AAC), so at most
    one block is cut at the end or added as zeros; a larger difference is an error. Samples that a lossy codec pushed beyond
    full scale are clipped to ``[-1, 1]``, as a player's converter does.

    Args:
        path: The file.
        num_frames: Number of frames to read, with their audio. Default: the whole video.
        max_seconds: Longest video accepted, in seconds.
        max_pixels: Largest frame accepted, in pixels.

    Raises:
        MediaError: If the file cannot be read, exceeds a limit, has no video or no audio, changes its frame rate or size
            within the video, or if the audio is shorter than the video (or longer, without ``num_frames``).
    """
    path = Path(path)
    limits = Limits(max_seconds, max_pixels, num_frames)
    with open_container(path) as container:
        info = media_info(container, path)
        video = check_video(info, limits)
        if info.audio is None:
            raise MediaError(f"{path} has no audio stream; a clip needs one.", "Read the frames alone with read_frames.")
        frame_reader, audio = VideoReader(info, video, limits), AudioReader(info, limits)
        _decode(container, frame_reader, audio)
    frames, fps = frame_reader.result()
    num_samples = samples_in_frames(len(frames), fps, audio.sample_rate)
    waveform = _align_to_video(audio, frame_reader.start_s, num_samples, path, may_cut=num_frames is not None)
    return Clip(frames, np.clip(waveform, -1.0, 1.0), fps, audio.sample_rate, request=info.request, made_by=info.made_by)


def read_frames(
    path: str | Path,
    *,
    num_frames: int | None = None,
    max_seconds: float = MAX_SECONDS,
    max_pixels: int = MAX_PIXELS,
) -> Video:
    """Read the frames of a video; its audio is ignored.

    Args and Raises as in :func:`read_clip`.
    """
    path = Path(path)
    limits = Limits(max_seconds, max_pixels, num_frames)
    with open_container(path) as container:
        info = media_info(container, path)
        frame_reader = VideoReader(info, check_video(info, limits), limits)
        _decode(container, frame_reader, None)
    return frame_reader.result()


def read_waveform(path: str | Path, sample_rate: int | None = None, *, max_seconds: float = MAX_SECONDS) -> Audio:
    """Read the audio of an audio or video file, from its own first sample.

    Args:
        path: The file.
        sample_rate: Sample rate of the result in Hz. Default: that of the file.
        max_seconds: Longest audio accepted, in seconds.

    Returns:
        The audio as stored; samples of floating-point files may exceed full scale.

    Raises:
        MediaError: If the file cannot be read, is longer than ``max_seconds``, or has no audio, or audio with gaps.
    """
    path = Path(path)
    if sample_rate is not None and sample_rate < 1:
        raise MediaError(f"sample_rate must be positive; got {sample_rate}.")
    limits = Limits(max_seconds, MAX_PIXELS, None)
    with open_container(path) as container:
        info = media_info(container, path)
        if info.audio is None:
            raise MediaError(f"{path} has no audio stream.")
        _check_seconds(info, info.audio.duration_s or info.duration_s, limits)
        audio = AudioReader(info, limits)
        _decode(container, None, audio)
    waveform, _ = audio.result()
    stated_s = info.audio.duration_s
    # only MP4 and related formats count their samples in the header; others estimate, or state what is left of the file
    if stated_s is not None and "mp4" in info.format:
        missing = round(stated_s * audio.sample_rate) - waveform.shape[1]
        if missing > audio.block:
            raise MediaError(
                f"{path} is truncated: {missing / audio.sample_rate:.3f} s of its audio are missing.",
                "The download or the recording may be incomplete.",
            )
    if not np.isfinite(waveform).all():
        raise MediaError(f"{path} contains samples that are not finite.")
    if sample_rate is None or sample_rate == audio.sample_rate:
        return Audio(waveform, audio.sample_rate)
    return Audio(resample(waveform, audio.sample_rate, to_rate=sample_rate), sample_rate)


def check_video(info: MediaInfo, limits: Limits) -> VideoInfo:
    """Check a file's video stream against the limits, by its header, and return it.

    Raises:
        MediaError: If the file has no video stream, or it exceeds a limit.
    """
    video, path = info.video, info.path
    if video is None:
        raise MediaError(f"{path} has no video stream.", "Read the audio alone with read_waveform.")
    if video.width * video.height > limits.max_pixels:
        raise MediaError(
            f"{path} is {video.width}x{video.height}; frames of at most {limits.max_pixels} pixels are read.",
            "Scale the video down first, or raise max_pixels.",
        )
    if video.width < 1 or video.height < 1:
        raise MediaError(f"{path} does not state its frame size.")
    if video.hdr is not None:
        raise MediaError(
            f"{path} is a high dynamic range video ({video.hdr}); its colours would be wrong.",
            "Convert it to SDR (BT.709) first.",
        )
    if abs(video.pixel_aspect - 1) > _WIDEST_ODD_PIXEL:
        raise MediaError(
            f"{path} has pixels that are not square ({video.pixel_aspect}); it would be distorted.",
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
    """Feed both readers in one pass, until all frames are read and the audio reaches their end."""
    streams: list[Any] = []
    if frame_reader is not None:
        stream = video_stream(container)
        assert stream is not None, "checked by check_video"
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


def _align_to_video(
    audio: AudioReader, start_s: Fraction, num_samples: int, path: Path, *, may_cut: bool
) -> NDArray[np.float32]:
    """Cut or pad the audio to ``num_samples`` samples from ``start_s``, by at most one codec block at either end."""
    waveform, audio_start_s = audio.result()
    rate = audio.sample_rate
    slack = audio.block + int(TIMESTAMP_ROUNDING_S * rate)
    lead = round((audio_start_s - start_s) * rate)
    if lead > slack:
        raise MediaError(
            f"the audio of {path} starts {lead / rate:.3f} s after the video; at most {slack / rate:.3f} s are filled with "
            "silence.",
            "Use a file whose audio starts with its first frame.",
        )
    if lead < -slack:
        raise MediaError(
            f"the audio of {path} starts {-lead / rate:.3f} s before the video.",
            "Cut both to the same start first.",
        )
    waveform = np.pad(waveform, ((0, 0), (lead, 0))) if lead > 0 else waveform[:, -lead:]
    missing = num_samples - waveform.shape[1]
    if missing > slack:
        raise MediaError(
            f"the audio of {path} ends {missing / rate:.3f} s before the video ({missing} samples are missing at {rate} Hz).",
            "Read fewer frames with num_frames, or extend the audio to the end.",
        )
    if -missing > slack and not may_cut:
        raise MediaError(
            f"the audio of {path} goes on for {-missing / rate:.3f} s after the video ends.",
            "Set num_frames to leave it out.",
        )
    padded = np.pad(waveform[:, :num_samples], ((0, 0), (0, max(0, missing))))
    return np.ascontiguousarray(padded, dtype=np.float32)
