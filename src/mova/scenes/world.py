"""The rendered world: write a script, draw it, sound it, show it. All follows from (kind, seed, pinned attributes).

script = write_script("ball", seed=7, attributes={"colour": "red"})
clip = render(script)            # 33 frames of 96x96 at 16 per second, and their sound at 16 kHz
clip.script.events[0].time_s     # the exact truth, in seconds

Levels of sound are absolute: a clip is never normalised. In stereo a source at ``x`` (0 left, 1 right) has the gains
``cos(pi x / 2)`` and ``sin(pi x / 2)``, whose squares add up to 1; mono gives every source the gain 1. So both carry the same
power, and a source at the very left has in the left channel the level it has in mono. The floor (room noise, or rain in a
storm) is as loud in each channel as in mono, and independent between channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mova.errors import RequestError
from mova.media.clip import Clip
from mova.scenes.kind import Kind, Noise, write_caption
from mova.scenes.kinds import KINDS, definition_of, find_kind
from mova.scenes.raster import Exposure, View, to_bytes
from mova.scenes.script import DEFAULT_SECONDS, MIN_SECONDS, Attributes, Event, Script, Value, generator, nearest_hint
from mova.scenes.waves import Signal, Window, band_noise
from mova.timeline import Number, exact_fps, samples_in_frames


@dataclass(frozen=True, eq=False)
class SceneClip:
    """A rendered script.

    Args:
        frames: ``[T, H, W, 3]`` uint8.
        waveform: ``[channels, samples]`` float32 in ``[-1, 1]``; samples = ``floor(T * sample_rate / fps)``.
        fps: Frames per second, exact.
        sample_rate: Samples per second.
        script: The truth that both were made from.
    """

    frames: NDArray[np.uint8]
    waveform: NDArray[np.float32]
    fps: Fraction
    sample_rate: int
    script: Script

    def clip(self) -> Clip:
        """The same frames and sound as a :class:`mova.media.clip.Clip`, to be saved or shown."""
        return Clip(self.frames, self.waveform, self.fps, self.sample_rate)


def write_script(
    kind: str | Kind, seed: int, *, seconds: float = DEFAULT_SECONDS, attributes: Mapping[str, Value] | None = None
) -> Script:
    """Decide what happens in a clip.

    Args:
        kind: A name in :data:`KINDS`, that of a kind of an installed package, or a kind.
        seed: Number, not negative. The same arguments give the same script, everywhere.
        seconds: Length to place the events in, at least ``MIN_SECONDS``.
        attributes: Values to pin; the rest is drawn from the seed, as it would be without the pins.

    Raises:
        RequestError: If a name or a value is unknown, or the pinned events do not fit in the clip.
        ValueError: If the kind makes events with a label that it does not name.
    """
    scene = find_kind(kind)
    if seed < 0:
        raise RequestError(f"seed must not be negative; got {seed}.", "Give 0 or more.", field="seed")
    if not MIN_SECONDS <= seconds < float("inf"):
        raise RequestError(f"a scene lasts at least {MIN_SECONDS} s; got {seconds}.", "Ask for a longer clip.")
    pinned = _check_attributes(scene, attributes or {})
    chosen = scene.choose(generator(scene.name, seed, "attributes"), seconds, pinned)
    plan = scene.plan(generator(scene.name, seed, "motion"), chosen, seconds)
    caption = write_caption(scene, chosen, generator(scene.name, seed, "caption"))
    strange = sorted({event.label for event in plan.events}.difference(scene.labels))
    if strange:
        raise ValueError(f"{scene.name} has events labelled {', '.join(strange)}, which its labels do not name.")
    definition = None if isinstance(kind, str) or KINDS.get(kind.name) is kind else kind
    return Script(scene.name, seed, seconds, caption, chosen, plan.events, plan.motion, definition)


def draw(
    script: Script,
    *,
    width: int,
    height: int,
    fps: Number,
    num_frames: int,
    first_frame: int = 0,
    shutter: float = 0.75,
    subframes: int | None = None,
) -> NDArray[np.uint8]:
    """Draw a script's picture.

    Frame ``n`` is the mean over ``[n / fps, (n + shutter) / fps)``: moving things are averaged over
    ``subframes`` positions, lights by their exact integral.

    Args:
        script: Script from :func:`write_script`.
        width: Width in pixels.
        height: Height in pixels.
        fps: Frames per second.
        num_frames: Frames to draw, at least 1.
        first_frame: Number of the first of them in the clip.
        shutter: Share of a frame that is exposed, in (0, 1].
        subframes: Positions of moving things that are averaged per frame, at least 1. By default as many as the size needs
            for a blur without gaps: 3 for less than 256 pixels, up to 8 for 512.

    Returns:
        ``[T, H, W, 3]`` uint8.

    Raises:
        RequestError: If a size is not positive or an exposure makes no sense.
    """
    if subframes is None:
        subframes = min(max(min(width, height) // 64, 3), 8)
    for name, value in (("width", width), ("height", height), ("num_frames", num_frames), ("subframes", subframes)):
        if value < 1:
            raise RequestError(f"{name} must be at least 1; got {value}.", field=name)
    if first_frame < 0:
        raise RequestError(f"first_frame must be at least 0; got {first_frame}.", field="first_frame")
    if not 0.0 < shutter <= 1.0:
        raise RequestError(f"shutter must be above 0 and at most 1; got {shutter}.")
    rate = float(exact_fps(fps))
    exposure = Exposure(rate, num_frames, shutter, subframes, start_s=first_frame / rate)
    return to_bytes(definition_of(script).draw(script, View(width, height), exposure))


def render(
    script: Script,
    *,
    width: int = 96,
    height: int = 96,
    fps: Number = 16,
    sample_rate: int = 16000,
    num_frames: int = 33,
    channels: int = 1,
) -> SceneClip:
    """Draw and sound a script.

    Raises:
        RequestError: If an event lies beyond the last frame, or a size is not positive.
    """
    rate = exact_fps(fps)
    last = max((event.audio_time_s for event in script.events), default=0.0)
    if last >= num_frames / rate:
        raise RequestError(
            f"{num_frames} frames at {rate} fps end before the script's last event at {last:.3f} s.",
            f"The script was written for {script.seconds:g} s; write it for {float(num_frames / rate):g} s.",
            field="num_frames",
        )
    frames = draw(script, width=width, height=height, fps=rate, num_frames=num_frames)
    num_samples = samples_in_frames(num_frames, rate, sample_rate)
    waveform = synthesise(script, sample_rate=sample_rate, num_samples=num_samples, channels=channels)
    return SceneClip(frames, waveform, rate, sample_rate, script)


def sample_scripts(
    seed: int, count: int, kinds: Sequence[str | Kind] | None = None, seconds: float = DEFAULT_SECONDS
) -> Iterator[Script]:
    """``count`` scripts, the kinds in turn. Script ``i`` depends on (seed, i, kinds) only, not on ``count``.

    Raises:
        RequestError: If a kind is unknown or there are none.
    """
    among = tuple(KINDS) if kinds is None else tuple(kinds)
    if not among:
        raise RequestError("kinds is empty.", nearest_hint("", KINDS))
    for index in range(count):
        low, high = np.random.SeedSequence([seed, index]).generate_state(2)
        yield write_script(among[index % len(among)], (int(high) << 31) ^ int(low), seconds=seconds)


def _check_attributes(scene: Kind, given: Mapping[str, Value]) -> Attributes:
    """The pinned attributes, each known to the kind. What fits in the clip is judged later."""
    pinned: Attributes = {}
    for name, value in given.items():
        if name not in scene.attributes:
            raise RequestError(f"{scene.name} has no attribute {name!r}.", nearest_hint(name, scene.attributes))
        spelt = {str(one): one for one in scene.attributes[name]}  # the command line gives 3 as "3"
        if name != "sequence" and str(value) not in spelt:
            raise RequestError(f"{scene.name} has no {name} {value!r}.", nearest_hint(value, spelt))
        pinned[name] = value if name == "sequence" else spelt[str(value)]
    return pinned


SAMPLE_RATES = (8000, 96000)


def synthesise(script: Script, *, sample_rate: int, num_samples: int, channels: int = 1) -> NDArray[np.float32]:
    """Render the sound of a scene.

    Each sound starts at its event's ``audio_time_s``, between samples if need be: a sample before that
    instant has nothing of it. The same arguments give the same bytes; a longer clip begins with the shorter
    one; another sample rate is the same sound, less what lies above 0.45 of the rate.

    Args:
        script: What happens, and when.
        sample_rate: Samples per second, 8000 to 96000.
        num_samples: Samples to make; they start at time 0.
        channels: 1 or 2 (left, right).

    Returns:
        ``[channels, num_samples]`` float32 in (-1, 1). Up to 0.8 the sum is exact; where overlapping sounds
        would go beyond, it bends smoothly (``tanh``) and stays below 1.

    Raises:
        ValueError: If an argument is out of range, or a label has no sound.
        RequestError: If there is no such kind.
    """
    if not SAMPLE_RATES[0] <= sample_rate <= SAMPLE_RATES[1]:
        raise ValueError(f"sample_rate must be in {SAMPLE_RATES[0]}..{SAMPLE_RATES[1]}; got {sample_rate}.")
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1; got {num_samples}.")
    if channels not in (1, 2):
        raise ValueError(f"channels must be 1 or 2; got {channels}.")
    kind = definition_of(script)
    waveform = _background(script, kind.background, sample_rate, num_samples, channels)
    for first, samples, place_x in kind.sound(script, sample_rate, num_samples):
        waveform[:, first : first + samples.size] += _pan(place_x, channels) * samples
    return _limit(waveform).astype(np.float32)


def _background(script: Script, noise: Noise, sample_rate: int, num_samples: int, channels: int) -> Signal:
    """``[channels, num_samples]`` of steady noise; by the second, so that a longer clip starts the same."""
    floor = np.zeros((channels, num_samples))
    for channel in range(channels):
        for second, start in enumerate(range(0, num_samples, sample_rate)):
            window = Window(start, min(sample_rate, num_samples - start), 0.0, sample_rate)
            rng = generator(script.kind, script.seed, f"floor of channel {channel}, second {second}")
            floor[channel, start : start + window.num_samples] = noise.rms * band_noise(window, noise.band, rng)
    return floor


def _pan(place_x: float | Signal, channels: int) -> Signal:
    """``[channels, 1]`` or ``[channels, N]`` gains of a source at ``place_x``."""
    if channels == 1:
        return np.ones((1, 1))
    angle = np.atleast_1d(np.clip(place_x, 0.0, 1.0)) * (np.pi / 2.0)
    return np.stack((np.cos(angle), np.sin(angle)))


def _limit(waveform: Signal) -> Signal:
    """Leave everything up to 0.8 as it is and bend what is beyond towards 0.99."""
    knee, room = 0.8, 0.19
    size = np.abs(waveform)
    if size.max() <= knee:
        return waveform
    bent = knee + room * np.tanh((size - knee) / room)
    return np.where(size <= knee, waveform, np.sign(waveform) * bent)


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
