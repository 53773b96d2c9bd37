"""Clips of a model, made by requests that a user could make, and what is measured of each.

Tracks: ``text`` (a prompt, nothing given), ``v2a`` (a rendered film is given, its sound is made) and ``a2v`` (a rendered sound
is given, a film is made to it). ``text-bridge-off`` and so on are the same with the towers cut apart: what is left without
what binds them. ``floor`` is the truth through the model's own codecs: no model that uses them can be measured more finely.
"""

from __future__ import annotations

import functools
import hashlib
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mova.errors import RequestError
from mova.evaluation.acceptance import judge
from mova.evaluation.clapper.floors import floor_of, score_floors
from mova.evaluation.clapper.readers import Reading
from mova.evaluation.clapper.scene import ClapperEvent, ClapperScene
from mova.evaluation.events import Detection
from mova.evaluation.health import check_clip
from mova.evaluation.suite.results import BRIDGE_OFF
from mova.evaluation.suite.rows import Row
from mova.inputs import prepare
from mova.media.clip import Clip
from mova.names import PREFIX, name_of_sound
from mova.request import GenerationRequest
from mova.sampling.guidance import Branch
from mova.sampling.pair import Pair
from mova.scenes.script import Script, nearest_hint
from mova.scenes.world import KINDS, SceneClip, render, sample_scripts
from mova.timeline import exact_fps
from mova.world import ModelWorld

if TYPE_CHECKING:
    from mova.model import MOVAModel

SUITES = ("clapper",)
TRACKS = ("text", "v2a", "a2v")
FLOOR = "floor"
SEED = 930_000
"""Of the prompts: not those that a model of the rendered world is trained, tuned or accepted with."""


@dataclass(frozen=True)
class Maker:
    """The model and how it is run; small, so that it can be handed to another process.

    Args:
        model: Folder.
        steps: Of the sampler; the model's own if None.
        device: Where to run; what suits if None.
        clips: Folder that every clip is written to.
    """

    model: Path
    steps: int | None
    device: str | None
    clips: Path


@dataclass(frozen=True)
class ClipJob:
    """A clip to be made and measured.

    Args:
        key: Of its row: track, kind and seed. Rows of two runs with one key are of the same scene.
        track: As above.
        script: What is asked for.
    """

    key: str
    track: str
    script: Script


@dataclass(frozen=True)
class BridgeOff:
    """Guidance by the text with no bridge anywhere (``cross_guidance_scale=0`` leaves it in the text's branch).

    Args:
        text_scale: Strength of the text.
    """

    text_scale: float

    def branches(self, sigma: float) -> tuple[Branch, ...]:
        """With and without text, both without the bridge."""
        return Branch(has_text=True, has_bridge=False), Branch(has_text=False, has_bridge=False)

    def combine(self, velocities: Mapping[Branch, Pair], sigma: float) -> Pair:
        """Classifier-free guidance (Ho and Salimans 2022, equation 6, with weight ``scale - 1``)."""
        asked, plain = (velocities[branch] for branch in self.branches(sigma))
        return Pair(
            plain.video + self.text_scale * (asked.video - plain.video),
            plain.audio + self.text_scale * (asked.audio - plain.audio),
        )


def checked_suite(name: str) -> str:
    """The name of a suite.

    Raises:
        RequestError: If there is none of that name; the nearest is named.
    """
    if name not in SUITES:
        raise RequestError(f"there is no suite {name!r}.", nearest_hint(name, SUITES), field="suite")
    return name


def checked_tracks(names: Sequence[str], *, has_bridge_off: bool = False) -> tuple[str, ...]:
    """Tracks in their own order, each followed by the one with the bridge off if that is wanted; all if none is named.

    Raises:
        RequestError: If there is none of a name; the nearest is named.
    """
    for name in names:
        if name not in TRACKS:
            raise RequestError(f"there is no track {name!r}.", nearest_hint(name, TRACKS), field="track")
    ends = ("", BRIDGE_OFF) if has_bridge_off else ("",)
    return tuple(name + end for name in TRACKS if not names or name in names for end in ends)


def scripts_for(world: ModelWorld, count: int, *, seed: int) -> list[Script]:
    """Scripts of the kinds that a model knows, in turn, as long as its clips. More of them begin with the same.

    Raises:
        RequestError: If the model's clips are too short for a scene.
    """
    kinds = [kind for kind in world.kinds if kind in KINDS] or list(KINDS)
    seconds = float(world.default_frames / exact_fps(world.default_fps))
    return list(sample_scripts(seed, count, kinds, seconds=seconds))


def clip_jobs(scripts: Sequence[Script], tracks: Sequence[str]) -> dict[str, ClipJob]:
    """The floor of every script, then every track, by key."""
    jobs = [ClipJob(f"{track}/{script.kind}/{script.seed}", track, script) for track in (FLOOR, *tracks) for script in scripts]
    return {job.key: job for job in jobs}


def request_of(
    script: Script, track: str, world: ModelWorld, *, steps: int | None = None
) -> tuple[GenerationRequest, dict[str, Any]]:
    """What a user would ask for, and what the names in it stand for (:mod:`mova.names`).

    Args:
        script: What is asked for; its rendering is what is given.
        track: One of :data:`TRACKS`, or that with the bridge off.
        world: Of the model: size, rate and length of its clips.
        steps: Of the sampler.
    """
    values: dict[str, Any] = {
        "prompt": script.caption,
        "seed": script.seed % 2**62,
        "num_inference_steps": steps,
        "num_frames": world.default_frames,
    }
    memory: dict[str, Any] = {}
    given = track.removesuffix(BRIDGE_OFF)
    if given == "v2a":
        frames = rendered(script, world).frames
        values["video"] = PREFIX + hashlib.sha256(frames.tobytes()).hexdigest()[:16]
        memory[values["video"]] = frames
    elif given == "a2v":
        truth = rendered(script, world)
        values["audio"] = name_of_sound((truth.waveform, truth.sample_rate), "audio", memory)
    return GenerationRequest.model_validate(values), memory


def check_requests(script: Script, tracks: Sequence[str], world: ModelWorld, *, steps: int | None) -> None:
    """Refuse what the model cannot make, before any weight is read.

    Raises:
        RequestError: If it cannot make the clip of a track.
    """
    for track in tracks:
        request, memory = request_of(script, track, world, steps=steps)
        prepare(request, world, memory)


def rendered(script: Script, world: ModelWorld) -> SceneClip:
    """The truth at a model's own size, rates and length."""
    width, height = world.default_size
    fps, num_frames = exact_fps(world.default_fps), world.default_frames
    return render(script, width=width, height=height, fps=fps, sample_rate=world.sample_rate, num_frames=num_frames)


def clip_row(maker: Maker, job: ClipJob) -> Row:
    """Make a clip, write it and measure it."""
    if multiprocessing.parent_process() is not None:
        import torch

        torch.set_num_threads(1)  # the processes share the cores
    model = _loaded(maker.model, maker.device)
    began = time.monotonic()
    if job.track == FLOOR:
        return row_of(job, through_codecs(model, rendered(job.script, model.world)), seconds_taken=time.monotonic() - began)
    clip = _made(model, job, steps=maker.steps)
    seconds_taken = time.monotonic() - began
    path = maker.clips / f"{job.track}-{job.script.kind}-{job.script.seed}.mp4"
    clip.save(path)
    return row_of(job, clip, file=f"{maker.clips.name}/{path.name}", seconds_taken=seconds_taken)


def row_of(job: ClipJob, clip: Clip, *, file: str | None = None, seconds_taken: float = 0.0) -> Row:
    """What is measured of a clip, as plain values.

    Args:
        job: What it was made for.
        clip: The clip, as the model gave it and not as a file holds it.
        file: Where it was written, beside the results.
        seconds_taken: By making it.
    """
    script = job.script
    verdict = judge(script, clip.frames, clip.waveform, fps=float(clip.fps), sample_rate=clip.sample_rate)
    return {
        "key": job.key,
        "track": job.track,
        "kind": script.kind,
        "prompt": script.caption,
        "file": file,
        "seconds": float(clip.seconds),
        "video_s": list(verdict.events.video_s),
        "audio_s": list(verdict.events.audio_s),
        "lag_s": verdict.events.lag_s,
        "num_expected": len(script.events),
        "values": dict(verdict.values),
        "faults": [fault.message for fault in check_clip(clip).faults],
        "seconds_taken": round(seconds_taken, 3),
    }


def codec_floors(scripts: Sequence[Script], rows: Sequence[Row]) -> dict[str, float]:
    """The floor of every score, from the rows of the track ``floor``, in the order of the scripts."""
    readings = [Reading(_detections(row["video_s"]), _detections(row["audio_s"])) for row in rows]
    return score_floors(floor_of([_scene(script) for script in scripts], readings))


def through_codecs(model: MOVAModel, truth: SceneClip) -> Clip:
    """A rendered clip as the model's codecs give it back."""
    import torch
    from einops import rearrange

    pipeline, timeline = model.pipeline, model.world.timeline(truth.fps)
    num_frames, num_samples = len(truth.frames), truth.waveform.shape[1]
    more = timeline.next_legal_frames(num_frames) - num_frames
    frames = np.concatenate((truth.frames, np.repeat(truth.frames[-1:], more, axis=0)))
    film = rearrange(torch.from_numpy(frames).float() / 127.5 - 1.0, "t h w c -> 1 c t h w")
    decoded = pipeline.decode_video(pipeline.encode_video(film))[0, :, :num_frames]
    pixels = ((rearrange(decoded, "c t h w -> t h w c") + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
    sound = torch.nn.functional.pad(torch.from_numpy(truth.waveform), (0, -num_samples % timeline.audio_hop))
    waveform = pipeline.decode_audio(pipeline.encode_audio(sound[None]))[0, :, :num_samples]
    return Clip(pixels.cpu().numpy(), waveform.cpu().numpy(), truth.fps, truth.sample_rate)


@functools.lru_cache(maxsize=1)
def _loaded(folder: Path, device: str | None) -> MOVAModel:
    """The model, once a process."""
    from mova.model import MOVAModel

    return MOVAModel.from_pretrained(folder, device=device)


def _made(model: MOVAModel, job: ClipJob, *, steps: int | None) -> Clip:
    from mova.given import keep_given

    request, memory = request_of(job.script, job.track, model.world, steps=steps)
    prepared = model.prepare(request, memory=memory)
    if not job.track.endswith(BRIDGE_OFF):
        return model.run_prepared(prepared)
    plan = prepared.plan
    output: Any = model.pipeline(
        plan.request.prompt,
        height=plan.height,
        width=plan.width,
        num_frames=plan.num_frames,
        fps=plan.request.fps,
        num_inference_steps=plan.num_inference_steps,
        guidance=BridgeOff(plan.guidance_scale),
        solver=plan.solver,
        seed=plan.seed,
        audio_seed=plan.audio_seed,
        given=[prepared.given],
    )
    seam_s = plan.timeline.audio_hop / plan.timeline.sample_rate
    return keep_given(output.clip, prepared.given, sound=prepared.sound, seam_s=seam_s)


def _scene(script: Script) -> ClapperScene:
    """A script as the suite's floors take it."""
    shared = [(one.kind, one.label, one.place, one.strength) for one in script.events]
    pairs = list(zip(script.events, shared, strict=True))
    events = [ClapperEvent(one.time_s, "video", *rest) for one, rest in pairs]
    events += [ClapperEvent(one.sound_time_s, "audio", *rest) for one, rest in pairs]
    lags = [one.sound_time_s - one.time_s for one in script.events]
    return ClapperScene(
        family=script.kind,
        seed=script.seed,
        fps=exact_fps(1),
        num_frames=1,
        caption=script.caption,
        attributes=script.attributes,
        events=tuple(sorted(events, key=lambda event: event.time_s)),
        picture=script,
        sound=script,
        lag_s=float(np.median(lags)) if lags else 0.0,
    )


def _detections(times_s: Sequence[float]) -> tuple[Detection, ...]:
    return tuple(Detection(time_s, "", 1.0) for time_s in times_s)
