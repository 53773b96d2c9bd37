"""How much is said: ``--quiet`` and ``--verbose``, options of every command, which set the level of the logger ``mova``."""

from __future__ import annotations

import logging
from typing import Annotated, Any

import typer

from mova.cli import console

_PANEL = "How much is said"


def add_verbosity(command: Any) -> Any:
    """Give a command and all below it the two options, and return it."""
    options = typer.Typer(add_completion=False)
    options.command()(_take)
    command.params.extend(option for option in typer.main.get_command(options).params if option.name in ("quiet", "verbose"))
    for inner in getattr(command, "commands", {}).values():
        add_verbosity(inner)
    return command


def _be_quiet(is_given: bool) -> bool:
    if is_given:
        console.start_talking(logging.WARNING)
    return is_given


def _be_verbose(is_given: bool) -> bool:
    if is_given:
        console.start_talking(logging.DEBUG)
        logging.basicConfig(level=logging.INFO, handlers=console.LOG.handlers)
    return is_given


def _take(
    *,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet",
            "-q",
            help="Say nothing but warnings and errors, and show no progress.",
            callback=_be_quiet,
            expose_value=False,
            rich_help_panel=_PANEL,
        ),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            "-v",
            help="Also say what libraries log, and where an error comes from.",
            callback=_be_verbose,
            expose_value=False,
            rich_help_panel=_PANEL,
        ),
    ] = False,
) -> None:
    """Declares the options; it is never run."""
