"""The noise of a block that is dragged: at every instant as loud as the block is fast."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mova.scenes.clapper.stages import StrokeMotion
from mova.scenes.script import Script, generator
from mova.scenes.waves import Band, Window, band_noise

_BAND = Band(500.0, 4500.0, 2, 1)
_LEVEL = 0.13  # RMS at 1.5 lengths per second
_ROOM = (10.0 ** (-66.0 / 20.0), Band(60.0, 6000.0, 1, 1))


def scrape(script: Script, *, sample_rate: int, num_samples: int, channels: int = 1) -> npt.NDArray[np.float32]:
    """Noise whose amplitude follows the speed, over the faint noise of a room.

    Args:
        script: Its motion is a :class:`~mova.scenes.clapper.stages.StrokeMotion`.
        sample_rate: Samples per second.
        num_samples: Samples to make.
        channels: 1, or 2 with the same in both.

    Returns:
        ``[channels, num_samples]`` float32 in (-1, 1).
    """
    motion = script.motion
    assert isinstance(motion, StrokeMotion)
    window = Window(0, num_samples, 0.0, sample_rate)
    noise = band_noise(window, _BAND, generator("scrape", script.seed, "noise"))
    room = _ROOM[0] * band_noise(window, _ROOM[1], generator("scrape", script.seed, "room"))
    audio = _LEVEL / 1.5 * motion.speed(window.times_s) * noise + room
    return np.repeat(np.tanh(audio)[None].astype(np.float32), channels, axis=0)
