"""Bradley-Terry with ties, fitted to many tables of counts at once.

Davidson (1970), "On Extending the Bradley-Terry Model to Accommodate Ties in Paired Comparison Experiments", JASA 65,
eq. 2.3: with strengths ``exp(s_i)`` and a tie parameter ``nu``, in a meeting of i and j

    P(i wins) : P(j wins) : P(tie)  =  exp(s_i) : exp(s_j) : nu exp((s_i + s_j) / 2).

``nu = 0`` is Bradley and Terry's model. The log-likelihood is concave in ``(s, log nu)``, so Newton's method with step
halving finds its only maximum; a bootstrap is one call with a row per resample.

Shape suffixes used in this file:
    B tables, K players, P unordered pairs of players, G parameters (K strengths and log nu).
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RIDGE = 0.01
"""Weight of ``sum(s**2) + log(nu)**2`` taken off the log-likelihood, so that an undefeated player stays finite."""
_MAX_STEPS = 200
_MAX_HALVINGS = 40


class Counts(NamedTuple):
    """Results by unordered pair, in the order of :func:`pairs_of`; each ``[B, P]``, non-negative."""

    first_wins: Floats
    second_wins: Floats
    ties: Floats


class Fit(NamedTuple):
    """``strengths`` ``[B, K]`` with mean 0, in natural units, and ``nu`` ``[B]``, 0 where a table has no ties."""

    strengths: Floats
    nu: Floats


def pairs_of(num_players: int) -> npt.NDArray[np.int64]:
    """``[P, 2]``: all pairs ``i < j`` of players, in the order of every table here."""
    return np.array(list(combinations(range(num_players), 2)), dtype=np.int64).reshape(-1, 2)


def fit(counts: Counts, num_players: int, *, ridge: float = RIDGE) -> Fit:
    """The strengths and the tie parameter that maximise the likelihood of each table, less the ridge.

    Args:
        counts: Results, ``[B, P]`` each.
        num_players: K, at least 2.
        ridge: Positive; with 0 a table in which a player never loses has no maximum.

    Raises:
        ValueError: If shapes or values do not fit, or the search does not end (which a positive ridge excludes).
    """
    pairs = pairs_of(num_players)
    _check(counts, len(pairs), ridge)
    design_PK = np.zeros((len(pairs), num_players))
    design_PK[np.arange(len(pairs)), pairs[:, 0]] = 0.5
    design_PK[np.arange(len(pairs)), pairs[:, 1]] = -0.5
    has_ties = counts.ties.sum(axis=1) > 0
    parameters_BG = np.zeros((len(has_ties), num_players + 1))
    parameters_BG[:, -1] = _first_log_nu(counts)
    value = _objective(parameters_BG, counts, design_PK=design_PK, ridge=ridge, has_ties=has_ties)
    scale = 1.0 + sum(table.sum(axis=1) for table in counts)
    for _ in range(_MAX_STEPS):
        gradient, hessian = _derivatives(parameters_BG, counts, design_PK=design_PK, ridge=ridge, has_ties=has_ties)
        if np.all(np.abs(gradient).max(axis=1) <= 1e-11 * scale):
            break
        step = np.linalg.solve(hessian, -gradient[:, :, None])[:, :, 0]
        length = np.ones(len(step))
        for _ in range(_MAX_HALVINGS):
            ahead = parameters_BG + length[:, None] * step
            value_ahead = _objective(ahead, counts, design_PK=design_PK, ridge=ridge, has_ties=has_ties)
            is_worse = value_ahead < value - 1e-12 * scale
            if not is_worse.any():
                break
            length[is_worse] /= 2
        parameters_BG, value = ahead, value_ahead
    else:
        raise ValueError(f"no maximum found in {_MAX_STEPS} steps; ridge={ridge}.")
    strengths = parameters_BG[:, :-1]
    strengths = strengths - strengths.mean(axis=1, keepdims=True)
    return Fit(strengths, np.where(has_ties, np.exp(parameters_BG[:, -1]), 0.0))


def _check(counts: Counts, num_pairs: int, ridge: float) -> None:
    shape = counts.first_wins.shape
    if num_pairs < 1 or len(shape) != 2 or shape[1] != num_pairs or any(table.shape != shape for table in counts):
        raise ValueError(f"counts must be [tables, {num_pairs}] each; got {[table.shape for table in counts]}.")
    if any(not np.isfinite(table).all() or (table < 0).any() for table in counts):
        raise ValueError("counts must be finite and not negative.")
    if not ridge >= 0:
        raise ValueError(f"ridge must not be negative; got {ridge}.")


def _first_log_nu(counts: Counts) -> Floats:
    """``log nu`` if all players were equal: ties are then the share ``nu / (2 + nu)``."""
    ties = counts.ties.sum(axis=1)
    wins = counts.first_wins.sum(axis=1) + counts.second_wins.sum(axis=1)
    nu = 2.0 * ties / np.maximum(wins, 0.5)
    return np.log(np.where(nu > 0, nu, 1.0))


def _log_odds(parameters_BG: Floats, *, design_PK: Floats, has_ties: npt.NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """Half the difference of strengths ``[B, P]``, ``log nu`` ``[B, 1]`` (-inf without ties), log of the sum of odds."""
    half_BP = parameters_BG[:, :-1] @ design_PK.T
    log_nu_B1 = np.where(has_ties, parameters_BG[:, -1], -np.inf)[:, None]
    return half_BP, log_nu_B1, np.logaddexp(np.logaddexp(half_BP, -half_BP), log_nu_B1)


def _objective(
    parameters_BG: Floats, counts: Counts, *, design_PK: Floats, ridge: float, has_ties: npt.NDArray[np.bool_]
) -> Floats:
    half_BP, _, log_sum_BP = _log_odds(parameters_BG, design_PK=design_PK, has_ties=has_ties)
    met_BP = counts.first_wins + counts.second_wins + counts.ties
    log_likelihood = ((counts.first_wins - counts.second_wins) * half_BP - met_BP * log_sum_BP).sum(axis=1)
    log_likelihood += counts.ties.sum(axis=1) * parameters_BG[:, -1]
    value: Floats = log_likelihood - ridge * (parameters_BG**2).sum(axis=1)
    return value


def _derivatives(
    parameters_BG: Floats, counts: Counts, *, design_PK: Floats, ridge: float, has_ties: npt.NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """Gradient ``[B, G]`` and Hessian ``[B, G, G]`` of the objective."""
    half_BP, log_nu_B1, log_sum_BP = _log_odds(parameters_BG, design_PK=design_PK, has_ties=has_ties)
    met_BP = counts.first_wins + counts.second_wins + counts.ties
    lead_BP = np.exp(half_BP - log_sum_BP) - np.exp(-half_BP - log_sum_BP)  # P(first wins) - P(second wins)
    tie_BP = np.exp(log_nu_B1 - log_sum_BP)
    num_tables, num_parameters = parameters_BG.shape
    gradient = np.empty((num_tables, num_parameters))
    gradient[:, :-1] = (counts.first_wins - counts.second_wins - met_BP * lead_BP) @ design_PK
    gradient[:, -1] = (counts.ties - met_BP * tie_BP).sum(axis=1)
    gradient -= 2.0 * ridge * parameters_BG
    hessian = np.empty((num_tables, num_parameters, num_parameters))
    curvature_BP = met_BP * (1.0 - tie_BP - lead_BP**2)
    hessian[:, :-1, :-1] = -(design_PK.T * curvature_BP[:, None, :]) @ design_PK
    hessian[:, :-1, -1] = hessian[:, -1, :-1] = (met_BP * lead_BP * tie_BP) @ design_PK
    hessian[:, -1, -1] = -(met_BP * tie_BP * (1.0 - tie_BP)).sum(axis=1)
    hessian -= 2.0 * ridge * np.eye(num_parameters)
    if ridge == 0:
        # the likelihood knows differences only: tie the mean down without moving the maximum
        hessian[:, :-1, :-1] -= 1.0
    # without ties there is no such parameter: keep it where it is
    gradient[~has_ties, -1] = 0.0
    hessian[~has_ties, -1, :] = hessian[~has_ties, :, -1] = 0.0
    hessian[~has_ties, -1, -1] = -1.0
    return gradient, hessian
