"""The command line as a user runs it: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from warm_python import COMMAND_LINE, ENVIRONMENT, WarmPython

from mova.checkpoints.layout import BASE_NAME, INDEX, resolve_model

Mova = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def warm_python() -> Iterator[WarmPython]:
    python = WarmPython()
    yield python
    python.close()


@pytest.fixture
def mova(warm_python: WarmPython, tmp_path: Path) -> Mova:
    """Runs ``mova`` with some arguments in an empty folder; what it imports has been imported before."""

    def run(*arguments: str, timeout: float = 600.0) -> subprocess.CompletedProcess[str]:
        return warm_python.run(COMMAND_LINE, arguments, folder=tmp_path, timeout=timeout)

    return run


@pytest.fixture
def cold_mova(tmp_path: Path) -> Mova:
    """Runs ``mova`` as a shell would; it imports what it needs, which takes seconds."""

    def run(*arguments: str, timeout: float = 600.0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mova.cli.app", *arguments]
        return subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, **ENVIRONMENT},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def base_folder() -> Path:
    """The shipped model; it is part of the package, so its absence is a failure and not a skip."""
    folder = resolve_model(BASE_NAME)
    assert (folder / INDEX).is_file()
    return folder
