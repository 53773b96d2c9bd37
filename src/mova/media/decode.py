"""Read video and audio files on the clock: frame ``n`` at ``n / fps``, sample ``k`` at ``k / sample_rate``.

Time 0 is the start of the first frame, or of the first sample in an audio file. Encoder priming and edit lists are
honoured: what a player would not play is not returned. Every limit is checked on the headers and the packets before a frame
is decoded. What plays everywhere is read: :mod:`mova.media.tolerances` says what is repaired, and every result says what was.

    with a video in memory:   read_clip, read_frames, read_waveform
    as a stream:              FrameStream, AudioStream
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from fractions import Fraction
from math import inf
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from mova.errors import MediaError
from mova.media.blocks import AudioHead, decode_blocks
from mova.media.clip import Clip
from mova.media.frames import Limits, VideoHead, check_video, decode_frames
from mova.media.probe import probe
from mova.media.resample import resample
from mova.media.tolerances import Purpose, limit
from mova.timeline import samples_in_frames

MAX_SECONDS = 300.0
MAX_PIXELS = 4096 * 2304
MAX_DECODED_BYTES = 8 * 2**30

_MIXED_S = 5.0  # enough to decide which channels run against others
_UNHEARD_EDGE_S = 0.05  # a block or two of a codec: nothing to speak of


class Video(NamedTuple):
    """Video without audio.

    Args:
        frames: ``[T, H, W, 3]`` uint8.
        fps: Exact frames per second.
        repairs: What was repaired, one line each.
    """

    frames: NDArray[np.uint8]
    fps: Fraction
    repairs: tuple[str, ...] = ()


class Audio(NamedTuple):
    """Audio without video.

    Args:
        waveform: ``[channels, samples]`` float32.
        sample_rate: Sample rate in Hz.
        repairs: What was repaired, one line each.
    """

    waveform: NDArray[np.float32]
    sample_rate: int
    repairs: tuple[str, ...] = ()


class FrameStream:
    """The frames of a video, decoded as they are asked for; iterate once.

    Args:
        path: The file.
        num_frames: Number of frames to read. Default: the whole video.
        max_seconds: Longest video accepted, in seconds. Default: any.
        max_pixels: Largest frame accepted, in pixels.
        purpose: ``"use"`` for frames that become part of a clip; ``"measure"`` also reads what a player would show in other
            colours or shapes.

    Attributes:
        path: The file.
        fps: Exact frames per second.
        start_s: Time of the first frame in the file, in seconds.
        num_frames: Number of frames.
        repairs: What was repaired, one line each; complete after the last frame.

    Raises:
        MediaError: If the file cannot be read, exceeds a limit, or is damaged or truncated; some damage is found while
            iterating.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        num_frames: int | None = None,
        max_seconds: float = inf,
        max_pixels: int = MAX_PIXELS,
        purpose: Purpose = "use",
    ) -> None:
        self.path, self._limits = Path(path), Limits(max_seconds, max_pixels, num_frames, purpose)
        self._parts = decode_frames(self.path, self._limits)
        self.fps, self.start_s, self.num_frames = cast(VideoHead, next(self._parts))
        self.repairs: tuple[str, ...] = ()

    def reopen(self) -> FrameStream:
        """Return a stream of the same frames, from the first on."""
        limits = self._limits
        return FrameStream(
            self.path,
            num_frames=limits.num_frames,
            max_seconds=limits.max_seconds,
            max_pixels=limits.max_pixels,
            purpose=limits.purpose,
        )

    def close(self) -> None:
        """Stop decoding."""
        cast(Any, self._parts).close()

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """Yield ``[H, W, 3]`` uint8; a frame shown for several ticks is the same array: do not write into it."""
        frame: NDArray[np.uint8] | None = None
        for part in self._parts:
            if isinstance(part, tuple):  # the last
                self.repairs = cast("tuple[str, ...]", part)
                continue
            frame = frame if part is None else part
            assert frame is not None, "the first is a frame"
            yield frame


class AudioStream:
    """The audio of a file in blocks, decoded as they are asked for; iterate once.

    Args:
        path: The file.
        until_s: Time in the file from which on nothing is needed, in seconds. Default: the whole audio.
        max_seconds: Longest audio accepted, in seconds. Default: any.
        purpose: As in :class:`FrameStream`.

    Attributes:
        sample_rate: Sample rate in Hz.
        channels: Number of channels.
        start_s: Time of the first sample in the file, in seconds.
        repairs: What was repaired, one line each; complete after the last block.

    Raises:
        MediaError: If the file cannot be read, exceeds a limit, has no audio, or is damaged or truncated; some damage is found
            while iterating.
    """

    def __init__(
        self, path: str | Path, *, until_s: Fraction | None = None, max_seconds: float = inf, purpose: Purpose = "use"
    ) -> None:
        self._parts = decode_blocks(Path(path), Limits(max_seconds, MAX_PIXELS, None, purpose), until_s)
        self.sample_rate, self.channels, self.start_s = cast(AudioHead, next(self._parts))
        self.repairs: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Yield ``[channels, samples]`` float32 as stored; samples of floating-point files may exceed full scale."""
        for part in self._parts:
            if isinstance(part, tuple):  # the last
                self.repairs = cast("tuple[str, ...]", part)
                continue
            yield part

    def read(self) -> NDArray[np.float32]:
        """Return all blocks as one waveform ``[channels, samples]``."""
        return np.concatenate([np.zeros((self.channels, 0), np.float32), *self], axis=1)

    def read_at(self, sample_rate: int, *, mix: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> NDArray[np.float16]:
        """Return the audio at a lower rate in mono and half precision, converted as it is read: an hour is 115 MB at 16 kHz.

        Args:
            sample_rate: Sample rate of the result in Hz.
            mix: Makes ``[samples]`` of some seconds of ``[channels, samples]``.

        Returns:
            ``[1, samples]`` float16.
        """
        import soxr

        converter = soxr.ResampleStream(self.sample_rate, sample_rate, 1, dtype="float32", quality="VHQ")
        parts: list[NDArray[np.float16]] = []
        held: list[NDArray[np.float32]] = []
        num_held = 0
        for block in self:
            held.append(block)
            num_held += block.shape[1]
            if num_held >= _MIXED_S * self.sample_rate:
                parts.append(converter.resample_chunk(mix(np.concatenate(held, axis=1))).astype(np.float16))
                held, num_held = [], 0
        rest = np.concatenate([np.zeros((self.channels, 0), np.float32), *held], axis=1)
        parts.append(converter.resample_chunk(mix(rest) if held else rest[0], last=True).astype(np.float16))
        return np.concatenate(parts)[None]


class StreamedFrames:
    """The frames of a video that is too large to hold: each iteration decodes it again, a frame at a time.

    Args:
        video: The video as it was just opened; it is closed.

    Attributes:
        shape: ``(T, H, W, 3)``.
        repairs: What was repaired, one line each; complete after the first iteration.
    """

    def __init__(self, video: FrameStream) -> None:
        self._video = video
        with closing(video):
            self.shape = (video.num_frames, *next(iter(video)).shape)
        self.repairs: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(self.shape[0])

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """Yield ``[H, W, 3]`` uint8."""
        video = self._video.reopen()
        yield from video
        self.repairs = video.repairs

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Hold all frames after all.

        Raises:
            MediaError: If they would take more memory than :data:`MAX_DECODED_BYTES`.
        """
        return collect_frames(self._video.reopen()).astype(dtype or np.uint8, copy=False)


def read_clip(
    path: str | Path,
    *,
    num_frames: int | None = None,
    max_seconds: float = MAX_SECONDS,
    max_pixels: int = MAX_PIXELS,
) -> Clip:
    """Read a video with its audio, at its own size, frame rate and sample rate.

    The audio is cut or padded to exactly the length of the frames, by no more than ``edge`` in
    :data:`mova.media.tolerances.TOLERANCES`; a larger difference is an error. Samples that a lossy codec pushed beyond full
    scale are clipped to ``[-1, 1]``, as a player's converter does.

    Args:
        path: The file.
        num_frames: Number of frames to read, with their audio. Default: the whole video.
        max_seconds: Longest video accepted, in seconds.
        max_pixels: Largest frame accepted, in pixels.

    Raises:
        MediaError: If the file cannot be read, exceeds a limit, has no video or no audio, changes its size within the video,
            or if the audio is shorter than the video (or longer, without ``num_frames``).
    """
    path, info = Path(path), probe(path)
    check_video(info, Limits(max_seconds, max_pixels, num_frames))
    if info.audio is None:
        raise MediaError(f"{path} has no audio stream; a clip needs one.", "Read the frames alone with read_frames.")
    video = FrameStream(path, num_frames=num_frames, max_seconds=max_seconds, max_pixels=max_pixels)
    frames = collect_frames(video)
    end_s = None if num_frames is None else video.start_s + num_frames / video.fps
    audio = AudioStream(path, until_s=end_s, max_seconds=max_seconds + limit("edge") if num_frames is None else inf)
    waveform, lead_s = audio.read(), audio.start_s - video.start_s
    num_samples = samples_in_frames(len(frames), video.fps, audio.sample_rate)
    waveform, edges = _align_to_video(waveform, audio.sample_rate, lead_s, num_samples, path, may_cut=num_frames is not None)
    return Clip(
        frames,
        np.clip(waveform, -1.0, 1.0),
        video.fps,
        audio.sample_rate,
        request=info.request,
        made_by=info.made_by,
        repairs=(*video.repairs, *audio.repairs, *edges),
    )


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
    video = FrameStream(path, num_frames=num_frames, max_seconds=max_seconds, max_pixels=max_pixels)
    return Video(collect_frames(video), video.fps, video.repairs)


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
    if sample_rate is not None and sample_rate < 1:
        raise MediaError(f"sample_rate must be positive; got {sample_rate}.")
    audio = AudioStream(path, max_seconds=max_seconds)
    waveform = audio.read()
    if not np.isfinite(waveform).all():
        raise MediaError(f"{path} contains samples that are not finite.")
    if sample_rate is None or sample_rate == audio.sample_rate:
        return Audio(waveform, audio.sample_rate, audio.repairs)
    return Audio(resample(waveform, audio.sample_rate, to_rate=sample_rate), sample_rate, audio.repairs)


def collect_frames(video: FrameStream) -> NDArray[np.uint8]:
    """Read all frames of a stream into one array.

    Args:
        video: The stream.

    Returns:
        ``[T, H, W, 3]`` uint8.

    Raises:
        MediaError: If they would take more memory than :data:`MAX_DECODED_BYTES`, or the file is damaged.
    """
    frames: NDArray[np.uint8] | None = None
    for index, frame in enumerate(video):
        if frames is None:
            check_bytes(video.path, video.num_frames * frame.size)
            frames = np.empty((video.num_frames, *frame.shape), np.uint8)
        frames[index] = frame
    assert frames is not None, "a video has at least one frame"
    return frames


def check_bytes(path: Path, num_bytes: int) -> None:
    """Refuse frames that would take more memory than :data:`MAX_DECODED_BYTES`.

    Raises:
        MediaError: If they would.
    """
    if num_bytes > MAX_DECODED_BYTES:
        raise MediaError(
            f"the frames of {path} would take {num_bytes / 2**30:.1f} GiB of memory; "
            f"at most {MAX_DECODED_BYTES / 2**30:.0f} are read at once.",
            "Read part of it with num_frames, or scale the video down first.",
        )


def _align_to_video(
    waveform: NDArray[np.float32], rate: int, lead_s: Fraction, num_samples: int, path: Path, *, may_cut: bool
) -> tuple[NDArray[np.float32], list[str]]:
    """Cut or pad audio that starts ``lead_s`` after the video to ``num_samples`` samples, and say what that changes."""
    slack, lead = round(limit("edge") * rate), round(lead_s * rate)
    missing = num_samples - lead - waveform.shape[1]
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
    waveform = np.pad(waveform, ((0, 0), (lead, 0))) if lead > 0 else waveform[:, -lead:]
    padded = np.pad(waveform[:, :num_samples], ((0, 0), (0, max(0, missing))))
    changes = (("before the audio", lead), ("after the audio", missing if missing > 0 or not may_cut else 0))
    notes = [_edge_text(where, samples / rate) for where, samples in changes if abs(samples) > _UNHEARD_EDGE_S * rate]
    return np.ascontiguousarray(padded, dtype=np.float32), notes


def _edge_text(where: str, seconds: float) -> str:
    if seconds > 0:
        return f"{1000 * seconds:.0f} ms of silence added {where}"
    return f"{-1000 * seconds:.0f} ms {where.replace('after the', 'of').replace('before the', 'of')} beyond the video left out"
