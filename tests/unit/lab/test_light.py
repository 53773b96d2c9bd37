from __future__ import annotations

import numpy as np
import pytest

from mova.lab.read.light import find_flashes, find_switches
from mova.scenes.clapper.scene import WORLD_SHUTTER as SHUTTER
from mova.scenes.raster import Exposure

FPS, FRAMES = 16.0, 33
EXPOSURE = Exposure(FPS, FRAMES, SHUTTER, 3)
CLOSED_S = (1.0 - SHUTTER) / FPS  # a light that comes on while the shutter is closed is not seen until it opens


@pytest.mark.parametrize("decay_s", [0.1, 0.2])
def test_a_flash_is_timed_within_three_milliseconds_or_what_the_closed_shutter_hides(decay_s: float) -> None:
    for time_s in np.linspace(0.5, 0.5 + 2.0 / FPS, 41):
        light = EXPOSURE.flash([time_s], [0.8], decay_s)
        (found,) = find_flashes(light, FPS, shutter=SHUTTER, decay_s=decay_s, threshold=0.3)
        hidden = (time_s * FPS) % 1.0 > SHUTTER - 0.08 or (time_s * FPS) % 1.0 < 0.08
        assert abs(found.time_s - time_s) < (0.6 * CLOSED_S + 0.001 if hidden else 0.003)
        assert found.strength == pytest.approx(0.8, rel=0.15)


def test_flashes_that_run_into_each_other_are_counted_and_timed() -> None:
    truth = [0.31, 0.55, 0.83]
    light = EXPOSURE.flash(truth, [1.0, 0.7, 0.9], 0.2)
    found = find_flashes(light, FPS, shutter=SHUTTER, decay_s=0.2, threshold=0.35)
    np.testing.assert_allclose([flash.time_s for flash in found], truth, atol=0.009)


def test_noise_and_slow_changes_are_no_flashes() -> None:
    rng = np.random.default_rng(0)
    slow = np.linspace(0.0, 1.0, FRAMES) + 0.03 * rng.standard_normal(FRAMES)
    assert find_flashes(slow, FPS, shutter=SHUTTER, decay_s=0.15, threshold=0.35) == []


def test_a_switch_is_timed_by_the_share_of_the_frame_it_falls_in() -> None:
    for time_s in np.linspace(1.0, 1.0 + 1.0 / FPS, 21):
        signal = 0.2 + 0.5 * EXPOSURE.lit([(time_s, 9.0)])
        (found,) = find_switches(signal, FPS, shutter=SHUTTER)
        assert found.label == "up"
        hidden = (time_s * FPS) % 1.0 > SHUTTER - 0.08 or (time_s * FPS) % 1.0 < 0.08
        assert abs(found.time_s - time_s) < (0.011 if hidden else 0.001)


def test_a_signal_that_stays_has_no_switches() -> None:
    assert find_switches(np.full(FRAMES, 0.4), FPS, shutter=SHUTTER) == []
