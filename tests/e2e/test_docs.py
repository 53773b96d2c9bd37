"""The Python of the docs and of the README runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from warm_python import WarmPython

ROOT = Path(__file__).parents[2]


def blocks() -> list[object]:
    found = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for number, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)):
            found.append(pytest.param(code, id=f"{page.stem}-{number}"))
    return found


@pytest.mark.parametrize("code", blocks())
def test_an_example_runs(code: str, warm_python: WarmPython, tmp_path: Path) -> None:
    done = warm_python.run(code, (), folder=tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr


def test_every_path_that_the_docs_name_exists() -> None:
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            assert link.startswith("http") or (page.parent / link).exists(), f"{page.name} links to {link}"
