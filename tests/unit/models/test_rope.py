from __future__ import annotations

import pytest
import torch

from mova.models.bridge import interaction_layers
from mova.models.layers import (
    AudioRope,
    BridgeRope,
    RMSNorm,
    Rope,
    VideoRope,
    bridge_positions,
    distinct_levels,
    gather_rows,
    rotate_adjacent,
    rotate_half,
    video_angles,
)

CPU = torch.device("cpu")


def scores(q: torch.Tensor, k: torch.Tensor, rope: Rope, rotate: object) -> torch.Tensor:
    q, k = (rotate(x.expand(1, rope[0].shape[1], 1, -1), rope) for x in (q, k))  # type: ignore[operator]
    return torch.einsum("blnh,bmnh->lm", q, k)


@pytest.mark.parametrize("rotate", [rotate_adjacent, rotate_half])
def test_scores_depend_on_the_distance_only(rotate: object) -> None:
    torch.manual_seed(0)
    rope = AudioRope(24, dtype=torch.float64)(9, CPU)
    q, k = torch.randn(2, 1, 1, 1, 24, dtype=torch.float64)
    table = scores(q, k, rope, rotate)
    torch.testing.assert_close(table[1:, 1:], table[:-1, :-1])
    assert table[0].std() > 0.1


def test_complex_and_real_rotation_agree() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 12, 3, 24, dtype=torch.bfloat16)
    cos, sin = VideoRope(24)((3, 2, 2), CPU)
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    real = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).bfloat16()
    turned = rotate_adjacent(x, (cos, sin))
    assert turned.dtype == torch.bfloat16
    torch.testing.assert_close(turned, real)


def test_video_tokens_are_frame_major_and_axes_have_their_own_channels() -> None:
    angles = video_angles(2, 3, 4, 48)  # 8 pairs for frames, 8 for rows, 8 for columns
    row_of = angles.reshape(2, 3, 4, 24)
    assert row_of[1, 2, 3, 0] == 1 and row_of[1, 2, 3, 8] == 2 and row_of[1, 2, 3, 16] == 3
    assert not row_of[0, 0, 0].any()


@pytest.mark.parametrize("head_dim", [20, 9, 15])
def test_heads_that_cannot_be_split_in_three_are_refused(head_dim: int) -> None:
    if (head_dim // 3) % 2 == 0 and head_dim % 2 == 0:
        video_angles(1, 1, 1, head_dim)
        return
    with pytest.raises(ValueError, match="even"):
        video_angles(1, 1, 1, head_dim)


def test_video_and_audio_of_one_moment_have_the_same_bridge_angle() -> None:
    rope = BridgeRope(8, audio_fps=32.0, stride=4)
    cos_v, sin_v, cos_a, sin_a = rope((3, 1, 2), 20, 16.0, CPU)  # 8 audio latents per video latent
    for frame in range(3):
        for token in range(2):
            torch.testing.assert_close(cos_v[:, 2 * frame + token], cos_a[:, 8 * frame])
            torch.testing.assert_close(sin_v[:, 2 * frame + token], sin_a[:, 8 * frame])


def test_first_frame_bias_puts_latents_at_their_first_frame() -> None:
    positions = bridge_positions(4, 24.0, 48.0, 4, True)
    torch.testing.assert_close(positions, torch.tensor([0.0, 2.0, 10.0, 18.0]))
    torch.testing.assert_close(bridge_positions(3, 24.0, 48.0, 4, False), torch.tensor([0.0, 8.0, 16.0]))
    torch.testing.assert_close(bridge_positions(3, 24.0, 48.0, 8, False), torch.tensor([0.0, 16.0, 32.0]))


def test_a_table_first_made_in_inference_mode_serves_training() -> None:
    rope = AudioRope(26)
    with torch.inference_mode():
        rope(5, CPU)
    x = torch.randn(1, 5, 1, 26, requires_grad=True)
    rotate_adjacent(x, rope(5, CPU)).sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize(
    ("strategy", "layers"),
    [
        ("full", (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)),
        ("distributed", (0, 3, 6, 9)),
        ("shallow_focus", (0, 1, 2, 3)),
        ("progressive", (0, 1, 2, 3, 4, 5, 6, 7, 8, 11)),
        ("custom", (0, 2, 4, 6, 8)),
    ],
)
def test_interaction_layers_follow_the_shallower_tower(strategy: str, layers: tuple[int, ...]) -> None:
    assert interaction_layers(strategy, 20, 12) == layers


def test_rms_norm_has_the_value_and_gradient_of_torch() -> None:
    torch.manual_seed(0)
    norm = RMSNorm(12)
    torch.nn.init.normal_(norm.weight)
    x, grad = torch.randn(2, 3, 5, 12, requires_grad=True), torch.randn(2, 3, 5, 12)
    ours = torch.autograd.grad(norm(x), (x, norm.weight), grad)
    reference = torch.nn.functional.rms_norm(x, (12,), norm.weight, 1e-6)
    torch.testing.assert_close(norm(x), reference)
    for mine, theirs in zip(ours, torch.autograd.grad(reference, (x, norm.weight), grad), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_distinct_levels_restore_the_timestep() -> None:
    timestep = torch.tensor([[3.0, 0.0, 3.0], [7.0, 7.0, 0.0]])
    values, index = distinct_levels(timestep)
    assert len(values) == 3
    assert torch.equal(gather_rows(values[:, None], index)[..., 0], timestep)
    assert gather_rows(values[:, None], index[:, 0]).shape == (2, 1, 1)
