"""The prompt reader's network: parts of a prompt from the tags of its characters."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mova.errors import CheckpointError
from mova.models.reader import MAX_CHARACTERS, PAD, UNKNOWN, PromptReader, mark_prompts, spell
from mova.request.reading import Span

CHARACTERS, TAGS = list("abc 123"), ["colour=red", "count=#"]


@pytest.fixture
def reader() -> PromptReader:
    torch.manual_seed(0)
    return PromptReader(CHARACTERS, TAGS, ["outside", "ball"], ["en", "de"], width=32, num_layers=1).eval()


def test_unknown_characters_have_an_id_and_long_texts_are_cut() -> None:
    ids = spell(["ab", "?", "", "a" * 999], CHARACTERS)
    assert ids.shape == (4, MAX_CHARACTERS) and ids[1, 0] == UNKNOWN
    assert (ids[2, 0], ids[2, 1], ids[0, 2]) == (2 + CHARACTERS.index(" "), PAD, PAD)


def test_what_stands_beside_a_prompt_in_a_batch_does_not_change_it(reader: PromptReader) -> None:
    alone, together = mark_prompts(reader, ["ab 1"]), mark_prompts(reader, ["ab 1", "abc 123 abc 123"])
    assert alone[0].spans == together[0].spans
    assert alone[0].kind_chance == pytest.approx(together[0].kind_chance, abs=1e-6)


def test_runs_of_tagged_characters_are_parts_parted_where_one_begins(reader: PromptReader) -> None:
    with torch.no_grad():
        for parameter in reader.parameters():
            parameter.zero_()
        for norm in [module for module in reader.modules() if isinstance(module, torch.nn.LayerNorm)]:
            norm.weight.fill_(1.0)
        # "b" is tagged with the first tag, "c" with the second, and a digit begins a part of the first
        for character, row in (("b", [0]), ("c", [1]), ("1", [0, 2])):
            for index in row:
                reader.embed.weight[2 + CHARACTERS.index(character), index] = 1.0
        reader.to_tag.weight[1, 0] = reader.to_tag.weight[2, 1] = reader.to_tag.weight[3, 2] = 20.0
        reader.to_tag.bias[0], reader.to_tag.bias[3] = 5.0, -5.0
    (marked,) = mark_prompts(reader, ["a bb1b cc"])
    assert tuple(replace(span, chance=1.0) for span in marked.spans) == (
        Span(2, 4, "colour=red"),
        Span(4, 6, "colour=red"),
        Span(7, 9, "count=#"),
    )
    assert marked.kind == "" and marked.kind_chance == pytest.approx(0.5)


def test_scores_that_are_not_finite_are_refused(reader: PromptReader) -> None:
    with torch.no_grad():
        reader.to_whole.bias[0] = torch.inf
    with pytest.raises(CheckpointError, match="scores that are not finite"):
        mark_prompts(reader, ["abc"])


def test_gradients_reach_every_weight(reader: PromptReader) -> None:
    scores = reader(spell(["abc 12", "b"], CHARACTERS))
    sum(score.square().sum() for score in scores).backward()
    assert [name for name, value in reader.named_parameters() if value.grad is None] == []
