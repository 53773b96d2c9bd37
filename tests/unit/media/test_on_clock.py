from __future__ import annotations

import tracemalloc
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from video_files import MATROSKA_TICK, level, write_levels

from mova.errors import MediaError
from mova.media.clip import Clip
from mova.media.decode import read_frames
from mova.media.image import fit_image
from mova.media.on_clock import frames_on_clock, read_video_on_clock
from mova.media.remux.edits import Edit, set_edits


def indices(frames: NDArray[np.uint8]) -> list[int]:
    """Which frames of a video of grey levels these are."""
    greys = frames.mean(axis=(1, 2, 3))
    return [int(np.abs([level(index) - grey for index in range(24)]).argmin()) for grey in greys]


def on_screen(times: list[Fraction], fps: Fraction | int, count: int) -> list[int]:
    """Which frame is on screen at each tick of the clock, by the definition."""
    return [max(index for index, time in enumerate(times) if time <= Fraction(tick) / fps) for tick in range(count)]


@pytest.mark.parametrize("fps", [10, 24, 25, Fraction(30_000, 1001), 50, 60])
def test_each_frame_is_the_one_on_screen_at_that_moment(fps: Fraction | int, tmp_path: Path) -> None:
    video = write_levels(tmp_path / "video.mp4", [256 * index for index in range(20)], fps=50)
    frames = read_video_on_clock(video, fps=fps)
    count = int(-(-Fraction(20, 50) * fps // 1))
    assert indices(frames) == on_screen([Fraction(index, 50) for index in range(20)], fps, count)


def test_the_milliseconds_of_matroska_do_not_cost_a_frame(tmp_path: Path) -> None:
    """Frame 1 of a video at 24 fps is stored at 42 ms, which is after the clock's 41.67 ms."""
    video = write_levels(tmp_path / "video.mkv", list(range(20)), time_base=Fraction(1, 24), fps=24)
    assert indices(read_video_on_clock(video, fps=24)) == list(range(20))
    assert indices(read_video_on_clock(video, fps=12)) == list(range(0, 20, 2))
    assert indices(read_video_on_clock(video, fps=48)) == [index // 2 for index in range(40)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_video_without_a_steady_rate_is_read_by_its_own_times(suffix: str, tmp_path: Path) -> None:
    times = [0, 40, 55, 234, 273, 703, 711, 938]
    scale = 1 if suffix == ".mkv" else 90
    video = write_levels(tmp_path / f"video{suffix}", [time * scale for time in times], time_base=MATROSKA_TICK / scale)
    frames = read_video_on_clock(video, fps=25, num_frames=24)
    assert indices(frames) == on_screen([Fraction(time, 1000) for time in times], 25, 24)


def test_time_starts_with_the_first_frame_that_is_shown(tmp_path: Path) -> None:
    late = write_levels(tmp_path / "late.mp4", [6400 + 512 * index for index in range(20)])
    assert indices(read_video_on_clock(late, fps=25)) == list(range(20))
    options = {"movie_timescale": "12800"}
    cut = write_levels(tmp_path / "cut.mp4", [512 * index for index in range(20)], container_options=options)
    set_edits(cut, {1: (Edit(512 * 7, 1024 + 512 * 5),)})
    assert indices(read_video_on_clock(cut, fps=25)) == list(range(5, 12))


def test_num_frames_reads_the_start_and_no_more_than_there_is(tmp_path: Path) -> None:
    video = write_levels(tmp_path / "video.mp4", [512 * index for index in range(20)])
    assert indices(read_video_on_clock(video, fps=50, num_frames=5)) == [0, 0, 1, 1, 2]
    with pytest.raises(MediaError, match=r"lasts 0.800 s, 8 frames at 10 fps; 9 were asked for"):
        read_video_on_clock(video, fps=10, num_frames=9)
    with pytest.raises(MediaError, match="at least 1"):
        read_video_on_clock(video, fps=10, num_frames=0)
    with pytest.raises(MediaError, match="fps must be positive"):
        read_video_on_clock(video, fps=0)


def test_frames_are_fitted_as_asked(tmp_path: Path) -> None:
    frames = np.zeros((2, 32, 64, 3), np.uint8)
    frames[:, :, :32] = 255
    video = Clip(frames, np.zeros((1, 2000), np.float32), Fraction(24), 24_000).save(tmp_path / "video.mp4").path
    assert read_video_on_clock(video, fps=24).shape == (2, 32, 64, 3)
    padded = read_video_on_clock(video, fps=24, width=32, height=32, fit="pad")[0]
    assert padded[2].max() == 0 and padded[16, 4].min() > 240
    cropped = read_video_on_clock(video, fps=24, width=32, height=32, fit="crop")[0]
    assert cropped[2, 4].min() > 240 and cropped[2, 28].max() < 10
    assert read_video_on_clock(video, fps=24, width=40, height=32, fit="stretch").shape == (2, 32, 40, 3)
    assert read_video_on_clock(video, fps=24, width=32, height=16).shape == (2, 16, 32, 3)
    with pytest.raises(MediaError, match="is 64x32; 32x32 has another aspect ratio") as caught:
        read_video_on_clock(video, fps=24, width=32, height=32)
    assert "fit=crop" in caught.value.hint
    with pytest.raises(MediaError, match="cannot be resized to 0x32"):
        read_video_on_clock(video, fps=24, width=0, height=32)


def test_a_video_turned_by_its_camera_is_fitted_upright(tmp_path: Path) -> None:
    video = write_levels(tmp_path / "video.mp4", [0, 512, 1024], size=(48, 32), rotation=-90)
    assert read_video_on_clock(video, fps=25).shape == (3, 48, 32, 3)
    assert read_video_on_clock(video, fps=25, width=16, height=24).shape == (3, 24, 16, 3)


def test_limits_are_checked_before_decoding(tmp_path: Path) -> None:
    video = write_levels(tmp_path / "video.mp4", [512 * index for index in range(20)])
    with pytest.raises(MediaError, match=r"0\.80 s long; at most 0\.5 s"):
        read_video_on_clock(video, fps=24, max_seconds=0.5)
    assert len(read_video_on_clock(video, fps=24, num_frames=3, max_seconds=0.5)) == 3
    with pytest.raises(MediaError, match="32x32; frames of at most 1000 pixels"):
        read_video_on_clock(video, fps=24, max_pixels=1000)
    with pytest.raises(MediaError, match="GiB of memory"):
        read_video_on_clock(video, fps=1e6, width=640, height=640)


def test_a_video_larger_than_its_result_is_never_held_whole(tmp_path: Path) -> None:
    video = write_levels(tmp_path / "video.mp4", [512 * index for index in range(20)], size=(640, 360))
    one_frame = 640 * 360 * 3
    tracemalloc.start()
    frames = read_video_on_clock(video, fps=25, width=16, height=9)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert frames.shape == (20, 9, 16, 3)
    assert peak < 4 * one_frame, "20 frames of the video would be 20 times that"


def test_frames_come_one_by_one_as_they_are_asked_for(tmp_path: Path) -> None:
    video = write_levels(tmp_path / "video.mp4", [512 * index for index in range(20)])
    frames = frames_on_clock(video, fps=25)
    assert [indices(next(frames)[None])[0] for _ in range(3)] == [0, 1, 2]
    assert indices(np.stack(list(frames))) == list(range(3, 20))


def test_a_video_cut_short_is_refused_not_held_on_its_last_frame(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3)).astype(np.uint8)
    video = Clip(noise, np.zeros((1, 24_000), np.float32), Fraction(24), 24_000).save(tmp_path / "clip.mp4").path
    video.write_bytes(video.read_bytes()[: int(video.stat().st_size * 0.7)])
    with pytest.raises(MediaError, match=r"clip\.mp4"):
        read_video_on_clock(video, fps=12)


def test_at_its_own_rate_and_size_a_real_video_is_what_read_frames_reads(shared_media: Path) -> None:
    video = shared_media / "cat_yarn_mova_360p.mp4"
    frames = read_video_on_clock(video, fps=24, num_frames=6)
    assert (frames == read_frames(video, num_frames=6).frames).all()
    silent = shared_media / "pose_silent.mp4"
    small = read_video_on_clock(silent, fps=24, num_frames=5, width=96, height=64, fit="crop")
    whole = read_frames(silent, num_frames=9).frames
    # ticks 0 to 4 of 24 fps lie within frames 0, 2, 4, 6 and 8 of 50 fps
    assert (small == np.stack([fit_image(whole[index], 96, 64, fit="crop") for index in (0, 2, 4, 6, 8)])).all()
