"""From a prompt to its embedding: cleaning, tokens, UMT5, and exact zeros beyond the end (spec 3.2).

Large and small checkpoints use the same classes: transformers' ``UMT5EncoderModel`` and a fast tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mova.request.capabilities import too_many_tokens
from mova.request.plan import clean_prompt


def tokenise(tokenizer: Any, prompts: Sequence[str], max_length: int, *, truncate: bool = False) -> tuple[Tensor, Tensor]:
    """Token ids and mask, both int64 ``[B, max_length]``.

    Args:
        tokenizer: Tokenizer of the text encoder.
        prompts: Texts.
        max_length: Tokens that the model reads, the end-of-text token included.
        truncate: Cut what is too long, keeping the end-of-text token.

    Raises:
        RequestError: If a prompt has more than ``max_length`` tokens and may not be cut.
    """
    cleaned = [clean_prompt(prompt) for prompt in prompts]
    for prompt, ids in zip(cleaned, tokenizer(cleaned)["input_ids"], strict=True):
        if len(ids) > max_length and not truncate:
            raise too_many_tokens(prompt, len(ids), max_length)
    batch = tokenizer(cleaned, padding="max_length", truncation=truncate, max_length=max_length, return_tensors="pt")
    return batch["input_ids"], batch["attention_mask"]


def encode_tokens(encoder: nn.Module, input_ids: Tensor, mask: Tensor) -> Tensor:
    """Embeddings ``[B, S, text_dim]``; rows at and beyond the true length are exact zeros."""
    hidden: Tensor = encoder(input_ids=input_ids, attention_mask=mask).last_hidden_state
    return hidden * mask[..., None].to(hidden)


def embed_prompts(
    tokenizer: Any, encoder: nn.Module, prompts: Sequence[str], max_length: int, *, truncate: bool = False
) -> Tensor:
    """Embeddings ``[B, max_length, text_dim]`` of prompts, without gradients, on the encoder's device."""
    device = next(encoder.parameters()).device
    input_ids, mask = tokenise(tokenizer, prompts, max_length, truncate=truncate)
    with torch.no_grad():
        return encode_tokens(encoder, input_ids.to(device), mask.to(device))
