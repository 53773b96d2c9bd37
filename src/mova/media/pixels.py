"""Decoded frames as upright RGB arrays, as a player shows them: colours, transparency, rotation and mirroring."""

from __future__ import annotations

import gc
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

_OPAQUE = 255
_LOOK_EVERY = 24  # frames between two looks at the display matrix
_ACCURATE = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_SHRINK = Interpolation.AREA
# Entries of a quarter turn are 0 or 65536; what is between these parts of the larger one is a turn by another angle
_ZERO, _FULL = 0.01, 0.5


class RgbConverter:
    """Converts the frames of one video to ``[H, W, 3]`` full-range RGB, upright, by the colours that the file states.

    Attributes:
        has_transparency: Whether any frame so far had transparent parts; they are shown on black.
        is_crooked: Whether any frame so far was to be turned by an angle that is no quarter turn; the turn is left out.
    """

    def __init__(self) -> None:
        self.has_transparency = False
        self.is_crooked = False
        self._reformatter = VideoReformatter()  # keeps its tables from frame to frame
        self._matrix: tuple[float, float, float, float] | None = None
        self._num_since = _LOOK_EVERY

    def convert(self, frame: av.VideoFrame, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """Convert a frame.

        Args:
            frame: The frame.
            size: Width and height before any turn, if they are not to be those of the frame.
        """
        has_alpha = frame.format.has_palette or any(part.is_alpha for part in frame.format.components)
        name = "rgba" if has_alpha else "rgb24"
        width, height = size or (frame.width, frame.height)
        is_smaller = width < frame.width
        if frame.format.is_rgb or frame.format.has_palette:
            array = frame.to_ndarray(format=name, width=width, height=height, interpolation=_SHRINK if is_smaller else None)
        else:
            array = self._reformatter.reformat(
                frame,
                width=width,
                height=height,
                format=name,
                src_colorspace=_matrix(frame),
                dst_colorspace=Colorspace.ITU709,
                src_color_range=_range(frame),
                dst_color_range=ColorRange.JPEG,
                interpolation=_SHRINK if is_smaller else _ACCURATE,
                threads=1,
            ).to_ndarray()
        pixels: NDArray[np.uint8] = np.asarray(array, np.uint8)
        if has_alpha:
            pixels = self._show_on_black(pixels)
        return np.ascontiguousarray(self._turn_upright(pixels, frame))

    def _show_on_black(self, rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Composite ``[H, W, 4]`` of straight alpha on black."""
        alpha = rgba[..., 3:]
        if alpha.min(initial=_OPAQUE) == _OPAQUE:
            return rgba[..., :3]
        self.has_transparency = True
        return ((rgba[..., :3].astype(np.uint16) * alpha + _OPAQUE // 2) // _OPAQUE).astype(np.uint8)

    def _turn_upright(self, array: NDArray[np.uint8], frame: av.VideoFrame) -> NDArray[np.uint8]:
        """Turn and mirror a frame by its display matrix.

        The matrix maps stored to shown positions: x' = a x + c y, y' = b x + d y (ISO/IEC 14496-12, 8.3.2). Its signs tell
        which of the eight quarter turns and mirrors it is.
        """
        self._num_since += 1
        if self._num_since == 1:
            gc.collect(0)  # the frame whose side data was read; left to itself the collector lets hundreds pile up
        if self._num_since > _LOOK_EVERY and (frame.key_frame or self._matrix is None):
            # side data and its frame refer to each other, so that both wait for the garbage collector: not for every frame
            data: Any = frame.side_data.get("DISPLAYMATRIX")
            self._matrix = None if data is None else tuple(np.frombuffer(data, np.int32)[[0, 1, 3, 4]].astype(float))
            self._num_since = 0
        if self._matrix is None:
            return array
        a, b, c, d = self._matrix
        straight, turned = (abs(a), abs(d)), (abs(b), abs(c))
        largest = max(*straight, *turned)
        if min(straight) > _FULL * largest and max(turned) < _ZERO * largest:
            return array[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
        if min(turned) > _FULL * largest and max(straight) < _ZERO * largest:
            return array.transpose(1, 0, 2)[:: -1 if b < 0 else 1, :: -1 if c < 0 else 1]
        self.is_crooked = True
        return array


def _matrix(frame: av.VideoFrame) -> int:
    """Return the stated matrix, or the one that players assume: BT.709 from 720 lines up, BT.601 below."""
    stated = int(frame.colorspace)
    if stated in {int(known) for known in Colorspace}:
        return stated
    # FFmpeg's code point 6 (SMPTE 170M) is BT.601 under another name
    return int(Colorspace.ITU601 if stated == 6 or min(frame.width, frame.height) < 720 else Colorspace.ITU709)


def _range(frame: av.VideoFrame) -> int:
    is_full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    return int(ColorRange.JPEG if is_full else ColorRange.MPEG)
