"""The loop resumes as if nothing had happened, alone or in two processes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mova.errors import CheckpointError, MovaError
from mova.training.objective import Objective
from mova.training.parallel import device_of_rank, run_in_processes
from mova.training.trainer import OptimSettings, compute_learning_rate_factor, run_training, step_seed, warm_up_ema


class Line(Objective):
    """Fits y = x W to a fixed W: an objective small enough to run hundreds of times."""

    def __init__(self, width: int = 3, broken_at: int | None = None) -> None:
        torch.manual_seed(0)
        # the second module takes part in every third step only
        self.modules = nn.ModuleDict({"line": nn.Linear(width, 2), "now_and_then": nn.Linear(width, 2)})
        self.width, self.broken_at = width, broken_at

    def loss(self, step: int, num_steps: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        x = torch.randn(8, self.width, generator=generator)
        loss = (self.modules["line"](x) - x[:, :2]).square().mean()
        if step % 3 == 0:
            loss = loss + (self.modules["now_and_then"](x) - x[:, 1:3]).square().mean()
        return (loss * float("nan") if step == self.broken_at else loss), {}

    def validate(self, step: int, averaged: nn.ModuleDict, folder: Path) -> dict[str, float]:
        return {"norm": float(averaged["line"].weight.detach().norm())}


def settings(num_steps: int = 20) -> OptimSettings:
    return OptimSettings(num_steps=num_steps, save_every=5, validate_every=10, warmup_steps=2, muon_lr=0.02, adam_lr=0.01)


def test_a_run_that_dies_between_checkpoints_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = run_training(Line(), settings(), tmp_path / "whole")

    def die(report: object) -> None:
        if report.step == 13:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_training(Line(), settings(), tmp_path / "cut", on_step=die)
    resumed = run_training(Line(), settings(), tmp_path / "cut")
    assert torch.equal(whole["line"].weight, resumed["line"].weight)


def test_a_finished_run_trains_no_further(tmp_path: Path) -> None:
    run_training(Line(), settings(), tmp_path)
    steps: list[object] = []
    run_training(Line(), settings(), tmp_path, on_step=steps.append)
    assert steps == []


def test_a_finished_run_gives_its_averaged_weights_again(tmp_path: Path) -> None:
    averaged = run_training(Line(), settings(), tmp_path)
    again = run_training(Line(), settings(), tmp_path)
    assert torch.equal(again["line"].weight, averaged["line"].weight)
    assert not torch.equal(averaged["line"].weight, Line().modules["line"].weight)


def test_the_average_forgets_the_first_weights_and_follows_the_decay_later(tmp_path: Path) -> None:
    update = warm_up_ema(0.5)
    values = [torch.tensor([10.0])]
    update(values, [torch.tensor([0.0])], torch.tensor(1))
    assert values[0].item() == pytest.approx(10 * 2 / 11)
    values = [torch.tensor([10.0])]
    update(values, [torch.tensor([0.0])], torch.tensor(1000))
    assert values[0].item() == pytest.approx(5.0)


def test_what_needs_no_gradient_stays_as_it_is(tmp_path: Path) -> None:
    objective = Line()
    objective.modules["now_and_then"].requires_grad_(False)
    before = objective.modules["now_and_then"].weight.clone()
    averaged = run_training(objective, settings(), tmp_path)
    assert torch.equal(averaged["now_and_then"].weight, before)


def test_a_loss_that_is_not_finite_stops_the_run_and_says_where(tmp_path: Path) -> None:
    with pytest.raises(MovaError, match="nan at step 3"):
        run_training(Line(broken_at=3), settings(), tmp_path)


def test_a_state_of_another_model_is_refused(tmp_path: Path) -> None:
    run_training(Line(), settings(5), tmp_path)
    with pytest.raises(CheckpointError, match="another model"):
        run_training(Line(width=4), settings(), tmp_path)


def test_the_rate_warms_up_holds_and_falls_to_zero() -> None:
    recipe = OptimSettings(num_steps=100, warmup_steps=10, decay_from=0.5)
    factors = [compute_learning_rate_factor(step, recipe) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[20] == factors[49] == 1.0
    assert factors[100] == pytest.approx(0.0, abs=1e-9)
    assert all(a >= b for a, b in zip(factors[50:], factors[51:], strict=False))


def _train_until_it_breaks(folder: Path, device: str, on_report: object) -> None:
    run_training(Line(broken_at=13), settings(), folder / "cut")


def _train_to_the_end(folder: Path, device: str, on_report: object) -> None:
    rank = torch.distributed.get_rank()
    for name in ("cut", "whole"):
        save_file(run_training(Line(), settings(), folder / name).state_dict(), folder / f"{name}-{rank}.safetensors")
    line = Line()
    # no clipping, so that the gradient that is left is the mean itself
    run_training(line, settings(1).model_copy(update={"grad_clip": 1e9}), folder / "step")
    save_file({"gradient": line.modules["line"].weight.grad}, folder / f"gradient-{rank}.safetensors")


@pytest.fixture(scope="module")
def trained_in_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes wrote that broke down and began again: a start of processes takes seconds, so there are only two."""
    folder = tmp_path_factory.mktemp("two")
    with pytest.raises(Exception, match="nan at step 13"):
        run_in_processes(partial(_train_until_it_breaks, folder), 2, "cpu", None)
    run_in_processes(partial(_train_to_the_end, folder), 2, "cpu", None)
    return folder


def test_two_processes_keep_equal_weights_and_resume_bit_for_bit(trained_in_two: Path) -> None:
    first, *others = (load_file(trained_in_two / f"{name}-{rank}.safetensors") for name in ("whole", "cut") for rank in (0, 1))
    for other in others:
        assert first.keys() == other.keys() and all(torch.equal(first[name], other[name]) for name in first)


def test_two_processes_train_on_the_mean_of_their_gradients(trained_in_two: Path) -> None:
    gradients = []
    for rank in (0, 1):
        line = Line()
        loss, _ = line.loss(0, 20, torch.Generator().manual_seed(step_seed(0, 0, rank)))
        loss.backward()
        gradients.append(line.modules["line"].weight.grad)
    for rank in (0, 1):
        found = load_file(trained_in_two / f"gradient-{rank}.safetensors")["gradient"]
        assert torch.allclose(found, (gradients[0] + gradients[1]) / 2, atol=1e-7)


def test_processes_take_the_gpus_in_order() -> None:
    assert [device_of_rank("cuda", rank) for rank in (0, 1)] == ["cuda:0", "cuda:1"]
    assert device_of_rank("cpu", 1) == "cpu"
