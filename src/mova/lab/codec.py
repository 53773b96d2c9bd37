"""What a pair of codecs keeps of a rendered clip: the picture's moving parts, the instants of sounds, the notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mova.lab.numbers import Interval, interval, mean_interval, median
from mova.lab.read.readers import read_events
from mova.lab.sync.pairing import match
from mova.media.clip import Clip
from mova.scenes.clapper.scene import as_scene
from mova.scenes.script import Script

Floats = npt.NDArray[np.float64]
WINDOW_MS = 80.0


@dataclass(frozen=True)
class CodecReading:
    """One clip through the codecs.

    Args:
        psnr_db: PSNR of all pixels.
        moving_psnr_db: PSNR of the pixels that differ from the true clip's median over time by more than 8 of 255.
        onset_errors_ms: Heard minus true time, of each true event that is heard within 80 ms.
        sight_errors_ms: Seen minus true time, likewise.
        num_events: True events.
        num_heard: Events heard.
        num_seen: Events seen.
        names_right: Events heard that sound like what they are, where the kind's sounds tell (see ``hear``); else None.
    """

    psnr_db: float
    moving_psnr_db: float
    onset_errors_ms: tuple[float, ...]
    sight_errors_ms: tuple[float, ...]
    num_events: int
    num_heard: int
    num_seen: int
    names_right: int | None


@dataclass(frozen=True)
class CodecSummary:
    """Many clips through the codecs; 95 % intervals over clips.

    Args:
        psnr_db: Mean over clips.
        moving_psnr_db: Mean over clips.
        onset_error_ms: Median size of the error of sounds.
        onset_interval: Interval of it.
        heard: Share of true events that are heard within 80 ms.
        heard_extra: Events heard that are none, per true event.
        sight_error_ms: Median size of the error of sights.
        seen: As ``heard``.
        seen_extra: As ``heard_extra``.
        names_right: Share of true events that sound like what they are; nan where sounds have no names.
        names_interval: Interval of it.
    """

    psnr_db: float
    moving_psnr_db: float
    onset_error_ms: float
    onset_interval: Interval
    heard: float
    heard_extra: float
    sight_error_ms: float
    seen: float
    seen_extra: float
    names_right: float
    names_interval: Interval


def compare(script: Script, truth: Clip, decoded: Clip) -> CodecReading:
    """Compare a clip that went through codecs with the clip and the script that it was.

    Args:
        script: Script with the true events.
        truth: Clip as rendered.
        decoded: The same after the codecs.
    """
    error = np.square(decoded.frames.astype(np.float64) - truth.frames)
    still = np.median(truth.frames, axis=0)
    moving = (np.abs(truth.frames - still) > 8.0).any(axis=-1)
    reading, limits = read_events(decoded, as_scene(script)), {"low_ms": -WINDOW_MS, "high_ms": WINDOW_MS}
    sights = match([event.time_s for event in script.events], reading.seen_s, **limits)
    sounds = match([event.audio_time_s for event in script.events], reading.heard_s, **limits)
    named = script.kind not in ("metronome", "fireworks")
    return CodecReading(
        psnr_db=_psnr_db(error),
        moving_psnr_db=_psnr_db(error[moving]) if moving.any() else float("nan"),
        onset_errors_ms=tuple(1000 * (reading.heard_s[j] - script.events[i].audio_time_s) for i, j in sounds),
        sight_errors_ms=tuple(1000 * (reading.seen_s[j] - script.events[i].time_s) for i, j in sights),
        num_events=len(script.events),
        num_heard=len(reading.heard),
        num_seen=len(reading.seen),
        names_right=sum(reading.heard[j].label == script.events[i].label for i, j in sounds) if named else None,
    )


def summarise_codec(readings: Sequence[CodecReading], *, num_resamples: int = 1000, seed: int = 0) -> CodecSummary:
    """Numbers of a set of clips.

    Raises:
        ValueError: If there are none.
    """
    if not readings:
        raise ValueError("summarise_codec needs at least one reading; got none.")
    picks = np.random.default_rng(seed).integers(len(readings), size=(num_resamples, len(readings)))
    onsets = [np.abs(np.asarray(reading.onset_errors_ms)) for reading in readings]
    sights = np.concatenate([np.abs(np.asarray(reading.sight_errors_ms)) for reading in readings])
    events = sum(reading.num_events for reading in readings)
    num_matched = sum(errors.size for errors in onsets)
    named = [reading for reading in readings if reading.names_right is not None]
    shares = [(reading.names_right or 0) / max(reading.num_events, 1) for reading in named]
    return CodecSummary(
        psnr_db=float(np.mean([reading.psnr_db for reading in readings])),
        moving_psnr_db=float(np.nanmean([reading.moving_psnr_db for reading in readings])),
        onset_error_ms=median(np.concatenate(onsets)),
        onset_interval=interval(np.array([median(np.concatenate([onsets[i] for i in pick])) for pick in picks])),
        heard=num_matched / events,
        heard_extra=(sum(reading.num_heard for reading in readings) - num_matched) / events,
        sight_error_ms=median(sights),
        seen=sights.size / events,
        seen_extra=(sum(reading.num_seen for reading in readings) - sights.size) / events,
        names_right=float(np.mean(shares)) if shares else float("nan"),
        names_interval=mean_interval(shares),
    )


def _psnr_db(squared_error: Floats) -> float:
    # half a grey level is the best that 8 bits can show
    return float(10.0 * np.log10(255.0**2 / max(float(squared_error.mean()), 0.25)))
