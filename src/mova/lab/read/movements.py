"""When what moves touches something, turns, opens or starts, from the path of a region of a picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from mova.lab.read.events import GAP_S, Detection, Train
from mova.lab.read.light import keep_strongest
from mova.lab.read.paths import STROKE_S, find_corners, find_opening
from mova.lab.read.regions import Region

Floats = npt.NDArray[np.float64]
_OPENING = 0.5  # of what differs at most
_LEAST_SPREAD = 0.15  # of that of the strongest part of a movement
_TURNS_BACK, _STOPS = 0.2, 0.6  # cosine of its turn, and share of the speed before
_REST_S = 1.0
_LEAST_SHARE = 0.15  # of the worth of the clearest corners


def find_motions(region: Region, fps: float, shutter: float) -> list[Train]:
    """Contacts, smooth turns and starts of what moves in a region."""
    path = region.moments()
    noise = np.median(np.abs(np.diff(path, n=3, axis=0)), axis=0) / (0.6745 * np.sqrt(20.0))
    much = float(np.ptp(path[:, 0]))
    path = path / np.maximum(noise, 2e-5)
    centred = path - path.mean(axis=0)
    _, spread, ways = np.linalg.svd(centred, full_matrices=False)
    main = centred @ ways[spread > _LEAST_SPREAD * spread[0]].T  # what hardly moves is mostly noise
    # where it rests may change slowly, or something else may drift by
    resting = ndimage.median_filter(main, (2 * round(_REST_S * fps) + 1, 1), mode="nearest")
    away = np.linalg.norm(main - resting, axis=1)
    near = ndimage.maximum_filter1d(away, 2 * round(STROKE_S * fps) + 1)
    # what goes from place to place covers as much all the time
    opening = find_opening(path) if much > _OPENING else None
    if opening is not None:
        turns = _turns(opening, opening, fps, shutter)
        one_sided = region.grows_to_one_side()
        return [Train("opening", tuple(turns), 0.3 / fps + 0.005, is_one_sided=one_sided, path=opening[:, None])]
    contacts, starts = [], []
    for corner in find_corners(main, shutter, fps):
        at = int(np.clip(round(corner.frame), 1, len(path) - 2))
        one = Detection((corner.frame + 0.5 * shutter) / fps, "contact", corner.worth)
        if corner.before < 0.25:
            starts.append(replace(one, label="start"))
            struck = False
        elif corner.before < 0.8:
            # what does not turn back is covered or uncovered: nothing has been struck
            struck = corner.cosine < _TURNS_BACK
        else:
            # what comes to rest where it usually is has struck nothing
            struck = corner.before < 1.3 and corner.goes_on < _STOPS and away[at] > 0.3 * near[at]
        if struck:
            contacts.append(one)
    trains = [
        Train("contact", tuple(_clearest(contacts)), 0.1 / fps + 0.004),
        Train("turn", tuple(_turns(away, near, fps, shutter)), 0.3 / fps + 0.005, path=main),
        Train("start", tuple(_clearest(starts)), 0.2 / fps + 0.005),
    ]
    return trains


def _turns(away: Floats, near: Floats, fps: float, shutter: float) -> list[Detection]:
    """When something is farthest from its rest."""
    peaks = np.flatnonzero((away >= ndimage.maximum_filter1d(away, 2 * round(GAP_S * fps) + 1)) & (away > 0.6 * near.max()))
    found = []
    for frame in peaks[(peaks > 0) & (peaks < away.size - 1)]:
        before, here, after = away[frame - 1 : frame + 2]
        curve = before - 2.0 * here + after
        vertex = 0.5 * (before - after) / curve if curve < 0.0 else 0.0
        found.append(Detection((frame + vertex + 0.5 * shutter) / fps, "turn", float(here)))
    return found


def _clearest(found: list[Detection]) -> list[Detection]:
    """Those that are not much weaker than most, none nearer than ``GAP_S`` to a stronger one, in order of time."""
    clear = float(np.quantile([one.strength for one in found], 0.9)) if found else 0.0
    return keep_strongest([one for one in found if one.strength >= _LEAST_SHARE * clear], gap_s=GAP_S)
