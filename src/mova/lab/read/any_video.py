"""When something happens in the picture of any video, to a part of a frame: lights, contacts, and things that begin to move.

Nothing is known of the video but what physics says. The picture is held steady and compared with its own median; what
differs falls into regions. In a region whose pattern only grows brighter and darker there is a *light*: the share of the
first frame tells when it came on. In any other, the moments of what differs (how much, where, how far spread) follow smooth
paths between *contacts*, at which speed changes at once: two parabolas with a corner are fitted, as the open shutter shows
them. How long the shutter was open is measured from how far the edges of moving things are smeared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from mova.lab.read.events import Detection
from mova.lab.read.light import keep_strongest
from mova.lab.read.paths import STROKE_S, find_corners, find_opening

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.float32]
Frames = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Train:
    """Events of one kind in one part of the picture.

    Args:
        label: ``light``, ``contact``, ``turn`` (something is farthest from its rest), ``opening`` (something is widest
            open) or ``start``.
        events: In order of time.
        width_s: How far their times may be off, one way.
        is_sampled: Whether only the frame is known in which an event is first seen: it came in the frame before, or with it.
        path: ``[T, K]`` moments of what moves, in units of their noise; of an opening, how wide it is; None for lights.
    """

    label: str
    events: tuple[Detection, ...]
    width_s: float
    is_sampled: bool = False
    path: Floats | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, eq=False)
class PictureTrace:
    """What happens in a picture.

    Args:
        trains: The clearest first.
        activity: ``[T]`` how much changes at each frame; 1 at the strongest change.
        opened: ``[T]`` how far what moves is from where it rests, 0 to 1.
        shutter: Share of a frame that is exposed.
    """

    trains: tuple[Train, ...]
    activity: Floats
    opened: Floats
    shutter: float

    @property
    def events(self) -> tuple[Detection, ...]:
        """Events of the clearest train."""
        return self.trains[0].events if self.trains else ()


def watch(frames: Frames | Iterable[Frames], fps: float) -> PictureTrace:
    """Find what happens in any video.

    Args:
        frames: ``[T, H, W, 3]`` uint8, or its frames one by one: only a small copy of each is kept, and of no more than 20 s.
        fps: Frames per second.
    """
    pieces = [_watch_piece(piece, fps) for piece in _pieces(frames, fps)]
    if not pieces:
        return PictureTrace((), np.zeros(0), np.zeros(0), _UNKNOWN_SHUTTER)
    return pieces[0] if len(pieces) == 1 else _join(pieces, fps)


_PIECE_S = 20.0
_MOST_FRAMES = 400  # of a piece: a third of a gigabyte
_SIDE = 112
_FEWEST_FRAMES = 8
_UNKNOWN_SHUTTER = 0.5
_LEAST_CHANGE = 0.035  # of full scale, at one pixel of the small picture
_NUM_REGIONS = 3
_GAP_S = 0.1
_STEADIER = 0.85
_OPENING = 0.5  # of what differs at most
_LEAST_SPREAD = 0.15  # of that of the strongest part of a movement
_LEAST_SHARE = 0.15  # of the worth of the clearest corners


def _pieces(frames: Frames | Iterable[Frames], fps: float) -> Iterator[Pixels]:
    """``[t, h, w, 3]`` small pictures in 0..1, of 20 s each, or up to half as much more at the end."""
    size, pool = min(round(_PIECE_S * fps), _MOST_FRAMES), 1
    held: list[npt.NDArray[np.uint16 | np.uint32]] = []  # half the memory of what they become
    for frame in frames:
        pool = max(1, round(min(frame.shape[:2]) / _SIDE))
        held.append(_pool_sums(frame, pool))
        if len(held) == 2 * size:
            piece = _pictures(held[:size], pool)
            del held[:size]
            yield piece
    if len(held) > 1.5 * size:
        half = len(held) // 2
        yield _pictures(held[:half], pool)
        del held[:half]
    if held:
        yield _pictures(held, pool)


_MOST_IN_16_BITS = 16  # 255 * 16**2 < 2**16


def _pool_sums(frame: Frames, pool: int) -> npt.NDArray[np.uint16 | np.uint32]:
    """Sums over squares of ``pool`` by ``pool`` pixels."""
    if pool == 1:
        return frame.astype(np.uint16)
    height, width = (size // pool * pool for size in frame.shape[:2])
    total = np.zeros((height // pool, width // pool, 3), np.uint16 if pool <= _MOST_IN_16_BITS else np.uint32)
    for row in range(pool):
        for column in range(pool):
            total += frame[row:height:pool, column:width:pool]
    return total


def _pictures(sums: list[npt.NDArray[np.uint16 | np.uint32]], pool: int) -> Pixels:
    pictures = np.stack(sums, dtype=np.float32, casting="same_kind")
    pictures /= np.float32(255.0 * pool * pool)
    return pictures


def _join(pieces: list[PictureTrace], fps: float) -> PictureTrace:
    """One trace of pieces that follow each other: the clearest trains of each label, put together."""
    starts = np.cumsum([0, *(piece.activity.size for piece in pieces)]) / fps
    trains = []
    for label in ("light", "contact", "turn", "opening", "start"):
        first = [next((train for train in piece.trains if train.label == label), None) for piece in pieces]
        found = [(train, start) for train, start in zip(first, starts, strict=False) if train is not None]
        if found:
            events = chain.from_iterable(
                (replace(event, time_s=event.time_s + start) for event in train.events) for train, start in found
            )
            width_s = max(train.width_s for train, _ in found)
            trains.append(Train(label, tuple(events), width_s, any(train.is_sampled for train, _ in found)))
    activity, opened = (np.concatenate([getattr(piece, name) for piece in pieces]) for name in ("activity", "opened"))
    return PictureTrace(tuple(trains), activity, opened, float(np.median([piece.shutter for piece in pieces])))


def _watch_piece(pictures: Pixels, fps: float) -> PictureTrace:
    if len(pictures) < _FEWEST_FRAMES:
        return PictureTrace((), np.zeros(len(pictures)), np.zeros(len(pictures)), _UNKNOWN_SHUTTER)
    pictures = _steady(pictures)
    step = max(1, len(pictures) // 60)
    signed = np.asarray(pictures - np.median(pictures[::step], axis=0), np.float32)
    # frame by frame: copies of the whole piece would be most of the memory
    size, change = (np.zeros(pictures.shape[:3], np.float32) for _ in range(2))
    for index, picture in enumerate(pictures):
        size[index] = np.sqrt(np.square(signed[index]).sum(axis=2))
        change[index] = np.sqrt(np.square(picture - pictures[max(index - 1, 0)]).sum(axis=2))
    noise = float(np.median(change)) + 1e-6
    least = max(_LEAST_CHANGE, 5.0 * noise)
    # where edges shimmer, only what is more than that
    size[size < np.clip(3.0 * np.median(size[::step], axis=0), least, 2.0 * least)] = 0.0
    regions = [_Region(signed, size, least, where) for where in _regions(size)]
    activity = np.where(change > least, change, 0.0).mean(axis=(1, 2)).astype(np.float64)
    activity /= max(float(activity.max()), 1e-9)
    lamps = [region for region in regions if region.is_lamp]
    movers = [region for region in regions if not region.is_lamp]
    trains = [_lights(region, fps) for region in lamps]
    shutter, opened = _UNKNOWN_SHUTTER, np.zeros(len(pictures))
    if movers:
        shutter = _shutter(movers)
        opened = movers[0].measure_opening()
        for region in movers:
            trains += _motions(region, fps, shutter)
    trains = [train for train in trains if train.events]
    return PictureTrace((*_together(trains), *trains), activity, opened, shutter)


def _together(trains: list[Train]) -> list[Train]:
    """Trains of all lights and of all contacts, where there are some in more than one region."""
    found = []
    for label in ("light", "contact"):
        same = [train for train in trains if train.label == label]
        if len(same) > 1:
            events = keep_strongest([event for train in same for event in train.events], gap_s=_GAP_S)
            width_s, is_sampled = max(train.width_s for train in same), any(train.is_sampled for train in same)
            found.append(Train(label, tuple(events), width_s, is_sampled))
    return found


def _steady(pictures: Pixels) -> Pixels:
    """The same without the shaking of the camera: shifts against the median, by its gradient (Lucas and Kanade 1981)."""
    height, width = (size // 2 * 2 for size in pictures.shape[1:3])
    grey = pictures[:, :height, :width, 1]
    grey = 0.25 * (grey[:, ::2, ::2] + grey[:, 1::2, ::2] + grey[:, ::2, 1::2] + grey[:, 1::2, 1::2])
    grey = ndimage.uniform_filter(ndimage.uniform_filter(grey, (0, 3, 3)), (0, 3, 3))
    still = np.median(grey[:: max(1, len(grey) // 40)], axis=0)
    down, across = np.gradient(grey, axis=(1, 2))
    moved = np.zeros((len(grey), 2), np.float32)
    for _ in range(2):
        # to first order, each picture moved back
        seen = grey + moved[:, :1, None] * down + moved[:, 1:, None] * across
        left = seen - still
        weight = 1.0 / (1.0 + np.square(np.abs(left).mean(axis=0) / 0.01))
        slopes = np.stack([weight * slope for slope in np.gradient(still)]).reshape(2, -1)
        matrix = slopes @ np.stack(np.gradient(still)).reshape(2, -1).T + 1e-6 * still.size * np.eye(2)
        moved -= (left.reshape(len(left), -1) @ slopes.T) @ np.linalg.inv(matrix)
    slope = np.hypot(*np.gradient(still))
    seen = np.stack([_shift(one, -by) for one, by in zip(grey, moved, strict=True)])
    before, after = (float((np.abs(one - still) * weight * slope).sum(dtype=np.float64)) for one in (grey, seen))
    moved = np.asarray(2.0 * (moved - np.median(moved, axis=0)), np.float32)
    # what moves in a still picture may look like shaking, but shifts do not make such a picture steadier
    if after > _STEADIER * before or np.quantile(np.abs(moved), 0.9) < 0.08:
        return pictures
    return np.stack([_shift(picture, -by) for picture, by in zip(pictures, np.clip(moved, -8.0, 8.0), strict=True)])


def _shift(picture: Pixels, by: Pixels) -> Pixels:
    """Move a picture down and to the right by a part of a pixel; edges are repeated."""
    for axis in (0, 1):
        whole = int(np.floor(by[axis]))
        part = np.float32(by[axis] - whole)
        place = np.clip(np.arange(picture.shape[axis]) - whole, 0, picture.shape[axis] - 1)
        before = np.clip(place - 1, 0, None)
        picture = (1.0 - part) * picture.take(place, axis) + part * picture.take(before, axis)
    return picture


def _regions(size: Pixels) -> list[npt.NDArray[np.bool_]]:
    """``[h, w]`` masks of where anything ever differs, the most eventful first."""
    ever = size.max(axis=0) > 0.0
    ever = ndimage.binary_opening(ndimage.binary_dilation(ever, iterations=1), iterations=1)
    labels, count = ndimage.label(ever)
    if not count:
        return []
    total = ndimage.sum_labels(size.sum(axis=0), labels, np.arange(1, count + 1))
    order = [index for index in np.argsort(-total)[:_NUM_REGIONS] if total[index] > 0.02 * total.max()]
    return [labels == index + 1 for index in order]


class _Region:
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


def _closes(light: Floats) -> bool:
    """Whether what is there goes evenly or faster and faster: lights fade ever more slowly, or go out within one frame."""
    level = light / max(float(np.quantile(light, 0.98)), 1e-9)
    before, here, after = level[:-2], level[1:-1], level[2:]
    between = (before > 0.8) & (here < 0.9) & (after > 0.1)
    closing = between & (before - after > 0.45) & (here - after > 0.85 * (before - here))
    opened = (level[1:] >= 0.5) & (level[:-1] < 0.5)
    return bool(closing.sum() >= max(2.0, 0.4 * opened.sum()))


def _shutter(regions: list[_Region]) -> float:
    """Share of a frame that is exposed, from the pixels that an edge passes from one frame to the next but one.

    Of the moments at which it may have passed, the frame in between shows both sides in a share of ``s / (2 - s)``; what
    softness there is without motion adds as many at any speed.
    """
    along = regions[0].along
    step = along[3:-1] - along[1:-3]
    size = np.abs(step)
    if not (size > regions[0].least).any():
        return _UNKNOWN_SHUTTER
    clear = size > 0.5 * np.quantile(size[size > regions[0].least], 0.9)
    clear &= (np.abs(along[1:-3] - along[:-4]) < 0.12 * size) & (np.abs(along[4:] - along[3:-1]) < 0.12 * size)
    share = (along[2:-2] - along[1:-3]) / np.where(clear, step, 1.0)
    passed = clear.sum(axis=(1, 2)).astype(np.float64)
    partly = (clear & (share > 0.12) & (share < 0.88)).sum(axis=(1, 2)) / 0.76
    used = passed >= max(8.0, 0.15 * np.quantile(passed, 0.95))
    if used.sum() < 5:
        return _UNKNOWN_SHUTTER
    slope, level = np.polyfit(passed[used], partly[used], 1)
    part = partly[used].sum() / passed[used].sum()
    if level > 0.0:
        part = max(slope, part - level * used.sum() / passed[used].sum())
    part = float(np.clip(part, 0.0, 1.0))
    # even what is sharp is half covered at pixels that an edge passes through
    return float(np.clip((2.0 * part / (1.0 + part) - 0.15) / 0.7, 0.0, 1.0))


def _lights(region: _Region, fps: float) -> Train:
    """When a lamp comes on, from how bright its first frame is against the next."""
    light, _ = region.light()
    full = float(np.quantile(light, 0.98))
    light = np.append(light / full, np.zeros(4))
    rise = np.diff(light, prepend=light[:1])
    found: list[tuple[int, float, float]] = []
    frame = 1
    while frame < light.size - 4:
        two = light[frame + 1] - light[frame - 1]
        if rise[frame] > 0.06 and max(rise[frame], two) > 0.3 and rise[frame] > 0.08 * max(rise[frame], two):
            found.append((frame, light[frame - 1], max(rise[frame], two)))
            frame += max(2, round(_GAP_S * fps))
        else:
            frame += 1
    if not found:
        return Train("light", (), 0.5 / fps)
    keeps = [float(np.clip(light[at + 2] / max(light[at + 1], 1e-6), 0.0, 1.0)) for at, *_ in found]
    laters = [float(np.clip(light[at + 3] / max(light[at + 2], 1e-6), 0.0, 1.0)) for at, *_ in found]
    keep = float(np.median(keeps))
    # what goes out at once does not fade
    keep = keep if abs(keep - float(np.median(laters))) < 0.08 and 0.3 < keep < 0.97 else 1.0
    shares = []
    for at, before, _ in found:
        first, second = light[at] - before * keep, light[at + 1] - before * keep**2
        shares.append(float(np.clip(first * keep / max(second, 1e-6), 0.0, 1.0)))
    part = float(np.mean(np.array(shares) < 0.93))
    shutter = 1.0 if part > 0.72 else 0.5 if part > 0.25 else 0.0
    events = []
    for (at, _, height), share in zip(found, shares, strict=True):
        if shutter == 0.0:
            frames = float(at)
        elif share >= 0.95:
            frames = at - 0.5 * (1.0 - shutter)
        else:
            frames = at + shutter - _exposed(share / keep, keep, shutter)
        events.append(Detection(frames / fps, "light", height))
    return Train("light", tuple(events), (0.5 if shutter == 0.0 else 0.25 * (1.2 - shutter)) / fps + 0.004, shutter == 0.0)


def _exposed(ratio: float, keep: float, shutter: float) -> float:
    """For how much of a frame a fading light was seen in its first, of ``ratio`` of the brightness of the second."""
    if keep > 0.995:
        return min(shutter, ratio * shutter)
    fade = -np.log(keep)
    return float(
        np.clip(np.log1p(ratio * np.exp(-fade * (1.0 - shutter)) * (1.0 - np.exp(-fade * shutter))) / fade, 0.0, shutter)
    )


def _motions(region: _Region, fps: float, shutter: float) -> list[Train]:
    """Contacts, smooth turns and starts of what moves in a region."""
    path = region.moments()
    noise = np.median(np.abs(np.diff(path, n=3, axis=0)), axis=0) / (0.6745 * np.sqrt(20.0))
    much = float(np.ptp(path[:, 0]))
    path = path / np.maximum(noise, 2e-5)
    centred = path - path.mean(axis=0)
    _, spread, ways = np.linalg.svd(centred, full_matrices=False)
    main = centred @ ways[spread > _LEAST_SPREAD * spread[0]].T  # what hardly moves is mostly noise
    away = np.linalg.norm(main - np.median(main, axis=0), axis=1)
    near = ndimage.maximum_filter1d(away, 2 * round(STROKE_S * fps) + 1)
    # what goes from place to place covers as much all the time
    opening = find_opening(path) if much > _OPENING else None
    if opening is not None:
        turns = _turns(opening, opening, fps, shutter)
        return [Train("opening", tuple(turns), 0.3 / fps + 0.005, path=opening[:, None])]
    contacts, starts = [], []
    for corner in find_corners(main, shutter, fps):
        at = int(np.clip(round(corner.frame), 1, len(path) - 2))
        one = Detection((corner.frame + 0.5 * shutter) / fps, "contact", corner.worth)
        if corner.before < 0.25:
            starts.append(replace(one, label="start"))
        # what comes to rest where it usually is has struck nothing
        elif corner.before < 0.8 or (corner.before < 1.3 and away[at] > 0.3 * near[at]):
            contacts.append(one)
    trains = [
        Train("contact", tuple(_clearest(contacts)), 0.1 / fps + 0.004),
        Train("turn", tuple(_turns(away, near, fps, shutter)), 0.3 / fps + 0.005, path=main),
        Train("start", tuple(_clearest(starts)), 0.2 / fps + 0.005),
    ]
    return trains


def _turns(away: Floats, near: Floats, fps: float, shutter: float) -> list[Detection]:
    """When something is farthest from its rest."""
    peaks = np.flatnonzero((away >= ndimage.maximum_filter1d(away, 2 * round(_GAP_S * fps) + 1)) & (away > 0.6 * near.max()))
    found = []
    for frame in peaks[(peaks > 0) & (peaks < away.size - 1)]:
        before, here, after = away[frame - 1 : frame + 2]
        curve = before - 2.0 * here + after
        vertex = 0.5 * (before - after) / curve if curve < 0.0 else 0.0
        found.append(Detection((frame + vertex + 0.5 * shutter) / fps, "turn", float(here)))
    return found


def _clearest(found: list[Detection]) -> list[Detection]:
    """Those that are not much weaker than most, none nearer than ``_GAP_S`` to a stronger one, in order of time."""
    clear = float(np.quantile([one.strength for one in found], 0.9)) if found else 0.0
    return keep_strongest([one for one in found if one.strength >= _LEAST_SHARE * clear], gap_s=_GAP_S)
