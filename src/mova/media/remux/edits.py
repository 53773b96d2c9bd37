"""Edit lists: which part of a track an MP4 or QuickTime file shows, and when (ISO/IEC 14496-12, 8.6.6).

FFmpeg applies edit lists when it reads, and writes simple ones, but it neither exposes their entries nor writes them
exactly to the tick. This module reads the entries, and sets the numbers of an existing list.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from mova.errors import MediaError

_EMPTY = -1
_NORMAL_RATE = 1 << 16
_MAX_INDEX_BYTES = 256 * 2**20
_PARENTS = {b"moov", b"trak", b"edts"}


@dataclass(frozen=True)
class Edit:
    """One entry of an edit list.

    Args:
        duration: Duration in ticks of the movie; in a fragmented file 0 means until the end.
        media_time: Start within the track, in ticks of the track; -1: nothing is shown.
        rate: Speed as a 16.16 fixed-point number.
    """

    duration: int
    media_time: int
    rate: int = _NORMAL_RATE


@dataclass(frozen=True)
class EditList:
    """The edit list of one track.

    Args:
        timescale: Ticks of the movie per second.
        edits: Entries; empty if the track has no edit list.
    """

    timescale: int
    edits: tuple[Edit, ...]

    @property
    def is_plain(self) -> bool:
        """Whether the list shows a single segment of the track at normal speed, possibly after an empty edit."""
        starts = [edit.media_time for edit in self.edits]
        if any(edit.rate != _NORMAL_RATE for edit in self.edits):
            return False
        return not starts or (starts[-1] != _EMPTY and starts[:-1] in ([], [_EMPTY]))

    @property
    def end_s(self) -> Fraction | None:
        """End of the last entry in seconds; None if unstated."""
        if not self.edits or self.edits[-1].duration == 0:
            return None
        return Fraction(sum(edit.duration for edit in self.edits), self.timescale)


def read_edits(path: Path, track_id: int) -> EditList:
    """Read the edit list of a track of an MP4 or QuickTime file.

    Args:
        path: The file.
        track_id: Track number, as in FFmpeg's ``stream.id``.

    Raises:
        MediaError: If the file's index cannot be read.
    """
    with path.open("rb") as file:
        try:
            index = _Index(_index_bytes(file)[1])
            return EditList(index.timescale, index.edits(track_id))
        except (struct.error, IndexError, KeyError) as error:
            raise MediaError(f"the index of {path} cannot be read.", "The file may be damaged.") from error


def set_edits(path: Path, edits: Mapping[int, tuple[Edit, ...]]) -> None:
    """Set the numbers of edit lists in place, and update the durations of the tracks and of the movie.

    Args:
        path: A finished, unfragmented file.
        edits: New entries by track number, as many as each track's list has.

    Raises:
        MediaError: If a list has another number of entries, or a number does not fit into its field.
    """
    with path.open("r+b") as file:
        try:
            position, data = _index_bytes(file)
            index = _Index(data)
            for track_id, entries in edits.items():
                index.set_edits(track_id, entries)
            index.set_movie_length()
        except (struct.error, IndexError, KeyError, ValueError) as error:
            raise MediaError(f"the edit lists of {path} cannot be set.") from error
        file.seek(position)
        file.write(index.data)


def _index_bytes(file: BinaryIO) -> tuple[int, bytearray]:
    """Return position and bytes of the ``moov`` box."""
    end = file.seek(0, 2)
    position = 0
    while position + 8 <= end:
        file.seek(position)
        head = file.read(16)
        size, kind, _ = _box(head, 0, end - position)
        if kind == b"moov":
            if size > _MAX_INDEX_BYTES:
                break
            file.seek(position)
            return position, bytearray(file.read(size))
        position += size
    raise KeyError("moov")


def _box(data: bytes | bytearray, at: int, room: int) -> tuple[int, bytes, int]:
    """Return size, kind and header length of the box at ``at``, which may take up to ``room`` bytes."""
    size, kind = struct.unpack_from(">I4s", data, at)
    header = 8
    if size == 1:
        (size,), header = struct.unpack_from(">Q", data, at + 8), 16
    elif size == 0:
        size = room
    if not header <= size <= room:
        raise IndexError("a box does not fit into its parent")
    return size, kind, header


@dataclass(frozen=True)
class _Field:
    """Position and format of integers in the index."""

    at: int
    layout: str


@dataclass
class _Track:
    track_id: int = 0
    length: _Field | None = None
    entries: tuple[_Field, ...] = ()


class _Index:
    """The ``moov`` box and the positions of its time fields."""

    def __init__(self, data: bytearray) -> None:
        self.data = data
        self.timescale = 0
        self.length: _Field | None = None
        self.tracks: list[_Track] = []
        for kind, body in self._boxes(0, len(data)):
            # version 1 has times of 64 bits: creation, modification, (track or timescale), length
            is_long = data[body] == 1 if body < len(data) else False
            if kind == b"trak":
                self.tracks.append(_Track())
            elif kind == b"mvhd":
                (self.timescale,) = struct.unpack_from(">I", data, body + (20 if is_long else 12))
                self.length = _Field(body + 24, ">Q") if is_long else _Field(body + 16, ">I")
            elif kind == b"tkhd":
                (self.tracks[-1].track_id,) = struct.unpack_from(">I", data, body + (20 if is_long else 12))
                self.tracks[-1].length = _Field(body + 28, ">Q") if is_long else _Field(body + 20, ">I")
            elif kind == b"elst":
                layout = ">QqI" if is_long else ">IiI"
                (count,) = struct.unpack_from(">I", data, body + 4)
                if count * struct.calcsize(layout) > len(data):
                    raise IndexError("more edits than the index has bytes")
                places = range(body + 8, body + 8 + count * struct.calcsize(layout), struct.calcsize(layout))
                self.tracks[-1].entries = tuple(_Field(at, layout) for at in places)
        if self.timescale == 0:
            raise KeyError("mvhd")

    def edits(self, track_id: int) -> tuple[Edit, ...]:
        fields = next((track.entries for track in self.tracks if track.track_id == track_id), ())
        return tuple(Edit(*struct.unpack_from(field.layout, self.data, field.at)) for field in fields)

    def set_edits(self, track_id: int, entries: tuple[Edit, ...]) -> None:
        track = next(track for track in self.tracks if track.track_id == track_id)
        for field, edit in zip(track.entries, entries, strict=True):
            struct.pack_into(field.layout, self.data, field.at, edit.duration, edit.media_time, edit.rate)
        self._set_length(track.length, sum(edit.duration for edit in entries))

    def set_movie_length(self) -> None:
        fields = [track.length for track in self.tracks if track.length is not None]
        self._set_length(self.length, max(struct.unpack_from(field.layout, self.data, field.at)[0] for field in fields))

    def _set_length(self, field: _Field | None, length: int) -> None:
        if field is not None:
            struct.pack_into(field.layout, self.data, field.at, length)

    def _boxes(self, start: int, end: int) -> Iterator[tuple[bytes, int]]:
        """Yield kind and start of the body of every box, parents before their children."""
        position = start
        while position + 8 <= end:
            size, kind, header = _box(self.data, position, end - position)
            yield kind, position + header
            if kind in _PARENTS:
                yield from self._boxes(position + header, position + size)
            position += size
