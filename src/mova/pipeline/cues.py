"""When what happens in the clips of a call: as the user says, as the planner samples it, or left to the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch

from mova.errors import RequestError
from mova.models.conditions.cues import Instant, cue_condition
from mova.models.conditions.planner import plan_cues
from mova.models.text_encoder import tokenise
from mova.request.capabilities import Capabilities, takes_no_cues
from mova.sampling.task import Task

Sheet = Sequence[Instant]


def plan_cue_sheets(
    planner: Any,
    tokenizer: Any,
    prompts: Sequence[str] | None,
    task: Task,
    seeds: Sequence[int],
    capabilities: Capabilities,
    *,
    num_frames: int,
    fps: Fraction,
) -> list[Sheet]:
    """Sample a sheet a clip; empty ones where there is no planner, or where something is given: a lamp that is lit in a
    first frame, a ball in the air, has times of its own.

    In a clip longer than the model's own, only the beginning is planned.

    Args:
        planner: Cue planner, or ``None``.
        tokenizer: Tokenizer of the prompts.
        prompts: One a clip, or ``None``.
        task: What is given.
        seeds: One a clip.
        capabilities: What the model can make.
        num_frames: Length of the clips in frames.
        fps: Frames per second.
    """
    makes_all = bool((task.video_level == 1).all() and (task.audio_level == 1).all())
    if planner is None or prompts is None or not makes_all:
        return [[] for _ in seeds]
    before_s = float(min(num_frames, capabilities.max_frames) / fps)
    input_ids, masks = tokenise(tokenizer, list(prompts), capabilities.max_tokens, truncate=True)
    return [
        plan_cues(planner, ids, mask, seed=seed, before_s=before_s)
        for ids, mask, seed in zip(input_ids, masks, seeds, strict=True)
    ]


def add_cue_channels(
    task: Task, sheets: Sequence[Sheet], capabilities: Capabilities, *, batch: int, fps: Fraction, until: int
) -> Task:
    """Add cue channels to a task, where the network takes them and they are not there.

    Args:
        task: What is given.
        sheets: One a clip.
        capabilities: What the model can make.
        batch: Number of clips.
        fps: Frames per second.
        until: Index of the first latent that gets no cue.

    Raises:
        RequestError: If the model takes no cues, or a sheet does not fit.
    """
    labels = capabilities.cues
    if any(sheets) and not labels:
        raise takes_no_cues(capabilities)
    if not labels or task.video_condition is not None:
        return task
    if len(sheets) != batch:
        raise RequestError(f"there are {len(sheets)} cue sheets for {batch} clips.", "Give as many.", field="cues")
    frames, height, width = task.video_level.shape
    channels = []
    for sheet in sheets:
        try:
            known = cue_condition(sheet or None, labels, num_latents=frames, fps=fps, stride=capabilities.video_stride)
        except ValueError as error:
            raise RequestError(str(error), field="cues") from error
        known[:, until:] = 0.0
        channels.append(known[..., None, None].expand(-1, -1, height, width))
    return replace(task, video_condition=torch.stack(channels))
