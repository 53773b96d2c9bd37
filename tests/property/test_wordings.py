"""Wordings of prompts: whatever is drawn, its parts are where they are said to be and can be learnt."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mova.models.reader import FIRST, UNKNOWN, spell
from mova.scenes.kinds import KINDS
from mova.scenes.wording.grammar import (
    DIGITS,
    LANGUAGES,
    OUTSIDE,
    draw_wording,
    list_characters,
    list_tags,
    number_in,
    read_words,
    simplify,
)

SOME = tuple(KINDS[name] for name in ("ball", "drums", "piano", "metronome", "storm"))
SEEDS = st.integers(0, 2**50)


@given(SEEDS)
def test_parts_are_in_order_within_the_prompt_and_have_known_tags(seed: int) -> None:
    one = draw_wording(SOME, np.random.default_rng(seed))
    assert one.prompt == simplify(one.prompt) and one.language in LANGUAGES
    assert one.kind in {OUTSIDE, *(kind.name for kind in SOME)} and one.also in {"", *(kind.name for kind in SOME)}
    end = 0
    for span in one.spans:
        assert end <= span.start < span.stop <= len(one.prompt)
        assert span.tag in list_tags(SOME)
        if span.tag.endswith(f"={DIGITS}"):
            assert number_in(one.prompt[span.start : span.stop]) is not None
        end = span.stop
    assert not (one.kind == OUTSIDE and one.spans)


@given(SEEDS)
def test_every_character_is_known_to_a_reader(seed: int) -> None:
    prompt = draw_wording(SOME, np.random.default_rng(seed)).prompt
    ids = spell([prompt], list_characters())
    assert int(ids[0, : len(prompt)].min()) >= FIRST > UNKNOWN and not ids[0, len(prompt) :].any()


@given(SEEDS)
def test_the_same_seed_draws_the_same(seed: int) -> None:
    first, second = (draw_wording(SOME, np.random.default_rng(seed)) for _ in range(2))
    assert first == second


@given(st.text(max_size=60))
def test_a_simplified_text_stays_as_it_is(text: str) -> None:
    assert simplify(simplify(text)) == simplify(text)


def test_every_language_has_wordings_of_the_same_kinds_and_words_for_the_same_values() -> None:
    english = read_words("en")
    for language in LANGUAGES[1:]:
        words = read_words(language)
        assert words["kinds"].keys() == english["kinds"].keys() == words["others"].keys(), language
        for name, table in english["words"].items():
            missing = set(table) - set(words["words"][name]) - {"other"}
            assert not missing, (language, name, missing)
