"""Files from public reports, where they are at hand: read with the right value, or refused in the right words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mova.errors import MediaError
from mova.lab.sync.measure import measure_file
from mova.media.decode import read_frames, read_waveform
from mova.media.health.files import check_file
from mova.media.probe import probe


def case(folder: Path, number: str) -> Path:
    return next(folder.glob(f"media-{number}-*"))


@pytest.mark.parametrize(("name", "channels"), [("film71.mov", 8), ("sound61.mov", 7)])
def test_layouts_of_their_own_are_read(name: str, channels: int, cases: Path) -> None:
    path = case(cases, "01") / name
    assert probe(path).audio.channels == channels
    assert check_file(path).verdict == "ok"
    measure_file(case(cases, "01") / "film71.mov")


def test_mirrored_videos_are_shown_mirrored(cases: Path) -> None:
    folder = case(cases, "02")
    plain = read_frames(folder / "plain.mp4").frames[0].astype(int)
    expected = {
        "hflip": plain[:, ::-1],
        "vflip": plain[::-1],
        "transpose": plain.transpose(1, 0, 2),
        "antitranspose": plain[::-1, ::-1].transpose(1, 0, 2),
    }
    for name, right in expected.items():
        assert np.abs(read_frames(folder / f"{name}.mp4").frames[0] - right).max() <= 2, name
    with pytest.raises(MediaError, match="quarter turn"):
        read_frames(folder / "rot45.mp4")


def test_audio_of_ordinary_containers_is_read_whole(cases: Path) -> None:
    ogg = read_waveform(case(cases, "03") / "clicks.ogg")
    assert ogg.waveform.shape[1] / ogg.sample_rate == pytest.approx(3.0, abs=0.001)
    loud = np.flatnonzero(np.abs(ogg.waveform).max(axis=0) > 0.1) / ogg.sample_rate
    assert [loud[np.searchsorted(loud, time_s - 0.01)] for time_s in (0.1, 1.0, 2.5)] == pytest.approx(
        [0.1, 1.0, 2.5], abs=0.01
    )
    for name in ("a.wv", "b.au", "c.ac3", "d.y4m"):
        check_file(case(cases, "22") / name)


@pytest.mark.parametrize(
    ("number", "name", "offset_ms", "within_ms"),
    [
        ("04", "one_frame_dropped.mp4", 100, 5),
        ("04", "phone_jitter.mp4", 100, 20),
        ("04", "screen.mp4", 100, 5),
        ("04", "recorder.webm", 93, 5),
        ("08", "jitter5.flv", 100, 5),
        ("08", "jitter4.mkv", 86, 4),
        ("13", "xvid_packed.avi", 100, 40),
        ("13", "h264.avi", 100, 40),
        ("13", "xvid_no_bframes.avi", 100, 40),
    ],
)
def test_clocks_that_are_not_steady_do_not_move_the_offset(
    number: str, name: str, offset_ms: float, within_ms: float, cases: Path
) -> None:
    path = case(cases, number) / name
    assert measure_file(path).offset_ms == pytest.approx(offset_ms, abs=within_ms)
    check_file(path)


def test_channels_that_a_mix_does_not_use_are_no_fault(cases: Path) -> None:
    for name in ("lfe_silent.mp4", "centre_only.mp4", "lfe_used.mp4"):
        assert check_file(case(cases, "05") / name).verdict == "ok", name


def test_hidden_colours_of_transparent_parts_are_not_shown(cases: Path) -> None:
    for path in case(cases, "06").glob("alpha_*"):
        assert read_frames(path).frames[0, 5, 5].max() <= 2, path.name
