"""Numbers and names as people read them, in a terminal and on a page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mova.lab.documents import printable as printable
from mova.lab.suite.measures import MEASURES, Measure

MISSING = "-"
WORDS: Mapping[str, str] = {
    "abs_offset_ms": "distance of audio from picture, ms",
    "metal_decay_s": "metal for wood: how long it rings",
    "metal_centroid_hz": "metal for wood: how bright it sounds",
    "size_body_hz": "small for large: how high it sounds",
    "count_events_seen": "one event more: events seen",
    "count_events_heard": "one event more: events heard",
    "heard_in_silence": "sounds made to a silent video, per clip",
    "seen_off_screen": "events shown to audio out of sight, per clip",
    "health.num_faults": "faults, number",
    "video.flicker": "absence of flicker (1 is still)",
    "video.motion_px_s": "motion, pixels per second",
    "video.jerk_px_s3": "jerk of the motion, pixels per cubed second",
    "video.still_ratio": "frames as the one before, share",
    "video.black_ratio": "black frames, share",
    "video.blur": "sharpness (below 60 is soft)",
    "video.blockiness": "blockiness (1 is none)",
    "video.luma": "brightness, 0 to 255",
    "video.contrast": "contrast, 0 to 255",
    "video.crushed_ratio": "pixels too dark, share",
    "video.blown_ratio": "pixels too bright, share",
    "audio.loudness_lufs": "loudness, LUFS",
    "audio.peak_db": "highest sample, dB of full scale",
    "audio.true_peak_db": "true peak, dB of full scale",
    "audio.rms_db": "mean level, dB of full scale",
    "audio.crest_db": "peak over mean level, dB",
    "audio.dc_offset": "constant offset, of full scale",
    "audio.clip_ratio": "clipped samples, share",
    "audio.silence_ratio": "silence, share",
    "audio.quiet_ratio": "quiet beside the loud, share",
    "audio.bandwidth_hz": "highest frequency, Hz",
    "audio.snr_db": "sounds above the noise, dB",
    "audio.stereo_correlation": "likeness of left and right (1 is mono)",
    "avalign.score": "AV-Align (comparisons only)",
    "avalign.chance": "AV-Align by chance",
    "fidelity.psnr_db": "picture against the reference, PSNR, dB",
    "fidelity.ssim": "picture against the reference, SSIM (1 is alike)",
    "fidelity.mel": "audio from the reference, log-mel distance",
    "fidelity.stft": "audio from the reference, spectral distance",
    "fidelity.si_sdr_db": "audio against the reference, SI-SDR, dB",
}
"""What numbers are that are no measures of a model's clips, with their units, in plain words."""


def label(name: str, measures: Sequence[Measure] = MEASURES) -> str:
    """A number's name in words; one that nobody put into words, such as a learned metric's, stays as it is.

    Args:
        name: Name of the number; sync of videos goes by the name behind the dot.
        measures: Whose words are known.
    """
    words = {**WORDS, **{one.name: one.words for one in measures}}
    return words.get(name) or words.get(name.removeprefix("sync."), name)


def pluralise(count: int, one: str) -> str:
    """So many of a thing, in the plural where it is one: ``1 clip``, ``2 clips``."""
    return f"{count} {one}{'' if count == 1 else 's'}"


def number(value: float | None, unit: str = "") -> str:
    """A number with as many digits as it is worth: milliseconds with one, shares with three; ``-`` if there is none."""
    if value is None or not math.isfinite(value):
        return MISSING
    if unit:
        return f"{value:+.1f}"
    return f"{value:.3f}" if abs(value) < 100.0 else f"{value:.1f}"


def span(interval: Any, unit: str = "") -> str:
    """An interval, low to high; ``-`` if there is none."""
    low, high = interval
    words = number(low, unit), number(high, unit)
    return MISSING if MISSING in words else f"{words[0]} to {words[1]}"
