"""Prompts for rendered scenes: a few phrasings per kind that name what is in the script and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from mova.scenes.script import Value

OMIT = 0.15
"""Share of captions that leave out some attributes, so that a model also learns short prompts."""

NUMBERS = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
)
_FLOORS = {"wood": "wooden", "metal": "metal", "glass": "glass", "stone": "stone"}


def write_caption(kind: str, attributes: Mapping[str, Value], rng: np.random.Generator) -> str:
    """One prompt for a scene, in lower case, at most 24 words.

    Args:
        kind: A kind of scene.
        attributes: Of the script; the caption never contradicts them.
        rng: Chooses the phrasing, and which attributes are left out.
    """
    short = bool(rng.uniform() < OMIT)
    full, brief = _PHRASES[kind](attributes)
    phrases = brief if short else full
    return phrases[int(rng.integers(len(phrases)))].lower()


def times(count: int) -> str:
    """``once``, ``twice``, ``three times``, ..."""
    return {1: "once", 2: "twice"}.get(count, f"{NUMBERS[count]} times")


def counted(count: int, noun: str) -> str:
    """``one bounce``, ``two bounces``, ..."""
    plural = noun + ("es" if noun.endswith(("sh", "ch", "s")) else "s")
    return f"{NUMBERS[count]} {noun if count == 1 else plural}"


Phrases = tuple[tuple[str, ...], tuple[str, ...]]


def _ball(given: Mapping[str, Value]) -> Phrases:
    size, floor, count = given["size"], str(given["floor"]), int(given["count"])
    wooden = _FLOORS[floor]
    if given["number"] == 2:
        first, second = given["colour"], given["colour2"]
        return (
            f"two {size} balls, {first} and {second}, bounce {times(count)} on a {wooden} floor",
            f"a {size} {first} ball and a {size} {second} ball bounce {times(count)} on {floor}",
            f"{counted(count, 'bounce')} of two {size} balls, {first} and {second}, on {floor}",
            f"two {size} balls on a {wooden} floor, {first} and {second}, {counted(count, 'bounce')}",
        ), (
            f"a {first} ball and a {second} ball bounce on {floor}",
            f"two balls bounce on a {wooden} floor",
        )
    article = "an" if given["colour"] == "orange" else "a"
    ball = f"{size} {given['colour']} ball"
    return (
        f"a {ball} bounces {times(count)} on a {wooden} floor",
        f"{counted(count, 'bounce')} of a {ball} on {floor}",
        f"a {ball} falls and bounces {times(count)} on {floor}",
        f"on a {wooden} floor a {ball} bounces {times(count)}",
        f"a {ball} hits the {wooden} floor {times(count)}",
    ), (
        f"a {ball} bounces on {floor}",
        f"{article} {given['colour']} ball bounces {times(count)}",
        f"a {size} ball bounces on a {wooden} floor",
        f"a ball bounces {times(count)} on {floor}",
    )


def _drums(given: Mapping[str, Value]) -> Phrases:
    pads = ", ".join(str(given["sequence"]).split())
    count = int(given["count"])
    return (
        f"drum pads are hit {times(count)}: {pads}",
        f"{counted(count, 'drum hit')}: {pads}",
        f"a mallet strikes the drum pads {times(count)}: {pads}",
        f"{counted(count, 'hit')} on the drum pads: {pads}",
        f"someone plays the drum pads {pads}",
    ), (f"{counted(count, 'hit')} on the drum pads", f"a mallet plays the drum pads {times(count)}")


def _piano(given: Mapping[str, Value]) -> Phrases:
    notes = ", ".join(str(given["sequence"]).split())
    count = int(given["count"])
    return (
        f"{counted(count, 'note')} on the piano: {notes}",
        f"piano keys are pressed {times(count)}: {notes}",
        f"the piano plays {counted(count, 'note')}: {notes}",
        f"{counted(count, 'piano note')}: {notes}",
        f"someone plays the piano keys {notes}",
    ), (f"{counted(count, 'note')} on the piano", f"someone presses {counted(count, 'piano key')}")


def _mouth(given: Mapping[str, Value]) -> Phrases:
    colour, voice, vowel, count = given["colour"], given["voice"], given["vowel"], int(given["count"])
    article = "an" if colour == "orange" else "a"
    return (
        f"{article} {colour} cartoon face with a {voice} voice says {vowel} {times(count)}",
        f"{article} {colour} face sings {vowel} {times(count)} in a {voice} voice",
        f"a {voice} voice: {article} {colour} cartoon face says {vowel} {times(count)}",
        f"{vowel} is said {times(count)} by {article} {colour} face with a {voice} voice",
    ), (
        f"{article} {colour} face says {vowel}",
        f"a cartoon face with a {voice} voice says {vowel} {times(count)}",
        f"a face says {vowel} {times(count)}",
    )


def _metronome(given: Mapping[str, Value]) -> Phrases:
    tempo, colour = given["tempo"], given["colour"]
    return (
        f"a {tempo} metronome ticks in a {colour} case",
        f"a {colour} metronome ticks at a {tempo} tempo",
        f"a {tempo} {colour} metronome is ticking",
        f"{tempo} ticks of a {colour} metronome with a flashing lamp",
    ), (f"a {tempo} metronome ticks", f"a {colour} metronome is ticking")


def _siren(given: Mapping[str, Value]) -> Phrases:
    speed, time = given["speed"], given["time"]
    when = "at night" if time == "night" else "by day"
    return (
        f"a police car {when} with a {speed} siren",
        f"a {speed} siren on a police car {when}",
        f"{when} a police car sounds a {speed} siren",
        f"blue and red lights of a police car {when}, {speed} siren",
    ), (f"a police car {when}", f"a police car with a {speed} siren")


def _storm(given: Mapping[str, Value]) -> Phrases:
    distance, count = given["distance"], int(given["count"])
    if distance == "near":
        return (
            f"near lightning strikes {times(count)} with thunder",
            f"{counted(count, 'near flash')} of lightning with thunder",
            f"a storm at night: near lightning {times(count)} with loud thunder",
            f"lightning strikes near {times(count)}, thunder at once",
        ), ("near lightning with loud thunder", f"lightning strikes {times(count)} in a storm")
    return (
        f"far lightning flashes {times(count)}, then thunder",
        f"{counted(count, 'far flash')} of lightning, thunder comes later",
        f"a storm at night: far lightning {times(count)}, thunder later",
        f"lightning flashes far away {times(count)}, then thunder",
    ), ("far lightning, then thunder", f"lightning flashes {times(count)} in a storm")


def _fireworks(given: Mapping[str, Value]) -> Phrases:
    colour, count = given["colour"], int(given["count"])
    shows = counted(count, f"{colour} firework")
    ends = "s" if count == 1 else ""
    return (
        f"{shows} burst{ends} over the city",
        f"{shows} explode{ends} in the night sky",
        f"{colour} fireworks over the city burst {times(count)}",
        f"a rocket show at night: {shows}",
        f"{shows} in the sky over the city at night",
    ), (f"{colour} fireworks over the city", f"{counted(count, 'firework')} in the night sky")


_PHRASES: dict[str, Callable[[Mapping[str, Value]], Phrases]] = {
    "ball": _ball,
    "drums": _drums,
    "piano": _piano,
    "mouth": _mouth,
    "metronome": _metronome,
    "siren": _siren,
    "storm": _storm,
    "fireworks": _fireworks,
}
