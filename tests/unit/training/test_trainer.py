"""The loop resumes as if nothing had happened, alone or in two processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor, nn

from mova.errors import CheckpointError, MovaError
from mova.training.trainer import OptimSettings, learning_rate_factor, load_averaged, run_training


class Line:
    """Fits y = x W to a fixed W: an objective small enough to run hundreds of times."""

    def __init__(self, width: int = 3, broken_at: int | None = None) -> None:
        torch.manual_seed(0)
        self.modules = nn.ModuleDict({"line": nn.Linear(width, 2)})
        self.width, self.broken_at = width, broken_at

    def is_matrix(self, name: str) -> bool:
        return name.endswith("weight")

    def loss(self, step: int, num_steps: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        x = torch.randn(8, self.width, generator=generator)
        loss = (self.modules["line"](x) - x[:, :2]).square().mean()
        return (loss * float("nan") if step == self.broken_at else loss), {}

    def validate(self, step: int, ema: nn.ModuleDict, folder: Path) -> dict[str, float]:
        return {"norm": float(ema["line"].weight.norm())}


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


def test_averaged_weights_load_into_fresh_modules(tmp_path: Path) -> None:
    averaged = run_training(Line(), settings(), tmp_path)
    fresh = Line().modules
    assert load_averaged(fresh, tmp_path) == 20
    assert torch.equal(fresh["line"].weight, averaged["line"].weight)


def test_a_loss_that_is_not_finite_stops_the_run_and_says_where(tmp_path: Path) -> None:
    with pytest.raises(MovaError, match="nan at step 3"):
        run_training(Line(broken_at=3), settings(), tmp_path)


def test_a_state_of_another_model_is_refused(tmp_path: Path) -> None:
    run_training(Line(), settings(5), tmp_path)
    with pytest.raises(CheckpointError, match="another model"):
        run_training(Line(width=4), settings(), tmp_path)


def test_the_rate_warms_up_holds_and_falls_to_zero() -> None:
    recipe = OptimSettings(num_steps=100, warmup_steps=10, decay_from=0.5)
    factors = [learning_rate_factor(step, recipe) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[20] == factors[49] == 1.0
    assert factors[100] == pytest.approx(0.0, abs=1e-9)
    assert all(a >= b for a, b in zip(factors[50:], factors[51:], strict=False))


def _two(rank: int, store: str, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    averaged = run_training(Line(), settings(), Path(folder))
    from safetensors.torch import save_file

    save_file({"weight": averaged["line"].weight.detach().clone()}, f"{folder}-{rank}.safetensors")
    torch.distributed.destroy_process_group()


def test_two_processes_keep_equal_weights(tmp_path: Path) -> None:
    mp.start_processes(_two, args=(str(tmp_path / "store"), str(tmp_path / "run")), nprocs=2, start_method="spawn")
    from safetensors.torch import load_file

    first, second = (load_file(tmp_path / f"run-{rank}.safetensors")["weight"] for rank in (0, 1))
    assert torch.equal(first, second)
