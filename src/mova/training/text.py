"""The text side of ``mova-base``: captions of a clip, a byte-level BPE tokenizer learnt from them, and a small UMT5 encoder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from mova.scenes.kind import Kind, write_caption
from mova.scenes.kinds import find_kind


def train_tokenizer(captions: Iterable[str], vocab_size: int) -> Any:
    """A fast tokenizer (pad id 0, end-of-text id 1 appended) whose vocabulary covers the captions; any text has tokens.

    Args:
        captions: Training captions; their order does not matter.
        vocab_size: Tokens at most, bytes and specials included.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Punctuation(), pre_tokenizers.ByteLevel(add_prefix_space=True)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<pad>", "</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(set(captions)), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>")


def build_text_encoder(vocab_size: int, width: int, num_layers: int) -> nn.Module:
    """A UMT5 encoder of ``width`` and ``num_layers`` with fresh weights."""
    from transformers import UMT5Config
    from transformers.models.umt5.modeling_umt5 import UMT5EncoderModel

    config = UMT5Config(
        vocab_size=vocab_size,
        d_model=width,
        d_kv=32,
        d_ff=2 * width,
        num_layers=num_layers,
        num_decoder_layers=0,
        num_heads=width // 32,
        dropout_rate=0.0,
        pad_token_id=0,
        eos_token_id=1,
        is_encoder_decoder=False,
        use_cache=False,
    )
    encoder: nn.Module = UMT5EncoderModel(config)
    return encoder


def phrasings(script: Mapping[str, Any], count: int, kinds: Sequence[Kind] = ()) -> list[str]:
    """``count`` captions of a described script: its own, then others, the same ones every time.

    Args:
        script: From :func:`mova.data.shards.describe`.
        count: Captions, at least 1.
        kinds: Those that are not found by their name.
    """
    rng = np.random.default_rng(script["seed"])
    kind = next((one for one in kinds if one.name == script["kind"]), script["kind"])
    return [script["caption"], *(write_caption(find_kind(kind), script["attributes"], rng) for _ in range(count - 1))]
