"""From a prompt to its embedding: cleaning, tokens, UMT5, and exact zeros beyond the end (spec 3.2).

Large and small checkpoints use the same classes: transformers' ``UMT5EncoderModel`` and a fast tokenizer.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import ftfy
import torch
from torch import Tensor, nn

from mova.errors import RequestError


def clean_prompt(prompt: str) -> str:
    """Mended characters, no HTML entities, single spaces: what the official checkpoints were trained on."""
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(prompt))).split())


def tokenise(tokenizer: Any, prompts: Sequence[str], max_length: int, *, truncate: bool = False) -> tuple[Tensor, Tensor]:
    """Token ids and mask, both int64 ``[B, max_length]``.

    Args:
        tokenizer: Of the text encoder.
        prompts: Texts.
        max_length: Tokens that the model reads, the end-of-text token included.
        truncate: Cut what is too long, keeping the end-of-text token.

    Raises:
        RequestError: If a prompt has more than ``max_length`` tokens and may not be cut.
    """
    cleaned = [clean_prompt(prompt) for prompt in prompts]
    for prompt, ids in zip(cleaned, tokenizer(cleaned)["input_ids"], strict=True):
        if len(ids) > max_length and not truncate:
            raise RequestError(
                f"the prompt has {len(ids)} tokens; this model reads {max_length} ({prompt[:40]}...).",
                "Shorten the prompt, or ask for truncate.",
                field="prompt",
            )
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
