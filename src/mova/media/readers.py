"""Collect decoded frames and blocks of samples, each checked against the clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from einops import rearrange
from numpy.typing import NDArray

from mova.errors import MediaError
from mova.media.probe import MediaInfo, VideoInfo, stream_time

MAX_DECODED_BYTES = 8 * 2**30

# Matroska and WebM state times in whole milliseconds
TIMESTAMP_ROUNDING_S = Fraction(1, 1000)


class Video(NamedTuple):
    """Video without audio: ``frames`` uint8 ``[T, H, W, 3]`` and the exact ``fps``."""

    frames: NDArray[np.uint8]
    fps: Fraction


class Audio(NamedTuple):
    """Audio without video: ``waveform`` float32 ``[channels, samples]`` and the ``sample_rate`` in Hz."""

    waveform: NDArray[np.float32]
    sample_rate: int


@dataclass(frozen=True)
class Limits:
    """Limits of a reader: length in seconds, pixels of a frame, and number of frames to read (None: all)."""

    max_seconds: float
    max_pixels: int
    num_frames: int | None

    def __post_init__(self) -> None:
        if self.num_frames is not None and self.num_frames < 1:
            raise MediaError(f"num_frames must be at least 1; got {self.num_frames}.")


@dataclass
class VideoReader:
    """Collects frames and checks each against the clock."""

    info: MediaInfo
    video: VideoInfo
    limits: Limits
    start_s: Fraction = Fraction(0)
    frames: list[NDArray[np.uint8]] = field(default_factory=list)
    reformatter: VideoReformatter = field(default_factory=VideoReformatter)

    @property
    def fps(self) -> Fraction:
        """Frames per second of the stream."""
        assert self.video.fps is not None, "checked by check_video"
        return self.video.fps

    @property
    def end_s(self) -> Fraction:
        """Time at which the last frame so far ends."""
        return self.start_s + len(self.frames) / self.fps

    @property
    def is_full(self) -> bool:
        """Whether all requested frames are read."""
        return self.limits.num_frames is not None and len(self.frames) >= self.limits.num_frames

    def add(self, frame: av.VideoFrame) -> None:
        """Add the next frame; refuse one that is off the clock or of another size."""
        if self.is_full:
            return
        path, index = self.info.path, len(self.frames)
        if (frame.width, frame.height) != (self.video.width, self.video.height):
            raise MediaError(
                f"{path} changes its size from {self.video.width}x{self.video.height} to "
                f"{frame.width}x{frame.height} at frame {index}."
            )
        time_s = stream_time(frame.pts, frame.time_base)
        if time_s is None:
            raise MediaError(f"{path} has no timestamp on frame {index}.")
        if index == 0:
            self.start_s = time_s
        if abs((time_s - self.start_s) * self.fps - index) >= Fraction(1, 2):
            raise MediaError(
                f"{path} does not have a constant {float(self.fps):.3f} frames per second: frame {index} is at "
                f"{float(time_s - self.start_s):.3f} s instead of {float(index / self.fps):.3f} s.",
                "Convert it to a constant frame rate first.",
            )
        if self.limits.num_frames is None and (index + 1) / self.fps > self.limits.max_seconds + 1:
            raise MediaError(f"{path} is longer than its header states; at most {self.limits.max_seconds:g} s are read.")
        check_bytes(self.info, (index + 1) * frame.width * frame.height * 3)
        self.frames.append(to_rgb(frame, self.reformatter))

    def result(self) -> Video:
        """Return all frames; refuse a truncated video."""
        path, wanted = self.info.path, self.limits.num_frames
        if not self.frames:
            raise MediaError(f"{path} contains no frame that can be decoded.")
        if wanted is not None and len(self.frames) < wanted:
            raise MediaError(f"{path} has {len(self.frames)} frames; {wanted} were requested.")
        stated = self.video.duration_s
        if wanted is None and stated is not None and stated * self.fps > len(self.frames) + Fraction(3, 2):
            raise MediaError(
                f"{path} is truncated: it has {len(self.frames)} of {round(stated * self.fps)} frames.",
                "The download or the recording may be incomplete.",
            )
        return Video(np.stack(self.frames), self.fps)


@dataclass
class AudioReader:
    """Collects blocks of samples and places them on the clock."""

    info: MediaInfo
    limits: Limits
    sample_rate: int = 0
    start_s: Fraction = Fraction(0)
    block: int = 0
    num_samples: int = 0
    blocks: list[NDArray[np.float32]] = field(default_factory=list)

    @property
    def end_s(self) -> Fraction:
        """Time at which the last sample so far ends."""
        return self.start_s + Fraction(self.num_samples, self.sample_rate) if self.sample_rate else self.start_s

    def add(self, frame: av.AudioFrame) -> None:
        """Add the next block; refuse one that is off the clock or of another format."""
        path, samples = self.info.path, _samples(frame)
        time_s = stream_time(frame.pts, frame.time_base)
        if not self.blocks:
            self.sample_rate = frame.sample_rate
            # audio without a timestamp on its first block starts where the file does
            self.start_s = time_s if time_s is not None else Fraction(0)
        elif (frame.sample_rate, len(samples)) != (self.sample_rate, len(self.blocks[0])):
            raise MediaError(f"{path} changes its sample rate or its channels at {float(self.end_s):.3f} s.")
        self.block = max(self.block, samples.shape[1])
        if time_s is not None:
            self._close_gap(time_s)
        self.blocks.append(samples)
        self.num_samples += samples.shape[1]
        if self.num_samples > (self.limits.max_seconds + 2) * self.sample_rate:
            raise MediaError(
                f"{path} has more audio than its header states, or than the limit of {self.limits.max_seconds:g} s."
            )

    def result(self) -> tuple[NDArray[np.float32], Fraction]:
        """Return ``[channels, samples]`` up to the end that the container states, and the time of the first sample."""
        if not self.blocks:
            raise MediaError(f"{self.info.path} contains no audio that can be decoded.")
        waveform = np.concatenate(self.blocks, axis=1)
        audio = self.info.audio
        if audio is not None and audio.duration_s is not None:
            # the last block of a lossy codec extends past the stated end, and players do not play that part
            stated = int(audio.duration_s * self.sample_rate)
            if 0 < stated < waveform.shape[1] <= stated + self.block:
                waveform = waveform[:, :stated]
        return waveform, self.start_s

    def _close_gap(self, time_s: Fraction) -> None:
        """Fill a gap of at most one block with silence (a lost packet); refuse a longer one."""
        gap = round((time_s - self.end_s) * self.sample_rate)
        rounding = int(3 * TIMESTAMP_ROUNDING_S * self.sample_rate)
        if abs(gap) <= rounding:
            return
        if gap < 0 or gap > self.block:
            raise MediaError(
                f"the audio of {self.info.path} {'has a gap of' if gap > 0 else 'goes back by'} "
                f"{abs(gap) / self.sample_rate:.3f} s at {float(self.end_s):.3f} s.",
                "Encode its audio again first.",
            )
        self.blocks.append(np.zeros((len(self.blocks[0]), gap), np.float32))
        self.num_samples += gap


def check_bytes(info: MediaInfo, num_bytes: int) -> None:
    """Refuse frames that would take more memory than :data:`MAX_DECODED_BYTES`."""
    if num_bytes > MAX_DECODED_BYTES:
        raise MediaError(
            f"the frames of {info.path} would take {num_bytes / 2**30:.1f} GiB of memory; "
            f"at most {MAX_DECODED_BYTES / 2**30:.0f} are read at once.",
            "Read part of it with num_frames, or scale the video down first.",
        )


def to_rgb(frame: av.VideoFrame, reformatter: VideoReformatter) -> NDArray[np.uint8]:
    """Convert a frame to ``[H, W, 3]`` full-range RGB, upright, by the colour matrix that the file states."""
    is_rgb = frame.format.is_rgb or frame.format.has_palette
    if is_rgb:
        array = frame.to_ndarray(format="rgb24")
    else:
        array = reformatter.reformat(
            frame,
            format="rgb24",
            src_colorspace=_matrix(frame),
            dst_colorspace=Colorspace.ITU709,
            src_color_range=_range(frame),
            dst_color_range=ColorRange.JPEG,
            interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT,
            threads=1,
        ).to_ndarray()
    turns = round(frame.rotation / 90)
    return np.ascontiguousarray(np.rot90(array, turns) if turns % 4 else array)


def _matrix(frame: av.VideoFrame) -> int:
    """Return the stated matrix, or the one that players assume: BT.709 from 720 lines up, BT.601 below."""
    stated = int(frame.colorspace)
    if stated in {int(known) for known in Colorspace}:
        return stated
    # FFmpeg's code point 6 (SMPTE 170M) is BT.601 under another name
    return int(Colorspace.ITU601 if stated == 6 or min(frame.width, frame.height) < 720 else Colorspace.ITU709)


def _range(frame: av.VideoFrame) -> int:
    is_full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    return int(ColorRange.JPEG if is_full else ColorRange.MPEG)


def _samples(frame: av.AudioFrame) -> NDArray[np.float32]:
    """Convert a block to ``[channels, samples]`` float32; integers are divided by their full scale."""
    array = frame.to_ndarray()
    if not frame.format.is_planar:
        array = rearrange(array, "1 (samples channels) -> channels samples", channels=frame.layout.nb_channels)
    if array.dtype.kind == "f":
        return np.ascontiguousarray(array, dtype=np.float32)
    if array.dtype == np.uint8:
        return (array.astype(np.float32) - 128.0) / 128.0
    return (array / float(2 ** (8 * array.dtype.itemsize - 1))).astype(np.float32)
