"""Numbers and names as people read them, in a terminal and on a page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

MISSING = "-"
WORDS: Mapping[str, str] = {
    "f1_corrected": "in step, 0 by chance and 1 if all is",
    "f1_bt1359_detectability": "in step where nobody notices, -45 to +125 ms (F1)",
    "f1_80": "seen and heard within 80 ms (F1)",
    "f1_45": "seen and heard within 45 ms (F1)",
    "missed_80": "seen, not heard within 80 ms, share",
    "extra_80": "heard, not seen within 80 ms, share",
    "offset_ms": "audio after picture (+ is late), ms",
    "abs_offset_ms": "distance of audio from picture, ms",
    "median_abs_ms": "distance of audio from picture, ms",
    "mad_ms": "scatter of the offsets, ms",
    "drift_ms_per_s": "drift of audio against picture, ms per second",
    "sounding_rate": "events seen that audio, share",
    "hallucination_rate": "sounds without a cause, share",
    "coverage": "clips in which events could be read, share",
    "colour": "colour as asked, share",
    "count": "number of events as asked, share",
    "count_seen": "number of events seen as asked, share",
    "count_heard": "number of events heard as asked, share",
    "sequence": "order seen as asked, share",
    "sequence_heard": "order heard as asked, share",
    "sound": "sounds as asked, share",
    "rate": "rate of events as asked, share",
    "key_asked": "notes as asked, share",
    "key_pitch": "notes of the keys seen, share",
    "drum_sound": "sounds of the drums seen, share",
    "restitution_seen": "a ball's restitution, as seen",
    "restitution_heard": "a ball's restitution, as heard",
    "restitution_difference": "restitution seen and heard, distance",
    "energy_gain_rate": "flights of a ball longer than the one before, share",
    "g_cv": "spread of gravity between flights (0 is constant)",
    "loudness_speed_rho": "harder impacts are louder (1 is always)",
    "whole": "clips without a fault, share",
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
"""What numbers are, with their units, in plain words. Sync of videos goes by the name behind the dot."""


def label(name: str) -> str:
    """A number's name in words; one that nobody put into words, such as a learned metric's, stays as it is."""
    return WORDS.get(name) or WORDS.get(name.removeprefix("sync."), name)


def counted(count: int, one: str) -> str:
    """So many of a thing, in the plural where it is one: ``1 clip``, ``2 clips``."""
    return f"{count} {one}{'' if count == 1 else 's'}"


def printable(text: object) -> str:
    """Text without control characters, which file names and prompts of strangers may hold: they are shown as escapes."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in str(text))


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
