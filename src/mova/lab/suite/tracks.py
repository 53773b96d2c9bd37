"""What is asked of a model: requests that a user could make, by track, and in which batches they are made.

Tracks: ``text`` (a prompt, nothing given), ``v2a`` (a rendered video is given, its audio is made) and ``a2v`` (a rendered audio
is given, a video is made to it). ``text-bridge-off`` and so on are the same with the towers cut apart: what is left without
what binds them. ``counterfactual`` is made only if it is named: two clips of one seed, whose prompts (nothing else is given)
differ in one thing. ``controls``, likewise only if named, are clips for which nothing should be made: a model that was given a
silent video should make no audio to it, and one that was given the audio of a ball out of sight should show no ball. What it
makes all the same is counted, clip by clip; 0 is right. ``floor`` is the truth through the model's own codecs: no model that
uses them can be measured more finely.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mova.conditioning.prepare import prepare
from mova.conditioning.sources import PREFIX, name_of, name_of_audio
from mova.errors import RequestError
from mova.lab.adherence.counterfactual import Counterfactual, counterfactual_scripts
from mova.lab.read.audio_events import hear
from mova.lab.read.video_events import see
from mova.lab.suite.results import BRIDGE_OFF, CONTROLS, COUNTERFACTUAL
from mova.media.clip import Clip
from mova.request.plan import Capabilities
from mova.request.schema import GenerationRequest
from mova.scenes.clapper.scene import ClapperScene, make_scene, render_scene
from mova.scenes.kinds import KINDS, known_kinds
from mova.scenes.script import Script, nearest_hint
from mova.scenes.world import SceneClip, render, sample_scripts
from mova.timeline import exact_fps


@dataclass(frozen=True)
class Control:
    """One way to ask for nothing.

    Args:
        family: Family of its scenes, in :data:`mova.scenes.clapper.scene.FAMILIES`.
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


SUITES = ("clapper",)
TRACKS = ("text", "v2a", "a2v")
NAMED = (COUNTERFACTUAL, CONTROLS)
"""Tracks that are made only if they are named."""
FLOOR = "floor"
SEED = 930_000
"""Of the prompts: not those that a model of the rendered world is trained, tuned or accepted with."""
CLIPS_AT_ONCE, PIXELS_AT_ONCE = 10, 4_000_000
"""Of one pass through a model: more clips do not make it faster, and more pixels (of all frames) want much memory."""


@dataclass(frozen=True)
class ClipJob:
    """A clip to be made and measured.

    Args:
        key: Key of its row: track, kind and seed. Rows of two runs with one key are of the same scene.
        track: As above.
        script: What is asked for.
        pair: It and what differs from it in one thing, on the track ``counterfactual``.
        control: Family of a scene that takes the script's place but for its seed, on the track ``controls``.
    """

    key: str
    track: str
    script: Script
    pair: Counterfactual[Script] | None = None
    control: str | None = None


def check_suite(name: str) -> str:
    """The name of a suite.

    Raises:
        RequestError: If there is none of that name; the nearest is named.
    """
    if name not in SUITES:
        raise RequestError(f"there is no suite {name!r}.", nearest_hint(name, SUITES), field="suite")
    return name


def check_tracks(names: Sequence[str], *, has_bridge_off: bool = False) -> tuple[str, ...]:
    """Tracks in their own order, each followed by the one with the bridge off if that is wanted.

    If none is named they are :data:`TRACKS`; the :data:`NAMED` come last, and always with the bridge.

    Raises:
        RequestError: If there is none of a name; the nearest is named.
    """
    for name in names:
        if name not in (*TRACKS, *NAMED):
            raise RequestError(f"there is no track {name!r}.", nearest_hint(name, (*TRACKS, *NAMED)), field="track")
    ends = ("", BRIDGE_OFF) if has_bridge_off else ("",)
    found = tuple(name + end for name in TRACKS if not names or name in names for end in ends)
    return (*found, *(name for name in NAMED if name in names))


def scripts_for(capabilities: Capabilities, count: int, *, seed: int) -> list[Script]:
    """Scripts of the kinds that a model knows, in turn, as long as its clips. More of them begin with the same.

    Raises:
        RequestError: If the model's clips are too short for a scene.
    """
    kinds = [kind for kind in capabilities.kinds if kind in known_kinds()] or list(KINDS)
    seconds = float(capabilities.default_frames / exact_fps(capabilities.default_fps))
    return list(sample_scripts(seed, count, kinds, seconds=seconds))


def clip_jobs(scripts: Sequence[Script], tracks: Sequence[str]) -> dict[str, ClipJob]:
    """The floor of every script, then every track, by key; a script that has no counterfactual is not on that track.

    For each script there is one clip of every kind of control.
    """
    found = {}
    for track in (FLOOR, *tracks):
        for script in scripts:
            if track == CONTROLS:
                for family in CONTROL_KINDS:
                    job = ClipJob(f"{track}/{family}/{script.seed}", track, script, control=family)
                    found[job.key] = job
                continue
            pair = _pair_of(script) if track == COUNTERFACTUAL else None
            if track != COUNTERFACTUAL or pair is not None:
                job = ClipJob(f"{track}/{script.kind}/{script.seed}", track, script, pair)
                found[job.key] = job
    return found


def clip_batches(jobs: Sequence[ClipJob], capabilities: Capabilities, *, processes: int) -> list[list[ClipJob]]:
    """Jobs of one track (of controls, of one kind) together, as many as a pass should hold and so that every process has some.

    Args:
        jobs: In any order.
        capabilities: Capabilities of the model: size, rate and length of its clips.
        processes: Between which the batches are shared.
    """
    width, height = capabilities.default_size
    most = min(CLIPS_AT_ONCE, PIXELS_AT_ONCE // (width * height * capabilities.default_frames))
    found = []
    for group in dict.fromkeys((job.track, job.control) for job in jobs):
        together = [job for job in jobs if (job.track, job.control) == group]
        size = max(1, min(most, -(-len(together) // processes)))
        found += [together[first : first + size] for first in range(0, len(together), size)]
    return found


def request_of(
    script: Script, track: str, capabilities: Capabilities, *, steps: int | None = None, control: str | None = None
) -> tuple[GenerationRequest, dict[str, Any]]:
    """What a user would ask for, and what the names in it stand for (:mod:`mova.conditioning.sources`).

    Args:
        script: What is asked for; its rendering is what is given.
        track: One of :data:`TRACKS`, or that with the bridge off; ``controls`` with a control.
        capabilities: Capabilities of the model: size, rate and length of its clips.
        steps: Steps of the sampler.
        control: Family of a scene that takes the script's place.
    """
    scene = None if control is None else control_scene(control, script.seed, capabilities)
    values: dict[str, Any] = {
        "prompt": script.caption if scene is None else scene.caption,
        "seed": script.seed % 2**62,
        "num_inference_steps": steps,
        "num_frames": capabilities.default_frames,
    }
    memory: dict[str, Any] = {}
    given = track.removesuffix(BRIDGE_OFF) if control is None else CONTROL_KINDS[control].track
    if given not in ("v2a", "a2v") and not capabilities.needs_first_frame:
        return GenerationRequest.model_validate(values), memory
    truth = render_truth(script, capabilities) if scene is None else control_clip(scene, capabilities)
    if given == "v2a":
        values["video"] = PREFIX + hashlib.sha256(truth.frames.tobytes()).hexdigest()[:16]
        memory[values["video"]] = truth.frames
    else:
        if given == "a2v":
            values["audio"] = name_of_audio((truth.waveform, truth.sample_rate), "audio", memory)
        if capabilities.needs_first_frame:  # what the model was trained with, on every track
            values["image"] = name_of(truth.frames[0], "image", memory)
    return GenerationRequest.model_validate(values), memory


def check_requests(script: Script, tracks: Sequence[str], capabilities: Capabilities, *, steps: int | None) -> None:
    """Refuse what the model cannot make, before any weight is read.

    Raises:
        RequestError: If it cannot make the clip of a track.
    """
    for track in tracks:
        for control in CONTROL_KINDS if track == CONTROLS else (None,):
            request, memory = request_of(script, track, capabilities, steps=steps, control=control)
            prepare(request, capabilities, memory)


def render_truth(script: Script, capabilities: Capabilities) -> SceneClip:
    """The truth at a model's own size, rates and length."""
    width, height = capabilities.default_size
    fps, num_frames = exact_fps(capabilities.default_fps), capabilities.default_frames
    return render(script, width=width, height=height, fps=fps, sample_rate=capabilities.sample_rate, num_frames=num_frames)


def _pair_of(script: Script) -> Counterfactual[Script] | None:
    """One of the script's pairs; which, goes by its seed."""
    pairs = counterfactual_scripts(script)
    return pairs[script.seed % len(pairs)] if pairs else None
