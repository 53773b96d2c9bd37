"""Hear what happens in audio, and when: onsets to the millisecond, and what each of them is.

An onset is found twice. A coarse search takes the rise of band energies over what those bands held just before, every
millisecond, and keeps the peaks that stand out. Each peak is then placed to the sample by the Akaike picker of
seismology: the split of a short stretch into two whose variances explain it best (Maeda 1985; Zhang, Thurber and Rowe
2003, "Automatic P-wave arrival detection and picking with multiscale wavelet analysis"). A siren has no onsets; its
events are the moments at which the stronger of its two tones changes.

What is left of a constant delay on ground-truth renders is taken off (``OnsetConfig.bias_s``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter1d, uniform_filter1d
from scipy.signal import find_peaks

from mova.lab.read.events import Detection
from mova.scenes.clapper.stages import STROKE_S
from mova.scenes.kind import Kind
from mova.scenes.kinds import find_kind
from mova.scenes.script import Event, Script
from mova.scenes.world import synthesise

Floats = npt.NDArray[np.float64]
Waveform = npt.NDArray[np.floating]


@dataclass(frozen=True)
class OnsetConfig:
    """How to listen for onsets.

    Args:
        low_hz: Lowest frequency that counts.
        high_hz: Highest.
        window_s: Length of the analysis window.
        rise_db: Smallest rise, averaged over the quarter of the bands that rise most.
        range_db: Onsets this far below the loudest one are not counted.
        gap_s: Two onsets are at least this far apart; the stronger stays.
        search_s: The picker looks this far to both sides of a peak.
        masked: What is quieter than this share of the loudest quarter of that stretch (mean squares) does not count: the
            faint pre-echo of a transform codec is not the blow.
        skips_ends: Whether the click at which audio is cut off, a beep for instance, is no onset.
        bias_s: Mean of what was measured minus the truth on ground-truth renders.
    """

    low_hz: float = 60.0
    high_hz: float = 7600.0
    window_s: float = 0.012
    rise_db: float = 14.0
    range_db: float = 26.0
    gap_s: float = 0.11
    search_s: float = 0.014
    masked: float = 0.06
    skips_ends: bool = False
    bias_s: float = 0.0


ANY = OnsetConfig(skips_ends=True)
"""For audio of which nothing is known."""

SIREN_BIAS_S = 0.002
_VOICE_BIAS_S = 0.0006
_STORM = OnsetConfig(low_hz=40.0, high_hz=400.0, window_s=0.04, gap_s=0.3, search_s=0.04, masked=0.0, bias_s=0.0028)


def hear(waveform: Waveform, sample_rate: int, *, kind: str | Kind) -> list[Detection]:
    """Hear what happens in a clip of a known kind.

    Args:
        waveform: ``[S]`` or ``[channels, S]`` in [-1, 1]; channels are averaged.
        sample_rate: Samples per second, at least 8000.
        kind: Kind of scene or its name, or ``"scrape"``. Labels are given where the audio tells them (drums, piano, ball,
            mouth, siren, storm) and are empty elsewhere.

    Returns:
        In order of time.

    Raises:
        RequestError: If there is no such kind.
    """
    if kind == "scrape":
        return find_swells(waveform, sample_rate, length_s=STROKE_S)
    definition = find_kind(kind)
    if definition.name == "siren":
        return find_tone_switches(waveform, sample_rate)
    found, labels = find_onsets(waveform, sample_rate, config=_onset_config(definition)), definition.reading.heard_labels
    found = _first_onsets(found, definition.reading.longest_s)
    if not labels:
        return found
    audio = _mono(waveform)
    ends = [*(onset.time_s for onset in found[1:]), audio.size / sample_rate]
    pieces = [_cut(audio, sample_rate, onset.time_s, end) for onset, end in zip(found, ends, strict=False)]
    name = nearest_key if definition.name == "piano" else partial(_nearest_label, kind=definition)
    return [replace(onset, label=name(piece, sample_rate)) for onset, piece in zip(found, pieces, strict=True)]


def _first_onsets(found: list[Detection], longest_s: float) -> list[Detection]:
    """The onsets at which an event begins that lasts up to ``longest_s``."""
    first: list[Detection] = []
    for onset in found:
        if not first or onset.time_s - first[-1].time_s >= longest_s:
            first.append(onset)
    return first


def _onset_config(kind: Kind) -> OnsetConfig:
    if kind.name == "storm":
        return _STORM
    config = OnsetConfig(low_hz=kind.reading.low_hz, gap_s=kind.reading.gap_s)
    if kind.name in ("mouth", "speech"):
        return replace(config, masked=0.0, bias_s=_VOICE_BIAS_S)  # a voice that sets in softly is not a blow
    return config


def find_onsets(waveform: Waveform, sample_rate: int, *, config: OnsetConfig = ANY) -> list[Detection]:
    """Find the onsets of audio, without labels, in order of time.

    Args:
        waveform: ``[S]`` or ``[channels, S]`` in [-1, 1]; channels are averaged.
        sample_rate: Samples per second, at least 8000.
        config: Kind of onsets that count.
    """
    audio = _mono(waveform)
    if audio.size < 4 * config.window_s * sample_rate or np.abs(audio).max() < _SILENT:
        return []
    levels = _band_levels(audio, sample_rate, config)
    novelty, loudness = _novelty(levels, config)
    if config.skips_ends:
        novelty[_is_end(audio, sample_rate, novelty.size)] = 0.0
    peaks, _ = find_peaks(novelty, height=config.rise_db, distance=max(1, round(config.gap_s / _STEP_S)))
    if not peaks.size:
        return []
    loud = loudness[peaks]
    found = []
    last = audio.size / sample_rate - _TAIL_S
    for peak in peaks[(loud > loud.max() - config.range_db) & (peaks * _STEP_S < last)]:
        time_s = _pick(audio, sample_rate, around_s=peak * _STEP_S, config=config)
        found.append(Detection(time_s - config.bias_s, "", float(novelty[peak])))
    return found


def find_tone_switches(
    waveform: Waveform, sample_rate: int, *, high_hz: float = 960.0, low_hz: float = 720.0
) -> list[Detection]:
    """Find when a two-tone siren changes to its other tone, labelled ``high`` or ``low``, in order of time.

    The first three harmonics of both tones are demodulated with a 16 ms Hann window; a state must hold for 60 ms.
    """
    audio = _mono(waveform)
    if audio.size < 0.1 * sample_rate or np.abs(audio).max() < _SILENT:
        return []
    times = np.arange(audio.size) / sample_rate
    window = np.hanning(round(0.016 * sample_rate) | 1)
    hop = max(1, round(_STEP_S * sample_rate))

    def energy(pitch_hz: float) -> Floats:
        total = np.zeros(-(-audio.size // hop))
        for harmonic in (1, 2, 3):
            carrier = audio * np.exp(-2j * np.pi * harmonic * pitch_hz * times)
            total += np.abs(np.convolve(carrier, window, mode="same")[::hop]) ** 2
        return total

    high, low = energy(high_hz), energy(low_hz)
    floor = 1e-4 * max(high.max(), low.max())
    contrast = 10.0 * np.log10((high + floor) / (low + floor))
    return _state_changes(contrast, hop / sample_rate, labels=("high", "low"), hold_s=0.06)


def find_swells(waveform: Waveform, sample_rate: int, *, length_s: float) -> list[Detection]:
    """Find the centres of swells of noise, by their power, in order of time.

    Args:
        waveform: ``[S]`` or ``[channels, S]`` in [-1, 1]; channels are averaged.
        sample_rate: Samples per second.
        length_s: Length of a swell.
    """
    hop = max(1, sample_rate // 1000)
    power = np.square(_mono(waveform))
    power = power[: power.size // hop * hop].reshape(-1, hop).mean(axis=1)
    step = hop / sample_rate
    if power.size * step < 2 * length_s or power.max() < 1e-6:
        return []
    half = round(0.5 * length_s / step)
    level = np.sqrt(np.convolve(power, np.ones(half) / half, mode="same"))
    peaks = [
        index
        for index in range(1, level.size - 1)
        if level[index] == level[max(0, index - half) : index + half + 1].max() and level[index] > max(0.08 * level.max(), 2e-3)
    ]
    fresh = np.clip(power - np.quantile(power, 0.1), 0.0, None)
    found = []
    for peak in peaks:
        centre = float(peak)
        for _ in range(5):
            span = np.arange(max(0, round(centre) - half), min(fresh.size, round(centre) + half + 1))
            centre = float(span @ fresh[span] / max(float(fresh[span].sum()), 1e-12))
        found.append(Detection((centre + 0.5) * step, "", float(level[peak])))
    return found


def nearest_key(audio: Floats, sample_rate: int) -> str:
    """The key from C5 to B5 whose harmonics hold most of the spectrum of a note.

    Args:
        audio: ``[S]`` from the onset on.
        sample_rate: Samples per second.
    """
    piece = audio[round(0.004 * sample_rate) : round(0.25 * sample_rate)]
    if piece.size < 64:
        return ""
    size = 1 << 16
    spectrum = np.abs(np.fft.rfft(piece * np.hanning(piece.size), size))
    scores = {}
    for name, pitch_hz in KEYS_HZ.items():
        score = 0.0
        for harmonic, weight in ((1, 1.0), (2, 0.5), (3, 0.33)):
            centre = harmonic * pitch_hz * size / sample_rate
            near = spectrum[int(centre / 1.028) : int(centre * 1.028) + 2]
            score += weight * float(near.max(initial=0.0))
        scores[name] = score
    return max(scores, key=lambda name: scores[name])


KEYS_HZ = {
    name: 440.0 * 2.0 ** (above / 12.0) for name, above in {"C": 3, "D": 5, "E": 7, "F": 8, "G": 10, "A": 12, "B": 14}.items()
}

_SILENT = 1e-3  # -60 dB below full scale
_STEP_S, _LOOK_S = 0.001, 0.006
_TAIL_S = 0.03  # what starts later cannot be distinguished from the clip's end
_NUM_BANDS = 20


def _mono(waveform: Waveform) -> Floats:
    audio = np.asarray(waveform, dtype=np.float64)
    return audio.mean(axis=0) if audio.ndim == 2 else audio


def _band_levels(audio: Floats, sample_rate: int, config: OnsetConfig) -> Floats:
    """``[bands, frames]`` levels in dB; frame ``i`` is centred on ``i`` milliseconds."""
    window = round(config.window_s * sample_rate)
    size = 1 << (2 * window - 1).bit_length()
    padded = np.pad(audio, (window // 2, window), mode="reflect")
    starts = np.round(np.arange(int(audio.size / sample_rate / _STEP_S)) * _STEP_S * sample_rate).astype(np.int64)
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[starts]
    power = np.abs(np.fft.rfft(frames * np.hanning(window), size)) ** 2 / window
    frequencies = np.fft.rfftfreq(size, 1.0 / sample_rate)
    edges = np.geomspace(config.low_hz, min(config.high_hz, 0.475 * sample_rate), _NUM_BANDS + 1)
    centres = np.sqrt(edges[1:] * edges[:-1])
    widths = np.maximum(edges[1:] - edges[:-1], 1.0 / config.window_s)
    weights = np.maximum(0.0, 1.0 - np.abs(frequencies[None] - centres[:, None]) / widths[:, None])
    energy = weights @ power.T
    return np.asarray(10.0 * np.log10(energy + max(energy.max() * 1e-6, 1e-9)))


def _novelty(levels: Floats, config: OnsetConfig) -> tuple[Floats, Floats]:
    """Rise in dB of the quarter of bands that rise most, and the level of the loudest band after it; ``[frames]``."""
    look = max(round(_LOOK_S / _STEP_S), round(0.5 * config.window_s / _STEP_S))
    num_frames = levels.shape[1]
    held = maximum_filter1d(levels, 2 * look, axis=1, origin=look - 1)  # the loudest of frames i - 2 look + 1 ... i
    rise = np.zeros_like(levels)
    inner = slice(look, num_frames - look)
    rise[:, inner] = np.clip(levels[:, 2 * look :] - held[:, : num_frames - 2 * look], 0.0, None)
    top = np.sort(rise, axis=0)[-_NUM_BANDS // 4 :].mean(axis=0)
    return uniform_filter1d(top, 3), maximum_filter1d(levels.max(axis=0), 30, origin=-14)


def _is_end(audio: Floats, sample_rate: int, num_frames: int) -> npt.NDArray[np.bool_]:
    """``[frames]`` whether what comes just after is quieter than what came just before."""
    energy = np.concatenate(([0.0], np.cumsum(np.square(audio))))
    at = np.round(np.arange(num_frames) * _STEP_S * sample_rate).astype(np.int64)
    near, far = round(_END_S[0] * sample_rate), round(_END_S[1] * sample_rate)

    def power(first: int, last: int) -> Floats:
        spans = np.clip(np.stack((at + first, at + last)), 0, audio.size)
        return np.asarray(np.diff(energy[spans], axis=0)[0] / np.maximum(np.diff(spans, axis=0)[0], 1), np.float64)

    return np.asarray(power(near, far) < _QUIETER * power(-far, -near))


_END_S, _QUIETER = (0.008, 0.03), 0.5


def _pick(audio: Floats, sample_rate: int, *, around_s: float, config: OnsetConfig) -> float:
    """Where the variance of ``audio`` changes, in seconds."""
    first = max(0, round((around_s - config.search_s) * sample_rate))
    last = min(audio.size, round((around_s + config.search_s) * sample_rate))
    power = audio[first:last] ** 2
    loudest = np.sort(power)[-max(1, power.size // 4) :].mean()
    energy = np.cumsum(power + config.masked * loudest + 1e-9)
    count = np.arange(1, energy.size + 1)
    edge = max(4, round(0.0005 * sample_rate))
    split = slice(edge, -edge)
    left, right = energy[split] / count[split], (energy[-1] - energy[split]) / (energy.size - count[split])
    cost = count[split] * np.log(left) + (energy.size - count[split]) * np.log(right)
    return (first + edge + 1 + int(np.argmin(cost))) / sample_rate


def _state_changes(
    contrast: Floats, step_s: float, *, labels: tuple[str, str], hold_s: float, margin_db: float = 4.0
) -> list[Detection]:
    """Sign changes of ``contrast`` between stretches in which it stays beyond ``margin_db`` for ``hold_s``."""
    state = np.where(contrast > margin_db, 1, np.where(contrast < -margin_db, -1, 0))
    edges = np.flatnonzero(np.diff(state, prepend=2, append=2))
    stretches: list[tuple[int, int, int]] = []
    for first, last in zip(edges[:-1], edges[1:], strict=True):
        if state[first] == 0 or (last - first) * step_s < hold_s:
            continue
        if stretches and stretches[-1][2] == state[first]:
            stretches[-1] = (stretches[-1][0], int(last), int(state[first]))
        else:
            stretches.append((int(first), int(last), int(state[first])))
    found = []
    for (_, before, _), (after, _, sign) in zip(stretches[:-1], stretches[1:], strict=True):
        between = np.arange(before - 1, after + 1)
        level = sign * contrast[between]
        crossing = int(np.flatnonzero((level[:-1] < 0.0) & (level[1:] >= 0.0))[0])
        part = -level[crossing] / (level[crossing + 1] - level[crossing])
        time_s = (between[crossing] + part) * step_s - SIREN_BIAS_S
        found.append(Detection(float(time_s), labels[0] if sign > 0 else labels[1], float(np.abs(contrast).max())))
    return found


def _cut(audio: Floats, sample_rate: int, start_s: float, end_s: float) -> Floats:
    return audio[max(0, round(start_s * sample_rate)) : max(0, round((end_s - 0.005) * sample_rate))]


_STRENGTHS = (0.35, 0.6, 1.0)


def _nearest_label(audio: Floats, sample_rate: int, *, kind: Kind) -> str:
    """The label whose own rendered audio is closest, by shape of the spectrum early and late after the onset."""
    portrait = _portrait(audio, sample_rate)
    return min(_prototypes(kind, sample_rate), key=lambda pair: float(np.mean((pair[1] - portrait) ** 2)))[0]


@lru_cache(maxsize=16)
def _prototypes(kind: Kind, sample_rate: int) -> list[tuple[str, Floats]]:
    """Portraits of every label of a kind, rendered by its own sound."""
    found = []
    for label, variant, strength in product(kind.reading.heard_labels, kind.reading.variants, _STRENGTHS):
        event = Event(0.0, 0.0, "", label, (0.5, 0.5), strength)
        script = Script(kind.name, 0, 0.25, "", variant, (event,), None, kind)
        audio = synthesise(script, sample_rate=sample_rate, num_samples=sample_rate // 4)
        found.append((label, _portrait(audio[0].astype(np.float64), sample_rate)))
    return found


def _portrait(audio: Floats, sample_rate: int) -> Floats:
    """``[2, 24]`` levels in dB of third-octave-like bands in the first 40 ms and the 80 ms after, at most 35 dB deep."""
    edges = np.geomspace(60.0, 7200.0, 25)
    rows = []
    for start_s, end_s in ((0.0, 0.04), (0.04, 0.12)):
        piece = audio[round(start_s * sample_rate) : round(end_s * sample_rate)]
        size = round((end_s - start_s) * sample_rate)
        piece = np.pad(piece, (0, size - piece.size))
        power = np.abs(np.fft.rfft(piece * np.hanning(size), 4 * size)) ** 2 / size
        frequencies = np.fft.rfftfreq(4 * size, 1.0 / sample_rate)
        centres = np.sqrt(edges[1:] * edges[:-1])
        widths = np.maximum(edges[1:] - edges[:-1], 1.0 / (end_s - start_s))
        weights = np.maximum(0.0, 1.0 - np.abs(frequencies[None] - centres[:, None]) / widths[:, None])
        rows.append(weights @ power)
    energy = np.stack(rows)
    return np.asarray(10.0 * np.log10(energy / energy.max() + 10.0**-3.5) if energy.max() > 0 else energy - 35.0)
