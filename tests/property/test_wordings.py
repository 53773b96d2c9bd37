"""Wordings of prompts: whatever is drawn, its parts are where they are said to be and can be learnt."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mova.checkpoints.layout import read_index, resolve_model
from mova.models.reader import FIRST, UNKNOWN, spell
from mova.pipeline.reading import reader_of_folder
from mova.scenes.kinds import KINDS
from mova.scenes.prompts import most_events
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

READ = reader_of_folder(resolve_model("mova-base"), read_index(resolve_model("mova-base")).capabilities)
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


SCRAPS = st.sampled_from(
    (
        "ball",
        "drums: ",
        "piano ",
        "metronome ",
        "red",
        "C",
        "9" * 400,
        "0",
        "0 bpm",
        "3x",
        "at 1e5 s",
        "0.5",
        "-1",
        "twice",
        "!",
        "\0",
        "再",
        "Ｃ",
        " ",
    )
)


@settings(deadline=None)
@given(st.one_of(st.text(max_size=80), st.lists(SCRAPS, max_size=12).map("".join)))
def test_whatever_is_typed_has_a_reading_that_can_be_planned(prompt: str) -> None:
    reading = READ(prompt, 2.0)
    assert (reading is None) == (not prompt.strip())
    if reading is not None and reading.kind is not None:
        events = reading.events
        assert reading.text and 0.0 <= reading.confidence <= 1.0 + 1e-6
        assert all(0.0 <= time < 2.0 for time in events.times) and list(events.times) == sorted(events.times)
        assert events.number is None or 1 <= events.number <= most_events(KINDS[reading.kind], 2.0)
        assert not events.order or len(events.order) == events.number
        assert not events.times or events.number in (None, len(events.times))
        json.dumps(reading.as_dict(), allow_nan=False)


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
