"""Generate prepared clips: the run that library, command line, lab, tuning, ``film/`` and benchmarks share."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from mova.conditioning.given import Given, paste_back
from mova.media.clip import Clip
from mova.pipeline.batch import batch_of, can_share
from mova.pipeline.codecs import Codecs
from mova.pipeline.run import run as run_batch
from mova.progress import CancelToken, OnProgress, Progress, Reporter
from mova.sampling.guidance import Guider

if TYPE_CHECKING:
    from mova.conditioning.prepare import Prepared
    from mova.generation.model import MOVAModel


def run(
    model: MOVAModel,
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
    model: MOVAModel,
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
    model: MOVAModel, prepared: Sequence[Prepared], guidance: Guider | None, codecs: Codecs | None, reporter: Reporter
) -> list[Clip]:
    output = run_batch(model.pipeline, batch_of(prepared, guidance=guidance), codecs=codecs, reporter=reporter)
    clips = []
    for one, clip, cues in zip(prepared, output.clips, output.cues, strict=True):
        finished = _finish(one, clip, reporter)
        if guidance is None:
            request = one.plan.request.model_dump(exclude_defaults=True)
            finished = replace(
                finished, request=request, made_by=model.made_by(one, cues), reroll_method=weakref.WeakMethod(model.reroll)
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
    return replace(
        paste_back(clip, given, audio=prepared.audio, timeline=plan.timeline),
        source_video=prepared.source_video,
        only=plan.request.only,
        fully_conditioned=fully_conditioned(given),
    )
