"""A checkpoint's tokenizer, checked before a library reads it: what would expand a prompt or match for ever is refused."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from mova.errors import CheckpointError
from mova.files import read_regular
from mova.parsing import parse_json

MAX_FILE_BYTES = 2**26
"""The tokenizer of the official checkpoints has 17 MB."""
MAX_GROWTH = 8.0
"""Times that the rules of a tokenizer may lengthen a text."""
MAX_PIECES = 64
MAX_PADDING = 8192
MAX_RULE_CHARACTERS = 256
_NORMALIZERS = ("NFC", "NFD", "NFKC", "NFKD", "Nmt", "Lowercase", "Strip", "StripAccents", "BertNormalizer", "ByteLevel",
                "Precompiled", "Prepend", "Replace", "Sequence")  # fmt: skip
_PRE_TOKENIZERS = ("BertPreTokenizer", "ByteLevel", "CharDelimiterSplit", "Digits", "FixedLength", "Metaspace", "Punctuation",
                   "Sequence", "Split", "UnicodeScripts", "Whitespace", "WhitespaceSplit")  # fmt: skip
_DECODERS = ("BPEDecoder", "ByteFallback", "ByteLevel", "CTC", "Fuse", "Metaspace", "Replace", "Sequence", "Strip", "WordPiece")
_PROCESSORS = ("TemplateProcessing", "ByteLevel", "BertProcessing", "RobertaProcessing", "Sequence")
_MODELS = ("Unigram", "BPE", "WordPiece", "WordLevel")


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
        return len(self._tokenizer.encode(prompt).ids)

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer  # without transformers, whose import takes longer than all other checks

        check_tokenizer(self.folder)
        try:
            tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        except Exception as error:  # the library raises bare exceptions for broken files
            raise CheckpointError(f"{self.folder} cannot be read: {error}", "Download the folder again.") from None
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer


def check_tokenizer(folder: Path) -> None:
    """Check the files of a tokenizer.

    Raises:
        CheckpointError: If one is missing, too large, no regular file, or holds a rule that is not allowed.
    """
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix in (".json", ".jinja", ".model", ".txt"):
            _content(path)  # a library would wait for a pipe
    path = folder / "tokenizer.json"
    try:
        values = parse_json(_content(path))
        if not isinstance(values, dict):
            raise ValueError("it is no mapping")
        _check(values)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path} is not allowed: {error}.", "Download the folder again, from its makers.") from None


def _content(path: Path) -> bytes:
    try:
        return read_regular(path, max_bytes=MAX_FILE_BYTES)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing.", "Download the folder again.") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.", "Download the folder again.") from None


def _check(values: dict[str, Any]) -> None:
    growth = 1.0
    for rule in _rules(values.get("normalizer"), "normalizers", _NORMALIZERS):
        growth *= _growth(rule)
    for rule in _rules(values.get("pre_tokenizer"), "pretokenizers", _PRE_TOKENIZERS):
        _check_pattern(rule.get("pattern"))
    for rule in _rules(values.get("decoder"), "decoders", _DECODERS):
        growth *= _growth(rule) if rule["type"] == "Replace" else 1.0
    if growth > MAX_GROWTH:
        raise ValueError(f"its rules lengthen a text {growth:.3g} times")
    for rule in _rules(values.get("post_processor"), "processors", _PROCESSORS):
        added = [rule.get("single") or (), rule.get("pair") or (), *(token["ids"] for token in _special_tokens(rule))]
        if max(len(one) for one in added) > MAX_PIECES:
            raise ValueError("its template adds too many tokens")
    if values["model"].get("type", "BPE") not in _MODELS:
        raise ValueError(f"its model is of the type {str(values['model'].get('type'))[:40]}")
    padding = values.get("padding") or {}
    strategy = padding.get("strategy")
    lengths = [padding.get("pad_to_multiple_of") or 1, strategy.get("Fixed", 1) if isinstance(strategy, dict) else 1]
    if not all(isinstance(length, int) and length <= MAX_PADDING for length in lengths):
        raise ValueError("it pads to more tokens than any model reads")
    for token in values.get("added_tokens") or ():
        if len(token["content"]) > MAX_RULE_CHARACTERS:
            raise ValueError(f"an added token has {len(token['content'])} characters")


def _rules(value: Any, inner: str, allowed: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Every rule of a sequence of them, in order."""
    if value is None:
        return
    if value["type"] not in allowed:
        raise ValueError(f"a rule is of the type {str(value['type'])[:40]}")
    if value["type"] == "Sequence":
        for one in value[inner]:
            yield from _rules(one, inner, allowed)
    else:
        yield value


def _special_tokens(rule: dict[str, Any]) -> list[dict[str, Any]]:
    tokens = rule.get("special_tokens")
    return list(tokens.values()) if isinstance(tokens, dict) else []


def _growth(rule: dict[str, Any]) -> float:
    """How many times a rule can lengthen a text."""
    match rule["type"]:
        case "Replace":
            _check_pattern(rule["pattern"])
            old = rule["pattern"].get("String")
            shortest = len(old) if old else 1
            return max(1.0, len(rule["content"]) / shortest)
        case "Prepend":
            if len(rule["prepend"]) > 8:
                raise ValueError("a rule puts a long text before every prompt")
        case "Precompiled":
            _check_map(rule.get("precompiled_charsmap") or "")
    return 1.0


def _check_pattern(pattern: Any) -> None:
    """Refuse a regular expression that could take for ever: more than one repetition, or a repeated group."""
    expression = pattern.get("Regex") if isinstance(pattern, dict) else None
    if expression is None:
        return
    plain = re.sub(r"\\.", "", expression)
    repeats = len(re.findall(r"[*+{]|\?(?![:<=!>])", plain))
    if len(expression) > MAX_RULE_CHARACTERS or repeats > 1 or (repeats and "(" in plain):
        raise ValueError(f"a rule uses the pattern {expression[:60]!r}, which repeats too much")


def _check_map(text: str) -> None:
    """Refuse a map of characters, as sentencepiece compiles them, that turns one into a long text."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("its map of characters is broken") from None
    texts = data[4 + int.from_bytes(data[:4], "little") :]
    longest = max((len(one) for one in texts.split(b"\0")), default=0)
    if len(data) > 2**22 or longest > MAX_RULE_CHARACTERS:
        raise ValueError(f"its map of characters turns one into {longest} bytes")
