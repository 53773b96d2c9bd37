"""How good a clip is, whatever it shows; packages of the extra ``eval`` are imported where they are used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from mova.errors import MissingExtraError

EXTRA = "eval"


def from_extra(module: str) -> Any:
    """Import a module of a package that the extra ``eval`` brings.

    Raises:
        MissingExtraError: If the package is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(module.partition(".")[0], EXTRA) from error
