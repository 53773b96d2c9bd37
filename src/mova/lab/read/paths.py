"""Paths of what moves, fitted as an open shutter shows them: where they bend at once, and when something opens.

A path is what the moments of a region give frame by frame (:mod:`mova.lab.read.regions`). At a contact, speed changes at
once: two parabolas with a corner are fitted, to one contact, or to all repetitions of a movement laid over each other.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

STROKE_S = 0.35
"""Longest time from the beginning of a movement to where it is widest."""
_REACHES = (3, 4, 6, 9, 12)
_LONGEST_REACH_S = 0.26
_PLACES = np.linspace(-0.6, 0.6, 25)
_LONGEST_HOLD_S = 0.1


@lru_cache(maxsize=64)
def _bases(reach: int, shutter: float, longest: float) -> tuple[Floats, Floats, Floats, Floats]:
    """Paths with a corner, as an open shutter shows them.

    Args:
        reach: Frames to both sides.
        shutter: Share of a frame that is exposed.
        longest: Frames for which something may stay where it struck.

    Returns:
        ``[2, P]`` the place of the corner and by how many nats it has to be likelier, ``[P, N, 5]`` its paths (level, then
        speed and bend on both sides) and ``[P, 5, N]`` their fits, and ``[N, N]`` what a smooth path of as many numbers leaves.
    """
    at = np.arange(-reach, reach + 1, dtype=np.float64)
    tables, places, doubts = [], [], []
    for hold in np.arange(0.0, min(longest, reach - 1.5) + 0.1, 0.5):
        for place in _PLACES if hold == 0.0 else _PLACES[::2]:
            tables.append(_corner_table(at, float(place), float(hold), shutter))
            places.append(place)
            doubts.append(0.0 if hold == 0.0 else _HELD)
    table = np.stack(tables)
    smooth = np.vander(at / reach, 5)
    fits: Floats = np.asarray(np.linalg.pinv(table), np.float64)
    return np.stack((places, doubts)), table, fits, np.eye(at.size) - smooth @ np.linalg.pinv(smooth)


def find_corners(path: Floats, shutter: float, fps: float) -> list[Corner]:
    """Find where all moments of a path bend at once.

    At every frame, a path with a corner is held against a smooth one of as many numbers, over stretches of several lengths.
    The likeliest is taken first; the next is sought in stretches that do not hold it.

    Args:
        path: ``[T, K]`` in units of their noise.
        shutter: Share of a frame that is exposed.
        fps: Frames per second.

    Returns:
        In order of their frames.
    """
    num_frames, num_moments = path.shape
    tried = np.zeros((len(_REACHES), num_frames, 6))  # worth, what is left, and what Corner tells
    tried[..., 1] = np.inf
    for fit, reach in zip(tried, _REACHES, strict=True):
        count = 2 * reach + 1
        if num_frames < count or (reach > _REACHES[1] and reach > _LONGEST_REACH_S * fps):
            continue
        places, table, fits, smooth = _bases(reach, round(2.0 * shutter) / 2.0, round(_LONGEST_HOLD_S * fps))
        windows = np.lib.stride_tricks.sliding_window_view(path, count, axis=0).swapaxes(1, 2)  # [M, N, K]
        weights = np.einsum("pan,mnk->mpak", fits, windows, optimize=True)
        left = np.square(windows[:, None] - np.einsum("pna,mpak->mpnk", table, weights, optimize=True)).sum(axis=(2, 3))
        free = (count - 5) * num_moments
        plain = np.square(np.einsum("ij,mjk->mik", smooth, windows, optimize=True)).sum(axis=(1, 2))
        worths = 0.5 * free * np.log((plain[:, None] + free) / (left + free)) - places[1]
        at, one = np.arange(len(windows)), np.argmax(worths, axis=1)
        worth = worths[at, one]
        before, after = weights[at, one, 1], weights[at, one, 3]
        share = (before * (before - after)).sum(axis=1) / np.maximum(np.square(after - before).sum(axis=1), 1e-9)
        speeds = np.maximum(np.linalg.norm(np.stack((before, after)), axis=2), 1e-9)
        goes_on, cosine = speeds[1] / speeds[0], (before * after).sum(axis=1) / (speeds[0] * speeds[1])
        rate = left[at, one] / free + 1.0
        fit[reach : num_frames - reach] = np.stack((worth, rate, at + reach + places[0, one], share, goes_on, cosine), axis=1)
    found: list[Corner] = []
    frames, reaches = np.arange(num_frames), np.array(_REACHES)[:, None]
    while tried[..., 0].max() > LEAST_WORTH:
        worth, frame = float(tried[..., 0].max()), int(np.argmax(tried[..., 0].max(axis=0)))
        near = tried[:, max(0, frame - 1) : frame + 2]
        # over as short a stretch as shows it: what comes next may bend the path, too
        rates = np.where(near[..., 0] > 0.3 * worth, near[..., 1] / _SHORTER, np.inf)
        _, _, *what = near.reshape(-1, 6)[int(np.argmin(rates))]
        found.append(Corner(worth, *(float(one) for one in what)))
        # a stretch that holds this corner, too, shows no other
        tried[np.abs(frames - what[0]) <= np.maximum(reaches - 0.5, 1.5), 0] = 0.0
        tried[:, frame, 0] = 0.0
    return sorted(found, key=lambda corner: corner.frame)


_SHORTER = 0.9 ** np.arange(len(_REACHES))[:, None]
"""A longer stretch has to leave a tenth less."""
LEAST_WORTH = 4.0
"""In nats: what is less likely a corner is none."""


class Corner(NamedTuple):
    """Where a path bends.

    Args:
        worth: How much likelier a corner is than a smooth path, in nats.
        frame: Place of the corner.
        before: Share of the change of speed that came before it: 1 if the path stops, 0 if it begins.
        goes_on: Speed after it, in shares of that before.
        cosine: Cosine of the angle between the ways it goes before and after: 1 straight on, -1 back.
    """

    worth: float
    frame: float
    before: float
    goes_on: float
    cosine: float


_HELD = 3.0
"""In nats: by so much likelier must a path be that stays for a while."""


class SharedCorner(NamedTuple):
    """The corner of a movement that is repeated.

    Args:
        lag_s: Lag of the sounds after it.
        clear: By how much more a smooth path leaves, at least 1.
    """

    lag_s: float
    clear: float


def find_shared_corner(path: Floats, fps: float, shutter: float, clicks_s: Floats, lag_s: float) -> SharedCorner | None:
    """The lag of clicks after the corners of one movement that is repeated, from all its repetitions at once.

    Laid over each other by the clicks, frames of all repetitions show the movement many times as finely as one does. Each may
    lie a little higher or lower: something else in the picture may have moved in between.

    Args:
        path: ``[T, K]`` moments in units of their noise.
        fps: Frames per second.
        shutter: Share of a frame that is exposed.
        clicks_s: ``[E]`` when each is heard.
        lag_s: Lag of the same sounds after the movement is farthest from its rest.

    Returns:
        The corner, however clear; None if there are too few frames.
    """
    middles = (np.arange(len(path)) + 0.5 * shutter) / fps
    lag, cornered = lag_s, 1.0
    for reach_s in (max(0.1, 2.6 / fps), max(0.07, 2.1 / fps), max(0.06, 1.8 / fps)):
        since = (middles[None, :] - clicks_s[:, None] + lag) * fps  # [E, T], frames after the contact
        event, frame = np.nonzero(np.abs(since) <= reach_s * fps)
        if frame.size < 10:
            return None
        at, levelled = since[event, frame], _Levels(event)
        seen = levelled(path[frame])
        # along the way that it moves: what lies across is noise
        seen = seen @ np.linalg.svd(seen, full_matrices=False)[2][0]
        free = max(frame.size - np.unique(event).size - _CORNER_NUMBERS, 1)
        far = min(0.08 * fps + 1.0, 4.0) if reach_s > 0.09 else 1.5
        places, lefts = [], []
        for hold in np.arange(0.0, _LONGEST_HOLD_S * fps + 0.3, 0.5):
            for place in np.arange(-far, far + 0.01, 0.08):
                # what strikes and stays for a while is farthest from its rest halfway through that
                if abs(place + (lag_s - lag) * fps + 0.5 * hold) > _OFF_TURN:
                    continue
                table = levelled(_corner_table(at, float(place), float(hold), shutter)[:, 1:])
                left = float(np.square(seen - table @ np.linalg.lstsq(table, seen, rcond=None)[0]).sum())
                places.append(float(place))
                lefts.append(left * (1.0 if hold == 0.0 else 1.2))
        if not places:
            break
        smooth = levelled(np.vander(at / np.abs(at).max(), 5)[:, :-1])
        left = float(np.square(seen - smooth @ np.linalg.lstsq(smooth, seen, rcond=None)[0]).sum())
        fits = np.maximum(np.array(lefts), 1e-9)
        ratio = left / float(fits.min())
        # so near that no corner is seen any more, its place is noise
        if cornered <= CORNERED or ratio > CORNERED:
            likely = (fits / fits.min()) ** (-_TRUST * 0.5 * free)
            lag -= float(likely @ np.array(places) / likely.sum()) / fps
        cornered = max(cornered, ratio)
    return SharedCorner(lag, cornered)


class _Levels:
    """Takes the mean of its repetition off every row.

    Args:
        event: ``[N]`` which repetition each row belongs to.
    """

    def __init__(self, event: npt.NDArray[np.int64]) -> None:
        self.belongs = (event[:, None] == np.unique(event)[None, :]).astype(np.float64)

    def __call__(self, rows: Floats) -> Floats:
        """``[N, K]`` in, and out."""
        means = self.belongs.T @ rows / self.belongs.sum(axis=0)[:, None]
        return np.asarray(rows - self.belongs @ means, np.float64)


_CORNER_NUMBERS = 4
_TRUST = 0.5
"""Share of the frames that tell something new: what moves is no parabola, and errors of neighbours are alike."""
CORNERED = 1.35
"""By how much more a smooth path has to leave than one with a corner."""
_OFF_TURN = 0.7
"""Frames between the middle of a contact and the frame-by-frame estimate of when something is farthest from its rest."""


def find_shared_start(opening: Floats, fps: float, shutter: float, clicks_s: Floats, lag_s: float) -> float:
    """The lag of sounds after the starts of one opening that is repeated, from all its repetitions at once.

    Args:
        opening: ``[T]`` how far something is open.
        fps: Frames per second.
        shutter: Share of a frame that is exposed.
        clicks_s: ``[E]`` when each is heard.
        lag_s: Lag of the same sounds after it is widest open.
    """
    middles = (np.arange(opening.size) + 0.5 * shutter) / fps
    since = middles[None, :] - clicks_s[:, None] + lag_s  # [E, T], after it is widest open
    event, frame = np.nonzero((since <= 0.3 / fps) & (since >= -STROKE_S))
    at, seen = since[event, frame], opening[frame]
    best = np.inf, lag_s
    for rise_s in np.arange(0.03, 0.26, 0.01):
        for start_s in np.arange(-STROKE_S + 0.05, 0.0, 0.004):
            part = np.clip((at[:, None] + shutter * _SUBS / fps - start_s) / rise_s, 0.0, 1.0)
            shape = (0.5 - 0.5 * np.cos(np.pi * part)).mean(axis=1)
            table = np.stack((np.ones_like(at), shape), axis=1)
            left = float(np.square(seen - table @ np.linalg.lstsq(table, seen, rcond=None)[0]).sum())
            best = min(best, (left, lag_s - float(start_s)))
    return best[1]


def find_opening(path: Floats) -> Floats | None:
    """``[T]`` how far open something is that opens in its place; None if what moves goes from place to place.

    Args:
        path: ``[T, K]`` moments in units of their noise, the first of them how much differs.
    """
    centred = path - np.median(path, axis=0)
    main = centred @ np.linalg.svd(centred, full_matrices=False)[2][0]
    much = centred[:, 0]
    alike = float(np.corrcoef(main, much)[0, 1]) if much.std() > 3.0 else 0.0
    # where and how far apart grow faster than how much: only this is as large as the opening
    return much * (np.sign(much @ np.abs(much)) or 1.0) if alike**2 > 0.8 else None


def _corner_table(at: Floats, place: float, hold: float, shutter: float) -> Floats:
    """``[N, 5]`` a corner at ``place``, as an open shutter shows it at frames ``at``: level, speed and bend on both sides."""
    since = at[:, None] + shutter * _SUBS - place
    before, after = np.minimum(since, 0.0), np.maximum(since - hold, 0.0)
    parts = (before, np.square(before), after, np.square(after))
    return np.stack((np.ones_like(at), *(part.mean(axis=1) for part in parts)), axis=1)


_SUBS = (np.arange(8) + 0.5) / 8.0 - 0.5
