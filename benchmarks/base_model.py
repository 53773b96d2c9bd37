"""Holds a model of the rendered world against what it must reach, on prompts of a seed that training never uses.

    python benchmarks/base_model.py --bridge-off                    # 240 prompts, about ten minutes on two cores

The clips are made and measured as ``mova eval model`` does on its track ``text``; only the prompts are others: where a kind has
prompts enough, those that the network was trained on are passed over, and how many are new is written down. Each number
stands beside chance, rendered clips through the model's codecs, and the same prompts with picture and audio cut apart.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from rich.console import Console

from mova.checkpoints.layout import read_index, resolve_model
from mova.data.shards import describe, scripts_in, worker_pool
from mova.lab.documents import machine, plain, write_json
from mova.lab.suite.clips import ModelSpec
from mova.lab.suite.run import measure_model
from mova.lab.suite.tables import number_of, tracks_of, value_of
from mova.lab.suite.tracks import check_tracks
from mova.scenes.script import Script
from mova.scenes.world import sample_scripts
from mova.training.objectives.joint import JointRecipe
from mova.training.recipe import load_recipe
from mova.training.stages import LatentsRecipe
from mova.training.text import phrasings

TEST_SEED = 990_000
ROOT = Path(__file__).parents[1]
RUNS = (  # the recipes of each run, and the seeds of its clips
    ("base/4_latents.yaml", "base/5_joint.yaml", 2),
    ("continue/1_latents.yaml", "continue/2_joint.yaml", 12),
    ("continue/1_latents.yaml", "continue/2_joint.yaml", 31),
)
WANTED = (  # what, name of the number, floor, goal
    ("median distance of audio from picture, ms", "median_abs_ms", 25.0, 12.0),
    ("events matched within 80 ms, F1", "f1_80", 0.85, 0.95),
    ("colour as asked", "colour", 0.95, 0.99),
    ("number of events as asked", "count", 0.75, 0.95),
    ("pads or keys in the asked order", "sequence", None, 0.9),
    ("note heard is the key seen", "key_pitch", 0.7, 0.95),
)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="mova-base", help="name or folder of the model")
    parser.add_argument("--per-kind", type=int, default=30, help="clips per kind")
    parser.add_argument("--bridge-off", action="store_true", help="make all once more with picture and audio cut apart")
    parser.add_argument("--steps", type=int, help="steps of the sampler; the model's own if not given")
    parser.add_argument("--processes", type=int, default=2, help="worker processes of one thread each")
    parser.add_argument("--folder", type=Path, default=ROOT / "out" / "base_model", help="of clips; a second call goes on")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "base_model.json")
    asked, began = parser.parse_args(), time.monotonic()
    recipes = ROOT / "recipes"
    known = frozenset[str]().union(*(training_captions(recipes / first, recipes / then, seed) for first, then, seed in RUNS))
    model = resolve_model(asked.checkpoint)
    names = read_index(model).capabilities.kinds
    scripts = [script for kind in names for script in test_scripts(kind, asked.per_kind, known)]
    unseen = {kind: sum(one.caption not in known for one in scripts if one.kind == kind) for kind in names}
    maker = ModelSpec(model, asked.steps, None, asked.folder / "clips")
    maker.clips.mkdir(parents=True, exist_ok=True)
    tracks, rows = check_tracks(("text",), has_bridge_off=asked.bridge_off), asked.folder / "rows.jsonl"
    with worker_pool(asked.processes) as pool:
        document = measure_model(maker, scripts, tracks, rows, seed=TEST_SEED, processes=asked.processes, pool=pool)
    lines, console = acceptance(document), Console(width=160)
    console.print(markdown(lines), markup=False, highlight=False)
    new = f"{sum(unseen.values())} of {len(scripts)} prompts never occurred in the training of the network"
    console.print(f"\n{new} (the planner learns from captions without end); written to {asked.output}")
    facts = {"machine": machine(), "minutes": (time.monotonic() - began) / 60.0, "unseen_prompts": unseen, "acceptance": lines}
    write_json(asked.output, {**facts, **{name: value for name, value in document.items() if name != "clips"}})


def training_captions(latents: Path, joint: Path, seed: int) -> frozenset[str]:
    """Every prompt that a run's joint network was trained on, written again."""
    recipe, trained = load_recipe(latents), load_recipe(joint)
    assert isinstance(recipe, LatentsRecipe) and isinstance(trained, JointRecipe)
    scripts = [describe(script) for script in scripts_in(seed, 0, recipe.num_clips, recipe.world.world())]
    return frozenset(caption for script in scripts for caption in phrasings(script, trained.phrasings))


def test_scripts(kind: str, count: int, known: frozenset[str]) -> list[Script]:
    """Scripts of the test seed, those with prompts that training never saw first; 5 times as many are looked at."""
    return sorted(sample_scripts(TEST_SEED, 5 * count, [kind]), key=lambda script: script.caption in known)[:count]


def acceptance(document: dict[str, Any]) -> list[dict[str, Any]]:
    """What must be reached, and what is."""
    (track,) = tracks_of(plain(document))
    lines = []
    for words, name, floor, goal in WANTED:
        found, sign = number_of(track.made, name), -1.0 if name.endswith("_ms") else 1.0
        if found is None or found["value"] is None:
            continue
        met = "reported" if floor is None else "floor" if sign * found["value"] >= sign * floor else "no"
        met = "goal" if sign * found["value"] >= sign * goal else met
        others = {"codec": value_of(track.codec, name), "bridge_off": value_of(track.cut, name) if track.cut else None}
        measured = {one: found[one] for one in ("value", "interval", "chance")}
        lines.append({"what": words, **measured, **others, "floor": floor, "goal": goal, "met": met})
    return lines


def markdown(lines: list[dict[str, Any]]) -> str:
    """The table as it goes into a report."""
    rows = ["| what | value | 95 % | chance | codec | bridge off | floor | goal | met |", "|" + "---|" * 9]
    for line in lines:
        digits = 1 if line["what"].endswith("ms") else 2
        beside = (line[name] for name in ("chance", "codec", "bridge_off", "floor", "goal"))
        numbers = (line["value"], *line["interval"], *beside)
        value, low, high, *rest = ("-" if one is None else f"{one:.{digits}f}" for one in numbers)
        rows.append(f"| {' | '.join([line['what'], value, f'{low} to {high}', *rest, line['met']])} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
