"""Write the frames of a clip as an animated GIF with one palette computed for them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.filter import Graph
from av.video.format import VideoFormat
from numpy.typing import NDArray

from mova.errors import MediaError

# GIF counts in hundredths of a second, and viewers show frames of less than two of them for ten
_TICK_S = Fraction(1, 100)
_MAX_FPS = Fraction(50)
# GIF89a sections 17 and 18: signature and screen descriptor, whose packed byte states the size of the palette
# that follows
_HEADER_BYTES, _FLAGS_BYTE, _HAS_PALETTE, _PALETTE_SIZE = 13, 10, 0x80, 0x07
_COMMENT_INTRODUCER = b"\x21\xfe"
_MAX_SUB_BLOCK = 255


def write_gif(frames: NDArray[np.uint8], fps: Fraction, *, path: Path, comment: str | None = None) -> None:
    """Write ``frames`` as a looping GIF of 256 colours.

    Each frame starts on the hundredth of a second nearest to its true time, so that the video keeps its length.

    Args:
        frames: ``[T, H, W, 3]`` uint8 RGB.
        fps: Frames per second, at most 50: viewers do not play GIF faster.
        path: Path of the file.
        comment: Text of the comment block.

    Raises:
        MediaError: If ``fps`` is above 50.
    """
    if fps > _MAX_FPS:
        raise MediaError(
            f"GIF viewers play at most {_MAX_FPS} frames per second; the clip has {float(fps):.3f}.",
            "Write .mp4 or .webm instead.",
        )
    height, width = frames.shape[1:3]
    with av.open(str(path.resolve()), "w", format="gif", options={"loop": "0"}) as container:
        stream = container.add_stream("gif", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "pal8"
        stream.time_base = _TICK_S
        stream.codec_context.time_base = _TICK_S
        for index, frame in enumerate(_apply_palette(frames, fps)):
            start, end = (round(Fraction(n) / fps / _TICK_S) for n in (index, index + 1))
            frame.pts, frame.time_base, frame.duration = start, _TICK_S, end - start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    if comment is not None:
        _add_comment(path, comment)


def _apply_palette(frames: NDArray[np.uint8], fps: Fraction) -> list[av.VideoFrame]:
    """Map all frames to one palette of 256 colours, chosen from the whole video, with error diffusion."""
    height, width = frames.shape[1:3]
    graph = Graph()
    source = graph.add_buffer(width=width, height=height, format=VideoFormat("rgb24"), time_base=1 / fps)
    split, sink = graph.add("split"), graph.add("buffersink")
    palette, use = graph.add("palettegen", "stats_mode=full"), graph.add("paletteuse", "dither=sierra2_4a")
    source.link_to(split, 0, 0)
    split.link_to(palette, 0, 0)
    split.link_to(use, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(sink, 0, 0)
    graph.configure()
    for index, rgb in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        frame.pts, frame.time_base = index, 1 / fps
        graph.push(frame)
    graph.push(None)
    return [cast("av.VideoFrame", graph.pull()) for _ in range(len(frames))]


def _add_comment(path: Path, comment: str) -> None:
    """Insert a comment block after the header (GIF89a section 24): FFmpeg reads those but writes none."""
    data, text = path.read_bytes(), comment.encode()
    header = _HEADER_BYTES
    if data[_FLAGS_BYTE] & _HAS_PALETTE:
        header += 3 * 2 ** ((data[_FLAGS_BYTE] & _PALETTE_SIZE) + 1)
    parts = (text[start : start + _MAX_SUB_BLOCK] for start in range(0, len(text), _MAX_SUB_BLOCK))
    block = _COMMENT_INTRODUCER + b"".join(bytes([len(part)]) + part for part in parts) + b"\0"
    path.write_bytes(data[:header] + block + data[header:])
