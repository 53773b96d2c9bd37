"""How well a model's prompt reader reads prompts that people wrote by hand, none of which training ever saw.

    python benchmarks/reader.py                       # the shipped model and benchmarks/data/prompts.jsonl
    python benchmarks/reader.py --prompts mine.jsonl  # lines of {"prompt": ..., "lang": "en", "kind": "ball", "number": 3, ...}

A prompt of a kind that the model does not know is left out; ``"kind": null`` marks one that is outside everything. Beside each
share stands what the words of the kinds alone tell (``mova.scenes.kinds.kind_of``), as a baseline for kinds. Prints a Markdown
table and every prompt that was misread, and writes JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from mova.checkpoints.layout import read_index, resolve_model
from mova.lab.documents import machine, write_json
from mova.pipeline.reading import reader_of_folder
from mova.scenes.kinds import KINDS, kind_of

ROOT = Path(__file__).parents[1]
VALUES = ("colour", "floor", "size", "vowel", "voice", "tempo", "speed", "time", "distance", "pace")
LONG_S = 60.0
"""Length of the clips for which prompts are read: every number of events fits."""


def main() -> None:
    """Read the prompts, print and write the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mova-base")
    parser.add_argument("--prompts", type=Path, default=ROOT / "benchmarks" / "data" / "prompts.jsonl")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "reader.json")
    arguments = parser.parse_args()
    folder = resolve_model(arguments.model)
    capabilities = read_index(folder).capabilities
    rows = [json.loads(line) for line in arguments.prompts.read_text(encoding="utf-8").splitlines() if line.strip()]
    rows = [row for row in rows if row["kind"] in (None, *capabilities.kinds)]
    read = reader_of_folder(folder, capabilities)
    read(rows[0]["prompt"], LONG_S)  # loads it
    began = time.process_time()
    scores, wrong = judge(rows, read)
    elapsed_ms = 1000 * (time.process_time() - began) / len(rows)
    print(f"{len(rows)} prompts, {elapsed_ms:.1f} ms of CPU each\n")
    print("| what | right | of | share |\n|---|---|---|---|")
    for name, (right, count) in scores.items():
        print(f"| {name} | {right} | {count} | {right / count:.2f} |")
    for row, names, reading in wrong:
        print(f"\n{row['prompt']!r}: {', '.join(names)}\n    {reading}")
    values = {name: {"right": right, "of": count} for name, (right, count) in scores.items()}
    misread = [{"prompt": row["prompt"], "wrong": names} for row, names, _ in wrong]
    write_json(
        arguments.output,
        {
            "model": capabilities.name,
            "scores": values,
            "cpu_ms": round(elapsed_ms, 2),
            "misread": misread,
            "machine": machine(),
        },
    )


def judge(
    rows: list[dict[str, Any]], read: Any
) -> tuple[dict[str, tuple[int, int]], list[tuple[dict[str, Any], list[str], str]]]:
    """How many prompts are read right in each respect, and those that are not."""
    scores: dict[str, list[bool]] = defaultdict(list)
    wrong = []
    for row in rows:
        reading, missed = read(row["prompt"], LONG_S), list[str]()

        def check(name: str, is_right: bool, missed: list[str] = missed) -> None:
            scores[name].append(is_right)
            if not is_right:
                missed.append(name)

        if row["kind"] is None:
            check("outside, flagged", reading.kind is None)
        else:
            check("known, not flagged", reading.kind is not None)
            check("kind", reading.kind == row["kind"])
            scores["kind, by its words alone"].append(kind_of(row["prompt"], KINDS.values()) == row["kind"])
            said = {name: str(row[name]) for name in VALUES if name in row}
            for name, value in said.items():
                check("colour" if name == "colour" else "other values", reading.attributes.get(name) == value)
            for name in ("number", "order", "times"):
                if name in row:
                    check(name, _plain(getattr(reading, name)) == row[name])
            all_right = not missed
            scores["all of it, in English" if row["lang"] == "en" else "all of it, in other languages"].append(all_right)
        if missed:
            wrong.append(
                (row, missed, f"{reading.words}; confidence {reading.confidence:.2f}; {'; '.join(reading.unsupported)}")
            )
    return {name: (sum(values), len(values)) for name, values in scores.items()}, wrong


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


if __name__ == "__main__":
    main()
