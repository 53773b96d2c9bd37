from __future__ import annotations

import numpy as np
import pytest

from mova.lab.read.attributes import ciede2000, lab, nearest_names
from mova.scenes.kinds.ball import BALL_COLOURS
from mova.scenes.raster import COLOURS

# Sharma, Wu and Dalal 2005, table 1: pairs 1, 4, 7, 9, 17, 23, 31, 34
SHARMA = [
    ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
    ((50.0, -1.3802, -84.2814), (50.0, 0.0, -82.7485), 1.0000),
    ((50.0, 0.0, 0.0), (50.0, -1.0, 2.0), 2.3669),
    ((50.0, 2.4900, -0.0010), (50.0, -2.4900, 0.0009), 7.1792),
    ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
    ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
]


@pytest.mark.parametrize(("first", "second", "difference"), SHARMA)
def test_ciede2000_gives_the_published_differences(
    first: tuple[float, ...], second: tuple[float, ...], difference: float
) -> None:
    assert float(ciede2000(first, second)) == pytest.approx(difference, abs=1e-4)
    assert float(ciede2000(second, first)) == pytest.approx(difference, abs=1e-4)


def test_lab_of_white_and_of_srgb_red() -> None:
    np.testing.assert_allclose(lab((1.0, 1.0, 1.0)), (100.0, 0.0, 0.0), atol=0.01)
    np.testing.assert_allclose(lab((1.0, 0.0, 0.0)), (53.24, 80.09, 67.20), atol=0.02)


def test_a_named_colour_keeps_its_name_when_it_is_a_little_darker_or_noisy() -> None:
    rng = np.random.default_rng(0)
    named = {name: COLOURS[name] for name in BALL_COLOURS}
    for name, colour in named.items():
        near = np.clip(0.95 * np.asarray(colour) + 0.02 * rng.standard_normal((20, 3)), 0.0, 1.0)
        assert set(nearest_names(near, named)) == {name}
