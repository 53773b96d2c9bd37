"""The rendered picture shows what the script says, when and where it says it, at any size."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mova.errors import RequestError
from mova.media.clip import Clip
from mova.scenes.kinds import KINDS
from mova.scenes.kinds.ball import FLOOR_Y, BallMotion
from mova.scenes.kinds.metronome import MetronomeMotion
from mova.scenes.kinds.mouth import aperture
from mova.scenes.world import draw, render, sample_scripts, scene_sheet, write_script

FPS, FRAMES = 16, 33


def luminance(frames: NDArray[np.uint8], place: tuple[float, float], reach: float) -> NDArray[np.float64]:
    height, width = frames.shape[1:3]
    left, right = int((place[0] - reach) * width), int(np.ceil((place[0] + reach) * width))
    top, bottom = int((place[1] - reach) * height), int(np.ceil((place[1] + reach) * height))
    return frames[:, max(0, top) : bottom, max(0, left) : right].astype(np.float64).mean(axis=(1, 2, 3))


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_same_script_gives_the_same_bytes(kind: str) -> None:
    script = write_script(kind, 3)
    first, second = render(script), render(write_script(kind, 3))
    assert first.frames.shape == (FRAMES, 96, 96, 3) and first.frames.dtype == np.uint8
    assert first.waveform.shape == (1, 33000) and first.waveform.dtype == np.float32
    assert first.frames.tobytes() == second.frames.tobytes()
    assert first.waveform.tobytes() == second.waveform.tobytes()
    assert not np.array_equal(first.frames, render(write_script(kind, 4)).frames)


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("shape", [(40, 64), (97, 33), (16, 16)])
def test_any_size_rate_and_length_can_be_drawn(kind: str, shape: tuple[int, int]) -> None:
    height, width = shape
    frames = draw(write_script(kind, 1), width=width, height=height, fps=23.976, num_frames=7, subframes=2)
    assert frames.shape == (7, height, width, 3)
    assert frames.std() > 3.0


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_larger_picture_is_the_same_picture(kind: str) -> None:
    script = write_script(kind, 5)
    small = draw(script, width=96, height=96, fps=FPS, num_frames=FRAMES).astype(np.float64)
    large = draw(script, width=192, height=192, fps=FPS, num_frames=FRAMES).astype(np.float64)
    shrunk = large.reshape(FRAMES, 96, 2, 96, 2, 3).mean(axis=(2, 4))
    # edges are resolved differently; on the mean a picture differs by less than 1 percent of white
    assert np.abs(shrunk - small).mean() < 2.5


@pytest.mark.parametrize(("kind", "reach"), [("drums", 0.12), ("piano", 0.05), ("metronome", 0.05)])
@pytest.mark.parametrize("size", [96, 160])
def test_the_place_of_an_event_lights_up_in_the_frame_that_sees_it(kind: str, reach: float, size: int) -> None:
    for seed in range(4):
        script = write_script(kind, seed)
        frames = draw(script, width=size, height=size, fps=64, num_frames=132)
        for event in script.events:
            at = int(event.time_s * 64)
            light = luminance(frames, event.place, reach)
            gain = [abs(light[at - 1] - light[at - 2]), abs(light[at + 1] - light[at - 1])]
            assert gain[1] > 8.0 and gain[1] > gain[0], (seed, event)


@pytest.mark.parametrize("seed", range(6))
def test_a_lightning_onset_is_exact_in_luminance(seed: int) -> None:
    script = write_script("storm", seed, attributes={"count": 1})
    event = script.events[0]
    frames = draw(script, width=96, height=96, fps=FPS, num_frames=FRAMES).astype(np.float64)
    light = frames[:, 40:58].mean(axis=(1, 2, 3)) - frames[0, 40:58].mean()
    shutter, decay = 0.75 / FPS, 0.15
    lit = int(np.argmax(light > 1e-9))
    opens, closes = lit / FPS, lit / FPS + shutter
    if opens <= event.time_s < closes:
        # the mean light of frame ``lit`` over that of the next, wholly lit frame, solved for the onset
        ratio = light[lit] / light[lit + 1] * (1 - np.exp(-shutter / decay))
        onset = opens + 1 / FPS - decay * np.log(ratio + np.exp((1 / FPS - shutter) / decay))
        assert onset == pytest.approx(event.time_s, abs=0.002)
    else:
        assert closes - 1 / FPS <= event.time_s <= opens


@pytest.mark.parametrize("seed", range(8))
def test_a_ball_touches_the_floor_at_each_impact_and_only_then(seed: int) -> None:
    script = write_script("ball", seed)
    motion = script.motion
    assert isinstance(motion, BallMotion)
    dense = np.linspace(0.0, script.seconds, 6001)
    heights = np.stack([flight.height(dense) for flight in motion.flights])
    assert heights.min() >= 0.0
    assert heights.max() <= FLOOR_Y - 2 * motion.radius + 1e-6
    contacts = [time for flight in motion.flights for time in flight.impacts_s if time < script.seconds]
    assert sorted(contacts) == [event.time_s for event in script.events]
    for flight in motion.flights:
        across = flight.across(dense)
        assert across.min() >= motion.radius and across.max() <= 1 - motion.radius
        at_impacts = flight.height(np.asarray(flight.impacts_s[:-1]))
        np.testing.assert_allclose(at_impacts, 0.0, atol=1e-9)
    for event in script.events:
        nearest = min(abs(f.across(np.array([event.time_s]))[0] - event.place[0]) for f in motion.flights)
        assert nearest < 1e-9


@pytest.mark.parametrize("size", [96, 200])
def test_the_drawn_ball_reaches_the_floor_line_at_an_impact(size: int) -> None:
    script = write_script("ball", 2, attributes={"number": 1, "colour": "white", "size": "large"})
    event = script.events[0]
    fps = 1.0 / event.time_s  # frame 1 opens at the impact
    frames = draw(script, width=size, height=size, fps=fps, num_frames=2, shutter=0.002, subframes=1)
    column = frames[1, :, int(event.place[0] * size)].astype(np.float64).mean(axis=-1)
    inside = np.flatnonzero(column[: int(FLOOR_Y * size)] > 180)
    # the outline below the bright disc is 0.014 of the picture wide
    assert inside[-1] + 1 == pytest.approx((FLOOR_Y - 0.014) * size, abs=1.5)


def test_the_arm_of_a_metronome_is_upright_at_every_tick() -> None:
    script = write_script("metronome", 1)
    assert isinstance(script.motion, MetronomeMotion)
    times_s = np.array([event.time_s for event in script.events])
    np.testing.assert_allclose(script.motion.angle(times_s), 0.0, atol=1e-9)


def test_a_mouth_starts_to_open_at_the_syllable_and_is_closed_before_the_next() -> None:
    script = write_script("mouth", 2, attributes={"count": 4})
    for event in script.events:
        times_s = event.time_s + np.array([-0.001, 0.0, 0.01, 0.04, 0.23])
        before, start, opening, most, after = aperture(script, times_s)
        assert before == start == 0.0 and after == 0.0
        assert 0.1 < opening < most and most > 0.75


def test_the_sirens_lamps_change_places_at_every_switch() -> None:
    script = write_script("siren", 1, attributes={"time": "night"})
    frames = draw(script, width=96, height=96, fps=100, num_frames=206).astype(np.float64)
    bluer = frames[..., 2].mean(axis=(1, 2)) > frames[..., 0].mean(axis=(1, 2))
    for event in script.events:
        at = int(event.time_s * 100)
        assert bluer[at + 1] == (event.label == "high")
        assert bluer[at - 1] != bluer[at + 1]


def test_a_rendered_clip_is_a_clip() -> None:
    scene = render(write_script("ball", 1), width=64, height=48, num_frames=40, fps=12, sample_rate=8000, channels=2)
    clip = scene.clip()
    assert isinstance(clip, Clip)
    assert clip.waveform.shape == (2, 40 * 8000 // 12)


def test_a_script_longer_than_the_video_is_refused() -> None:
    script = write_script("drums", 1, seconds=4.0)
    with pytest.raises(RequestError, match="last event"):
        render(script, num_frames=20)


@pytest.mark.parametrize(("field", "value"), [("width", 0), ("num_frames", 0), ("shutter", 1.5), ("subframes", 0)])
def test_a_drawing_that_makes_no_sense_is_refused(field: str, value: float) -> None:
    sizes = {"width": 32, "height": 32, "fps": 16, "num_frames": 2, field: value}
    with pytest.raises(RequestError, match=field):
        draw(write_script("ball", 1), **sizes)  # type: ignore[arg-type]


def test_a_sheet_shows_a_strip_and_a_waveform_per_clip() -> None:
    clips = [render(script, width=32, height=32) for script in sample_scripts(0, 2)]
    sheet = scene_sheet(clips, frames_per_strip=5)
    assert sheet.width == 5 * 32 + 16
    assert sheet.height % 2 == 0 and sheet.height > 2 * 32
    strip = np.asarray(sheet)[26 : 26 + 32, 8 : 8 + 32]
    assert np.array_equal(strip[4:, 4:28], clips[0].frames[0][4:, 4:28])
    with pytest.raises(ValueError, match="need clips"):
        scene_sheet([])


def test_the_blur_of_a_large_picture_has_more_positions() -> None:
    script = write_script("drums", 5)

    def drawn(size: int, subframes: int | None) -> NDArray[np.float64]:
        picture = draw(script, width=size, height=size, fps=16, num_frames=8, subframes=subframes)
        return picture.astype(np.float64)

    assert (drawn(96, None) == drawn(96, 3)).all()
    few, usual, exact = (drawn(512, subframes) for subframes in (3, None, 24))
    assert np.square(usual - exact).mean() < 0.25 * np.square(few - exact).mean()
