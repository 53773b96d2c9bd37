"""Videos for blind judging: found, looked through, and copied without a trace of where they come from."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Stream

from mova.errors import MediaError, RequestError
from mova.lab.arena.votes import Mode
from mova.media.decode import MAX_PIXELS, MAX_SECONDS, read_frames, read_waveform
from mova.media.loudness import loudness_lufs
from mova.media.probe import MediaInfo, audio_stream, media_info, open_container, probe, reason, video_stream

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".webm", ".mkv")
MAX_VIDEO_BYTES = 2 * 2**30
QUIETEST_TARGET_LUFS = -30.0
"""The louder video of a pair is turned down to the quieter one, but never below this."""

# What browsers play, by the container that they expect it in
_PLAYED: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    ".webm": (frozenset({"vp8", "vp9", "av1"}), frozenset({"opus", "vorbis"})),
    ".mp4": (frozenset({"h264", "av1"}), frozenset({"aac", "mp3", "flac", "opus"})),
}
_PLAYED_PIXELS = frozenset({"yuv420p", "yuvj420p"})
# Matroska states times in whole milliseconds, so starts and ends can come back one off at either side
_ROUNDING_S = Fraction(2, 1000)
# 1 January 2000: zip refuses dates before 1980
_NO_DATE_S = 946_684_800
# x264 and its like write their name and settings into units of this type (H.264 table 7-1: SEI)
_WITHOUT_NOTES = "filter_units=remove_types=6"


@dataclass(frozen=True)
class Video:
    """A video that can be shown.

    Args:
        path: The file.
        suffix: Suffix of the container that its copy gets, ``.mp4`` or ``.webm``.
        prompt: From the request that the video carries; None if it carries none.
        loudness_lufs: Loudness of its audio; None if it has none, or is silent or shorter than 0.4 s.
        decoded_bytes: Roughly what all of its frames take in memory.
        seconds: Length as stated, 0 if it is not.
    """

    path: Path
    suffix: str
    prompt: str | None
    loudness_lufs: float | None
    decoded_bytes: int
    seconds: float


def list_videos(folder: Path) -> dict[str, Path]:
    """Videos in a folder by their stem; other files and folders inside are passed by.

    Raises:
        MediaError: If there is no such folder, no video in it, or two videos have the same stem.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)
    except OSError as error:
        raise MediaError(f"cannot read the folder {folder}: {error.strerror or error}.") from None
    videos: dict[str, Path] = {}
    for path in paths:
        if path.name.startswith("."):
            continue
        if path.stem in videos:
            raise MediaError(f"{videos[path.stem]} and {path.name} have the same stem.", "Keep one of them in the folder.")
        videos[path.stem] = path
    if not videos:
        raise MediaError(f"there is no video in {folder}.", f"Videos end in {', '.join(VIDEO_SUFFIXES)}.")
    return videos


def inspect_video(path: Path, *, needs_audio: bool) -> Video:
    """Look through a video: whether it can be read, is of sane size, and is of a kind that browsers play.

    All of the audio and one frame are decoded.

    Raises:
        MediaError: If not; the message names the file.
    """
    info = probe(path)
    if info.size_bytes > MAX_VIDEO_BYTES:
        raise MediaError(f"{path} has {info.size_bytes / 2**30:.1f} GiB; at most {MAX_VIDEO_BYTES // 2**30} are taken.")
    if info.video is None:
        raise MediaError(f"{path} has no picture stream.")
    seconds = info.video.duration_s or info.duration_s or Fraction(0)
    if seconds > MAX_SECONDS:
        raise MediaError(f"{path} is {float(seconds):.1f} s long; at most {MAX_SECONDS:g} s are taken.")
    suffix = _played_suffix(info, needs_audio=needs_audio)
    read_frames(path, num_frames=1, max_pixels=MAX_PIXELS)
    loudness = None
    if info.audio is not None:
        audio = read_waveform(path)
        loudness = loudness_lufs(audio.waveform[:2], audio.sample_rate)
    prompt = (info.request or {}).get("prompt")
    frames = float(seconds) * float(info.video.fps or 0)
    return Video(
        path=path,
        suffix=suffix,
        prompt=prompt if isinstance(prompt, str) and prompt.strip() else None,
        loudness_lufs=loudness,
        decoded_bytes=int(frames * info.video.width * info.video.height * 3),
        seconds=float(seconds),
    )


def copy_blind(source: Path, target: Path) -> None:
    """Copy the video and audio streams of a file packet by packet; nothing else of the file comes along.

    Tags, chapters, further streams, names of tracks and the notes that encoders leave inside H.264 are gone. Times,
    edit lists and priming stay: the copy plays the same frames and samples at the same moments.

    Args:
        source: The video.
        target: The copy; its suffix, ``.mp4`` or ``.webm``, is the container.

    Raises:
        MediaError: If the video is damaged or cut short, the copy cannot be written, or differs in its times.
    """
    try:
        with open_container(source) as container:
            info = media_info(container, source)
            _copy_streams(container, info, target)
        _check_times(info, probe(target), source)
    except BaseException:
        with suppress(OSError):
            target.unlink(missing_ok=True)
        raise


def same_times(path: Path) -> None:
    """Give a file a date that says nothing: dates would tell in which order the videos were copied."""
    os.utime(path, (_NO_DATE_S, _NO_DATE_S))


def volumes(left_lufs: float | None, right_lufs: float | None) -> tuple[float, float]:
    """Factors, at most 1, that make two videos equally loud; players can only turn down.

    Args:
        left_lufs: Loudness of the video on the left; None if it has none to state.
        right_lufs: Loudness of the other.
    """
    if left_lufs is None or right_lufs is None:
        return 1.0, 1.0
    target = max(min(left_lufs, right_lufs), QUIETEST_TARGET_LUFS)
    left, right = (round(min(1.0, 10.0 ** ((target - lufs) / 20.0)), 3) for lufs in (left_lufs, right_lufs))
    return left, right


def _played_suffix(info: MediaInfo, *, needs_audio: bool) -> str:
    video, audio = info.video, info.audio
    assert video is not None, "checked before"
    if audio is None and needs_audio:
        raise MediaError(f"{info.path} has no audio stream.", "Silent videos can be judged with --mode picture only.")
    if video.pixel_format not in _PLAYED_PIXELS:
        raise MediaError(
            f"{info.path} has pixels of the kind {video.pixel_format}, which not every browser plays.",
            "Convert its picture to yuv420p first.",
        )
    for suffix, (pictures, sounds) in _PLAYED.items():
        if video.codec in pictures and (audio is None or audio.codec in sounds):
            return suffix
    codecs = video.codec + ("" if audio is None else f" with {audio.codec}")
    raise MediaError(
        f"{info.path} holds {codecs}, which browsers do not play.", "Convert it to H.264 with AAC, or VP9 with Opus."
    )


def _copy_streams(container: InputContainer, info: MediaInfo, target: Path) -> None:
    """Copy every packet of video and audio, and the end of what the filters still hold."""
    # bitexact: no version of the writer and no random identifiers in the file
    options = {"fflags": "+bitexact"}
    if target.suffix == ".mp4":
        options["movflags"] = "+faststart"
        if info.audio is not None:
            # edit lists count in this unit: with the sample rate they end on the exact sample
            options["movie_timescale"] = str(info.audio.sample_rate)
    with _writing(target):
        output = av.open(str(target.resolve()), "w", format=target.suffix[1:], options=options)
    try:
        copies: dict[int, tuple[Stream, BitStreamFilterContext | None]] = {}
        for stream in (video_stream(container), audio_stream(container)):
            if stream is not None:
                with _writing(target):
                    copy: Stream = output.add_stream_from_template(stream)
                is_h264 = stream.codec_context.name == "h264"
                copies[stream.index] = copy, BitStreamFilterContext(_WITHOUT_NOTES, stream, copy) if is_h264 else None
        end_s = Fraction(0)
        for packet in container.demux([stream for stream in container.streams if stream.index in copies]):
            if packet.dts is None:  # the demuxer ends with an empty packet for each stream
                continue
            if packet.pts is not None and packet.time_base is not None:
                end_s = max(end_s, (packet.pts + (packet.duration or 0)) * packet.time_base)
            copy, notes = copies[packet.stream.index]
            _mux([packet] if notes is None else notes.filter(packet), output, copy, target)
        if info.duration_s is not None and end_s < info.duration_s - Fraction(1, 4):
            raise MediaError(
                f"{info.path} is cut short: it ends at {float(end_s):.2f} s of {float(info.duration_s):.2f} s.",
                "The download or the recording may be incomplete.",
            )
        for copy, notes in copies.values():
            if notes is not None:
                _mux(notes.filter(None), output, copy, target)
        with _writing(target):
            output.close()
    finally:
        with suppress(av.error.FFmpegError, OSError):
            output.close()


def _mux(packets: list[Packet[Stream]], output: OutputContainer, copy: Stream, target: Path) -> None:
    with _writing(target):
        for packet in packets:
            packet.stream = copy
            output.mux(packet)


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise MediaError(f"cannot write {target}: {reason(error)}.") from error


def _check_times(before: MediaInfo, after: MediaInfo, source: Path) -> None:
    for name in ("video", "audio"):
        old, new = getattr(before, name), getattr(after, name)
        for what in ("start_s", "duration_s"):
            was = None if old is None else cast("Fraction | None", getattr(old, what))
            now = None if new is None else cast("Fraction | None", getattr(new, what))
            if was is not None and now is not None and abs(was - now) > _ROUNDING_S:
                raise MediaError(
                    f"{source} cannot be copied in step: the {what.removesuffix('_s')} of its {name} would move from "
                    f"{float(was):.4f} s to {float(now):.4f} s.",
                    "Encode it again with mova, or with any encoder that starts video and audio at 0 s.",
                )


_NAMED_AT_MOST = 5


def videos_of_systems(folders: Sequence[Path]) -> dict[str, dict[str, Path]]:
    """Videos by system and stem; every system has the same stems.

    Args:
        folders: One for each system; its name is the system's, or its path where two have the same name.

    Raises:
        RequestError: If there are not two, or they do not fit together.
        MediaError: If a folder cannot be read.
    """
    if len(folders) < 2:
        raise RequestError(f"an arena needs the folders of two systems; got {len(folders)}.", "Give two or more folders.")
    real = [folder.resolve() for folder in folders]
    names = [path.name for path in real]
    listed: dict[str, dict[str, Path]] = {}
    for number, folder in enumerate(folders):
        if real[number] in real[:number]:
            raise RequestError(f"the folder {folder} is given twice.", "Give each system once.")
        system = str(folder) if names.count(names[number]) > 1 or not names[number] else names[number]
        if not system.isprintable() or len(system) > 200:
            raise RequestError(f"{system!r} cannot be the name of a system.", "Rename the folder.")
        listed[system] = list_videos(folder)
    every = set().union(*listed.values())
    lacking = {system: sorted(every - set(videos)) for system, videos in listed.items() if every - set(videos)}
    if lacking:
        named = "; ".join(f"{system} lacks {_few(names)}" for system, names in lacking.items())
        raise RequestError(
            f"the systems do not have videos of the same names: {named}.", "Make these, or move the others aside."
        )
    return listed


def inspect_videos(
    paths: Mapping[tuple[str, str], Path], modes: Sequence[Mode], *, on_video: Callable[[], None]
) -> dict[tuple[str, str], Video]:
    """All videos by system and stem; all that cannot be judged are reported at once.

    Args:
        paths: By system and stem.
        modes: What raters may judge.
        on_video: Called after each.

    Raises:
        MediaError: If videos cannot be judged; names the first few of them.
    """
    videos, faults = {}, []
    for place, path in paths.items():
        try:
            videos[place] = inspect_video(path, needs_audio=any(mode != "picture" for mode in modes))
        except MediaError as fault:
            faults.append(fault)
        on_video()
    if len(faults) == 1:
        raise faults[0]
    if faults:
        named = " ".join(fault.message for fault in faults[:_NAMED_AT_MOST])
        more = f" And {len(faults) - _NAMED_AT_MOST} more." if len(faults) > _NAMED_AT_MOST else ""
        raise MediaError(f"{len(faults)} videos cannot be judged: {named}{more}", faults[0].hint)
    return videos


def collect_prompts(videos: Mapping[tuple[str, str], Video]) -> dict[str, str]:
    """What is shown over each pair: the prompt that its videos carry, or else their stem.

    Raises:
        RequestError: If two videos of a name were made from different prompts.
    """
    found: dict[str, dict[str, Path]] = {name: {} for _, name in videos}
    for (_, name), video in videos.items():
        if video.prompt is not None:
            found[name].setdefault(video.prompt, video.path)
    for prompts in found.values():
        if len(prompts) > 1:
            (first, first_path), (second, second_path) = list(prompts.items())[:2]
            raise RequestError(
                f"{first_path} and {second_path} were made from different prompts: {first[:100]!r} and {second[:100]!r}.",
                "Videos of the same name must be made from the same prompt.",
            )
    return {name: next(iter(prompts), name) for name, prompts in found.items()}


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
    return ", ".join(names[:_NAMED_AT_MOST]) + more
