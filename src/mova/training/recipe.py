"""Recipes: one YAML document per stage, checked whole before anything runs.

A run of several recipes in order makes a model from nothing: render, train both codecs, encode, train the joint network,
export. Each stage writes below ``folder`` and is skipped when it is done, so the same command resumes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from mova.data.shards import World
from mova.errors import RequestError
from mova.request.solver_names import SolverName
from mova.scenes.kinds import load_kinds
from mova.training.noise_maps import NoiseSettings
from mova.training.trainer import OptimSettings


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
        """As the value that the renderers take."""
        return World(**(self.model_dump() | {"kinds": tuple(self.kinds) if self.kinds else None}))


class Stage(Strict):
    """What every stage has."""

    folder: Path = Field(description="Everything that the run makes goes here.")
    world: WorldSettings = WorldSettings()
    processes: int | Literal["auto"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"


class RenderRecipe(Stage):
    """Rendered clips for the codecs."""

    stage: Literal["render"]
    seed: int = 1
    num_clips: int = Field(ge=8)
    num_held_out: int = Field(default=96, ge=8)
    clips_per_shard: int = Field(default=100, ge=8)


class VideoCodecRecipe(Stage):
    """The video codec."""

    stage: Literal["video_codec"]
    codec: dict[str, Any] = {}
    optim: OptimSettings
    batch_size: int = Field(default=4, ge=1, description="Crops per process.")
    num_frames: int = Field(default=17, ge=5)
    crop: int = Field(default=64, ge=32, multiple_of=8)
    kl_weight: float = 3e-4
    decoder_only_from: float = Field(default=0.8, ge=0, le=1)
    latent_noise: float = Field(default=0.0, ge=0)
    start_from: str | None = Field(default=None, description="Stage of this run, or checkpoint, whose weights to start from.")
    name: str = "video_codec"


class AudioCodecRecipe(Stage):
    """The audio codec."""

    stage: Literal["audio_codec"]
    codec: dict[str, Any] = {}
    optim: OptimSettings
    batch_size: int = Field(default=6, ge=1, description="Sounds per process.")
    kl_weight: float = 5e-4


class LatentsRecipe(Stage):
    """Latents of many clips."""

    stage: Literal["latents"]
    seed: int = 2
    num_clips: int = Field(ge=8)
    num_held_out: int = Field(default=96, ge=8)
    clips_per_shard: int = Field(default=250, ge=8)
    codecs_from: str | None = Field(default=None, description="Checkpoint whose codecs to use; else those of this run.")


class JointRecipe(Stage):
    """The joint network and its text encoder."""

    stage: Literal["joint"]
    joint: dict[str, Any] = Field(default={}, description="Overrides of the base preset: video, audio, bridge.")
    text_width: int = Field(default=128, ge=32, multiple_of=32)
    text_layers: int = Field(default=2, ge=1)
    vocab_size: int = Field(default=768, ge=300)
    max_tokens: int = Field(default=32, ge=8)
    optim: OptimSettings
    noise: NoiseSettings = NoiseSettings()
    batch_size: int = Field(default=12, ge=1, description="Samples per process.")
    audio_weight: float = Field(default=1.0, gt=0)
    cues: bool = Field(default=True, description="Whether the video's tower is told when things happen, where it is known.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="In which matrices are multiplied; auto: bfloat16 where the machine has it in hardware."
    )
    phrasings: int = Field(default=1, ge=1, description="Captions per clip to choose from at every draw, its own the first.")
    compile: bool = Field(default=False, description="Fuse the blocks (torch.compile); on a CPU this needs a C++ compiler.")
    start_from: str | None = Field(
        default=None, description="Checkpoint whose network, text encoder and tokenizer to go on from."
    )


class PlannerRecipe(Stage):
    """What writes cue sheets from prompts."""

    stage: Literal["planner"]
    tokenizer_from: str | None = Field(default=None, description="Checkpoint whose tokenizer to use; else that of this run.")
    width: int = Field(default=128, ge=32, multiple_of=32)
    layers: int = Field(default=2, ge=1)
    steps_per_s: int = Field(default=64, ge=8, description="Steps of time per second.")
    left_open: list[str] = Field(default=[], description="Labels of what follows from a motion, of which no sheet is drawn.")
    max_tokens: int = Field(default=32, ge=8)
    batch_size: int = Field(default=128, ge=1, description="Prompts per process.")
    optim: OptimSettings


class ExportRecipe(Stage):
    """The finished checkpoint folder."""

    stage: Literal["export"]
    output: Path
    codecs_from: str | None = Field(default=None, description="Checkpoint whose codecs to ship instead of this run's.")
    video_codec: str | None = Field(
        default=None, description="Stage whose video codec to ship; else that of the checkpoint, or of the stage video_codec."
    )
    dtype: Literal["float32", "float16", "bfloat16"] = "float16"
    shift: float = Field(default=1.0, gt=0, description="Default of the sampler's schedule.")
    num_inference_steps: int = Field(default=16, ge=1)
    guidance_scale: float = Field(default=2.0, ge=0)
    solver: SolverName = "adams"
    max_tokens: int = Field(default=32, ge=8)
    max_continued_frames: int = Field(default=4800, ge=0, description="Longest clip, made window after window; 0 for none.")
    licence: str = "apache-2.0"


Recipe = Annotated[
    RenderRecipe | VideoCodecRecipe | AudioCodecRecipe | LatentsRecipe | JointRecipe | PlannerRecipe | ExportRecipe,
    Field(discriminator="stage"),
]
_ADAPTER: TypeAdapter[Recipe] = TypeAdapter(Recipe)


def load_recipe(path: Path, overrides: tuple[str, ...] = ()) -> Recipe:
    """Read one recipe.

    Args:
        path: YAML document.
        overrides: ``path.to.field=value`` strings; the values are read as YAML.

    Raises:
        RequestError: If the file cannot be read or a field is wrong; the message names the field.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise RequestError(f"cannot read the recipe {path}: {error}", "Give the path of a YAML recipe.") from error
    if not isinstance(document, dict):
        raise RequestError(f"the recipe {path} is not a mapping.", "See recipes/base for examples.")
    for override in overrides:
        _apply(document, override)
    try:
        return _ADAPTER.validate_python(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RequestError(
            f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}.", "Fix the field and run again.", field=where
        ) from error


def _apply(document: dict[str, Any], override: str) -> None:
    name, equals, value = override.partition("=")
    if not equals:
        raise RequestError(f"--set takes path=value; got {override!r}.", "For example --set optim.num_steps=200.")
    *parents, last = name.split(".")
    for parent in parents:
        document = document.setdefault(parent, {})
        if not isinstance(document, dict):
            raise RequestError(f"--set {name}: {parent} is not a group of fields.", "Look at the recipe's YAML.")
    document[last] = yaml.safe_load(value)
