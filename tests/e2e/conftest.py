"""The command line as a user runs it: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mova.checkpoints.layout import BASE_NAME, INDEX, resolve_model

Mova = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def mova(tmp_path: Path) -> Mova:
    """Runs ``mova`` with some arguments in an empty folder."""

    def run(*arguments: str, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-m", "mova.cli.app", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )

    return run


@pytest.fixture(scope="session")
def base_folder() -> Path:
    """The shipped model; it is part of the package, so its absence is a failure and not a skip."""
    folder = resolve_model(BASE_NAME)
    assert (folder / INDEX).is_file()
    return folder
