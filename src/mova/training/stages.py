"""From a recipe to work done: each stage builds its data and modules and hands them to the one loop.

``run_stage`` is called in one process per core (CPU) or once (GPU); see :mod:`mova.training.launch`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mova.checkpoints.layout import resolve_model
from mova.data.latents import LatentSet, channel_statistics, encode_shards, open_latents, read_timeline, write_timeline
from mova.data.shards import open_shards, render_shards
from mova.files import atomic_write
from mova.models.codecs.audio import AudioCodec
from mova.models.codecs.video import VideoCodec
from mova.models.conditions.cues import Instant, cue_condition, num_cue_channels
from mova.models.conditions.planner import build_cue_planner
from mova.models.joint import JointModel
from mova.models.presets import BASE
from mova.models.text_encoder import tokenise
from mova.sampling.task import Grid
from mova.scenes.captions import write_caption
from mova.scenes.kind import Kind
from mova.scenes.kinds import find_kind, load_kinds
from mova.scenes.script import MIN_GAP_S
from mova.timeline import Timeline
from mova.training.labels import check_labels, choose_labels, save_labels
from mova.training.noise_maps import ClipShape
from mova.training.objectives.codecs import AudioCodecObjective, VideoCodecObjective
from mova.training.objectives.joint import JointObjective, Normaliser
from mova.training.objectives.planner import PlannerObjective
from mova.training.precision import PlainAttention, choose_precision
from mova.training.processes import process_rank
from mova.training.recipe import (
    AudioCodecRecipe,
    JointRecipe,
    LatentsRecipe,
    PlannerRecipe,
    RenderRecipe,
    VideoCodecRecipe,
)
from mova.training.text import build_text_encoder, train_tokenizer
from mova.training.trainer import StepReport, run_training

UNLABELLED = 8
"""One clip in so many has cues without labels, so that a user need not know the labels."""

OnStep = Callable[[StepReport], None]
OnClips = Callable[[int, int], None]


def run_render(recipe: RenderRecipe, processes: int, on_clips: OnClips | None) -> None:
    """Render training and held-out clips for the codecs."""
    common: dict[str, Any] = {
        "clips_per_shard": recipe.clips_per_shard,
        "world": recipe.world.world(),
        "processes": processes,
        "on_shard": on_clips,
    }
    render_shards(recipe.folder / "scenes" / "held_out", seed=recipe.seed + 1000, num_clips=recipe.num_held_out, **common)
    render_shards(recipe.folder / "scenes" / "train", seed=recipe.seed, num_clips=recipe.num_clips, **common)


def run_video_codec(recipe: VideoCodecRecipe, device: str, on_step: OnStep | None) -> None:
    """Train the video codec and save its averaged weights, with the latents' statistics in its configuration."""
    scenes = recipe.folder / "scenes"
    torch.manual_seed(recipe.optim.seed)
    codec = VideoCodec(**recipe.codec) if recipe.start_from is None else VideoCodec.from_pretrained(_codec_folder(recipe))
    objective = VideoCodecObjective(
        codec,
        open_shards(scenes / "train"),
        open_shards(scenes / "held_out"),
        batch_size=recipe.batch_size,
        num_frames=recipe.num_frames,
        crop=recipe.crop,
        kl_weight=recipe.kl_weight,
        decoder_only_from=recipe.decoder_only_from,
        latent_noise=recipe.latent_noise,
        device=device,
    )
    averaged = run_training(objective, recipe.optim, recipe.folder / recipe.name, on_step=on_step)
    if process_rank()[0] == 0:
        save_module(averaged["codec"], recipe.folder / recipe.name / "codec")


def _codec_folder(recipe: VideoCodecRecipe) -> Path:
    """Where the codec is that a stage starts from: in this run, else in a checkpoint."""
    stage = recipe.folder / str(recipe.start_from) / "codec"
    return stage if stage.is_dir() else resolve_model(str(recipe.start_from)) / "video_vae"


def run_audio_codec(recipe: AudioCodecRecipe, device: str, on_step: OnStep | None) -> None:
    """Train the audio codec and save its averaged weights."""
    scenes = recipe.folder / "scenes"
    torch.manual_seed(recipe.optim.seed)
    objective = AudioCodecObjective(
        AudioCodec(**recipe.codec),
        open_shards(scenes / "train"),
        open_shards(scenes / "held_out"),
        batch_size=recipe.batch_size,
        kl_weight=recipe.kl_weight,
        device=device,
    )
    averaged = run_training(objective, recipe.optim, recipe.folder / "audio_codec", on_step=on_step)
    if process_rank()[0] == 0:
        save_module(averaged["codec"], recipe.folder / "audio_codec" / "codec")


def run_latents(recipe: LatentsRecipe, processes: int, on_clips: OnClips | None) -> None:
    """Render and encode training and held-out clips; write the statistics of the latents."""
    video_codec, audio_codec = recipe.folder / "video_codec" / "codec", recipe.folder / "audio_codec" / "codec"
    if recipe.codecs_from is not None:
        checkpoint = resolve_model(recipe.codecs_from)
        video_codec, audio_codec = checkpoint / "video_vae", checkpoint / "audio_vae"
    common: dict[str, Any] = {
        "video_codec": video_codec,
        "audio_codec": audio_codec,
        "clips_per_shard": recipe.clips_per_shard,
        "world": recipe.world.world(),
        "processes": processes,
        "on_shard": on_clips,
    }
    folder = recipe.folder / "latents"
    encode_shards(folder / "held_out", seed=recipe.seed + 1000, num_clips=recipe.num_held_out, **common)
    encode_shards(folder / "train", seed=recipe.seed, num_clips=recipe.num_clips, **common)
    write_json(folder / "statistics.json", _statistics(recipe, video_codec, audio_codec))
    write_timeline(folder, recipe.world.world().timeline(*(_config(codec) for codec in (video_codec, audio_codec))))


def _statistics(recipe: LatentsRecipe, video_codec: Path, audio_codec: Path) -> dict[str, list[float]]:
    """Statistics of the latents: those that the codecs bring along, else measured."""
    statistics: dict[str, list[float]] = {}
    latents = None
    for modality, codec in (("video", video_codec), ("audio", audio_codec)):
        config = _config(codec)
        mean, std = config.get("latents_mean"), config.get("latents_std")
        if mean is None or std is None:
            latents = latents or open_latents(recipe.folder / "latents" / "train")
            mean, std = channel_statistics(getattr(latents, modality)[:2000])
        statistics |= {f"{modality}_mean": mean, f"{modality}_std": std}
    return statistics


def _config(codec: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((codec / "config.json").read_text(encoding="utf-8"))
    return config


def clip_shape(joint: JointModel, latents: LatentSet, timeline: Timeline) -> ClipShape:
    """The size of the clips of a set of latents, in the tokens of a network."""
    frames, height, width = latents.video.shape[2:]
    _, *patch = joint.config["video"]["patch_size"]
    grid = Grid(frames=frames, height=height, width=width, audio_length=latents.audio.shape[2])
    return ClipShape(grid, timeline, patch=(patch[0], patch[1]))


def run_joint(recipe: JointRecipe, device: str, on_step: OnStep | None) -> None:
    """Train the joint network and the text encoder; save their averaged weights and the tokenizer."""
    folder = recipe.folder / "joint"
    folder.mkdir(parents=True, exist_ok=True)
    latents = open_latents(recipe.folder / "latents" / "train")
    held_out = open_latents(recipe.folder / "latents" / "held_out")
    kinds = load_kinds(recipe.world.kinds)
    captions = [caption for script in latents.scripts for caption in phrasings(script, recipe.phrasings, kinds)]
    labels = choose_labels(recipe.folder, kinds, start_from=recipe.start_from) if recipe.cues else ()
    torch.manual_seed(recipe.optim.seed)
    joint, text, tokenizer = _joint_parts(recipe, captions, labels)
    save_labels(recipe.folder, labels)
    dtype = choose_precision(recipe.precision, device)
    if device == "cpu" and dtype == torch.bfloat16:
        joint.set_attn_processor(PlainAttention())
    if recipe.compile:
        torch._dynamo.config.recompile_limit = 64  # two towers, levels per sample or per token, their numbers
        joint.compile_repeated_blocks()
    input_ids, masks = tokenise(tokenizer, [*captions, ""], recipe.max_tokens)
    held_out_ids, held_out_masks = tokenise(tokenizer, [s["caption"] for s in held_out.scripts], recipe.max_tokens)
    objective = JointObjective(
        joint,
        text,
        latents,
        held_out,
        input_ids=input_ids,
        masks=masks,
        cues=_cue_channels(joint, latents, recipe, labels),
        held_out_ids=held_out_ids,
        held_out_masks=held_out_masks,
        held_out_cues=_cue_channels(joint, held_out, recipe, labels),
        normaliser=read_normaliser(recipe.folder / "latents" / "statistics.json"),
        noise=recipe.noise,
        batch_size=recipe.batch_size,
        clip=clip_shape(joint, latents, read_timeline(recipe.folder / "latents")),
        audio_weight=recipe.audio_weight,
        dtype=dtype,
        device=device,
    )
    averaged = run_training(objective, recipe.optim, folder, on_step=on_step)
    if process_rank()[0] == 0:
        save_module(averaged["joint"], folder / "joint")
        save_module(averaged["text"], folder / "text_encoder")
        tokenizer.save_pretrained(folder / "tokenizer")


def run_planner(recipe: PlannerRecipe, device: str, on_step: OnStep | None) -> None:
    """Train the cue planner and save its averaged weights."""
    from transformers import PreTrainedTokenizerFast

    folder = recipe.folder / "joint" if recipe.tokenizer_from is None else resolve_model(recipe.tokenizer_from)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer")
    world = recipe.world.world()
    torch.manual_seed(recipe.optim.seed)
    planner = build_cue_planner(
        text_vocab=len(tokenizer),
        labels=choose_labels(recipe.folder, load_kinds(world.kinds), start_from=recipe.tokenizer_from),
        seconds=world.seconds,
        steps_per_s=recipe.steps_per_s,
        min_gap_s=MIN_GAP_S,
        left_open=recipe.left_open,
        width=recipe.width,
        num_layers=recipe.layers,
    )
    objective = PlannerObjective(
        planner, tokenizer, world, batch_size=recipe.batch_size, max_tokens=recipe.max_tokens, device=device
    )
    averaged = run_training(objective, recipe.optim, recipe.folder / "planner", on_step=on_step)
    if process_rank()[0] == 0:
        save_module(averaged["planner"], recipe.folder / "planner" / "planner")


def phrasings(script: Mapping[str, Any], count: int, kinds: Sequence[Kind] = ()) -> list[str]:
    """``count`` captions of a described script: its own, then others, the same ones every time.

    Args:
        script: From :func:`mova.data.shards.describe`.
        count: Captions, at least 1.
        kinds: Those that are not found by their name.
    """
    rng = np.random.default_rng(script["seed"])
    kind = next((one for one in kinds if one.name == script["kind"]), script["kind"])
    return [script["caption"], *(write_caption(find_kind(kind), script["attributes"], rng) for _ in range(count - 1))]


def _joint_parts(recipe: JointRecipe, captions: list[str], labels: tuple[str, ...]) -> tuple[Any, Any, Any]:
    """Network, text encoder and tokenizer: fresh, or those of a checkpoint."""
    channels = 0 if not recipe.cues else num_cue_channels(len(labels), stride=BASE["bridge"]["video_stride"])
    if recipe.start_from is not None:
        from mova.checkpoints.load import load_checkpoint

        parts = load_checkpoint(recipe.start_from)  # frozen, as for inference
        network = with_channels(parts.transformer, channels)
        return network.requires_grad_(True).train(), parts.text_encoder.requires_grad_(True).train(), parts.tokenizer
    tokenizer = train_tokenizer(captions, recipe.vocab_size)
    config = {part: {**BASE[part], **recipe.joint.get(part, {})} for part in ("video", "audio", "bridge")}
    config["video"]["in_dim"] = config["video"]["out_dim"] + channels
    text = build_text_encoder(len(tokenizer), recipe.text_width, recipe.text_layers)
    return JointModel(**config), text, tokenizer


def with_channels(network: JointModel, channels: int) -> JointModel:
    """The same network with a door for so many conditioning channels beside the video's; new ones change nothing at first."""
    video = dict(network.config["video"])
    video["in_dim"] = video["out_dim"] + channels
    wider: JointModel = JointModel(
        **{**{name: network.config[name] for name in ("audio", "bridge", "rope_dtype")}, "video": video}
    )
    weights = network.state_dict()
    door = weights["video_embed.patch_embedding.weight"][:, : video["in_dim"]]
    fresh = door.new_zeros(door.shape[0], video["in_dim"] - door.shape[1], *door.shape[2:])
    weights["video_embed.patch_embedding.weight"] = torch.cat([door, fresh], dim=1)
    wider.load_state_dict(weights)
    return wider


def _cue_channels(joint: JointModel, latents: LatentSet, recipe: JointRecipe, labels: tuple[str, ...]) -> Tensor:
    """Cue channels of clips ``[N, C', T]`` from the events of their scripts, for some clips without labels."""
    count, num_latents = len(latents.scripts), latents.video.shape[2]
    if not recipe.cues:
        return torch.zeros(count, 0, num_latents)
    check_labels(latents.scripts, labels)
    stride = joint.config["bridge"]["video_stride"]
    return torch.stack(
        [
            cue_condition(
                cues_of(script, has_labels=index % UNLABELLED != 0),
                labels,
                num_latents=num_latents,
                fps=recipe.world.fps,
                stride=stride,
            )
            for index, script in enumerate(latents.scripts)
        ]
    )


def cues_of(script: Mapping[str, Any], *, has_labels: bool = True) -> list[Instant]:
    """When something is seen in a described script, and what."""
    return [(event[0], event[3] if has_labels else "") for event in script["events"]]


def read_normaliser(path: Path) -> Normaliser:
    """Latent statistics as tensors."""
    statistics = json.loads(path.read_text(encoding="utf-8"))
    tensors: dict[str, Tensor] = {name: torch.tensor(values) for name, values in statistics.items()}
    return Normaliser(**tensors)


def save_module(module: Any, folder: Path) -> None:
    """``save_pretrained``, whole or not at all."""
    with atomic_write(folder) as beside:
        module.cpu().save_pretrained(beside)


def write_json(path: Path, value: Any) -> None:
    """Plain values, whole or not at all."""
    with atomic_write(path) as beside:
        beside.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
