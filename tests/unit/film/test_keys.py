"""The key of a model says everything that changes what it makes, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mova.checkpoints.layout import BASE_NAME, resolve_model
from mova.errors import MediaError
from mova.film.cache import model_key_of
from mova.runtime.options import RuntimeOptions


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    path = tmp_path / "style.safetensors"
    path.write_bytes(b"first")
    return path


def test_number_format_quantisation_and_loras_make_another_key(lora: Path, tmp_path: Path) -> None:
    folder = resolve_model(BASE_NAME)
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"second")
    keys = [
        model_key_of(folder),
        model_key_of(folder, runtime=RuntimeOptions(dtype="bfloat16")),
        model_key_of(folder, runtime=RuntimeOptions(quantisation="fp8")),
        model_key_of(folder, runtime=RuntimeOptions(vae_tiling=True)),
        *(model_key_of(folder, loras=[(file, scale)]) for file in (lora, other) for scale in (1.0, 0.5)),
        model_key_of(folder, loras=[(lora, 1.0), (other, 1.0)]),
    ]
    assert len(set(keys)) == len(keys)


def test_names_order_offloading_and_a_lora_without_strength_do_not(lora: Path, tmp_path: Path) -> None:
    folder = resolve_model(BASE_NAME)
    plain = model_key_of(folder)
    assert model_key_of(folder, runtime=RuntimeOptions(offload="component", device="cpu")) == plain
    assert model_key_of(folder, loras=[(lora, 0.0)]) == plain
    moved = Path(shutil.copy(lora, tmp_path / "moved.safetensors"))
    (tmp_path / "style").mkdir()
    shutil.copy(lora, tmp_path / "style")
    wanted = model_key_of(folder, loras=[(lora, 0.5)])
    assert {model_key_of(folder, loras=[(path, 0.5)]) for path in (moved, tmp_path / "style")} == {wanted}
    pair = [(lora, 1.0), (moved, 0.5)]
    assert model_key_of(folder, loras=pair) == model_key_of(folder, loras=pair[::-1])


def test_a_lora_that_is_not_there_is_refused() -> None:
    with pytest.raises(MediaError, match=r"nosuch\.safetensors"):
        model_key_of(resolve_model(BASE_NAME), loras=[(Path("nosuch.safetensors"), 1.0)])
