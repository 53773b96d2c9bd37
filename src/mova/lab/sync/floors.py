"""What the meter itself gets wrong: scenes whose times are known, through a codec, read again.

The same function measures any codec: give :func:`measure_floor` another ``through`` (a model's own encoder and decoder, say)
and the floor of a score is what that codec leaves of a clip that is perfectly in step.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mova.lab.adherence.counterfactual import Measures, counterfactual_scenes, measure_quantities, moves
from mova.lab.numbers import Accuracy, directional_accuracy
from mova.lab.read.events import Reading
from mova.lab.read.readers import read_events
from mova.lab.sync.pairing import match
from mova.lab.sync.scores import NAMES, Score, clip_times, score
from mova.media.clip import Clip
from mova.media.decode import read_clip
from mova.scenes.clapper.scene import ClapperScene, make_scene, render_scene
from mova.timeline import Number

Floats = npt.NDArray[np.float64]
LIMITS_MS: Mapping[str, float] = {"video_p95": 2.0, "audio_p95": 4.0, "av_median": 2.0, "av_p95": 5.0}
"""What the detectors must reach at 256 x 256, 24 frames per second, H.264 and AAC."""
NEAR_MS = 100.0
"""An event read this near to a true one is taken for it."""


@dataclass(frozen=True)
class Floor:
    """Errors of the detectors on true scenes of a family, or of several.

    Args:
        num_clips: Scenes.
        num_video: True events to be seen.
        num_audio: True events to be heard.
        seen: Share of them that was seen.
        heard: Share that was heard.
        extra: Events read that are none.
        video_ms: ``[K]`` seen minus true time.
        audio_ms: ``[K]`` heard minus true time.
        av_ms: ``[K]`` heard minus seen, the scene's own lag taken off.
        scores: Scores of the truth as read.
    """

    num_clips: int
    num_video: int
    num_audio: int
    seen: float
    heard: float
    extra: int
    video_ms: Floats
    audio_ms: Floats
    av_ms: Floats
    scores: Score

    def summary(self) -> dict[str, float]:
        """Medians and 95th percentiles of the sizes, in milliseconds; nan where nothing was found."""
        parts = {"video": self.video_ms, "audio": self.audio_ms, "av": self.av_ms}
        medians = {f"{name}_median": float(np.median(part)) if part.size else float("nan") for name, part in parts.items()}
        sizes = {f"{name}_p95": _p95(part) for name, part in parts.items()}
        return {**medians, **sizes}

    @property
    def misses(self) -> tuple[str, ...]:
        """The names of :data:`LIMITS_MS` that are not met; what was not measured is not met."""
        summary = self.summary()
        return tuple(name for name, limit in LIMITS_MS.items() if not abs(summary[name]) <= limit)


def measure_floor(
    families: Sequence[str],
    *,
    num_clips: int,
    size: int = 256,
    fps: Number = 24,
    seconds: Number = 4,
    seed: int = 0,
    through: Callable[[Clip], Clip] | None = None,
) -> Floor:
    """Render scenes, send them through a codec, read them and compare with the truth.

    Args:
        families: Names of families that have sync.
        num_clips: Scenes of each family.
        size: Width and height in pixels.
        fps: Frames per second.
        seconds: Length of each.
        seed: Seed of the first scene; the next has the next.
        through: Codec that a clip is sent through before it is read; default: H.264 and AAC in an MP4 file.

    Raises:
        RequestError: As :func:`mova.scenes.clapper.scene.make_scene`.
        ValueError: If there are no families or no clips.
    """
    if not families or num_clips < 1:
        raise ValueError(f"a floor needs families and clips; got {len(families)} families, {num_clips} clips of each.")
    scenes = [make_scene(name, seed + index, fps=fps, seconds=seconds) for name in families for index in range(num_clips)]
    readings = []
    for scene in scenes:
        clip = (through or through_mp4)(render_scene(scene, width=size, height=size))
        readings.append(read_events(clip, scene))
    return floor_of(scenes, readings)


def floor_of(scenes: Sequence[ClapperScene], readings: Sequence[Reading]) -> Floor:
    """Compare readings with the truth.

    Raises:
        ValueError: If there are none, or not as many of the one as of the other.
    """
    video_ms: list[float] = []
    audio_ms: list[float] = []
    av_ms: list[float] = []
    num_read = 0
    for scene, reading in zip(scenes, readings, strict=True):
        sights = _errors(scene.times_s("video"), reading.seen_s)
        sounds = _errors(scene.times_s("audio"), reading.heard_s)
        video_ms += sights.values()
        audio_ms += sounds.values()
        av_ms += [sounds[index] - sights[index] for index in sights if index in sounds]
        num_read += len(reading.seen) + len(reading.heard)
    num_video, num_audio = (sum(len(scene.times_s(one)) for scene in scenes) for one in ("video", "audio"))
    return Floor(
        num_clips=len(scenes),
        num_video=num_video,
        num_audio=num_audio,
        seen=len(video_ms) / max(num_video, 1),
        heard=len(audio_ms) / max(num_audio, 1),
        extra=num_read - len(video_ms) - len(audio_ms),
        video_ms=np.array(video_ms),
        audio_ms=np.array(audio_ms),
        av_ms=np.array(av_ms),
        scores=score([clip_times(scene, reading) for scene, reading in zip(scenes, readings, strict=True)]),
    )


def score_floors(floor: Floor) -> dict[str, float]:
    """The floor of every score, in its own unit: how far the truth, as read, is from a perfect score.

    Offset and drift, which are 0 in truth but for chance: the end of their 95 % interval that is farther from 0. Distances
    (``median_abs_ms``, ``mad_ms``): their value. Shares: what is missing of 1 (of a hallucination rate: its value), but at
    least one event of all.
    """
    one_event = 1.0 / max(floor.num_video, 1)
    found = {}
    for name, unit in NAMES.items():
        number = floor.scores.numbers[name]
        if name in ("offset_ms", "drift_ms_per_s"):
            found[name] = max(abs(end) for end in number.interval)
        elif unit:
            found[name] = number.value
        else:
            ideal = 0.0 if name == "hallucination_rate" else 1.0
            found[name] = max(abs(ideal - number.value), one_event)
    return found


def measure_directions(
    num_scenes: int,
    *,
    size: int = 96,
    fps: Number = 24,
    seconds: Number = 4,
    seed: int = 0,
    through: Callable[[Clip], Clip] | None = None,
) -> dict[str, Accuracy]:
    """Directional accuracy on true videos: scenes of which one thing is changed, through a codec, read and compared.

    Args:
        num_scenes: Scenes; each is changed in every way that is known.
        size: Width and height in pixels; a small picture will do for what is compared.
        fps: Frames per second.
        seconds: Length of each.
        seed: Seed of the first scene; the next has the next.
        through: As :func:`measure_floor`.

    Returns:
        By name, as :func:`mova.lab.numbers.directional_accuracy`.

    Raises:
        RequestError: As :func:`mova.lab.adherence.counterfactual.counterfactual_scenes`.
    """
    outcomes = []
    for index in range(num_scenes):
        found: dict[object, Measures] = {}
        for pair in counterfactual_scenes(seed + index, fps=fps, seconds=seconds):
            for scene in (pair.first, pair.second):
                if scene.picture.motion not in found:  # two captions may ask for the same video
                    clip = (through or through_mp4)(render_scene(scene, width=size, height=size))
                    found[scene.picture.motion] = measure_quantities(read_events(clip, scene), clip.waveform, clip.sample_rate)
            outcomes.append(moves(pair, *(found[scene.picture.motion] for scene in (pair.first, pair.second))))
    return directional_accuracy(outcomes)


def through_mp4(clip: Clip) -> Clip:
    """A clip as it comes back from an MP4 file: H.264 and AAC as :meth:`mova.media.clip.Clip.save` writes them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        clip.save(path)
        return read_clip(path)


def _errors(truth_s: Sequence[float], read_s: Sequence[float]) -> dict[int, float]:
    """Read minus true in milliseconds, by index of the true event."""
    pairs = match(truth_s, read_s, low_ms=-NEAR_MS, high_ms=NEAR_MS)
    return {first: 1000.0 * (read_s[second] - truth_s[first]) for first, second in pairs}


def _p95(errors: Floats) -> float:
    return float(np.quantile(np.abs(errors), 0.95)) if errors.size else float("nan")
