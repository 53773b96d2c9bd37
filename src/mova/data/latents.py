"""Latents of rendered clips: what the joint network trains on. Rendered and encoded in one go, shard by shard, resumable.

A shard ``00012.safetensors`` holds ``video`` float16 ``[N, C, T, H, W]`` and ``audio`` float16 ``[N, C, L]`` as the codecs
give them (not normalised), with a :class:`~mova.data.marks.ShardMark` in its metadata, and ``00012.jsonl`` its scripts.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from mova.checkpoints.header import read_header
from mova.checkpoints.layout import read_json
from mova.checkpoints.meta import check_part
from mova.data.marks import ShardMark, digest, digest_bytes, digest_marks, digest_part, parse_mark
from mova.data.shards import World, describe, make_missing_shards, render_arrays, scripts_in, world_settings
from mova.errors import CheckpointError
from mova.files import atomic_write, read_text
from mova.models.codecs.audio import AudioCodec
from mova.models.codecs.video import VideoCodec
from mova.parsing import parse_json
from mova.runtime.threads import use_threads
from mova.timeline import Timeline

CLOCK = ("sample_rate", "video_stride", "audio_hop")


@dataclass(frozen=True)
class LatentSet:
    """All latents of a folder in memory, with their scripts."""

    video: Tensor
    audio: Tensor
    scripts: list[dict[str, Any]]


def encode_shards(
    folder: Path,
    *,
    video_codec: Path,
    audio_codec: Path,
    seed: int,
    num_clips: int,
    clips_per_shard: int,
    world: World,
    processes: int = 2,
    on_shard: Callable[[int, int], None] | None = None,
) -> None:
    """Render and encode ``num_clips`` clips into ``folder``, leaving alone the shards of these settings that are there.

    Shards of other settings, other codecs included, are replaced, and those of clips that are not asked for removed.

    Args:
        folder: Where the latents go.
        video_codec: Folder of the trained video codec.
        audio_codec: Folder of the trained audio codec.
        seed: Names the list of scripts.
        num_clips: Clips in all.
        clips_per_shard: Clips per file.
        world: Size, rates and kinds.
        processes: How many work side by side, with one thread each; one is this process itself.
        on_shard: Function called with (clips done, clips in all) after each shard.
    """
    codecs = {"video_codec": digest_part(video_codec), "audio_codec": digest_part(audio_codec)}
    settings = digest({"seed": seed, "world": world_settings(world), **codecs})
    make_missing_shards(
        folder,
        partial(_encode_shard, video_codec=video_codec, audio_codec=audio_codec, seed=seed, world=world, settings=settings),
        partial(_file, folder),
        settings=settings,
        read_mark=read_latent_mark,
        num_clips=num_clips,
        clips_per_shard=clips_per_shard,
        processes=processes,
        on_shard=on_shard,
    )


def open_latents(folder: Path) -> LatentSet:
    """Every shard of a folder, concatenated in order.

    Raises:
        CheckpointError: If a shard is broken.
    """
    videos, audios, scripts = [], [], []
    for path in _files_in(folder):
        try:
            read_header(path)  # of a regular file, as the library would wait for a pipe
            tensors = load_file(path)
            videos.append(tensors["video"])
            audios.append(tensors["audio"])
            scripts += [parse_json(line) for line in read_text(path.with_suffix(".jsonl"), max_bytes=2**30).splitlines()]
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise CheckpointError(f"{path} is broken: {error}.", "Remove the folder, and run its stage again.") from error
    return LatentSet(torch.cat(videos), torch.cat(audios), scripts)


def digest_latents(folder: Path) -> str:
    """Digest of the latents in a folder, and their scripts; empty if there are none.

    Raises:
        CheckpointError: If some are of other settings than the others.
    """
    return digest_marks(folder, [read_latent_mark(path) for path in _files_in(folder)])


def read_latent_mark(path: Path) -> ShardMark | None:
    """The mark of a file of latents; ``None`` if there is none."""
    try:
        with safe_open(path, "pt") as file:
            return parse_mark((file.metadata() or {}).get("made_from"))
    except (OSError, SafetensorError):
        return None


def write_timeline(folder: Path, timeline: Timeline) -> None:
    """Store the clock of the latents in a folder beside them."""
    values = {"fps": str(timeline.fps), **{name: getattr(timeline, name) for name in CLOCK}}
    with atomic_write(folder / "clock.json") as beside:
        beside.write_text(json.dumps(values) + "\n", encoding="utf-8")


def read_timeline(folder: Path) -> Timeline:
    """The clock of the latents in a folder.

    Raises:
        CheckpointError: If the stage that makes them has not ended.
    """
    path = folder / "clock.json"
    values = read_json(path, otherwise=f"there is no {path}: run the latents stage first.")
    try:
        return Timeline(Fraction(values["fps"]), **{name: values[name] for name in CLOCK})
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(f"{path} is broken: {error}.", "Run the latents stage again.") from error


def read_codec(cls: Any, folder: Path) -> Any:
    """A codec that a stage has trained, of a class of diffusers' kind.

    Raises:
        CheckpointError: If it is missing, broken, or stored as a pickle.
    """
    check_part(folder)
    return cls.from_pretrained(folder, use_safetensors=True, local_files_only=True)


def channel_statistics(latents: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of ``[N, C, ...]``."""
    flat = latents.transpose(0, 1).flatten(1).float()
    return flat.mean(dim=1).tolist(), flat.std(dim=1).tolist()


def _encode_shard(
    path: Path,
    first: int,
    count: int,
    *,
    video_codec: Path,
    audio_codec: Path,
    seed: int,
    world: World,
    settings: str,
) -> int:
    video_model = read_codec(VideoCodec, video_codec).eval()
    audio_model = read_codec(AudioCodec, audio_codec).eval()
    videos, audios = [], []
    scripts = list(scripts_in(seed, first, count, world))
    for start in range(0, count, 16):
        frames, waveforms = render_arrays(scripts[start : start + 16], world)
        with torch.inference_mode(), use_threads(1, is_exact=False):
            video = torch.from_numpy(frames).permute(0, 4, 1, 2, 3).float() / 127.5 - 1.0
            audio = torch.from_numpy(waveforms)[:, None].float() / 32767.0
            videos.append(video_model.encode(video).latent_dist.mode().half())
            audios.append(audio_model.encode(audio).latent_dist.mode().half())
    lines = "\n".join(json.dumps(describe(script)) for script in scripts) + "\n"
    tensors = {"video": torch.cat(videos).contiguous(), "audio": torch.cat(audios).contiguous()}
    content = digest([digest_bytes(lines.encode()), *(digest_bytes(tensor.numpy().tobytes()) for tensor in tensors.values())])
    with atomic_write(path.with_suffix(".jsonl")) as beside:
        beside.write_text(lines, encoding="utf-8")
    with atomic_write(path) as beside:
        save_file(tensors, beside, metadata={"made_from": ShardMark(settings, first, count, content).as_json()})
    return count


def _files_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*.safetensors"))


def _file(folder: Path, index: int) -> Path:
    return folder / f"{index:05d}.safetensors"
