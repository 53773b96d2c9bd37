"""The picture of a video as it lies in its file: packets and their times, nothing decoded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from mova.errors import MediaError
from mova.media.probe import MediaInfo, media_info, opened, video_stream
from mova.media.remux.edits import EditList, read_edits

# A time that is further from its place than this part of a frame is no rounding of the container
_MOST_ROUNDING = Fraction(1, 4)


@dataclass(frozen=True)
class PicturePacket:
    """One coded frame.

    Args:
        digest: Of its bytes.
        pts: When it is shown, in ticks of the track.
        dts: When it is decoded, in ticks of the track.
        duration: As the container states it, in ticks of the track; 0 where unstated.
        is_keyframe: Whether decoding can start here.
        is_discard: Whether it is decoded but not shown, by the video's edit list.
    """

    digest: bytes
    pts: int
    dts: int
    duration: int
    is_keyframe: bool
    is_discard: bool


@dataclass(frozen=True)
class PictureTrack:
    """The main picture stream of a video.

    Args:
        info: What the header states.
        time_base: Length of a tick in seconds.
        packets: In the order in which they are decoded.
        edits: The edit list; None in containers that have none.
        is_steady: Whether every frame is shown at a multiple of the stated frame's length, but for what the container
            rounds: then :meth:`time_s` takes the rounding off.
        start_s: When the first frame is shown, on the file's clock.
        seconds: From the start of the first frame to the end of the last, exactly.
        ends_by_edit: Whether the edit list, and not the last frame, says when the picture ends.
        starts_within_frame: Whether the edit list starts within a frame; FFmpeg shows none of it, and moves the others.
    """

    info: MediaInfo
    time_base: Fraction
    packets: tuple[PicturePacket, ...]
    edits: EditList | None
    is_steady: bool
    start_s: Fraction
    seconds: Fraction
    ends_by_edit: bool
    starts_within_frame: bool

    @property
    def num_frames(self) -> int:
        """Packets that are shown."""
        return sum(not packet.is_discard for packet in self.packets)

    def time_s(self, file_s: Fraction) -> Fraction:
        """A time on the file's clock as seconds since the first frame."""
        assert self.info.video is not None, "checked before"
        return _time_s(file_s - self.start_s, self.info.video.fps if self.is_steady else None)


def picture_track(path: str | Path) -> PictureTrack:
    """Read the packets of a video's picture.

    Args:
        path: The file.

    Raises:
        MediaError: If it cannot be read, has no picture, is cut short, or does not say when its frames are shown.
    """
    path = Path(path)
    with opened(path) as container:
        info, stream = media_info(container, path), video_stream(container)
        if stream is None or info.video is None or stream.time_base is None:
            raise MediaError(f"{path} has no picture stream.")
        time_base = stream.time_base
        packets = _packets(container, stream, path)
        edits = read_edits(path, stream.id) if "mp4" in info.format else None
    shown = sorted((packet for packet in packets if not packet.is_discard), key=lambda packet: packet.pts)
    if not shown:
        raise MediaError(f"{path} holds no frame that is shown.")
    fps = info.video.fps
    start_s = shown[0].pts * time_base
    times = [packet.pts * time_base - start_s for packet in shown]
    is_steady = fps is not None and _is_steady(times, fps, time_base)
    end_s = _time_s(times[-1], fps if is_steady else None) + _last_duration_s(shown, info, time_base, is_steady=is_steady)
    seconds = _edited(end_s, times[-1], start_s, edits, is_steady=is_steady)
    _check_whole(info, seconds)
    is_cut = any(packet.is_discard and packet.pts < shown[0].pts for packet in packets)
    return PictureTrack(
        info=info,
        time_base=time_base,
        packets=packets,
        edits=edits,
        is_steady=is_steady,
        start_s=start_s,
        seconds=seconds,
        ends_by_edit=seconds != end_s,
        starts_within_frame=is_cut and edits is not None and not _starts_on_a_frame(path, edits),
    )


def _packets(container: InputContainer, stream: VideoStream, path: Path) -> tuple[PicturePacket, ...]:
    found: list[PicturePacket] = []
    unknown: list[int] = []
    for packet in container.demux(stream):
        if packet.size == 0:
            continue
        if packet.is_corrupt:
            raise MediaError(f"{path} is cut short or damaged at frame {len(found)}.", "The download may be incomplete.")
        if packet.pts is None:
            raise MediaError(
                f"{path} does not state when frame {len(found)} is shown.",
                f"Put it into a container that does: ffmpeg -i {path.name} -c copy film.mp4",
            )
        if packet.dts is None:
            unknown.append(len(found))
        dts = packet.pts if packet.dts is None else packet.dts
        digest = hashlib.blake2b(memoryview(packet), digest_size=16).digest()
        found.append(
            PicturePacket(digest, packet.pts, dts, packet.duration or 0, bool(packet.is_keyframe), bool(packet.is_discard))
        )
    return _with_decoding_times(found, unknown)


def _with_decoding_times(packets: list[PicturePacket], unknown: list[int]) -> tuple[PicturePacket, ...]:
    """Fill in the decoding times that Matroska leaves out: those of the first frames, before the first is shown."""
    if len(unknown) == len(packets):
        return tuple(packets)
    for index in reversed(unknown):
        if index + 1 < len(packets):
            dts = packets[index + 1].dts - max(1, packets[index].duration)
            packets[index] = replace(packets[index], dts=min(packets[index].pts, dts))
    return tuple(packets)


def _is_steady(times: list[Fraction], fps: Fraction, tick: Fraction) -> bool:
    tolerance = min(tick * fps, _MOST_ROUNDING)
    places = [time * fps for time in times]
    is_near = all(abs(place - round(place)) <= tolerance for place in places)
    return is_near and len({round(place) for place in places}) == len(places)


def _time_s(time_s: Fraction, fps: Fraction | None) -> Fraction:
    return time_s if fps is None else round(time_s * fps) / fps


def _last_duration_s(shown: list[PicturePacket], info: MediaInfo, time_base: Fraction, *, is_steady: bool) -> Fraction:
    stated = shown[-1].duration * time_base
    fps = None if info.video is None else info.video.fps
    if is_steady and fps is not None:
        # both ends of the last frame may be rounded
        num_frames = max(1, round(stated * fps))
        if stated <= 0 or abs(stated - num_frames / fps) <= 2 * time_base:
            return num_frames / fps
    if stated > 0:
        return stated
    # nothing says how long the last frame stays: as long as the one before it
    if len(shown) > 1:
        return (shown[-1].pts - shown[-2].pts) * time_base
    if fps is None:
        raise MediaError(f"{info.path} does not state how long its only frame is shown.")
    return 1 / fps


def _edited(seconds: Fraction, last_s: Fraction, start_s: Fraction, edits: EditList | None, *, is_steady: bool) -> Fraction:
    """The length by the edit list, where that says something other than the frames do."""
    if edits is None or edits.end_s is None:
        return seconds
    edited = edits.end_s - start_s
    # headers round to their ticks, and may count on past frames of a steady rate
    is_same = abs(edited - seconds) <= Fraction(1, edits.timescale) or (is_steady and edited > seconds)
    return seconds if is_same or edited <= last_s else edited


def _starts_on_a_frame(path: Path, edits: EditList) -> bool:
    """Whether the last edit starts where a frame of the track does, by the times without the edit list."""
    with av.open(str(path.resolve()), "r", format="mov", options={"ignore_editlist": "1"}) as container:
        stream = video_stream(container)
        return stream is None or any(packet.pts == edits.edits[-1].media_time for packet in container.demux(stream))


def _check_whole(info: MediaInfo, seconds: Fraction) -> None:
    video = info.video
    if video is None or video.fps is None or video.duration_s is None:
        return
    missing = video.duration_s - seconds
    if missing > Fraction(3, 2) / video.fps:
        raise MediaError(
            f"{info.path} is cut short: {float(missing):.3f} s of its {float(video.duration_s):.3f} s are missing.",
            "The download or the recording may be incomplete.",
        )
