"""Paths of what moves, fitted as an open shutter shows them: where they bend at once, and when something opens.

A path is what the moments of a region give frame by frame (:mod:`mova.lab.read.any_video`). At a contact, speed changes at
once: two parabolas with a corner are fitted, to one contact, or to all repetitions of a movement laid over each other.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Floats = npt.NDArray[np.float64]

STROKE_S = 0.35
"""Longest time from the beginning of a movement to where it is widest."""
_REACHES = (3, 4, 6, 9)
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
        ``[2, P]`` the place of the corner and the weight of what it leaves, ``[P, N, 5]`` its paths (level, then speed and
        bend on both sides) and ``[P, 5, N]`` their fits, and ``[N, N]`` what a smooth path of as many numbers leaves.
    """
    at = np.arange(-reach, reach + 1, dtype=np.float64)
    tables, places, doubts = [], [], []
    for hold in np.arange(0.0, min(longest, reach - 1.5) + 0.1, 0.5):
        for place in _PLACES if hold == 0.0 else _PLACES[::2]:
            tables.append(_corner_table(at, float(place), float(hold), shutter))
            places.append(place)
            doubts.append(1.0 if hold == 0.0 else _HELD)
    table = np.stack(tables)
    smooth = np.vander(at / reach, 5)
    fits: Floats = np.asarray(np.linalg.pinv(table), np.float64)
    return np.stack((places, doubts)), table, fits, np.eye(at.size) - smooth @ np.linalg.pinv(smooth)


def find_corners(path: Floats, shutter: float, fps: float) -> list[tuple[float, float, float]]:
    """Frames at which all moments of a path bend at once, how much, and how fast it came (1: it stops, 0: it begins).

    Args:
        path: ``[T, K]`` in units of their noise.
        shutter: Share of a frame that is exposed.
        fps: Frames per second.
    """
    second = np.diff(path, n=2, axis=0)
    bend = np.zeros(len(path))
    bend[1:-1] = np.linalg.norm(second, axis=1)
    wide = np.maximum(bend, np.concatenate((np.linalg.norm(second[:-1] + second[1:], axis=1), np.zeros(3))))
    around = ndimage.median_filter(bend, 9, mode="nearest")
    peaks = np.flatnonzero((wide >= ndimage.maximum_filter1d(wide, 3)) & (wide > 2.0 * around) & (wide > 8.0))
    found = []
    for frame in peaks:
        best: tuple[float, float, float, float] | None = None
        for centre in (frame, frame + 1):
            for reach in _REACHES:
                window = path[centre - reach : centre + reach + 1] if centre >= reach else path[:0]
                if len(window) < 2 * reach + 1:
                    continue
                places, table, fits, smooth = _bases(reach, round(2.0 * shutter) / 2.0, round(_LONGEST_HOLD_S * fps))
                weights = fits @ window  # [P, 5, K]
                left = np.square(window - table @ weights).sum(axis=(1, 2)) * places[1]
                one = int(np.argmin(left))
                worth = float(left[one]) / ((2 * reach + 1 - 6) * path.shape[1]) + 1.0
                if np.square(smooth @ window).sum() < _CORNERED * left[one] or (best is not None and worth > 0.9 * best[0]):
                    continue
                before, after = weights[one, 1], weights[one, 3]
                size = float(np.linalg.norm(after - before))
                best = (worth, centre + float(places[0, one]), size, float(before @ (before - after)) / max(size**2, 1e-9))
        if best is not None and best[2] > 6.0 and best[2] > 2.0 * np.sqrt(best[0]):
            found.append(best[1:])
    return found


_HELD = 2.0
"""So many times less does a path leave that stays for a while, or it does not stay."""
_CORNERED = 2.5
"""A path with a corner leaves so many times less than a smooth one."""


def find_shared_corner(path: Floats, fps: float, shutter: float, clicks_s: Floats, lag_s: float) -> float | None:
    """The lag of clicks after the corners of one movement that is repeated, from all its repetitions at once.

    Laid over each other by the clicks, frames of all repetitions show the movement many times as finely as one does.

    Args:
        path: ``[T, K]`` moments in units of their noise.
        fps: Frames per second.
        shutter: Share of a frame that is exposed.
        clicks_s: ``[E]`` when each is heard.
        lag_s: Rough lag.

    Returns:
        Seconds, or None if the movement has no corner near the lag.
    """
    middles = (np.arange(len(path)) + 0.5 * shutter) / fps
    lag, cornered = lag_s, 0.0
    for reach_s in (max(0.1, 2.6 / fps), max(0.07, 2.1 / fps), max(0.06, 1.8 / fps)):
        since = (middles[None, :] - clicks_s[:, None] + lag) * fps  # [E, T], frames after the contact
        event, frame = np.nonzero(np.abs(since) <= reach_s * fps)
        if frame.size < 10:
            return None
        at, seen = since[event, frame], path[frame]
        # along the way that it moves: what lies across is noise
        seen = (seen - seen.mean(axis=0)) @ np.linalg.svd(seen - seen.mean(axis=0), full_matrices=False)[2][0]
        far = min(0.08 * fps + 1.0, 4.0) if reach_s > 0.09 else 1.5
        best = (np.inf, 0.0)
        for hold in np.arange(0.0, _LONGEST_HOLD_S * fps + 0.3, 0.5):
            for place in np.arange(-far, far + 0.01, 0.08):
                table = _corner_table(at, float(place), float(hold), shutter)
                left = float(np.square(seen - table @ np.linalg.lstsq(table, seen, rcond=None)[0]).sum())
                left *= 1.0 if hold == 0.0 else 1.2
                if left < best[0]:
                    best = left, float(place)
        smooth = np.vander(at / np.abs(at).max(), 5)
        left = float(np.square(seen - smooth @ np.linalg.lstsq(smooth, seen, rcond=None)[0]).sum())
        cornered = max(cornered, left / max(best[0], 1e-9))
        lag -= best[1] / fps
    return lag if cornered > 1.35 else None


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
    main *= np.sign(main @ np.abs(main)) or 1.0
    much = centred[:, 0]
    alike = float(np.corrcoef(main, much)[0, 1]) if much.std() > 3.0 else 0.0
    return main if alike**2 > 0.8 else None


def _corner_table(at: Floats, place: float, hold: float, shutter: float) -> Floats:
    """``[N, 5]`` a corner at ``place``, as an open shutter shows it at frames ``at``: level, speed and bend on both sides."""
    since = at[:, None] + shutter * _SUBS - place
    before, after = np.minimum(since, 0.0), np.maximum(since - hold, 0.0)
    parts = (before, np.square(before), after, np.square(after))
    return np.stack((np.ones_like(at), *(part.mean(axis=1) for part in parts)), axis=1)


_SUBS = (np.arange(8) + 0.5) / 8.0 - 0.5
