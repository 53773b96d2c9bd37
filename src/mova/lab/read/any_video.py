"""When something happens in the picture of any video, to a part of a frame: lights, contacts, and things that begin to move.

Nothing is known of the video but what physics says. The picture is held steady and compared with its own median; what
differs falls into regions. In a region whose pattern only grows brighter and darker there is a *light*: the share of the
first frame tells when it came on. In any other, the moments of what differs (how much, where, how far spread) follow smooth
paths between *contacts*, at which speed changes at once: two parabolas with a corner are fitted, as the open shutter shows
them. How long the shutter was open is measured from how far the edges of moving things are smeared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import numpy.typing as npt

from mova.lab.read.events import GAP_S, Detection, Train
from mova.lab.read.lamps import find_lights
from mova.lab.read.light import keep_strongest
from mova.lab.read.movements import find_motions
from mova.lab.read.regions import UNKNOWN_SHUTTER, Region, find_regions, measure_shutter
from mova.lab.read.steadying import steady

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.float32]
Frames = npt.NDArray[np.uint8]


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
        return PictureTrace((), np.zeros(0), np.zeros(0), UNKNOWN_SHUTTER)
    return pieces[0] if len(pieces) == 1 else _join(pieces, fps)


_PIECE_S = 20.0
_MOST_FRAMES = 400  # of a piece: a third of a gigabyte
_SIDE = 112
_FEWEST_FRAMES = 8
_LESS_EVENTFUL = 1.0  # nats by which the next region is less likely what is heard
_LEAST_CHANGE = 0.035  # of full scale, at one pixel of the small picture


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
    for label, is_sampled in (("light", False), ("light", True), *((one, False) for one in _UNLIT)):
        first = [_first_train(piece, label, is_sampled=is_sampled) for piece in pieces]
        found = [(train, start) for train, start in zip(first, starts, strict=False) if train is not None]
        if found:
            events = chain.from_iterable(
                (replace(event, time_s=event.time_s + start) for event in train.events) for train, start in found
            )
            width_s = max(train.width_s for train, _ in found)
            doubt = sum(train.doubt for train, _ in found)
            trains.append(Train(label, tuple(events), width_s, any(train.is_sampled for train, _ in found), doubt))
    activity, opened = (np.concatenate([getattr(piece, name) for piece in pieces]) for name in ("activity", "opened"))
    return PictureTrace(tuple(trains), activity, opened, float(np.median([piece.shutter for piece in pieces])))


_UNLIT = ("contact", "turn", "opening", "start")


def _first_train(piece: PictureTrace, label: str, *, is_sampled: bool) -> Train | None:
    """The clearest train of a label, of two that are otherwise the same the one that is asked for."""
    same = [train for train in piece.trains if train.label == label]
    return next((train for train in same if train.is_sampled == is_sampled), same[0] if same else None)


def _watch_piece(pictures: Pixels, fps: float) -> PictureTrace:
    if len(pictures) < _FEWEST_FRAMES:
        return PictureTrace((), np.zeros(len(pictures)), np.zeros(len(pictures)), UNKNOWN_SHUTTER)
    pictures = steady(pictures)
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
    regions = [Region(signed, size, least, where) for where in find_regions(size)]
    activity = np.where(change > least, change, 0.0).mean(axis=(1, 2)).astype(np.float64)
    activity /= max(float(activity.max()), 1e-9)
    lamps = [region for region in regions if region.is_lamp]
    movers = [region for region in regions if not region.is_lamp]
    lit = [find_lights(region, fps) for region in lamps]
    trains = [train for likelier_first in lit for train in likelier_first]
    shutter, opened = UNKNOWN_SHUTTER, np.zeros(len(pictures))
    if movers:
        shutter = measure_shutter(movers)
        opened = movers[0].measure_opening()
        for rank, region in enumerate(movers):
            trains += [replace(train, doubt=rank * _LESS_EVENTFUL) for train in find_motions(region, fps, shutter)]
    trains = [train for train in trains if train.events]
    likeliest = [train for train in trains if train.label != "light" or not train.doubt]
    return PictureTrace((*_together(likeliest), *trains), activity, opened, shutter)


def _together(trains: list[Train]) -> list[Train]:
    """Trains of all lights and of all contacts, where there are some in more than one region."""
    found = []
    for label in ("light", "contact"):
        same = [train for train in trains if train.label == label]
        if len(same) > 1:
            events = keep_strongest([event for train in same for event in train.events], gap_s=GAP_S)
            width_s, is_sampled = max(train.width_s for train in same), any(train.is_sampled for train in same)
            found.append(Train(label, tuple(events), width_s, is_sampled))
    return found
