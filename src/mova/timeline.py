"""The clock. Frames, video latents, audio samples and audio latents are converted to each other here and nowhere else.

Every position is a time in seconds from the start of the first frame, held as an exact :class:`~fractions.Fraction`.
Frame ``n`` is on screen during ``[n / fps, (n + 1) / fps)``; sample ``k`` is at ``k / sample_rate``. A causal video codec
with stride ``s`` turns frame 0 into latent 0 and frames ``1 + (i - 1) s ... i s`` into latent ``i``; an audio codec with
hop ``h`` turns samples ``j h ... (j + 1) h - 1`` into latent ``j``.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

Number = int | float | Fraction


def exact_fps(value: Number) -> Fraction:
    """Return frames per second as an exact fraction; broadcast rates are recognised (23.976 is 24000/1001).

    Args:
        value: Frames per second, positive and finite.

    Raises:
        ValueError: If ``value`` is not a positive, finite number.
    """
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        raise ValueError(f"fps must be a finite number; got {value}.")
    if value <= 0:
        raise ValueError(f"fps must be positive; got {value}.")
    if isinstance(value, float):
        ntsc = Fraction(round(value) * 1000, 1001)
        # 23.98, 29.97 and 59.94 are the usual spellings of the NTSC rates; no other rate is this close to one
        if abs(float(ntsc) - value) < 0.006 and value != round(value):
            return ntsc
        return Fraction(value).limit_denominator(1001)
    return Fraction(value)


def frame_time(index: int, fps: Number) -> Fraction:
    """Return the start of frame ``index`` in seconds."""
    return Fraction(index) / exact_fps(fps)


def samples_in_frames(num_frames: int, fps: Number, sample_rate: int) -> int:
    """Return the number of samples in ``num_frames`` frames: ``floor(num_frames * sample_rate / fps)`` (spec 3.7)."""
    return int(Fraction(num_frames * sample_rate) / exact_fps(fps))


def frames_in_seconds(seconds: Number, fps: Number) -> int:
    """Return the number of frames of the shortest video that lasts at least ``seconds``; at least one frame.

    Decimal seconds are taken as written (0.1 is exactly one tenth, not the nearest binary number).
    """
    exact = Fraction(str(seconds)) if isinstance(seconds, float) else Fraction(seconds)
    return max(1, -int(-(exact * exact_fps(fps)) // 1))


def video_latents_in_frames(num_frames: int, stride: int) -> int:
    """Return the number of video latents of ``num_frames`` frames.

    Args:
        num_frames: Length of the video in frames, ``1 + stride k``.
        stride: Frames per video latent, for all latents after the first.

    Raises:
        ValueError: If ``num_frames`` is not ``1 + stride k``.
    """
    if num_frames < 1 or (num_frames - 1) % stride:
        above = frames_in_video_latents(1 + latent_of_frame(max(1, num_frames) - 1, stride), stride)
        raise ValueError(f"num_frames must be 1 + {stride} k; got {num_frames}, the next is {above}.")
    return 1 + (num_frames - 1) // stride


def frames_in_video_latents(num_latents: int, stride: int) -> int:
    """Return the number of frames that ``num_latents`` video latents decode to: ``1 + stride (num_latents - 1)``.

    Raises:
        ValueError: If ``num_latents`` is less than 1.
    """
    if num_latents < 1:
        raise ValueError(f"num_latents must be at least 1; got {num_latents}.")
    return 1 + stride * (num_latents - 1)


def latent_of_frame(index: int, stride: int) -> int:
    """Return the index of the video latent that holds frame ``index``."""
    return -(-index // stride)


def frames_of_latent(index: int, stride: int) -> range:
    """Return the frames that video latent ``index`` holds: one for the first latent, ``stride`` for every other."""
    return range(0, 1) if index == 0 else range(1 + (index - 1) * stride, 1 + index * stride)


@dataclass(frozen=True)
class Timeline:
    """The clock of one model: the rates and strides of its frames, samples and latents.

    Args:
        fps: Frames per second of the generated video.
        sample_rate: Sample rate of the audio codec in Hz.
        video_stride: Frames per video latent, for all latents after the first.
        audio_hop: Samples per audio latent.

    Raises:
        ValueError: If a rate or a stride is not positive.
    """

    fps: Fraction
    sample_rate: int
    video_stride: int = 4
    audio_hop: int = 960

    def __post_init__(self) -> None:
        for name in ("fps", "sample_rate", "video_stride", "audio_hop"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive; got {getattr(self, name)}.")

    @property
    def audio_latents_per_second(self) -> Fraction:
        """Rate of the audio latents in Hz; the bridge's positions are counted in them."""
        return Fraction(self.sample_rate, self.audio_hop)

    def next_legal_frames(self, num_frames: int) -> int:
        """Return the smallest number of frames ``1 + stride k`` that is at least ``num_frames``."""
        if num_frames < 1:
            raise ValueError(f"num_frames must be at least 1; got {num_frames}.")
        return 1 - (1 - num_frames) // self.video_stride * self.video_stride

    def video_latents(self, num_frames: int) -> int:
        """Return the number of video latents of ``num_frames`` frames.

        Raises:
            ValueError: If ``num_frames`` is not ``1 + stride k``.
        """
        return video_latents_in_frames(num_frames, self.video_stride)

    def frames_of_latents(self, num_latents: int) -> int:
        """Return the number of frames that ``num_latents`` video latents decode to: ``1 + stride (num_latents - 1)``."""
        return frames_in_video_latents(num_latents, self.video_stride)

    def latent_of_frame(self, index: int) -> int:
        """Return the index of the video latent that holds frame ``index``."""
        return latent_of_frame(index, self.video_stride)

    def frames_of_latent(self, index: int) -> range:
        """Return the frames that video latent ``index`` holds."""
        return frames_of_latent(index, self.video_stride)

    def frame_span(self, first: int, stop: int) -> tuple[int, int]:
        """Return the first frame, and the one after the last, of the video latents ``first ... stop - 1``.

        Raises:
            ValueError: If the span is empty.
        """
        if not 0 <= first < stop:
            raise ValueError(f"a span must hold at least one latent; got {first} to {stop}.")
        return self.frames_of_latent(first).start, self.frames_of_latent(stop - 1).stop

    def sample_span(self, first: int, stop: int) -> tuple[int, int]:
        """Return the first sample, and the one after the last, of the audio latents ``first ... stop - 1``.

        Raises:
            ValueError: If the span is empty.
        """
        if not 0 <= first < stop:
            raise ValueError(f"a span must hold at least one latent; got {first} to {stop}.")
        return first * self.audio_hop, stop * self.audio_hop

    def samples(self, num_frames: int) -> int:
        """Return the number of audio samples in ``num_frames`` frames."""
        return samples_in_frames(num_frames, self.fps, self.sample_rate)

    def audio_latents(self, num_frames: int) -> int:
        """Return the number of audio latents that cover ``num_frames`` frames: ``(samples - 1) // hop + 1`` (spec 3.7)."""
        return (self.samples(num_frames) - 1) // self.audio_hop + 1

    def samples_of_latents(self, num_latents: int) -> int:
        """Return the number of samples that ``num_latents`` audio latents decode to."""
        return num_latents * self.audio_hop

    def video_latent_span(self, index: int) -> tuple[Fraction, Fraction]:
        """Return start and end, in seconds, of the frames of video latent ``index``."""
        frames = self.frames_of_latent(index)
        return Fraction(frames.start) / self.fps, Fraction(frames.stop) / self.fps

    def audio_latent_span(self, index: int) -> tuple[Fraction, Fraction]:
        """Return start and end, in seconds, of the samples of audio latent ``index``."""
        begin, end = self.sample_span(index, index + 1)
        return Fraction(begin, self.sample_rate), Fraction(end, self.sample_rate)
