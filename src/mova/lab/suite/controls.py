"""Negative controls of a model: a video in which nothing sounds, and audio whose cause is out of sight.

A model that was given a silent video should make no audio to it, and one that was given the audio of a ball out of sight should
show no ball. What it makes all the same is counted, clip by clip; 0 is right. What is counted in the truth after the model's
own codecs is the floor: the codecs' doing, or the reader's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mova.lab.read.audio_events import hear
from mova.lab.read.video_events import see
from mova.media.clip import Clip
from mova.request.capabilities import Capabilities
from mova.scenes.clapper.families import make_scene, render_scene
from mova.scenes.clapper.scene import ClapperScene
from mova.timeline import exact_fps


@dataclass(frozen=True)
class Control:
    """One way to ask for nothing.

    Args:
        family: Family of its scenes, in :data:`mova.scenes.clapper.families.FAMILIES`.
        track: What is given: as on ``"v2a"`` the picture, as on ``"a2v"`` the audio.
        name: Name of the number: events per clip that should not be there.
    """

    family: str
    track: str
    name: str


CONTROL_KINDS: Mapping[str, Control] = {
    one.family: one
    for one in (
        Control("silent_motion", "v2a", "heard_in_silence"),
        Control("off_screen", "a2v", "seen_off_screen"),
    )
}


def control_scene(family: str, seed: int, capabilities: Capabilities) -> ClapperScene:
    """A scene as long as a model's clips.

    Raises:
        RequestError: If they are too short, or of a rate that no scene has.
    """
    fps = exact_fps(capabilities.default_fps)
    return make_scene(family, seed, fps=fps, seconds=capabilities.default_frames / fps)


def control_clip(scene: ClapperScene, capabilities: Capabilities) -> Clip:
    """The truth at a model's own size and rates."""
    width, height = capabilities.default_size
    return render_scene(scene, width=width, height=height, sample_rate=capabilities.sample_rate)


def count_made_up(clip: Clip, family: str) -> int:
    """Events of a clip that should not be there: heard, where the picture was given; seen, where the audio was."""
    if CONTROL_KINDS[family].track == "v2a":
        return len(hear(clip.waveform, clip.sample_rate, kind="ball"))
    return len(see(clip.frames, float(clip.fps), kind="ball"))
