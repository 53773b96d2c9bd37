"""Write new audio with the unchanged video stream of a file: packets copied, times and edit list kept.

The video is not decoded: every packet is copied into the new file byte for byte, at the same time on the same time base.
The audio starts with the first frame, at whatever time of the file that is, and is as long as the video. Other streams of
the file (its old audio, subtitles, cover images) are not copied.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from mova.errors import MediaError
from mova.media.encode import (
    METADATA_NAMES,
    FileContents,
    WrittenFile,
    check_metadata,
    raise_media_errors,
    read_contents,
    verification_error,
    write_media,
)
from mova.media.kinds import writable_rate
from mova.media.mux import LAYOUTS, add_audio, audio_blocks
from mova.media.probe import open_container
from mova.media.remux.container import CopyPlan, add_video, display_parameters, open_target, plan_copy, require_video_stream
from mova.media.remux.edits import Edit, read_edits, set_edits
from mova.media.remux.track import VideoTrack, read_video_track
from mova.media.resample import resample

# FFmpeg numbers the tracks of an MP4 file in the order of its streams
_VIDEO_ID, _AUDIO_ID = 1, 2


def video_seconds(original: str | Path) -> Fraction:
    """Return the exact length of a video in seconds: from the start of its first frame to the end of its last.

    At a constant frame rate the frames are counted, so that Matroska's rounding to milliseconds does not matter; otherwise
    the times of the frames and the edit list are used. Audio for it has ``int(video_seconds * sample_rate)`` samples.

    Args:
        original: The file.

    Raises:
        MediaError: If it cannot be read, has no video, or is truncated.
    """
    return read_video_track(original).seconds


def check_soundtrack_target(original: str | Path, path: str | Path, *, overwrite: bool = True) -> None:
    """Refuse files that :func:`write_soundtrack` would refuse, before audio is generated for them.

    Args:
        original: File whose video stream is copied.
        path: Path of the new file.
        overwrite: Whether an existing file may be replaced.

    Raises:
        MediaError: If the folder or the suffix does not allow it, if ``path`` is ``original``, or if the video stream
            cannot be copied unchanged into this type of file; the hint says what can be done.
    """
    plan_copy(Path(original), Path(path), overwrite=overwrite)


def write_soundtrack(
    original: str | Path,
    waveform: NDArray[np.float32],
    path: str | Path,
    *,
    sample_rate: int,
    overwrite: bool = True,
    metadata: Mapping[str, str] | None = None,
) -> WrittenFile:
    """Copy the video stream of ``original`` unchanged, with ``waveform`` as its audio.

    Audio codecs: ``.mp4`` and ``.mov`` AAC at 192 kbit/s, ``.webm`` Opus, ``.mkv`` FLAC (24 bits). Audio at a rate that the
    codec does not support is resampled as in :func:`mova.media.encode.write_clip`.

    Args:
        original: File whose video stream is copied; its audio, if any, is left out.
        waveform: ``[channels, samples]`` float32 in ``[-1, 1]``; ``int(video_seconds(original) * sample_rate)`` samples,
            mono or stereo. Sample 0 is played when the first frame is shown.
        path: Path of the new file; not ``original``.
        sample_rate: Sample rate of ``waveform`` in Hz.
        overwrite: Whether an existing file is replaced. It stays intact until the new one is complete.
        metadata: Tags by name: title, artist, comment, copyright, date, genre. Tags of ``original`` that are not named here
            are copied, except its comment, which is used for the request (:func:`mova.media.encode.request_comment`).

    Raises:
        MediaError: As in :func:`check_soundtrack_target`; if the audio has the wrong shape, range or length; if a codec or
            the disk fails; or if the finished file, opened again, does not hold the packets of the video at their times
            with the audio in step. No file is left behind.
    """
    original, path = Path(original), Path(path)
    given = check_metadata(metadata)
    plan = plan_copy(original, path, overwrite=overwrite)
    _check_waveform(waveform, plan.track, sample_rate)
    rate = writable_rate(plan.audio, sample_rate)
    if rate != sample_rate:
        num_samples = int(plan.track.seconds * rate)
        waveform = np.clip(resample(waveform, sample_rate, to_rate=rate, num_samples=num_samples), -1.0, 1.0)
    own = {name: value for name, value in plan.track.info.metadata.items() if name in METADATA_NAMES and name != "comment"}
    with write_media(path) as temporary:
        _copy(plan, waveform, temporary, sample_rate=rate, tags={**own, **given})
        found = read_contents(temporary, path)
        fault = _video_fault(plan, temporary, rate) or _audio_fault(plan, found, temporary, waveform.shape[1], rate)
        lost = [name for name, value in given.items() if found.metadata.get(name) != value]
        if fault is None and lost:
            fault = f"the metadata {', '.join(lost)} does not read back as given"
        if fault is not None:
            raise verification_error(path, fault)
        size_bytes = temporary.stat().st_size
    return WrittenFile(path, size_bytes, plan.track.num_frames, rate, _offset_s(plan, found))


def _check_waveform(waveform: NDArray[np.float32], track: VideoTrack, sample_rate: int) -> None:
    if waveform.ndim != 2 or waveform.dtype != np.float32 or waveform.shape[0] not in LAYOUTS:
        raise MediaError(
            f"the audio must be [channels, samples] of float32, mono or stereo; got {list(waveform.shape)} of {waveform.dtype}."
        )
    needed, given = int(track.seconds * sample_rate), waveform.shape[1]
    if given != needed:
        raise MediaError(
            f"video and audio differ in length: the {float(track.seconds):.3f} s of {track.info.path} last {needed} samples "
            f"at {sample_rate} Hz; the audio has {given}.",
            f"{'Trim' if given > needed else 'Extend'} the audio to {needed} samples.",
        )
    if needed == 0:
        raise MediaError(f"the video of {track.info.path} is shorter than one sample.")
    peak = float(np.abs(waveform).max())
    if not peak <= 1.0:
        raise MediaError(f"the audio must stay within -1 and 1; its peak is {peak:.4f}.", "Scale or limit it first.")


def _copy(plan: CopyPlan, waveform: NDArray[np.float32], temporary: Path, *, sample_rate: int, tags: Mapping[str, str]) -> None:
    with open_container(plan.track.info.path) as original, raise_media_errors(plan.path):
        source = require_video_stream(original)
        container = open_target(str(temporary.resolve()), plan, sample_rate=sample_rate, tags=tags)
        try:
            video = add_video(container, plan, source)
            stream = add_audio(container, plan.audio, channels=waveform.shape[0], sample_rate=sample_rate)
            audio = _AudioWriter(plan, container, stream, round(plan.track.start_s * sample_rate))
            _interleave(plan, original, source, video, audio, waveform)
            container.close()
        except BaseException:
            # closing tries to finish the file, which may fail again: the first failure is the one to report
            with suppress(Exception):
                container.close()
            raise
    if plan.has_edits:
        _set_edits(plan.track, temporary, Fraction(waveform.shape[1], sample_rate), audio.priming)


def _interleave(
    plan: CopyPlan,
    original: InputContainer,
    source: VideoStream,
    video: VideoStream,
    audio: _AudioWriter,
    waveform: NDArray[np.float32],
) -> None:
    """Copy the video and encode the audio in order of time, so that a player finds them close together."""
    track = plan.track
    blocks = audio_blocks(waveform, audio.sample_rate, sample_format=audio.sample_format, start=audio.start)
    packets = (packet for packet in original.demux(source) if packet.size)
    # a file that changed since it was read is detected when the copy is checked
    for known, packet in zip(track.packets, packets, strict=False):
        while audio.end <= known.dts * track.time_base * audio.sample_rate and (block := next(blocks, None)) is not None:
            audio.write(block)
        packet.dts, packet.stream = known.dts, video
        audio.container.mux(packet)
    for block in blocks:
        audio.write(block)
    audio.write(None)


@dataclass
class _AudioWriter:
    """Encodes blocks of samples into a container.

    Args:
        plan: Plan of the copy.
        container: Container to write to.
        stream: Audio stream of the container.
        start: Time of the first sample, in samples.
        num_samples: Number of samples written so far.
        priming: Number of samples that the encoder adds before the first one to warm up.
        shift: Offset added to the encoder's times; None until its first packet.
    """

    plan: CopyPlan
    container: OutputContainer
    stream: AudioStream
    start: int
    num_samples: int = 0
    priming: int = 0
    shift: int | None = None

    @property
    def sample_rate(self) -> int:
        """Sample rate in Hz."""
        return self.stream.codec_context.sample_rate

    @property
    def sample_format(self) -> str:
        """Sample format of the encoder."""
        return self.stream.codec_context.format.name

    @property
    def end(self) -> int:
        """End of the written audio, in samples."""
        return self.start + self.num_samples

    def write(self, block: av.AudioFrame | None) -> None:
        """Encode a block; None flushes the encoder."""
        for packet in self.stream.encode(block):
            assert packet.pts is not None and packet.dts is not None, "encoders state times"
            if self.shift is None:
                self.priming = self.start - packet.pts
                self.shift = self._first_pts() - packet.pts
            packet.pts, packet.dts = packet.pts + self.shift, packet.dts + self.shift
            self.container.mux(packet)
        self.num_samples += 0 if block is None else block.samples

    def _first_pts(self) -> int:
        """Return the time at which the first packet starts, priming included."""
        start_s = self.plan.track.start_s
        if self.plan.has_edits:
            # FFmpeg cuts priming at 0 only: audio that starts late gets an empty edit, and its priming is cut afterwards
            return math.ceil(start_s * self.sample_rate) if start_s > 0 else -self.priming
        # Matroska rounds packet and priming to milliseconds each, and plays from their sum: both must be whole
        return self.start - math.ceil(self.priming * 1000 / self.sample_rate) * self.sample_rate // 1000


def _set_edits(track: VideoTrack, temporary: Path, audio_s: Fraction, priming: int) -> None:
    """Set start and end of both tracks exactly, and cut the priming."""
    for track_id, length_s in ((_VIDEO_ID, track.seconds), (_AUDIO_ID, audio_s)):
        found = read_edits(temporary, track_id)
        *empty, shown = found.edits
        media_time = priming if track_id == _AUDIO_ID else shown.media_time
        # the empty edit lasts until the start; without one, what is shown starts with the file
        shown = Edit(round(length_s * found.timescale), media_time)
        empty = [Edit(round(track.start_s * found.timescale), -1) for _ in empty]
        set_edits(temporary, {track_id: (*empty, shown)})


def _video_fault(plan: CopyPlan, temporary: Path, sample_rate: int) -> str | None:
    """Describe what is wrong with the video of the finished file; None if it is an exact copy."""
    track = plan.track
    try:
        copy = read_video_track(temporary)
        with open_container(temporary) as container:
            display = display_parameters(container, require_video_stream(container))
    except MediaError as error:
        return error.message.replace(str(temporary), "it").rstrip(".")
    if len(copy.packets) != len(track.packets):
        return f"it holds {len(copy.packets)} of {len(track.packets)} frames"
    for index, (old, new) in enumerate(zip(track.packets, copy.packets, strict=True)):
        if old.digest != new.digest or old.is_keyframe != new.is_keyframe:
            return f"frame {index} has changed"
        # Matroska does not store when a frame is decoded
        times = [(old.pts, new.pts), (old.dts, new.dts)] if plan.has_edits else [(old.pts, new.pts)]
        if any(before * track.time_base != after * copy.time_base for before, after in times):
            return f"frame {index} has moved from {float(old.pts * track.time_base)} s to {float(new.pts * copy.time_base)} s"
        if old.is_discard != new.is_discard:
            return f"frame {index} is {'hidden' if new.is_discard else 'shown'} now"
    # in Matroska the last frame of a video of variable frame rate lasts until the end, which no packet states
    rounding_s = Fraction(1, plan.timescale(sample_rate)) if plan.has_edits else Fraction(0)
    if abs(copy.seconds - track.seconds) > rounding_s and (plan.has_edits or track.is_steady):
        return f"its video lasts {float(copy.seconds)} s instead of {float(track.seconds)} s"
    return None if display == plan.display else f"it is displayed as {display} instead of {plan.display}"


def _audio_fault(plan: CopyPlan, found: FileContents, temporary: Path, num_samples: int, sample_rate: int) -> str | None:
    """Describe what is wrong with the audio of the finished file; None if it is in step with the video."""
    played = found.num_samples
    if plan.has_edits and plan.track.start_s > 0:
        # FFmpeg decodes the last block of late audio completely; players stop at the end of the edit
        edits = read_edits(temporary, _AUDIO_ID)
        played = min(played, round(Fraction(edits.edits[-1].duration, edits.timescale) * sample_rate))
    if (found.sample_rate, played) != (sample_rate, num_samples):
        return f"it plays {played} samples at {found.sample_rate} Hz instead of {num_samples} at {sample_rate} Hz"
    offset_s = _offset_s(plan, found)
    if offset_s is None or abs(offset_s) > Fraction(1, sample_rate):
        return f"its audio starts {'at an unknown time' if offset_s is None else f'{float(offset_s)} s after the video'}"
    return None


def _offset_s(plan: CopyPlan, found: FileContents) -> Fraction | None:
    return None if found.audio_start_s is None else found.audio_start_s - plan.track.start_s
