"""Parts of a picture in which something differs at times from how it rests: what is seen of them, frame by frame."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.float32]
UNKNOWN_SHUTTER = 0.5
_NUM_REGIONS = 3


def find_regions(size: Pixels) -> list[npt.NDArray[np.bool_]]:
    """``[h, w]`` masks of where anything ever differs, the most eventful first.

    Args:
        size: ``[T, h, w]`` how much differs; 0 where that is noise.
    """
    most = size.max(axis=0)
    labels, count = _label(most > 0.0)
    if not count:
        return []
    if np.bincount(labels.ravel())[1:].max() > _WIDE * labels.size:
        # what shimmers a little everywhere joins what is apart
        clear = [_label(most > share * float(np.quantile(most, 0.99))) for share in _CLEARER]
        parted = [one for one in clear if one[1] and np.bincount(one[0].ravel())[1:].max() <= _WIDE * labels.size]
        labels, count = parted[0] if parted else (labels, count)
    total = ndimage.sum_labels(size.sum(axis=0), labels, np.arange(1, count + 1))
    order = [index for index in np.argsort(-total)[:_NUM_REGIONS] if total[index] > 0.02 * total.max()]
    return [labels == index + 1 for index in order]


_WIDE = 0.4  # of the picture
_CLEARER = (0.15, 0.3)  # of what differs most


def _label(ever: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int32], int]:
    """Regions of a mask, counted from 1; what is one pixel thin is none."""
    labels, count = ndimage.label(ndimage.binary_opening(ndimage.binary_dilation(ever, iterations=1), iterations=1))
    return labels, int(count)


class Region:
    """A part of the picture in which something differs at times.

    Args:
        signed: ``[T, h, w, 3]`` difference from the median.
        size: ``[T, h, w]`` its length; 0 where that is noise.
        least: Smallest length that is none.
        where: ``[h, w]`` mask.
    """

    def __init__(self, signed: Pixels, size: Pixels, least: float, where: npt.NDArray[np.bool_]) -> None:
        rows, columns = ndimage.find_objects(where.astype(np.int8))[0]
        self.size = size[:, rows, columns] * where[rows, columns]
        self.least = least
        colours = signed[:, rows, columns] * (self.size > 0.0)[..., None]
        flat = colours.reshape(-1, 3)
        flat = flat[np.abs(flat).sum(axis=1) > 0.0][:: max(1, len(flat) // 200_000)]
        direction = np.linalg.eigh(flat.T @ flat)[1][:, -1].astype(np.float32) if len(flat) else np.zeros(3, np.float32)
        self.along = colours @ direction  # [T, r, c], signed
        self.mass = self.size.sum(axis=(1, 2), dtype=np.float64)

    @cached_property
    def is_lamp(self) -> bool:
        """Whether the pattern of what differs is always the same, and does not close like a mouth."""
        light, mean = self.light()
        if _closes(light):
            return False
        bright = light > 0.4 * np.quantile(light, 0.98)
        flat, mean = self.along.reshape(len(self.along), -1)[bright], mean.ravel()
        cosines = flat @ mean / np.maximum(np.linalg.norm(flat, axis=1) * np.linalg.norm(mean), 1e-9)
        return bool(bright.any() and np.quantile(np.abs(cosines), 0.25) > 0.96)

    def light(self) -> tuple[Floats, Pixels]:
        """``[T]`` how much of the usual pattern there is, and ``[r, c]`` that pattern."""
        strong = self.mass >= 0.5 * np.quantile(self.mass, 0.98)
        mean = self.along[strong].mean(axis=0)
        return np.asarray(
            (self.along * mean).sum(axis=(1, 2), dtype=np.float64) / max(float(np.square(mean).sum()), 1e-9)
        ), mean

    def moments(self) -> Floats:
        """``[T, 5]`` how much differs, where, and how far apart: linear in what is covered."""
        rows, columns = self.along.sum(axis=2), self.along.sum(axis=1)
        parts = [rows.sum(axis=1)]
        for line, weight in ((rows, self.size.sum(axis=(0, 2))), (columns, self.size.sum(axis=(0, 1)))):
            place = np.arange(weight.size, dtype=np.float32)
            place = (place - float(place @ weight) / max(float(weight.sum()), 1e-9)) / weight.size
            middle, apart = line @ place, line @ np.abs(place)
            # one thing that crosses the middle of the region would bend its distance from there as a contact does
            parts += [middle, apart if np.ptp(apart) > 2.0 * np.ptp(middle) else line @ np.square(place)]
        return np.stack(parts, axis=1).astype(np.float64) / max(float(np.abs(self.along).sum(axis=(1, 2)).max()), 1e-9)

    def measure_opening(self) -> Floats:
        """``[T]`` distance of the picture from its rest, 0 to about 1."""
        rough = np.sqrt(np.square(self.along).sum(axis=(1, 2), dtype=np.float64))
        opening: Floats = rough / max(float(np.quantile(rough, 0.98)), 1e-9)
        return opening

    def grows_to_one_side(self) -> bool:
        """Whether the middle of what differs moves as more does, as far as something that is held at one end."""
        weights = np.abs(self.along)
        much = weights.sum(axis=(1, 2), dtype=np.float64)
        used = much > _LEAST_GROWN * much.max()
        for axis in (1, 2):
            line = weights[used].sum(axis=3 - axis, dtype=np.float64)
            place = np.arange(line.shape[1])
            middles = line @ place / much[used]
            widest = line[int(np.argmax(much[used]))]
            middle = float(widest @ place) / float(widest.sum())
            spread = float(np.sqrt(widest @ np.square(place - middle) / widest.sum()))
            share = much[used] / much.max()
            if np.ptp(share) > 0.0 and abs(float(np.polyfit(share, middles, 1)[0])) > _ONE_SIDED * max(spread, 1.0):
                return True
        return False


_LEAST_GROWN = 0.15
_ONE_SIDED = 0.9
"""Of the spread of what is widest: 1.7 if one end is held, 0 if it grows to both sides alike."""


def _closes(light: Floats) -> bool:
    """Whether what is there goes evenly or faster and faster: lights fade ever more slowly, or go out within one frame."""
    level = light / max(float(np.quantile(light, 0.98)), 1e-9)
    before, here, after = level[:-2], level[1:-1], level[2:]
    between = (before > 0.8) & (here < 0.9) & (after > 0.1)
    closing = between & (before - after > 0.45) & (here - after > 0.85 * (before - here))
    opened = (level[1:] >= 0.5) & (level[:-1] < 0.5)
    return bool(closing.sum() >= max(2.0, 0.4 * opened.sum()))


def measure_shutter(regions: list[Region]) -> float:
    """Share of a frame that is exposed, from the pixels that an edge passes from one frame to the next but one.

    Of the moments at which it may have passed, the frame in between shows both sides in a share of ``s / (2 - s)``; what
    softness there is without motion adds as many at any speed.
    """
    along = regions[0].along
    step = along[3:-1] - along[1:-3]
    size = np.abs(step)
    if not (size > regions[0].least).any():
        return UNKNOWN_SHUTTER
    clear = size > 0.5 * np.quantile(size[size > regions[0].least], 0.9)
    clear &= (np.abs(along[1:-3] - along[:-4]) < 0.12 * size) & (np.abs(along[4:] - along[3:-1]) < 0.12 * size)
    share = (along[2:-2] - along[1:-3]) / np.where(clear, step, 1.0)
    passed = clear.sum(axis=(1, 2)).astype(np.float64)
    partly = (clear & (share > 0.12) & (share < 0.88)).sum(axis=(1, 2)) / 0.76
    used = passed >= max(8.0, 0.15 * np.quantile(passed, 0.95))
    if used.sum() < 5 or np.ptp(passed[used]) < 1.0:
        return UNKNOWN_SHUTTER
    slope, level = np.polyfit(passed[used], partly[used], 1)
    part = partly[used].sum() / passed[used].sum()
    if level > 0.0:
        part = max(slope, part - level * used.sum() / passed[used].sum())
    part = float(np.clip(part, 0.0, 1.0))
    # even what is sharp is half covered at pixels that an edge passes through
    return float(np.clip((2.0 * part / (1.0 + part) - 0.15) / 0.7, 0.0, 1.0))
