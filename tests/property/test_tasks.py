"""Tasks say what is given; the loop leaves it untouched."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mova.sampling.pair import Pair
from mova.sampling.solvers import SOLVERS, Memory, Step
from mova.sampling.tasks import Grid, Task, audio_to_video, first_frame, text, video_to_audio

GRID = Grid(frames=3, height=2, width=4, audio_length=5)


def test_text_gives_nothing() -> None:
    task = text(GRID)
    assert task.grid == GRID
    assert task.video is None
    assert float(task.video_level.min()) == float(task.audio_level.min()) == 1.0


def test_a_first_frame_is_given_and_the_rest_is_made() -> None:
    image = torch.randn(6, 1, 2, 4)
    task = first_frame(GRID, image)
    assert task.video is not None
    assert torch.equal(task.video[:, :1], image)
    assert task.video_level[0].max() == 0.0
    assert task.video_level[1:].min() == 1.0
    assert task.audio_level.min() == 1.0


def test_a_film_is_given_to_its_sound_and_a_sound_to_its_film() -> None:
    film, sound = torch.randn(2, 6, 3, 2, 4), torch.randn(2, 7, 5)
    assert (video_to_audio(GRID, film).video_level.max(), video_to_audio(GRID, film).audio_level.min()) == (0, 1)
    assert (audio_to_video(GRID, sound).audio_level.max(), audio_to_video(GRID, sound).video_level.min()) == (0, 1)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"video_level": torch.zeros(3, 2, 4)}, "no video latents"),
        ({"video_level": torch.full((3, 2, 4), 1.5)}, "between 0 and 1"),
        ({"video_level": torch.ones(3, 2)}, "axes"),
        ({"audio_level": torch.ones(0)}, "between 0 and 1"),
        ({"audio": torch.zeros(7, 4)}, "shape"),
    ],
)
def test_a_task_that_does_not_fit_together_is_refused(values: dict[str, torch.Tensor], words: str) -> None:
    whole = {"video_level": torch.ones(3, 2, 4), "audio_level": torch.ones(5)}
    with pytest.raises(ValueError, match=words):
        Task(**(whole | values))


def test_more_given_frames_than_the_clip_has_are_refused() -> None:
    with pytest.raises(ValueError, match="clip of 3"):
        first_frame(GRID, torch.randn(6, 4, 2, 4))


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(SOLVERS)), st.integers(0, 2**31), st.integers(1, 6))
def test_a_token_at_level_zero_is_untouched_by_every_solver_whatever_the_network_says(
    name: str, seed: int, num_steps: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    given_tokens = torch.rand(1, 1, 3, 2, 4, generator=generator) < 0.5
    latents = Pair(torch.randn(1, 6, 3, 2, 4, generator=generator), torch.randn(1, 7, 5, generator=generator))
    begin = latents.video.clone()

    def velocity(state: Pair, point: int, /) -> Pair:
        broken = torch.full_like(state.video, float("inf"))
        return Pair(torch.where(given_tokens, broken, torch.ones_like(broken)), torch.ones_like(state.audio))

    sigmas = torch.linspace(1, 0, num_steps + 1)
    memory: Memory | None = None
    for index in range(num_steps):
        ends = [Pair(torch.where(given_tokens, 0.0, sigma), sigma.view(1, 1, 1)) for sigma in sigmas[index : index + 2]]
        latents, memory = SOLVERS[name](velocity, latents, Step(index, num_steps, *ends), memory)
    kept = given_tokens.expand_as(begin)
    assert torch.equal(latents.video[kept], begin[kept])
    torch.testing.assert_close(latents.video[~kept], begin[~kept] - 1, rtol=0, atol=1e-5)
