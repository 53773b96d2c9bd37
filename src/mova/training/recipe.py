"""Recipes: one YAML document per stage, checked whole before anything runs, and run in order.

A run of several recipes in order makes a model from nothing: render, train both codecs, encode, train the joint network,
export. Each stage writes below ``folder`` and is skipped when it is done, so the same command resumes; it is done while its
settings and what it was made from are what they were (:mod:`mova.training.marks`).

A stage is one class: its fields are those of the document, and :meth:`Recipe.run` does the work. A stage that trains derives
from :class:`TrainRecipe` and says only what it trains (:meth:`TrainRecipe.build`). Packages add stages by the entry point
``mova.recipes``.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from mova.data.latents import digest_latents
from mova.data.marks import digest, digest_files, digest_part
from mova.data.shards import World, digest_shards
from mova.errors import RequestError
from mova.files import read_text
from mova.parsing import parse_yaml
from mova.scenes.kinds import load_kinds
from mova.training.marks import HOW, Mark, check_state, find_changes, read_mark, write_mark
from mova.training.objective import Objective
from mova.training.parallel import choose_device, choose_processes, process_rank, run_in_processes
from mova.training.trainer import OptimSettings, StepReport, run_training

STAGES = {
    "render": "mova.training.stages:RenderRecipe",
    "audio_codec": "mova.training.objectives.audio_codec:AudioCodecRecipe",
    "stereo_audio_codec": "mova.training.objectives.stereo_audio_codec:StereoAudioCodecRecipe",
    "video_codec": "mova.training.objectives.video_codec:VideoCodecRecipe",
    "full_rate_video_codec": "mova.training.objectives.full_rate_video_codec:FullRateVideoCodecRecipe",
    "latents": "mova.training.stages:LatentsRecipe",
    "joint": "mova.training.objectives.joint:JointRecipe",
    "planner": "mova.training.objectives.planner:PlannerRecipe",
    "reader": "mova.training.objectives.reader:ReaderRecipe",
    "export": "mova.training.export:ExportRecipe",
}
"""The stages of this package: name to module and class."""

ENTRY_POINTS = "mova.recipes"

OnStep = Callable[[StepReport], None]


class Strict(BaseModel):
    """Unknown fields are refused: a typo must not train another model."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class WorldSettings(Strict):
    """The size of the clips: see :class:`mova.data.shards.World`."""

    width: int = Field(default=96, ge=32, multiple_of=16)
    height: int = Field(default=96, ge=32, multiple_of=16)
    fps: int = Field(default=16, ge=8, le=60)
    num_frames: int = Field(default=33, ge=5)
    sample_rate: int = Field(default=16000, ge=8000)
    kinds: list[str] | None = Field(
        default=None, description="Kinds of scenes: names, or paths of files; all that ship if none."
    )

    @field_validator("kinds")
    @classmethod
    def find_kinds(cls, kinds: list[str] | None) -> list[str] | None:
        """Refuse a kind that does not exist."""
        load_kinds(kinds)
        return kinds

    def world(self) -> World:
        """The same as the value that the renderers take."""
        return World(**(self.model_dump() | {"kinds": tuple(self.kinds) if self.kinds else None}))


class Recipe(Strict, ABC):
    """What every stage has."""

    stage: str
    folder: Path = Field(description="Folder of the run, for everything that it makes.")
    world: WorldSettings = WorldSettings()
    processes: int | Literal["auto"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @property
    def key(self) -> str:
        """Name of the stage within its run."""
        return self.stage

    def digest_inputs(self) -> dict[str, str]:
        """Digest of everything that the stage reads, by name; empty for what is not there.

        By default, of all data and finished stages that the folder of the run holds. A stage that states what it reads is not
        made again for a change of something else.
        """
        data = {"scenes": digest_scenes(self.folder), "latents": digest_latent_files(self.folder)}
        stages = {path.stem: digest_files([path]) for path in sorted(self.folder.glob("*.done")) if path.stem != self.key}
        return {name: value for name, value in (data | stages).items() if value}

    def digest_result(self) -> str:
        """Digest of what the stage made; empty if nothing is there."""
        return ""

    def mark(self) -> Mark:
        """What the stage is made from now, and what there is of its result."""
        settings = self.model_dump(mode="json")
        return Mark(
            {name: value for name, value in settings.items() if name not in HOW}, self.digest_inputs(), self.digest_result()
        )

    @abstractmethod
    def run(self, on_step: OnStep | None = None) -> None:
        """Do the work, or what is left of it.

        Args:
            on_step: Receives progress, in this process.
        """


class TrainRecipe(Recipe):
    """A stage that trains something."""

    optim: OptimSettings

    @abstractmethod
    def build(self, device: str) -> Objective:
        """What is trained, with fresh weights; called once in each process, with the same random numbers.

        Args:
            device: Device of the process.
        """

    def digest_result(self) -> str:
        """Digest of the modules that were saved."""
        folders = (path for path in sorted((self.folder / self.key).glob("[!.]*")) if path.is_dir())
        found = {path.name: digest_part(path) for path in folders}
        return digest(found) if found else ""

    def run(self, on_step: OnStep | None = None) -> None:
        """Train in as many processes as the recipe says, from the newest checkpoint if there is one.

        Raises:
            CheckpointError: If that checkpoint was begun with other settings or from other data.
        """
        check_state(self.folder / self.key, self.mark(), num_steps=self.optim.num_steps)
        device = choose_device(self.device)
        run_in_processes(self.train, choose_processes(self.processes, device), device, on_step)

    def train(self, device: str, on_step: OnStep | None) -> None:
        """Do the work of one process; the first saves the averaged weights.

        Args:
            device: Device of the process.
            on_step: Receives every step.
        """
        torch.manual_seed(self.optim.seed)
        objective = self.build(device)
        averaged = run_training(objective, self.optim, self.folder / self.key, on_step=on_step)
        if process_rank()[0] == 0:
            objective.save(averaged, self.folder / self.key)


def digest_scenes(folder: Path) -> str:
    """Digest of the rendered clips of a run; empty if there are none."""
    return _digest_sets(digest_shards, folder / "scenes")


def digest_latent_files(folder: Path) -> str:
    """Digest of the latents of a run, their clock and their statistics; empty if there are none."""
    files = [folder / "latents" / name for name in ("statistics.json", "clock.json")]
    found = [_digest_sets(digest_latents, folder / "latents"), digest_files(files)]
    return digest(found) if any(found) else ""


def _digest_sets(digest_of: Callable[[Path], str], folder: Path) -> str:
    found = [digest_of(folder / part) for part in ("train", "held_out")]
    return digest(found) if any(found) else ""


def load_recipe(path: Path, overrides: tuple[str, ...] = ()) -> Recipe:
    """Read one recipe.

    Args:
        path: YAML document.
        overrides: ``path.to.field=value`` strings; the values are read as YAML.

    Raises:
        RequestError: If the file cannot be read or a field is wrong; the message names the field.
    """
    try:
        document = parse_yaml(read_text(path))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RequestError(f"cannot read the recipe {path}: {reason}.", "Give the path of a YAML recipe.") from error
    if not isinstance(document, dict):
        raise RequestError(f"the recipe {path} is not a mapping.", "See recipes/base for examples.")
    for override in overrides:
        _apply(document, override)
    if "stage" not in document:
        raise RequestError(f"the recipe {path} names no stage.", f"Known are {', '.join(STAGES)}.", field="stage")
    try:
        return find_stage(str(document["stage"])).model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise RequestError(f"{path}: {where}: {message}.", "Fix the field and run again.", field=where) from error


def find_stage(name: str) -> type[Recipe]:
    """The recipe class of a stage, of this package or of one that adds it by the entry point ``mova.recipes``.

    Raises:
        RequestError: If no such stage is installed, or what is installed is no recipe.
    """
    added = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name in STAGES:
        module, _, attribute = STAGES[name].partition(":")
        found = getattr(import_module(module), attribute)
    elif name in added:
        found = added[name].load()
    else:
        known = (*STAGES, *added)
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"Use {close[0]}, the nearest." if close else f"Known are {', '.join(known)}."
        raise RequestError(f"there is no stage {name!r}.", hint, field="stage")
    if not (isinstance(found, type) and issubclass(found, Recipe)):
        raise RequestError(
            f"the stage {name!r} is no recipe: {found!r}.", "Let its class derive from TrainRecipe.", field="stage"
        )
    return found


def _apply(document: dict[str, Any], override: str) -> None:
    name, equals, value = override.partition("=")
    if not equals:
        raise RequestError(f"--set takes path=value; got {override!r}.", "For example --set optim.num_steps=200.")
    *parents, last = name.split(".")
    for parent in parents:
        document = document.setdefault(parent, {})
        if not isinstance(document, dict):
            raise RequestError(f"--set {name}: {parent} is not a group of fields.", "Look at the recipe's YAML.")
    try:
        document[last] = parse_yaml(value)
    except ValueError as error:
        raise RequestError(
            f"--set {name}: {value[:40]!r} is no value: {error}.", "For example --set optim.num_steps=200."
        ) from None


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
OnAgain = Callable[[str, list[str]], None]
"""Receives the name of a recipe whose result is made again, and what has changed since it was made."""


def run_recipes(
    paths: list[Path],
    *,
    overrides: tuple[str, ...] = (),
    on_progress: OnProgress | None = None,
    on_again: OnAgain | None = None,
) -> None:
    """Run recipes one after another; every one is read and checked before the first starts.

    Args:
        paths: YAML documents in order.
        overrides: ``field=value`` strings for all of them.
        on_progress: Receives progress, in this process.
        on_again: Receives what is made again, and why.

    Raises:
        MovaError: If a recipe is wrong or a stage fails.
    """
    recipes = [load_recipe(path, overrides) for path in paths]
    for path, recipe in zip(paths, recipes, strict=True):
        run_recipe(recipe, path.name, on_progress=on_progress, on_again=on_again)


def run_recipe(
    recipe: Recipe, name: str = "", *, on_progress: OnProgress | None = None, on_again: OnAgain | None = None
) -> None:
    """Run one recipe unless it is done and what it was made from has not changed since.

    Args:
        recipe: Any recipe, one of another package included.
        name: Name for the progress; the stage if empty.
        on_progress: Receives progress, in this process.
        on_again: Receives what has changed, if the stage was done before.

    Raises:
        CheckpointError: If a training was begun with something else.
        MovaError: If the stage fails.
    """
    path = recipe.folder / f"{recipe.key}.done"
    before, now = read_mark(path), recipe.mark()
    if before is not None:
        changed = find_changes(before, now)
        if not changed and now.product == before.product:
            return
        if on_again is not None:
            on_again(name or recipe.stage, changed or ["its result"])

    def on_step(report: StepReport) -> None:
        if on_progress is not None:
            step = (report.step, report.num_steps, report.seconds_per_step, report.values)
            on_progress(StageProgress(name or recipe.stage, recipe.stage, *step))

    recipe.run(on_step)
    # what it read is what was there when it began
    write_mark(path, replace(now, product=recipe.digest_result()))
