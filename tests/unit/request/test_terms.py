"""The tables that requests, help and plans read without torch agree with the schema and with the sampler."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest

from mova.request.schema import GenerationRequest
from mova.request.solver_names import EVALUATIONS, SolverName, evaluation_points
from mova.request.terms import TERMS, read_interval, read_terms


def test_every_field_of_a_term_is_a_field_of_a_request_and_every_such_field_is_a_term_s() -> None:
    fields = {name for term in TERMS for name in (term.scale_field, term.audio_scale_field, *term.interval_fields)}
    asked = {name for name in GenerationRequest.model_fields if "guidance_" in name} - {"guidance_rescale"}
    assert fields == asked
    assert len({term.name for term in TERMS}) == len(TERMS)


def test_terms_are_read_from_a_request_and_follow_the_text_s_interval_without_one_of_their_own() -> None:
    request = GenerationRequest(
        prompt="rain", guidance_scale=4.0, audio_cross_guidance_scale=2.0, guidance_to=0.25, self_guidance_from=0.5
    )
    text, cross, own = read_terms(dict(request))
    assert (text.scale, text.audio_scale, text.interval) == (4.0, None, (0.25, 1.0))
    assert (cross.scale, cross.audio_scale, cross.interval) == (1.0, 2.0, (0.25, 1.0))
    assert (own.scale, own.interval) == (0.0, (0.25, 0.5))
    assert read_interval(TERMS[2], {"self_guidance_to": 0.0, "guidance_to": 0.25}) == (0.0, 1.0)
    assert read_terms({}) == TERMS


def test_outside_its_interval_a_term_leaves_the_velocity_as_it_is() -> None:
    text, _, own = read_terms(
        {"guidance_scale": 4.0, "audio_guidance_scale": 2.0, "self_guidance_scale": 1.0, "guidance_from": 0.5}
    )
    assert (text.scales(0.5), text.scales(0.6)) == ((4.0, 2.0), (1.0, 1.0))
    assert (own.scales(0.5), own.scales(0.6)) == ((1.0, 1.0), (0.0, 0.0))


def test_solvers_have_one_table_of_names() -> None:
    from mova.sampling.solvers import SOLVERS

    assert get_args(SolverName) == tuple(EVALUATIONS) == tuple(SOLVERS)
    assert all(SOLVERS[name].evaluations is EVALUATIONS[name] for name in SOLVERS)


@pytest.mark.parametrize(("solver", "points"), [("euler", (0, 1, 2)), ("heun", (0, 1, 1, 2, 2))])
def test_points_of_a_run_are_known_from_its_solver(solver: str, points: tuple[int, ...]) -> None:
    assert evaluation_points(solver, 3) == points


def test_terms_and_solvers_are_known_without_torch() -> None:
    code = (
        "import sys; from mova.request.schema import GenerationRequest; from mova.request.terms import read_terms;"
        "read_terms(dict(GenerationRequest(prompt='rain', solver='heun'))); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
