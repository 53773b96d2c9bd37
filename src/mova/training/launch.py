"""Runs recipes in order: picks device and processes, starts the workers, skips what is done.

On a CPU the stages that train run in one process of one thread per core (two at most by default: more threads in one
process lose to contention); on a GPU in one process. Workers find each other through a file, so that no port is opened.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.multiprocessing.spawn import start_processes

from mova.data.workers import exit_with_parent
from mova.errors import MovaError
from mova.training import stages
from mova.training.recipe import ExportRecipe, LatentsRecipe, Recipe, RenderRecipe, load_recipe
from mova.training.trainer import StepReport


@dataclass(frozen=True)
class StageProgress:
    """What the caller is told: ``done`` of ``total`` steps or clips of a stage."""

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
        overrides: ``field=value`` strings for all of them that have the field's stage.
        on_progress: Told of progress, in this process.

    Raises:
        MovaError: If a recipe is wrong or a stage fails.
    """
    recipes = [load_recipe(path, overrides) for path in paths]
    for path, recipe in zip(paths, recipes, strict=True):
        run_recipe(recipe, path.name, on_progress=on_progress)


def run_recipe(recipe: Recipe, name: str, *, on_progress: OnProgress | None = None) -> None:
    """Run one recipe unless its mark says that it is done."""
    key = getattr(recipe, "name", recipe.stage)
    mark = recipe.folder / f"{key}.done"
    if mark.exists() and mark.read_text(encoding="utf-8") == recipe.model_dump_json():
        return
    recipe.folder.mkdir(parents=True, exist_ok=True)
    device = choose_device(recipe.device)
    processes = choose_processes(recipe.processes, device)

    def on_clips(done: int, total: int) -> None:
        if on_progress is not None:
            on_progress(StageProgress(name, recipe.stage, done, total, 0.0, {}))

    def on_step(report: StepReport) -> None:
        if on_progress is not None:
            values = report.values
            on_progress(StageProgress(name, recipe.stage, report.step, report.num_steps, report.seconds_per_step, values))

    if isinstance(recipe, RenderRecipe):
        stages.run_render(recipe, processes, on_clips)
    elif isinstance(recipe, LatentsRecipe):
        stages.run_latents(recipe, processes, on_clips)
    elif isinstance(recipe, ExportRecipe):
        from mova.training.export import run_export

        run_export(recipe)
    else:
        _run_workers(recipe, processes, device, on_step)
    mark.write_text(recipe.model_dump_json(), encoding="utf-8")


def choose_device(wanted: str) -> str:
    """``auto`` is the GPU if there is one.

    Raises:
        MovaError: If a GPU is asked for and none is there.
    """
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise MovaError("the recipe asks for a GPU and torch sees none.", "Set device: auto, or cpu.")
    return wanted


def choose_processes(wanted: int | str, device: str) -> int:
    """``auto``: one process on a GPU, else one per core, two at most."""
    if wanted != "auto":
        return int(wanted)
    return 1 if device == "cuda" else min(2, os.cpu_count() or 1)


def _run_workers(recipe: Recipe, processes: int, device: str, on_step: Callable[[StepReport], None]) -> None:
    if processes == 1:
        _run_one(recipe, device, on_step)
        return
    context = mp.get_context("spawn")
    reports: Any = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        workers = start_processes(
            _worker,
            args=(processes, str(Path(folder) / "store"), recipe, device, reports, os.getpid()),
            nprocs=processes,
            join=False,
            start_method="spawn",
        )
        assert workers is not None
        # join raises in this process what a worker raised, and ends the others
        while not workers.join(timeout=0.5):
            _drain(reports, on_step)
        _drain(reports, on_step)


def _drain(reports: Any, on_step: Callable[[StepReport], None]) -> None:
    while not reports.empty():
        on_step(reports.get())


def _worker(rank: int, world: int, store: str, recipe: Recipe, device: str, reports: Any, parent: int) -> None:
    torch.set_num_threads(1)
    exit_with_parent(parent)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world, timeout=timedelta(minutes=30))
    try:
        _run_one(recipe, device, reports.put if rank == 0 else None)
    finally:
        dist.destroy_process_group()


def _run_one(recipe: Recipe, device: str, on_step: Callable[[StepReport], None] | None) -> None:
    from mova.training.recipe import AudioCodecRecipe, JointRecipe, PlannerRecipe, VideoCodecRecipe

    if isinstance(recipe, VideoCodecRecipe):
        stages.run_video_codec(recipe, device, on_step)
    elif isinstance(recipe, AudioCodecRecipe):
        stages.run_audio_codec(recipe, device, on_step)
    elif isinstance(recipe, JointRecipe):
        stages.run_joint(recipe, device, on_step)
    elif isinstance(recipe, PlannerRecipe):
        stages.run_planner(recipe, device, on_step)
