"""What a script promises: margins, gaps, counts, pins, errors, captions."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mova.errors import RequestError
from mova.scenes.kind import counted, times
from mova.scenes.kinds import KINDS
from mova.scenes.script import (
    DEFAULT_SECONDS,
    FIRST_EVENT_S,
    LAST_EVENT_S,
    MIN_GAP_S,
    Script,
    Value,
    irregular_times,
    periodic_times,
)
from mova.scenes.script import generator as stream
from mova.scenes.world import sample_scripts, write_script

PERIODIC = ("metronome", "siren", "monitor")
ONCE = ("car",)
EVENT_KINDS = {
    "ball": "impact",
    "drums": "hit",
    "piano": "note",
    "mouth": "syllable",
    "metronome": "tick",
    "siren": "switch",
    "storm": "thunder",
    "fireworks": "burst",
    "monitor": "beep",
    "press": "stroke",
    "car": "pass",
    "speech": "word",
}
DIGESTS = {
    "ball": "78b2a1299be8",
    "drums": "1d3eab22bfe7",
    "piano": "16cd52d7530a",
    "mouth": "1a076a8f5e03",
    "metronome": "dbbe6ae877b7",
    "siren": "2264e28b5cd1",
    "storm": "ba215a75f592",
    "fireworks": "f4a1542c9076",
}
"""Of captions and events of five scripts of each kind: seeds name the clips that models were trained and measured on."""
kinds = st.sampled_from(sorted(KINDS))
seeds = st.integers(0, 2**62)
fast = settings(deadline=None, max_examples=150)


def gaps(script: Script) -> list[float]:
    return [after.time_s - before.time_s for before, after in itertools.pairwise(script.events)]


@fast
@given(kinds, seeds, st.one_of(st.just(DEFAULT_SECONDS), st.floats(0.5, 12.0)))
def test_events_keep_the_margins_and_the_smallest_gap_at_any_length(kind: str, seed: int, seconds: float) -> None:
    script = write_script(kind, seed, seconds=seconds)
    assert script.events
    assert min(event.time_s for event in script.events) >= FIRST_EVENT_S - 1e-9
    assert max(event.audio_time_s for event in script.events) <= seconds - LAST_EVENT_S + 1e-9
    assert min(gaps(script), default=1.0) >= MIN_GAP_S - 1e-9
    for event in script.events:
        assert event.kind == EVENT_KINDS[kind]
        assert 0.0 < event.strength <= 1.0
        assert all(0.0 < coordinate < 1.0 for coordinate in event.place)


@pytest.mark.parametrize("kind", DIGESTS)
def test_a_seed_names_the_same_script_for_ever(kind: str) -> None:
    told = []
    for script in (write_script(kind, seed) for seed in range(5)):
        events = [(round(event.time_s, 6), round(event.audio_time_s, 6), event.label) for event in script.events]
        told.append((script.caption, events))
    assert hashlib.sha256(repr(told).encode()).hexdigest()[:12] == DIGESTS[kind]


def test_a_script_has_no_definition_of_another_kind() -> None:
    script = write_script("ball", 1)
    with pytest.raises(ValueError, match="kind 'piano' cannot have the definition of 'ball'"):
        replace(script, kind="piano", definition=KINDS["ball"])


@fast
@given(kinds, seeds)
def test_the_count_is_the_number_of_events(kind: str, seed: int) -> None:
    script = write_script(kind, seed)
    if kind in PERIODIC:
        assert len(script.events) >= 2
        assert max(gaps(script)) - min(gaps(script)) < 1e-9
    elif kind in ONCE:
        assert len(script.events) == 1
    else:
        assert len(script.events) == script.attributes["count"] <= 4


@fast
@given(kinds, seeds)
def test_pinning_all_of_a_scripts_own_attributes_gives_the_same_script(kind: str, seed: int) -> None:
    script = write_script(kind, seed)
    assert write_script(kind, seed, attributes=script.attributes) == script


@fast
@given(kinds, seeds)
def test_captions_are_short_and_in_lower_case(kind: str, seed: int) -> None:
    script = write_script(kind, seed)
    assert script.caption == script.caption.lower().strip()
    assert 2 <= len(script.caption.split()) <= 24


def test_captions_use_a_small_vocabulary() -> None:
    captions = [script.caption for script in sample_scripts(1, 4000)]
    words = {word.strip(",:") for caption in captions for word in caption.split()}
    assert len(words) <= 250
    assert len(set(captions)) > 800


def test_a_caption_names_nothing_that_the_script_has_not() -> None:
    named = {
        "ball": ("colour", "colour2", "size"),
        "mouth": ("colour", "voice", "vowel"),
        "metronome": ("tempo", "colour"),
        "siren": ("speed",),
        "fireworks": ("colour",),
    }
    full = 0
    for script in sample_scripts(2, 1500, kinds=tuple(named)):
        words = set(script.caption.replace(",", "").replace(":", "").split())
        own = [name for name in named[script.kind] if name in script.attributes]
        for name in own:
            values = {str(value) for value in KINDS[script.kind].attributes[name]}
            given_values = {str(script.attributes[other]) for other in own}
            known_words = words - {"red", "blue"} if script.kind == "siren" else words
            assert known_words & values <= given_values, script.caption
        full += all(str(script.attributes[name]) in words for name in own)
    assert full / 1500 > 0.75


@pytest.mark.parametrize("kind", ["drums", "piano", "speech"])
def test_sequence_captions_list_the_items_in_order_of_the_events(kind: str) -> None:
    listed = 0
    for script in sample_scripts(3, 200, kinds=(kind,)):
        labels = [event.label for event in script.events]
        assert " ".join(labels) == script.attributes["sequence"]
        listed += ", ".join(labels).lower() in script.caption
    assert listed > 150


def test_captions_say_the_right_number() -> None:
    assert [times(count) for count in (1, 2, 3)] == ["once", "twice", "three times"]
    assert [counted(1, "gold firework"), counted(2, "far flash")] == ["one gold firework", "two far flashes"]
    phrases = {"ball": ("once", "twice", "three times", "four times")}
    for script in sample_scripts(4, 300, kinds=("ball",)):
        right = times(int(script.attributes["count"]))
        assert not any(word in script.caption for word in phrases["ball"] if word != right), script.caption


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("ball", {"colour": "red", "size": "large", "floor": "glass", "count": 4}),
        ("ball", {"count": 1}),
        ("ball", {"colour": "red", "colour2": "white", "count": 3}),
        ("drums", {"sequence": "red blue red"}),
        ("piano", {"sequence": "C E G"}),
        ("piano", {"count": 4}),
        ("mouth", {"colour": "pink", "voice": "low", "vowel": "ee", "count": 2}),
        ("metronome", {"tempo": "fast", "colour": "white"}),
        ("siren", {"speed": "slow", "time": "day"}),
        ("storm", {"distance": "far", "count": 2}),
        ("fireworks", {"colour": "gold", "count": 3}),
        ("car", {"colour": "white", "speed": "fast", "direction": "left"}),
        ("speech", {"speaker": "girl", "hair": "blond", "sequence": "zero stop"}),
    ],
)
@pytest.mark.parametrize("seed", range(12))
def test_pinned_attributes_are_kept(kind: str, attributes: dict[str, Value], seed: int) -> None:
    script = write_script(kind, seed, attributes=attributes)
    assert {name: script.attributes[name] for name in attributes} == attributes
    if "count" in attributes:
        assert len(script.events) == attributes["count"]
    if "distance" in attributes:
        assert all(event.audio_time_s == event.time_s + 0.5 for event in script.events)


def test_pins_may_be_written_as_a_command_line_writes_them() -> None:
    assert write_script("ball", 1, attributes={"count": "3"}).attributes["count"] == 3
    assert write_script("piano", 1, attributes={"sequence": "c, e,g"}).attributes["sequence"] == "C E G"


@pytest.mark.parametrize(
    ("kind", "attributes", "says"),
    [
        ("bal", {}, "Did you mean 'ball'"),
        ("ball", {"color": "red"}, "Did you mean 'colour'"),
        ("ball", {"colour": "gren"}, "Did you mean 'green'"),
        ("drums", {"sequence": "red bleu"}, "Did you mean 'blue'"),
        ("drums", {"sequence": ""}, "empty"),
        ("drums", {"sequence": "red red", "count": 3}, "count is 3 but sequence has 2"),
        ("drums", {"sequence": " ".join(["red"] * 10)}, "fit in 2.0625 s"),
        ("fireworks", {"count": 9}, "longer clip"),
        ("ball", {"number": 1, "colour2": "red"}, "number 2"),
        ("ball", {"colour": "red", "colour2": "red"}, "differ"),
        ("ball", {"number": 2, "count": 1}, "at least 2"),
    ],
)
def test_a_wrong_pin_is_refused_with_what_is_allowed(kind: str, attributes: dict[str, Value], says: str) -> None:
    with pytest.raises(RequestError, match=says):
        write_script(kind, 0, attributes=attributes)


def test_a_clip_too_short_is_refused_not_filled_differently() -> None:
    with pytest.raises(RequestError, match=r"at least 0\.5 s"):
        write_script("ball", 0, seconds=0.3)
    with pytest.raises(RequestError, match="does not fit"):
        write_script("storm", 0, seconds=0.6, attributes={"distance": "far"})
    with pytest.raises(RequestError, match="seed"):
        write_script("ball", -1)


def test_longer_clips_hold_more_events() -> None:
    def mean_count(seconds: float) -> float:
        scripts = list(sample_scripts(5, 80, seconds=seconds))
        return sum(len(script.events) for script in scripts) / len(scripts)

    assert mean_count(0.6) < mean_count(2.0625) < mean_count(6.0)


def test_samples_are_balanced_and_do_not_depend_on_how_many_are_asked_for() -> None:
    count = 4 * len(KINDS)
    scripts = list(sample_scripts(7, count))
    assert [script.kind for script in scripts] == list(KINDS) * 4
    assert scripts[:10] == list(sample_scripts(7, 10))
    assert len({script.seed for script in scripts}) == count
    assert scripts != list(sample_scripts(8, count))
    with pytest.raises(RequestError, match="Did you mean 'storm'"):
        list(sample_scripts(0, 1, kinds=["storms"]))


@fast
@given(seeds, st.floats(0.29, 0.7), st.floats(0.5, 10.0))
def test_a_beat_has_no_tick_in_the_margins_and_misses_none(seed: int, period: float, seconds: float) -> None:
    stretched, ticks = periodic_times(stream("beat", seed, "test"), period, seconds)
    assert period <= stretched
    assert ticks[0] >= FIRST_EVENT_S - 1e-9
    assert ticks[-1] <= seconds - LAST_EVENT_S + 1e-9
    assert ticks[0] - stretched <= 1e-9
    assert ticks[-1] + stretched >= seconds - 1e-9


def test_irregular_times_fill_the_room_that_they_have() -> None:
    drawn = [irregular_times(stream("t", seed, "test"), 3, 2.0) for seed in range(400)]
    assert min(times_s[0] for times_s in drawn) < 0.15
    assert max(times_s[-1] for times_s in drawn) > 1.75


def test_every_example_prompt_is_in_lower_case_and_there_are_some_for_each_kind() -> None:
    for kind in KINDS.values():
        assert len(kind.example_captions) >= 2
        assert all(prompt == prompt.lower() for prompt in kind.example_captions)
