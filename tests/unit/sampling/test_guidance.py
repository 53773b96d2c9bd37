"""Dual guidance and its exact shortcuts."""

from __future__ import annotations

import pytest
import torch

from mova.sampling.guidance import BOTH, BRIDGE, NEITHER, Branch, Guidance
from mova.sampling.pair import Pair

torch.manual_seed(0)
VELOCITIES = {branch: Pair(torch.randn(2, 3, 4, 5, 6), torch.randn(2, 3, 7)) for branch in (BOTH, BRIDGE, NEITHER)}


def guided(guidance: Guidance, sigma: float = 0.5) -> Pair:
    """Given the needed branches only: anything else would be missing."""
    return guidance.combine({branch: VELOCITIES[branch] for branch in guidance.branches(sigma)}, sigma)


@pytest.mark.parametrize(
    ("text", "cross", "branches"),
    [
        (1.0, 1.0, (BOTH,)),
        (5.0, 1.0, (BOTH, BRIDGE)),
        (0.0, 1.0, (BRIDGE,)),
        (3.5, 3.5, (BOTH, NEITHER)),
        (0.0, 0.0, (NEITHER,)),
        (0.0, 2.0, (BRIDGE, NEITHER)),
        (5.0, 3.5, (BOTH, BRIDGE, NEITHER)),
        (5.0, 0.0, (BOTH, BRIDGE, NEITHER)),
        (1.0, 3.5, (BOTH, BRIDGE, NEITHER)),
    ],
)
def test_only_needed_branches_are_asked_for_and_the_result_is_the_formulas(
    text: float, cross: float, branches: tuple[Branch, ...]
) -> None:
    guidance = Guidance(text, cross)
    assert guidance.branches(0.5) == branches
    result = guided(guidance)
    for part in (0, 1):
        none, bridge, both = (VELOCITIES[branch][part].double() for branch in (NEITHER, BRIDGE, BOTH))
        expected = none + cross * (bridge - none) + text * (both - bridge)
        torch.testing.assert_close(result[part].double(), expected, rtol=0, atol=1e-5)


def test_a_cross_scale_of_one_is_plain_guidance_bit_for_bit() -> None:
    result = guided(Guidance(5.0, 1.0))
    for part in (0, 1):
        negative, positive = VELOCITIES[BRIDGE][part], VELOCITIES[BOTH][part]
        assert torch.equal(result[part], negative + 5.0 * (positive - negative))


def test_scales_of_one_return_the_full_branch_itself() -> None:
    assert torch.equal(guided(Guidance(1.0)).video, VELOCITIES[BOTH].video)


def test_outside_its_interval_guidance_is_off() -> None:
    guidance = Guidance(5.0, 3.5, interval=(0.2, 0.8))
    assert guidance.branches(0.9) == guidance.branches(0.1) == (BOTH,)
    assert len(guidance.branches(0.2)) == len(guidance.branches(0.8)) == 3
    assert torch.equal(guided(guidance, 0.9).audio, VELOCITIES[BOTH].audio)


def test_rescaling_brings_the_spread_of_each_sample_back() -> None:
    for part in (0, 1):
        axes = tuple(range(1, VELOCITIES[BOTH][part].ndim))
        wanted = VELOCITIES[BOTH][part].std(dim=axes)
        assert not torch.allclose(guided(Guidance(5.0))[part].std(dim=axes), wanted, rtol=0.1)
        torch.testing.assert_close(guided(Guidance(5.0, rescale=1.0))[part].std(dim=axes), wanted)


def test_rescaling_asks_for_the_full_branch_even_where_it_has_no_weight() -> None:
    assert Guidance(0.0, 1.0, rescale=0.5).branches(0.5) == (BOTH, BRIDGE)


@pytest.mark.parametrize("values", [{"rescale": 1.5}, {"interval": (0.8, 0.2)}, {"interval": (0.0, 1.5)}])
def test_a_wrong_value_is_named(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        Guidance(2.0, **values)
