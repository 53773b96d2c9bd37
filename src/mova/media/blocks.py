"""Decode the audio of a file block by block, on the clock of its samples: the heart of every reader of audio.

A block follows the one before it, whatever its timestamp says by a few milliseconds: that is how players play. Only where
the timestamps of a whole stretch agree that something is missing, or comes twice, silence is added, or samples are left out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from einops import rearrange
from numpy.typing import NDArray

from mova.errors import MediaError
from mova.media.frames import Limits, check_seconds, decode_packets
from mova.media.probe import AudioInfo, audio_stream, media_info, open_container, stream_time
from mova.media.tolerances import Repairs, limit
from mova.media.worker import isolate_parts

Samples = NDArray[np.float32]

_NUM_AHEAD = 8  # blocks whose timestamps are compared before silence is added
_MAX_BLOCK_S = 1


class AudioHead(NamedTuple):
    """What is known of audio when its first blocks are decoded.

    Args:
        sample_rate: Samples per second.
        channels: Number of channels.
        start_s: Time of the first sample in the file, in seconds.
    """

    sample_rate: int
    channels: int
    start_s: Fraction


class _Block(NamedTuple):
    """Decoded samples ``[channels, samples]``, their stated time and their rate."""

    samples: Samples
    time_s: Fraction | None
    rate: int


@isolate_parts
def decode_blocks(
    path: Path, limits: Limits, until_s: Fraction | None = None
) -> Iterator[AudioHead | Samples | tuple[str, ...]]:
    """Decode the audio of a file.

    Args:
        path: The file.
        limits: Limits to keep.
        until_s: Time in the file from which on nothing is needed; None for all.

    Yields:
        First the :class:`AudioHead`; then blocks ``[channels, samples]`` float32 as stored (floating-point files may exceed
        full scale); last what was repaired, one line each.

    Raises:
        MediaError: If the file cannot be read, exceeds a limit, is damaged or truncated, or its audio has a hole that is too
            long.
    """
    with open_container(path) as container:
        info = media_info(container, path)
        if info.audio is None:
            raise MediaError(f"{path} has no audio stream.")
        check_seconds(info, info.audio.duration_s or info.duration_s, limits)
        reader = _BlockReader(path, limits, info.audio, counts_samples="mp4" in info.format)
        yield from reader.read(container, until_s)


class _BlockReader:
    """The audio of one file: where its clock is, and what is repaired of it."""

    def __init__(self, path: Path, limits: Limits, audio: AudioInfo, *, counts_samples: bool) -> None:
        self.path, self.limits, self.audio, self.counts_samples = path, limits, audio, counts_samples
        self.repairs = Repairs()
        self.rate, self.start_s, self.num_samples, self.longest, self.num_skipped = 0, Fraction(0), 0, 0, 0

    @property
    def end_s(self) -> Fraction:
        """Time in the file at which the last sample so far ends."""
        return self.start_s + Fraction(self.num_samples, self.rate or 1)

    def read(self, container: InputContainer, until_s: Fraction | None) -> Iterator[AudioHead | Samples | tuple[str, ...]]:
        """Yield what :func:`decode_blocks` yields."""
        blocks = self._blocks(container)
        ahead: deque[_Block] = deque()
        for block in blocks:
            ahead.append(block)
            if len(ahead) == _NUM_AHEAD:
                break
        self.rate = ahead[0].rate
        self.start_s = self._start_s(ahead)
        yield AudioHead(self.rate, len(ahead[0].samples), self.start_s)
        for part in self._trim(self._place(blocks, ahead)):
            yield part
            if until_s is not None and self.end_s >= until_s:
                break
        else:
            self._check_whole()
        yield self.repairs.lines()

    def _blocks(self, container: InputContainer) -> Iterator[_Block]:
        """Yield every block that can be decoded; refuse a change of format."""
        stream = audio_stream(container)
        assert stream is not None, "checked by decode_blocks"
        rate, channels, count = 0, 0, 0
        for frame in decode_packets(container, stream, stream.codec_context, self.repairs):
            samples = self._samples(frame)
            if count == 0:
                rate, channels = frame.sample_rate, len(samples)
            elif (frame.sample_rate, len(samples)) != (rate, channels):
                raise MediaError(f"{self.path} changes its sample rate or its channels at {float(self.end_s):.3f} s.")
            count += 1
            self.longest = max(self.longest, samples.shape[1])
            yield _Block(samples, stream_time(frame.pts, frame.time_base), rate)
        lost, why = self.repairs.undecoded, self.repairs.reason
        if not count:
            detail = "" if why is None else f" ({why})"
            raise MediaError(f"{self.path} contains no audio that can be decoded{detail}.")
        if lost > max(2, limit("undecoded") * (count + lost)):
            raise MediaError(
                f"{self.path} is damaged: {lost} of its {count + lost} audio packets cannot be decoded ({why}).",
                "The file may be damaged.",
            )
        if lost:
            self.repairs.note(f"{lost} audio {'packet' if lost == 1 else 'packets'} that cannot be decoded, left out")

    def _start_s(self, ahead: deque[_Block]) -> Fraction:
        """Return the time of the first sample: the stated one, unless those after it agree on another."""
        starts, before = [], 0
        for block in ahead:
            if block.time_s is not None:
                starts.append(block.time_s - Fraction(before, self.rate))
            before += block.samples.shape[1]
        if not starts:
            return Fraction(0)
        stated = ahead[0].time_s if ahead[0].time_s is not None else median(starts)
        agreed = median(starts)
        return agreed if limit("rounding") < abs(agreed - stated) <= limit("jitter") else stated

    def _place(self, blocks: Iterator[_Block], ahead: deque[_Block]) -> Iterator[Samples]:
        """Yield the blocks one after another, with silence where some are missing and without what comes twice."""
        while ahead:
            block = ahead.popleft()
            shift = self._shift(block, ahead)
            if shift > 0:
                yield from self._silence(shift, len(block.samples))
            self.num_skipped += max(0, -shift)
            skipped = min(self.num_skipped, block.samples.shape[1])
            self.num_skipped -= skipped
            samples = block.samples[:, skipped:]
            self.num_samples += samples.shape[1]
            if self.num_samples > (self.limits.max_seconds + 2) * self.rate:
                raise MediaError(
                    f"{self.path} has more audio than its header states, or than the limit of {self.limits.max_seconds:g} s."
                )
            if samples.size:
                yield samples
            if (later := next(blocks, None)) is not None:
                ahead.append(later)

    def _shift(self, block: _Block, ahead: deque[_Block]) -> int:
        """Return the number of samples by which a block is late by its own time and by those of the blocks after it."""
        if block.time_s is None or self.num_skipped:
            return 0
        late = [block.time_s - self.end_s]
        if abs(late[0]) <= limit("jitter"):
            return 0
        clock_s = self.end_s + Fraction(block.samples.shape[1], self.rate)
        for later in ahead:
            if later.time_s is not None:
                late.append(later.time_s - clock_s)
            clock_s += Fraction(later.samples.shape[1], self.rate)
        agreed = median(late)
        if abs(agreed) <= limit("jitter") or agreed * late[0] < 0:
            return 0
        # lost packets are a whole number of blocks, which timestamps in milliseconds do not tell exactly
        shift, length = round(agreed * self.rate), block.samples.shape[1]
        whole = round(Fraction(shift, length)) * length
        shift = whole if whole and abs(whole - shift) <= limit("rounding") * self.rate else shift
        self._note_shift(Fraction(shift, self.rate))
        return shift

    def _note_shift(self, shift_s: Fraction) -> None:
        is_gap = shift_s > 0
        spans = self.repairs.gaps if is_gap else self.repairs.overlaps
        if abs(shift_s) > limit("hole" if is_gap else "overlap") and (self.limits.purpose == "use" or not is_gap):
            raise MediaError(
                f"the audio of {self.path} {'has a gap of' if is_gap else 'goes back by'} {float(abs(shift_s)):.3f} s at "
                f"{float(self.end_s):.3f} s.",
                "Encode its audio again first.",
            )
        spans.append(float(abs(shift_s)))

    def _silence(self, num_samples: int, channels: int) -> Iterator[Samples]:
        while num_samples > 0:
            part = min(num_samples, _MAX_BLOCK_S * self.rate)
            num_samples -= part
            self.num_samples += part
            yield np.zeros((channels, part), np.float32)

    def _trim(self, parts: Iterator[Samples]) -> Iterator[Samples]:
        """Leave out what a lossy codec's last block holds beyond the stated end: players do not play it."""
        stated = 0 if self.audio.duration_s is None else int(self.audio.duration_s * self.rate)
        sent, beyond = 0, []
        for part in parts:
            inside = part[:, : max(0, stated - sent)] if stated > 0 else part
            sent += inside.shape[1]
            if inside.size:
                yield inside
            if inside.shape[1] < part.shape[1]:
                beyond.append(part[:, inside.shape[1] :])
            if sum(part.shape[1] for part in beyond) > self.longest:
                # that is no last block: the header is wrong
                yield from beyond
                stated, beyond = 0, []

    def _check_whole(self) -> None:
        """Refuse truncated audio. Only MP4 and related formats count their samples; others state what is left of the file."""
        if self.audio.duration_s is None or not self.counts_samples:
            return
        missing = round(self.audio.duration_s * self.rate) - self.num_samples
        if missing > self.longest:
            raise MediaError(
                f"{self.path} is truncated: {missing / self.rate:.3f} s of its audio are missing.",
                "The download or the recording may be incomplete.",
            )

    def _samples(self, frame: av.AudioFrame) -> Samples:
        """Convert a block to ``[channels, samples]`` float32; integers are divided by their full scale."""
        try:
            array = frame.to_ndarray()
        except ValueError:
            raise MediaError(f"{self.path} has samples of the kind {frame.format.name}, which are not read.") from None
        if not frame.format.is_planar:
            array = rearrange(array, "1 (samples channels) -> channels samples", samples=frame.samples)
        if array.dtype.kind == "f":
            return np.ascontiguousarray(array, dtype=np.float32)
        if array.dtype == np.uint8:
            return (array.astype(np.float32) - 128.0) / 128.0
        return (array / float(2 ** (8 * array.dtype.itemsize - 1))).astype(np.float32)
