"""Clips as a model makes them, batch by batch, what its codecs leave of the truth, and what is measured of each."""

from __future__ import annotations

import functools
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mova.lab.adherence.counterfactual import judge_pair
from mova.lab.read.events import Detection, Reading
from mova.lab.suite.measures import Measure, Subject, list_measures, values_of
from mova.lab.suite.results import ALL, BRIDGE_OFF, CONTROLS, COUNTERFACTUAL, Row
from mova.lab.suite.tracks import (
    CONTROL_KINDS,
    FLOOR,
    ClipJob,
    control_clip,
    control_scene,
    count_made_up,
    render_truth,
    request_of,
)
from mova.lab.sync.floors import floor_of, score_floors
from mova.media.clip import Clip
from mova.sampling.guidance import Branch
from mova.sampling.task import AVTensors
from mova.scenes.clapper.scene import as_scene
from mova.scenes.script import Script
from mova.scenes.world import SceneClip, sample_scripts, synthesise
from mova.timeline import Timeline, exact_fps

if TYPE_CHECKING:
    from mova.generation.model import MOVAModel
    from mova.pipeline.latents import Codecs


@dataclass(frozen=True)
class ModelSpec:
    """The model and how it is run; small, so that it can be handed to another process.

    Args:
        model: Folder.
        steps: Steps of the sampler; the model's own if None.
        device: Where to run; what suits if None.
        clips: Folder that every clip is written to.
        threads: Threads that compute on a CPU; in worker processes one, and else torch's own number, if None.
    """

    model: Path
    steps: int | None
    device: str | None
    clips: Path
    threads: int | None = None


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

    def combine(self, velocities: Mapping[Branch, AVTensors], sigma: float) -> AVTensors:
        """Classifier-free guidance (Ho and Salimans 2022, equation 6, with weight ``scale - 1``)."""
        asked, plain = (velocities[branch] for branch in self.branches(sigma))
        return AVTensors(
            plain.video + self.text_scale * (asked.video - plain.video),
            plain.audio + self.text_scale * (asked.audio - plain.audio),
        )


def clip_rows(maker: ModelSpec, jobs: Sequence[ClipJob], *, measures: Sequence[Measure] | None = None) -> list[Row]:
    """Make the clips of a batch, write them and measure them.

    Args:
        maker: The model.
        jobs: All of one track, and of one kind of control.
        measures: What is measured; :func:`~mova.lab.suite.measures.list_measures` if None.
    """
    if multiprocessing.parent_process() is not None:
        import torch

        torch.set_num_threads(1)  # the processes share the cores
    model, track = _loaded(maker.model, maker.device, maker.threads), jobs[0].track
    began = time.monotonic()
    clips = _codec_clips(model, jobs) if track == FLOOR else make_clips(model, jobs, steps=maker.steps)
    others = make_clips(model, _second_jobs(jobs), steps=maker.steps) if track == COUNTERFACTUAL else clips
    seconds_taken = (time.monotonic() - began) / len(jobs)
    rows = []
    for job, clip, other in zip(jobs, clips, others, strict=True):
        if track == COUNTERFACTUAL:
            row = _pair_row(model, job, clip, other, maker)
        elif track == CONTROLS:
            row = _control_row(model, job, clip, maker)
        else:
            row = row_of(job, clip, file=None if track == FLOOR else _saved(clip, job, maker), measures=measures)
        rows.append({**row, "seconds_taken": round(seconds_taken, 3)})
    return rows


def make_clips(model: MOVAModel, jobs: Sequence[ClipJob], *, steps: int | None) -> list[Clip]:
    """The clips of jobs of one track, made by the product's own run; each is what its request alone would give."""
    from mova.generation.run import run_many

    requests = [request_of(job.script, job.track, model.capabilities, steps=steps, control=job.control) for job in jobs]
    prepared = [model.prepare(request, memory=memory) for request, memory in requests]
    # no request of a user cuts the towers apart
    guidance = BridgeOff(prepared[0].plan.guidance_scale) if jobs[0].track.endswith(BRIDGE_OFF) else None
    return run_many(model, prepared, batch_size=len(prepared), guidance=guidance)


def _pair_row(model: MOVAModel, job: ClipJob, first: Clip, second: Clip, maker: ModelSpec) -> Row:
    """Both clips of a pair written, and of each quantity whether it moves the right way."""
    (other,) = _second_jobs([job])
    truths = (_codec_clips(model, [one])[0] for one in (job, other))
    return {
        "key": job.key,
        "track": job.track,
        "kind": job.script.kind,
        "prompt": job.script.caption,
        "other_prompt": other.script.caption,
        "file": _saved(first, job, maker),
        "other_file": _saved(second, job, maker, end="-other"),
        "values": _moves(job, first, second),
        "codec": _moves(job, *truths),
    }


def _control_row(model: MOVAModel, job: ClipJob, clip: Clip, maker: ModelSpec) -> Row:
    """The clip of a control written, and a count of what should not be in it."""
    assert job.control is not None
    scene = control_scene(job.control, job.script.seed, model.capabilities)
    truth = through_codecs(model.pipeline.codecs, _timeline(model), control_clip(scene, model.capabilities))
    name = CONTROL_KINDS[job.control].name
    return {
        "key": job.key,
        "track": job.track,
        "kind": job.control,
        "prompt": scene.caption,
        "file": _saved(clip, job, maker, end=f"-{job.control}"),
        "values": {name: float(count_made_up(clip, job.control))},
        "codec": {name: float(count_made_up(truth, job.control))},
    }


def _second_jobs(jobs: Sequence[ClipJob]) -> list[ClipJob]:
    """The other clip of every pair."""
    return [replace(job, script=job.pair.second) for job in jobs if job.pair is not None]


def through_codecs(codecs: Codecs, timeline: Timeline, truth: SceneClip | Clip) -> Clip:
    """A rendered clip as codecs give it back, as long as it was.

    Args:
        codecs: Codecs of the model.
        timeline: Their strides, at the clip's rates.
        truth: The clip.
    """
    import torch
    from einops import rearrange

    num_frames, num_samples = len(truth.frames), truth.waveform.shape[1]
    more = timeline.next_legal_frames(num_frames) - num_frames
    frames = np.concatenate((truth.frames, np.repeat(truth.frames[-1:], more, axis=0)))
    video = rearrange(torch.from_numpy(frames).float() / 127.5 - 1.0, "t h w c -> 1 c t h w")
    decoded = codecs.decode_video(codecs.encode_video(video))[0, :, :num_frames]
    pixels = ((rearrange(decoded, "c t h w -> t h w c") + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
    audio = torch.nn.functional.pad(torch.from_numpy(truth.waveform), (0, -num_samples % timeline.audio_hop))
    waveform = codecs.decode_audio(codecs.encode_audio(audio[None]))[0, :, :num_samples]
    return Clip(pixels.cpu().numpy(), waveform.cpu().numpy(), truth.fps, truth.sample_rate)


@functools.lru_cache(maxsize=1)
def _loaded(folder: Path, device: str | None, threads: int | None) -> MOVAModel:
    """The model, once a process."""
    from mova.generation.model import MOVAModel
    from mova.runtime.options import RuntimeOptions

    return MOVAModel.from_pretrained(folder, runtime=RuntimeOptions(device=device or "auto", threads=threads))


def _saved(clip: Clip, job: ClipJob, maker: ModelSpec, *, end: str = "") -> str:
    """Where the clip was written, beside the results."""
    name = f"{job.track}-{job.script.kind}-{job.script.seed}{end}.mp4"
    clip.save(maker.clips / name)
    return f"{maker.clips.name}/{name}"


def _moves(job: ClipJob, first: Clip, second: Clip) -> dict[str, float]:
    """1 for every quantity that moves the right way from the one clip of a pair to the other, else 0."""
    assert job.pair is not None
    return {name: float(is_right) for name, is_right in judge_pair(job.pair, first, second).items()}


def _codec_clips(model: MOVAModel, jobs: Sequence[ClipJob]) -> list[Clip]:
    return [
        through_codecs(model.pipeline.codecs, _timeline(model), render_truth(job.script, model.capabilities)) for job in jobs
    ]


def _timeline(model: MOVAModel) -> Timeline:
    return model.capabilities.timeline(exact_fps(model.capabilities.default_fps))


def row_of(job: ClipJob, clip: Clip, *, file: str | None = None, measures: Sequence[Measure] | None = None) -> Row:
    """What is measured of a clip, as plain values.

    Args:
        job: What it was made for.
        clip: The clip, as the model gave it and not as a file holds it.
        file: Where it was written, beside the results.
        measures: What is measured; :func:`~mova.lab.suite.measures.list_measures` if None.
    """
    measures = list_measures() if measures is None else measures
    script, subject = job.script, Subject(job.script, clip)
    times = subject.verdict.times
    return {
        "key": job.key,
        "track": job.track,
        "kind": script.kind,
        "prompt": script.caption,
        "file": file,
        "seconds": float(clip.seconds),
        "video_s": list(times.video_s),
        "audio_s": list(times.audio_s),
        "lag_s": times.lag_s,
        "num_expected": len(script.events),
        "values": values_of(measures, subject),
        "chance": chance_values(script, clip, measures),
        "faults": list(subject.faults),
    }


def chance_values(script: Script, clip: Clip, measures: Sequence[Measure] | None = None) -> dict[str, float]:
    """What the clip is worth if another scene of its kind was asked for, or with that scene's audio.

    The other scene follows from the script, so that the number of a clip does not depend on which others were made.
    """
    measures = list_measures() if measures is None else measures
    other = next(sample_scripts(script.seed, 1, [script.definition or script.kind], seconds=script.seconds))
    found = values_of([one for one in measures if one.chance == "script"], Subject(other, clip))
    by_audio = [one for one in measures if one.chance == "audio" and one.is_of(script.kind)]
    if not by_audio:
        return found
    waveform = synthesise(other, sample_rate=clip.sample_rate, num_samples=clip.waveform.shape[1])
    return found | values_of(by_audio, Subject(script, replace(clip, waveform=waveform)))


def codec_floors(
    scripts: Sequence[Script], rows: Sequence[Row], measures: Sequence[Measure] | None = None
) -> dict[str, dict[str, float]]:
    """The floor of every number, of all kinds together and of each, from what the codecs leave of the truth.

    Args:
        scripts: What was rendered.
        rows: Rows of the track ``floor``, in the order of the scripts.
        measures: What was measured; :func:`~mova.lab.suite.measures.list_measures` if None.
    """
    measures = list_measures() if measures is None else measures
    pairs = list(zip(scripts, rows, strict=True))
    kinds = dict.fromkeys(script.kind for script in scripts)
    by_kind = {kind: _floors([pair for pair in pairs if pair[0].kind == kind], measures) for kind in kinds}
    return {ALL: _floors(pairs, measures), **by_kind}


def _floors(pairs: Sequence[tuple[Script, Row]], measures: Sequence[Measure]) -> dict[str, float]:
    """Of all pairs of a script and its row together."""
    readings = [Reading(_detections(row["video_s"]), _detections(row["audio_s"])) for _, row in pairs]
    found = score_floors(floor_of([as_scene(script) for script, _ in pairs], readings))
    for one in measures:
        measured = [(row["values"][one.name], script) for script, row in pairs if row["values"].get(one.name) is not None]
        if one.floor is not None and measured:
            found[one.name] = one.floor(*zip(*measured, strict=True))
    return found


def _detections(times_s: Sequence[float]) -> tuple[Detection, ...]:
    return tuple(Detection(time_s, "", 1.0) for time_s in times_s)
