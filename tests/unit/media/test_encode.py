from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import av
import numpy as np
import pytest

from mova.errors import MediaError
from mova.media import mux as mux_module
from mova.media.clip import Clip
from mova.media.decode import read_clip, read_frames, read_waveform
from mova.media.probe import probe

VIDEOS = [".mp4", ".mov", ".webm", ".mkv"]
REQUEST = {
    "prompt": 'a "red" ball, wie schön 世界\n',
    "seed": 7,
    "fps": "24000/1001",
    "nested": {"a": [1, None]},
}


def start_of_flash(clip: Clip) -> float:
    return float(int(clip.frames.mean(axis=(1, 2, 3)).argmax()) / clip.fps)


def start_of_click(clip: Clip) -> float:
    return int(np.abs(clip.waveform[0]).argmax()) / clip.sample_rate


@pytest.mark.parametrize("suffix", VIDEOS)
@pytest.mark.parametrize(("fps", "rate", "at_frame"), [(24, 24_000, 9), (23.976, 44_100, 17), (30, 16_000, 1)])
def test_a_flash_and_its_click_come_back_within_one_millisecond(
    suffix: str, fps: float, rate: int, at_frame: int, make_clip, tmp_path: Path
) -> None:
    clip = make_clip(fps=fps, sample_rate=rate, at_frame=at_frame)
    written = clip.save(tmp_path / f"clip{suffix}")
    back = read_clip(written.path)
    assert written.start_offset_s == 0
    assert start_of_flash(back) == pytest.approx(at_frame / float(clip.fps), abs=1e-9)
    assert abs(start_of_click(back) - start_of_flash(back)) < 1e-3
    assert (back.fps, back.num_frames) == (clip.fps, clip.num_frames)
    assert back.sample_rate == written.sample_rate == (48_000 if suffix == ".webm" else rate)


@pytest.mark.parametrize("suffix", VIDEOS)
def test_colours_come_back_within_a_few_levels(suffix: str, tmp_path: Path) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (240, 240, 240), (16, 16, 16)]
    colours += [(200, 120, 60), (60, 90, 200), (128, 128, 128)]
    patches = np.array(colours, np.uint8).reshape(3, 3, 3).repeat(32, axis=0).repeat(32, axis=1)
    clip = Clip(np.stack([patches] * 3), np.zeros((1, 3000), np.float32), 24, 24_000)
    back = read_frames(clip.save(tmp_path / f"clip{suffix}").path).frames
    error = np.abs(back[1, 16::32, 16::32].astype(int) - patches[16::32, 16::32])
    # chroma has a narrower range: +-2 levels before any compression; a BT.601 mix-up costs 20 and more
    assert error.max() <= 5


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_the_video_is_tagged_as_bt709(suffix: str, make_clip, tmp_path: Path) -> None:
    with av.open(make_clip().save(tmp_path / f"clip{suffix}").path) as container:
        context = container.streams.video[0].codec_context
        assert context.pix_fmt == "yuv420p"
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (
            1,
            1,
            1,
            1,
        )


def test_an_mp4_starts_with_its_index_and_has_no_reordered_frames(make_clip, tmp_path: Path) -> None:
    path = make_clip().save(tmp_path / "clip.mp4").path
    data = path.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")
    with av.open(path) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.audio[0].codec_context.name == "aac"
        assert all(packet.pts == packet.dts for packet in container.demux(video=0) if packet.size)


def test_flac_in_matroska_returns_every_sample(make_clip, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-1, 1, (2, 24_000)).astype(np.float32)
    clip = Clip(make_clip().frames, noise, 24, 24_000)
    back = read_clip(clip.save(tmp_path / "clip.mkv").path)
    assert np.abs(back.waveform - noise).max() <= 2.0**-23


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_lossy_audio_keeps_its_waveform(suffix: str, make_clip, tmp_path: Path) -> None:
    time = np.arange(24_000) / 24_000
    tone = np.stack([0.5 * np.sin(2 * np.pi * 440 * time), 0.3 * np.sin(2 * np.pi * 1000 * time)])
    clip = Clip(make_clip().frames, tone.astype(np.float32), 24, 24_000)
    back = read_clip(clip.save(tmp_path / f"clip{suffix}").path).resampled(24_000)
    inner = slice(1200, -1200)
    error = back.waveform[:, inner] - clip.waveform[:, inner]
    assert 10 * np.log10(np.mean(clip.waveform[:, inner] ** 2) / np.mean(error**2)) > 25


def test_a_wav_holds_the_audio_alone_to_the_sample(make_clip, tmp_path: Path) -> None:
    clip = make_clip(fps=29.97, sample_rate=22_050, channels=2)
    written = clip.save(tmp_path / "clip.wav")
    audio = read_waveform(written.path)
    assert (written.num_frames, written.start_offset_s, audio.sample_rate) == (0, None, 22_050)
    assert audio.waveform.shape == clip.waveform.shape
    assert np.abs(audio.waveform - clip.waveform).max() <= 2.0**-15


def test_a_gif_holds_the_video_alone_at_any_size(make_clip, tmp_path: Path) -> None:
    clip = make_clip(width=33, height=21)
    written = clip.save(tmp_path / "clip.gif")
    video = read_frames(written.path)
    assert (written.sample_rate, written.num_frames) == (None, 24)
    assert video.frames.shape == clip.frames.shape
    assert int(video.frames.mean(axis=(1, 2, 3)).argmax()) == 9
    assert float(probe(written.path).duration_s) == pytest.approx(1.0, abs=0.02)


def test_a_gif_faster_than_viewers_play_is_refused(make_clip, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="at most 50 frames per second"):
        make_clip(fps=60).save(tmp_path / "clip.gif")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".webm", ".mkv", ".wav", ".gif"])
def test_the_same_clip_gives_the_same_bytes_and_carries_its_request(suffix: str, make_clip, tmp_path: Path) -> None:
    clip = make_clip(request=REQUEST)
    paths = [clip.save(tmp_path / f"{name}{suffix}").path for name in "ab"]
    assert len({hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}) == 1
    assert probe(paths[0]).request == REQUEST


@pytest.mark.parametrize("suffix", VIDEOS)
def test_the_request_survives_a_stream_copy(suffix: str, make_clip, tmp_path: Path) -> None:
    clip = make_clip(request=REQUEST)
    copy = tmp_path / f"copy{suffix}"
    with av.open(clip.save(tmp_path / f"clip{suffix}").path) as source, av.open(copy, "w") as target:
        target.metadata.update(source.metadata)
        streams = {stream: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream]
                target.mux(packet)
    back = read_clip(copy)
    assert back.request == REQUEST
    assert abs(start_of_click(back) - start_of_flash(back)) < 1e-3


def test_a_very_long_prompt_is_carried_whole(make_clip, tmp_path: Path) -> None:
    request = {"prompt": "many words " * 10_000}
    assert probe(make_clip(request=request).save(tmp_path / "clip.mp4").path).request == request


def test_further_metadata_is_written_beside_the_request(make_clip, tmp_path: Path) -> None:
    for suffix in VIDEOS:
        path = make_clip(request=REQUEST).save(tmp_path / f"a{suffix}", metadata={"title": "A ball"}).path
        assert probe(path).metadata["title"] == "A ball"


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"colour": "red"}, "unknown metadata name 'colour'"),
        ({"comment": "x"}, "comment"),
        ({"title": 3}, "title"),
    ],
)
def test_metadata_that_would_be_lost_is_refused(metadata: dict[str, str], words: str, make_clip, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=words):
        make_clip(request=REQUEST).save(tmp_path / "clip.mp4", metadata=metadata)


def test_a_request_that_is_no_json_is_refused(make_clip, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="JSON"):
        make_clip(request={"image": object()}).save(tmp_path / "clip.mp4")


@pytest.mark.parametrize(
    ("name", "words", "hint"),
    [
        ("clip.mp5", "unknown suffix '.mp5'; known are .mp4, .mov, .webm, .mkv, .wav, .gif", "clip.mp4"),
        ("clip.wbem", "unknown suffix '.wbem'", "clip.webm"),
        ("clip", "no suffix", ".mp4"),
        ("missing/clip.mp4", "missing does not exist", "mkdir"),
        ("file.txt/clip.mp4", "is not a folder", "mkdir"),
        ("folder.mp4", "is a folder", "file name"),
        ("x" * 300 + ".mp4", "name too long", "another name"),
        ("a\0b.mp4", "null", "another name"),
    ],
)
def test_a_path_that_cannot_be_written_is_refused_before_encoding(
    name: str, words: str, hint: str, make_clip, tmp_path: Path
) -> None:
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file.txt").touch()
    with pytest.raises(MediaError) as caught:
        make_clip().save(tmp_path / name)
    assert words in caught.value.message
    assert hint in caught.value.hint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.txt", "folder.mp4"]


@pytest.mark.parametrize(("width", "height", "words"), [(33, 32, "width"), (32, 31, "height")])
def test_an_odd_size_is_refused_with_the_nearest_even_ones(
    width: int, height: int, words: str, make_clip, tmp_path: Path
) -> None:
    odd = width if words == "width" else height
    with pytest.raises(MediaError, match=f"{words} must be even") as caught:
        make_clip(width=width, height=height).save(tmp_path / "clip.mp4")
    assert caught.value.hint == f"Use {odd - 1} or {odd + 1}."


def test_more_channels_than_a_video_can_hold_are_refused_not_dropped(make_clip, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="6 channels"):
        make_clip(channels=6).save(tmp_path / "clip.mp4")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("suffix", "crf"), [(".mp4", 52), (".mp4", -1), (".webm", 64), (".wav", 10), (".gif", 10)])
def test_a_quality_that_the_file_does_not_have_is_refused(suffix: str, crf: int, make_clip, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="crf"):
        make_clip().save(tmp_path / f"clip{suffix}", crf=crf)


def test_a_lower_crf_gives_a_larger_file(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3)).astype(np.uint8)
    clip = Clip(noise, np.zeros((1, 6000), np.float32), 24, 24_000)
    assert clip.save(tmp_path / "a.mp4", crf=10).size_bytes > 2 * clip.save(tmp_path / "b.mp4", crf=40).size_bytes


def test_a_rate_that_aac_does_not_know_is_resampled_upwards_in_step(make_clip, tmp_path: Path) -> None:
    clip = make_clip(sample_rate=20_000)
    written = clip.save(tmp_path / "clip.mp4")
    back = read_clip(written.path)
    assert written.sample_rate == back.sample_rate == 22_050
    assert abs(start_of_click(back) - start_of_flash(back)) < 1e-3


def test_an_existing_file_is_kept_when_overwriting_is_not_allowed(make_clip, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"precious")
    with pytest.raises(MediaError, match="exists"):
        make_clip().save(path, overwrite=False)
    assert path.read_bytes() == b"precious"


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError, RuntimeError])
def test_an_interruption_in_the_middle_leaves_nothing_and_keeps_the_old_file(
    failure: type[BaseException], make_clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"precious")
    whole, seen = mux_module._video_frames, []

    def interrupted(clip: Clip):
        for index, frame in enumerate(whole(clip)):
            if index == 12:
                seen.extend(tmp_path.iterdir())
                raise failure("now")
            yield frame

    monkeypatch.setattr(mux_module, "_video_frames", interrupted)
    with pytest.raises(MediaError if failure is OSError else failure):
        make_clip().save(path)
    assert len(seen) == 2, "the unfinished file lay beside the old one"
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"precious"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs file size limits (POSIX)")
def test_a_disk_that_fills_up_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files fails a write in the middle, as a full disk does."""
    code = textwrap.dedent(
        """
        import resource, signal, sys
        import numpy as np
        from mova.errors import MediaError
        from mova.media.clip import Clip
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        frames = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3)).astype(np.uint8)
        clip = Clip(frames, np.zeros((1, 12_000), np.float32), 24, 24_000)
        for suffix in (".mp4", ".webm", ".mkv", ".gif", ".wav"):
            try:
                clip.save(sys.argv[1] + "/clip" + suffix)
            except MediaError as error:
                assert "arge" in error.message and "space" in error.hint, error
            else:
                sys.exit(f"{suffix} was written past the limit")
        """
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_complete_is_found_and_removed(make_clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = mux_module._video_frames
    monkeypatch.setattr(mux_module, "_video_frames", lambda clip: list(whole(clip))[:-1])
    with pytest.raises(MediaError, match="23 of 24 frames"):
        make_clip().save(tmp_path / "clip.mp4")
    assert list(tmp_path.iterdir()) == []


def test_audio_that_starts_late_is_found_and_removed(make_clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = mux_module._audio_frames

    def late(clip: Clip, stream):
        for frame in whole(clip, stream):
            frame.pts += clip.sample_rate // 100
            yield frame

    monkeypatch.setattr(mux_module, "_audio_frames", late)
    for suffix in VIDEOS:
        with pytest.raises(MediaError, match=r"audio starts at 0\.01|plays \d+ samples instead of \d+"):
            make_clip().save(tmp_path / f"clip{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_encoder_is_told_before_anything_is_written(
    make_clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from mova.media import kinds

    kind = kinds.FILE_KINDS[".mp4"]
    broken = replace(kind, audio=replace(kind.audio, encoder="no_such_encoder"))
    monkeypatch.setitem(kinds.FILE_KINDS, ".mp4", broken)
    with pytest.raises(MediaError, match="lacks the encoder no_such_encoder"):
        make_clip().save(tmp_path / "clip.mp4")
    assert list(tmp_path.iterdir()) == []
