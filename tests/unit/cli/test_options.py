from __future__ import annotations

from mova.cli.options import with_flag_names
from mova.errors import RequestError


def test_only_fields_of_a_request_become_options() -> None:
    problem = RequestError("guidance_scale of my_tiny_model must fit num_inference_steps.", "A hint.", field="guidance_scale")
    typed = with_flag_names(problem)
    assert typed.message == "--guidance-scale: of my_tiny_model must fit --steps."
    assert typed.hint == "A hint."
