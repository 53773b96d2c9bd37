"""The command line: the table of commands. Nothing heavy is imported before a command is known."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mova.cli import console
from mova.errors import MovaError

app = typer.Typer(
    name="mova",
    help="Video and its sound, made together.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)
scenes_app = typer.Typer(help="The rendered world that mova-base learns from.", no_args_is_help=True)
app.add_typer(scenes_app, name="scenes")


@app.command()
def train(
    recipes: Annotated[list[Path], typer.Argument(help="YAML recipes, run in this order.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a field of every recipe: optim.num_steps=200.")
    ] = None,
) -> None:
    """Train from recipes; the same command resumes after an interruption."""
    from mova.cli.train import run

    run(recipes, tuple(set_ or ()))


def main() -> None:
    """Run the command line; a user's mistake is two lines and an exit code, never a traceback."""
    try:
        app()
    except MovaError as problem:
        console.error(problem)
        sys.exit(problem.exit_code)
    except KeyboardInterrupt:
        console.say("interrupted")
        sys.exit(130)


if __name__ == "__main__":
    main()
