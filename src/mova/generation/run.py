"""Generate prepared clips, check them, and repair faulty ones: what library, command line, lab and benchmarks share.

    checked = generate_checked(model, model.prepare(request), on_fault="repair")
    checked.clip, checked.health.verdict, checked.remedies

Only what was made is judged: the audio that a video was made for, or the video that audio was made for, is the user's own.

The retry policy is that of :func:`mova.media.health.gate.next_remedy`. A strategy that can change nothing is left out:
codecs run in float32 and without tiles unless their owner chose otherwise, and the same latents decode to the same clip.
The two strategies of decoding keep the seeds, so that the clip stays what it was but for its fault; they decode with codecs
of their own, so that other threads that use the model are not touched. Another seed is the last resort: it is written into
``clip.request``, so that the clip can be made again without any retry. Audio and video are made together, so the modality
that was healthy stays alike, not the same.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import torch

from mova.conditioning.given import Given, paste_back
from mova.conditioning.prepare import Prepared
from mova.generation.notes import notes_on
from mova.media.clip import Clip, NonFiniteError
from mova.media.health.gate import Fault, Health, OnFault, Remedy, check_on_fault, next_remedy
from mova.pipeline import MOVAPipeline
from mova.pipeline.latents import Codecs
from mova.pipeline.run import batch_of, can_share
from mova.pipeline.run import run as run_batch
from mova.progress import CancelToken, OnProgress, Progress, Reporter
from mova.request.schema import MAX_SEED, Modality
from mova.sampling.guidance import Guider


class Model(Protocol):
    """What a run uses of a :class:`~mova.generation.model.MOVAModel`."""

    pipeline: MOVAPipeline

    def made_by(self, prepared: Prepared, cues: Sequence[tuple[float, str]]) -> dict[str, Any]: ...

    def reroll(self, clip: Clip, modality: Modality, *, seed: int | None = None) -> Clip: ...

    def run_prepared(
        self,
        prepared: Prepared,
        *,
        codecs: Codecs | None = None,
        on_progress: OnProgress | None = None,
        cancel: CancelToken | None = None,
    ) -> Clip: ...


def run(
    model: Model,
    prepared: Prepared,
    *,
    codecs: Codecs | None = None,
    on_progress: OnProgress | None = None,
    cancel: CancelToken | None = None,
) -> Clip:
    """Make one prepared clip.

    Args:
        model: The model.
        prepared: What to make (:meth:`MOVAModel.prepare`).
        codecs: In place of the model's.
        on_progress: Receiver of progress events.
        cancel: Token that stops the run within a step.

    Raises:
        NonFiniteError: If a codec gives NaN or infinity.
        CancelledError: If the run was cancelled.
    """
    return _run_batch(model, [prepared], None, codecs, Reporter(on_progress, cancel))[0]


def run_many(
    model: Model,
    prepared: Sequence[Prepared],
    *,
    batch_size: int = 8,
    guidance: Guider | None = None,
    on_progress: OnProgress | None = None,
    cancel: CancelToken | None = None,
) -> list[Clip]:
    """Make prepared clips, in order; neighbours that can share a batch are made together. Each is what its own run gives.

    Args:
        model: The model.
        prepared: What to make.
        batch_size: Most clips made at once; changes speed and memory only.
        guidance: In place of what the requests ask for; no clip then says that its request made it.
        on_progress: Receiver of progress events, which count the work of all batches.
        cancel: Token that stops the run within a step.

    Raises:
        NonFiniteError: If a codec gives NaN or infinity.
        CancelledError: If the run was cancelled.
    """
    batches: list[list[Prepared]] = []
    for one in prepared:
        if batches and len(batches[-1]) < batch_size and can_share(batches[-1][0], one):
            batches[-1].append(one)
        else:
            batches.append([one])
    whole, clips = Reporter(on_progress, cancel), list[Clip]()
    for number, batch in enumerate(batches):

        def tell(progress: Progress, number: int = number) -> None:
            done, total = number * progress.total + progress.done, len(batches) * progress.total
            whole.report(progress.stage, done, total, preview=progress.preview)

        clips += _run_batch(model, batch, guidance, None, Reporter(tell, cancel))
    return clips


def fully_conditioned(given: Given) -> tuple[Literal["audio", "video"], ...]:
    """The modalities of which nothing is to be made."""
    keeps: tuple[tuple[Literal["audio", "video"], Any], ...] = (("audio", given.keep_audio), ("video", given.keep_picture))
    return tuple(modality for modality, kept in keeps if kept is not None and kept.all())


def _run_batch(
    model: Model, prepared: Sequence[Prepared], guidance: Guider | None, codecs: Codecs | None, reporter: Reporter
) -> list[Clip]:
    output = run_batch(model.pipeline, batch_of(prepared, guidance=guidance), codecs=codecs, reporter=reporter)
    clips = []
    for one, clip, cues in zip(prepared, output.clips, output.cues, strict=True):
        finished = _finish(one, clip, reporter)
        if guidance is None:
            request = one.plan.request.model_dump(exclude_defaults=True)
            finished = replace(
                finished,
                request=request,
                made_by=model.made_by(one, cues),
                notes=tuple(notes_on(one, model.pipeline.capabilities, cues)),
                reroll_method=weakref.WeakMethod(model.reroll),
            )
        clips.append(finished)
    return clips


def _finish(prepared: Prepared, clip: Clip, reporter: Reporter) -> Clip:
    """The clip without its lead, at its own sample rate, with what was given as it was."""
    plan, given = prepared.plan, prepared.given
    clip = clip.without_beginning(prepared.lead_frames)
    if plan.sample_rate != clip.sample_rate:
        reporter.report("resample", 0, 1)
        clip = clip.resampled(plan.sample_rate)
        reporter.report("resample", 1, 1)
    if given.frames is not None or prepared.audio is not None:
        clip = paste_back(clip, given, audio=prepared.audio, timeline=plan.timeline)
    return replace(
        clip,
        source_video=prepared.source_video,
        only=plan.request.only,
        fully_conditioned=fully_conditioned(given),
    )


OnRemedy = Callable[[Health, Remedy], None]
MAX_ATTEMPTS = 3
"""How often a faulty clip is generated again."""


@dataclass(frozen=True, eq=False)
class CheckedClip:
    """A clip and what the health gate says of it.

    Args:
        clip: None if what came out of the codecs was no clip at all (values that are not finite).
        health: Health of ``clip``.
        prepared: What made it: the one that was asked for, or the same with other seeds.
        remedies: What was tried, in order; empty for a clip that is as it was made first.
    """

    clip: Clip | None
    health: Health
    prepared: Prepared
    remedies: tuple[Remedy, ...] = ()


def generate_checked(
    model: Model,
    prepared: Prepared,
    *,
    on_fault: OnFault = "keep",
    max_attempts: int = MAX_ATTEMPTS,
    seed_step: int = 1,
    skip_frames: int = 0,
    on_progress: OnProgress | None = None,
    on_remedy: OnRemedy | None = None,
    cancel: CancelToken | None = None,
) -> CheckedClip:
    """Make a clip and check it; with ``on_fault="repair"``, repair it or make it again.

    Nothing is raised for a fault: what ``"fail"`` means is up to whoever writes the file. If no attempt is healthy, the one
    with the fewest faults is given, the earliest of equals.

    Args:
        model: What makes it.
        prepared: What is wanted (:meth:`mova.generation.model.MOVAModel.prepare`).
        on_fault: Whether to repair.
        max_attempts: How often to try after the first time.
        seed_step: From one seed to the next; the number of clips, where several have consecutive seeds.
        skip_frames: So many at the beginning, and their audio, are not judged: whoever asked cuts them off.
        on_progress: As in :meth:`mova.generation.model.MOVAModel.generate`; called for every attempt.
        on_remedy: ``f(health, remedy)`` before each attempt.
        cancel: Token that stops the run within a step.

    Raises:
        RequestError: If ``on_fault`` is none of the three, or the model cannot make what is asked.
        CancelledError: If the run was cancelled.
    """
    check_on_fault(on_fault)

    def make(prepared: Prepared, codecs: Codecs | None = None) -> CheckedClip:
        try:
            clip = model.run_prepared(prepared, codecs=codecs, on_progress=on_progress, cancel=cancel)
        except NonFiniteError as problem:
            fault = Fault("nonfinite", problem.modality, 0.0, float("nan"), 0.0, problem.message.removesuffix("."))
            return CheckedClip(None, Health((fault,)), prepared)
        return CheckedClip(clip, clip.without_beginning(skip_frames).health, prepared)

    best = make(prepared)
    if on_fault != "repair":
        return best
    useless = _useless(model.pipeline, prepared)
    health, tried = best.health, tuple[Remedy, ...]()
    seeds = prepared
    for _ in range(max_attempts):
        # another seed is as good as the one before it: only decoding is not tried twice
        remedy = next_remedy(health, tried=useless | {done for done in tried if not done.startswith("reroll")})
        if remedy is None:
            break
        if on_remedy is not None:
            on_remedy(health, remedy)
        tried = (*tried, remedy)
        if remedy.startswith("reroll"):
            seeds = _rerolled(seeds, health, seed_step)
        attempt = make(seeds, _codecs_for(model.pipeline, tried))
        health = attempt.health
        if _num_faults(attempt) < _num_faults(best):
            best = attempt
        if health.verdict == "ok":
            break
    return replace(best, remedies=tried)


def fault_words(health: Health) -> str:
    """The first fault, and how many more there are."""
    more = len(health.faults) - 1
    return health.faults[0].message + (f", and {more} more" if more else "")


def _num_faults(checked: CheckedClip) -> tuple[bool, int]:
    return checked.clip is None, len(checked.health.faults)


def _useless(pipeline: MOVAPipeline, prepared: Prepared) -> set[Remedy]:
    """Strategies that would change nothing."""
    codecs = (pipeline.video_vae, pipeline.audio_vae)
    whole = fully_conditioned(prepared.given)
    useless: set[Remedy] = set()
    if all(codec.dtype == torch.float32 for codec in codecs):
        useless.add("decode_fp32")
    if not getattr(pipeline.video_vae, "use_tiling", False):
        useless.add("redecode")
    if "video" in whole:
        useless.add("reroll_video")
    if "audio" in whole:
        useless.add("reroll_audio")
    return useless


def _rerolled(prepared: Prepared, health: Health, step: int) -> Prepared:
    """The next seed for every modality that has a fault: the clip is made as a whole anyway."""
    plan, faulty = prepared.plan, {fault.modality for fault in health.faults}
    seed, audio_seed = (
        (value + step * (name in faulty)) % (MAX_SEED + 1) for name, value in (("video", plan.seed), ("audio", plan.audio_seed))
    )
    return prepared.with_seeds(seed, audio_seed)


def _codecs_for(pipeline: MOVAPipeline, tried: tuple[Remedy, ...]) -> Codecs | None:
    """Codecs of their own as the strategies tried so far want them; ``None`` where the model's will do."""
    if not {"decode_fp32", "redecode"} & set(tried):
        return None
    codecs = (pipeline.video_vae, pipeline.audio_vae)
    dtype = torch.float32 if "decode_fp32" in tried else None
    video, audio = (_copy(codec, dtype or codec.dtype, pipeline._execution_device) for codec in codecs)
    if "redecode" not in tried and getattr(pipeline.video_vae, "use_tiling", False):
        video.enable_tiling()
    return Codecs(video, audio, pipeline._execution_device)


def _copy(codec: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """A codec with the same weights, without tiles and without hooks of offloading."""
    accepted = set(type(codec)._get_init_keys(type(codec))) - {"self"}
    copy = type(codec)(**{name: value for name, value in codec.config.items() if name in accepted})
    copy.load_state_dict(codec.state_dict())
    return copy.to(device, dtype).requires_grad_(False).eval()
