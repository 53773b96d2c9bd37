"""A solver of another package: written in one file, used by the pipeline, by requests and in plans."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mova.checkpoints.load import Components
from mova.errors import RequestError
from mova.generation.model import MOVAModel
from mova.pipeline import MOVAPipeline
from mova.request.plan import resolve
from mova.request.schema import GenerationRequest
from mova.request.solver_names import EVALUATIONS, evaluation_points, list_solvers
from mova.sampling.guidance import branches_of_run
from mova.sampling.solvers import SOLVERS, SolverSpec, SolverState, Step, Velocity, add_solver, euler, find_solver
from mova.sampling.task import AVTensors

SHORT = {"seed": 1, "num_frames": 5, "num_inference_steps": 5}


def step_every_other(
    velocity: Velocity, latents: AVTensors, step: Step, state: SolverState | None
) -> tuple[AVTensors, SolverState | None]:
    """Euler's method with a velocity for two steps."""
    slope = velocity(latents, step.index) if state is None else state.prediction
    moved = [x + v * (to - start) for x, v, to, start in zip(latents, slope, step.sigma_to, step.sigma_from, strict=True)]
    return AVTensors(*moved), SolverState(step, slope) if state is None else None


EVERY_OTHER = SolverSpec(step_every_other, evaluations=lambda num_steps: tuple(range(0, num_steps, 2)))


@pytest.fixture
def every_other() -> Iterator[str]:
    add_solver("every_other", EVERY_OTHER)
    yield "every_other"
    del SOLVERS["every_other"], EVALUATIONS["every_other"]


def test_it_makes_clips_by_name_and_costs_what_the_plan_says(tiny_components: Components, every_other: str) -> None:
    model = MOVAModel(MOVAPipeline.from_components(tiny_components))
    calls: list[int] = []
    hook = tiny_components.transformer.register_forward_hook(lambda *_: calls.append(1))
    clip = model.generate("rain", solver=every_other, **SHORT)
    hook.remove()
    assert clip.request is not None and clip.request["solver"] == every_other
    pipeline = model.pipeline
    plan = resolve(GenerationRequest(prompt="rain", solver=every_other, **SHORT), pipeline.capabilities)
    velocities = branches_of_run(plan, pipeline.scheduler.schedule_config)
    assert len(velocities) == len(evaluation_points(every_other, 5)) == 3
    # both evaluations of a velocity share a forward pass where tokens are few
    assert len(calls) == 3 and {len(branches) for branches in velocities} == {2}
    assert every_other in list_solvers()


def test_the_pipeline_takes_its_name_its_function_or_its_spec(tiny_components: Components, every_other: str) -> None:
    pipeline = MOVAPipeline.from_components(tiny_components)
    by_name, by_spec, by_function, other = (
        pipeline("rain", solver=solver, output_type="latent", **SHORT)
        for solver in (every_other, EVERY_OTHER, step_every_other, "euler")
    )
    assert torch.equal(by_name.frames, by_spec.frames) and torch.equal(by_name.audio, by_function.audio)
    assert not torch.equal(by_name.frames, other.frames)


def test_an_entry_point_names_one_without_any_call(
    tiny_components: Components, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_solvers.py").write_text(
        "from mova.sampling.solvers import SolverSpec, euler\n"
        "TWICE = SolverSpec(euler, evaluations=lambda num_steps: tuple(range(num_steps)))\n"
    )
    metadata = tmp_path / "their_solvers-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: their-solvers\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[mova.solvers]\ntheirs = their_solvers:TWICE\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "theirs" in list_solvers()
    assert evaluation_points("theirs", 3) == (0, 1, 2)
    pipeline = MOVAPipeline.from_components(tiny_components)
    ours, theirs = (pipeline("rain", solver=name, output_type="latent", **SHORT) for name in ("euler", "theirs"))
    assert torch.equal(ours.frames, theirs.frames)
    assert GenerationRequest(prompt="rain", solver="theirs").solver == "theirs"


def test_an_unknown_name_is_refused_with_those_that_are_known(tiny_components: Components, every_other: str) -> None:
    known = "'euler', 'heun', 'adams', 'dpmpp', 'unipc' or 'every_other'"
    with pytest.raises(RequestError, match=f"solver must be one of {known}; got 'magic'"):
        GenerationRequest(prompt="rain", solver="magic")
    with pytest.raises(RequestError, match=r"solver must be one of euler, .*, every_other; got 'magic'"):
        find_solver("magic")
    with pytest.raises(KeyError, match="magic"):
        evaluation_points("magic", 3)


def test_two_solvers_cannot_have_one_name(every_other: str) -> None:
    add_solver(every_other, EVERY_OTHER)  # again, as by a module that is loaded twice
    with pytest.raises(ValueError, match="another solver named every_other"):
        add_solver(every_other, SolverSpec(euler))
