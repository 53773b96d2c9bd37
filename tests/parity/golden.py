"""Golden tensors of the reference implementation; ``golden/README.md`` says what each case holds and how it was made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mova.models.joint import official_to_ours

GOLDEN = Path(__file__).parent / "golden"


def load_case(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Description and tensors of a case, e.g. ``"case1_video_dit"``; a case of JSON only has no tensors."""
    described = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    tensors = GOLDEN / f"{name}.safetensors"
    return described, load_file(tensors) if tensors.exists() else {}


def pick(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors whose name starts with ``prefix``, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def load_official(model: nn.Module, component: str, weights: dict[str, Tensor]) -> None:
    """Puts official weights into a JointModel; every name must be known and of the right shape."""
    renamed = {official_to_ours(component, name): value for name, value in weights.items()}
    result = model.load_state_dict(renamed, strict=False)
    assert not result.unexpected_keys


def deviation(ours: Tensor, golden: Tensor) -> float:
    """max |a - b| / max(1, max |b|), and the shapes must be equal."""
    assert ours.shape == golden.shape
    return float((ours - golden).abs().max() / golden.abs().max().clamp(min=1.0))


def assert_close(ours: Tensor, golden: Tensor, limit: float = 1e-5) -> None:
    """Within the fixtures' limit for single modules."""
    assert deviation(ours, golden) <= limit


def build(config: dict[str, Any]) -> Any:
    """A JointModel on the meta device first would hide missing weights: built for real, filled with NaN."""
    from mova.models.joint import JointModel

    model = JointModel(**config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    return model.eval()
