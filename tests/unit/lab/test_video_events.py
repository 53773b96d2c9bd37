from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import gaussian_filter

from mova.errors import RequestError
from mova.lab.read.attributes import COLOURED, read_colours
from mova.lab.read.video_events import see
from mova.scenes.kinds import KINDS
from mova.scenes.world import draw, sample_scripts, write_script

FPS = 16
Frames = npt.NDArray[np.uint8]


def video(script: object, *, size: int = 96, fps: int = FPS) -> Frames:
    num_frames = int(np.ceil(2.0625 * fps))
    return draw(script, width=size, height=size, fps=fps, num_frames=num_frames)  # type: ignore[arg-type]


def worn(frames: Frames) -> Frames:
    """Smoothed in time and space and noisy, as by a codec."""
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(frames.astype(float), (0.5, 0.8, 0.8, 0)) + rng.normal(0, 5, frames.shape)
    return np.clip(smooth, 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_every_event_is_seen_once_and_none_is_made_up_even_in_a_worn_picture(kind: str) -> None:
    for script in sample_scripts(11, 3, [kind]):
        clean = video(script)
        truth = [event.time_s for event in script.events]
        seen = [event.time_s for event in see(clean, FPS, kind=kind)]
        # a light that comes on while the shutter is closed is known to 8 ms only; a mouth opens over 40 ms
        np.testing.assert_allclose(seen, truth, atol=0.022 if kind in ("mouth", "speech") else 0.013)
        np.testing.assert_allclose([event.time_s for event in see(worn(clean), FPS, kind=kind)], truth, atol=0.032)


@pytest.mark.parametrize("kind", ["ball", "drums", "siren"])
def test_another_size_and_frame_rate_are_read_as_well(kind: str) -> None:
    script = write_script(kind, 21)
    seen = [event.time_s for event in see(video(script, size=128, fps=24), 24, kind=kind)]
    np.testing.assert_allclose(seen, [event.time_s for event in script.events], atol=0.009)


@pytest.mark.parametrize("kind", KINDS)
def test_a_still_picture_and_a_black_one_have_no_events(kind: str) -> None:
    still = np.repeat(video(write_script(kind, 2))[:1], 33, axis=0)
    assert see(still, FPS, kind=kind) == []
    assert see(np.zeros_like(still), FPS, kind=kind) == []


def test_pads_and_keys_are_named_in_order() -> None:
    for kind, sequence in (("drums", "red blue yellow green"), ("piano", "C E G B")):
        script = write_script(kind, 4, attributes={"sequence": sequence})
        assert [event.label for event in see(video(script), FPS, kind=kind)] == sequence.split()


@pytest.mark.parametrize("kind", [kind for kind in COLOURED if kind in KINDS])
def test_every_colour_of_a_kind_is_named(kind: str) -> None:
    for index, colour in enumerate(KINDS[kind].attributes["colour"]):
        frames = video(write_script(kind, index, attributes={"colour": colour} | ({"number": 1} if kind == "ball" else {})))
        assert read_colours(frames, kind=kind) == {colour}
        assert read_colours(worn(frames), kind=kind) == {colour}


def test_two_balls_are_followed_apart() -> None:
    script = write_script("ball", 8, attributes={"number": 2, "colour": "blue", "colour2": "yellow", "count": 3})
    frames = video(script)
    assert read_colours(frames, kind="ball") == {"blue", "yellow"}
    seen = see(frames, FPS, kind="ball")
    np.testing.assert_allclose([e.time_s for e in seen], [e.time_s for e in script.events], atol=0.005)
    assert {event.label for event in seen} == {"blue", "yellow"}


def test_an_unknown_kind_and_another_shape_are_refused() -> None:
    with pytest.raises(RequestError, match="no scene kind 'flute'"):
        see(np.zeros((8, 8, 8, 3), np.uint8), FPS, kind="flute")
    with pytest.raises(ValueError, match="shutter"):
        see(np.zeros((8, 8, 8, 3), np.uint8), FPS, kind="piano", shutter=0.0)
    with pytest.raises(ValueError, match="frames must be"):
        see(np.zeros((8, 8, 8), np.uint8), FPS, kind="ball")
    with pytest.raises(ValueError, match="kind must be one of"):
        read_colours(np.zeros((8, 8, 8, 3), np.uint8), kind="storm")
