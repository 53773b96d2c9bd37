"""Plan a shot list: resolve every shot for one model, and place every cut on the clock. No weights are read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from mova.conditioning.edit import RATES
from mova.conditioning.prepare import prepare
from mova.conditioning.sources import AudioInput, name_of, read_audio
from mova.errors import RequestError, number_of
from mova.film.shots import Bed, Film, Shot, Take, add_shot_to_errors
from mova.pipeline.reading import ReadPrompt
from mova.request.plan import Capabilities, Plan, resolve_size
from mova.request.reading import PromptReading
from mova.request.schema import GenerationRequest
from mova.request.solver_names import evaluation_points
from mova.sampling.guidance import guidance_of
from mova.timeline import frame_time, samples_in_frames

LEAD_S = Fraction(1, 2)
"""Audio of the shot before that is given to a shot that keeps it, in seconds: enough to continue from."""

FILES = ("image", "last_image", "video", "audio", "repaint")
MAX_BED_S = 24 * 3600.0


@dataclass(frozen=True, eq=False)
class PlannedShot:
    """A shot with every value resolved.

    Args:
        number: Number of the shot, from 1.
        shot: The shot as written in the document.
        plan: Plan of the clip, of the shot's own length; the paths of its request are resolved.
        first_frame: Index in the film of its first frame: its cut.
        lead_frames: Number of frames of the shot before whose audio is given; 0 unless the shot keeps that audio.
        reading: What was understood of its prompt; ``None`` where it is taken as it is.
    """

    number: int
    shot: Shot
    plan: Plan
    first_frame: int
    lead_frames: int
    reading: PromptReading | None = None

    @property
    def num_frames(self) -> int:
        """Length in frames."""
        return self.plan.num_frames

    @property
    def keeps_frame(self) -> bool:
        """Whether it begins with the last frame of the shot before."""
        return "last_frame" in self.shot.keep

    @property
    def keeps_audio(self) -> bool:
        """Whether the audio of the shot before continues in it."""
        return "sound" in self.shot.keep


@dataclass(frozen=True, eq=False)
class FilmPlan:
    """A film with every value resolved.

    Args:
        film: The shot list.
        capabilities: Capabilities of the model.
        model_key: Key of the model (:func:`mova.film.cache.model_key_of`).
        shots: Planned shots, in order.
        bed: Audio under the whole film, at its own rate.
        sample_rate: Sample rate of the film's audio in Hz.
    """

    film: Film
    capabilities: Capabilities
    model_key: str
    shots: tuple[PlannedShot, ...]
    bed: AudioInput | None
    sample_rate: int

    @property
    def fps(self) -> Fraction:
        """Frames per second, exact."""
        return self.shots[0].plan.timeline.fps

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.shots[0].plan.width, self.shots[0].plan.height

    @property
    def num_frames(self) -> int:
        """Length of the film in frames."""
        return self.shots[-1].first_frame + self.shots[-1].num_frames

    @property
    def num_samples(self) -> int:
        """Length of the film in samples."""
        return samples_in_frames(self.num_frames, self.fps, self.sample_rate)

    @property
    def mutes_shots(self) -> bool:
        """Whether the shots' own audio is left out."""
        return isinstance(self.film.sound, Bed) and self.film.sound.shots_gain_db is None

    def start_s(self, shot: PlannedShot) -> Fraction:
        """Return the exact start of a shot in seconds."""
        return frame_time(shot.first_frame, self.fps)

    def span(self, shot: PlannedShot) -> tuple[int, int]:
        """Return the first sample of a shot in the film, and the first after it."""
        first, end = shot.first_frame, shot.first_frame + shot.num_frames
        return samples_in_frames(first, self.fps, self.sample_rate), samples_in_frames(end, self.fps, self.sample_rate)


def plan_film(film: Film, capabilities: Capabilities, *, model_key: str, read: ReadPrompt | None = None) -> FilmPlan:
    """Resolve every value of a film for one model, and read every file that it names once.

    Args:
        film: The shot list.
        capabilities: Capabilities of the model.
        model_key: Key of the model.
        read: What reads the prompts for the model; ``None`` leaves them as they are.

    Raises:
        MediaError: If a file cannot be read.
        RequestError: If the model cannot generate a shot, or the shots are incompatible; the message names the shot.
    """
    shots: list[PlannedShot] = []
    for number, shot in enumerate(film.shots, start=1):
        with add_shot_to_errors(number):
            shots.append(_plan_shot(shot, number, shots, capabilities, film.folder, read))
    bed = None
    if isinstance(film.sound, Bed):
        bed = AudioInput(*read_audio(film.folder / film.sound.bed, max_seconds=MAX_BED_S)[:2])
    plan = FilmPlan(film, capabilities, model_key, tuple(shots), bed, sample_rate=capabilities.sample_rate)
    plan = replace(plan, sample_rate=film.audio_sample_rate or _highest_rate(plan))
    _check_bed(plan)
    _check_fades(plan)
    return plan


def request_of_take(shot: PlannedShot, index: int) -> tuple[Take, int]:
    """Return a retake of a shot and its seed: the one it names, or the shot's seed plus the number of the retake."""
    take = shot.shot.retakes[index]
    return take, shot.plan.seed + 1 + index if take.seed is None else take.seed


def work_of(plan: Plan, num_frames: int) -> float:
    """Return the work of a clip: evaluations of the network times pixels of all frames, in millions."""
    guidance = guidance_of(plan)
    branches = fmean(len(guidance.branches(index / 16)) for index in range(17))  # intervals are fractions of the noise levels
    evaluations = len(evaluation_points(plan.solver, plan.num_inference_steps)) * branches
    return evaluations * num_frames * plan.width * plan.height / 1e6


def resolve_paths(request: GenerationRequest, folder: Path) -> GenerationRequest:
    """Return the request with its paths, which are relative to ``folder``, resolved."""
    update: dict[str, Any] = {name: str(folder / path) for name in FILES if (path := getattr(request, name)) is not None}
    update["keyframes"] = tuple(key.model_copy(update={"image": str(folder / key.image)}) for key in request.keyframes)
    return request.model_copy(update=update)


def dump_as_written(request: GenerationRequest, written: GenerationRequest) -> Mapping[str, Any]:
    """Return a resolved request as JSON values, with the paths as written in the document."""
    paths = {name: getattr(written, name) for name in (*FILES, "keyframes")}
    return request.model_copy(update=paths).model_dump(exclude_none=True)


def _plan_shot(
    shot: Shot,
    number: int,
    earlier: list[PlannedShot],
    capabilities: Capabilities,
    folder: Path,
    read: ReadPrompt | None,
) -> PlannedShot:
    request = resolve_paths(shot.request, folder)
    memory: dict[str, Any] = {}
    if "last_frame" in shot.keep:
        # an image of the right size stands in for the frame, which may not be rendered yet
        width, height = resolve_size(capabilities, request.width, request.height)
        stand_in = np.zeros((height, width, 3), np.uint8)
        request = request.model_copy(update={"image": name_of(stand_in, "image", memory)})
    if "sound" in shot.keep:
        request = request.model_copy(update={"audio_sample_rate": earlier[-1].plan.sample_rate})
    prepared = prepare(request, capabilities, memory, read=read)
    plan = prepared.plan
    if memory:
        plan = replace(plan, request=plan.request.model_copy(update={"image": None}))
    if earlier and (plan.width, plan.height) != (earlier[0].plan.width, earlier[0].plan.height):
        raise RequestError(
            f"the video is {plan.width}x{plan.height}; that of shot 1 is {earlier[0].plan.width}x{earlier[0].plan.height}.",
            "Give clips of one size.",
            field="video",
        )
    lead_frames = _lead_frames(plan, earlier[-1].plan, capabilities) if "sound" in shot.keep else 0
    first_frame = earlier[-1].first_frame + earlier[-1].num_frames if earlier else 0
    planned = PlannedShot(number, shot, plan, first_frame, lead_frames, prepared.reading)
    for take in shot.retakes:
        _check_take(planned, take)
    return planned


def _lead_frames(plan: Plan, before: Plan, capabilities: Capabilities) -> int:
    lead = min(before.num_frames, int(-(-LEAD_S * plan.timeline.fps // 1)))
    if plan.num_frames + lead > capabilities.longest:
        raise RequestError(
            f"keep: sound needs {number_of(lead, 'frame')} of the shot before, {plan.num_frames + lead} frames in all; "
            f"{capabilities.name} generates at most {capabilities.longest}.",
            f"Ask for {capabilities.longest - lead} frames." if lead < capabilities.longest else "Leave keep: sound out.",
            field="keep",
        )
    return lead


def _check_take(shot: PlannedShot, take: Take) -> None:
    span, timeline = take.retake, shot.plan.timeline
    length = frame_time(shot.num_frames, timeline.fps)
    if Fraction(str(span.to_s)) > length:
        raise RequestError(
            f"retake ends at {span.to_s:g} s; the shot ends at {float(length):g} s.",
            "Times are relative to the start of the shot.",
            field="retakes",
        )
    seam_s = Fraction(timeline.audio_hop, timeline.sample_rate)
    if shot.keeps_audio and span.modality != "video" and Fraction(str(span.from_s)) < seam_s:
        raise RequestError(
            f"retake begins at {span.from_s:g} s, where the audio of the shot before continues.",
            f"Begin at {float(seam_s):g} s or later.",
            field="retakes",
        )


def _highest_rate(plan: FilmPlan) -> int:
    rates = [] if plan.mutes_shots else [shot.plan.sample_rate for shot in plan.shots]
    if plan.bed is not None and RATES[0] <= plan.bed.sample_rate <= RATES[1]:
        rates.append(plan.bed.sample_rate)
    return max(rates, default=plan.capabilities.sample_rate)


def _check_bed(plan: FilmPlan) -> None:
    if plan.bed is None:
        return
    assert isinstance(plan.film.sound, Bed)
    samples = plan.bed.waveform.shape[1]
    # one sample may be missing: lengths at another rate are rounded down
    if samples + 1 < plan.num_samples * plan.bed.sample_rate / plan.sample_rate:
        raise RequestError(
            f"sound.bed lasts {samples / plan.bed.sample_rate:.4f} s; the film lasts "
            f"{float(frame_time(plan.num_frames, plan.fps)):.4f} s.",
            "Use longer audio, or shorter shots.",
            field="sound.bed",
        )
    peak_db = 20 * math.log10(max(1e-9, float(np.abs(plan.bed.waveform).max(initial=0.0))))
    if plan.mutes_shots and peak_db + plan.film.sound.gain_db > 1e-6:
        raise RequestError(
            f"sound: the bed exceeds full scale by {peak_db + plan.film.sound.gain_db:.2f} dB.",
            f"Use gain_db: {math.floor(-peak_db * 10) / 10:g} or less.",
            field="sound.gain_db",
        )


def _check_fades(plan: FilmPlan) -> None:
    for shot in plan.shots:
        length_ms = float(frame_time(shot.num_frames, plan.fps)) * 1000
        if 2 * plan.film.fade_ms > length_ms:
            raise RequestError(
                f"fade_ms is {plan.film.fade_ms:g}; two fades do not fit into shot {shot.number} of {length_ms:.1f} ms.",
                f"Use {int(length_ms / 2)} or less.",
                field="fade_ms",
            )
