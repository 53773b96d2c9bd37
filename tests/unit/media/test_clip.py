from __future__ import annotations

import base64
from fractions import Fraction

import numpy as np
import pytest

from mova.errors import MediaError
from mova.media.clip import Clip


def make(frames_shape=(4, 8, 8, 3), samples=4000, fps=24, rate=24_000, **changes) -> Clip:
    parts = {
        "frames": np.zeros(frames_shape, np.uint8),
        "waveform": np.zeros((1, samples), np.float32),
        "fps": fps,
        "sample_rate": rate,
    }
    return Clip(**{**parts, **changes})


def test_a_clip_unpacks_as_video_and_audio() -> None:
    clip = make()
    video, audio = clip
    assert video is clip.frames
    assert audio is clip.waveform


@pytest.mark.parametrize(
    ("fps", "exact"),
    [
        (24, Fraction(24)),
        (23.976, Fraction(24000, 1001)),
        (29.97, Fraction(30000, 1001)),
        (12.5, Fraction(25, 2)),
        (Fraction(24000, 1001), Fraction(24000, 1001)),
    ],
)
def test_fps_is_kept_as_an_exact_fraction(fps: float, exact: Fraction) -> None:
    clip = make(samples=int(4 * 24_000 / exact), fps=fps)
    assert clip.fps == exact
    assert clip.seconds == 4 / exact


def test_sizes_are_read_from_the_frames() -> None:
    clip = make(frames_shape=(4, 6, 10, 3))
    assert (clip.num_frames, clip.height, clip.width) == (4, 6, 10)


@pytest.mark.parametrize("samples", [3999, 4001])
def test_lengths_that_differ_by_one_sample_are_refused_and_both_are_named(samples: int) -> None:
    with pytest.raises(MediaError) as caught:
        make(samples=samples)
    assert "4 frames" in caught.value.message
    assert "4000" in caught.value.message
    assert str(samples) in caught.value.message
    assert "4000" in caught.value.hint


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frames": np.zeros((4, 8, 8, 3), np.float32)}, "frames must be .* uint8; got .* float32"),
        ({"frames": np.zeros((4, 3, 8, 8), np.uint8)}, r"frames must be .*\[4, 3, 8, 8\]"),
        ({"frames": np.zeros((0, 8, 8, 3), np.uint8)}, "at least one frame"),
        ({"frames": [[[[0, 0, 0]]]]}, "got a builtins.list"),
        ({"waveform": np.zeros((1, 4000), np.float64)}, "waveform must be .* float32; got .* float64"),
        ({"waveform": np.zeros(4000, np.float32)}, r"waveform must be .*\[4000\]"),
        ({"waveform": np.zeros((4000, 1), np.float32)}, "channels"),
        ({"waveform": np.full((1, 4000), np.nan, np.float32)}, "not finite"),
        ({"waveform": np.full((1, 4000), 1.5, np.float32)}, "peak is 1.5"),
        ({"sample_rate": 0}, "sample_rate"),
        ({"sample_rate": 24_000.0}, "sample_rate"),
        ({"fps": 0}, "fps"),
        ({"fps": float("nan")}, "fps"),
        ({"fps": "24"}, "fps"),
        ({"request": "a cat"}, "request"),
    ],
)
def test_a_wrong_part_is_refused_by_name(changes: dict[str, object], words: str) -> None:
    with pytest.raises(MediaError, match=words):
        make(**changes)


def test_resampling_keeps_the_clip_in_step_to_the_sample(make_clip) -> None:
    clip = make_clip(fps=23.976, at_frame=11)
    other = clip.resampled(48_000)
    assert other.sample_rate == 48_000
    assert other.waveform.shape[1] == int(24 * 48_000 * Fraction(1001, 24_000))
    assert int(np.abs(other.waveform[0]).argmax()) == 2 * int(np.abs(clip.waveform[0]).argmax())
    assert other.frames is clip.frames


def test_resampling_to_its_own_rate_changes_nothing(make_clip) -> None:
    clip = make_clip()
    assert clip.resampled(clip.sample_rate) is clip


def test_a_full_scale_audio_stays_within_full_scale_when_resampled() -> None:
    square = np.where(np.arange(4000) % 20 < 10, 1.0, -1.0).astype(np.float32)[None]
    assert float(np.abs(make(waveform=square).resampled(44_100).waveform).max()) <= 1.0


def test_a_notebook_gets_a_player_with_the_clip_in_it() -> None:
    html = make(frames_shape=(4, 16, 16, 3))._repr_html_()
    assert html.startswith("<video controls") and html.endswith("</video>")
    head, data = html.split('src="data:video/mp4;base64,')
    assert "16x16" in head
    assert base64.b64decode(data.split('"')[0])[4:8] == b"ftyp"


def test_a_notebook_gets_the_facts_of_a_clip_that_no_player_shows() -> None:
    html = make(frames_shape=(4, 15, 15, 3))._repr_html_()
    assert html.startswith("<p>") and "15x15" in html and "<video" not in html
