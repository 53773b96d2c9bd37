"""``mova train``: recipes in order, with losses and an estimate of the time left."""

from __future__ import annotations

from pathlib import Path

from mova.cli import console
from mova.training.parallel import threads_per_process
from mova.training.recipe import StageProgress, run_recipes


def run(recipes: list[Path], overrides: tuple[str, ...], *, threads: int | None = None) -> None:
    """Run the recipes and show each stage's progress.

    Args:
        recipes: Documents, run in this order.
        overrides: ``field=value`` for all of them.
        threads: Threads of each process that trains; torch's number in one process and one in several, if None.
    """
    lines: dict[str, console.ProgressLine] = {}

    def on_progress(progress: StageProgress) -> None:
        line = lines.setdefault(progress.recipe, console.ProgressLine(f"{progress.recipe}: {progress.stage}"))
        note = "  ".join(f"{name} {value:.3f}" for name, value in progress.values.items())
        line.update(progress.done, progress.total, note)

    def on_again(recipe: str, changed: list[str]) -> None:
        console.say(f"{recipe}: runs again; changed since it was done: {', '.join(changed)}")

    with threads_per_process(threads):
        run_recipes(recipes, overrides=overrides, on_progress=on_progress, on_again=on_again)
    console.say("done")
