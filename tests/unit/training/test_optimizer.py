"""Muon and AdamW in one optimiser."""

from __future__ import annotations

import torch
from torch import nn

from mova.training.optimizer import MuonAdamW, orthogonalise


def make(model: nn.Module) -> MuonAdamW:
    return MuonAdamW(dict(model.named_parameters()), is_matrix=lambda name: "0" in name, muon_lr=0.02, adam_lr=0.01)


def train(model: nn.Module, optimizer: MuonAdamW, steps: int, start: int = 0) -> float:
    loss = torch.tensor(0.0)
    for step in range(start, start + steps):
        x = torch.randn(16, 6, generator=torch.Generator().manual_seed(step))
        loss = (model(x) - x[:, :2].sin()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step(1.0)
    return loss.item()


def build() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.SiLU(), nn.Linear(16, 2))


def test_orthogonal_updates_have_singular_values_near_one() -> None:
    for shape in ((3, 8, 20), (3, 20, 8)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape, generator=torch.Generator().manual_seed(1))))
        assert values.min() > 0.6 and values.max() < 1.3


def test_the_loss_falls() -> None:
    model = build()
    optimizer = make(model)
    first = train(model, optimizer, 1)
    assert train(model, optimizer, 200, start=1) < 0.2 * first


def test_a_restored_optimizer_goes_on_bit_for_bit() -> None:
    model = build()
    optimizer = make(model)
    train(model, optimizer, 5)
    twin = build()
    twin.load_state_dict(model.state_dict())
    restored = make(twin)
    restored.load_state_tensors({n: t.clone() for n, t in optimizer.state_tensors().items()})
    train(model, optimizer, 5, start=5)
    train(twin, restored, 5, start=5)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_convolution_kernels_are_stepped_as_matrices() -> None:
    conv = nn.Sequential(nn.Conv2d(4, 6, 3))
    before = conv[0].weight.detach().clone()
    conv(torch.randn(1, 4, 5, 5)).square().mean().backward()
    make(conv).step(1.0)
    change = (conv[0].weight.detach() - before).reshape(6, -1) / 0.02
    assert torch.linalg.svdvals(change).min() > 0.6 and torch.linalg.svdvals(change).max() < 1.3
