"""The scenes of the measuring suite: plan one, draw it, sound it. All follows from (family, seed, fps, length).

    scene = make_scene("bounce", 7, fps=24, seconds=4)
    clip = render_scene(scene, width=256, height=256)      # H x W x frames at 24 fps, sound at 48 kHz
    scene.times_s("audio")                                 # the exact truth

A scene is a picture and a sound, written apart, with the exact time of everything in them. Bounce, keys, drum and mouth are
the kinds of :mod:`mova.scenes` under stricter rules, so a model that was trained on those knows their prompts; the others have
pictures of their own (:mod:`mova.scenes.clapper.stages`). Controls are not scored for sync: nothing is to be heard, nothing is
to be seen, or the two have nothing to do with each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mova.errors import RequestError
from mova.media.clip import Clip
from mova.scenes.clapper import plans, stages
from mova.scenes.clapper.plans import FPS_RANGE, Plan, Rules
from mova.scenes.clapper.stages import scrape
from mova.scenes.kinds import KINDS
from mova.scenes.raster import Exposure, View, to_bytes
from mova.scenes.script import Image, Script, Value, generator, nearest_hint
from mova.scenes.world import SAMPLE_RATES, synthesise
from mova.timeline import Number, exact_fps, frames_in_seconds, samples_in_frames

Modality = Literal["video", "audio"]
SHUTTER = 1.0
"""Share of a frame that is exposed: with an open shutter every instant leaves its trace in some frame."""
SUBFRAMES = 8
WORLD_SHUTTER = 0.75
"""The same in the pictures of the rendered world, and so of models that learnt from them."""
WORLD_FPS = 16


@dataclass(frozen=True)
class ClapperScene:
    """A scene whose truth is known: what is drawn, what sounds, and when.

    Args:
        family: Name in :data:`FAMILIES`, or kind of a script of the rendered world.
        picture: Script of what is drawn; its kind says by which drawing, and its events are what is to be seen.
        audio: Script of what sounds; its kind says by which voice, and its events are what is to be heard.
        fps: Frames per second that the events were placed for.
        num_frames: Length.
        lag_s: Time from what is seen to what is heard that the scene means.
        shutter: Share of a frame that is exposed.
    """

    family: str
    picture: Script
    audio: Script
    fps: Fraction
    num_frames: int
    lag_s: float = 0.0
    shutter: float = SHUTTER

    @property
    def seed(self) -> int:
        """With the family, the frame rate and the length it fixes everything else."""
        return self.picture.seed

    @property
    def caption(self) -> str:
        """The prompt that asks for the scene."""
        return self.picture.caption

    @property
    def attributes(self) -> Mapping[str, Value]:
        """What was chosen, by name."""
        return self.picture.attributes

    @property
    def seconds(self) -> float:
        """Length of the picture."""
        return float(self.num_frames / self.fps)

    def times_s(self, modality: Modality) -> tuple[float, ...]:
        """True times of one modality, in order."""
        if modality == "video":
            return tuple(sorted(event.time_s for event in self.picture.events))
        return tuple(sorted(event.audio_time_s for event in self.audio.events))


def as_scene(script: Script) -> ClapperScene:
    """A script of the rendered world as a scene: what is drawn is what sounds."""
    lags = [event.audio_time_s - event.time_s for event in script.events]
    return ClapperScene(
        family=script.kind,
        picture=script,
        audio=script,
        fps=Fraction(WORLD_FPS),
        num_frames=round(script.seconds * WORLD_FPS),
        lag_s=float(np.median(lags)) if lags else 0.0,
        shutter=WORLD_SHUTTER,
    )


@dataclass(frozen=True)
class Family:
    """A kind of measuring scene.

    Args:
        name: As in a scene.
        plan: ``(generator, rules, seed) -> Plan``.
        control: A control has no sync to be scored.
        stereo: What it measures needs two channels.
    """

    name: str
    plan: Callable[[np.random.Generator, Rules, int], Plan]
    control: bool = False
    stereo: bool = False


FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        Family("bounce", plans.bounce),
        Family("flash_beep", plans.flash_beep),
        Family("keys", plans.keys),
        Family("drum", plans.drum),
        Family("mouth", plans.mouth),
        Family("collision", plans.collision),
        Family("far_flash", plans.far_flash),
        Family("moving_source", plans.mover, stereo=True),
        Family("scrape", plans.scrape),
        Family("silent_motion", plans.silent_motion, control=True),
        Family("off_screen", plans.off_screen, control=True),
        Family("unrelated", plans.unrelated, control=True),
    )
}
SYNC_FAMILIES: tuple[str, ...] = tuple(name for name, family in FAMILIES.items() if not family.control)
MIN_SECONDS = 1.0


def make_scene(family: str, seed: int, *, fps: Number = 24, seconds: Number = 4) -> ClapperScene:
    """Decide what happens in a scene.

    Args:
        family: A name in :data:`FAMILIES`.
        seed: Not negative. The same arguments give the same scene, everywhere.
        fps: Frames per second that the scene will be seen at, 12 to 60; it limits how close events may lie.
        seconds: Length, at least ``MIN_SECONDS``; rounded up to whole frames.

    Raises:
        RequestError: If an argument is out of range, or the family's events do not fit in the clip.
    """
    if family not in FAMILIES:
        raise RequestError(f"there is no clapper family {family!r}.", nearest_hint(family, FAMILIES))
    if seed < 0:
        raise RequestError(f"seed must not be negative; got {seed}.", "Give 0 or more.", field="seed")
    rate = exact_fps(fps)
    if not FPS_RANGE[0] <= rate <= FPS_RANGE[1]:
        raise RequestError(f"fps must be {FPS_RANGE[0]} to {FPS_RANGE[1]}; got {float(rate):g}.", field="fps")
    if not MIN_SECONDS <= seconds < float("inf"):
        raise RequestError(f"a scene lasts at least {MIN_SECONDS:g} s; got {float(seconds):g}.", field="seconds")
    num_frames = frames_in_seconds(seconds, rate)
    rules = Rules(rate, float(num_frames / rate))
    plan = FAMILIES[family].plan(generator(f"clapper {family}", seed, "plan"), rules, seed)
    return ClapperScene(family, plan.picture, plan.audio, rate, num_frames, plan.lag_s)


def sample_scenes(
    seed: int, count: int, *, families: Sequence[str] = SYNC_FAMILIES, fps: Number = 24, seconds: Number = 4
) -> Iterator[ClapperScene]:
    """``count`` scenes, the families in turn. Scene ``i`` depends on (seed, i, families, fps, seconds), not on ``count``.

    Raises:
        RequestError: As :func:`make_scene`, or if there are no families.
    """
    if not families:
        raise RequestError("families is empty.", nearest_hint("", FAMILIES))
    for index in range(count):
        (one,) = np.random.SeedSequence([seed, index]).generate_state(1)
        yield make_scene(families[index % len(families)], int(one), fps=fps, seconds=seconds)


def render_scene(
    scene: ClapperScene,
    *,
    width: int = 256,
    height: int = 256,
    sample_rate: int = 48_000,
    channels: int | None = None,
) -> Clip:
    """Draw and sound a scene: the same arguments give the same bytes.

    Args:
        scene: From :func:`make_scene`.
        width: Pixels, at least 16.
        height: Pixels, at least 16.
        sample_rate: 8000 to 96000.
        channels: 1 or 2; default: what the family needs.

    Raises:
        RequestError: If an argument is out of range.
    """
    for name, value in (("width", width), ("height", height)):
        if value < 16:
            raise RequestError(f"{name} must be at least 16; got {value}.", field=name)
    if not SAMPLE_RATES[0] <= sample_rate <= SAMPLE_RATES[1]:
        raise RequestError(f"sample_rate must be {SAMPLE_RATES[0]} to {SAMPLE_RATES[1]}; got {sample_rate}.")
    if channels not in (None, 1, 2):
        raise RequestError(f"channels must be 1 or 2; got {channels}.", field="channels")
    num_channels = channels or (2 if FAMILIES[scene.family].stereo else 1)
    frames = draw_scene(scene, width=width, height=height)
    num_samples = samples_in_frames(scene.num_frames, scene.fps, sample_rate)
    voice = scrape if scene.audio.kind == "scrape" else synthesise
    waveform = voice(scene.audio, sample_rate=sample_rate, num_samples=num_samples, channels=num_channels)
    return Clip(frames, waveform, scene.fps, sample_rate, request={"prompt": scene.caption})


def draw_scene(scene: ClapperScene, *, width: int, height: int) -> NDArray[np.uint8]:
    """The picture of a scene alone, ``[T, H, W, 3]`` uint8, each frame the mean of ``SUBFRAMES`` positions."""
    exposure = Exposure(float(scene.fps), scene.num_frames, scene.shutter, SUBFRAMES)
    return to_bytes(_DRAWINGS[scene.picture.kind](scene.picture, View(width, height), exposure))


_DRAWINGS: Mapping[str, Callable[[Script, View, Exposure], Image]] = {
    **{name: kind.draw for name, kind in KINDS.items()},
    **stages.PICTURES,
}
