"""Read the packets and times of a video stream, without decoding it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from mova.errors import MediaError
from mova.media.probe import MediaInfo, media_info, open_container, video_stream
from mova.media.remux.edits import EditList, read_edits
from mova.media.worker import isolate

# Times further than this fraction of a frame from the frame grid are not due to rounding by the container
_MOST_ROUNDING = Fraction(1, 4)


@dataclass(frozen=True)
class VideoPacket:
    """One coded frame.

    Args:
        digest: Hash of its bytes.
        pts: Presentation time in ticks of the track.
        dts: Decoding time in ticks of the track.
        duration: Duration stated by the container, in ticks of the track; 0 if unstated.
        is_keyframe: Whether decoding can start here.
        is_discard: Whether it is decoded but, by the edit list, not shown.
    """

    digest: bytes
    pts: int
    dts: int
    duration: int
    is_keyframe: bool
    is_discard: bool


@dataclass(frozen=True)
class VideoTrack:
    """The main video stream of a file.

    Args:
        info: Header facts of the file.
        time_base: Length of a tick in seconds.
        packets: Packets in decoding order.
        edits: Edit list; None in containers that have none.
        is_steady: Whether the frame rate is constant, apart from rounding by the container; then :meth:`time_s` removes
            the rounding.
        start_s: Time of the first frame in the file, in seconds.
        seconds: Exact length from the start of the first frame to the end of the last.
        ends_by_edit: Whether the edit list, and not the last frame, determines the end.
        starts_within_frame: Whether the edit list starts within a frame; FFmpeg skips that frame and shifts the others.
    """

    info: MediaInfo
    time_base: Fraction
    packets: tuple[VideoPacket, ...]
    edits: EditList | None
    is_steady: bool
    start_s: Fraction
    seconds: Fraction
    ends_by_edit: bool
    starts_within_frame: bool

    @property
    def num_frames(self) -> int:
        """Number of packets that are shown."""
        return sum(not packet.is_discard for packet in self.packets)

    def time_s(self, file_s: Fraction) -> Fraction:
        """Convert a time of the file to seconds since the start of the first frame."""
        assert self.info.video is not None, "checked by read_video_track"
        return _time_s(file_s - self.start_s, self.info.video.fps if self.is_steady else None)


@isolate
def read_video_track(path: str | Path) -> VideoTrack:
    """Read the packets of a file's video stream.

    Args:
        path: The file.

    Raises:
        MediaError: If it cannot be read, has no video, is truncated, or does not state the times of its frames.
    """
    path = Path(path)
    with open_container(path) as container:
        info, stream = media_info(container, path), video_stream(container)
        if stream is None or info.video is None or stream.time_base is None:
            raise MediaError(f"{path} has no video stream.")
        time_base = stream.time_base
        packets = _packets(container, stream, path)
        edits = read_edits(path, stream.id) if "mp4" in info.format else None
    shown = sorted((packet for packet in packets if not packet.is_discard), key=lambda packet: packet.pts)
    if not shown:
        raise MediaError(f"{path} has no frame that is shown.")
    fps = info.video.fps
    start_s = shown[0].pts * time_base
    times = [packet.pts * time_base - start_s for packet in shown]
    is_steady = fps is not None and _is_steady(times, fps, time_base)
    end_s = _time_s(times[-1], fps if is_steady else None) + _last_duration_s(shown, info, time_base, is_steady=is_steady)
    seconds = _apply_edit_list(end_s, times[-1], start_s, edits, is_steady=is_steady)
    _check_whole(info, seconds)
    is_cut = any(packet.is_discard and packet.pts < shown[0].pts for packet in packets)
    return VideoTrack(
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


def _packets(container: InputContainer, stream: VideoStream, path: Path) -> tuple[VideoPacket, ...]:
    found: list[VideoPacket] = []
    unknown: list[int] = []
    for packet in container.demux(stream):
        if packet.size == 0:
            continue
        if packet.is_corrupt:
            raise MediaError(f"{path} is truncated or damaged at frame {len(found)}.", "The download may be incomplete.")
        if packet.pts is None:
            raise MediaError(
                f"{path} does not state when frame {len(found)} is shown.",
                f"Put it into a container that does: ffmpeg -i {path.name} -c copy video.mp4",
            )
        if packet.dts is None:
            unknown.append(len(found))
        dts = packet.pts if packet.dts is None else packet.dts
        digest = hashlib.blake2b(memoryview(packet), digest_size=16).digest()
        found.append(
            VideoPacket(digest, packet.pts, dts, packet.duration or 0, bool(packet.is_keyframe), bool(packet.is_discard))
        )
    return _fill_decoding_times(found, unknown)


def _fill_decoding_times(packets: list[VideoPacket], unknown: list[int]) -> tuple[VideoPacket, ...]:
    """Fill in the decoding times that Matroska leaves out: those of the first frames."""
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


def _last_duration_s(shown: list[VideoPacket], info: MediaInfo, time_base: Fraction, *, is_steady: bool) -> Fraction:
    stated = shown[-1].duration * time_base
    fps = None if info.video is None else info.video.fps
    if is_steady and fps is not None:
        # both ends of the last frame may be rounded
        num_frames = max(1, round(stated * fps))
        if stated <= 0 or abs(stated - num_frames / fps) <= 2 * time_base:
            return num_frames / fps
    if stated > 0:
        return stated
    # the duration of the last frame is unstated: that of the frame before it is used
    if len(shown) > 1:
        return (shown[-1].pts - shown[-2].pts) * time_base
    if fps is None:
        raise MediaError(f"{info.path} does not state how long its only frame is shown.")
    return 1 / fps


def _apply_edit_list(
    seconds: Fraction, last_s: Fraction, start_s: Fraction, edits: EditList | None, *, is_steady: bool
) -> Fraction:
    """Return the length by the edit list if it differs from that of the frames, else ``seconds``."""
    if edits is None or edits.end_s is None:
        return seconds
    edited = edits.end_s - start_s
    # headers round to their ticks, and may extend past the last frame at a constant rate
    is_same = abs(edited - seconds) <= Fraction(1, edits.timescale) or (is_steady and edited > seconds)
    return seconds if is_same or edited <= last_s else edited


def _starts_on_a_frame(path: Path, edits: EditList) -> bool:
    """Return whether the last edit starts at the start of a frame, by the times without the edit list."""
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
            f"{info.path} is truncated: {float(missing):.3f} s of its {float(video.duration_s):.3f} s are missing.",
            "The download or the recording may be incomplete.",
        )
