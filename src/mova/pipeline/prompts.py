"""The prompts of a call and their embeddings: the prompt, and the negative prompts of video and audio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mova.errors import RequestError
from mova.models.text_encoder import embed_prompts

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

    def spread(embeds: Tensor) -> Tensor:
        return embeds.to(device).expand(batch, -1, -1)

    negative = embedded(prompts.negative, "negative_prompt") if prompts.negative_embeds is None else prompts.negative_embeds
    if prompts.audio_negative is None or prompts.audio_negative == prompts.negative:
        return Embeddings(positive.to(device), spread(negative), None)
    of_audio = embedded(prompts.audio_negative, "audio_negative_prompt")
    return Embeddings(positive.to(device), spread(negative), spread(of_audio))
