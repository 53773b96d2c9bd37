"""What the parts of a prompt ask for, held against what its kind can do, and the caption that says it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from mova.request.reading import EventPlan, Marked, PromptReading, Span
from mova.scenes.kinds import KINDS, kind_of
from mova.scenes.prompts import interpret, is_caption, kinds_known, most_events
from mova.scenes.wording.grammar import numbers_in_words
from mova.scenes.world import sample_scripts


def read(kind: str, prompt: str, *parts: tuple[str, str], seconds: float = 4.0, also: str = "") -> PromptReading:
    """The reading of a prompt whose parts ``(words, tag)`` were found in it, in order."""
    spans, end = [], 0
    for words, tag in parts:
        start = prompt.index(words, end)
        end = start + len(words)
        spans.append(Span(start, end, tag, 0.8))
    return interpret(Marked(prompt, kind, 0.9, also, "en", tuple(spans)), prompt, KINDS, seconds=seconds)


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
def test_the_kind_is_told_from_words(prompt: str, kind: str | None) -> None:
    assert kind_of(prompt, KINDS.values()) == kind


def test_values_and_a_number_become_the_caption_that_says_them() -> None:
    reading = read("ball", "3x crimson ball on steeel", ("3x", "count=#"), ("crimson", "colour=red"), ("steeel", "floor=metal"))
    assert (reading.kind, reading.number, reading.attributes) == ("ball", 3, {"colour": "red", "floor": "metal"})
    assert is_caption(reading.text, KINDS["ball"])
    assert {"red", "metal"} <= set(reading.text.split()) and ("three" in reading.text)
    assert reading.unsupported == () and reading.confidence == 0.8
    assert reading.as_dict()["colour"] == "red"


def test_one_item_is_repeated_as_often_as_is_said_and_named_ones_are_counted() -> None:
    assert read("drums", "tap red 3x", ("red", "item=red"), ("3x", "count=#")).order == ("red",) * 3
    named_twice = (("red", "item=red"), ("drum", "item=red"), ("3x", "count=#"))
    assert read("drums", "the red drum 3x", *named_twice).order == ("red",) * 3
    reading = read("piano", "do and so", ("do", "item=C"), ("so", "item=G"))
    assert (reading.order, reading.number) == (("C", "G"), 2) and "c, g" in reading.text


def test_a_number_behind_an_item_among_several_is_of_that_item() -> None:
    parts = (("red", "item=red"), ("twice", "count=2"), ("blue", "item=blue"), ("once", "count=1"))
    reading = read("drums", "red twice, blue once", *parts)
    assert (reading.order, reading.number, reading.unsupported) == (("red", "red", "blue"), 3, ())
    parts = (("blaue", "item=blue"), ("trommel", "item=blue"), ("2x", "count=#"), ("rote", "item=red"))
    assert read("drums", "erst die blaue trommel, dann 2x die rote", *parts).order == ("blue", "red", "red")
    parts = (("die ", "item=blue"), ("blaue", "item=blue"), ("trommel", "item=blue"), ("rot", "item=red"))
    assert read("drums", "die blaue trommel, rot", *parts).order == ("blue", "red")
    parts = (("red", "item=red"), ("pad", "item=red"), ("once", "count=1"), ("blue", "item=blue"))
    assert read("drums", "the red pad once, then blue", *parts).order == ("red", "blue")
    assert read("drums", "red red", ("red", "item=red"), ("red", "item=red")).order == ("red", "red")
    total = read("drums", "red, blue: 2 hits", ("red", "item=red"), ("blue", "item=blue"), ("2", "count=#"))
    assert (total.order, total.number, total.unsupported) == (("red", "blue"), 2, ())


def test_what_is_said_again_and_again_is_heard_as_often() -> None:
    reading = read("mouth", "oh oh oh", *[("oh", "vowel=oh")] * 3)
    assert (reading.number, reading.attributes) == (3, {"vowel": "oh"})


def test_times_are_sorted_with_their_items_and_count_the_events() -> None:
    parts = (("1.5", "at=#"), ("red", "item=red"), ("half a second", "at=0.5"), ("blue", "item=blue"))
    reading = read("drums", "at 1.5 s red, at half a second blue", *parts)
    assert (reading.times, reading.order) == ((0.5, 1.5), ("blue", "red"))
    assert read("storm", "0,5 and 2", ("0,5", "at=#"), ("2", "at=#")).number == 2


def test_a_tempo_becomes_times_and_its_nearest_word() -> None:
    reading = read("metronome", "110 bpm", ("110", "bpm=#"))
    assert reading.attributes["tempo"] in ("slow", "medium", "fast")
    beats = reading.events.times
    gaps = [later - first for first, later in pairwise(beats)]
    assert len(beats) == 7 and gaps == pytest.approx([60 / 110] * 6, abs=2e-4)


@pytest.mark.parametrize(
    ("reading", "said"),
    [
        (read("ball", "a teal ball", ("teal", "colour=other")), "'teal': the colour can be red"),
        (read("piano", "on wood", ("wood", "floor=wood")), "'wood': piano has no floor"),
        (read("drums", "40 hits", ("40", "count=#")), "40: "),
        (read("drums", "0 hits", ("0", "count=#")), "at least one"),
        (read("siren", "3 sirens", ("3", "count=#")), "'3': how many there are follows from the speed"),
        (read("drums", "do", ("do", "item=C")), "drums has no C"),
        (read("drums", "3 red blue", ("3", "count=#"), ("red", "item=red"), ("blue", "item=blue")), "3 of red, blue"),
        (read("drums", "2 or 3", ("2", "count=#"), ("3", "count=#")), "'3': 2 is taken"),
        (read("mouth", "pink blue", ("pink", "colour=pink"), ("blue", "colour=blue")), "'blue': pink is taken"),
        (read("storm", "at 9 s", ("9", "at=#")), "at 9 s: the clip lasts 4 s"),
        (read("storm", "2 at 1 s", ("2", "count=#"), ("1", "at=#")), "1 times for 2"),
        (read("storm", "at 1 and 1.1", ("1", "at=#"), ("1.1", "at=#")), "at least 0.22 s apart"),
        (read("metronome", "500 bpm", ("500", "bpm=#")), "500 bpm: the nearest is fast"),
        (read("ball", "90 bpm", ("90", "bpm=#")), "90 bpm: ball has no tempo"),
        (read("drums", "drums", also="fireworks"), "fireworks as well"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_kept_is_said(reading: PromptReading, said: str) -> None:
    assert said in "; ".join(reading.unsupported)
    assert reading.text and is_caption(reading.text, KINDS[reading.kind or ""])


def test_more_events_than_fit_are_as_many_as_fit() -> None:
    most = most_events(KINDS["drums"], 2.0)
    reading = read("drums", "12 hits", ("12", "count=#"), seconds=2.0)
    assert (reading.number, reading.events.number) == (12, most) and most < 12
    assert f"12: {most} is the most in 2 s" in reading.unsupported


def test_known_words_are_what_they_say_and_others_what_the_network_says() -> None:
    assert read("storm", "seventeen flashes", ("seventeen", "count=7"), seconds=60.0).number == 17
    assert read("storm", "four times", ("four times", "count=5"), seconds=60.0).number == 4
    assert read("ball", "a blue ball", ("blue", "colour=green")).attributes == {"colour": "blue"}
    assert read("ball", "a smurfy ball", ("smurfy", "colour=blue")).attributes == {"colour": "blue"}
    assert read("ball", "on wooden", ("wooden", "floor=wood")).attributes == {"floor": "wood"}
    large = read("ball", "a large ball", ("l", "colour2=green"))
    assert (large.attributes, large.unsupported) == ({"size": "large"}, ())
    assert numbers_in_words("es")["once"] == 11 and numbers_in_words("en")["once"] == 1


def test_what_a_prompt_leaves_open_is_worded_for_a_clip_of_its_length() -> None:
    for kind in ("drums", "piano"):
        words = read(kind, "some music, please", seconds=2.0).text.split()
        assert not {"eight", "nine", "ten", "eleven", "twelve"} & set(words)


def test_of_a_very_long_prompt_it_is_said_how_much_was_read() -> None:
    marked = Marked("drums", "drums", 0.9)
    assert interpret(marked, "drums" + " and so on" * 50, KINDS, seconds=4.0).unsupported == (
        "what follows the first 5 characters",
    )


def test_two_colours_are_two_balls() -> None:
    reading = read("ball", "a red ball and a blue ball", ("red", "colour=red"), ("blue", "colour=blue"))
    assert reading.attributes == {"colour": "red", "number": "2", "colour2": "blue"} and reading.unsupported == ()
    assert {"red", "blue"} <= set(reading.text.replace(",", "").split())


def test_a_prompt_outside_goes_to_the_network_as_it_is() -> None:
    reading = interpret(Marked("a dog barks", "", 0.97), "A dog barks", KINDS, seconds=2.0)
    assert (reading.kind, reading.text, reading.confidence, reading.words) == (None, "A dog barks", 0.97, "outside")


def test_a_label_that_is_named_is_the_only_one() -> None:
    assert read("fireworks", "golden fireworks", ("golden", "colour=gold")).events.labels == ("gold",)
    assert read("fireworks", "fireworks").events.labels == KINDS["fireworks"].labels


def test_captions_of_every_kind_are_known_as_such_and_others_are_not() -> None:
    assert [script.caption for script in sample_scripts(11, 160) if not is_caption(script.caption, KINDS[script.kind])] == []
    assert not is_caption("no drums, drum pads are hit: red", KINDS["drums"])
    assert not is_caption("fireworks: green green green", KINDS["fireworks"])


def test_kinds_of_which_one_is_not_installed_are_not_known() -> None:
    assert set(kinds_known(("ball", "drums"))) == {"ball", "drums"}
    assert kinds_known(("ball", "no such kind")) == {}


def test_a_reading_in_a_line_and_for_a_clip_that_begins_earlier() -> None:
    reading = PromptReading("drums", 2, ("red", "blue"), (0.5, 1.0), {"colour": "red"}, EventPlan(times=(0.5, 1.0)))
    assert reading.words == "drums, red, red blue, at 0.5, 1 s"
    assert reading.later(0.25).events.times == (0.75, 1.25) and reading.later(0.0) is reading
