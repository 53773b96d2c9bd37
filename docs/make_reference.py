"""Write the API reference from the docstrings, as Markdown that reads without a site.

    python docs/make_reference.py       # or: make reference

``PAGES`` is the only list of what the reference shows. The pages in ``docs/reference`` are committed, and a test compares them
with the docstrings. The site (``mkdocs.yml``) loads this file as a hook, which puts mkdocstrings' directives in place of
their text.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import griffe

ROOT = Path(__file__).parents[1]
FOLDER = "reference"
LINE = 100
"""Longest signature, in characters, that is not broken into one argument a line."""
_STARS = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}


class Page(NamedTuple):
    """A page of the reference.

    Args:
        name: Name of its file, without the suffix.
        title: Heading.
        about: What it is for, in a sentence or two.
        names: What it documents: classes and functions, or modules with everything public in them.
    """

    name: str
    title: str
    about: str
    names: tuple[str, ...]


PAGES = (
    Page(
        "model",
        "Models, requests and clips",
        "What most programs need: load a model, ask for a clip, save it.",
        (
            "mova.MOVAModel",
            "mova.GenerationRequest",
            "mova.request.schema.Keyframe",
            "mova.request.schema.Retake",
            "mova.request.schema.Cue",
            "mova.request.reading.PromptReading",
            "mova.Clip",
            "mova.RuntimeOptions",
        ),
    ),
    Page("pipeline", "The pipeline", "The same model in diffusers' words, for batches and research.", ("mova.MOVAPipeline",)),
    Page("errors", "Errors", "What can go wrong, and the exit codes of the command line.", ("mova.errors",)),
    Page("timeline", "The clock", "Seconds, frames, samples and latents, converted exactly.", ("mova.timeline",)),
    Page(
        "sampling",
        "Tasks, guidance, solvers",
        "The parts of the sampling loop that can be replaced one by one.",
        (
            "mova.sampling.task",
            "mova.request.terms",
            "mova.sampling.guidance",
            "mova.sampling.solvers",
        ),
    ),
    Page("scenes", "Scenes", "Rendered clips whose events have exact times.", ("mova.scenes",)),
    Page(
        "measures",
        "Measures",
        "Sync in milliseconds, faults of clips, quality with and without learned weights.",
        (
            "mova.lab.sync.measure",
            "mova.lab.sync.pairing",
            "mova.lab.clapper",
            "mova.media.health.gate",
            "mova.lab.quality.video",
            "mova.lab.quality.audio",
            "mova.lab.quality.fidelity",
            "mova.lab.quality.metric",
            "mova.lab.quality.plugins",
        ),
    ),
)


def reference() -> dict[str, str]:
    """Every page as Markdown, by its path in ``docs``.

    Raises:
        KeyError: If a name of ``PAGES`` does not exist, or is a module without anything public.
    """
    package = griffe.load(
        "mova",
        search_paths=[ROOT / "src"],
        docstring_parser="google",
        extensions=griffe.load_extensions(f"{Path(__file__).with_name('docstrings.py')}:Docstrings"),
    )

    def entry(name: str) -> str:
        try:
            found = package[name.removeprefix("mova.")]
        except KeyError:
            raise KeyError(f"{name} does not exist; change its line in PAGES of {__file__}.") from None
        if found.is_module and not any(_is_shown(member) for member in found.members.values()):
            raise KeyError(f"{name} has nothing public of its own; change its line in PAGES of {__file__}.")
        return "\n\n".join(_entry(found, name, level=2))

    return {f"{FOLDER}/{page.name}.md": _page(page, entry) for page in PAGES}


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """For mkdocs: the text of a page; those of the reference are made by mkdocstrings."""
    ours = {f"{FOLDER}/{page.name}.md": page for page in PAGES}.get(page.file.src_uri)
    return markdown if ours is None else _page(ours, "::: {}".format)


def _page(page: Page, entry: Callable[[str], str]) -> str:
    note = "<!-- Made from the docstrings: change them in src and run `make reference`. -->"
    return "\n\n".join([f"# {page.title}", note, page.about, *map(entry, page.names)]) + "\n"


def _entry(found: griffe.Object | griffe.Alias, name: str, *, level: int) -> Iterator[str]:
    """What is to be said of an object, as blocks of Markdown: heading, signature, docstring, members."""
    yield f"{'#' * level} `{name}`"
    if found.is_function or (found.is_class and found.parameters):
        yield f"```py\n{_signature(found)}\n```"
    yield from _docstring(found)
    members = [member for member in found.all_members.values() if _is_shown(member)]
    attributes = [_item(one, "\n\n".join(_docstring(one)), one.value) for one in members if one.is_attribute]
    if attributes:
        is_property = all("property" in one.labels for one in members if one.is_attribute)
        yield "**Constants**" if found.is_module else "**Properties**" if is_property else "**Fields**"
        yield "\n".join(attributes)
    for member in members:
        if not member.is_attribute:
            yield from _entry(member, member.name, level=level + 1)


def _is_shown(member: griffe.Object | griffe.Alias) -> bool:
    """Whether a member is public and says what it is; modules are shown only where ``PAGES`` names them."""
    return bool(member.is_public and not member.is_module and member.docstring)


def _signature(found: griffe.Object | griffe.Alias) -> str:
    parts = []
    for parameter in found.parameters:
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is griffe.ParameterKind.keyword_only and not any(part.startswith("*") for part in parts):
            parts.append("*")
        annotation = "" if parameter.annotation is None else f": {parameter.annotation}"
        default = "" if parameter.default is None or parameter.kind in _STARS else f" = {parameter.default}"
        parts.append(f"{_STARS.get(parameter.kind, '')}{parameter.name}{annotation}{default}")
    returns = f" -> {found.returns}" if found.is_function and found.returns is not None else ""
    line = f"{found.name}({', '.join(parts)}){returns}"
    return line if len(line) <= LINE else f"{found.name}(\n    " + ",\n    ".join(parts) + f",\n){returns}"


def _docstring(found: griffe.Object | griffe.Alias) -> Iterator[str]:
    for section in found.docstring.parsed if found.docstring else ():
        match section.kind:
            case griffe.DocstringSectionKind.text:
                yield section.value
            case griffe.DocstringSectionKind.examples:
                for kind, text in section.value:
                    yield text if kind is griffe.DocstringSectionKind.text else f"```pycon\n{text}\n```"
            case kind:
                yield f"**{kind.value.capitalize()}**"
                yield "\n".join(_item(one, one.description, getattr(one, "value", None)) for one in section.value)


def _item(one: Any, text: str, default: Any) -> str:
    """A line of a list: name, type, default and what it is."""
    facts = [] if one.annotation is None else [f"`{one.annotation}`"]
    if default is not None and len(str(default)) <= LINE:
        facts.append(f"default `{default}`")
    name = f"`{one.name}`" if getattr(one, "name", "") else ""
    shown = ", ".join(facts)
    head = f"{name} ({shown})" if name and shown else name or shown
    return textwrap.indent(f"{head}: {text}", "  ").replace("  ", "- ", 1)


if __name__ == "__main__":
    for path, text in reference().items():
        (ROOT / "docs" / path).write_text(text, encoding="utf-8")
