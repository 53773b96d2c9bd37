"""Is a clip what its prompt asked for? One value for each thing that a caption can name.

    reading = read_all(clip, scene)
    judge(scene, reading).values            # {"count": 1.0, "count_seen": 1.0, "colour": 1.0, "sound": 0.75, ...}

Where a clip comes from does not matter: the renderer (what the detectors can read at best), a codec (what a model can reach at
best) or a model. Only what the prompt says is asked for: a prompt that names no colour is not scored for it, and what could
not be read is 0. Chance is what another scene's clip is worth against this scene's caption; the floor is what the meter takes
off true clips.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from mova.lab.numbers import Interval, Number, average, share_floors
from mova.lab.read.attributes import COLOURED
from mova.lab.read.events import Detection, Reading
from mova.lab.read.readers import read_all
from mova.lab.sync.pairing import match
from mova.lab.sync.scores import ClipTimes, choose_others, clip_times
from mova.media.clip import Clip
from mova.scenes.clapper import stages
from mova.scenes.clapper.scene import ClapperScene
from mova.scenes.kind import NUMBERS, ReadingHints, times
from mova.scenes.kinds import definition_of
from mova.scenes.script import Script

BETWEEN = ("key_pitch", "drum_sound")
"""Columns that hold what is seen against what is heard, and neither against the prompt."""
SAME_MS = 80.0
"""An event seen and one heard this near to each other are taken for the same."""
RATE = 1.15
"""A mean rate off by at most this factor is right; captions round to 5 a minute."""


@dataclass(frozen=True)
class PromptConstraints:
    """What a prompt says of a clip; None where it says nothing.

    Args:
        colours: Colours of the subject.
        count: Number of events.
        sequence: Pads or keys in order.
        sound: Label of every sound: floor, vowel, note, near or far.
        voice: Voice of every sound: low or high.
        rates_hz: Range of the rate of events, by a word for tempo or speed or by a number.
    """

    colours: frozenset[str] | None
    count: int | None
    sequence: tuple[str, ...] | None
    sound: str | None
    voice: str | None
    rates_hz: Interval | None


@dataclass(frozen=True)
class Verdict:
    """One clip against its prompt. A value is 1 or 0, or a share; a missing one was not asked for.

    Args:
        times: Times seen and heard, for the scores of sync.
        values: Values by column: ``colour``; ``count`` (seen and heard), ``count_seen``, ``count_heard``; ``sequence`` (seen,
            where the picture tells it), ``sequence_heard``; ``key_asked`` (share of the asked keys that are heard in their
            place); ``key_pitch`` (of keys seen lit, the share that sounds at that moment with its own pitch), ``drum_sound``
            (the same of pads); ``sound`` (share of the sounds that are as asked), ``voice`` (share of the sounds with the voice
            asked); ``rate`` (seen and heard), ``rate_seen``, ``rate_heard``.
    """

    times: ClipTimes
    values: Mapping[str, float]


def judge(scene: ClapperScene, reading: Reading) -> Verdict:
    """Judge a clip that was made for a scene's caption.

    Args:
        scene: Scene that was asked for. Of its truth only the lag it means is used; of thunder only if the caption says it.
        reading: Reading of the clip.
    """
    asked, kind = constraints_of(scene.picture), scene.picture.kind
    seen, heard = _labels(reading.seen), _labels(reading.heard)
    values: dict[str, float] = {}
    if asked.colours is not None:
        values["colour"] = float(reading.colours == asked.colours)
    if asked.count is not None:
        values |= _both("count", *(len(found) == asked.count for found in (seen, heard)))
    if asked.sequence is not None:
        if {light.label for light in hints_of(scene.picture).lights} >= set(asked.sequence):
            values["sequence"] = float(seen == asked.sequence)
        values["sequence_heard"] = float(heard == asked.sequence)
        if kind == "piano":
            right = sum(one == other for one, other in zip(heard, asked.sequence, strict=False))
            values["key_asked"] = right / max(len(heard), len(asked.sequence))
    if kind in ("piano", "drums") and seen:
        values["key_pitch" if kind == "piano" else "drum_sound"] = _agreement(reading)
    if asked.sound is not None:
        values["sound"] = _share(heard, asked.sound)
    if asked.voice is not None:
        values["voice"] = _share(reading.voices, asked.voice)
    if asked.rates_hz is not None:
        low, high = asked.rates_hz
        is_even = bool(hints_of(scene.picture).rates_hz)
        rates = (_rate_hz(times_s, is_even=is_even) for times_s in (reading.seen_s, reading.heard_s))
        values |= _both("rate", *(low <= rate <= high for rate in rates))
    return Verdict(replace(clip_times(scene, reading), lag_s=_lag_s(scene, asked, heard)), values)


def judge_clip(clip: Clip, scene: ClapperScene) -> Verdict:
    """Read a clip that was made for a scene's caption, and judge it."""
    return judge(scene, read_all(clip, scene))


def score_adherence(
    scenes: Sequence[ClapperScene],
    readings: Sequence[Reading],
    *,
    floors: Mapping[str, float] | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Number]:
    """Average every value over the clips that were asked for it.

    Args:
        scenes: Scenes that were asked for.
        readings: Reading of the clip of each.
        floors: Floors by name, from :func:`adherence_floors`.
        num_resamples: Draws of the bootstrap over clips.
        seed: Seed of the bootstrap and of the choice of other clips.

    Returns:
        By the columns of a :class:`Verdict`. The chance level is that of some other clips of the family for each caption; nan
        where there are none.

    Raises:
        ValueError: If there are no clips, or not as many of the one as of the other.
    """
    if not scenes or len(scenes) != len(readings):
        raise ValueError(f"adherence needs clips and the scenes of all; got {len(scenes)} scenes and {len(readings)} clips.")
    families = [scene.family for scene in scenes]
    own = [judge(scene, reading).values for scene, reading in zip(scenes, readings, strict=True)]
    by_chance = []
    for index, (scene, reading) in enumerate(zip(scenes, readings, strict=True)):
        for other in (readings[place] for place in choose_others(families, index, seed)):
            mixed = judge(scene, replace(reading, heard=other.heard)).values
            alone = {name: value for name, value in judge(scene, other).values.items() if name not in BETWEEN}
            by_chance.append(alone | {name: mixed[name] for name in BETWEEN if name in mixed})
    return average(own, by_chance=by_chance, floors=floors, num_resamples=num_resamples, seed=seed)


def adherence_floors(scenes: Sequence[ClapperScene], readings: Sequence[Reading]) -> dict[str, float]:
    """What the meter takes off true clips: 1 less their mean, but at least one clip of all.

    Args:
        scenes: Scenes that were asked for.
        readings: Reading of the true clip of each, through a codec if that is what is to be measured.
    """
    return share_floors([judge(scene, reading).values for scene, reading in zip(scenes, readings, strict=True)])


def constraints_of(script: Script) -> PromptConstraints:
    """What a script's caption says; its attributes tell how to read the words."""
    caption, given, hints = script.caption, script.attributes, hints_of(script)
    words = set(re.findall(r"[a-z0-9]+", caption))

    def said(name: str) -> str | None:
        value = str(given.get(name, "?"))
        return value if {value.lower(), f"{value}en"} & words else None

    colours = frozenset(str(given[name]) for name in ("colour", "colour2") if name in given)
    sequence = tuple(str(given["sequence"]).split()) if "sequence" in given else None
    if sequence is not None and ", ".join(sequence).lower() not in caption:
        sequence = None
    is_counted = "count" in given and (sequence is not None or _says_count(caption, int(given["count"])))
    return PromptConstraints(
        colours=colours if script.kind in COLOURED and colours <= words else None,
        count=int(given["count"]) if is_counted else None,
        sequence=sequence,
        sound=said(hints.label_attribute) if hints.label_attribute else None,
        voice=said("voice") if script.kind == "mouth" else None,
        rates_hz=_rates_hz(hints, said),
    )


def hints_of(script: Script) -> ReadingHints:
    """How the events of a script's kind are read; the lamps of Clapper's own pictures go with the note they name."""
    return ReadingHints(label_attribute="note") if script.kind in stages.PICTURES else definition_of(script).reading


_COUNTED_NOUNS = r"(?:bounce|drum hit|hit|piano note|piano key|note|stroke|(?:near|far) flash|(?:[a-z]+ )?firework)(?:e?s)?"


def _says_count(caption: str, count: int) -> bool:
    return bool(re.search(rf"\b(?:{times(count)}|{NUMBERS[count]} {_COUNTED_NOUNS})\b", caption))


def _rates_hz(hints: ReadingHints, said: Callable[[str], str | None]) -> Interval | None:
    """Rates that are nearest to the one that is named, or near to the number that is given."""
    if per_minute := said("per_minute"):
        return int(per_minute) / 60.0 / RATE, int(per_minute) / 60.0 * RATE
    for name, named in hints.rates_hz.items():
        if pace := said(name):
            slower = max((rate for rate in named.values() if rate < named[pace]), default=0.0)
            faster = min((rate for rate in named.values() if rate > named[pace]), default=float("inf"))
            return float(np.sqrt(slower * named[pace])), float(np.sqrt(named[pace] * faster))
    return None


def _rate_hz(times_s: Sequence[float], *, is_even: bool) -> float:
    """Events per second: of an even beat by the median gap, which one missed event does not change; nan for fewer than 2."""
    if len(times_s) < 2:
        return float("nan")
    gaps = [after - before for before, after in pairwise(times_s)]
    return 1.0 / max(float(np.median(gaps) if is_even else np.mean(gaps)), 1e-3)


def _lag_s(scene: ClapperScene, asked: PromptConstraints, heard: Sequence[str]) -> float:
    """How late the audio is meant to be; of a kind whose labels tell, as asked, or else as it sounds."""
    lags_s = hints_of(scene.picture).lags_s
    labels = [asked.sound] if asked.sound is not None else list(heard)
    return lags_s[max(lags_s, key=labels.count)] if lags_s else scene.lag_s


def _agreement(reading: Reading) -> float:
    """Of what is seen, the share that is heard at the same time with the same label."""
    pairs = match(reading.seen_s, reading.heard_s, low_ms=-SAME_MS, high_ms=SAME_MS)
    return sum(reading.seen[first].label == reading.heard[second].label for first, second in pairs) / len(reading.seen)


def _both(name: str, is_seen: bool, is_heard: bool) -> dict[str, float]:
    return {name: float(is_seen and is_heard), f"{name}_seen": float(is_seen), f"{name}_heard": float(is_heard)}


def _share(labels: Sequence[str], asked: str) -> float:
    return sum(label == asked for label in labels) / len(labels) if labels else 0.0


def _labels(events: Sequence[Detection]) -> tuple[str, ...]:
    return tuple(event.label for event in events)
