"""New audio beside the untouched picture of a video: packets copied, times and edits kept, audio laid on the picture.

The picture is not decoded: every packet that the video shows goes into the new file byte for byte, at the same time on
the same time base. The audio starts with the first frame, wherever on the file's clock that is, and lasts as long as
the picture. Other streams of the video (its old audio, subtitles, cover pictures) stay behind.
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
from mova.media.encode import METADATA_NAMES, Contents, WrittenFile, beside, checked_metadata, contents, unfit, writing
from mova.media.kinds import writable_rate
from mova.media.mux import LAYOUTS, add_audio, audio_blocks
from mova.media.probe import opened
from mova.media.remux.container import CopyPlan, add_picture, look_of, opened_target, picture_of, planned_copy
from mova.media.remux.edits import Edit, read_edits, set_edits
from mova.media.remux.track import PictureTrack, picture_track
from mova.media.resample import resample

# FFmpeg numbers the tracks of an MP4 file in the order of its streams
_PICTURE_ID, _AUDIO_ID = 1, 2


def video_seconds(original: str | Path) -> Fraction:
    """The exact length of a video's picture: from the start of its first frame to the end of its last.

    A steady frame rate counts frames, so that the milliseconds of Matroska do not matter; else the times of the frames
    and the edit list say it. Audio for the video has ``int(video_seconds * sample_rate)`` samples.

    Args:
        original: The file.

    Raises:
        MediaError: If it cannot be read, has no picture, or is cut short.
    """
    return picture_track(original).seconds


def check_soundtrack_target(original: str | Path, path: str | Path, *, overwrite: bool = True) -> None:
    """Refuse a pair of files that :func:`write_soundtrack` could not serve, before the work of making audio.

    Args:
        original: The video whose picture is taken.
        path: Where the video with its new audio will go.
        overwrite: Whether a file that is there may be replaced.

    Raises:
        MediaError: If the folder or the suffix does not allow it, if ``path`` is the video itself, or if the video's
            picture cannot be copied into this kind of file as it is; the hint says what can be done.
    """
    planned_copy(Path(original), Path(path), overwrite=overwrite)


def write_soundtrack(
    original: str | Path,
    waveform: NDArray[np.float32],
    path: str | Path,
    *,
    sample_rate: int,
    overwrite: bool = True,
    metadata: Mapping[str, str] | None = None,
) -> WrittenFile:
    """Write the picture of ``original`` as it is, and ``waveform`` as its audio.

    ``.mp4`` and ``.mov`` AAC 192 kbit/s · ``.webm`` Opus · ``.mkv`` FLAC (24 bit), each beside the video's own picture
    codec. Audio at a rate that the codec does not know is resampled as :func:`mova.media.encode.write_clip` does.

    Args:
        original: The video whose picture is taken; it may have audio, which is left out.
        waveform: ``[channels, samples]`` float32 in ``[-1, 1]``; ``int(video_seconds(original) * sample_rate)`` samples,
            mono or stereo. Sample 0 is heard when the first frame is shown.
        path: Where; not the video itself.
        sample_rate: Of ``waveform``, in Hz.
        overwrite: Replace a file that is there. The old one stays whole until the new one is complete.
        metadata: Tags by name: title, artist, comment, copyright, date, genre. Those of the video that are not named
            here are taken over, but for its comment; the comment is the place of the request
            (:func:`mova.media.encode.request_comment`).

    Raises:
        MediaError: As :func:`check_soundtrack_target`; if the audio has the wrong shape, range or length; if a codec or
            the disk fails; or if the finished file, opened again, does not hold the video's packets at their times with
            the audio in step. Nothing is left behind.
    """
    original, path = Path(original), Path(path)
    given = checked_metadata(metadata)
    plan = planned_copy(original, path, overwrite=overwrite)
    _check_waveform(waveform, plan.track, sample_rate)
    rate = writable_rate(plan.audio, sample_rate)
    if rate != sample_rate:
        num_samples = int(plan.track.seconds * rate)
        waveform = np.clip(resample(waveform, sample_rate, to_rate=rate, num_samples=num_samples), -1.0, 1.0)
    own = {name: value for name, value in plan.track.info.metadata.items() if name in METADATA_NAMES and name != "comment"}
    with beside(path) as temporary:
        _copy(plan, waveform, temporary, sample_rate=rate, tags={**own, **given})
        found = contents(temporary, path)
        fault = _picture_fault(plan, temporary, rate) or _audio_fault(plan, found, temporary, waveform.shape[1], rate)
        lost = [name for name, value in given.items() if found.metadata.get(name) != value]
        if fault is None and lost:
            fault = f"the metadata {', '.join(lost)} does not come back as given"
        if fault is not None:
            raise unfit(path, fault)
        size_bytes = temporary.stat().st_size
    return WrittenFile(path, size_bytes, plan.track.num_frames, rate, _offset_s(plan, found))


def _check_waveform(waveform: NDArray[np.float32], track: PictureTrack, sample_rate: int) -> None:
    if waveform.ndim != 2 or waveform.dtype != np.float32 or waveform.shape[0] not in LAYOUTS:
        raise MediaError(
            f"the audio must be [channels, samples] of float32, mono or stereo; got {list(waveform.shape)} of {waveform.dtype}."
        )
    needed, given = int(track.seconds * sample_rate), waveform.shape[1]
    if given != needed:
        raise MediaError(
            f"picture and audio differ in length: the {float(track.seconds):.3f} s of {track.info.path} last {needed} samples "
            f"at {sample_rate} Hz; the audio has {given}.",
            f"{'Trim' if given > needed else 'Extend'} the audio to {needed} samples.",
        )
    if needed == 0:
        raise MediaError(f"the picture of {track.info.path} is shorter than one sample.")
    peak = float(np.abs(waveform).max())
    if not peak <= 1.0:
        raise MediaError(f"the audio must stay within -1 and 1; its peak is {peak:.4f}.", "Scale or limit it first.")


def _copy(plan: CopyPlan, waveform: NDArray[np.float32], temporary: Path, *, sample_rate: int, tags: Mapping[str, str]) -> None:
    with opened(plan.track.info.path) as original, writing(plan.path):
        source = picture_of(original)
        container = opened_target(str(temporary.resolve()), plan, sample_rate=sample_rate, tags=tags)
        try:
            video = add_picture(container, plan, source)
            stream = add_audio(container, plan.audio, channels=waveform.shape[0], sample_rate=sample_rate)
            audio = _AudioWriter(plan, container, stream, round(plan.track.start_s * sample_rate))
            _interleave(plan, original, source, video, audio, waveform)
            container.close()
        except BaseException:
            # closing tries to finish the file, which may fail again: the first failure is the one to tell
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
    """Copy the picture and encode the audio in order of time, so that a player finds them close together."""
    track = plan.track
    blocks = audio_blocks(waveform, audio.sample_rate, sample_format=audio.sample_format, start=audio.start)
    packets = (packet for packet in original.demux(source) if packet.size)
    # a video that changed since it was looked at is found when the copy is checked
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
        plan: What is written.
        container: Where to.
        stream: Its audio.
        start: Time of the first sample, in samples.
        num_samples: Written so far.
        priming: Samples that the encoder puts before the first one to warm up.
        shift: What is added to the encoder's times; None until its first packet is there.
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
        """In Hz."""
        return self.stream.codec_context.sample_rate

    @property
    def sample_format(self) -> str:
        """As the encoder takes it."""
        return self.stream.codec_context.format.name

    @property
    def end(self) -> int:
        """Time of the end of what was written, in samples."""
        return self.start + self.num_samples

    def write(self, block: av.AudioFrame | None) -> None:
        """Encode a block; None: what the encoder still holds."""
        for packet in self.stream.encode(block):
            assert packet.pts is not None and packet.dts is not None, "encoders state times"
            if self.shift is None:
                self.priming = self.start - packet.pts
                self.shift = self._first_pts() - packet.pts
            packet.pts, packet.dts = packet.pts + self.shift, packet.dts + self.shift
            self.container.mux(packet)
        self.num_samples += 0 if block is None else block.samples

    def _first_pts(self) -> int:
        """When the first packet, priming and all, is to start."""
        start_s = self.plan.track.start_s
        if self.plan.has_edits:
            # FFmpeg cuts priming at 0 only: audio that starts late gets an empty edit, and the cut when it is done
            return math.ceil(start_s * self.sample_rate) if start_s > 0 else -self.priming
        # Matroska rounds packet and priming to milliseconds each, and plays from their sum: both must be whole
        return self.start - math.ceil(self.priming * 1000 / self.sample_rate) * self.sample_rate // 1000


def _set_edits(track: PictureTrack, temporary: Path, audio_s: Fraction, priming: int) -> None:
    """Start and end of both tracks to the tick, and the priming cut."""
    for track_id, length_s in ((_PICTURE_ID, track.seconds), (_AUDIO_ID, audio_s)):
        found = read_edits(temporary, track_id)
        *empty, shown = found.edits
        media_time = priming if track_id == _AUDIO_ID else shown.media_time
        # the empty edit lasts until the start; without one, what is shown starts with the file
        shown = Edit(round(length_s * found.timescale), media_time)
        empty = [Edit(round(track.start_s * found.timescale), -1) for _ in empty]
        set_edits(temporary, {track_id: (*empty, shown)})


def _picture_fault(plan: CopyPlan, temporary: Path, sample_rate: int) -> str | None:
    """What is wrong with the picture of the finished file, in words; None if it is the video's own."""
    track = plan.track
    try:
        copy = picture_track(temporary)
        with opened(temporary) as container:
            look = look_of(container, picture_of(container))
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
    # in Matroska the last frame of an unsteady video stays until the end, which no packet states
    rounding_s = Fraction(1, plan.timescale(sample_rate)) if plan.has_edits else Fraction(0)
    if abs(copy.seconds - track.seconds) > rounding_s and (plan.has_edits or track.is_steady):
        return f"its picture lasts {float(copy.seconds)} s instead of {float(track.seconds)} s"
    return None if look == plan.look else f"its picture is shown as {look} instead of {plan.look}"


def _audio_fault(plan: CopyPlan, found: Contents, temporary: Path, num_samples: int, sample_rate: int) -> str | None:
    """What is wrong with the audio of the finished file, in words; None if it lies on the picture."""
    played = found.num_samples
    if plan.has_edits and plan.track.start_s > 0:
        # FFmpeg decodes the last block of a late audio whole; players stop at the end of the edit
        edits = read_edits(temporary, _AUDIO_ID)
        played = min(played, round(Fraction(edits.edits[-1].duration, edits.timescale) * sample_rate))
    if (found.sample_rate, played) != (sample_rate, num_samples):
        return f"it plays {played} samples at {found.sample_rate} Hz instead of {num_samples} at {sample_rate} Hz"
    offset_s = _offset_s(plan, found)
    if offset_s is None or abs(offset_s) > Fraction(1, sample_rate):
        return f"its audio starts {'at an unknown time' if offset_s is None else f'{float(offset_s)} s after the picture'}"
    return None


def _offset_s(plan: CopyPlan, found: Contents) -> Fraction | None:
    return None if found.audio_start_s is None else found.audio_start_s - plan.track.start_s
