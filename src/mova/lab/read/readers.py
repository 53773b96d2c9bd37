"""Read a clip of a known scene: what is seen, what is heard, when, in which colours and voices.

Only the kinds of a scene's video and audio are used, and nothing of its times. The clip may come from the renderer, through a
codec, or from a model that was given the scene's caption.
"""

from __future__ import annotations

from mova.lab.read.attributes import COLOURED, read_colours
from mova.lab.read.audio_events import hear
from mova.lab.read.events import Reading
from mova.lab.read.timbre import nearest_voice
from mova.lab.read.video_events import see
from mova.media.clip import Clip
from mova.scenes.clapper.scene import ClapperScene


def read_events(clip: Clip, scene: ClapperScene) -> Reading:
    """Read what happens in a clip, and when.

    Args:
        clip: The clip.
        scene: Scene that it shows. Its shutter is that of the pictures: ``replace(scene, shutter=0.75)`` for what a model made
            that learnt from the rendered world.

    Raises:
        ValueError: If the shutter is not in (0, 1].
    """
    drawn, sounding = (script.definition or script.kind for script in (scene.picture, scene.audio))
    seen = see(clip.frames, float(clip.fps), kind=drawn, shutter=scene.shutter)
    return Reading(tuple(seen), tuple(hear(clip.waveform, clip.sample_rate, kind=sounding)))


def read_all(clip: Clip, scene: ClapperScene) -> Reading:
    """Read everything that the caption of a scene may ask for; arguments and errors as for :func:`read_events`."""
    events, kind = read_events(clip, scene), scene.picture.kind
    colours = read_colours(clip.frames, kind=kind) if kind in COLOURED else frozenset()
    times_s = events.heard_s if scene.audio.kind == "mouth" else ()
    voices = tuple(nearest_voice(clip.waveform, clip.sample_rate, time_s) for time_s in times_s)
    return Reading(events.seen, events.heard, colours, voices)
