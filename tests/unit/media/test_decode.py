from __future__ import annotations

import os
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mova.errors import MediaError
from mova.media.clip import Clip
from mova.media.decode import read_clip, read_frames, read_waveform
from mova.media.probe import probe
from mova.media.remux.track import read_video_track


def write_video(
    path: Path,
    *,
    times: list[int],
    time_base: Fraction = Fraction(1, 24),
    audio_s: tuple[float, float] | None = (0.0, 1.0),
    size: tuple[int, int] = (32, 32),
    rotation: int = 0,
    full_range_601: bool = False,
    aspect: Fraction | None = None,
    transfer: int | None = None,
    colour: tuple[int, int, int] = (200, 40, 90),
) -> Path:
    """A video as other programs write it: frames at any times, audio over any span, any tags."""
    frame_array = np.zeros((size[1], size[0], 3), np.uint8)
    frame_array[:] = colour
    frame_array[: size[1] // 2, : size[0] // 2] = 255
    with av.open(path, "w") as container:
        video = container.add_stream("libx264", rate=24, options={"crf": "5"})
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        video.time_base = video.codec_context.time_base = time_base
        if rotation:
            video.set_display_rotation(rotation)
        if aspect:
            video.codec_context.sample_aspect_ratio = aspect
        if transfer is not None:
            video.codec_context.color_trc = transfer
        matrix, levels = (1, 1)
        if full_range_601:
            matrix, levels = (5, 2)
            video.codec_context.colorspace, video.codec_context.color_range = matrix, levels
        codec = "pcm_s16le" if path.suffix == ".mkv" else "aac"
        audio = audio_s and container.add_stream(codec, rate=16_000, layout="mono")
        for time in times:
            frame = av.VideoFrame.from_ndarray(frame_array, format="rgb24").reformat(
                format="yuv420p", dst_colorspace=matrix, dst_color_range=levels, src_color_range=2
            )
            frame.pts, frame.time_base = time, time_base
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio_s and audio:
            start, end = (int(16_000 * second) for second in audio_s)
            ramp = (np.sin(np.arange(start, end) / 5) * 9000).astype(np.int16)
            for offset in range(0, end - start, 1024):
                part = ramp[None, offset : offset + 1024]
                if path.suffix != ".mkv":
                    block = av.AudioFrame.from_ndarray((part / 32768).astype(np.float32), "fltp", "mono")
                else:
                    block = av.AudioFrame.from_ndarray(part, "s16", "mono")
                block.sample_rate, block.pts, block.time_base = 16_000, start + offset, Fraction(1, 16_000)
                container.mux(audio.encode(block))
            container.mux(audio.encode(None))
    return path


def test_a_video_of_another_program_is_read_on_the_clock(tmp_path: Path) -> None:
    clip = read_clip(write_video(tmp_path / "video.mp4", times=list(range(24))))
    assert (clip.num_frames, clip.fps, clip.sample_rate) == (24, 24, 16_000)
    assert clip.waveform.shape == (1, 16_000)
    # the tone is a sine of known phase from sample 0: a shift by one sample would cost ten times this
    tone = np.sin(np.arange(16_000) / 5) * 9000 / 32768
    assert np.abs(clip.waveform[0, 500:-500] - tone[500:-500]).mean() < 0.005


def test_b_frames_are_put_in_order_of_time(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    with av.open(path, "w") as container:
        video = container.add_stream("libx264", rate=24, options={"bf": "3", "b-adapt": "0", "crf": "5"})
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        for level in range(0, 240, 10):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), level, np.uint8), format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    read = read_frames(path)
    assert np.abs(read.frames.mean(axis=(1, 2, 3)) - np.arange(0, 240, 10)).max() < 4


def test_num_frames_reads_the_start_of_video_and_audio(tmp_path: Path) -> None:
    path = write_video(tmp_path / "video.mp4", times=list(range(24)), audio_s=(0.0, 3.0))
    clip = read_clip(path, num_frames=10)
    assert (clip.num_frames, clip.waveform.shape[1]) == (10, 16_000 * 10 // 24)
    assert len(read_frames(path, num_frames=3).frames) == 3


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_audio_one_block_short_is_filled_with_silence(suffix: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / f"video{suffix}", times=list(range(24)), audio_s=(0.0, 0.95))
    clip = read_clip(path)
    assert clip.waveform.shape[1] == 16_000
    assert np.abs(clip.waveform[0, 15_200 + 64 :]).max() < 0.02
    assert np.abs(clip.waveform[0, 15_000:15_200]).max() > 0.1


@pytest.mark.parametrize(
    ("audio_s", "words", "hint"),
    [
        ((0.0, 0.5), "ends 0.500 s before the video", "num_frames"),
        ((0.0, 2.0), "goes on for 1.000 s after", "num_frames"),
        ((0.5, 1.0), "starts 0.500 s after the video", "with its first frame"),
        (None, "no audio", "read_frames"),
    ],
)
def test_audio_that_does_not_cover_the_video_is_refused_with_the_amount(
    audio_s: tuple[float, float] | None, words: str, hint: str, tmp_path: Path
) -> None:
    path = write_video(tmp_path / "video.mkv", times=list(range(24)), audio_s=audio_s)
    with pytest.raises(MediaError) as caught:
        read_clip(path)
    assert words in caught.value.message
    assert "video.mkv" in caught.value.message
    assert hint in caught.value.hint


def test_a_hole_in_the_audio_is_refused(tmp_path: Path) -> None:
    source = write_video(tmp_path / "video.mkv", times=list(range(48)), audio_s=(0.0, 2.0))
    path = tmp_path / "hole.mkv"
    with av.open(source) as container, av.open(path, "w") as target:
        streams = {stream: target.add_stream_from_template(stream) for stream in container.streams}
        for packet in container.demux():
            in_hole = packet.stream.type == "audio" and packet.pts is not None and 0.5 < packet.pts / 1000 < 1
            if packet.size and not in_hole:
                packet.stream = streams[packet.stream]
                target.mux(packet)
    with pytest.raises(MediaError, match=r"has a gap of 0\.\d+ s at 0\.5"):
        read_clip(path)


def test_a_video_turned_by_its_camera_is_read_upright(tmp_path: Path) -> None:
    read = read_frames(write_video(tmp_path / "video.mp4", times=[0, 1, 2], size=(48, 32), rotation=-90))
    assert read.frames.shape == (3, 48, 32, 3)
    # stored top left lies at the top right after a quarter turn clockwise
    assert read.frames[0, 8, 24].min() > 240
    assert read.frames[0, 8, 8].min() < 100


def test_a_video_in_the_bt601_matrix_and_full_range_keeps_its_colours(tmp_path: Path) -> None:
    read = read_frames(write_video(tmp_path / "video.mp4", times=[0, 1, 2], full_range_601=True))
    assert np.abs(read.frames[1, 24, 24].astype(int) - (200, 40, 90)).max() <= 5


@pytest.mark.parametrize(
    ("tags", "words"),
    [({"aspect": Fraction(4, 3)}, "not square"), ({"transfer": 16}, "PQ"), ({"transfer": 18}, "HLG")],
)
def test_a_video_that_would_be_displayed_wrong_is_refused(tags: dict[str, object], words: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / "video.mp4", times=[0, 1, 2], **tags)  # type: ignore[arg-type]
    with pytest.raises(MediaError, match=words):
        read_frames(path)


def test_limits_are_checked_before_decoding(tmp_path: Path) -> None:
    path = write_video(tmp_path / "video.mp4", times=list(range(24)))
    with pytest.raises(MediaError, match="32x32; frames of at most 1000 pixels"):
        read_clip(path, max_pixels=1000)
    with pytest.raises(MediaError, match=r"1\.00 s long; at most 0\.5 s"):
        read_clip(path, max_seconds=0.5)
    with pytest.raises(MediaError, match=r"at most 0\.5 s"):
        read_waveform(path, max_seconds=0.5)
    with pytest.raises(MediaError, match="num_frames must be at least 1"):
        read_clip(path, num_frames=0)
    with pytest.raises(MediaError, match="has 24 frames; 25 were requested"):
        read_frames(path, num_frames=25)


def test_a_header_that_lies_about_the_length_does_not_pass_the_limit(make_clip, tmp_path: Path) -> None:
    path = make_clip(num_frames=96, fps=24).save(tmp_path / "clip.mkv").path
    data = path.read_bytes()
    # Duration (0x4489) as an 8-byte float of milliseconds: 4000.0 becomes 1.0
    stated = bytes.fromhex("448988") + struct.pack(">d", 4000.0)
    assert data.count(stated) == 1
    path.write_bytes(data.replace(stated, stated[:3] + struct.pack(">d", 1.0)))
    assert probe(path).duration_s < 1
    for read in (read_clip, read_frames, read_waveform):
        with pytest.raises(MediaError, match=r"4.00 s long; at most 1.5 s|more audio than its header states"):
            read(path, max_seconds=1.5)


def test_a_header_with_an_impossible_time_scale_is_refused(make_clip, tmp_path: Path) -> None:
    path = make_clip().save(tmp_path / "clip.mp4").path
    data = bytearray(path.read_bytes())
    time_scale = data.index(b"mdhd") + 16
    data[time_scale : time_scale + 4] = bytes(4)
    path.write_bytes(data)
    for read in (read_clip, probe, read_video_track):
        with pytest.raises(MediaError, match="invalid rate"):
            read(path)


@pytest.mark.parametrize("part", [0.3, 0.7, 0.95])
def test_a_truncated_video_is_refused_not_shortened(part: float, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3)).astype(np.uint8)
    path = Clip(noise, np.zeros((1, 24_000), np.float32), 24, 24_000).save(tmp_path / "clip.mp4").path
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    for read in (read_clip, read_frames, read_waveform):
        with pytest.raises(MediaError, match=r"clip\.mp4"):
            read(path)


def test_damaged_bytes_end_in_one_error_or_a_whole_clip(make_clip, tmp_path: Path) -> None:
    """Whatever happens to the bytes, a reader returns a clip or raises MediaError, never anything else."""
    whole = make_clip().save(tmp_path / "clip.mp4").path.read_bytes()
    path, rng = tmp_path / "damaged.mp4", np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 20):
            data[place] = rng.integers(0, 256)
        path.write_bytes(data)
        try:
            clip = read_clip(path, max_seconds=10, max_pixels=100_000)
        except MediaError as error:
            assert "damaged.mp4" in str(error)
        else:
            assert clip.num_frames >= 1


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.mp4", None, "there is no file"),
        ("empty.mp4", b"", "is empty"),
        ("text.mp4", b"this is no video " * 100, "cannot be opened as a video or audio file"),
        ("list.mp4", b"ffconcat version 1.0\nfile /etc/hostname\n", "cannot be opened"),
        (
            "list.m3u8",
            b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/hostname\n",
            "cannot be opened",
        ),
        ("a\0.mp4", None, "cannot be read"),
    ],
)
def test_what_is_no_self_contained_video_is_refused_by_name(
    name: str, content: bytes | None, words: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    for read in (probe, read_clip, read_waveform):
        with pytest.raises(MediaError, match=words):
            read(path)


def test_a_folder_and_a_pipe_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    for path in (tmp_path, tmp_path / "pipe.mp4"):
        with pytest.raises(MediaError, match="is not a file"):
            probe(path)


def test_a_name_that_looks_like_an_address_is_a_file_name(make_clip, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_clip().save("concat:a|b.mp4")
    assert read_clip("concat:a|b.mp4").num_frames == 24


def test_audio_is_resampled_on_reading_when_asked(make_clip, tmp_path: Path) -> None:
    path = make_clip(sample_rate=44_100).save(tmp_path / "clip.wav").path
    audio = read_waveform(path, 16_000)
    assert (audio.sample_rate, audio.waveform.shape) == (16_000, (1, 16_000))
    assert abs(int(np.abs(audio.waveform[0]).argmax()) - 6000) <= 1


def test_a_video_is_no_still_audio_and_audio_is_no_video(make_clip, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no video"):
        read_clip(make_clip().save(tmp_path / "clip.wav").path)
    with pytest.raises(MediaError, match="no audio"):
        read_waveform(make_clip().save(tmp_path / "clip.gif").path)


def test_a_probe_states_what_the_file_holds(make_clip, tmp_path: Path) -> None:
    info = probe(make_clip(fps=29.97, sample_rate=48_000, channels=2, width=48).save(tmp_path / "clip.mp4").path)
    assert info.size_bytes == (tmp_path / "clip.mp4").stat().st_size
    assert info.num_streams == 2
    assert info.request is None
    assert (info.video.codec, info.video.width, info.video.height) == ("h264", 48, 32)
    assert (info.video.fps, info.video.num_frames) == (Fraction(30_000, 1001), 24)
    assert info.video.duration_s == Fraction(24 * 1001, 30_000)
    assert (info.audio.codec, info.audio.sample_rate, info.audio.channels) == ("aac", 48_000, 2)


def test_real_files_are_probed_and_read(shared_media: Path) -> None:
    read = shared_media / "cat_yarn_mova_360p.mp4"
    assert (probe(read).video.fps, probe(read).video.num_frames, probe(read).audio.sample_rate) == (
        24,
        193,
        48_000,
    )
    clip = read_clip(read, num_frames=12)
    assert clip.frames.shape == (12, 352, 624, 3)
    assert clip.frames.std() > 20
    assert np.abs(clip.waveform).max() > 0.01
    assert probe(shared_media / "pose_silent.mp4").audio is None
    assert read_frames(shared_media / "pose_silent.mp4", num_frames=2).frames.shape == (2, 540, 960, 3)
    assert read_waveform(shared_media / "talk.wav", 16_000).waveform.shape == (2, 80_248)
