"""The last stage: trained parts to a checkpoint folder with its model card."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

from mova.checkpoints.layout import INDEX, OFFICIAL_CLASSES, Index, read_json, resolve_model
from mova.checkpoints.load import Components
from mova.checkpoints.meta import check_part
from mova.checkpoints.save import save_checkpoint
from mova.checkpoints.tokenizer import check_tokenizer
from mova.data.latents import read_timeline
from mova.data.marks import digest_files, digest_part
from mova.errors import CheckpointError
from mova.models.codecs.audio import AudioCodec
from mova.models.codecs.video import VideoCodec
from mova.models.joint import JointModel
from mova.models.reader import PromptReader
from mova.request.plan import Capabilities
from mova.request.solver_names import SolverName
from mova.sampling.schedule import FlowMatchPairScheduler
from mova.scenes.kinds import load_kinds
from mova.training.cues import read_labels
from mova.training.recipe import OnStep, Recipe

TRAINED = ("audio_codec", "video_codec", "video_decoder", "joint", "planner", "reader")
LATENT_FACTS = ("statistics.json", "clock.json")
logger = logging.getLogger(__name__)


class ExportRecipe(Recipe):
    """The finished checkpoint folder."""

    stage: Literal["export"] = "export"
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

    def digest_inputs(self) -> dict[str, str]:
        """The parts, their labels, the clock and the statistics of the latents, and how each stage ended."""
        video_codec, audio_codec = _codec_folders(self)
        parts = {
            "video codec": video_codec,
            "audio codec": audio_codec,
            "joint": self.folder / "joint" / "joint",
            "text encoder": self.folder / "joint" / "text_encoder",
            "tokenizer": self.folder / "joint" / "tokenizer",
            "planner": self.folder / "planner" / "planner",
            "reader": _reader_folder(self),
        }
        files = [self.folder / "joint" / "labels.json", *(self.folder / "latents" / name for name in LATENT_FACTS)]
        logs = [self.folder / name / "metrics.jsonl" for name in TRAINED]
        return {
            **{name: digest_part(folder) for name, folder in parts.items()},
            "latents": digest_files(files),
            "training": digest_files(logs),
        }

    def digest_result(self) -> str:
        """Whether there is a checkpoint; its content does not count, since another run may have replaced it."""
        return "there" if (self.output / INDEX).is_file() else ""

    def run(self, on_step: OnStep | None = None) -> None:
        """Put the averaged weights of every stage into one checkpoint folder."""
        export(self)


def export(recipe: ExportRecipe) -> None:
    """Put the averaged weights of every stage into one checkpoint folder.

    Raises:
        CheckpointError: If a stage has not been run.
    """
    folder = recipe.folder
    video_codec, audio_codec = _codecs(recipe)
    network = _part(JointModel, folder / "joint" / "joint")
    labels = read_labels(folder) if network.config["video"]["in_dim"] > network.config["video"]["out_dim"] else ()
    planner = _planner(folder / "planner" / "planner") if labels else None
    reader = _prompt_reader(recipe)
    components = Components(
        transformer=network,
        transformer_2=None,
        video_vae=video_codec,
        audio_vae=audio_codec,
        text_encoder=_text_encoder(folder / "joint" / "text_encoder"),
        tokenizer=_tokenizer(folder / "joint" / "tokenizer"),
        scheduler=FlowMatchPairScheduler(
            num_train_timesteps=1000,
            shift=recipe.shift,
            sigma_max=1.0,
            sigma_min=0.0,
            extra_one_step=True,
            snap_to_training_grid=False,
        ),
        cue_planner=planner,
        prompt_reader=reader,
        index=Index(
            classes=_classes(has_planner=planner is not None, has_reader=reader is not None),
            capabilities=replace(_world(recipe), cues=labels),
        ),
    )
    card = model_card(recipe, components)
    save_checkpoint(recipe.output, components, dtype=getattr(torch, recipe.dtype), extra_files={"README.md": card})


def model_card(recipe: ExportRecipe, components: Components) -> str:
    """The card that travels with the weights: what it is, what it was made from, its limits and licence."""
    folder = recipe.folder
    counts: dict[str, Any] = {
        "joint network": components.transformer,
        "text encoder": components.text_encoder,
        "video codec": components.video_vae,
        "audio codec": components.audio_vae,
        **({} if components.cue_planner is None else {"cue planner": components.cue_planner}),
        **({} if components.prompt_reader is None else {"prompt reader": components.prompt_reader}),
    }
    sizes = {name: sum(p.numel() for p in module.parameters()) / 1e6 for name, module in counts.items()}
    parameters = "\n".join(f"| {name} | {size:.2f} M |" for name, size in sizes.items())
    kinds = "\n".join(dict.fromkeys(f"- **{kind.name}**: {kind.description}" for kind in load_kinds(recipe.world.kinds)))
    earlier = _earlier_lines(recipe)
    own = [_stage_line(folder, name) for name in TRAINED if (folder / name / "metrics.jsonl").exists()]
    stages = "\n".join([*earlier, *(line for line in own if line not in earlier)])
    recipes = "`recipes/base`, then `recipes/continue`" if earlier else "`recipes/base`"
    world = recipe.world
    return f"""---
license: {recipe.licence}
library_name: mova
pipeline_tag: text-to-video
tags: [text-to-audio-video, flow-matching, rendered-data]
---
# mova-base

A small joint text-to-video-and-sound model: {world.width}x{world.height} pixels, {world.fps} frames per second,
{world.num_frames} frames ({world.num_frames / world.fps:.4f} s), mono audio at {world.sample_rate} Hz.
It was trained from nothing by `mova train` ({recipes}), on clips that the same repository renders, with exact
event times. No recorded video, audio or human text was used. Its numbers against ground truth are printed by
`python benchmarks/base_model.py` and kept in `benchmarks/results/`.

| part | parameters |
|---|---|
{parameters}

## What it knows

{kinds}

## Training

| stage | steps | seconds per step | last losses |
|---|---|---|---|
{stages}

Optimiser Muon and AdamW; averaged (EMA) weights are shipped as {recipe.dtype}. Recipes: {recipes}.

## Limits

It knows the kinds above and nothing else: any other prompt gives a clip of one of them, or a mixture. It makes one size and
one frame rate. It was trained on clips of one length: shorter ones are cut, longer ones window by window. It
does not know speech, music or real pictures.

## Licence

Apache-2.0, as the code. The training data is rendered by this repository and carries no other rights.
"""


def _earlier_lines(recipe: ExportRecipe) -> list[str]:
    """The stages that the card of the checkpoint names from which this run went on."""
    card = None if recipe.codecs_from is None else resolve_model(recipe.codecs_from) / "README.md"
    if card is None or not card.is_file():
        return []
    return re.findall(r"^\| \S+/\S+ \| \d+ \|.*$", card.read_text(encoding="utf-8"), re.MULTILINE)


def _stage_line(folder: Path, name: str) -> str:
    lines = (folder / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    last, count = records[-1], len(records)
    pace = sorted(record["seconds_per_step"] for record in records)[count // 2]
    hidden = ("step", "seconds_per_step", "grad_norm", "loss")
    losses = ", ".join(f"{key} {value:.3f}" for key, value in last.items() if key not in hidden)
    return f"| {folder.name}/{name} | {last['step']} | {pace:.2f} | {losses} |"


def _world(recipe: ExportRecipe) -> Capabilities:
    world, timeline = recipe.world, read_timeline(recipe.folder / "latents")
    return Capabilities(
        name="mova-base",
        sizes=((world.width, world.height),),
        default_size=(world.width, world.height),
        fps_range=(float(world.fps), float(world.fps)),
        default_fps=float(world.fps),
        max_frames=world.num_frames,
        max_continued_frames=recipe.max_continued_frames,
        default_frames=world.num_frames,
        min_grid_frames=world.num_frames,
        sample_rate=world.sample_rate,
        audio_hop=timeline.audio_hop,
        video_stride=timeline.video_stride,
        max_tokens=recipe.max_tokens,
        num_inference_steps=recipe.num_inference_steps,
        guidance_scale=recipe.guidance_scale,
        solver=recipe.solver,
        kinds=tuple(dict.fromkeys(kind.name for kind in load_kinds(world.kinds))),
    )


def _classes(*, has_planner: bool, has_reader: bool) -> dict[str, tuple[str, str]]:
    ours = {name: OFFICIAL_CLASSES[name] for name in ("video_dit", "audio_dit", "dual_tower_bridge", "scheduler")}
    planner = {"cue_planner": ("transformers", "UMT5ForConditionalGeneration")} if has_planner else {}
    reader = {"prompt_reader": ("mova", "PromptReader")} if has_reader else {}
    return (
        ours
        | planner
        | reader
        | {
            "video_vae": ("mova", "VideoCodec"),
            "audio_vae": ("mova", "AudioCodec"),
            "text_encoder": ("transformers", "UMT5EncoderModel"),
            "tokenizer": ("transformers", "PreTrainedTokenizerFast"),
        }
    )


def _codecs(recipe: ExportRecipe) -> tuple[Any, Any]:
    """Both codecs, with the latents' statistics in their configuration."""
    video, audio = _codec_folders(recipe)
    statistics = _read_json(recipe.folder / "latents" / "statistics.json")
    return (
        _with_statistics(_part(VideoCodec, video), statistics, "video"),
        _with_statistics(_part(AudioCodec, audio), statistics, "audio"),
    )


def _codec_folders(recipe: ExportRecipe) -> tuple[Path, Path]:
    folder = recipe.folder
    if recipe.codecs_from is None:
        video, audio = folder / "video_codec" / "codec", folder / "audio_codec" / "codec"
    else:
        checkpoint = resolve_model(recipe.codecs_from)
        video, audio = checkpoint / "video_vae", checkpoint / "audio_vae"
    return (video if recipe.video_codec is None else folder / recipe.video_codec / "codec"), audio


def _with_statistics(codec: Any, statistics: dict[str, list[float]], modality: str) -> Any:
    codec.register_to_config(latents_mean=statistics[f"{modality}_mean"], latents_std=statistics[f"{modality}_std"])
    return codec


def _part(cls: Any, folder: Path) -> Any:
    if not folder.is_dir():
        raise CheckpointError(f"there is no {folder}.", "Run the stage that makes it first.")
    check_part(folder)
    return cls.from_pretrained(folder, use_safetensors=True, local_files_only=True).eval()


def _text_encoder(folder: Path) -> Any:
    from transformers.models.umt5.modeling_umt5 import UMT5EncoderModel

    return _part(UMT5EncoderModel, folder)


def _planner(folder: Path) -> Any:
    """``None`` where none was trained: nothing is planned then, and cues are the user's alone."""
    from transformers.models.umt5.modeling_umt5 import UMT5ForConditionalGeneration

    return _part(UMT5ForConditionalGeneration, folder) if folder.is_dir() else None


def _reader_folder(recipe: ExportRecipe) -> Path:
    """That of this run; of a run that goes on from a checkpoint without training one, the checkpoint's."""
    own = recipe.folder / "reader" / "reader"
    return own if own.is_dir() or recipe.codecs_from is None else resolve_model(recipe.codecs_from) / "prompt_reader"


def _prompt_reader(recipe: ExportRecipe) -> Any:
    """``None`` where none was trained: prompts then go to the network as they are."""
    folder = _reader_folder(recipe)
    return _part(PromptReader, folder) if folder.is_dir() else None


def _tokenizer(folder: Path) -> Any:
    from transformers import PreTrainedTokenizerFast

    if not folder.is_dir():
        raise CheckpointError(f"there is no {folder}.", "Run the joint stage first.")
    check_tokenizer(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)


def _read_json(path: Path) -> dict[str, list[float]]:
    values: dict[str, list[float]] = read_json(path, otherwise=f"there is no {path}: run the latents stage first.")
    return values
