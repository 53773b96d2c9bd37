"""Tasks say what is given; the loop leaves it untouched."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mova.conditioning.given import (
    Given,
    given_beginning,
    given_end,
    given_pictures,
    prepend_references,
    spatial_inpaint_mask,
    temporal_inpaint_mask,
)
from mova.media.clip import Clip
from mova.pipeline.conditioning import audio_levels, video_levels
from mova.request.plan import Canvas
from mova.sampling.av_tensors import AVTensors
from mova.sampling.solvers import SOLVERS, SolverState, Step
from mova.sampling.task import (
    Grid,
    Task,
    audio_to_video,
    combined,
    extend,
    first_frame,
    key_frames,
    last_frame,
    reference,
    repaint,
    retake,
    text,
    text_to_audio,
    text_to_video,
    video_to_audio,
)
from mova.timeline import Timeline

GRID = Grid(frames=3, height=2, width=4, audio_length=5)
CLOCK = Timeline(fps=Fraction(16), sample_rate=16000, video_stride=4, audio_hop=500)
CANVAS = Canvas(width=24, height=16, num_frames=17, num_samples=17000)
WHOLE = Grid(frames=5, height=2, width=3, audio_length=34)  # of that canvas
VIDEO, AUDIO = torch.randn(6, 5, 2, 3), torch.randn(7, 34)


def some_clip(num_frames: int) -> Clip:
    frames = np.zeros((num_frames, 16, 24, 3), np.uint8)
    return Clip(frames, np.zeros((1, num_frames * 1000), np.float32), Fraction(16), 16000)


def assert_told_as(task: Task, given: Given) -> None:
    """The sampler is told the same as of what is given in frames and samples."""
    assert torch.equal(task.video_level, video_levels(given, task.grid, CLOCK))
    assert torch.equal(task.audio_level, audio_levels(given, task.grid, CLOCK))


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


def test_a_video_is_given_to_its_audio_and_audio_to_its_video() -> None:
    video, audio = torch.randn(2, 6, 3, 2, 4), torch.randn(2, 7, 5)
    assert (video_to_audio(GRID, video).video_level.max(), video_to_audio(GRID, video).audio_level.min()) == (0, 1)
    assert (audio_to_video(GRID, audio).audio_level.max(), audio_to_video(GRID, audio).video_level.min()) == (0, 1)


def test_audio_or_a_video_alone_is_made_with_the_other_and_wanted_without_it() -> None:
    for task, only in ((text_to_audio(GRID), "audio"), (text_to_video(GRID), "video")):
        assert task.only == only
        assert float(task.video_level.min()) == float(task.audio_level.min()) == 1.0


@given(st.integers(0, 16))
def test_a_key_frame_is_in_the_latent_of_its_frame_whichever_way_it_is_said(frame: int) -> None:
    image = torch.randn(6, 1, 2, 3)
    task = key_frames(WHOLE, {frame / 16: image}, timeline=CLOCK)
    assert_told_as(task, given_pictures(CANVAS, {frame: np.zeros((16, 24, 3), np.uint8)}))
    assert task.video is not None
    assert torch.equal(task.video[:, task.video_level[:, 0, 0] == 0], image)


def test_a_last_frame_is_given_and_joins_a_first_one() -> None:
    first, last = torch.randn(6, 1, 2, 4), torch.randn(6, 1, 2, 4)
    task = combined(first_frame(GRID, first), last_frame(GRID, last))
    assert task.video is not None
    assert torch.equal(task.video[:, [0, 2]], torch.cat([first, last], dim=1))
    assert task.video_level[:, 0, 0].tolist() == [0, 1, 0]


@given(st.integers(1, 4), st.integers(1, 24))
def test_references_are_the_frames_before_the_first_whichever_way_they_are_said(count: int, num_frames: int) -> None:
    canvas = Canvas(width=24, height=16, num_frames=num_frames, num_samples=CLOCK.samples(num_frames))
    whole = CLOCK.next_legal_frames(CLOCK.frames_of_latents(count) + num_frames)
    grid = Grid(CLOCK.video_latents(whole), height=2, width=3, audio_length=CLOCK.audio_latents(whole))
    images = list(torch.randn(count, 6, 1, 2, 3))
    task = reference(grid, images)
    assert_told_as(task, prepend_references([np.zeros((16, 24, 3), np.uint8)] * count, canvas, Given(), CLOCK))
    assert task.video is not None
    assert torch.equal(task.video[:, task.video_level[:, 0, 0] == 0], torch.cat(images, dim=1))


@given(st.floats(0, 1.0), st.floats(0.01, 1.2), st.sampled_from(["audio", "video", "both"]))
def test_a_retake_makes_every_latent_that_its_span_touches(from_s: float, length_s: float, modality: str) -> None:
    begin = Fraction(round(from_s * 1000), 1000)
    end = min(Fraction(round((from_s + length_s) * 1000), 1000), Fraction(17, 16))
    task = retake(VIDEO, AUDIO, modality=modality, from_s=begin, to_s=end, timeline=CLOCK)  # type: ignore[arg-type]
    frames = (int(begin * 16), min(17, -int(-end * 16 // 1)))
    samples = (int(begin * 16000), min(int(end * 16000), 17000))
    wanted = {
        "frames": frames if modality != "audio" else None,
        "samples": samples if modality != "video" else None,
    }
    assert_told_as(task, temporal_inpaint_mask(CANVAS, some_clip(17), **wanted))
    assert task.video is VIDEO
    assert task.audio is AUDIO


@pytest.mark.parametrize("at", ["end", "start"])
@pytest.mark.parametrize("latents", [1, 2, 4])
def test_an_extended_clip_keeps_its_latents_in_their_place(latents: int, at: str) -> None:
    frames = 1 + 4 * (latents - 1)
    video, audio = VIDEO[:, :latents], AUDIO[:, : 2 * frames]
    task = extend(video, audio, seconds=(17 - frames) / 16, timeline=CLOCK, at=at)  # type: ignore[arg-type]
    assert task.grid == WHOLE
    assert task.video is not None
    assert task.audio is not None
    place = given_end if at == "start" else given_beginning
    assert_told_as(task, place(CANVAS, some_clip(frames)))
    kept = video if at == "end" else video[:, 1:]
    assert torch.equal(task.video[:, task.video_level[:, 0, 0] == 0], kept)
    assert torch.equal(task.audio[:, task.audio_level == 0], audio)


def test_audio_latents_that_would_lie_between_the_others_are_refused() -> None:
    official = Timeline(fps=Fraction(24), sample_rate=48000, video_stride=4, audio_hop=960)
    with pytest.raises(ValueError, match="no whole number of audio latents"):
        extend(VIDEO, torch.randn(7, 35), seconds=0.1, timeline=official, at="start")
    task = extend(VIDEO, torch.randn(7, 35), seconds=0.1, timeline=official)
    assert task.audio_level.tolist() == [0.0] * 35 + [1.0] * 9  # 17 frames last 35.4 latents, of which 35 are there


def test_a_region_is_painted_anew_and_the_rest_is_kept() -> None:
    region = torch.zeros(2, 3, dtype=torch.bool)
    region[0, 1] = True
    pixels = np.zeros((16, 24), np.bool_)
    pixels[3, 9] = True
    assert_told_as(repaint(region, VIDEO, AUDIO), spatial_inpaint_mask(CANVAS, some_clip(17), pixels))
    span = retake(VIDEO, AUDIO, modality="video", from_s=0.4, to_s=0.5, timeline=CLOCK)  # frames 6 and 7: latent 2
    both = combined(span, repaint(region, VIDEO, AUDIO))
    assert both.video_level.nonzero().tolist() == [[2, 0, 1]]
    assert float(both.audio_level.max()) == 0.0


def test_tasks_that_do_not_contradict_each_other_are_combined() -> None:
    video = torch.randn(2, 6, 3, 2, 4)
    foley = combined(text_to_audio(GRID), video_to_audio(GRID, video))
    assert (foley.only, foley.video is video, float(foley.audio_level.min())) == ("audio", True, 1.0)
    to_audio = combined(audio_to_video(GRID, torch.randn(7, 5)), first_frame(GRID, torch.randn(6, 1, 2, 4)))
    assert to_audio.video is not None
    assert to_audio.audio is not None
    assert float(combined(first_frame(GRID, video[:, :, :1]), video_to_audio(GRID, video)).video_level.max()) == 0.0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: combined(text(GRID), text(WHOLE)), "different grids"),
        (lambda: combined(first_frame(GRID, torch.ones(6, 1, 2, 4)), video_to_audio(GRID, torch.zeros(6, 3, 2, 4))), "both"),
        (lambda: combined(text_to_audio(GRID), text_to_video(GRID)), "one task wants"),
        (lambda: combined(text_to_video(GRID), video_to_audio(GRID, torch.ones(6, 3, 2, 4))), "all of it is given"),
        (
            lambda: combined(audio_to_video(GRID, torch.ones(7, 5)), video_to_audio(GRID, torch.ones(6, 3, 2, 4))),
            "nothing would be made",
        ),
        (lambda: key_frames(WHOLE, {1.5: torch.ones(6, 1, 2, 3)}, timeline=CLOCK), "last frame is at"),
        (lambda: key_frames(WHOLE, dict.fromkeys((0.25, 0.2), VIDEO[:, :1]), timeline=CLOCK), "two pictures"),
        (lambda: retake(VIDEO, AUDIO, modality="both", from_s=0.8, to_s=0.8, timeline=CLOCK), "not within"),
        (lambda: retake(VIDEO, AUDIO, modality="both", from_s=1.2, to_s=2, timeline=CLOCK), "not within"),
        (lambda: retake(VIDEO, AUDIO, modality="both", from_s=1, to_s=99, timeline=CLOCK), "within a clip of 1.0625 s"),
        (lambda: reference(GRID, []), "references"),
        (lambda: reference(GRID, [VIDEO[:, :1]] * 3), "leave nothing"),
        (lambda: repaint(torch.zeros(2, 3, dtype=torch.bool), VIDEO, AUDIO), "empty"),
    ],
)
def test_a_contradiction_is_refused(make: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()  # type: ignore[operator]


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
    latents = AVTensors(torch.randn(1, 6, 3, 2, 4, generator=generator), torch.randn(1, 7, 5, generator=generator))
    begin = latents.video.clone()

    def velocity(state: AVTensors, point: int, /) -> AVTensors:
        broken = torch.full_like(state.video, float("inf"))
        return AVTensors(torch.where(given_tokens, broken, torch.ones_like(broken)), torch.ones_like(state.audio))

    sigmas = torch.linspace(1, 0, num_steps + 1)
    memory: SolverState | None = None
    for index in range(num_steps):
        ends = [AVTensors(torch.where(given_tokens, 0.0, sigma), sigma.view(1, 1, 1)) for sigma in sigmas[index : index + 2]]
        latents, memory = SOLVERS[name](velocity, latents, Step(index, num_steps, *ends), memory)
    kept = given_tokens.expand_as(begin)
    assert torch.equal(latents.video[kept], begin[kept])
    torch.testing.assert_close(latents.video[~kept], begin[~kept] - 1, rtol=0, atol=1e-5)
