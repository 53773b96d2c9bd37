"""From events to their sound: a voice makes the samples of one hit, and most kinds sound one hit for each event.

A voice is a fixed patch: its gain, its partials and its bands are constants, so a louder hit is louder in
the clip and nothing is normalised. The peak of a hit of strength 1 is about 0.3 to 0.75. Percussive voices
attack within 0.5 ms, the human voice within 8 ms, far thunder within 15 ms. Everything struck is 30 dB down
within 0.35 s, except thunder (0.8 s), so hits 0.22 s apart are heard apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from mova.scenes.script import Script, generator
from mova.scenes.waves import Signal, Window

Found = TypeVar("Found")


@dataclass(frozen=True)
class Hit:
    """One sounding event, as a voice needs it.

    Args:
        label: What is struck or said: a material, a drum, a note, a vowel, near or far.
        strength: 0 to 1.
        attributes: Attributes of the scene.
        start_s: Start of the sound, in seconds from the start of the clip; may lie between samples.
        sample_rate: Samples per second.
        clip_samples: Samples in the clip.
        rng: Source of the noise of this hit alone; a voice is called once.
    """

    label: str
    strength: float
    attributes: Mapping[str, object]
    start_s: float
    sample_rate: int
    clip_samples: int
    rng: np.random.Generator

    @property
    def level(self) -> float:
        """Gain from strength: ``strength ** 1.2``."""
        return float(max(self.strength, 0.0) ** 1.2)

    def window(self, seconds: float, *, delay_s: float = 0.0) -> Window:
        """The samples from ``delay_s`` after the start of the sound, for ``seconds``."""
        return Window.after(self.start_s + delay_s, seconds, sample_rate=self.sample_rate, clip_samples=self.clip_samples)


Voice = Callable[[Hit], tuple[int, Signal]]
"""``hit -> (first sample, samples [N])``."""
Source = tuple[int, Signal, float | Signal]
"""First sample, samples ``[N]``, and place x (0 left, 1 right) as one number or ``[N]``."""
Sound = Callable[[Script, int, int], Sequence[Source]]
"""``(script, sample_rate, num_samples) -> sources``."""


def each_event(voice: Voice) -> Sound:
    """The sound of a kind whose every event is one hit: a source for each that sounds inside the clip."""
    return partial(_each_event, voice=voice)


def look_up(table: Mapping[str, Found], label: str, what: str) -> Found:
    """Look a label up, or say which there are.

    Raises:
        ValueError: If ``label`` is not in ``table``.
    """
    if label not in table:
        raise ValueError(f"{what} must be one of {', '.join(table)}; got {label!r}.")
    return table[label]


def _each_event(script: Script, sample_rate: int, num_samples: int, *, voice: Voice) -> Sequence[Source]:
    sources: list[Source] = []
    for index, event in enumerate(script.events):
        hit = Hit(
            label=event.label,
            strength=event.strength,
            attributes=script.attributes,
            start_s=event.audio_time_s,
            sample_rate=sample_rate,
            clip_samples=num_samples,
            rng=generator(script.kind, script.seed, f"sound of event {index}"),
        )
        if hit.start_s * sample_rate < num_samples:
            sources.append((*voice(hit), event.place[0]))
    return sources
