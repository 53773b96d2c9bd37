"""What is read from a clip: events with their times, colours and voices."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
GAP_S = 0.1
"""Shortest time between two events of one train."""


@dataclass(frozen=True)
class Detection:
    """An event that was seen or heard.

    Args:
        time_s: Seconds from the start of the clip.
        label: Name in the words of the scene's events; empty if nothing tells.
        strength: Distance from the background, larger is clearer; comparable within a clip.
    """

    time_s: float
    label: str
    strength: float


@dataclass(frozen=True)
class Train:
    """Events of one kind in one part of the picture.

    Args:
        label: ``light``, ``contact``, ``turn`` (something is farthest from its rest), ``opening`` (something is widest
            open) or ``start``.
        events: In order of time.
        width_s: How far their times may be off, one way.
        is_sampled: Whether only the frame is known in which an event is first seen: it came in the frame before, or with it.
        doubt: By how many nats another train of the same events is likelier.
        is_one_sided: Whether what opens grows towards one side, as no mouth does but something that comes in.
        path: ``[T, K]`` moments of what moves, in units of their noise; of an opening, how wide it is; None for lights.
    """

    label: str
    events: tuple[Detection, ...]
    width_s: float
    is_sampled: bool = False
    doubt: float = 0.0
    is_one_sided: bool = False
    path: Floats | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Reading:
    """Everything that was read from a clip, whatever it was asked to be.

    Args:
        seen: Events seen, in order of time.
        heard: Events heard, in order of time.
        colours: Names of the colours of its subject; empty if it is not seen or has none.
        voices: Voice of each sound of a mouth, ``low``, ``high``, or empty where no pitch is heard; of other sounds nothing.
    """

    seen: tuple[Detection, ...] = ()
    heard: tuple[Detection, ...] = ()
    colours: frozenset[str] = frozenset()
    voices: tuple[str, ...] = ()

    @property
    def seen_s(self) -> tuple[float, ...]:
        """Times of the events seen."""
        return tuple(one.time_s for one in self.seen)

    @property
    def heard_s(self) -> tuple[float, ...]:
        """Times of the events heard."""
        return tuple(one.time_s for one in self.heard)
