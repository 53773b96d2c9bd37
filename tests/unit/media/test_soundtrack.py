from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from video_files import MATROSKA_TICK, MP4_TICK, audio_of, packets_of, write_levels

from mova.errors import MediaError
from mova.media.decode import read_clip, read_frames
from mova.media.encode import request_comment
from mova.media.probe import probe
from mova.media.remux import soundtrack
from mova.media.remux.edits import Edit, read_edits, set_edits
from mova.media.remux.soundtrack import check_soundtrack_target, video_seconds, write_soundtrack

RATE = 24_000
VP9 = {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "deadline": "realtime", "crf": "30", "b": "0"}}


def ticks(num_frames: int, *, start: int = 0, step: int = 512) -> list[int]:
    return [start + step * index for index in range(num_frames)]


def hiss(video: Path, *, rate: int = RATE, channels: int = 1) -> NDArray[np.float32]:
    """Audio as long as the video in which every moment is different: noise below 4 kHz, that lossy codecs keep."""
    num_samples = int(video_seconds(video) * rate)
    spectrum = np.fft.rfft(np.random.default_rng(0).normal(size=(channels, num_samples)))
    spectrum[:, int(4000 * num_samples / rate) :] = 0
    noise = np.fft.irfft(spectrum, num_samples)
    return (0.5 * noise / np.abs(noise).max()).astype(np.float32)


def start_of(waveform: NDArray[np.float32], path: Path) -> Fraction:
    """When ``waveform`` begins in the audio of a file, by the lag at which they are most alike."""
    played, start_s, rate = audio_of(path)
    length = played.shape[1] + waveform.shape[1]
    likeness = np.fft.irfft(np.fft.rfft(played[0], length) * np.conj(np.fft.rfft(waveform[0], length)), length)
    lag = int(likeness.argmax())
    return start_s + Fraction(lag if lag < played.shape[1] else lag - length, rate)


def edited(video: Path, *edits: Edit) -> Path:
    """The video with another edit list, of as many entries as it has."""
    set_edits(video, {1: edits})
    return video


@pytest.mark.parametrize("target", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("start", [0, 128, 6400])
@pytest.mark.parametrize("source", [".mp4", ".mkv"])
def test_the_video_stays_as_it_is_and_the_audio_starts_with_it(source: str, start: int, target: str, tmp_path: Path) -> None:
    """B-frames, so that decoding begins before the video does; from 0, from 10 ms (within the priming), from 0.5 s."""
    video = write_levels(tmp_path / f"video{source}", ticks(20, start=start))
    audio = hiss(video)
    written = write_soundtrack(video, audio, tmp_path / f"out{target}", sample_rate=RATE)
    old, new = packets_of(video), packets_of(written.path)
    assert new.digests == old.digests
    assert new.shown_s == old.shown_s
    assert min(new.shown_s) == start * MP4_TICK
    if source == target == ".mp4":
        assert new.decoded_s == old.decoded_s
    assert start_of(audio, written.path) == min(new.shown_s)
    assert (written.num_frames, written.sample_rate, written.start_offset_s) == (20, RATE, 0)
    assert video_seconds(written.path) == video_seconds(video) == Fraction(20, 25)


def test_the_lists_of_a_late_video_start_both_tracks_at_the_same_tick_and_end_on_the_last_sample(tmp_path: Path) -> None:
    video = write_levels(tmp_path / "video.mp4", ticks(20, start=128))
    out = write_soundtrack(video, hiss(video), tmp_path / "out.mp4", sample_rate=RATE).path
    shown, audio = read_edits(out, 1), read_edits(out, 2)
    assert Fraction(shown.edits[0].duration, shown.timescale) == Fraction(1, 100)
    assert audio.edits[0] == shown.edits[0]
    assert Fraction(audio.edits[1].duration, audio.timescale) == Fraction(20, 25)
    assert audio.edits[1].media_time == 1024
    with av.open(out) as container:
        assert container.streams.video[0].time_base == MP4_TICK


@pytest.mark.parametrize("start", [0, 7, 500])
def test_vp9_goes_into_webm_with_opus_in_step(start: int, tmp_path: Path) -> None:
    video = write_levels(tmp_path / "video.webm", ticks(8, start=start, step=40), time_base=MATROSKA_TICK, **VP9)
    audio = hiss(video, rate=48_000, channels=2)
    written = write_soundtrack(video, audio, tmp_path / "out.webm", sample_rate=48_000)
    assert packets_of(written.path)[:2] == packets_of(video)[:2]
    played, start_s, rate = audio_of(written.path)
    assert (start_s, rate, played.shape[1] >= audio.shape[1]) == (Fraction(start, 1000), 48_000, True)
    likeness = [float(np.dot(played[0, lag : lag + 8000], audio[0, 500:8500])) for lag in range(450, 550)]
    assert 450 + int(np.argmax(likeness)) == 500


def test_every_moment_of_a_video_without_a_steady_rate_stays(tmp_path: Path) -> None:
    times = [0, 40, 55, 234, 273, 703, 711, 938]
    for suffix, tick in ((".mp4", Fraction(1, 90_000)), (".mkv", MATROSKA_TICK)):
        scale = int(MATROSKA_TICK / tick)
        video = write_levels(tmp_path / f"video{suffix}", [time * scale for time in times], time_base=tick)
        audio = hiss(video)
        for target in (".mp4", ".mkv"):
            out = write_soundtrack(video, audio, tmp_path / f"out{target}", sample_rate=RATE).path
            assert packets_of(out).shown_s == packets_of(video).shown_s
            assert sorted(packets_of(out).shown_s) == [time * MATROSKA_TICK for time in times]
            assert start_of(audio, out) == 0


@pytest.mark.parametrize(
    ("edit", "shown"),
    [
        (Edit(512 * 12, 1024), 12),
        (Edit(512 * 12 + 100, 1024), 13),
        (Edit(512 * 15, 1024 + 512 * 5), 15),
        (Edit(512 * 7, 1024 + 512 * 5), 7),
    ],
    ids=["end", "end within a frame", "start", "both"],
)
def test_what_an_edit_list_hides_stays_hidden(edit: Edit, shown: int, tmp_path: Path) -> None:
    options = {"movie_timescale": "12800"}
    video = edited(write_levels(tmp_path / "video.mp4", ticks(20), container_options=options), edit)
    assert video_seconds(video) == Fraction(edit.duration, 12_800)
    audio = hiss(video)
    written = write_soundtrack(video, audio, tmp_path / "out.mp4", sample_rate=RATE)
    assert packets_of(written.path) == packets_of(video)
    assert (written.num_frames, written.start_offset_s) == (shown, 0)
    assert packets_of(video).hidden.count(False) == shown
    assert start_of(audio, written.path) == 0
    kept = read_edits(written.path, 1)
    assert Fraction(kept.edits[0].duration, kept.timescale) == Fraction(edit.duration, 12_800)
    assert kept.edits[0].media_time == edit.media_time
    with pytest.raises(MediaError, match=r"have no edit lists"):
        check_soundtrack_target(video, tmp_path / "out.mkv")


@pytest.mark.parametrize(
    ("start", "edits", "words"),
    [
        (0, [Edit(7580, 1024 + 512 * 5 + 100)], "starts within a frame"),
        (0, [Edit(5120, 1024, 2 << 16)], "changes their speed"),
        (640, [Edit(640, -1), Edit(512 * 17, 1024 + 512 * 3)], "hidden frames before its start"),
        (640, [Edit(100, 1024), Edit(512 * 3, 1024 + 512 * 8)], "joins several segments"),
    ],
)
def test_an_edit_list_that_would_not_stay_the_same_is_refused_before_any_work(
    start: int, edits: list[Edit], words: str, tmp_path: Path
) -> None:
    options = {"movie_timescale": "12800"}
    video = write_levels(tmp_path / "video.mp4", ticks(20, start=start), container_options=options)
    with pytest.raises(MediaError, match=words) as caught:
        check_soundtrack_target(edited(video, *edits), tmp_path / "out.mp4")
    assert "Encode the video again" in caught.value.hint


def test_rotation_and_colours_and_the_letters_of_the_codec_are_kept(tmp_path: Path) -> None:
    turned = write_levels(tmp_path / "a.mp4", ticks(3), rotation=-90, colours=(5, 6, 5, 2), size=(48, 32))
    hdr = write_levels(tmp_path / "b.mp4", ticks(3), colours=(9, 9, 16, 1))
    quiet = {"x265-params": "log-level=none:bframes=0", "preset": "ultrafast"}
    hevc = write_levels(tmp_path / "c.mp4", ticks(8), codec="libx265", options=quiet, size=(64, 64), codec_tag="hvc1")
    for video in (turned, hdr, hevc):
        for suffix in (".mp4", ".mov", ".mkv"):
            out = write_soundtrack(video, hiss(video), tmp_path / f"out{suffix}", sample_rate=RATE).path
            with av.open(video) as old, av.open(out) as new:
                before, after = old.streams.video[0].codec_context, new.streams.video[0].codec_context
                for name in ("colorspace", "color_primaries", "color_trc", "color_range", "pix_fmt"):
                    assert getattr(after, name) == getattr(before, name), name
                # FFmpeg leaves the promise of hvc1, that no header follows in the stream, out of Matroska
                assert after.extradata == before.extradata or (suffix == ".mkv" and video == hevc)
                assert next(new.decode(video=0)).rotation == next(old.decode(video=0)).rotation
                assert suffix == ".mkv" or after.codec_tag == before.codec_tag
    with av.open(write_soundtrack(turned, hiss(turned), tmp_path / "out.mkv", sample_rate=RATE).path) as container:
        assert next(container.decode(video=0)).rotation == -90


def test_the_files_tell_the_request_and_keep_the_videos_own_tags(tmp_path: Path) -> None:
    request = {"prompt": "a ball", "seed": 3}
    tags = {"title": "Holiday", "artist": "Ann", "comment": "of the old video"}
    video = write_levels(tmp_path / "video.mp4", ticks(5), metadata=tags)
    for suffix in (".mp4", ".mov", ".mkv"):
        metadata = {"comment": request_comment(request), "artist": "mova"}
        out = write_soundtrack(video, hiss(video), tmp_path / f"out{suffix}", sample_rate=RATE, metadata=metadata).path
        info = probe(out)
        assert info.request == request
        assert (info.metadata["title"], info.metadata["artist"]) == ("Holiday", "mova")
    out = write_soundtrack(video, hiss(video), tmp_path / "plain.mp4", sample_rate=RATE).path
    assert "comment" not in probe(out).metadata
    with pytest.raises(MediaError, match="unknown metadata name 'colour'"):
        write_soundtrack(video, hiss(video), tmp_path / "c.mp4", sample_rate=RATE, metadata={"colour": "red"})


def test_a_clip_of_ours_gets_another_audio_and_reads_back_with_it(make_clip, tmp_path: Path) -> None:
    clip = make_clip(fps=29.97, channels=2)
    video = clip.save(tmp_path / "video.mp4").path
    audio = np.flip(clip.waveform, axis=1).copy()
    written = write_soundtrack(video, audio, tmp_path / "out.mp4", sample_rate=RATE)
    back = read_clip(written.path)
    assert (back.frames == read_frames(video).frames).all()
    assert back.fps == clip.fps
    assert abs(int(np.abs(back.waveform[1]).argmax()) - int(audio[1].argmax())) <= 1
    again = write_soundtrack(video, audio, tmp_path / "again.mp4", sample_rate=RATE)
    assert again.path.read_bytes() == written.path.read_bytes()


def test_audio_at_a_rate_that_the_codec_does_not_know_is_resampled_in_step(tmp_path: Path) -> None:
    video = write_levels(tmp_path / "video.mp4", ticks(10))
    audio = np.zeros((1, 8000), np.float32)
    audio[0, 4000] = 0.9
    written = write_soundtrack(video, audio, tmp_path / "out.mp4", sample_rate=20_000)
    played, start_s, rate = audio_of(written.path)
    assert (written.sample_rate, rate, start_s) == (22_050, 22_050, 0)
    assert abs(int(np.abs(played[0]).argmax()) - 4410) <= 1


@pytest.mark.parametrize(
    ("name", "words", "hint"),
    [
        ("out.webm", "h264", "Write .mp4 or .mov or .mkv."),
        ("out.wav", "cannot hold video and audio", ".mp4"),
        ("out.gif", "cannot hold video and audio", ".mp4"),
        ("out.avi", "unknown suffix", "Did you mean"),
        ("out.mkv", "whole milliseconds; it has a frame at 0.041667 s", "Write .mp4 or .mov."),
        ("video.mp4", "is the video itself", "another name"),
        ("missing/out.mp4", "does not exist", "mkdir"),
    ],
)
def test_a_target_that_cannot_hold_the_video_is_refused_before_any_work(
    name: str, words: str, hint: str, tmp_path: Path
) -> None:
    video = write_levels(tmp_path / "video.mp4", list(range(4)), time_base=Fraction(1, 24), fps=24)
    before = video.read_bytes()
    for attempt in (
        lambda: check_soundtrack_target(video, tmp_path / name),
        lambda: write_soundtrack(video, hiss(video), tmp_path / name, sample_rate=RATE),
    ):
        with pytest.raises(MediaError) as caught:
            attempt()
        assert words in caught.value.message
        assert hint in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["video.mp4"]
    assert video.read_bytes() == before


def test_a_video_that_its_container_only_streams_is_refused_with_the_way_out(tmp_path: Path) -> None:
    video = write_levels(tmp_path / "video.ts", ticks(5))
    with pytest.raises(MediaError, match="start codes") as caught:
        check_soundtrack_target(video, tmp_path / "out.mp4")
    assert "-c copy" in caught.value.hint


def test_an_existing_file_is_kept_when_overwriting_is_not_allowed(tmp_path: Path) -> None:
    video, out = write_levels(tmp_path / "video.mp4", ticks(3)), tmp_path / "out.mp4"
    out.write_bytes(b"precious")
    for attempt in (
        lambda: check_soundtrack_target(video, out, overwrite=False),
        lambda: write_soundtrack(video, hiss(video), out, sample_rate=RATE, overwrite=False),
    ):
        with pytest.raises(MediaError, match="exists"):
            attempt()
    assert out.read_bytes() == b"precious"
    write_soundtrack(video, hiss(video), out, sample_rate=RATE)
    assert packets_of(out) == packets_of(video)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda audio: audio[:, 1:], "last 9600 samples at 24000 Hz; the audio has 9599"),
        (lambda audio: audio.repeat(3, axis=0), "mono or stereo"),
        (lambda audio: audio.astype(np.float64), "float32"),
        (lambda audio: audio * 9, "peak"),
        (lambda audio: audio * np.nan, "peak"),
    ],
)
def test_audio_that_does_not_go_with_the_video_is_refused(change, words: str, tmp_path: Path) -> None:
    video = write_levels(tmp_path / "video.mp4", ticks(10))
    with pytest.raises(MediaError, match=words):
        write_soundtrack(video, change(hiss(video)), tmp_path / "out.mp4", sample_rate=RATE)
    assert [path.name for path in tmp_path.iterdir()] == ["video.mp4"]


def test_a_video_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    video = write_levels(tmp_path / "video.mp4", ticks(20), container_options={"movflags": "faststart"}, size=(64, 64))
    video.write_bytes(video.read_bytes()[:-300])
    with pytest.raises(MediaError, match="truncated"):
        video_seconds(video)


def test_an_audio_file_has_no_video_length(make_clip, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no video"):
        video_seconds(make_clip().save(tmp_path / "clip.wav").path)
    with pytest.raises(MediaError, match="there is no file"):
        video_seconds(tmp_path / "none.mp4")


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
@pytest.mark.parametrize("fps", [24, 23.976, 50])
def test_the_length_of_a_steady_video_is_its_frames_over_its_rate(fps: float, suffix: str, make_clip, tmp_path: Path) -> None:
    clip = make_clip(fps=fps, num_frames=7, at_frame=1)
    assert video_seconds(clip.save(tmp_path / f"clip{suffix}").path) == clip.seconds


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError])
def test_an_interruption_in_the_middle_leaves_nothing_and_keeps_the_old_file(
    failure: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video, out = write_levels(tmp_path / "video.mp4", ticks(20)), tmp_path / "out.mp4"
    out.write_bytes(b"precious")
    whole, seen = soundtrack.audio_blocks, []

    def interrupted(*args: object, **kwargs: object):
        for index, block in enumerate(whole(*args, **kwargs)):
            if index == 12:
                seen.extend(tmp_path.iterdir())
                raise failure("now")
            yield block

    monkeypatch.setattr(soundtrack, "audio_blocks", interrupted)
    with pytest.raises(MediaError if failure is OSError else failure):
        write_soundtrack(video, hiss(video), out, sample_rate=RATE)
    assert len(seen) == 3, "the unfinished file lay beside the old one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4", "video.mp4"]
    assert out.read_bytes() == b"precious"


def test_audio_out_of_step_is_found_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the cut of its priming, a late audio would start 43 ms early."""
    video = write_levels(tmp_path / "video.mp4", ticks(10, start=6400))
    monkeypatch.setattr(soundtrack, "_set_edits", lambda *args: None)
    with pytest.raises(MediaError, match=r"plays \d+ samples at 24000 Hz instead of 9600|audio starts"):
        write_soundtrack(video, hiss(video), tmp_path / "out.mp4", sample_rate=RATE)
    assert [path.name for path in tmp_path.iterdir()] == ["video.mp4"]


def test_a_video_that_changes_while_it_is_copied_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = write_levels(tmp_path / "video.mp4", ticks(10))
    audio, planned = hiss(video), soundtrack.plan_copy

    def replaced(*args: object, **kwargs: object):
        plan = planned(*args, **kwargs)
        write_levels(video, ticks(9, start=512))
        return plan

    monkeypatch.setattr(soundtrack, "plan_copy", replaced)
    with pytest.raises(MediaError, match="could not be written correctly"):
        write_soundtrack(video, audio, tmp_path / "out.mp4", sample_rate=RATE)
    assert [path.name for path in tmp_path.iterdir()] == ["video.mp4"]


def test_damaged_bytes_end_in_one_error_or_a_whole_copy(make_clip, tmp_path: Path) -> None:
    whole = make_clip(num_frames=6, at_frame=2).save(tmp_path / "clip.mp4").path.read_bytes()
    video, rng = tmp_path / "damaged.mp4", np.random.default_rng(1)
    for _ in range(20):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 12):
            data[place] = rng.integers(0, 256)
        video.write_bytes(data)
        try:
            if video_seconds(video) < 5:
                write_soundtrack(video, hiss(video), tmp_path / "out.mp4", sample_rate=RATE)
                assert packets_of(tmp_path / "out.mp4").digests == packets_of(video).digests
        except MediaError:
            continue


def test_a_real_silent_video_of_50_frames_a_second_gets_its_audio(shared_media: Path, tmp_path: Path) -> None:
    video = shared_media / "pose_silent.mp4"
    assert video_seconds(video) == 7
    audio = hiss(video)
    written = write_soundtrack(video, audio, tmp_path / "out.mp4", sample_rate=RATE)
    assert packets_of(written.path) == packets_of(video)
    assert start_of(audio, written.path) == 0
    assert (written.num_frames, probe(written.path).video.fps, probe(written.path).video.codec) == (350, 50, "mpeg4")
    with pytest.raises(MediaError, match="mpeg4"):
        check_soundtrack_target(video, tmp_path / "out.webm")


def test_a_real_video_gets_another_audio_in_the_place_of_its_own(shared_media: Path, tmp_path: Path) -> None:
    video = shared_media / "cat_yarn_mova_360p.mp4"
    assert video_seconds(video) == Fraction(193, 24)
    audio = hiss(video, rate=8000)
    written = write_soundtrack(video, audio, tmp_path / "out.mov", sample_rate=8000)
    assert packets_of(written.path) == packets_of(video)
    assert start_of(audio, written.path) == 0
    assert probe(written.path).num_streams == 2
