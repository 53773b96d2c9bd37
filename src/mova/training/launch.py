"""Runs recipes in order and skips what is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mova.training.recipe import Recipe, load_recipe
from mova.training.trainer import StepReport


@dataclass(frozen=True)
class StageProgress:
    """Progress as the caller receives it.

    Attributes:
        recipe: Name of the recipe.
        stage: Its stage.
        done: Steps or clips done.
        total: Steps or clips in all.
        seconds_per_step: Moving average; 0 where clips are counted.
        values: Numbers of the step.
    """

    recipe: str
    stage: str
    done: int
    total: int
    seconds_per_step: float
    values: dict[str, float]


OnProgress = Callable[[StageProgress], None]


def run_recipes(paths: list[Path], *, overrides: tuple[str, ...] = (), on_progress: OnProgress | None = None) -> None:
    """Run recipes one after another; every one is read and checked before the first starts.

    Args:
        paths: YAML documents in order.
        overrides: ``field=value`` strings for all of them.
        on_progress: Receives progress, in this process.

    Raises:
        MovaError: If a recipe is wrong or a stage fails.
    """
    recipes = [load_recipe(path, overrides) for path in paths]
    for path, recipe in zip(paths, recipes, strict=True):
        run_recipe(recipe, path.name, on_progress=on_progress)


def run_recipe(recipe: Recipe, name: str = "", *, on_progress: OnProgress | None = None) -> None:
    """Run one recipe unless its mark says that it is done.

    Args:
        recipe: Any recipe, one of another package included.
        name: Name for the progress; the stage if empty.
        on_progress: Receives progress, in this process.

    Raises:
        MovaError: If the stage fails.
    """
    mark = recipe.folder / f"{recipe.key}.done"
    if mark.exists() and mark.read_text(encoding="utf-8") == recipe.model_dump_json():
        return
    recipe.folder.mkdir(parents=True, exist_ok=True)

    def on_step(report: StepReport) -> None:
        if on_progress is not None:
            step = (report.step, report.num_steps, report.seconds_per_step, report.values)
            on_progress(StageProgress(name or recipe.stage, recipe.stage, *step))

    recipe.run(on_step)
    mark.write_text(recipe.model_dump_json(), encoding="utf-8")
