"""Prompts of the world are recognised, others are not."""

from __future__ import annotations

from mova.scenes.kinds import kind_of
from mova.scenes.world import sample_scripts


def test_every_caption_names_its_kind() -> None:
    wrong = [(s.kind, s.caption) for s in sample_scripts(5, 800) if kind_of(s.caption) != s.kind]
    assert wrong == []


def test_a_prompt_about_something_else_names_no_kind() -> None:
    assert kind_of("a cat plays with yarn on a sunny sofa") is None
