"""Levels say what is given of each latent; the loop leaves it untouched."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mova.conditioning.edit import given_around
from mova.conditioning.given import (
    Given,
    given_audio,
    given_beginning,
    given_end,
    given_pictures,
    given_video,
    merge_given,
    prepend_references,
    spatial_inpaint_mask,
    temporal_inpaint_mask,
)
from mova.errors import RequestError
from mova.media.clip import Clip
from mova.pipeline.latents import Codecs, fill_missing_frames, given_levels, task_of
from mova.request.plan import Canvas, Capabilities, Plan, resolve
from mova.request.schema import GenerationRequest, Retake
from mova.sampling.solvers import SOLVERS, SolverState, Step
from mova.sampling.task import AVTensors, Grid, Task, audio_levels, video_levels
from mova.timeline import Timeline

CAPABILITIES = Capabilities(
    name="tiny", default_size=(24, 16), size_multiple=8, default_fps=16.0, default_frames=17, sample_rate=16000, audio_hop=500
)
CLOCK = CAPABILITIES.timeline()
PLAN: Plan = resolve(GenerationRequest(prompt="drums", seed=1, solver="euler"), CAPABILITIES)
CANVAS = PLAN.canvas
GRID = Grid(frames=5, height=2, width=3, audio_length=34)  # of that canvas
OFFICIAL = Timeline(fps=Fraction(24), sample_rate=48000, video_stride=4, audio_hop=960)
PICTURE = np.full((16, 24, 3), 9, np.uint8)


def some_clip(num_frames: int = 17) -> Clip:
    frames = np.zeros((num_frames, 16, 24, 3), np.uint8)
    return Clip(frames, np.zeros((1, num_frames * 1000), np.float32), Fraction(16), 16000)


def frames_of(latent: int, clock: Timeline = CLOCK) -> range:
    """The frames that a causal codec puts into a latent."""
    return range(1) if latent == 0 else range(1 + (latent - 1) * clock.video_stride, 1 + latent * clock.video_stride)


def samples_of(latent: int, clock: Timeline = CLOCK) -> range:
    return range(latent * clock.audio_hop, (latent + 1) * clock.audio_hop)


def given_latents(given: Given, grid: Grid = GRID) -> tuple[list[int], list[int]]:
    """Latents of the video and of the audio that are given; each must be given whole or not at all."""
    video, audio = given_levels(given, grid, CLOCK)
    assert bool(((video == 0) | (video == 1)).all()) and bool(((audio == 0) | (audio == 1)).all())
    assert bool((video == video[:, :1, :1]).all())
    return (video[:, 0, 0] == 0).nonzero().flatten().tolist(), (audio == 0).nonzero().flatten().tolist()


# --- from frames and samples to levels ----------------------------------------------------------------------


@settings(deadline=None)
@given(st.data(), st.integers(2, 6), st.integers(2, 7), st.integers(1, 6))
def test_a_latent_is_given_where_all_that_it_stands_for_is_whatever_the_codecs_strides(
    data: st.DataObject, stride: int, hop: int, num_latents: int
) -> None:
    clock = Timeline(fps=Fraction(8), sample_rate=40, video_stride=stride, audio_hop=hop)
    num_frames = data.draw(st.integers(1, clock.frames_of_latents(num_latents)))
    grid = Grid(num_latents, 1, 2, clock.audio_latents(clock.frames_of_latents(num_latents)))
    keep = np.array(data.draw(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=num_frames, max_size=num_frames)))
    samples = np.array(data.draw(st.lists(st.booleans(), min_size=1, max_size=grid.audio_length * hop)))
    video, audio = video_levels(keep[:, None, :], grid, clock), audio_levels(samples, grid, clock)
    assert (video.shape, video.dtype) == ((num_latents, 1, 2), torch.float32)
    assert (audio.shape, audio.dtype) == ((grid.audio_length,), torch.float32)
    for latent in range(num_latents):
        for column in range(2):
            is_whole = all(keep[min(frame, num_frames - 1), column] for frame in frames_of(latent, clock))
            assert float(video[latent, 0, column]) == (0.0 if is_whole else 1.0)
    for latent in range(grid.audio_length):
        is_whole = all(samples[min(sample, len(samples) - 1)] for sample in samples_of(latent, clock))
        assert float(audio[latent]) == (0.0 if is_whole else 1.0)


def test_a_still_gives_its_latent_whole() -> None:
    levels = video_levels(np.zeros((17, 1, 1), np.bool_), GRID, CLOCK, stills=(6, 16))
    assert levels[:, 0, 0].tolist() == [1, 1, 0, 1, 0]


# --- what each direction gives ------------------------------------------------------------------------------


def test_words_alone_give_nothing() -> None:
    assert given_latents(Given()) == ([], [])
    task = task_of(Given(), GRID, CLOCK, Codecs(None, None))
    assert (task.grid, task.video, task.audio, task.only) == (GRID, None, None, None)


def test_a_video_is_given_to_its_audio_and_audio_to_its_video() -> None:
    assert given_latents(given_video(CANVAS, some_clip().frames)) == (list(range(5)), [])
    assert given_latents(given_audio(CANVAS, some_clip().waveform)) == ([], list(range(34)))


@given(st.integers(0, 16))
def test_a_picture_gives_the_latent_of_its_frame_and_is_what_the_codec_sees_there(frame: int) -> None:
    pictures = given_pictures(CANVAS, {frame: PICTURE})
    (latent,) = [index for index in range(5) if frame in frames_of(index)]
    assert given_latents(pictures) == ([latent], [])
    shown = fill_missing_frames(pictures, GRID, CLOCK)[0, 0, frames_of(latent), 0, 0]
    assert torch.equal(shown, torch.full_like(shown, 9 / 127.5 - 1.0)), "the picture stands still for its latent"


def test_a_last_picture_is_given_and_joins_a_first_one_and_audio() -> None:
    pictures = merge_given(given_pictures(CANVAS, {0: PICTURE}), given_pictures(CANVAS, {16: PICTURE}))
    assert given_latents(pictures) == ([0, 4], [])
    assert given_latents(merge_given(pictures, given_audio(CANVAS, some_clip().waveform))) == ([0, 4], list(range(34)))
    with pytest.raises(RequestError, match="two pictures are given for one moment"):
        merge_given(pictures, given_video(CANVAS, some_clip().frames))
    with pytest.raises(RequestError, match="two sounds"):
        merge_given(*[given_audio(CANVAS, some_clip().waveform)] * 2)


@given(st.integers(1, 4), st.integers(1, 24))
def test_references_fill_the_latents_before_the_clip_one_each(count: int, num_frames: int) -> None:
    canvas = Canvas(width=24, height=16, num_frames=num_frames, num_samples=CLOCK.samples(num_frames))
    whole = CLOCK.next_legal_frames(CLOCK.frames_of_latents(count) + num_frames)
    grid = Grid(CLOCK.video_latents(whole), height=2, width=3, audio_length=CLOCK.audio_latents(whole))
    references = prepend_references([PICTURE] * count, canvas, Given(), CLOCK)
    assert given_latents(references, grid) == (list(range(count)), [])


def test_pictures_of_the_clip_move_with_it_behind_its_references() -> None:
    references = prepend_references([PICTURE] * 2, CANVAS, given_pictures(CANVAS, {0: PICTURE, 16: PICTURE}), CLOCK)
    grid = Grid(7, height=2, width=3, audio_length=50)  # 5 frames of references, then 17 of the clip
    assert given_latents(references, grid)[0] == [0, 1, 2, 6]


@given(st.integers(0, 1061), st.integers(1, 1100), st.sampled_from(["audio", "video", "both"]))
def test_a_retake_makes_every_latent_that_its_span_touches(from_ms: int, length_ms: int, modality: str) -> None:
    begin, end = Fraction(from_ms, 1000), min(Fraction(from_ms + length_ms, 1000), Fraction(1062, 1000))
    retake = Retake(modality=modality, from_s=float(begin), to_s=float(end))
    video, audio = given_latents(given_around(PLAN, some_clip(), retake))

    def untouched(spans: list[tuple[Fraction, Fraction]], is_asked: bool) -> list[int]:
        return [i for i, (first, last) in enumerate(spans) if not is_asked or last <= begin or first >= end]

    frames = [(Fraction(frames_of(i)[0], 16), Fraction(frames_of(i)[-1] + 1, 16)) for i in range(5)]
    samples = [(Fraction(500 * i, 16000), Fraction(500 * (i + 1), 16000)) for i in range(34)]
    assert video == untouched(frames, modality != "audio")
    assert audio == untouched(samples, modality != "video")


def test_a_retake_within_the_clip_gives_the_clip_itself() -> None:
    clip = some_clip()
    around = given_around(PLAN, clip, Retake(modality="both", from_s=0.2, to_s=0.3))
    assert around.frames is not None and np.shares_memory(around.frames, clip.frames)
    assert around.waveform is not None and np.shares_memory(around.waveform, clip.waveform)
    for span in ({"from_s": 1.2, "to_s": 2.0}, {"from_s": 1.0, "to_s": 99.0}):
        with pytest.raises(RequestError, match="the clip ends at"):
            given_around(PLAN, clip, Retake(modality="both", **span))
    with pytest.raises(RequestError, match="end after it begins"):
        GenerationRequest(prompt="drums", video="a.mp4", retake={"modality": "both", "from_s": 0.8, "to_s": 0.8})


@pytest.mark.parametrize("at_end", [False, True])
@given(frames=st.integers(1, 16))
def test_a_clip_that_goes_on_or_is_led_up_to_gives_the_latents_that_lie_in_it_whole(frames: int, at_end: bool) -> None:
    place = given_end if at_end else given_beginning
    inside = range(17 - frames, 17) if at_end else range(frames)
    video = [latent for latent in range(5) if set(frames_of(latent)) <= set(inside)]
    audio = [
        latent for latent in range(34) if inside[0] * 1000 <= latent * 500 and (latent + 1) * 500 <= (inside[-1] + 1) * 1000
    ]
    assert given_latents(place(CANVAS, some_clip(frames))) == (video, audio)


def test_audio_latents_across_the_joint_of_an_extended_clip_are_made() -> None:
    keep = np.zeros(OFFICIAL.samples(21), np.bool_)
    grid = Grid(6, 1, 1, OFFICIAL.audio_latents(21))
    first = OFFICIAL.samples(17)
    keep[:first] = True  # 17 frames last 35.4 latents
    assert audio_levels(keep, grid, OFFICIAL).tolist() == [0.0] * 35 + [1.0] * 9
    at_start = np.flip(keep).copy()  # the clip begins within latent 8, and its end is the whole clip's
    assert audio_levels(at_start, grid, OFFICIAL).tolist() == [1.0] * 9 + [0.0] * 35


def test_a_region_is_painted_anew_and_the_rest_is_kept() -> None:
    region = np.zeros((16, 24), np.bool_)
    region[3, 9] = True
    painted = spatial_inpaint_mask(CANVAS, some_clip(), region)
    video, audio = given_levels(painted, GRID, CLOCK)
    assert video.nonzero().tolist() == [[latent, 0, 1] for latent in range(5)]
    assert float(audio.max()) == 0.0
    span = temporal_inpaint_mask(CANVAS, some_clip(), frames=(6, 8), samples=None)  # of latent 2
    assert painted.keep_picture is not None and span.keep_picture is not None
    both = replace(painted, keep_picture=painted.keep_picture | span.keep_picture)
    assert given_levels(both, GRID, CLOCK)[0].nonzero().tolist() == [[2, 0, 1]]


# --- a task of one's own ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"video_level": torch.zeros(3, 2, 4)}, "no video latents"),
        ({"video_level": torch.full((3, 2, 4), 1.5)}, "between 0 and 1"),
        ({"video_level": torch.ones(3, 2)}, "axes"),
        ({"audio_level": torch.ones(0)}, "between 0 and 1"),
        ({"audio": torch.zeros(7, 4)}, "shape"),
        ({"video_level": torch.zeros(3, 2, 4), "video": torch.zeros(6, 3, 2, 4), "only": "video"}, "all of it is given"),
    ],
)
def test_a_task_that_does_not_fit_together_is_refused(values: dict[str, torch.Tensor], words: str) -> None:
    whole = {"video_level": torch.ones(3, 2, 4), "audio_level": torch.ones(5)}
    with pytest.raises(ValueError, match=words):
        Task(**(whole | values))


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
    state: SolverState | None = None
    for index in range(num_steps):
        ends = [AVTensors(torch.where(given_tokens, 0.0, sigma), sigma.view(1, 1, 1)) for sigma in sigmas[index : index + 2]]
        latents, state = SOLVERS[name].step(velocity, latents, Step(index, num_steps, *ends), state)
    kept = given_tokens.expand_as(begin)
    assert torch.equal(latents.video[kept], begin[kept])
    torch.testing.assert_close(latents.video[~kept], begin[~kept] - 1, rtol=0, atol=1e-5)
