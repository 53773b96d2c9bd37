"""A prompt that may be read otherwise than it was meant gets a note, and one of the model's own kind gets none."""

from __future__ import annotations

import pytest

from mova.checkpoints.layout import read_index, resolve_model
from mova.cli.notes import notes_after, notes_before
from mova.request.plan import Capabilities
from mova.scenes.kinds import known_kinds


@pytest.fixture(scope="module")
def base() -> Capabilities:
    return read_index(resolve_model("mova-base")).capabilities


def test_the_examples_get_no_note(base: Capabilities) -> None:
    captions = [caption for kind in known_kinds().values() for caption in kind.example_captions]
    assert [caption for caption in captions if notes_before(caption, [], base)] == []


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a vermilion ball bounces", "vermilion"),
        ("ein blauer Ball huepft zweimal", "'blauer'"),
        ("una pelota azul", "outside what mova-base knows"),
        ("a cat sleeps", "outside what mova-base knows"),
        ("a thief notes the address", "thief"),
        ("not a siren, only a metronome", "name siren"),
    ],
)
def test_words_that_were_never_learnt_are_named(base: Capabilities, prompt: str, words: str) -> None:
    assert words in " ".join(notes_before(prompt, [], base))


def test_cues_that_do_not_fit_the_kind_are_named(base: Capabilities) -> None:
    notes = " ".join(notes_before("gold fireworks", [(0.5, "C"), (0.55, "gold"), (1.5, "")], base))
    assert "fireworks has no C" in notes and "0.5 and 0.55 s are nearer than 0.22 s" in notes
    assert notes_before("gold fireworks", [(0.5, "gold"), (0.8, "red")], base) == []


def test_planned_cues_of_another_kind_or_number_are_named(base: Capabilities) -> None:
    assert "high are of other kinds" in " ".join(notes_after("a thunderstorm", [(0.5, "high")], base))
    assert "the prompt says 3, and 2 are planned" in " ".join(notes_after("three drum hits", [(0.5, "red"), (1, "red")], base))
    assert notes_after("two drum hits", [(0.5, "red"), (1, "red")], base) == []
