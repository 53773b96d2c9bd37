from __future__ import annotations

import tomllib
from pathlib import Path

from mova.errors import MissingExtraError
from mova.lab import quality
from mova.runtime import resolve, weights

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"


def test_every_extra_that_an_error_names_exists_and_brings_its_package() -> None:
    extras = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for extra, package in (
        (weights.EXTRA, "torchao"),
        (resolve.ATTENTION_EXTRA, "kernels"),
        (quality.EXTRA, "opencv"),
        (quality.EXTRA, "scikit-image"),
        (quality.EXTRA, "librosa"),
    ):
        assert any(requirement.startswith(package) for requirement in extras[extra])
        assert f'pip install "mova-av[{extra}]"' in MissingExtraError(package, extra).hint
