"""What a prompt asks for is read from its words: kind, order and number."""

from __future__ import annotations

import pytest

from mova.scenes.kinds import KINDS, kind_of
from mova.scenes.prompts import PromptReading, read_prompt
from mova.scenes.world import sample_scripts


def read(prompt: str) -> PromptReading:
    return read_prompt(prompt, KINDS.values())


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        ("without a piano, only drums", "drums"),
        ("a ball instead of a drum", "ball"),
        ("no fireworks", "fireworks"),
        ("siren: high low high", "siren"),
        ("piano: red drums and pads", "piano"),
        ("a pianist plays", "piano"),
        ("fierworks over the city", "fireworks"),
        ("a bell", None),
    ],
)
def test_the_kind_is_read(prompt: str, kind: str | None) -> None:
    assert kind_of(prompt, KINDS.values()) == kind


@pytest.mark.parametrize(
    ("prompt", "order", "number"),
    [
        ("drums: green green", ("green", "green"), 2),
        ("hit the red pad, then the blue pad", ("red", "blue"), 2),
        ("tap the yellow drum three times", ("yellow",) * 3, 3),
        ("a piano plays A then C", ("A", "C"), 2),
        ("A piano plays a note", (), None),
        ("piano notes: a, b", ("A", "B"), 2),
        ("three piano notes: C, D", (), 3),
        ("6 fireworks", (), 6),
        ("4x lightning", (), 4),
        ("two of three fireworks", (), None),
        ("lightning at one second", (), None),
    ],
)
def test_order_and_number_are_read(prompt: str, order: tuple[str, ...], number: int | None) -> None:
    reading = read(prompt)
    assert (reading.order, reading.number) == (order, number)


def test_a_label_that_is_named_is_the_only_one() -> None:
    assert read("golden fireworks").labels == ("gold",)
    assert read("fireworks").labels == KINDS["fireworks"].labels


def test_what_is_read_of_captions_is_true() -> None:
    for script in sample_scripts(11, 160):
        reading, labels = read(script.caption), [event.label for event in script.events]
        assert reading.kind is KINDS[script.kind] and reading.is_caption, script.caption
        assert set(labels) <= set(reading.labels) and tuple(labels) in (reading.order, tuple(labels))
        assert not reading.order or reading.order == tuple(labels), script.caption
        assert reading.number in (None, len(labels)) or script.kind == "ball", script.caption
