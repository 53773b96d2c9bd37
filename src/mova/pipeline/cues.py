"""When what happens in the clips of a call: as the user says, as the planner draws it, or left to the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch

from mova.errors import RequestError
from mova.models.conditions.cues import Instant, cue_condition
from mova.models.conditions.planner import plan_cues
from mova.models.text_encoder import tokenise
from mova.request.capabilities import Capabilities, takes_no_cues
from mova.sampling.task import Task

Sheet = Sequence[Instant]


class CuePipelineMixin:
    """Adds cue sheets to a pipeline that has a planner, or none, and its tokenizer."""

    cue_planner: Any
    tokenizer: Any

    if TYPE_CHECKING:

        @property
        def capabilities(self) -> Capabilities: ...

    def _plan_cue_sheets(
        self,
        prompt: str | Sequence[str] | None,
        task: Task,
        seeds: Sequence[int],
        *,
        num_frames: int,
        fps: Fraction,
    ) -> list[Sheet]:
        """A sheet a clip, drawn by the planner; empty where there is none, or where something is given: a lamp that is lit in
        a first picture, a ball in the air, has times of its own.

        In a clip longer than the model's own, only the beginning is planned.
        """
        texts = [prompt] if isinstance(prompt, str) else prompt
        makes_all = bool((task.video_level == 1).all() and (task.audio_level == 1).all())
        if self.cue_planner is None or texts is None or not makes_all:
            return [[] for _ in seeds]
        before_s = float(min(num_frames, self.capabilities.max_frames) / fps)
        input_ids, masks = tokenise(self.tokenizer, list(texts), self.capabilities.max_tokens, truncate=True)
        return [
            plan_cues(self.cue_planner, ids, mask, seed=seed, before_s=before_s)
            for ids, mask, seed in zip(input_ids, masks, seeds, strict=True)
        ]

    def _add_cue_channels(self, task: Task, sheets: Sequence[Sheet], *, batch: int, fps: Fraction, until: int) -> Task:
        """The task with cue channels, where the network takes them and they are not there.

        Args:
            task: What is given.
            sheets: One a clip.
            batch: Clips.
            fps: Frames per second.
            until: Latents from here on are not told of any cue.
        """
        labels = self.capabilities.cues
        if any(sheets) and not labels:
            raise takes_no_cues(self.capabilities)
        if not labels or task.video_condition is not None:
            return task
        if len(sheets) != batch:
            raise RequestError(f"there are {len(sheets)} cue sheets for {batch} clips.", "Give as many.", field="cues")
        frames, height, width = task.video_level.shape
        channels = []
        for sheet in sheets:
            try:
                known = cue_condition(sheet or None, labels, num_latents=frames, fps=fps, stride=self.capabilities.video_stride)
            except ValueError as error:
                raise RequestError(str(error), field="cues") from error
            known[:, until:] = 0.0
            channels.append(known[..., None, None].expand(-1, -1, height, width))
        return replace(task, video_condition=torch.stack(channels))
