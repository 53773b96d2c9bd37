"""The cost of a clip counts the passes that a run of the same request makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mova.checkpoints.load import Components
from mova.checkpoints.save import save_checkpoint
from mova.cli.plan import CostEstimate, estimate_cost, parse_bytes, parse_speed
from mova.errors import RequestError
from mova.generation.model import MOVAModel
from mova.pipeline import MOVAPipeline
from mova.request.plan import resolve
from mova.request.schema import GenerationRequest


@pytest.fixture(scope="module")
def folder(tiny_components: Components, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("plan") / "tiny", tiny_components)


def request(**values: Any) -> GenerationRequest:
    return GenerationRequest(prompt="a ball", seed=1, num_frames=5, num_inference_steps=4, **values)


def cost_of(folder: Path, components: Components, **values: Any) -> CostEstimate:
    return estimate_cost(folder, resolve(request(**values), components.index.capabilities))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"guidance_scale": 1.0},
        {"cross_guidance_scale": 2.0, "solver": "heun"},
        {"self_guidance_scale": 2.0},
        {"guidance_scale": 1.0, "audio_guidance_scale": 4.0, "audio_self_guidance_scale": 1.0},
        {"guidance_from": 0.8, "guidance_to": 0.5},
        {"guidance_from": 0.8, "self_guidance_scale": 1.0, "self_guidance_from": 1.0, "self_guidance_to": 0.9, "shift": 4.0},
        {"guidance_scale": 0.0, "guidance_rescale": 0.5},
    ],
    ids=str,
)
def test_the_passes_of_a_plan_are_those_of_the_run(folder: Path, tiny_components: Components, values: dict[str, Any]) -> None:
    passes: list[int] = []  # branches that share a pass are a batch
    hook = tiny_components.transformer.register_forward_pre_hook(lambda _, inputs: passes.append(len(inputs[0])))
    try:
        MOVAModel(MOVAPipeline.from_components(tiny_components)).run(request(**values))
    finally:
        hook.remove()
    cost = cost_of(folder, tiny_components, **values)
    assert cost.evaluations == sum(passes)
    assert cost.branches in cost.velocities


def test_a_perturbed_pass_and_a_step_outside_the_intervals_cost_less(folder: Path, tiny_components: Components) -> None:
    plain, text = cost_of(folder, tiny_components, guidance_scale=1.0), cost_of(folder, tiny_components)
    own = cost_of(folder, tiny_components, guidance_scale=1.0, self_guidance_scale=1.0)
    assert plain.velocity_flops < own.velocity_flops < text.velocity_flops == 2 * plain.velocity_flops
    late = cost_of(folder, tiny_components, guidance_from=0.5)
    assert late.velocity_flops == text.velocity_flops and late.evaluations < text.evaluations
    assert plain.stage_flops["denoise"] < late.stage_flops["denoise"] < text.stage_flops["denoise"]
    assert late.ways == text.ways  # memory is that of the widest step


def test_a_number_without_its_unit_is_refused() -> None:
    with pytest.raises(RequestError, match="--flops: takes operations a second") as speed:
        parse_speed("400")
    with pytest.raises(RequestError, match="--gpu-memory: takes a number of bytes") as size:
        parse_bytes("24")
    assert "400TFLOPS" in speed.value.hint and "24GB" in size.value.hint
    assert (parse_speed("4e14"), parse_speed("400T"), parse_bytes("24GB")) == (4e14, 4e14, 24_000_000_000)
