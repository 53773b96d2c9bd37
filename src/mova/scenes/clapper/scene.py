"""What a measuring scene is: a picture and a sound, written apart, with the exact time of everything in them.

A scene is planned for a frame rate, because what can be measured depends on it: two events must lie six frames apart to be
told apart between frames. :class:`Rules` holds these limits; every family places its events by them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Literal

import numpy as np

from mova.errors import RequestError
from mova.scenes.script import Script, Value

Modality = Literal["video", "audio"]
FPS_RANGE = (12, 60)
MIN_GAP_FRAMES = 6
MARGIN_S = 0.25
IRREGULAR = 0.15
"""Two intervals in a row differ by at least this share of the longer: a rhythm never matches itself one event later."""
SHUTTER = 1.0
"""Share of a frame that is exposed: with an open shutter every instant leaves its trace in some frame."""
SUBFRAMES = 8
WORLD_SHUTTER = 0.75
"""The same in the pictures of the rendered world, and so of models that learnt from them."""
WORLD_FPS = 16


@dataclass(frozen=True)
class ClapperScene:
    """A scene whose truth is known: what is drawn, what sounds, and when.

    Args:
        family: Name in :data:`mova.scenes.clapper.families.FAMILIES`, or kind of a script of the rendered world.
        picture: Script of what is drawn; its kind says by which drawing, and its events are what is to be seen.
        audio: Script of what sounds; its kind says by which voice, and its events are what is to be heard.
        fps: Frames per second that the events were placed for.
        num_frames: Length.
        lag_s: Time from what is seen to what is heard that the scene means.
        shutter: Share of a frame that is exposed.
    """

    family: str
    picture: Script
    audio: Script
    fps: Fraction
    num_frames: int
    lag_s: float = 0.0
    shutter: float = SHUTTER

    @property
    def seed(self) -> int:
        """With the family, the frame rate and the length it fixes everything else."""
        return self.picture.seed

    @property
    def caption(self) -> str:
        """The prompt that asks for the scene."""
        return self.picture.caption

    @property
    def attributes(self) -> Mapping[str, Value]:
        """What was chosen, by name."""
        return self.picture.attributes

    @property
    def seconds(self) -> float:
        """Length of the picture."""
        return float(self.num_frames / self.fps)

    def times_s(self, modality: Modality) -> tuple[float, ...]:
        """True times of one modality, in order."""
        if modality == "video":
            return tuple(sorted(event.time_s for event in self.picture.events))
        return tuple(sorted(event.audio_time_s for event in self.audio.events))


def as_scene(script: Script) -> ClapperScene:
    """A script of the rendered world as a scene: what is drawn is what sounds."""
    lags = [event.audio_time_s - event.time_s for event in script.events]
    return ClapperScene(
        family=script.kind,
        picture=script,
        audio=script,
        fps=Fraction(WORLD_FPS),
        num_frames=round(script.seconds * WORLD_FPS),
        lag_s=float(np.median(lags)) if lags else 0.0,
        shutter=WORLD_SHUTTER,
    )


@dataclass(frozen=True)
class Rules:
    """Where events may lie.

    Args:
        fps: Frames per second.
        seconds: Length of the clip.
    """

    fps: Fraction
    seconds: float

    @property
    def gap_s(self) -> float:
        """Smallest distance of two events: six frames, and long enough for the ear to hear two."""
        return max(MIN_GAP_FRAMES / float(self.fps), 0.25)

    @property
    def last_s(self) -> float:
        """No event, seen or heard, is later."""
        return self.seconds - MARGIN_S

    def allow(self, times_s: tuple[float, ...]) -> bool:
        """Whether events of one modality keep margins, gaps and irregular intervals."""
        if not times_s:
            return True
        gaps = [second - first for first, second in pairwise(times_s)]
        inside = times_s[0] >= MARGIN_S - 1e-9 and times_s[-1] <= self.last_s + 1e-9
        apart = all(gap >= self.gap_s - 1e-9 for gap in gaps)
        uneven = all(abs(second - first) >= IRREGULAR * max(first, second) - 1e-9 for first, second in pairwise(gaps))
        return inside and apart and uneven

    def count(self, rng: np.random.Generator, *, most: int = 6, gap_s: float = 0.0, lag_s: float = 0.0) -> int:
        """How many events: up to ``most``, as far as they fit with room to be irregular, at least 3 if they do.

        Raises:
            RequestError: If not even one fits.
        """
        room = self._room(lag_s)
        fits = min(most, 1 + int(room / (1.4 * max(self.gap_s, gap_s))))
        return int(rng.integers(min(3, fits), fits + 1))

    def times(self, rng: np.random.Generator, count: int, *, gap_s: float = 0.0, lag_s: float = 0.0) -> tuple[float, ...]:
        """Irregular times, uniform among all that the rules allow.

        Args:
            rng: Drawn from until the times are irregular.
            count: From :meth:`count`.
            gap_s: A larger gap than the rules ask for.
            lag_s: How much later than these times their sounds come.

        Raises:
            RequestError: If ``count`` events do not fit.
        """
        gap = max(self.gap_s, gap_s)
        slack = self._room(lag_s) - gap * (count - 1)
        for _ in range(2000 if slack >= 0.0 else 0):
            points = np.sort(rng.uniform(0.0, slack, size=count))
            times = tuple(float(MARGIN_S + point + gap * index) for index, point in enumerate(points))
            if self.allow(times):
                return times
        raise self.too_short()

    def too_short(self) -> RequestError:
        """What to say if a clip does not hold its events."""
        return RequestError(
            f"the events do not fit in {self.seconds:g} s at {float(self.fps):g} frames per second.",
            "Ask for a longer clip.",
            field="seconds",
        )

    def _room(self, lag_s: float) -> float:
        room = self.seconds - 2 * MARGIN_S - lag_s
        if room < 0.0:
            raise self.too_short()
        return room
