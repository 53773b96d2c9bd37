"""The API reference in ``docs/reference``: made from the docstrings, committed, and up to date."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import griffe
import pytest

DOCS = Path(__file__).parents[2] / "docs"
SOURCE = '''
from typing import NamedTuple
from pydantic import BaseModel, Field

class Size(NamedTuple):
    """The size of a :class:`~some.module.Clip`, as :func:`measure` gives it.

    Args:
        width: Width in pixels.
        height: Height in pixels.
    """

    width: int
    height: int = 16

class Wanted(BaseModel):
    """What is wanted."""

    seed: int | None = Field(default=None, ge=0, le=9, description="Seed of the video.")
'''


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def source() -> Iterator[griffe.Module]:
    extensions = griffe.load_extensions(load("docstrings").Docstrings)
    with griffe.temporary_visited_package("sizes", {"__init__.py": SOURCE}, extensions=extensions) as module:
        yield module


def test_the_committed_reference_says_what_the_docstrings_say() -> None:
    pages = load("make_reference").reference()
    assert {f"reference/{path.name}" for path in (DOCS / "reference").glob("*.md")} == set(pages)
    stale = [path for path, text in pages.items() if (DOCS / path).read_text(encoding="utf-8") != text]
    assert not stale, f"run `make reference` and commit {', '.join(stale)}"


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} - {"index.md"}
    assert not {page for page in pages if f"]({page})" not in index}


def test_roles_become_code(source: griffe.Module) -> None:
    assert source["Size"].docstring.value.startswith("The size of a `Clip`, as `measure` gives it.")


def test_a_named_tuple_has_the_arguments_of_its_fields(source: griffe.Module) -> None:
    parameters = source["Size"].parameters
    assert [(one.name, str(one.annotation), one.default) for one in parameters][1:] == [
        ("width", "int", None),
        ("height", "int", "16"),
    ]


def test_a_field_says_its_limits_and_its_default(source: griffe.Module) -> None:
    seed = source["Wanted.seed"]
    assert seed.docstring.value == "Seed of the video. At least 0, at most 9."
    assert seed.value == "None"
