"""Names of the solvers, and the points of a run at which each asks for a velocity: what a plan needs of them. No torch here.

The solvers themselves are in :mod:`mova.sampling.solvers`. One of another package is known by name once
:func:`mova.sampling.solvers.add_solver` was called for it, or through an entry point of the group ``mova.solvers`` that names
its :class:`~mova.sampling.solvers.SolverSpec`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Annotated, Any, Literal

from pydantic import AfterValidator
from pydantic_core import PydanticKnownError

SolverName = Literal["euler", "heun", "adams", "dpmpp", "unipc"]
Evaluations = Callable[[int], tuple[int, ...]]
"""From the number of steps to the points of the schedule at which a velocity is computed, in order; 0 is the first."""

ENTRY_POINTS = "mova.solvers"


def once_a_step(num_steps: int) -> tuple[int, ...]:
    """One velocity a step, at its beginning."""
    return tuple(range(num_steps))


def twice_a_step(num_steps: int) -> tuple[int, ...]:
    """A velocity at both ends of every step, but for the last, which has one at its beginning."""
    return tuple(point for step in range(num_steps) for point in (step, step + 1))[:-1]


EVALUATIONS: dict[str, Evaluations] = {
    "euler": once_a_step,
    "heun": twice_a_step,
    "adams": once_a_step,
    "dpmpp": once_a_step,
    "unipc": once_a_step,
}


def list_solvers() -> tuple[str, ...]:
    """Names of all solvers that a run can use."""
    return tuple(dict.fromkeys((*EVALUATIONS, *(point.name for point in entry_points(group=ENTRY_POINTS)))))


def _check_name(name: str) -> str:
    if name not in EVALUATIONS and name not in (known := list_solvers()):
        *first, last = map(repr, known)
        raise PydanticKnownError("literal_error", {"expected": f"{', '.join(first)} or {last}"})
    return name


KnownSolver = Annotated[str, AfterValidator(_check_name)]
"""Type of a field that holds the name of a solver."""


def load_solver(name: str) -> Any:
    """The :class:`~mova.sampling.solvers.SolverSpec` that an entry point names; ``None`` if there is no such entry point."""
    return next((point.load() for point in entry_points(group=ENTRY_POINTS, name=name)), None)


def evaluation_points(solver: str, num_steps: int) -> tuple[int, ...]:
    """Points of the schedule at which a run computes a guided velocity, in order.

    Raises:
        KeyError: If there is no solver of that name.
    """
    if solver in EVALUATIONS:
        return EVALUATIONS[solver](num_steps)
    spec = load_solver(solver)
    if spec is None:
        raise KeyError(solver)
    points: tuple[int, ...] = spec.evaluations(num_steps)
    return points
