"""A clip that was looked over before anybody sees it, and what is done about a faulty one.

    checked = generate_checked(model, model.prepare(request), on_fault="repair")
    checked.clip, checked.health.verdict, checked.remedies

Only what was made is judged: the audio that a video was made for, or the video that audio was made for, is the user's own.

The ladder is that of :func:`mova.media.health.gate.next_remedy`. A rung that can change nothing is left out: codecs run in
float32 and without tiles unless their owner chose otherwise, and the same latents decode to the same clip. The two rungs of
decoding keep the seeds, so that the clip stays what it was but for its fault; the latents are made again for it, bit for
bit. Another seed is the last resort: it is written into ``clip.request``, so that the clip can be made again without any
ladder. Audio and picture are made together, so the modality that was healthy stays alike, not the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from mova.generation.model import fully_conditioned
from mova.media.clip import Clip, NonFiniteError
from mova.media.health.gate import Fault, Health, OnFault, Remedy, check_on_fault, next_remedy
from mova.request.schema import MAX_SEED

if TYPE_CHECKING:
    from mova.conditioning.prepare import Prepared
    from mova.generation.model import MOVAModel, OnProgress
    from mova.pipeline import MOVAPipeline

OnRemedy = Callable[[Health, Remedy], None]
MAX_ATTEMPTS = 3
"""How often a faulty clip is made anew."""


@dataclass(frozen=True, eq=False)
class CheckedClip:
    """A clip and what the health gate says of it.

    Args:
        clip: None if what came out of the codecs was no clip at all (values that are not finite).
        health: Of ``clip``.
        prepared: What made it: the one that was asked for, or the same with other seeds.
        remedies: What was tried, in order; empty for a clip that is as it was made first.
    """

    clip: Clip | None
    health: Health
    prepared: Prepared
    remedies: tuple[Remedy, ...] = ()


def generate_checked(
    model: MOVAModel,
    prepared: Prepared,
    *,
    on_fault: OnFault = "keep",
    max_attempts: int = MAX_ATTEMPTS,
    seed_step: int = 1,
    skip_frames: int = 0,
    on_progress: OnProgress | None = None,
    on_remedy: OnRemedy | None = None,
) -> CheckedClip:
    """Make a clip and look it over; with ``on_fault="repair"``, mend it or make it anew.

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

    Raises:
        RequestError: If ``on_fault`` is none of the three, or the model cannot make what is asked.
    """
    check_on_fault(on_fault)
    best = _made(model, prepared, skip_frames, on_progress)
    if on_fault != "repair":
        return best
    useless = _useless(model.pipeline, prepared)
    health, tried = best.health, tuple[Remedy, ...]()
    seeds = prepared
    for _ in range(max_attempts):
        # another seed is as good as the one before it: only decoding is not tried twice
        remedy = next_remedy(health, tried=useless | {rung for rung in tried if not rung.startswith("reroll")})
        if remedy is None:
            break
        if on_remedy is not None:
            on_remedy(health, remedy)
        tried = (*tried, remedy)
        if remedy.startswith("reroll"):
            seeds = _rerolled(seeds, health, seed_step)
        with _decoding(model.pipeline, tried):
            attempt = _made(model, seeds, skip_frames, on_progress)
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


def _made(model: MOVAModel, prepared: Prepared, skip_frames: int, on_progress: OnProgress | None) -> CheckedClip:
    try:
        clip = model.run_prepared(prepared, on_progress=on_progress)
    except NonFiniteError as problem:
        fault = Fault("nonfinite", problem.modality, 0.0, float("nan"), 0.0, problem.message.removesuffix("."))
        return CheckedClip(None, Health((fault,)), prepared)
    return CheckedClip(clip, clip.without_beginning(skip_frames).health, prepared)


def _num_faults(checked: CheckedClip) -> tuple[bool, int]:
    return checked.clip is None, len(checked.health.faults)


def _useless(pipeline: MOVAPipeline, prepared: Prepared) -> set[Remedy]:
    """Rungs that would change nothing."""
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


@contextmanager
def _decoding(pipeline: MOVAPipeline, tried: tuple[Remedy, ...]) -> Iterator[None]:
    """The codecs as the rungs tried so far want them; as they were afterwards."""
    before = [(codec, codec.dtype) for codec in (pipeline.video_vae, pipeline.audio_vae)] if "decode_fp32" in tried else []
    for codec, _ in before:
        codec.to(torch.float32)
    if "redecode" in tried:
        pipeline.video_vae.disable_tiling()
    try:
        yield
    finally:
        for codec, dtype in before:
            codec.to(dtype)
        if "redecode" in tried:
            pipeline.video_vae.enable_tiling()
