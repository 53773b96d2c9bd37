"""The health gate: is a video whole? Looks for what no video should have, whatever it shows; needs no reference.

    health = check_clip(clip)             # or check_arrays(...), before frames become whole numbers; or check_file(path)
    health.verdict                        # "ok" or "faulty"
    health.faults[0].message              # "pop in the audio at 0.53 s: height of the strongest of 2, ..."
    next_remedy(health, tried=())         # what to try first: "decode_fp32", ...

The detectors are in :mod:`mova.media.health.video` and :mod:`mova.media.health.audio`, with what they can and
cannot tell; how many faults they find and how often they are wrong is measured by ``benchmarks/health.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from mova.errors import RequestError
from mova.media.clip import Clip
from mova.media.health import audio as audio_faults
from mova.media.health import video as video_faults
from mova.media.health.audio import AudioLimits
from mova.media.health.video import Finding, PictureLimits

Modality = Literal["video", "audio", "both"]
Remedy = Literal["decode_fp32", "redecode", "reroll_video", "reroll_audio"]
OnFault = Literal["keep", "repair", "fail"]
KINDS = (
    "nonfinite", "frozen", "duplicated", "black", "colour_shift", "tile_grid",
    "dc_offset", "clipping", "pop", "silence", "lost_band", "length",
)  # fmt: skip
"""Every kind of fault that is looked for."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a video.

    Args:
        kind: One of :data:`KINDS`.
        modality: ``"video"``, ``"audio"``, or ``"both"`` where they do not fit each other.
        at_s: Where it starts, in seconds.
        value: What was measured, in the unit that ``message`` names.
        limit: The most that is allowed.
        message: One line for people.
    """

    kind: str
    modality: Modality
    at_s: float
    value: float
    limit: float
    message: str


@dataclass(frozen=True)
class Health:
    """What the gate found.

    Args:
        faults: Empty for a healthy video; picture first, then audio, then both.
        looked_at: ``"video"``, ``"audio"`` or both: a part that is not there is not judged.
    """

    faults: tuple[Fault, ...]
    looked_at: tuple[str, ...] = ("video", "audio")

    @property
    def verdict(self) -> Literal["ok", "faulty"]:
        """``"ok"`` if nothing was found."""
        return "faulty" if self.faults else "ok"

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, for ``--json`` and for the file's sidecar; numbers that are not finite become None."""
        faults = [
            {
                "kind": fault.kind,
                "modality": fault.modality,
                "at_s": round(fault.at_s, 4),
                "value": float(f"{fault.value:.6g}") if np.isfinite(fault.value) else None,
                "limit": fault.limit,
                "message": fault.message,
            }
            for fault in self.faults
        ]
        return {"verdict": self.verdict, "looked_at": list(self.looked_at), "faults": faults}


def check_clip(clip: Clip) -> Health:
    """Look over what of a clip was made; also as ``clip.health``. About 35 ms for 33 frames of 96 x 96 on one core."""
    return check_arrays(
        None if "video" in clip.fully_conditioned else clip.frames,
        None if "audio" in clip.fully_conditioned else clip.waveform,
        fps=clip.fps,
        sample_rate=clip.sample_rate,
    )


def check_arrays(
    frames: npt.NDArray[Any] | None,
    waveform: npt.NDArray[Any] | None,
    *,
    fps: float | Fraction,
    sample_rate: int,
    picture_limits: PictureLimits | None = None,
    audio_limits: AudioLimits | None = None,
) -> Health:
    """Look picture and audio over as they come out of the codecs, before they are made to fit each other.

    A part with values that are not finite is not looked at any further.

    Args:
        frames: ``[T, H, W, 3]``, uint8 or floating in [0, 1]; None if there is no picture.
        waveform: ``[channels, S]`` or ``[S]``, full scale 1; None if there is no audio.
        fps: Frames per second.
        sample_rate: Samples per second.
        picture_limits: What is allowed; default: as measured on clean videos.
        audio_limits: Likewise.

    Raises:
        ValueError: If an array is empty or of another shape, or a rate is not positive.
    """
    if fps <= 0 or sample_rate <= 0:
        raise ValueError(f"fps and sample_rate must be positive; got {fps} and {sample_rate}.")
    faults: list[Fault] = []
    looked_at = []
    if frames is not None:
        looked_at.append("video")
        faults += _picture_faults(_checked_frames(frames), float(fps), picture_limits or PictureLimits())
    if waveform is not None:
        looked_at.append("audio")
        faults += _audio_faults(_checked_waveform(waveform), sample_rate, audio_limits or AudioLimits())
    if frames is not None and waveform is not None:
        faults += _length_faults(len(frames), waveform.shape[-1], Fraction(fps), sample_rate)
    return Health(tuple(faults), tuple(looked_at))


def check_file(path: str | Path) -> Health:
    """Look a video on disk over; picture and audio are read apart, so that one may be longer than the other.

    A file without audio or a picture stream is judged by what there is, and says so in ``looked_at``.

    Raises:
        MediaError: If the file cannot be read.
    """
    from mova.media.decode import read_frames, read_waveform
    from mova.media.probe import probe

    info = probe(path)
    if info.video is None:
        audio = read_waveform(path)
        return check_arrays(None, audio.waveform, fps=1, sample_rate=audio.sample_rate)
    video = read_frames(path)
    limits = PictureLimits(hitch=_STEPPED_HITCH) if info.video.codec == _STEPPED else PictureLimits()
    if info.audio is None:
        return check_arrays(video.frames, None, fps=video.fps, sample_rate=1, picture_limits=limits)
    audio = read_waveform(path)
    return check_arrays(video.frames, audio.waveform, fps=video.fps, sample_rate=audio.sample_rate, picture_limits=limits)


def next_remedy(health: Health, tried: Collection[str]) -> Remedy | None:
    """What to do next about a faulty clip: the first rung of the ladder that is of use and has not been tried.

    The ladder goes from cheap to dear: decode the same latents in float32; decode them again without tiles or caches; make
    the faulty modality anew from another seed. A video that hangs was generated so: no decoder mends it.

    Args:
        health: Of the clip as it is now.
        tried: Rungs tried so far.

    Returns:
        The rung, or None if the clip is healthy or nothing is left to try.
    """
    wanted = {rung for fault in health.faults for rung in _rungs_for(fault)}
    return next((rung for rung in get_args(Remedy) if rung in wanted and rung not in tried), None)


def checked_on_fault(value: str) -> OnFault:
    """What to do about a faulty clip.

    Raises:
        RequestError: If it is none of the three.
    """
    for allowed in get_args(OnFault):
        if value == allowed:
            return cast(OnFault, allowed)
    raise RequestError(
        f"on_fault must be one of {', '.join(get_args(OnFault))}; got {value!r}.",
        "keep writes a faulty clip and says so.",
        field="on_fault",
    )


_DECODING: Mapping[str, tuple[Remedy, ...]] = {
    "frozen": (),
    "duplicated": (),
    "tile_grid": ("redecode",),
    "clipping": ("decode_fp32",),
    "length": ("redecode",),
}
_ANY_DECODING: tuple[Remedy, ...] = ("decode_fp32", "redecode")
_NAMES = {
    "nonfinite": "not a number", "frozen": "frozen picture", "duplicated": "doubled frames", "black": "black frames",
    "colour_shift": "colour shift", "tile_grid": "grid of tiles", "dc_offset": "offset", "clipping": "clipping",
    "pop": "pop", "silence": "silence", "lost_band": "lost band", "length": "lengths that differ",
}  # fmt: skip


def _rungs_for(fault: Fault) -> tuple[Remedy, ...]:
    rerolls: dict[Modality, tuple[Remedy, ...]] = {"video": ("reroll_video",), "audio": ("reroll_audio",), "both": ()}
    return (*_DECODING.get(fault.kind, _ANY_DECODING), *rerolls[fault.modality])


def _picture_faults(frames: npt.NDArray[Any], fps: float, limits: PictureLimits) -> list[Fault]:
    if frames.dtype != np.uint8:
        broken = ~np.isfinite(frames).all(axis=(1, 2, 3))
        if broken.any():
            return [_nonfinite("video", float(broken.argmax()) / fps, float(broken.mean()), "share of the frames")]
    video = video_faults.reduced(frames, fps)
    checks = (video_faults.duplicated_frames, video_faults.black, video_faults.colour_shift, video_faults.tile_grid)
    return [_worded(finding, "video") for check in checks for finding in check(video, limits)]


def _audio_faults(audio: npt.NDArray[np.float32], sample_rate: int, limits: AudioLimits) -> list[Fault]:
    broken = ~np.isfinite(audio).all(axis=0)
    if broken.any():
        return [_nonfinite("audio", float(broken.argmax()) / sample_rate, float(broken.mean()), "share of the samples")]
    silent = audio_faults.silence(audio, sample_rate, limits)
    checks = (audio_faults.offset, audio_faults.clipping, audio_faults.pops, audio_faults.lost_band)
    findings = [finding for check in checks for finding in check(audio, sample_rate, limits)]
    return [_worded(finding, "audio") for finding in (*findings, *silent)]


def _length_faults(num_frames: int, num_samples: int, fps: Fraction, sample_rate: int) -> list[Fault]:
    """Audio that is more than a frame, or a block of an audio codec, longer or shorter than the picture."""
    apart_s = float(Fraction(num_samples, sample_rate) - num_frames / fps)
    limit_s = max(float(1 / fps), _BLOCK / sample_rate)
    if abs(apart_s) <= limit_s:
        return []
    detail = f"seconds by which the audio is {'longer' if apart_s > 0 else 'shorter'} than the picture"
    at_s = min(num_samples / sample_rate, float(num_frames / fps))
    return [_worded(Finding("length", at_s, abs(apart_s), limit_s, detail), "both")]


def _nonfinite(modality: Modality, at_s: float, share: float, detail: str) -> Fault:
    return _worded(Finding("nonfinite", at_s, share, 0.0, f"{detail} that hold NaN or infinity"), modality)


def _worded(finding: Finding, modality: Modality) -> Fault:
    where = {"video": "in the picture", "audio": "in the audio", "both": "of picture and audio"}[modality]
    limit = f"{finding.limit:.3g}"
    text = f"{_NAMES[finding.kind]} {where} at {finding.at_s:.2f} s: {finding.detail} {finding.value:.3g} (limit {limit})"
    return Fault(finding.kind, modality, finding.at_s, finding.value, finding.limit, text)


_BLOCK = 1024  # samples in a block of AAC
# shows a light that fades slowly in steps of two frames; steps of up to 4.6 levels were measured
_STEPPED, _STEPPED_HITCH = "vp9", 8.0


def _checked_frames(frames: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
        raise ValueError(f"frames must be [T, H, W, 3] and not empty; got {list(frames.shape)}.")
    if frames.dtype != np.uint8 and frames.dtype.kind != "f":
        raise ValueError(f"frames must be uint8 or floating in [0, 1]; got {frames.dtype}.")
    return frames


def _checked_waveform(waveform: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    if waveform.ndim not in (1, 2) or 0 in waveform.shape:
        raise ValueError(f"waveform must be [channels, S] or [S] and not empty; got {list(waveform.shape)}.")
    return np.atleast_2d(waveform).astype(np.float32, copy=False)
