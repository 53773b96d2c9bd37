"""Muon for weight matrices, AdamW for the rest, in one optimiser whose state is plain named tensors.

Muon (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks") replaces the momentum of a matrix by
the nearest orthogonal one, found by a Newton-Schulz iteration. torch.optim.Muon takes two-dimensional weights only; here a
convolution's kernel is flattened to [out, in * taps]. Weights of one shape are orthogonalised in one batched call.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mova.training.parallel import process_rank, sum_over_processes

Named = dict[str, torch.nn.Parameter]


class MuonAdamW:
    """Steps named parameters; ``state_tensors`` and ``load_state_tensors`` make it resumable from safetensors.

    Args:
        parameters: Trainable parameters by name.
        is_matrix: Says of a name whether Muon takes it (it must have two dimensions or more).
        muon_lr: Peak learning rate of Muon (the update has spectral norm about 1 before it).
        adam_lr: Peak learning rate of AdamW.
        momentum: Muon's momentum (Nesterov).
        betas: AdamW's decay rates.
        weight_decay: Decoupled decay of matrices, in units of the learning rate.
    """

    def __init__(
        self,
        parameters: Named,
        *,
        is_matrix: Callable[[str], bool],
        muon_lr: float,
        adam_lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        self.matrices = {n: p for n, p in parameters.items() if p.ndim >= 2 and is_matrix(n)}
        self.others = {n: p for n, p in parameters.items() if n not in self.matrices}
        self.muon_lr, self.adam_lr = muon_lr, adam_lr
        self.momentum, self.betas, self.weight_decay = momentum, betas, weight_decay
        self.first = {n: torch.zeros_like(p) for n, p in parameters.items()}
        self.second = {n: torch.zeros_like(p) for n, p in self.others.items()}
        self.num_steps = 0

    @torch.no_grad()
    def step(self, scale: float) -> None:
        """Update every parameter that has a gradient; ``scale`` is the schedule's factor on both learning rates."""
        self.num_steps += 1
        self._step_matrices(self.muon_lr * scale)
        self._step_others(self.adam_lr * scale)

    def _step_matrices(self, lr: float) -> None:
        groups: dict[tuple[int, int], list[str]] = defaultdict(list)
        for name, parameter in self.matrices.items():
            if parameter.grad is not None:
                groups[(parameter.shape[0], parameter[0].numel())].append(name)
        updates = {name: self._momentum(name) for names in groups.values() for name in names}
        rank, world = process_rank()
        for (rows, columns), names in groups.items():
            # every process orthogonalises its share of the matrices; the shares are put together below
            mine = names[rank::world]
            if mine:
                flat = orthogonalise(torch.stack([updates[name].reshape(rows, columns) for name in mine]))
                updates |= dict(zip(mine, flat * max(1.0, rows / columns) ** 0.5, strict=True))
            for name in set(names) - set(mine):
                updates[name] = torch.zeros_like(updates[name])
        sum_over_processes(list(updates.values()))
        for name, update in updates.items():
            parameter = self.matrices[name]
            parameter.mul_(1.0 - lr * self.weight_decay)
            parameter.add_(update.reshape(parameter.shape), alpha=-lr)

    def _momentum(self, name: str) -> Tensor:
        """Nesterov's direction of one matrix."""
        gradient, buffer = self.matrices[name].grad, self.first[name]
        assert gradient is not None
        buffer.lerp_(gradient, 1.0 - self.momentum)
        return gradient.lerp(buffer, self.momentum)

    def _step_others(self, lr: float) -> None:
        beta_1, beta_2 = self.betas
        names = [n for n, p in self.others.items() if p.grad is not None]
        if not names:
            return
        parameters: list[Tensor] = [self.others[n] for n in names]
        gradients = [p.grad for p in parameters if p.grad is not None]
        first, second = [self.first[n] for n in names], [self.second[n] for n in names]
        torch._foreach_lerp_(first, gradients, 1.0 - beta_1)
        torch._foreach_mul_(second, beta_2)
        torch._foreach_addcmul_(second, gradients, gradients, 1.0 - beta_2)
        correction_1, correction_2 = 1.0 - beta_1**self.num_steps, 1.0 - beta_2**self.num_steps
        root = torch._foreach_sqrt(second)
        torch._foreach_div_(root, correction_2**0.5)
        torch._foreach_add_(root, 1e-8)
        torch._foreach_addcdiv_(parameters, first, root, -lr / correction_1)

    def zero_grad(self) -> None:
        """Drop every gradient."""
        for parameter in (*self.matrices.values(), *self.others.values()):
            parameter.grad = None

    def state_tensors(self) -> dict[str, Tensor]:
        """The moments, by name, and the step count."""
        tensors = {f"first.{n}": t for n, t in self.first.items()}
        tensors |= {f"second.{n}": t for n, t in self.second.items()}
        return tensors | {"num_steps": torch.tensor(self.num_steps)}

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what :meth:`state_tensors` gave."""
        for prefix, moments in (("first", self.first), ("second", self.second)):
            for name, moment in moments.items():
                moment.copy_(tensors[f"{prefix}.{name}"])
        self.num_steps = int(tensors["num_steps"])


def orthogonalise(matrices: Tensor, num_iterations: int = 5) -> Tensor:
    """Nearest orthogonal matrices of ``[N, rows, columns]`` by the quintic Newton-Schulz iteration (Jordan 2024).

    The singular values of the result lie in about [0.7, 1.2], which is all that Muon needs.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(num_iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = x.mT if tall else x
    return result
