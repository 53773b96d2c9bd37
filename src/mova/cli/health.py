"""``mova check``: whether videos are whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mova.cli import console
from mova.errors import MediaError


def run(paths: Sequence[Path], *, is_json: bool) -> bool:
    """Look videos over, say what was found, and return whether all are whole.

    A file that cannot be read is reported by name and counts as not whole; the others are looked at all the same.

    Raises:
        MediaError: If there is one file only, and it cannot be read.
    """
    from mova.media.health.files import check_file

    facts: list[dict[str, Any]] = []
    for path in paths:
        try:
            health = check_file(path)
        except MediaError as problem:
            if len(paths) == 1:
                raise
            facts.append({"file": str(path), "verdict": "unreadable", "error": problem.message})
            continue
        facts.append({"file": str(path), **health.as_dict()})
    if is_json:
        console.facts_json(facts[0] if len(facts) == 1 else facts)
    else:
        for fact in facts:
            console.fact(_line(fact))
            for repair in fact.get("repaired", ()):
                console.fact(f"  repaired: {repair}")
            for fault in fact.get("faults", ()):
                console.fact(f"  {fault['message']}")
    return all(fact["verdict"] == "ok" for fact in facts)


def _line(fact: dict[str, Any]) -> str:
    if fact["verdict"] == "unreadable":
        return f"{fact['file']}  unreadable: {fact['error']}"
    parts = {"video": "picture", "audio": "sound"}
    missing = [word for part, word in parts.items() if part not in fact["looked_at"]]
    without = f" (there is no {missing[0]} to look at)" if missing else ""
    return f"{fact['file']}  {fact['verdict']}{without}"
