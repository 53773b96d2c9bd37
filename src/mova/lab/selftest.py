"""The meter tested: faults of known size are put in, and what it says of them is held against what it may say.

    for check in self_test():
        check.name, check.value, check.allowed, check.passed

Everything goes through a real file (H.264 and AAC). The audio of a rendered clip is moved, stretched or exchanged; nothing is
rendered twice.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mova.lab.adherence.judge import score_adherence
from mova.lab.faults import INJECTORS
from mova.lab.read.audio_events import hear
from mova.lab.read.events import Reading
from mova.lab.read.readers import read_all, read_events
from mova.lab.read.video_events import see
from mova.lab.sync.floors import LIMITS_MS, floor_of, measure_directions, through_mp4
from mova.lab.sync.scores import HEADLINE, ClipTimes, clip_times, measure, true_times
from mova.media.clip import Clip
from mova.media.decode import read_clip
from mova.media.health.gate import KINDS as FAULTS
from mova.media.health.gate import check_arrays
from mova.media.remux.edits import Edit, read_edits, set_edits
from mova.scenes.clapper.scene import SHUTTER, SYNC_FAMILIES, ClapperScene, make_scene, render_scene, sample_scenes
from mova.scenes.clapper.stages import PICTURES
from mova.scenes.kinds import drawable_kinds
from mova.scenes.world import render, sample_scripts
from mova.timeline import Number

OFFSETS_MS = (-200.0, -125.0, -45.0, 45.0, 125.0, 200.0)
DRIFT_MS_PER_S = 5.0
JITTERS_MS = (0.0, 20.0, 40.0, 80.0, 160.0)
EDIT_MS = 100.0
_AUDIO_TRACK = 2


@dataclass(frozen=True)
class Check:
    """One thing that the meter must do.

    Args:
        name: Name of what was tested.
        value: Measured value.
        low: Least that is allowed.
        high: Most that is allowed.
        unit: Unit of the three.
    """

    name: str
    value: float
    low: float
    high: float
    unit: str = ""

    @property
    def passed(self) -> bool:
        """Whether the value lies within what is allowed; nan never does."""
        return self.low <= self.value <= self.high

    @property
    def allowed(self) -> str:
        """What is allowed, for people."""
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.low:g} to {self.high:g}{unit}"


@dataclass(frozen=True, eq=False)
class _Tried:
    """A scene, its clip after the codec, and what was read of that."""

    scene: ClapperScene
    clip: Clip
    reading: Reading


def self_test(
    families: Sequence[str] = SYNC_FAMILIES,
    *,
    num_clips: int = 2,
    size: int = 256,
    fps: Number = 24,
    seconds: Number = 4,
    num_plans: int = 240,
    num_damaged: int = 16,
    num_pairs: int = 3,
    seed: int = 0,
) -> list[Check]:
    """Run all checks.

    Args:
        families: Families with sync; clips of each are rendered.
        num_clips: Clips of each.
        size: Width and height in pixels.
        fps: Frames per second.
        seconds: Length of each clip.
        num_plans: Scenes whose times alone are used, not rendered: for chance and jitter.
        num_damaged: Clips of the rendered world that are damaged in every way.
        num_pairs: Scenes of which one thing is changed, in every way that is known.
        seed: Seed of all scenes.

    Raises:
        RequestError: As :func:`mova.scenes.clapper.scene.make_scene`.
        ValueError: If there are no families or no clips.
    """
    if not families or num_clips < 1:
        raise ValueError(f"a self-test needs families and clips; got {len(families)} families, {num_clips} clips of each.")
    tried = []
    for name in families:
        for index in range(num_clips):
            scene = make_scene(name, seed + index, fps=fps, seconds=seconds)
            clip = through_mp4(render_scene(scene, width=size, height=size))
            tried.append(_Tried(scene, clip, read_all(clip, scene)))
    plans = [true_times(one) for one in sample_scenes(seed + 1, num_plans, families=families, fps=fps, seconds=seconds)]
    return [
        *floor_checks(tried),
        *offset_checks(tried),
        drift_check(tried),
        shuffle_check(plans, seed),
        jitter_check(plans, seed),
        edit_list_check(tried[0]),
        *control_checks(seed, size, fps, seconds),
        *adherence_checks(tried),
        *counterfactual_checks(num_pairs, seed, fps, seconds),
        *fault_checks(num_damaged, seed),
    ]


def floor_checks(tried: Sequence[_Tried]) -> list[Check]:
    """Everything is read, nothing is made up, and the times are right."""
    floor = floor_of([one.scene for one in tried], [one.reading for one in tried])
    summary = floor.summary()
    limits = {name: (-limit if name.endswith("median") else 0.0, limit) for name, limit in LIMITS_MS.items()}
    return [
        Check("events seen", floor.seen, 1.0, 1.0),
        Check("events heard", floor.heard, 1.0, 1.0),
        Check("events made up", float(floor.extra), 0.0, 0.0),
        *(Check(f"floor {name}", summary[name], *limit, unit="ms") for name, limit in limits.items()),
    ]


def offset_checks(tried: Sequence[_Tried]) -> list[Check]:
    """Audio that is moved is found to be moved by as much, less what was read before it was moved."""
    before = measure([clip_times(one.scene, one.reading) for one in tried])["offset_ms"]
    checks = []
    for offset_ms in OFFSETS_MS:
        found = measure([_hear_again(one, partial(_shift, offset_ms=offset_ms)) for one in tried])
        value = found["offset_ms"] - before
        checks.append(Check(f"offset {offset_ms:+g} ms", value, offset_ms - 3.0, offset_ms + 3.0, "ms"))
    return checks


def drift_check(tried: Sequence[_Tried]) -> Check:
    """Audio that runs slow is found to run slow."""
    stretched = [_hear_again(one, partial(_stretch, ms_per_s=DRIFT_MS_PER_S)) for one in tried]
    before = measure([clip_times(one.scene, one.reading) for one in tried])["drift_ms_per_s"]
    value = measure(stretched)["drift_ms_per_s"] - before
    return Check("drift", value, DRIFT_MS_PER_S - 1.5, DRIFT_MS_PER_S + 1.5, "ms/s")


def shuffle_check(plans: Sequence[ClipTimes], seed: int) -> Check:
    """Pictures with the sounds of other clips score no better than chance.

    The chance level is taken from shuffles of what is itself shuffled, so the two share no pair.
    """
    order = np.random.default_rng(seed).permutation(len(plans))
    pictures = [plans[index] for index in order]
    others: list[ClipTimes] = []
    for kind in dict.fromkeys(clip.kind for clip in pictures):
        members = [clip for clip in pictures if clip.kind == kind]
        others += [
            replace(clip, audio_s=members[place - 1].audio_s, lag_s=members[place - 1].lag_s)
            for place, clip in enumerate(members)
        ]
    return Check("headline of shuffled pairs", measure(others, seed=seed)[HEADLINE], -0.06, 0.06)


def jitter_check(plans: Sequence[ClipTimes], seed: int) -> Check:
    """The headline falls with every step of jitter: the smallest fall is what is checked."""
    values = []
    for jitter_ms in JITTERS_MS:
        rng = np.random.default_rng(seed)
        moved = [
            replace(clip, audio_s=tuple(time + 1e-3 * jitter_ms * float(rng.standard_normal()) for time in clip.audio_s))
            for clip in plans
        ]
        values.append(measure(moved, seed=seed)[HEADLINE])
    falls = [before - after for before, after in pairwise(values)]
    return Check("smallest fall of the headline with more jitter", min(falls), 1e-6, 1.0)


def edit_list_check(one: _Tried) -> Check:
    """A file whose edit list skips the first 100 ms of its audio has its audio 100 ms early."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        one.clip.save(path)
        *empty, shown = read_edits(path, _AUDIO_TRACK).edits
        skipped = Edit(shown.duration, shown.media_time + round(1e-3 * EDIT_MS * one.clip.sample_rate), shown.rate)
        set_edits(path, {_AUDIO_TRACK: (*empty, skipped)})
        # the audio now ends early: leave out the end of the picture
        clip = read_clip(path, num_frames=one.clip.num_frames - round(0.2 * float(one.clip.fps)))
    before = measure([clip_times(one.scene, one.reading)])["offset_ms"]
    value = measure([clip_times(one.scene, read_events(clip, one.scene))])["offset_ms"] - before
    return Check("edit list honoured", value, -EDIT_MS - 3.0, -EDIT_MS + 3.0, "ms")


def control_checks(seed: int, size: int, fps: Number, seconds: Number) -> list[Check]:
    """Nothing is heard where nothing sounds, and nothing is seen where nothing moves."""
    silent = render_scene(make_scene("silent_motion", seed, fps=fps, seconds=seconds), width=size, height=size)
    empty = render_scene(make_scene("off_screen", seed, fps=fps, seconds=seconds), width=size, height=size)
    black, rate = np.zeros_like(empty.frames), float(empty.fps)
    numbers = {
        "heard in silence": len(hear(silent.waveform, silent.sample_rate, kind="ball")),
        "seen in an empty room": len(see(empty.frames, rate, kind="ball", shutter=SHUTTER)),
        "seen in a black video": sum(
            len(see(black, rate, kind=kind, shutter=SHUTTER)) for kind in (*drawable_kinds(), *PICTURES)
        ),
    }
    return [Check(name, float(number), 0.0, 0.0) for name, number in numbers.items()]


def adherence_checks(tried: Sequence[_Tried]) -> list[Check]:
    """True videos are what their captions ask for."""
    found = score_adherence([one.scene for one in tried], [one.reading for one in tried], num_resamples=1)
    return [Check(f"adherence: {name}", number.value, 0.9, 1.0) for name, number in found.items()]


def counterfactual_checks(num_pairs: int, seed: int, fps: Number, seconds: Number) -> list[Check]:
    """Where one thing is changed, everything that it should move moves the right way."""
    accuracies = measure_directions(num_pairs, fps=fps, seconds=seconds, seed=seed)
    return [Check(f"right direction: {name}", one.value, 0.95, 1.0) for name, one in accuracies.items()]


def fault_checks(num_clips: int, seed: int) -> list[Check]:
    """Every kind of fault that the health gate looks for is found where it was put in, and none in clean clips."""
    tried, found, num_alarms = dict.fromkeys(FAULTS, 0), dict.fromkeys(FAULTS, 0), 0
    for index, script in enumerate(sample_scripts(seed, num_clips, tuple(drawable_kinds()))):
        clip = render(script).clip()
        num_alarms += bool(check_arrays(clip.frames, clip.waveform, fps=clip.fps, sample_rate=clip.sample_rate).faults)
        for name, injector in INJECTORS.items():
            damage = injector.damage(clip, np.random.default_rng([seed, index, zlib.crc32(name.encode())]))
            if damage is None:
                continue
            frames, audio = damage
            # a part that is whole need not be looked at again, unless the two are held against each other
            both = injector.kind == "length"
            parts = (
                frames if both or frames is not clip.frames else None,
                audio if both or audio is not clip.waveform else None,
            )
            kinds = {fault.kind for fault in check_arrays(*parts, fps=clip.fps, sample_rate=clip.sample_rate).faults}
            tried[injector.kind] += 1
            found[injector.kind] += injector.kind in kinds
    return [
        *(Check(f"fault found: {kind}", found[kind] / max(tried[kind], 1), 0.8, 1.0) for kind in FAULTS),
        Check("faults found", sum(found.values()) / max(sum(tried.values()), 1), 0.95, 1.0),
        Check("faults in clean clips", num_alarms / max(num_clips, 1), 0.0, 0.01),
    ]


Audio = npt.NDArray[np.float32]


def _hear_again(one: _Tried, change: Callable[[Audio, int], Audio]) -> ClipTimes:
    """The clip with its audio changed; its picture need not be read again."""
    heard = hear(change(one.clip.waveform, one.clip.sample_rate), one.clip.sample_rate, kind=one.scene.audio.kind)
    return clip_times(one.scene, replace(one.reading, heard=tuple(heard)))


def _shift(audio: Audio, sample_rate: int, *, offset_ms: float) -> Audio:
    """Later by ``offset_ms``; what leaves one end comes in at the other, where the margins are quiet."""
    return np.roll(audio, round(1e-3 * offset_ms * sample_rate), axis=1)


def _stretch(audio: Audio, sample_rate: int, *, ms_per_s: float) -> Audio:
    """Audio that falls behind by ``ms_per_s`` every second."""
    times_s = np.arange(audio.shape[1]) / sample_rate
    slow = [np.interp(times_s / (1.0 + 1e-3 * ms_per_s), times_s, channel) for channel in audio]
    return np.stack(slow).astype(np.float32)
