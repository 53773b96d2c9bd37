"""Rendered clips at a glance: caption, filmstrip and waveform on one time axis, events ticked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mova.scenes.script import Event
from mova.scenes.world import SceneClip

MARGIN_PX = 8
CAPTION_PX = 18
WAVE_PX = 44
PAPER = (250, 250, 248)
INK = (30, 30, 34)
WAVE = (70, 110, 190)
SEEN = (220, 60, 40)
HEARD = (30, 150, 70)


def scene_sheet(clips: Sequence[SceneClip], *, frames_per_strip: int = 9) -> Image.Image:
    """Draw one block per clip, one below the other.

    A frame of the strip stands over the time at which it starts; an event has a red tick where it is seen,
    and a green one where it is heard if that is later.

    Args:
        clips: Clips to draw, at least one.
        frames_per_strip: Frames shown of each clip, evenly spread from the first; no more than it has.

    Raises:
        ValueError: If there are no clips, or no frames are asked for.
    """
    if not clips or frames_per_strip < 1:
        raise ValueError(f"need clips and frames_per_strip >= 1; got {len(clips)} clips, {frames_per_strip}.")
    blocks = [_block(clip, frames_per_strip) for clip in clips]
    sheet = Image.new("RGB", (max(block.width for block in blocks), sum(block.height for block in blocks)), PAPER)
    top = 0
    for block in blocks:
        sheet.paste(block, (0, top))
        top += block.height
    return sheet


def _block(clip: SceneClip, frames_per_strip: int) -> Image.Image:
    num_frames, height, width = clip.frames.shape[:3]
    shown = min(frames_per_strip, num_frames)
    strip_width = shown * width
    block = Image.new("RGB", (strip_width + 2 * MARGIN_PX, CAPTION_PX + height + WAVE_PX + 2 * MARGIN_PX), PAPER)
    pen = ImageDraw.Draw(block)
    pen.text((MARGIN_PX, MARGIN_PX), clip.script.caption, fill=INK, font=ImageFont.load_default(12))
    strip_top = MARGIN_PX + CAPTION_PX
    for place in range(shown):
        frame = Image.fromarray(clip.frames[place * num_frames // shown])
        block.paste(frame, (MARGIN_PX + place * width, strip_top))
    wave_top = strip_top + height
    _draw_wave(pen, clip.waveform.mean(axis=0), strip_width, wave_top)
    seconds = float(num_frames / clip.fps)
    for event in clip.script.events:
        _draw_ticks(pen, event, strip_width / seconds, strip_top, wave_top)
    return block


def _draw_wave(pen: ImageDraw.ImageDraw, waveform: NDArray[np.float32], width: int, top: int) -> None:
    """One column per pixel, from the lowest to the highest sample in it, scaled to the clip's own peak."""
    peak = max(float(np.abs(waveform).max()), 1e-6)
    middle, reach = top + WAVE_PX / 2, WAVE_PX / 2 - 2
    for column, part in enumerate(np.array_split(waveform, width)):
        if part.size:
            high, low = middle - reach * float(part.max()) / peak, middle - reach * float(part.min()) / peak
            pen.line([(MARGIN_PX + column, high), (MARGIN_PX + column, low)], fill=WAVE)


def _draw_ticks(pen: ImageDraw.ImageDraw, event: Event, px_per_s: float, strip_top: int, wave_top: int) -> None:
    seen, heard = MARGIN_PX + event.time_s * px_per_s, MARGIN_PX + event.audio_time_s * px_per_s
    pen.line([(seen, strip_top - 4), (seen, strip_top + 3)], fill=SEEN, width=2)
    pen.line([(seen, wave_top), (seen, wave_top + WAVE_PX)], fill=SEEN)
    if heard != seen:
        pen.line([(heard, wave_top), (heard, wave_top + WAVE_PX)], fill=HEARD)
