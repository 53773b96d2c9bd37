"""Whether a prompt asks for something of the rendered world, by the words that name its kinds."""

from __future__ import annotations

import re

WORDS: dict[str, frozenset[str]] = {
    "ball": frozenset({"ball", "balls", "bounce", "bounces", "bouncing"}),
    "drums": frozenset({"drum", "drums", "pad", "pads", "drummer"}),
    "piano": frozenset({"piano", "pianos", "keyboard", "notes", "keys"}),
    "mouth": frozenset({"face", "mouth", "says", "speaks", "voice", "syllable", "syllables", "talking"}),
    "metronome": frozenset({"metronome", "metronomes", "ticks", "ticking"}),
    "siren": frozenset({"siren", "sirens", "police"}),
    "storm": frozenset({"storm", "lightning", "thunder", "thunderstorm"}),
    "fireworks": frozenset({"firework", "fireworks"}),
}


def kind_of(prompt: str) -> str | None:
    """The kind that most words of ``prompt`` name, or None if no word names any."""
    words = re.findall(r"[a-z]+", prompt.lower())
    hits = {kind: sum(word in names for word in words) for kind, names in WORDS.items()}
    best = max(hits, key=lambda kind: hits[kind])
    return best if hits[best] else None
