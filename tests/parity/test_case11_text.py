"""Prompt embeddings against the recorded ones: the encoder, and zeros beyond the end of the prompt."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from golden import assert_close, load_case, pick
from transformers.models.umt5.configuration_umt5 import UMT5Config
from transformers.models.umt5.modeling_umt5 import UMT5EncoderModel

from mova.errors import RequestError
from mova.models.text import embed_prompts, encode_tokens, tokenise


def encoder(case: dict, weights: dict[str, torch.Tensor]) -> UMT5EncoderModel:
    model = UMT5EncoderModel(UMT5Config(**case["config"]["umt5"])).eval()
    model.load_state_dict(weights, strict=True)
    return model


def test_embeddings_equal_the_reference_and_are_zero_beyond_the_prompt() -> None:
    case, tensors = load_case("case11_text_embeds")
    ids, mask = tensors["inputs.input_ids"], tensors["inputs.attention_mask"]
    embeds = encode_tokens(encoder(case, pick(tensors, "weights.")), ids, mask)
    assert_close(embeds, tensors["outputs.prompt_embeds"])
    assert mask.sum(1).tolist() == case["config"]["lens"]
    assert not embeds[mask == 0].any()
    assert embeds[mask == 1].abs().amax(-1).min() > 0


def test_a_prompt_has_the_same_embedding_alone_and_beside_a_longer_one() -> None:
    case, tensors = load_case("case11_text_embeds")
    model = encoder(case, pick(tensors, "weights."))
    ids, mask = tensors["inputs.input_ids"], tensors["inputs.attention_mask"]
    for row in range(len(ids)):
        alone = encode_tokens(model, ids[row : row + 1], mask[row : row + 1])
        assert_close(alone, tensors["outputs.prompt_embeds"][row : row + 1])


def test_the_official_tokenizer_ends_a_prompt_with_one_even_when_cut_and_pads_with_zero(official_tiny: Path) -> None:
    from transformers.tokenization_utils_tokenizers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(official_tiny / "tokenizer", local_files_only=True)
    ids, mask = tokenise(tokenizer, ["  a   ball ", ""], 16)
    lengths = mask.sum(1)
    assert ids.shape == mask.shape == (2, 16)
    assert int(lengths[0]) > int(lengths[1]) == 1
    for row, length in zip(ids, lengths.tolist(), strict=True):
        assert int(row[length - 1]) == 1
        assert not row[length:].any()
    cut, whole = tokenise(tokenizer, ["a ball " * 20], 8, truncate=True)
    assert whole.all() and int(cut[0, -1]) == 1
    assert torch.equal(cut[0, :7], tokenise(tokenizer, ["a ball " * 20], 200)[0][0, :7])
    with pytest.raises(RequestError, match="truncate"):
        tokenise(tokenizer, ["a ball " * 20], 8)
    model = UMT5EncoderModel.from_pretrained(official_tiny / "text_encoder", local_files_only=True).eval()
    embeds = embed_prompts(tokenizer, model, ["a ball", ""], 16)
    assert_close(embeds, encode_tokens(model, ids, mask), 1e-6)
    assert not embeds[1, 1:].any()
