"""Is a clip what its prompt asked for, and is its audio in step? Scores for scripts of the rendered world.

Where a clip comes from does not matter: the renderer (what the detectors can see at best), a codec (what a model can
reach at best) or a model. Only what the prompt says is asked for: a prompt that names no colour is not scored for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mova.lab.read.attributes import COLOURED, read_colours
from mova.lab.read.audio_events import hear
from mova.lab.read.events import Detection
from mova.lab.read.video_events import see
from mova.lab.sync.summary import ClipEvents, Interval, SyncScore, match, mean_interval, score_clips
from mova.scenes.captions import NUMBERS, times
from mova.scenes.kinds import metronome, siren, storm
from mova.scenes.script import Script

Frames = npt.NDArray[np.uint8]
Waveform = npt.NDArray[np.float32]
COUNTED = ("ball", "drums", "piano", "mouth", "storm", "fireworks")
"""The kinds whose prompts say how many events there are."""
SAME_MS = 80.0
"""An event seen and one heard this near to each other are taken for the same."""


@dataclass(frozen=True)
class PromptConstraints:
    """What a prompt says of a clip; None where it says nothing.

    Args:
        colours: Of the subject.
        count: Number of events.
        sequence: Pads or keys in order.
        audio: What every event sounds like: floor, vowel, near or far.
        rate_hz: Events per second, by a word for tempo or speed.
    """

    colours: frozenset[str] | None
    count: int | None
    sequence: tuple[str, ...] | None
    sound: str | None
    rate_hz: float | None


@dataclass(frozen=True)
class Verdict:
    """One clip against its prompt. A value is 1 or 0, or a share; a missing one was not asked for.

    Args:
        events: Times seen and heard, for the sync score.
        values: By column: ``colour``, ``count`` (seen and heard), ``count_seen``, ``count_heard``, ``sequence`` (seen),
            ``sequence_heard``, ``key_pitch`` (of keys seen lit, the share that sounds at that moment with its own
            pitch), ``key_asked`` (share of the asked keys that are heard in their place), ``drum_audio`` (as
            ``key_pitch``, for pads), ``audio`` (share of events heard that audio as asked), ``rate``.
    """

    events: ClipEvents
    values: Mapping[str, float]


@dataclass(frozen=True)
class Mean:
    """A mean over clips and its 95 % interval."""

    value: float
    interval: Interval
    num_clips: int


@dataclass(frozen=True)
class Summary:
    """A set of clips: their sync, and the mean of every column over the clips that were asked for it."""

    sync: SyncScore
    means: Mapping[str, Mean]


def judge(script: Script, frames: Frames, waveform: Waveform, *, fps: float, sample_rate: int) -> Verdict:
    """Look at and listen to a clip that was made for a script's caption.

    Args:
        script: What was asked for. Of its events only the lag of thunder is used, and only if the caption speaks of it.
        frames: ``[T, H, W, 3]`` uint8.
        waveform: ``[channels, S]`` or ``[S]``.
        fps: Frames per second.
        sample_rate: Samples per second.
    """
    wish = constraints_of(script)
    seen, heard = see(frames, fps, kind=script.kind), hear(waveform, sample_rate, kind=script.kind)
    events = ClipEvents(script.kind, _times(seen), _times(heard), lag_s=_lag_s(script, wish, heard))
    values: dict[str, float] = {}
    if wish.colours is not None:
        values["colour"] = float(read_colours(frames, kind=script.kind) == wish.colours)
    if wish.count is not None:
        values["count_seen"], values["count_heard"] = float(len(seen) == wish.count), float(len(heard) == wish.count)
        values["count"] = values["count_seen"] * values["count_heard"]
    if wish.sequence is not None:
        values["sequence"] = float(_labels(seen) == wish.sequence)
        values["sequence_heard"] = float(_labels(heard) == wish.sequence)
    if script.kind == "piano" and wish.sequence is not None:
        values["key_asked"] = _share_in_place(_labels(heard), wish.sequence)
    if script.kind in ("piano", "drums") and seen:
        values["key_pitch" if script.kind == "piano" else "drum_sound"] = _agreement(seen, heard)
    if wish.sound is not None:
        values["sound"] = float(np.mean([one.label == wish.sound for one in heard])) if heard else 0.0
    if wish.rate_hz is not None:
        values["rate"] = float(_nearest_rate(script.kind, seen) == _nearest_rate(script.kind, heard) == wish.rate_hz)
    return Verdict(events, values)


def summarise(verdicts: Sequence[Verdict]) -> Summary:
    """Scores of a set of clips.

    Raises:
        ValueError: If there are none.
    """
    columns = sorted({name for verdict in verdicts for name in verdict.values})
    means = {}
    for name in columns:
        values = [verdict.values[name] for verdict in verdicts if name in verdict.values]
        means[name] = Mean(float(np.mean(values)), mean_interval(values), len(values))
    return Summary(score_clips([verdict.events for verdict in verdicts]), means)


def constraints_of(script: Script) -> PromptConstraints:
    """What a script's caption says; its attributes tell how to read the words."""
    caption, given = script.caption, script.attributes
    words = set(re.findall(r"[a-z]+", caption))
    colours = frozenset(str(given[name]) for name in ("colour", "colour2") if name in given)
    sequence = tuple(str(given["sequence"]).split()) if "sequence" in given else None
    if sequence is not None and ", ".join(sequence).lower() not in caption:
        sequence = None
    count = None
    if script.kind in COUNTED and (sequence is not None or _says_count(caption, int(given["count"]))):
        count = int(given["count"])
    sound = {"ball": "floor", "mouth": "vowel", "storm": "distance"}.get(script.kind)
    audio_said = sound is not None and bool(words & {str(given[sound]), str(given[sound]) + "en"})
    pace = {"metronome": ("tempo", metronome.TEMPI), "siren": ("speed", siren.SPEEDS)}.get(script.kind)
    return PromptConstraints(
        colours=colours if script.kind in COLOURED and colours <= words else None,
        count=count,
        sequence=sequence,
        sound=str(given[sound]) if sound is not None and audio_said else None,
        rate_hz=pace[1][str(given[pace[0]])] if pace is not None and given[pace[0]] in words else None,
    )


_COUNTED_NOUNS = r"(?:bounce|drum hit|hit|piano note|piano key|note|(?:near|far) flash|(?:[a-z]+ )?firework)(?:e?s)?"


def _says_count(caption: str, count: int) -> bool:
    return bool(re.search(rf"\b(?:{times(count)}|{NUMBERS[count]} {_COUNTED_NOUNS})\b", caption))


def _lag_s(script: Script, wish: PromptConstraints, heard: Sequence[Detection]) -> float:
    """How late thunder is meant to be: as asked, or else as it sounds."""
    if script.kind != "storm":
        return 0.0
    labels = [wish.sound] if wish.sound is not None else [one.label for one in heard]
    return storm.THUNDER_LAG_S["far" if labels.count("far") > len(labels) / 2 else "near"]


def _agreement(seen: Sequence[Detection], heard: Sequence[Detection]) -> float:
    """Of what is seen, the share that is heard at the same time with the same label."""
    pairs = match(_times(seen), _times(heard), low_ms=-SAME_MS, high_ms=SAME_MS)
    return sum(seen[first].label == heard[second].label for first, second in pairs) / len(seen)


def _share_in_place(labels: Sequence[str], asked: Sequence[str]) -> float:
    return sum(given == wanted for given, wanted in zip(labels, asked, strict=False)) / max(len(asked), len(labels))


def _nearest_rate(kind: str, events: Sequence[Detection]) -> float | None:
    if len(events) < 2:
        return None
    rates = metronome.TEMPI if kind == "metronome" else siren.SPEEDS
    rate_hz = 1.0 / max(float(np.median(np.diff(_times(events)))), 1e-3)
    return min(rates.values(), key=lambda named: abs(np.log(named / rate_hz)))


def _times(events: Sequence[Detection]) -> tuple[float, ...]:
    return tuple(event.time_s for event in events)


def _labels(events: Sequence[Detection]) -> tuple[str, ...]:
    return tuple(event.label for event in events)
