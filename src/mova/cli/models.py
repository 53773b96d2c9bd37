"""``mova models``: the models on this machine, and where they are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mova.checkpoints.layout import BASE_NAME, INDEX, resolve_model
from mova.cli import console
from mova.errors import CheckpointError


def run(*, is_json: bool) -> None:
    """List the shipped model and those of the Hugging Face cache."""
    from huggingface_hub.constants import HF_HUB_CACHE

    found = _shipped() + _cached(Path(HF_HUB_CACHE))
    if is_json:
        console.facts_json({"models": found, "cache": HF_HUB_CACHE})
        return
    rows = [(one["name"], console.quantity_text(one["bytes"], "B"), one["folder"]) for one in found]
    console.table(("model", "on disk", "folder"), rows, left=(0, 2))
    console.say(f"downloads are kept in {HF_HUB_CACHE}; HF_HOME chooses another folder")


def _shipped() -> list[dict[str, Any]]:
    try:
        folder = resolve_model(BASE_NAME)
    except CheckpointError:  # an installation without weights
        return []
    return [_facts(BASE_NAME, folder)]


def _cached(cache: Path) -> list[dict[str, Any]]:
    """Repositories of the hub in a cache folder that hold a model; their layout is models--OWNER--NAME/snapshots/REVISION."""
    indices = sorted(cache.glob(f"models--*/snapshots/*/{INDEX}"))
    return [_facts(path.parents[2].name.removeprefix("models--").replace("--", "/"), path.parent) for path in indices]


def _facts(name: str, folder: Path) -> dict[str, Any]:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {"name": name, "folder": str(folder), "bytes": size}
