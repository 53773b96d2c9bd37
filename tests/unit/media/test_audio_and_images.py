from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mova.errors import MediaError
from mova.media.clip import Clip
from mova.media.image import read_image
from mova.media.loudness import loudness_lufs, peak_dbfs
from mova.media.resample import mix_to_stereo, resample
from mova.media.sheet import clip_sheet, gallery_sheet


def tone(seconds: float, *, level: float = 1.0, rate: int = 48_000, hz: float = 997.0) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)[None]


# --- resample -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("from_rate", "to_rate"), [(24_000, 48_000), (44_100, 16_000), (16_000, 44_100)])
def test_resampling_keeps_pitch_phase_and_length(from_rate: int, to_rate: int) -> None:
    result = resample(tone(1.0, rate=from_rate), from_rate, to_rate=to_rate, num_samples=to_rate)
    inner = slice(to_rate // 20, -to_rate // 20)
    assert result.shape == (1, to_rate)
    assert np.abs(result[:, inner] - tone(1.0, rate=to_rate)[:, inner]).max() < 1e-4


def test_surround_is_mixed_to_stereo_as_players_do_and_does_not_clip() -> None:
    half = 0.5**0.5
    shares = [(1, 0), (0, 1), (half, half), (0, 0), (half, 0), (0, half)]  # of 5.1, ITU-R BS.775
    for channel, share in enumerate(shares):
        surround = np.zeros((6, 1000), np.float32)
        surround[channel, 500] = 1.0
        np.testing.assert_allclose(mix_to_stereo(surround, 48_000)[:, 500], share, atol=1e-3)
    for channels in range(3, 9):
        mixed = mix_to_stereo(np.ones((channels, 700), np.float32), 48_000)
        assert mixed.shape == (2, 700) and mixed.max() == 1.0
    stereo = np.ones((2, 5), np.float32)
    assert mix_to_stereo(stereo, 48_000) is stereo


def test_a_length_that_the_audio_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="num_samples=50000"):
        resample(tone(1.0), 48_000, to_rate=24_000, num_samples=50_000)
    with pytest.raises(ValueError, match="to_rate=0"):
        resample(tone(1.0), 48_000, to_rate=0)


# --- loudness -----------------------------------------------------------------------------------------------


def test_a_full_scale_997_hz_tone_measures_as_the_standard_says() -> None:
    # ITU-R BS.1770-4: a 0 dBFS sine of 997 Hz in one channel reads -3.01 LKFS
    assert loudness_lufs(tone(2.0), 48_000) == pytest.approx(-3.01, abs=0.1)
    assert peak_dbfs(tone(2.0, level=0.5)) == pytest.approx(-6.02, abs=0.01)


def test_silence_and_very_short_audio_have_no_loudness() -> None:
    assert loudness_lufs(np.zeros((1, 48_000), np.float32), 48_000) is None
    assert loudness_lufs(tone(0.39), 48_000) is None
    assert loudness_lufs(tone(0.4), 48_000) is not None
    assert peak_dbfs(np.zeros((2, 100), np.float32)) is None


# --- sheets -------------------------------------------------------------------------------------------------


def sheet_array(clip: Clip, **options) -> np.ndarray:
    return np.asarray(clip_sheet(clip, **options)).astype(int)


def test_a_sheet_shows_the_click_below_the_flash(make_clip) -> None:
    clip = make_clip(num_frames=16, at_frame=8)
    marked = sheet_array(clip, num_frames=16)
    quiet = Clip(clip.frames, np.zeros_like(clip.waveform), clip.fps, clip.sample_rate)
    waveform_change = np.abs(marked - sheet_array(quiet, num_frames=16)).sum(axis=(0, 2))
    white = (marked[60:100] > 240).all(axis=2).any(axis=0)
    click = int(waveform_change.argmax())
    # frame 8 of 16 stands over the ninth sixteenth of the axis; the click is where that part begins
    assert white[click + 10 : click + 55].all()
    assert not white[click - 30 : click - 5].any()


def test_events_are_marked_at_their_time(make_clip) -> None:
    clip = make_clip()
    plain, marked = sheet_array(clip), sheet_array(clip, events=[0.25, 0.75])
    columns = np.flatnonzero((np.abs(marked - plain).sum(axis=2) > 0).sum(axis=0) > 200)
    axis = 1200 - 2 * 20 - 52
    assert np.abs(np.sort(columns) - (72 + np.array([0.25, 0.75]) * axis)).max() <= 1.5


def test_an_event_outside_the_clip_is_refused(make_clip) -> None:
    with pytest.raises(MediaError, match="events"):
        make_clip().sheet(events=[1.5])


@pytest.mark.parametrize(("width", "height"), [(32, 96), (96, 32), (2, 2), (640, 4)])
def test_sheets_take_any_shape_of_video(width: int, height: int, make_clip) -> None:
    clip = make_clip(width=width, height=height)
    assert clip_sheet(clip, num_frames=8).width == 1200
    assert gallery_sheet([("one", clip), ("two", clip)], num_frames=3).width == 1148


def test_sheets_take_one_frame_and_more_than_there_are(make_clip) -> None:
    clip = make_clip(num_frames=1, at_frame=0)
    assert clip.sheet(num_frames=1).size == clip.sheet(num_frames=50).size
    with pytest.raises(MediaError, match="num_frames"):
        clip.sheet(num_frames=0)
    with pytest.raises(MediaError, match="at least one clip"):
        gallery_sheet([])


def test_a_gallery_shortens_a_caption_that_does_not_fit(make_clip) -> None:
    clip = make_clip()
    long = np.asarray(gallery_sheet([("word " * 400, clip)]))
    assert (long[20:45, -95:-65] == long[0, 0]).all(), "the caption stops before the length of the clip"


# --- still images -------------------------------------------------------------------------------------------


def test_an_image_is_read_as_it_is(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    for mode, name in (("RGB", "a.png"), ("RGBA", "b.png"), ("RGB", "c.bmp")):
        Image.fromarray(pixels).convert(mode).save(tmp_path / name)
        assert np.array_equal(read_image(tmp_path / name), pixels)


def test_a_photograph_is_turned_upright(tmp_path: Path) -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter turn clockwise
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif, quality=95)
    image = read_image(tmp_path / "a.jpg")
    assert image.shape == (32, 16, 3)
    assert image[3, 12].min() > 200


def test_images_that_would_come_out_wrong_are_refused(tmp_path: Path) -> None:
    clear = np.zeros((4, 4, 4), np.uint8)
    Image.fromarray(clear, "RGBA").save(tmp_path / "clear.png")
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "deep.png")
    (tmp_path / "text.png").write_bytes(b"no image")
    Image.new("RGB", (64, 64)).save(tmp_path / "large.png")
    whole = (tmp_path / "large.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    for name, words in (
        ("clear.png", "transparent"),
        ("deep.png", "not 8 bits"),
        ("text.png", "not an image"),
        ("cut.png", "cannot be read"),
        ("none.png", "there is no file"),
    ):
        with pytest.raises(MediaError, match=words):
            read_image(tmp_path / name)
    with pytest.raises(MediaError, match="64x64; at most 100 pixels"):
        read_image(tmp_path / "large.png", max_pixels=100)


def test_a_decompression_bomb_is_refused_from_its_header(tmp_path: Path) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")))
    with pytest.raises(MediaError, match="pixels"):
        read_image(tmp_path / "bomb.png")


def test_a_real_photograph_is_read(shared_media: Path) -> None:
    assert read_image(shared_media / "single_person.jpg").shape == (1080, 1920, 3)
