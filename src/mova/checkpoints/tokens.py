"""A checkpoint's tokenizer without its weights: how many tokens a prompt has is known before anything is loaded."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from mova.errors import CheckpointError


class TokenCounter:
    """Counts the tokens of cleaned prompts; the tokenizer is read at the first call.

    Args:
        folder: Checkpoint folder.

    Raises:
        CheckpointError: When called, if the tokenizer cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "tokenizer"

    def __call__(self, prompt: str) -> int:
        return len(self._tokenizer.encode(prompt).ids) if self._is_fast else len(self._tokenizer(prompt)["input_ids"])

    @property
    def _is_fast(self) -> bool:
        return (self.folder / "tokenizer.json").is_file()

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            if self._is_fast:  # without transformers, whose import takes longer than all other checks
                from tokenizers import Tokenizer

                tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
                tokenizer.no_padding()
                tokenizer.no_truncation()
                return tokenizer
            from transformers import T5TokenizerFast

            return T5TokenizerFast.from_pretrained(self.folder)
        except Exception as error:  # the library raises bare exceptions for broken files
            raise CheckpointError(f"{self.folder} cannot be read: {error}", "Download the folder again.") from None
