"""Who meets whom, on which side, in which order; and attention checks: pairs whose right answer is known before any vote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np

from mova.errors import MediaError, RequestError
from mova.lab.arena.blind import Video
from mova.lab.arena.votes import Choice, Mode
from mova.media.clip import Clip
from mova.media.decode import read_clip


@dataclass(frozen=True)
class Pair:
    """Videos of two systems from the same prompt.

    Args:
        name: Stem of both videos.
        left: System on the left.
        right: System on the right.
    """

    name: str
    left: str
    right: str


def plan_pairs(systems: Sequence[str], names: Sequence[str], *, seed: int, num_pairs: int | None = None) -> tuple[Pair, ...]:
    """Pairs in the order in which they are shown.

    In every stretch of as many pairs as there are couples of systems, each couple comes once, on prompts of their own
    where there are enough. Over the whole, each couple comes equally often (within one), and each of the two is
    equally often on the left (within one); which comes first and when is drawn.

    Args:
        systems: Two or more.
        names: Prompts, by the stem of their videos.
        seed: Seed of everything that is drawn.
        num_pairs: Take only this many. Default: every couple on every prompt.

    Raises:
        RequestError: If there are fewer than two systems, no prompts, or fewer pairs than asked for.
    """
    if len(systems) < 2 or not names:
        raise RequestError(f"an arena needs two systems and a video; got {len(systems)} and {len(names)}.")
    generator = np.random.default_rng(seed)
    couples = list(combinations(systems, 2))
    most = len(couples) * len(names)
    wanted = most if num_pairs is None else num_pairs
    if not 1 <= wanted <= most:
        raise RequestError(
            f"num_pairs must be 1 to {most} ({len(couples)} couples of systems on {len(names)} prompts); got {wanted}.",
            f"Use {max(1, min(wanted, most))}, the nearest.",
            field="num_pairs",
        )
    shuffled = [names[k] for k in generator.permutation(len(names))]
    # couples begin at different prompts, so that a stretch does not show the same prompt again and again
    starts = [number * len(names) // len(couples) for number in range(len(couples))]
    meetings: list[tuple[int, str]] = []
    for turn in range(len(names)):
        for couple in generator.permutation(len(couples)):
            meetings.append((int(couple), shuffled[(starts[couple] + turn) % len(names)]))
    meetings = meetings[:wanted]
    sides = {k: _balanced(generator, sum(couple == k for couple, _ in meetings)) for k in range(len(couples))}
    pairs = []
    for couple, name in meetings:
        first, second = couples[couple]
        pairs.append(Pair(name, second, first) if sides[couple].pop() else Pair(name, first, second))
    return tuple(pairs)


def _balanced(generator: np.random.Generator, size: int) -> list[bool]:
    """As many True as False (one more of either if ``size`` is odd), shuffled: strict turns could be guessed."""
    offset = int(generator.integers(2))
    return [bool((k + offset) % 2) for k in generator.permutation(size)]


LATE_S = 1.0
"""How late the audio of a ``late`` check comes: far beyond what passes for in step."""
_MIN_SECONDS = 1.5
_MAX_DECODED_BYTES = 2**30

Kind = Literal["same", "late"]


@dataclass(frozen=True)
class Check:
    """A pair that asks for attention.

    ``same``: one video twice; it must be a tie. ``late``: a video against itself with the audio ``LATE_S`` later; the
    video in step is better where both are judged, and nobody can tell them apart by the picture. By the audio alone
    there is no right answer.

    Args:
        kind: Which.
        video: What it is made from.
        is_better_left: Whether the video in step is on the left; for ``late``.
    """

    kind: Kind
    video: Video
    is_better_left: bool

    def answers(self, modes: Sequence[Mode]) -> dict[Mode, Choice]:
        """The right answers by mode, for those that have one."""
        better: Choice = "left" if self.is_better_left else "right"
        right: dict[Mode, Choice] = {"both": better, "picture": "tie"}
        if self.kind == "same":
            right = {"both": "tie", "sound": "tie", "picture": "tie"}
        return {mode: right[mode] for mode in modes if mode in right}


def plan_checks(videos: Sequence[Video], number: int, *, modes: Sequence[Mode], seed: int) -> tuple[Check, ...]:
    """``late`` and ``same`` in turn, each from another video where there are enough.

    Where no video can serve for ``late`` (none is heard, lasts 1.5 s and fits into memory), and where no mode has both
    video and audio, all are ``same``.

    Args:
        videos: To choose from; the order does not matter.
        number: How many.
        modes: That the page offers.
        seed: Seed of what is drawn.
    """
    generator = np.random.default_rng((seed, 1))
    ordered = sorted(videos, key=lambda video: str(video.path))
    drawn = [ordered[k] for k in generator.permutation(len(ordered))]
    audible = [video for video in drawn if "both" in modes and _can_be_late(video)]
    first_side = int(generator.integers(2))
    checks: list[Check] = []
    for turn in range(number):
        # every other late check has its better video on the left
        is_left = bool((turn // 2 + first_side) % 2)
        if turn % 2 == 0 and audible:
            checks.append(Check("late", audible[turn // 2 % len(audible)], is_left))
        else:
            checks.append(Check("same", drawn[-1 - turn // 2 % len(drawn)], is_left))
    return tuple(checks)


def _can_be_late(video: Video) -> bool:
    return video.loudness_lufs is not None and video.seconds >= _MIN_SECONDS and video.decoded_bytes <= _MAX_DECODED_BYTES


def write_late(video: Video, in_step: Path, late: Path) -> None:
    """Encode a video twice, once with its audio as it is and once ``LATE_S`` later; both pictures are the same.

    What the delay pushes beyond the end is cut, and silence takes the place of what is missing at the start.

    Raises:
        MediaError: If the video cannot be read whole, or written.
    """
    clip = replace(read_clip(video.path), request=None)
    if not np.any(clip.waveform):
        raise MediaError(f"{video.path} is silent.")
    clip.save(in_step)
    _delayed(clip).save(late)


def _delayed(clip: Clip) -> Clip:
    shift = round(LATE_S * clip.sample_rate)
    waveform = np.zeros_like(clip.waveform)
    waveform[:, shift:] = clip.waveform[:, :-shift]
    return replace(clip, waveform=waveform)
