from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from mova.models.codecs.audio_vae import DacVae
from mova.models.joint import JointModel, ours_to_official
from mova.models.presets import BASE, MOVA_360P
from mova.models.tower import TowerConfig

COUNTS = {"video_dit": 14_288_901_184, "audio_dit": 1_419_193_472, "dual_tower_bridge": 2_659_737_600}
Keys = dict[str, dict[str, list[int]]]


@pytest.fixture(scope="module")
def official_keys(golden_folder: Path) -> Keys:
    """Shape of every tensor, by component and official name."""
    keys: Keys = json.loads((golden_folder / "state_dict_keys.json").read_text(encoding="utf-8"))
    return keys


def test_full_size_network_has_the_official_parameter_counts() -> None:
    counts = dict.fromkeys(COUNTS, 0)
    for (component, _), shape in official_shapes().items():
        counts[component] += math.prod(shape)
    assert counts == COUNTS


def test_full_size_network_has_exactly_the_official_names_and_shapes(official_keys: Keys) -> None:
    listed = {(component, key): tuple(shape) for component in COUNTS for key, shape in official_keys[component].items()}
    assert official_shapes() == listed


def test_full_size_audio_vae_has_exactly_the_official_names_and_shapes(official_keys: Keys) -> None:
    with torch.device("meta"):
        vae = DacVae()
    listed = {key: tuple(shape) for key, shape in official_keys["audio_vae"].items()}
    assert {key: tuple(value.shape) for key, value in vae.state_dict().items()} == listed


def test_base_is_a_model_of_a_few_million_weights() -> None:
    with torch.device("meta"):
        model = JointModel(**BASE)
    assert 2e6 < sum(p.numel() for p in model.parameters()) < 12e6


def official_shapes() -> dict[tuple[str, str], tuple[int, ...]]:
    with torch.device("meta"):
        model = JointModel(**MOVA_360P)
    return {ours_to_official(name): tuple(value.shape) for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "value"), [("num_layers", 0), ("ffn_dim", 1.5), ("dim", None), ("num_heads", True), ("in_dim", "16")]
)
def test_a_wrong_size_of_a_tower_is_refused_by_its_name(name: str, value: object) -> None:
    sizes = {"dim": 48, "num_heads": 2, "ffn_dim": 96, "num_layers": 2, "in_dim": 4, "out_dim": 4, "text_dim": 32}
    assert TowerConfig.from_dict(sizes).dim == 48
    with pytest.raises(ValueError, match=f"{name} must be a positive whole number; got {value!r}"):
        TowerConfig.from_dict({**sizes, name: value})
