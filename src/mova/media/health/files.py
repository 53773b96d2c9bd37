"""Check video and audio files of any length, a piece at a time, in flat memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mova.media.decode import AudioStream, FrameStream
from mova.media.health.audio import AudioLimits
from mova.media.health.gate import Fault, Health, find_in_audio, find_in_video, find_length, to_faults
from mova.media.health.video import Finding, VideoLimits, measure_pool
from mova.media.probe import probe

# A piece of video takes about twice as much memory as its pooled frames; what is shorter is checked as a whole
_PIECE_BYTES, _PIECE_FRAMES, _SHARED_FRAMES = 2**28, 600, 4
_PIECE_S, _SHARED_S = 60.0, 0.5
# VP9 shows a slowly fading light in steps of two frames; steps of up to 4.6 levels were measured
_STEPPED, _STEPPED_HITCH = "vp9", 8.0


def check_file(path: str | Path) -> Health:
    """Check a video or audio file; frames and audio are read separately, so that one may be longer than the other.

    Of a file with one stream only, that stream is checked; ``looked_at`` states which. A long file is checked in pieces: of
    each kind of fault the worst is reported.

    Raises:
        MediaError: If the file cannot be read.
    """
    info = probe(path)
    faults: list[Fault] = []
    looked_at: list[str] = []
    repairs: list[str] = []
    ends_s: list[Fraction] = []
    fps, rate = Fraction(1), 1
    if info.video is not None:
        video = FrameStream(path, purpose="measure")
        limits = VideoLimits(hitch=_STEPPED_HITCH) if info.video.codec == _STEPPED else VideoLimits()
        faults += to_faults(_check_frames(video, limits), "video")
        fps = video.fps
        ends_s.append(video.start_s + video.num_frames / fps)
        looked_at.append("video")
        repairs += video.repairs
    if info.audio is not None or info.video is None:
        audio = AudioStream(path, purpose="measure")
        findings, num_samples = _check_blocks(audio)
        faults += to_faults(findings, "audio")
        rate = audio.sample_rate
        ends_s.append(audio.start_s + Fraction(num_samples, rate))
        looked_at.append("audio")
        repairs += audio.repairs
    if len(ends_s) > 1:
        faults += to_faults(find_length(*ends_s, fps=fps, sample_rate=rate), "both")
    return Health(tuple(faults), tuple(looked_at), tuple(repairs))


def _check_frames(video: FrameStream, limits: VideoLimits) -> list[Finding]:
    frames = iter(video)
    first = next(frames)
    _, height, width = measure_pool(first.shape)
    longest = max(_SHARED_FRAMES + 1, min(_PIECE_FRAMES, _PIECE_BYTES // (height * width * 12)))
    num_pieces = -(-video.num_frames // longest)
    edges = [round(video.num_frames * index / num_pieces) for index in range(num_pieces + 1)]
    rest, kept = chain([first], frames), deque[NDArray[np.uint8]](maxlen=_SHARED_FRAMES)
    pieces = []
    for begin, end in zip(edges, edges[1:], strict=False):
        shared = len(kept)
        piece = chain(list(kept), _keep(islice(rest, end - begin), kept))
        findings = find_in_video(piece, float(video.fps), limits, num_frames=shared + end - begin)
        pieces.append(_shift(findings, (begin - shared) / float(video.fps)))
    for _ in rest:
        pass  # what was repaired is known after the last frame
    return _merge(pieces)


def _check_blocks(audio: AudioStream) -> tuple[list[Finding], int]:
    """Return what was found, and the number of samples."""
    longest, shared = round(_PIECE_S * audio.sample_rate), round(_SHARED_S * audio.sample_rate)
    held: list[NDArray[np.float32]] = []
    pieces, begin, num_samples = [], 0, 0
    for block in audio:
        held.append(block)
        num_samples += block.shape[1]
        if num_samples - begin >= longest:
            piece = np.concatenate(held, axis=1)
            pieces.append(_shift(find_in_audio(piece, audio.sample_rate, AudioLimits()), begin / audio.sample_rate))
            held = [piece[:, -shared:].copy()]
            begin = num_samples - shared
    if held and (num_samples - begin > shared or not pieces):
        piece = np.concatenate(held, axis=1)
        pieces.append(_shift(find_in_audio(piece, audio.sample_rate, AudioLimits()), begin / audio.sample_rate))
    return _merge(pieces), num_samples


def _keep(frames: Iterator[Any], kept: deque[Any]) -> Iterator[Any]:
    for frame in frames:
        kept.append(frame)
        yield frame


def _shift(findings: Sequence[Finding], by_s: float) -> list[Finding]:
    return [replace(finding, at_s=finding.at_s + by_s) for finding in findings] if by_s else list(findings)


def _merge(pieces: Sequence[Sequence[Finding]]) -> list[Finding]:
    """Return the worst finding of each kind; what concerns a whole piece counts only if it does every piece."""
    if len(pieces) == 1:
        return list(pieces[0])
    found: dict[str, list[Finding]] = {}
    for finding in (one for piece in pieces for one in piece):
        found.setdefault(f"{finding.kind}{' whole' if finding.is_whole else ''}", []).append(finding)
    kept = [group for group in found.values() if not group[0].is_whole or len(group) == len(pieces)]
    return sorted((max(group, key=lambda one: one.value) for group in kept), key=lambda one: one.at_s)
