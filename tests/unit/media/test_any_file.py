"""Files of other programs, of every kind that plays everywhere: what is read of them, to the right value."""

from __future__ import annotations

import gc
import struct
from collections.abc import Callable
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from dying import die_of
from PIL import Image

from mova.errors import MediaError
from mova.media import worker
from mova.media.decode import AudioStream, FrameStream, read_clip, read_frames, read_waveform
from mova.media.frames import Limits, decode_frames
from mova.media.health.files import check_file
from mova.media.probe import probe
from mova.media.remux.track import read_video_track

RATE = 48_000
CLICKS_S = (0.2, 0.7, 1.3)


def click_track(seconds: float = 2.0, *, channels: int = 1, rate: int = RATE) -> np.ndarray:
    """Silence with short bursts at known times: ``[channels, samples]``."""
    wave = np.zeros((channels, round(seconds * rate)), np.float32)
    burst = np.sin(np.arange(round(0.004 * rate)) * 2 * np.pi * 1500 / rate).astype(np.float32) * 0.8
    for time_s in CLICKS_S:
        first = round(time_s * rate)
        wave[:, first : first + burst.size] = burst
    return wave


def clicks_in(waveform: np.ndarray, rate: int) -> list[float]:
    """Starts of the bursts in seconds."""
    loud = np.flatnonzero(np.abs(waveform).max(axis=0) > 0.25)
    return [loud[0] / rate, *(loud[index + 1] / rate for index in np.flatnonzero(np.diff(loud) > 0.1 * rate))]


def layout_of(channels: int) -> str:
    return {1: "mono", 2: "stereo"}.get(channels, f"{channels} channels")


def write_audio(
    path: Path,
    wave: np.ndarray,
    codec: str,
    *,
    sample_format: str = "fltp",
    layout: str | None = None,
    rate: int = RATE,
    container_format: str | None = None,
    block: int = 1024,
    bit_rate: int | None = None,
) -> Path:
    """Audio alone, in any codec and container."""
    layout = layout or layout_of(len(wave))
    with av.open(path, "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        stream.codec_context.format = sample_format
        if bit_rate:
            stream.codec_context.bit_rate = bit_rate
        for frame in audio_frames(wave, sample_format, layout, rate, block):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def audio_frames(wave: np.ndarray, sample_format: str, layout: str, rate: int, block: int):
    for first in range(0, wave.shape[1], block):
        part = wave[:, first : first + block]
        if sample_format.startswith("s16"):
            part = np.rint(part * 32767).astype(np.int16)
        elif sample_format.startswith("s32"):
            part = np.rint(part * 2**30).astype(np.int32)
        if not sample_format.endswith("p"):
            part = np.ascontiguousarray(part.T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), format=sample_format, layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, first, Fraction(1, rate)
        yield frame


def grey(index: int) -> int:
    return 20 + 5 * index % 200


def write_frames(
    path: Path,
    times: list[int],
    *,
    time_base: Fraction = Fraction(1, 1000),
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    pixel_format: str = "yuv420p",
    size: tuple[int, int] = (64, 48),
    container_format: str | None = None,
    container_options: dict[str, str] | None = None,
    draw: Callable[[int], np.ndarray] | None = None,
    drawn_format: str = "rgb24",
    prepare: Callable[[av.VideoStream], None] | None = None,
    wave: np.ndarray | None = None,
    audio_codec: str = "aac",
    rate: int = 25,
) -> Path:
    """Video of grey frames at any times, each of its own level, with audio if there is any."""
    with av.open(path, "w", format=container_format, options=container_options or {}) as container:
        video = container.add_stream(codec, rate=rate, options=options or {})
        video.width, video.height, video.pix_fmt = *size, pixel_format
        video.time_base = video.codec_context.time_base = time_base
        if prepare is not None:
            prepare(video)
        audio = None if wave is None else container.add_stream(audio_codec, rate=RATE, layout=layout_of(len(wave)))
        for index, time in enumerate(times):
            pixels = np.full((size[1], size[0], 3), grey(index), np.uint8) if draw is None else draw(index)
            frame = convert(pixels, drawn_format, pixel_format)
            frame.pts, frame.time_base = time, time_base
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None and wave is not None:
            sample_format = audio.codec_context.format.name
            for block in audio_frames(wave, sample_format, layout_of(len(wave)), RATE, 1024):
                container.mux(audio.encode(block))
            container.mux(audio.encode(None))
    return path


def convert(pixels: np.ndarray, drawn_format: str, pixel_format: str) -> av.VideoFrame:
    """A frame of another format. FFmpeg's conversion leaves memory as it was in rows of up to eight pixels: those are cut from
    wider ones.
    """
    height, width = pixels.shape[:2]
    wide = np.pad(pixels, ((0, 0), (0, 32 - width), (0, 0)), "edge") if width < 16 else pixels
    frame = av.VideoFrame.from_ndarray(wide, format=drawn_format).reformat(format=pixel_format)
    if width >= 16:
        return frame
    narrow = av.VideoFrame(width, height, pixel_format)
    for source, target in zip(frame.planes, narrow.planes, strict=True):
        rows = np.frombuffer(source, np.uint8).reshape(source.height, source.line_size)[:, : target.line_size]
        target.update(np.ascontiguousarray(np.pad(rows, ((0, 0), (0, target.line_size - rows.shape[1])))).tobytes())
    return narrow


def levels(frames: np.ndarray) -> list[int]:
    """Index of each grey frame."""
    means = frames.mean(axis=(1, 2, 3))
    return [int(np.abs(np.array([grey(index) for index in range(40)]) - mean).argmin()) for mean in means]


def remux(source: Path, target: Path, change: Callable[[av.Packet, int], bool], **options: object) -> Path:
    """Copy packets; ``change`` may alter each, by its number in its stream, and says whether it is kept."""
    with av.open(source) as given, av.open(target, "w", **options) as copy:  # type: ignore[call-overload]
        streams = {stream.index: copy.add_stream_from_template(stream) for stream in given.streams}
        counts = dict.fromkeys(streams, 0)
        for packet in given.demux():
            index = packet.stream.index
            if not packet.size:
                continue
            counts[index] += 1
            if change(packet, counts[index] - 1):
                packet.stream = streams[index]
                copy.mux(packet)
    return target


# --- audio: containers, codecs, layouts ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codec", "sample_format", "late_s"),
    [
        ("a.wv", "wavpack", "fltp", 0.0),
        ("a.au", "pcm_s16be", "s16", 0.0),
        ("a.ac3", "ac3", "fltp", 0.006),
        ("a.eac3", "eac3", "fltp", 0.006),
        ("a.dts", "dca", "s32", 0.011),
        ("a.flac", "flac", "s16", 0.0),
        ("a.aiff", "pcm_s16be", "s16", 0.0),
        ("a.caf", "pcm_s16le", "s16", 0.0),
        ("a.w64", "pcm_s16le", "s16", 0.0),
        ("a.ogg", "libvorbis", "fltp", 0.0),
        ("a.opus", "libopus", "flt", 0.0),
        ("a.ogg", "flac", "s16", 0.0),
        ("a.m4a", "aac", "fltp", 0.0),
        ("a.m4a", "alac", "s16p", 0.0),
        ("a.mp3", "libmp3lame", "fltp", 0.0),
        ("a.wma", "wmav2", "fltp", 0.045),
        ("a.tta", "tta", "s16", 0.0),
        ("a.mka", "pcm_f32le", "flt", 0.0),
        ("a.ts", "mp2", "s16", 0.011),
    ],
)
def test_audio_of_any_container_is_read_whole(name: str, codec: str, sample_format: str, late_s: float, tmp_path: Path) -> None:
    """``late_s``: delay of a codec whose container has no place to state it."""
    options = {"bit_rate": 768_000} if codec == "dca" else {}
    try:
        path = write_audio(
            tmp_path / name,
            click_track(channels=2),
            codec,
            sample_format=sample_format,
            **options,  # type: ignore[arg-type]
        )
    except (ValueError, av.error.FFmpegError) as error:
        pytest.skip(f"PyAV cannot write it here: {error}")
    audio = read_waveform(path)
    assert audio.waveform.shape[0] == 2
    assert audio.waveform.shape[1] / audio.sample_rate == pytest.approx(2.0, abs=0.065)
    found = clicks_in(audio.waveform, audio.sample_rate)
    assert found == pytest.approx([time_s + late_s for time_s in CLICKS_S], abs=0.004)
    assert audio.repairs == ()
    assert "video" not in check_file(path).looked_at


@pytest.mark.parametrize("suffix", [".mov", ".caf", ".wav", ".mkv", ".flac"])
@pytest.mark.parametrize("layout", ["3.0", "quad", "5.0", "5.1", "6.1", "7.1", "7.1(wide)", "2.1", "3.1", "hexagonal", "7.1.4"])
def test_no_layout_of_channels_ends_the_process(layout: str, suffix: str, tmp_path: Path) -> None:
    channels = av.AudioLayout(layout).nb_channels
    codec, sample_format = ("flac", "s16") if suffix == ".flac" else ("pcm_s16le", "s16")
    wave = click_track(1.5, channels=channels, rate=16_000)
    wave *= np.arange(1, channels + 1, dtype=np.float32)[:, None] / channels
    try:
        path = write_audio(tmp_path / f"a{suffix}", wave, codec, sample_format=sample_format, layout=layout, rate=16_000)
    except (ValueError, av.error.FFmpegError) as error:
        pytest.skip(f"PyAV cannot write it here: {error}")
    assert probe(path).audio.channels == channels
    audio = read_waveform(path)
    assert audio.waveform.shape == wave.shape
    assert np.abs(audio.waveform - wave).max() < 1e-3
    assert "silence" not in {fault.kind for fault in check_file(path).faults if "channel" in fault.message}


@pytest.mark.parametrize("silent", [3, 4, 0])
def test_a_channel_that_a_surround_mix_does_not_use_is_no_fault(silent: int, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (6, RATE)).astype(np.float32)
    noise[silent] = 0
    assert check_file(write_audio(tmp_path / "a.wav", noise, "pcm_s16le", sample_format="s16", layout="5.1")).faults == ()
    stereo = write_audio(tmp_path / "b.wav", noise[[silent, 1]], "pcm_s16le", sample_format="s16")
    assert [fault.kind for fault in check_file(stereo).faults] == ["silence"]
    dead = write_audio(tmp_path / "c.wav", 0 * noise, "pcm_s16le", sample_format="s16", layout="5.1")
    assert [fault.kind for fault in check_file(dead).faults] == ["silence"]


# --- audio: its clock ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("jitter_ms", [5, 9])
@pytest.mark.parametrize("suffix", [".mkv", ".flv"])
def test_timestamps_that_jitter_are_no_holes(jitter_ms: int, suffix: str, tmp_path: Path) -> None:
    source = write_audio(tmp_path / f"a{suffix}", click_track(), "aac")

    def shake(packet: av.Packet, index: int) -> bool:
        packet.pts += jitter_ms * (index % 2) * round(Fraction(1, 1000) / packet.time_base)
        packet.dts = packet.pts
        return True

    audio = read_waveform(remux(source, tmp_path / f"b{suffix}", shake))
    assert audio.repairs == ()
    assert audio.waveform.shape == read_waveform(source).waveform.shape


@pytest.mark.parametrize(
    ("codec", "suffix"), [("aac", ".mkv"), ("libopus", ".mkv"), ("libmp3lame", ".mkv"), ("aac", ".ts"), ("flac", ".mkv")]
)
@pytest.mark.parametrize("lost", [1, 3])
def test_lost_packets_are_silence_and_what_follows_stays_in_step(codec: str, suffix: str, lost: int, tmp_path: Path) -> None:
    sample_format = {"libopus": "flt", "flac": "s16"}.get(codec, "fltp")
    source = write_audio(tmp_path / f"a{suffix}", click_track(), codec, sample_format=sample_format)
    first, lost = (9, 1) if codec == "flac" else (18, lost)
    path = remux(source, tmp_path / f"b{suffix}", lambda packet, index: not first <= index < first + lost)
    whole, audio = read_waveform(source), read_waveform(path)
    assert abs(audio.waveform.shape[1] - whole.waveform.shape[1]) <= 2 * RATE / 1000
    assert clicks_in(audio.waveform, RATE) == pytest.approx(clicks_in(whole.waveform, RATE), abs=0.003)
    assert len(audio.repairs) == 1 and audio.repairs[0].startswith("1 gap of "), audio.repairs
    milliseconds = int(audio.repairs[0].split()[3])
    packet_ms = {"libopus": 20, "libmp3lame": 24, "flac": 96}.get(codec, 21.3)
    assert milliseconds == pytest.approx(lost * packet_ms, abs=3)
    assert check_file(path).as_dict()["repaired"] == list(audio.repairs)


def test_a_long_hole_is_refused_in_a_clip_and_measured_all_the_same(tmp_path: Path) -> None:
    source = write_audio(tmp_path / "a.mkv", click_track(), "aac")
    path = remux(source, tmp_path / "b.mkv", lambda packet, index: not 38 <= index < 58)
    with pytest.raises(MediaError, match=r"has a gap of 0\.42\d s at 0\.7"):
        read_waveform(path)
    audio = AudioStream(path, purpose="measure")
    assert clicks_in(audio.read(), RATE) == pytest.approx(CLICKS_S, abs=0.003)
    assert audio.repairs[0].startswith("1 gap of 42")


def test_packets_that_come_twice_are_played_once(tmp_path: Path) -> None:
    source = write_audio(tmp_path / "a.mkv", click_track(), "pcm_s16le", sample_format="s16")

    def repeat(packet: av.Packet, index: int) -> bool:
        if index >= 40:
            packet.pts -= 15  # of 21 ms that a block lasts
            packet.dts = packet.pts
        return True

    audio = read_waveform(remux(source, tmp_path / "b.mkv", repeat))
    assert audio.waveform.shape[1] == pytest.approx(2 * RATE - 0.015 * RATE, abs=60)
    assert audio.repairs == ("1 overlap of 15 ms in the audio left out",)


def test_a_damaged_packet_is_passed_over_and_said(tmp_path: Path) -> None:
    source = write_audio(tmp_path / "a.mkv", click_track(), "flac", sample_format="s16")
    data = bytearray(source.read_bytes())
    place = len(data) // 2
    data[place : place + 40] = bytes(40)
    (tmp_path / "b.mkv").write_bytes(data)
    audio = read_waveform(tmp_path / "b.mkv")
    assert audio.waveform.shape[1] == pytest.approx(2 * RATE, abs=5000)
    assert audio.repairs


# --- video: its clock ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".webm"])
def test_a_dropped_frame_is_held_and_all_others_stay_on_their_ticks(suffix: str, tmp_path: Path) -> None:
    times = [40 * index for index in range(30) if index != 11]
    codec = "libvpx" if suffix == ".webm" else "libx264"
    video = read_frames(write_frames(tmp_path / f"a{suffix}", times, codec=codec))
    assert video.fps == 25
    assert levels(video.frames) == [*range(11), 10, *range(11, 29)]
    assert "variable frame rate" in video.repairs[0]


def test_a_screen_recording_with_frames_only_where_something_changes_is_read_on_its_own_grid(tmp_path: Path) -> None:
    times = [0, 600, 720, 1160, 1280, 2080]
    video = read_frames(write_frames(tmp_path / "a.mp4", times))
    assert video.fps == 25
    held = np.diff(np.flatnonzero(np.diff(levels(video.frames), prepend=-1)))
    assert held.tolist() == [15, 3, 11, 3, 20]


def test_times_that_jitter_are_read_to_the_nearest_tick(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    times = sorted({round(1000 * index / 30 + rng.uniform(-15, 15)) + 20 for index in range(60)})
    video = read_frames(write_frames(tmp_path / "a.mkv", times, rate=30))
    shown_s = [levels(video.frames).index(index) / float(video.fps) for index in range(0, 30, 7)]
    assert shown_s == pytest.approx([(times[index] - times[0]) / 1000 for index in range(0, 30, 7)], abs=0.6 / 30)


def test_a_rate_that_changes_half_way_keeps_both_halves_in_time(tmp_path: Path) -> None:
    times = [*range(0, 1000, 40), *range(1000, 2000, 20)]
    video = read_frames(write_frames(tmp_path / "a.mkv", times[:36]))
    assert video.fps == 50
    assert levels(video.frames)[:50:2] == list(range(25))


def test_a_variable_rate_is_no_fault_and_keeps_video_and_audio_together(tmp_path: Path) -> None:
    times = [40 * index for index in range(50) if index % 9]
    path = write_frames(tmp_path / "a.mp4", [time - times[0] for time in times], wave=click_track())
    clip = read_clip(path)
    assert clip.fps == 25 and clip.num_frames in (49, 50)
    assert clicks_in(clip.waveform, RATE) == pytest.approx(CLICKS_S, abs=0.002)
    assert clip.repairs


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_an_avi_with_b_frames_is_read_in_order(codec: str, tmp_path: Path) -> None:
    options = {"bf": "2", "b": "4M"}
    path = write_frames(tmp_path / "a.avi", list(range(30)), codec=codec, options=options, time_base=Fraction(1, 25))
    video = read_frames(path)
    assert video.fps == 25
    assert levels(video.frames) == list(range(30))


def test_a_fragmented_mp4_is_read_whole(tmp_path: Path) -> None:
    for name, flags in (
        ("a.mp4", "frag_keyframe+empty_moov"),
        ("b.mp4", "frag_keyframe+empty_moov+default_base_moof"),
        ("c.mp4", "dash+delay_moov"),
    ):
        path = write_frames(
            tmp_path / name, [40 * index for index in range(30)], wave=click_track(1.5), container_options={"movflags": flags},
            options={"g": "8"},
        )  # fmt: skip
        assert levels(read_frames(path).frames) == list(range(30)), flags
        audio, video = AudioStream(path), FrameStream(path)
        start_s = float(audio.start_s - video.start_s)
        assert [start_s + one for one in clicks_in(audio.read(), RATE)] == pytest.approx(CLICKS_S, abs=0.025), flags
        check_file(path)


def test_a_transport_stream_cut_between_key_frames_begins_with_what_can_be_decoded(tmp_path: Path) -> None:
    whole = write_frames(
        tmp_path / "a.ts", [40 * index for index in range(40)], options={"g": "10", "bf": "0", "sc_threshold": "0"},
        wave=click_track(1.6),
    )  # fmt: skip
    data = whole.read_bytes()
    packets = [data[place : place + 188] for place in range(0, len(data), 188)]
    (tmp_path / "b.ts").write_bytes(b"".join(packets[:2] + packets[len(packets) // 5 :]))
    video = FrameStream(tmp_path / "b.ts")
    first, *_ = levels(np.stack(list(video)))
    assert first % 10 == 0 and 0 < first < 30
    assert float(video.start_s) - float(FrameStream(whole).start_s) == pytest.approx(first / 25, abs=0.001)
    check_file(tmp_path / "b.ts")


def test_raw_streams_and_yuv4mpeg_are_read_at_their_rate(tmp_path: Path) -> None:
    planes = b"".join(b"FRAME\n" + bytes([16 + 10 * index]) * (64 * 48) + bytes([128]) * (64 * 48 // 2) for index in range(10))
    (tmp_path / "a.y4m").write_bytes(b"YUV4MPEG2 W64 H48 F24:1 Ip A1:1 C420jpeg\n" + planes)
    video = read_frames(tmp_path / "a.y4m")
    assert (video.fps, video.frames.shape) == (24, (10, 48, 64, 3))
    assert np.diff(video.frames.mean(axis=(1, 2, 3))) == pytest.approx([10 * 255 / 219] * 9, abs=2)
    for name, codec in (("a.h264", "libx264"), ("a.m4v", "mpeg4"), ("a.ivf", "libvpx-vp9"), ("a.nut", "ffv1")):
        path = write_frames(tmp_path / name, list(range(12)), codec=codec, time_base=Fraction(1, 25))
        assert levels(read_frames(path).frames) == list(range(12)), name


# --- video: what a player shows -----------------------------------------------------------------------------


def marked(index: int) -> np.ndarray:
    """A frame without any symmetry: ``[48, 64, 3]``."""
    pixels = np.full((48, 64, 3), 60, np.uint8)
    pixels[:16, :16] = (230, 230, 230)
    pixels[:16, 48:] = (30, 160, 30)
    return pixels


TURNS: dict[tuple[int, int, int, int], Callable[[np.ndarray], np.ndarray]] = {
    (1, 0, 0, 1): lambda a: a,
    (-1, 0, 0, 1): lambda a: a[:, ::-1],
    (1, 0, 0, -1): lambda a: a[::-1],
    (-1, 0, 0, -1): lambda a: a[::-1, ::-1],
    (0, 1, -1, 0): lambda a: np.rot90(a, -1),
    (0, -1, 1, 0): lambda a: np.rot90(a, 1),
    (0, 1, 1, 0): lambda a: a.transpose(1, 0, 2),
    (0, -1, -1, 0): lambda a: np.rot90(a, 2).transpose(1, 0, 2),
}


def set_matrix(path: Path, a: float, b: float, c: float, d: float) -> Path:
    """Write a display matrix into the track header (ISO/IEC 14496-12, 8.3.2)."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    values = (a, b, 0, c, d, 0, 0, 0, 16_384)
    data[place : place + 36] = struct.pack(">9i", *(round(65_536 * value) for value in values))
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("matrix", TURNS)
def test_each_of_the_eight_display_matrices_is_shown_as_a_player_shows_it(
    matrix: tuple[int, int, int, int], tmp_path: Path
) -> None:
    path = set_matrix(write_frames(tmp_path / "a.mp4", [0, 40, 80], draw=marked, options={"crf": "1"}), *matrix)
    expected = TURNS[matrix](marked(0)).astype(int)
    frames = read_frames(path).frames
    assert frames.shape[1:] == expected.shape
    assert np.abs(frames[0].astype(int) - expected).mean() < 6


@pytest.mark.parametrize("degrees", [45, 30, 10, 91])
def test_a_turn_by_another_angle_is_refused_in_a_clip_and_left_out_where_time_is_measured(degrees: int, tmp_path: Path) -> None:
    sine, cosine = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
    path = set_matrix(write_frames(tmp_path / "a.mp4", [0, 40, 80], draw=marked), cosine, sine, -sine, cosine)
    with pytest.raises(MediaError, match="no quarter turn"):
        read_frames(path)
    assert any("quarter turn" in line for line in check_file(path).repairs)


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("a.mov", "png", "rgba"),
        ("a.mov", "qtrle", "argb"),
        ("a.mov", "prores_ks", "yuva444p10le"),
        ("a.mkv", "ffv1", "yuva420p"),
        ("a.mkv", "ffv1", "bgra"),
        ("a.webm", "libvpx", "yuva420p"),
        ("a.webm", "libvpx-vp9", "yuva420p"),
        ("a.apng", "apng", "rgba"),
    ],
)
def test_transparent_parts_of_a_video_are_black_whatever_colour_is_hidden_there(
    name: str, codec: str, pixel_format: str, tmp_path: Path
) -> None:
    def draw(index: int) -> np.ndarray:
        pixels = np.full((48, 64, 4), (0, 255, 0, 0), np.uint8)
        pixels[:, 32:] = (200, 60, 60, 255)
        pixels[24:, 32:, 3] = 128
        return pixels

    path = write_frames(
        tmp_path / name, [0, 40, 80], codec=codec, pixel_format=pixel_format, draw=draw, drawn_format="rgba",
        options={"auto-alt-ref": "0", "crf": "10", "b": "500k"} if "vpx" in codec else None,
    )  # fmt: skip
    video = read_frames(path)
    assert video.frames[0, 12, 12].max() < 12
    assert np.abs(video.frames[0, 12, 52].astype(int) - (200, 60, 60)).max() < 25
    assert np.abs(video.frames[0, 40, 52].astype(int) - (100, 30, 30)).max() < 25
    assert video.repairs == ("transparent parts shown on black",)


def test_an_animated_gif_with_transparent_parts_and_one_with_a_single_frame_are_read(tmp_path: Path) -> None:
    images = [Image.new("RGBA", (32, 32), (0, 255, 0, 0)) for _ in range(3)]
    for index, image in enumerate(images):
        image.paste((200, 40, 40, 255), (8 * index, 8, 8 * index + 8, 16))
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=100, disposal=2)
    video = read_frames(tmp_path / "a.gif")
    assert (len(video.frames), video.fps) == (3, 10)
    assert video.frames[0, 24, 24].max() == 0
    images[0].save(tmp_path / "b.gif")
    assert read_frames(tmp_path / "b.gif").frames.shape == (1, 32, 32, 3)
    check_file(tmp_path / "b.gif")
    Image.new("RGB", (33, 31), (9, 9, 9)).save(tmp_path / "c.gif", duration=500)
    assert read_frames(tmp_path / "c.gif").frames.shape == (1, 31, 33, 3)


@pytest.mark.parametrize("pixel_format", ["yuv420p10le", "yuv422p", "yuv444p", "yuv444p10le", "yuv422p10le", "gray"])
@pytest.mark.parametrize("size", [(64, 48), (63, 47), (4, 6)])
def test_every_depth_and_sampling_keeps_its_greys(pixel_format: str, size: tuple[int, int], tmp_path: Path) -> None:
    path = write_frames(
        tmp_path / "a.mkv", [40 * index for index in range(5)], codec="ffv1", pixel_format=pixel_format, size=size
    )
    frames = read_frames(path).frames
    assert frames.shape == (5, size[1], size[0], 3)
    assert np.abs(frames.mean(axis=(1, 2, 3)) - [grey(index) for index in range(5)]).max() < 3


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_and_pixels_that_are_not_square_are_read_where_only_time_is_measured(transfer: int, tmp_path: Path) -> None:
    def prepare(stream: av.VideoStream) -> None:
        stream.codec_context.color_trc = transfer
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)

    path = write_frames(tmp_path / "a.mp4", [40 * index for index in range(10)], prepare=prepare)
    with pytest.raises(MediaError, match="high dynamic range"):
        read_frames(path)
    video = FrameStream(path, purpose="measure")
    assert levels(np.stack(list(video)))[-1] > 5
    assert any("high dynamic range" in line for line in video.repairs)
    assert any("square" in line for line in video.repairs)


# --- what is refused, in the right words --------------------------------------------------------------------


def test_what_is_no_video_or_audio_is_not_called_damaged(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "b.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n", encoding="utf-8")
    for name in ("a.png", "b.srt"):
        with pytest.raises(MediaError, match="not read") as caught:
            probe(tmp_path / name)
        assert "damaged" not in str(caught.value), name


def test_a_file_with_many_undecodable_packets_is_called_damaged(tmp_path: Path) -> None:
    source = write_audio(tmp_path / "a.mkv", click_track(), "aac")
    data = bytearray(source.read_bytes())
    for place in range(len(data) // 6, len(data) - 60, 60):
        data[place : place + 20] = bytes(20)
    (tmp_path / "b.mkv").write_bytes(data)
    with pytest.raises(MediaError, match=r"b\.mkv"):
        read_waveform(tmp_path / "b.mkv")


# --- decoders that die --------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 3])
def test_a_decoder_that_dies_is_an_error_that_names_the_file_and_the_next_file_is_read(
    after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setattr(worker, "_idle", [])
    run = worker.isolate_parts(die_of)
    parts = run("bad.mp4", after=after)
    assert list(islice(parts, after)) == list(range(after))
    with pytest.raises(MediaError, match=r"bad\.mp4 cannot be read: its decoder crashed \(SIGSEGV\)"):
        next(parts)
    assert list(run("good.mp4", after=after)) == list(range(after))
    # a process that was used before may have been damaged by another file: a new one is asked before a file is blamed
    with pytest.raises(MediaError, match="SIGSEGV"):
        list(run("bad.mp4", after=after))
    assert list(read_waveform(write_audio(tmp_path / "a.wav", click_track(), "pcm_s16le", sample_format="s16")).waveform.shape)


def test_one_helper_process_reads_file_after_file(make_clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_clip().save(tmp_path / "clip.mp4").path
    monkeypatch.setattr(worker, "_idle", [])
    for read in (probe, read_clip, read_frames, read_waveform, read_video_track, check_file, probe):
        read(path)
        (helper,) = worker._idle
    # read_clip reads the header, the frames and the audio, and so does the check
    assert (helper.num_files, helper.process.poll()) == (11, None)


def test_frames_that_were_given_away_do_not_stay_in_memory(make_clip, tmp_path: Path) -> None:
    path = make_clip(num_frames=150, fps=30).save(tmp_path / "clip.mp4").path
    gc.collect()
    gc.disable()  # left to itself the collector may come late: large frames would fill the memory until then
    try:
        for _ in decode_frames.__wrapped__(path, Limits(60.0, 10**6)):  # type: ignore[attr-defined]
            pass
        # asked by type: to ask a weak proxy of what it is fails where that is gone
        assert sum(type(one) is av.VideoFrame for one in gc.get_objects()) <= 2
    finally:
        gc.enable()


def divide_by_zero(path: str) -> float:
    return 1 / 0


def test_a_fault_in_the_helper_process_names_the_file_and_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setattr(worker, "_idle", [])
    with pytest.raises(RuntimeError, match=r"^odd\.mp4 cannot be read: ZeroDivisionError: ") as fault:
        worker.isolate(divide_by_zero)("odd.mp4")
    assert "in divide_by_zero" in fault.value.__notes__[0]


def test_a_relative_name_is_read_in_the_folder_that_is_current_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("one", 1.5), ("two", 2.0)):
        (tmp_path / name).mkdir()
        write_audio(tmp_path / name / "a.wav", click_track(seconds), "pcm_s16le", sample_format="s16")
        monkeypatch.chdir(tmp_path / name)
        assert read_waveform("a.wav").waveform.shape[1] == round(seconds * RATE)
    with pytest.raises(MediaError, match=r"there is no file b\.wav"):
        probe("b.wav")
