"""Videos as other programs write them: any times, codec, tags and edit lists."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

MP4_TICK = Fraction(1, 12_800)
MATROSKA_TICK = Fraction(1, 1000)


def level(index: int) -> int:
    """The grey of frame ``index``."""
    return (16 + 9 * index) % 240


def write_levels(
    path: Path,
    times: Sequence[int],
    *,
    time_base: Fraction = MP4_TICK,
    fps: int = 25,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    size: tuple[int, int] = (32, 32),
    rotation: int = 0,
    colours: tuple[int, int, int, int] | None = None,
    codec_tag: str | None = None,
    container_options: dict[str, str] | None = None,
    metadata: dict[str, str] | None = None,
) -> Path:
    """A video of grey frames, each of its own :func:`level`, shown at ``times`` (ticks)."""
    if options is None:
        options = {"bf": "2", "b-adapt": "0", "g": "8", "crf": "5"} if codec == "libx264" else {}
    with av.open(path, "w", options=container_options or {}) as container:
        container.metadata.update(metadata or {})
        video = container.add_stream(codec, rate=fps, options=options)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        video.time_base = video.codec_context.time_base = time_base
        if codec_tag is not None:
            video.codec_context.codec_tag = codec_tag
        if rotation:
            video.set_display_rotation(rotation)
        if colours is not None:
            context = video.codec_context
            context.colorspace, context.color_primaries, context.color_trc, context.color_range = colours
        for index, time in enumerate(times):
            grey = np.full((size[1], size[0], 3), level(index), np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = time, time_base
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


class Packets(NamedTuple):
    """What a file holds of a video, read with PyAV alone."""

    digests: list[str]
    shown_s: list[Fraction]
    decoded_s: list[Fraction | None]
    hidden: list[bool]


def packets_of(path: Path) -> Packets:
    """The packets of the first video stream, in the file's order."""
    found = Packets([], [], [], [])
    with av.open(path, metadata_errors="replace") as container:
        for packet in container.demux(video=0):
            if packet.size:
                found.digests.append(hashlib.sha256(bytes(packet)).hexdigest())
                found.shown_s.append(packet.pts * packet.time_base)
                found.decoded_s.append(None if packet.dts is None else packet.dts * packet.time_base)
                found.hidden.append(bool(packet.is_discard))
    return found


def audio_of(path: Path) -> tuple[NDArray[np.float32], Fraction, int]:
    """``[channels, samples]`` as decoded, the time of the first sample, and the rate."""
    with av.open(path) as container:
        blocks = list(container.decode(audio=0))
    full_scale = {"s16": 2.0**15, "s32": 2.0**31}
    parts = []
    for block in blocks:
        array = block.to_ndarray() / full_scale.get(block.format.name, 1.0)
        parts.append(array if block.format.is_planar else array.reshape(-1, block.layout.nb_channels).T)
    rate = blocks[0].sample_rate
    return np.concatenate(parts, axis=1).astype(np.float32), blocks[0].pts * blocks[0].time_base, rate
