"""The stages that make training data: rendered clips, and their latents."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from mova.checkpoints.layout import read_json, resolve_model
from mova.data.latents import channel_statistics, encode_shards, open_latents, write_timeline
from mova.data.marks import digest_kinds, digest_part
from mova.data.shards import render_shards
from mova.errors import CheckpointError
from mova.files import atomic_write
from mova.scenes.kinds import load_kinds
from mova.training.parallel import choose_device, choose_processes
from mova.training.recipe import OnStep, Recipe, digest_latent_files, digest_scenes
from mova.training.trainer import StepReport


class DataRecipe(Recipe):
    """A stage that makes clips, shard by shard."""

    num_clips: int = Field(ge=8)
    num_held_out: int = Field(default=96, ge=8)

    def shard_options(self, on_step: OnStep | None) -> dict[str, Any]:
        """How shards are made.

        Args:
            on_step: Receives the number of clips done.
        """

        def on_shard(done: int, total: int) -> None:
            if on_step is not None:
                on_step(StepReport(done, total, 0.0, {}))

        return {
            "world": self.world.world(),
            "processes": choose_processes(self.processes, choose_device(self.device)),
            "on_shard": on_shard,
        }


class RenderRecipe(DataRecipe):
    """Rendered clips for the codecs."""

    stage: Literal["render"] = "render"
    seed: int = 1
    clips_per_shard: int = Field(default=100, ge=8)

    def digest_inputs(self) -> dict[str, str]:
        """The kinds of scenes, as they are defined and drawn now."""
        return {"kinds of scenes": digest_kinds(load_kinds(self.world.kinds))}

    def digest_result(self) -> str:
        """Digest of the clips; empty if a run that replaced them was interrupted."""
        with suppress(CheckpointError):
            return digest_scenes(self.folder)
        return ""

    def run(self, on_step: OnStep | None = None) -> None:
        """Render training and held-out clips."""
        options = self.shard_options(on_step) | {"clips_per_shard": self.clips_per_shard}
        folder = self.folder / "scenes"
        render_shards(folder / "held_out", seed=self.seed + 1000, num_clips=self.num_held_out, **options)
        render_shards(folder / "train", seed=self.seed, num_clips=self.num_clips, **options)


class LatentsRecipe(DataRecipe):
    """Latents of many clips."""

    stage: Literal["latents"] = "latents"
    seed: int = 2
    clips_per_shard: int = Field(default=250, ge=8)
    codecs_from: str | None = Field(default=None, description="Checkpoint whose codecs to use; else those of this run.")

    def digest_inputs(self) -> dict[str, str]:
        """The codecs, and the kinds of scenes as they are defined and drawn now."""
        codecs = zip(("video codec", "audio codec"), self._codec_folders(), strict=True)
        kinds = digest_kinds(load_kinds(self.world.kinds))
        return {"kinds of scenes": kinds, **{name: digest_part(folder) for name, folder in codecs}}

    def digest_result(self) -> str:
        """Digest of the latents, their clock and their statistics; empty if a run that replaced them was interrupted."""
        with suppress(CheckpointError):
            return digest_latent_files(self.folder)
        return ""

    def run(self, on_step: OnStep | None = None) -> None:
        """Render and encode training and held-out clips; store the clock and the statistics of the latents."""
        video_codec, audio_codec = self._codec_folders()
        options = self.shard_options(on_step) | {
            "clips_per_shard": self.clips_per_shard,
            "video_codec": video_codec,
            "audio_codec": audio_codec,
        }
        folder = self.folder / "latents"
        encode_shards(folder / "held_out", seed=self.seed + 1000, num_clips=self.num_held_out, **options)
        encode_shards(folder / "train", seed=self.seed, num_clips=self.num_clips, **options)
        with atomic_write(folder / "statistics.json") as beside:
            statistics = _statistics(folder, video_codec, audio_codec)
            beside.write_text(json.dumps(statistics, indent=1) + "\n", encoding="utf-8")
        write_timeline(folder, self.world.world().timeline(_config(video_codec), _config(audio_codec)))

    def _codec_folders(self) -> tuple[Path, Path]:
        if self.codecs_from is None:
            return self.folder / "video_codec" / "codec", self.folder / "audio_codec" / "codec"
        checkpoint = resolve_model(self.codecs_from)
        return checkpoint / "video_vae", checkpoint / "audio_vae"


def _statistics(folder: Path, video_codec: Path, audio_codec: Path) -> dict[str, list[float]]:
    """Statistics of the latents: those that the codecs bring along, else measured."""
    statistics: dict[str, list[float]] = {}
    latents = None
    for modality, codec in (("video", video_codec), ("audio", audio_codec)):
        config = _config(codec)
        mean, std = config.get("latents_mean"), config.get("latents_std")
        if mean is None or std is None:
            latents = latents or open_latents(folder / "train")
            mean, std = channel_statistics(getattr(latents, modality)[:2000])
        statistics |= {f"{modality}_mean": mean, f"{modality}_std": std}
    return statistics


def _config(codec: Path) -> dict[str, Any]:
    return read_json(codec / "config.json")
