"""Colours as people see them: CIE Lab, the CIEDE2000 difference, and the nearest of a few named colours."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from mova.scenes.raster import Colour

Floats = npt.NDArray[np.float64]


def lab(rgb: npt.ArrayLike) -> Floats:
    """CIE L*a*b* (D65) of sRGB colours, ``[..., 3]`` in 0..1 (IEC 61966-2-1, CIE 15)."""
    values = np.asarray(rgb, dtype=np.float64)
    linear = np.where(values <= 0.04045, values / 12.92, ((np.maximum(values, 0.0) + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T / _WHITE
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack((116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])), axis=-1)


def ciede2000(first: npt.ArrayLike, second: npt.ArrayLike) -> Floats:
    """Difference of Lab colours ``[..., 3]``, broadcast (CIE 142; Sharma, Wu and Dalal 2005, equations 2 to 22)."""
    lightness_1, a_1, b_1 = np.moveaxis(np.asarray(first, dtype=np.float64), -1, 0)
    lightness_2, a_2, b_2 = np.moveaxis(np.asarray(second, dtype=np.float64), -1, 0)
    chroma = 0.5 * (np.hypot(a_1, b_1) + np.hypot(a_2, b_2))
    grey = 1.5 - 0.5 * np.sqrt(chroma**7 / (chroma**7 + 25.0**7))  # 1 + G
    chroma_1, chroma_2 = np.hypot(grey * a_1, b_1), np.hypot(grey * a_2, b_2)
    hue_1 = np.degrees(np.arctan2(b_1, grey * a_1)) % 360.0
    hue_2 = np.degrees(np.arctan2(b_2, grey * a_2)) % 360.0

    both = chroma_1 * chroma_2 > 0.0
    turn = np.where(both, (hue_2 - hue_1 + 180.0) % 360.0 - 180.0, 0.0)
    delta_lightness, delta_chroma = lightness_2 - lightness_1, chroma_2 - chroma_1
    delta_hue = 2.0 * np.sqrt(chroma_1 * chroma_2) * np.sin(np.radians(turn / 2.0))

    lightness, chroma = 0.5 * (lightness_1 + lightness_2), 0.5 * (chroma_1 + chroma_2)
    hue = np.where(both, (hue_1 + turn / 2.0) % 360.0, hue_1 + hue_2)
    weight = (
        1.0
        - 0.17 * np.cos(np.radians(hue - 30.0))
        + 0.24 * np.cos(np.radians(2.0 * hue))
        + 0.32 * np.cos(np.radians(3.0 * hue + 6.0))
        - 0.20 * np.cos(np.radians(4.0 * hue - 63.0))
    )
    scale_l = 1.0 + 0.015 * (lightness - 50.0) ** 2 / np.sqrt(20.0 + (lightness - 50.0) ** 2)
    scale_c, scale_h = 1.0 + 0.045 * chroma, 1.0 + 0.015 * chroma * weight
    twist = np.sin(np.radians(60.0 * np.exp(-(((hue - 275.0) / 25.0) ** 2))))
    rotation = -2.0 * np.sqrt(chroma**7 / (chroma**7 + 25.0**7)) * twist
    parts = delta_lightness / scale_l, delta_chroma / scale_c, delta_hue / scale_h
    squared = parts[0] ** 2 + parts[1] ** 2 + parts[2] ** 2 + rotation * parts[1] * parts[2]
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)))


def nearest_names(rgb: npt.ArrayLike, named: Mapping[str, Colour]) -> npt.NDArray[np.str_]:
    """Of each sRGB colour ``[..., 3]`` in 0..1, the name of the nearest by CIEDE2000."""
    names = np.array(list(named))
    differences = ciede2000(lab(rgb)[..., None, :], lab(list(named.values())))
    return np.asarray(names[differences.argmin(axis=-1)])


_TO_XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
_WHITE = np.array([0.95047, 1.0, 1.08883])
