"""What a call says in words: prompts and their embeddings, and cue sheets, given or planned from the prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mova.errors import RequestError
from mova.models.text import Instant, SheetConstraints, cue_condition, embed_prompts, plan_cues, tokenise
from mova.request.plan import Capabilities, takes_no_cues
from mova.request.reading import PromptReading
from mova.sampling.task import Task

Texts = str | list[str] | tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Prompts:
    """What a call says, in words or as embeddings ``[B, S, Dt]``.

    Args:
        prompt: One, or one a clip.
        negative: What to keep away from: one, or one a clip.
        audio_negative: What the audio keeps away from, if not from ``negative``.
        embeds: Instead of ``prompt``.
        negative_embeds: Instead of ``negative``.
    """

    prompt: str | Sequence[str] | None
    negative: Texts | None = None
    audio_negative: Texts | None = None
    embeds: Tensor | None = None
    negative_embeds: Tensor | None = None

    @property
    def texts(self) -> list[str] | None:
        """The prompts as words, one a clip; ``None`` where embeddings are given."""
        if self.prompt is None:
            return None
        return [self.prompt] if isinstance(self.prompt, str) else list(self.prompt)


class Embeddings(NamedTuple):
    """Embeddings ``[B, S, Dt]``; those that no branch of guidance needs are ``None``."""

    positive: Tensor
    negative: Tensor | None
    audio_negative: Tensor | None


def embed_prompts_for(
    tokenizer: Any,
    encoder: nn.Module,
    prompts: Prompts,
    *,
    max_tokens: int,
    device: torch.device,
    needs_negative: bool,
    truncate: bool,
) -> Embeddings:
    """Everything that the steps of a run read of the prompts.

    Args:
        tokenizer: Tokenizer of the text encoder.
        encoder: Text encoder.
        prompts: What the call says.
        max_tokens: Tokens that the model reads.
        device: Where the embeddings go.
        needs_negative: Whether a branch of guidance reads the negative prompts.
        truncate: Cut a prompt that has more tokens than the model reads.

    Raises:
        RequestError: If something is missing, given twice, too long, or not as many as the prompts.
    """
    if (prompts.prompt is None) == (prompts.embeds is None):
        raise RequestError("give either prompt or prompt_embeds.", field="prompt")
    if prompts.negative is not None and prompts.negative_embeds is not None:
        raise RequestError("give negative_prompt or negative_prompt_embeds, not both.", field="negative_prompt")
    positive = prompts.embeds
    if positive is None:
        texts = prompts.texts
        if not texts:
            raise RequestError("prompt is empty.", "Give at least one.", field="prompt")
        positive = embed_prompts(tokenizer, encoder, texts, max_tokens, truncate=truncate)
    batch = positive.shape[0]
    if not needs_negative:
        return Embeddings(positive.to(device), None, None)

    def embedded(given: Texts | None, field: str) -> Tensor:
        texts = list(given) if isinstance(given, list | tuple) else [given or ""]
        if len(texts) not in (1, batch):
            raise RequestError(
                f"there are {len(texts)} negative prompts for {batch} prompts.", "Give one, or as many.", field=field
            )
        return embed_prompts(tokenizer, encoder, texts, max_tokens, truncate=truncate)

    negative = embedded(prompts.negative, "negative_prompt") if prompts.negative_embeds is None else prompts.negative_embeds
    negative, of_audio = negative.to(device).expand(batch, -1, -1), None
    if prompts.audio_negative is not None and prompts.audio_negative != prompts.negative:
        of_audio = embedded(prompts.audio_negative, "audio_negative_prompt").to(device).expand(batch, -1, -1)
    return Embeddings(positive.to(device), negative, of_audio)


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
    readings: Sequence[PromptReading | None] = (),
) -> list[Sheet]:
    """A sheet a clip: the times that its prompt states, or a sampled one; empty ones where there is no planner, or where
    something is given: a lamp that is lit in a first frame, a ball in the air, has times of its own.

    In a clip longer than the model's own, only the beginning is planned. Labels are those of the kind that the prompt names;
    where it states the order or the number of events, the sheet has them.

    Args:
        planner: Cue planner, or ``None``.
        tokenizer: Tokenizer of the prompts.
        prompts: One a clip, or ``None``.
        task: What is given.
        seeds: One a clip.
        capabilities: What the model can make.
        num_frames: Length of the clips in frames.
        fps: Frames per second.
        readings: What was understood of each prompt; without any, the sheets are not held against it.
    """
    makes_picture = bool((task.video_level == 1).any())
    asked = [_asked_sheet(reading, capabilities) if makes_picture else [] for reading in readings or [None] * len(seeds)]
    makes_all = bool((task.video_level == 1).all() and (task.audio_level == 1).all())
    if planner is None or prompts is None or not makes_all:
        return list(asked)
    before_s = float(min(num_frames, capabilities.max_frames) / fps)
    input_ids, masks = tokenise(tokenizer, list(prompts), capabilities.max_tokens, truncate=True)
    return [
        sheet or plan_cues(planner, ids, mask, seed=seed, before_s=before_s, constraints=_constraints(reading))
        for sheet, ids, mask, seed, reading in zip(asked, input_ids, masks, seeds, readings or [None] * len(seeds), strict=True)
    ]


def _asked_sheet(reading: PromptReading | None, capabilities: Capabilities) -> list[Instant]:
    """The cues whose times a prompt states; none if it states none."""
    if reading is None or not reading.events.times or not capabilities.cues:
        return []
    events = reading.events
    alike = events.labels if len(events.labels) == 1 else ("",)
    labels = events.order or alike * len(events.times)
    return [(time, label if label in capabilities.cues else "") for time, label in zip(events.times, labels, strict=True)]


def _constraints(reading: PromptReading | None) -> SheetConstraints | None:
    return None if reading is None else SheetConstraints(reading.events.labels, reading.events.order, reading.events.number)


def add_cue_channels(
    task: Task, sheets: Sequence[Sheet], capabilities: Capabilities, *, batch: int, fps: Fraction, until: int
) -> Task:
    """Add cue channels to a task, where the network takes them and they are not there.

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
