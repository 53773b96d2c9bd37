"""Prompts as text: cleaned as the official checkpoints were trained on, and held against the tokens that a model reads."""

from __future__ import annotations

import html
from collections.abc import Callable

import ftfy

from mova.request.capabilities import Capabilities, too_many_tokens
from mova.request.schema import GenerationRequest

CountTokens = Callable[[str], int]
"""Number of tokens of a cleaned prompt, the end-of-text token included."""


def clean_prompt(prompt: str) -> str:
    """Repair broken characters, resolve HTML entities and collapse white space (spec 3.2)."""
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(prompt))).split())


def check_prompts(request: GenerationRequest, capabilities: Capabilities, count_tokens: CountTokens) -> None:
    """Refuse prompts that have more tokens than the model reads, unless they may be cut.

    Args:
        request: What is asked.
        capabilities: What the model can make.
        count_tokens: The model's tokenizer.

    Raises:
        RequestError: If a prompt is too long.
    """
    if request.truncate:
        return
    for prompt in (request.prompt, request.negative_prompt, request.audio_negative_prompt or ""):
        cleaned = clean_prompt(prompt)
        if (count := count_tokens(cleaned)) > capabilities.max_tokens:
            raise too_many_tokens(cleaned, count, capabilities.max_tokens)
