"""Cue channels in training: their labels, those of rendered clips, which of them a sample shows, and networks that take them.

The labels are fixed, with their order, when a run's network is first built, and stored beside it. A checkpoint says them in its
own index, so a model keeps its channels whatever kinds of scenes are added later.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mova.checkpoints.layout import read_index, resolve_model
from mova.errors import CheckpointError, RequestError
from mova.files import atomic_write, read_text
from mova.models.joint import JointModel
from mova.models.text import Instant, cue_condition
from mova.parsing import parse_json
from mova.scenes.kind import Kind
from mova.scenes.kinds import labels_of
from mova.timeline import Timeline
from mova.training.noise_maps import NoiseSettings
from mova.training.parallel import process_rank


def choose_labels(run: Path, kinds: Iterable[Kind], *, start_from: str | None = None) -> tuple[str, ...]:
    """Labels of the cue channels of a run.

    Args:
        run: Folder of the run.
        kinds: Kinds of the recipe's scenes.
        start_from: Checkpoint that the run goes on from: its labels come first and keep their order.

    Returns:
        Those that the run began with; else those of the checkpoint and, after them, what the kinds add.

    Raises:
        RequestError: If the run began without one of the kinds' labels.
    """
    if not _file(run).is_file():
        return labels_of(kinds, () if start_from is None else read_index(resolve_model(start_from)).capabilities.cues)
    labels = read_labels(run)
    for label in labels_of(kinds):
        if label not in labels:
            raise RequestError(
                f"the run in {run} began without the label {label!r}.", "Begin with these kinds in another folder."
            )
    return labels


def check_labels(scripts: Iterable[Mapping[str, Any]], labels: tuple[str, ...]) -> None:
    """Refuse clips whose events have other labels.

    Raises:
        RequestError: If a described script has an event of another label.
    """
    strange = {event[3] for script in scripts for event in script["events"]}.difference(labels)
    if strange:
        raise RequestError(
            f"the clips have events labelled {', '.join(sorted(strange))}, which no kind of the recipe names.",
            "Give world.kinds as in the recipe that made the clips.",
        )


def save_labels(run: Path, labels: tuple[str, ...]) -> None:
    """Store the labels that a run begins with; one of several processes writes."""
    if process_rank()[0] == 0:
        _file(run).parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(_file(run)) as beside:
            beside.write_text(json.dumps(list(labels)) + "\n", encoding="utf-8")


def read_labels(run: Path) -> tuple[str, ...]:
    """The labels that a run began with.

    Raises:
        CheckpointError: If it has none.
    """
    try:
        return tuple(parse_json(read_text(_file(run))))
    except FileNotFoundError as missing:
        raise CheckpointError(f"{_file(run)} is missing.", "Run the stage joint first.") from missing


def _file(run: Path) -> Path:
    return run / "joint" / "labels.json"


UNLABELLED = 8
"""One clip in so many has cues without labels, so that a user need not know the labels."""


def cue_channels(
    scripts: Sequence[Mapping[str, Any]], labels: Sequence[str], *, num_latents: int, timeline: Timeline
) -> Tensor:
    """Cue channels of clips ``[N, C', T]`` from the events of their scripts, for some clips without labels.

    Args:
        scripts: Described scripts.
        labels: Labels of the network, in its order.
        num_latents: Video latents of a clip.
        timeline: Clock of the clips.
    """
    return torch.stack(
        [
            cue_condition(
                cues_of(script, has_labels=index % UNLABELLED != 0),
                labels,
                num_latents=num_latents,
                fps=timeline.fps,
                stride=timeline.video_stride,
            )
            for index, script in enumerate(scripts)
        ]
    )


def cues_of(script: Mapping[str, Any], *, has_labels: bool = True) -> list[Instant]:
    """When something is seen in a described script, and what."""
    return [(event[0], event[3] if has_labels else "") for event in script["events"]]


def sample_cue_mask(batch: int, num_latents: int, noise: NoiseSettings, generator: torch.Generator) -> Tensor:
    """``[B, T]`` bool: the latents whose cues are given: none, all, or those of a beginning."""
    device = generator.device
    dice, partial = torch.rand(2, batch, generator=generator, device=device)
    cut = torch.randint(1, num_latents, (batch,), generator=generator, device=device)
    length = torch.where(partial < noise.partial_cues, cut, num_latents)
    length = torch.where(dice < noise.drop_cues, 0, length)
    return torch.arange(num_latents, device=device) < length[:, None]


def with_channels(network: JointModel, channels: int) -> JointModel:
    """The same network with so many conditioning channels beside the video's; new ones change nothing at first."""
    video = dict(network.config["video"])
    video["in_dim"] = video["out_dim"] + channels
    wider: JointModel = JointModel(
        **{**{name: network.config[name] for name in ("audio", "bridge", "rope_dtype")}, "video": video}
    )
    weights = network.state_dict()
    patch = weights["video_embed.patch_embedding.weight"][:, : video["in_dim"]]
    fresh = patch.new_zeros(patch.shape[0], video["in_dim"] - patch.shape[1], *patch.shape[2:])
    weights["video_embed.patch_embedding.weight"] = torch.cat([patch, fresh], dim=1)
    wider.load_state_dict(weights)
    return wider
