"""Draw a clip as one image: frames, waveform and spectrogram on one time axis. Pillow and numpy only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
from einops import rearrange
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw

from mova.errors import MediaError, number_of
from mova.media.clip import Clip
from mova.media.lettering import default_font, draw_line, shorten

WIDTH = 1200
MARGIN = 20
GUTTER = 52  # left of the axis, for labels
_STRIP_HEIGHTS = (36, 240)
_WAVE_HEIGHT, _SPECTRUM_HEIGHT, _AXIS_HEIGHT, _TITLE_HEIGHT, _GAP = 96, 150, 26, 34, 10
_GALLERY_STRIP_HEIGHT, _GALLERY_WAVE_HEIGHT = 150, 44

_PAPER, _PANEL, _INK, _FAINT = (17, 19, 24), (25, 28, 35), (226, 229, 235), (132, 138, 150)
_GRID, _WAVE, _WAVE_CORE, _EVENT = (46, 50, 60), (64, 132, 190), (134, 200, 246), (255, 184, 76)
# Dark violet through orange to pale yellow: even steps of lightness, readable without colour vision
_HEAT_COLOURS = "#0d0c18 #2d1452 #631e78 #9c2e73 #d6475c #f67c52 #febd76 #fcface"
_HEAT = np.array([ImageColor.getrgb(colour) for colour in _HEAT_COLOURS.split()], np.float32)
_LOUDEST_DB, _QUIETEST_DB = 0.0, -80.0
_LOWEST_HZ = 50.0


def clip_sheet(
    clip: Clip, *, num_frames: int = 8, events: Sequence[float] | None = None, title: str | None = None
) -> Image.Image:
    """Draw ``num_frames`` frames over the waveform and the spectrogram, each at its own time.

    Each frame is drawn above its part of the axis: the frame at the first event there, or in the middle if there is none.

    Args:
        clip: Clip to draw.
        num_frames: Number of frames in the strip; at most as many as the clip has.
        events: Times to mark in seconds, such as the true times of impacts; those of the clip's cues if not given.
        title: Title line; default: size, rates and length.

    Returns:
        An RGB image 1200 pixels wide.

    Raises:
        MediaError: If ``num_frames`` is not positive, or an event lies outside the clip.
    """
    count = _check_count(num_frames, clip)
    events = _cue_times(clip) if events is None else events
    strip_height = _strip_height(clip, count, _STRIP_HEIGHTS[1])
    tops = np.cumsum(
        [
            MARGIN + _TITLE_HEIGHT,
            strip_height + _GAP,
            _WAVE_HEIGHT + _GAP,
            _SPECTRUM_HEIGHT,
            _AXIS_HEIGHT + MARGIN // 2,
        ]
    ).tolist()
    image = Image.new("RGB", (WIDTH, tops[-1]), _PAPER)
    draw = ImageDraw.Draw(image)
    draw_line(draw, (MARGIN + GUTTER, MARGIN + 2), shorten(title or _facts(clip), 17, _axis_width()), _INK, 17)
    strip, wave, spectrum, axis = tops[:4]
    _draw_strip(image, clip, count, top=strip, height=strip_height, events=events)
    image.paste(_wave_image(clip, _WAVE_HEIGHT), (_axis_left(), wave))
    image.paste(_spectrum_image(clip, _SPECTRUM_HEIGHT), (_axis_left(), spectrum))
    _draw_levels(draw, wave)
    _draw_pitches(draw, spectrum, clip.sample_rate)
    _draw_axis(draw, clip, axis)
    _draw_events(draw, clip, events or (), top=wave, bottom=spectrum + _SPECTRUM_HEIGHT)
    return image


def gallery_sheet(clips: Sequence[tuple[str, Clip]], *, num_frames: int = 8) -> Image.Image:
    """Draw several clips below each other: caption, frames, waveform.

    Args:
        clips: Caption and clip of each row, from top to bottom.
        num_frames: Number of frames in each strip.

    Returns:
        An RGB image 1148 pixels wide.

    Raises:
        MediaError: If there is no clip, or ``num_frames`` is not positive.
    """
    if not clips:
        raise MediaError("a gallery needs at least one clip; got none.")
    rows = [_gallery_row(caption, clip, num_frames) for caption, clip in clips]
    image = Image.new("RGB", (WIDTH - GUTTER, MARGIN + sum(row.height + MARGIN for row in rows)), _PAPER)
    top = MARGIN
    for row in rows:
        image.paste(row, (-GUTTER, top))  # without the margin for labels
        top += row.height + MARGIN
    return image


def _gallery_row(caption: str, clip: Clip, num_frames: int) -> Image.Image:
    count = _check_count(num_frames, clip)
    strip_height = _strip_height(clip, count, _GALLERY_STRIP_HEIGHT)
    caption_height = 28
    row = Image.new("RGB", (WIDTH, caption_height + strip_height + 4 + _GALLERY_WAVE_HEIGHT), _PAPER)
    draw = ImageDraw.Draw(row)
    draw_line(draw, (_axis_left(), 2), shorten(caption, 16, _axis_width() - 90), _INK, 16)
    draw.text((WIDTH - MARGIN, 4), f"{float(clip.seconds):.1f} s", _FAINT, default_font(13), anchor="ra")
    _draw_strip(row, clip, count, top=caption_height, height=strip_height, events=_cue_times(clip))
    row.paste(_wave_image(clip, _GALLERY_WAVE_HEIGHT), (_axis_left(), caption_height + strip_height + 4))
    return row


def _axis_left() -> int:
    return MARGIN + GUTTER


def _axis_width() -> int:
    return WIDTH - 2 * MARGIN - GUTTER


def _check_count(num_frames: int, clip: Clip) -> int:
    if num_frames < 1:
        raise MediaError(f"num_frames must be at least 1; got {num_frames}.")
    return min(num_frames, clip.num_frames)


def _strip_height(clip: Clip, count: int, most: int) -> int:
    natural = _axis_width() / count * clip.height / clip.width
    return int(min(most, max(_STRIP_HEIGHTS[0], natural)))


def _cue_times(clip: Clip) -> list[float]:
    """Times of the clip's cues that lie within it."""
    cues = (clip.made_by or {}).get("cues")
    pairs = cues if isinstance(cues, list | tuple) else ()
    times = [pair[0] for pair in pairs if isinstance(pair, list | tuple) and pair and isinstance(pair[0], int | float)]
    return [float(time_s) for time_s in times if 0 <= time_s <= float(clip.seconds)]


def _draw_strip(image: Image.Image, clip: Clip, count: int, *, top: int, height: int, events: Sequence[float]) -> None:
    """Paste ``count`` frames, each centred over its part of the axis and never stretched."""
    edges = np.linspace(0, _axis_width(), count + 1)
    for left, right in pairwise(edges.tolist()):
        room = int(right - left) - (2 if count > 1 else 0)
        begin_s, end_s = (edge / _axis_width() * float(clip.seconds) for edge in (left, right))
        here = next((time_s for time_s in sorted(events) if begin_s <= time_s < end_s), None)
        # the first frame that begins after the event shows what it does
        place = (begin_s + end_s) / 2 * float(clip.fps) if here is None else math.ceil(here * float(clip.fps))
        index = min(clip.num_frames - 1, int(place))
        scale = min(room / clip.width, height / clip.height)
        size = max(1, int(clip.width * scale)), max(1, int(clip.height * scale))
        thumb = Image.fromarray(clip.frames[index]).resize(size, Image.Resampling.LANCZOS)
        image.paste(thumb, (_axis_left() + round((left + right - size[0]) / 2), top + (height - size[1]) // 2))


def _wave_image(clip: Clip, height: int) -> Image.Image:
    """Draw the range of the samples in each column, with the root mean square in a brighter colour, antialiased."""
    width = _axis_width()
    low, high, rms = _envelope(clip.waveform, width)
    rows = np.arange(height, dtype=np.float32)[:, None]
    middle, reach = (height - 1) / 2, height / 2 - 2
    canvas = np.broadcast_to(np.array(_PANEL, np.float32), (height, width, 3)).copy()
    canvas[round(middle)] = _GRID
    for bottom, top, colour in ((low, high, _WAVE), (-rms, rms, _WAVE_CORE)):
        start, end = middle - top * reach, middle - bottom * reach
        cover = np.clip(np.minimum(rows + 0.5, end + 0.5) - np.maximum(rows - 0.5, start - 0.5), 0.0, 1.0)
        canvas += cover[..., None] * (np.array(colour, np.float32) - canvas)
    return Image.fromarray(np.rint(canvas).astype(np.uint8))


def _envelope(
    waveform: NDArray[np.float32], width: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return lowest, highest and root-mean-square sample of each of ``width`` columns, over all channels."""
    if waveform.shape[1] == 0:
        nothing = np.zeros(width, np.float32)
        return nothing, nothing, nothing
    starts = np.arange(width) * waveform.shape[1] // width
    counts = np.maximum(1, np.diff(np.append(starts, waveform.shape[1])))
    low = np.minimum.reduceat(waveform.min(axis=0), starts)
    high = np.maximum.reduceat(waveform.max(axis=0), starts)
    power = np.add.reduceat((waveform.astype(np.float64) ** 2).mean(axis=0), starts)
    return low, high, np.sqrt(power / counts).astype(np.float32)


def _spectrum_image(clip: Clip, height: int) -> Image.Image:
    """Draw the level in dB over time and logarithmic frequency; each column of the image is at its own time."""
    width = _axis_width()
    levels, step = _stft_db(clip.waveform.mean(axis=0), clip.sample_rate)
    pitches = np.geomspace(clip.sample_rate / 2, min(_LOWEST_HZ, clip.sample_rate / 8), height)
    bins = pitches / (clip.sample_rate / 2) * (levels.shape[0] - 1)
    columns = (np.arange(width) + 0.5) / width * clip.waveform.shape[1] / step
    level = _interpolate_rows(_interpolate_rows(levels, bins).T, columns).T
    heat = np.clip((level - _QUIETEST_DB) / (_LOUDEST_DB - _QUIETEST_DB), 0.0, 1.0) * (len(_HEAT) - 1)
    return Image.fromarray(np.rint(_interpolate_rows(_HEAT, heat.ravel()).reshape(height, width, 3)).astype(np.uint8))


def _stft_db(mono: NDArray[np.float32], sample_rate: int) -> tuple[NDArray[np.float32], int]:
    """Return ``[bins, columns]`` levels in dB relative to a full-scale sine, and the samples between columns."""
    size = 2 ** round(math.log2(max(64, 0.032 * sample_rate)))
    # long audio gets as many columns as the image can show
    step = max(size // 8, len(mono) // (2 * _axis_width()))
    window = np.hanning(size + 1)[:-1]
    padded = np.pad(mono.astype(np.float64), (size // 2, size))
    starts = np.arange(0, len(mono) + step, step)
    blocks = rearrange([padded[s : s + size] for s in starts if s + size <= len(padded)], "column sample -> sample column")
    amplitude = np.abs(np.fft.rfft(blocks * window[:, None], axis=0)) * 2 / window.sum()
    return (20.0 * np.log10(np.maximum(amplitude, 1e-6))).astype(np.float32), step


def _interpolate_rows(table: NDArray[np.float32], positions: NDArray[np.floating]) -> NDArray[np.float32]:
    """Interpolate rows of ``table`` linearly at fractional ``positions``; positions outside take the first or last row."""
    positions = np.clip(positions, 0, len(table) - 1)
    below = np.floor(positions).astype(int)
    above = np.minimum(below + 1, len(table) - 1)
    part = (positions - below).astype(np.float32)[:, None]
    return np.asarray(table[below] * (1 - part) + table[above] * part, np.float32)


def _draw_levels(draw: ImageDraw.ImageDraw, top: int) -> None:
    for level, y in (("1", top + 8), ("0", top + _WAVE_HEIGHT // 2), ("-1", top + _WAVE_HEIGHT - 8)):
        draw.text((_axis_left() - 8, y), level, _FAINT, default_font(12), anchor="rm")


def _draw_pitches(draw: ImageDraw.ImageDraw, top: int, sample_rate: int) -> None:
    highest, lowest = sample_rate / 2, min(_LOWEST_HZ, sample_rate / 8)
    for pitch, text in ((100, "100 Hz"), (300, "300"), (1000, "1 kHz"), (3000, "3 k"), (10_000, "10 k")):
        if lowest < pitch < highest * 0.9:
            y = top + _SPECTRUM_HEIGHT * math.log(highest / pitch) / math.log(highest / lowest)
            draw.text((_axis_left() - 8, y), text, _FAINT, default_font(12), anchor="rm")
            draw.line((_axis_left() - 5, y, _axis_left() - 1, y), _FAINT)


def _draw_axis(draw: ImageDraw.ImageDraw, clip: Clip, top: int) -> None:
    step = _tick_step(float(clip.seconds))
    for index in range(int(clip.seconds / step) + 1):
        x = _axis_x(float(index * step), clip)
        draw.line((x, top, x, top + 4), _FAINT)
        at_end = x > WIDTH - MARGIN - 24
        draw.text((x, top + 7), f"{float(index * step):g} s", _FAINT, default_font(12), anchor="ra" if at_end else "ma")


def _tick_step(seconds: float) -> Fraction:
    """Return the step (1, 2 or 5 times a power of ten) that gives at most twelve ticks."""
    for power in range(-3, 5):
        for digit in (1, 2, 5):
            step = digit * Fraction(10) ** power
            if seconds / step <= 12:
                return step
    return Fraction(100_000)


def _draw_events(draw: ImageDraw.ImageDraw, clip: Clip, events: Sequence[float], *, top: int, bottom: int) -> None:
    for event in events:
        if not 0 <= event <= clip.seconds:
            raise MediaError(f"events must lie within the clip (0 to {float(clip.seconds):.3f} s); got {event}.")
        x = _axis_x(event, clip)
        draw.line((x, top, x, bottom), _EVENT)
        draw.polygon(((x - 5, top - 8), (x + 5, top - 8), (x, top)), _EVENT)


def _axis_x(seconds: float, clip: Clip) -> float:
    return _axis_left() + seconds / float(clip.seconds) * (_axis_width() - 1)


def _facts(clip: Clip) -> str:
    channels = {1: "mono", 2: "stereo"}.get(clip.waveform.shape[0], f"{clip.waveform.shape[0]} channels")
    return (
        f"{clip.width}x{clip.height}  ·  {number_of(clip.num_frames, 'frame')} at {float(clip.fps):g} fps  ·  "
        f"{float(clip.seconds):.2f} s  ·  {clip.sample_rate / 1000:g} kHz {channels}"
    )
