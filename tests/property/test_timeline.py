"""The clock never loses or invents a sample."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mova.timeline import Timeline, exact_fps, frame_time, frames_in_seconds, samples_in_frames

FPS = st.sampled_from([8, 12, 16, 23.976, 24, 25, 29.97, 30, 48, 50, 59.94, 60, Fraction(24000, 1001)])
RATES = st.sampled_from([8000, 16000, 22050, 24000, 44100, 48000, 96000])


@given(st.integers(1, 5000), FPS, RATES)
def test_samples_cover_the_frames_to_less_than_a_sample(num_frames: int, fps: float, rate: int) -> None:
    samples = samples_in_frames(num_frames, fps, rate)
    missing = Fraction(num_frames) / exact_fps(fps) - Fraction(samples, rate)
    assert 0 <= missing < Fraction(1, rate)


@given(st.integers(1, 2000), st.integers(1, 2000), FPS, RATES)
def test_cutting_a_video_in_two_loses_at_most_one_sample(first: int, second: int, fps: float, rate: int) -> None:
    whole = samples_in_frames(first + second, fps, rate)
    parts = samples_in_frames(first, fps, rate) + samples_in_frames(second, fps, rate)
    assert whole - parts in (0, 1)


@given(st.integers(1, 400), FPS)
def test_seconds_of_whole_frames_give_the_frames_back(num_frames: int, fps: float) -> None:
    assert frames_in_seconds(frame_time(num_frames, fps), fps) == num_frames


@given(st.integers(1, 400), st.integers(1, 8))
def test_the_next_legal_length_is_legal_and_the_nearest_above(num_frames: int, stride: int) -> None:
    clock = Timeline(Fraction(16), 16000, video_stride=stride, audio_hop=500)
    legal = clock.next_legal_frames(num_frames)
    assert num_frames <= legal < num_frames + stride
    assert clock.frames_of_latents(clock.video_latents(legal)) == legal


@given(st.integers(1, 60), st.integers(1, 8))
def test_video_latents_tile_the_video(num_latents: int, stride: int) -> None:
    clock = Timeline(Fraction(24), 48000, video_stride=stride)
    spans = [clock.video_latent_span(index) for index in range(num_latents)]
    assert spans[0][0] == 0
    assert all(before[1] == after[0] for before, after in zip(spans, spans[1:], strict=False))
    assert spans[-1][1] == frame_time(clock.frames_of_latents(num_latents), 24)


@given(st.integers(1, 60), st.integers(1, 9))
def test_every_frame_is_in_one_latent_and_a_latent_holds_its_frames(num_latents: int, stride: int) -> None:
    clock = Timeline(Fraction(24), 48000, video_stride=stride)
    held = [frame for latent in range(num_latents) for frame in clock.frames_of_latent(latent)]
    assert held == list(range(clock.frames_of_latents(num_latents)))
    assert all(frame in clock.frames_of_latent(clock.latent_of_frame(frame)) for frame in held)
    assert {len(clock.frames_of_latent(latent)) for latent in range(1, num_latents)} <= {stride}


@given(st.integers(0, 40), st.integers(1, 20), st.integers(1, 9), st.integers(1, 2000))
def test_a_span_of_latents_is_the_frames_and_samples_of_its_latents(first: int, length: int, stride: int, hop: int) -> None:
    clock = Timeline(Fraction(24), 48000, video_stride=stride, audio_hop=hop)
    begin, end = clock.frame_span(first, first + length)
    assert [clock.latent_of_frame(frame) for frame in range(begin, end)] == [
        latent for latent in range(first, first + length) for _ in clock.frames_of_latent(latent)
    ]
    begin, end = clock.sample_span(first, first + length)
    assert (begin, end - begin) == (clock.samples_of_latents(first), clock.samples_of_latents(length))
    with pytest.raises(ValueError, match="at least one latent"):
        clock.frame_span(first, first)
    with pytest.raises(ValueError, match="at least one latent"):
        clock.sample_span(first + length, first)


@given(st.integers(1, 200), FPS, RATES, st.integers(100, 2000))
def test_audio_latents_cover_the_audio_with_less_than_one_to_spare(frames: int, fps: float, rate: int, hop: int) -> None:
    clock = Timeline(exact_fps(fps), rate, audio_hop=hop)
    samples = clock.samples(frames)
    assert 0 <= clock.audio_latents(frames) * hop - samples < hop or samples == 0


def test_the_official_clip_has_the_published_lengths() -> None:
    clock = Timeline(Fraction(24), 48000)
    assert (clock.video_latents(193), clock.samples(193), clock.audio_latents(193)) == (49, 386000, 403)


@pytest.mark.parametrize(
    ("written", "meant"), [(23.976, (24000, 1001)), (29.97, (30000, 1001)), (12.5, (25, 2)), (24.0, (24, 1))]
)
def test_rates_mean_what_people_mean_by_them(written: float, meant: tuple[int, int]) -> None:
    assert exact_fps(written) == Fraction(*meant)


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf")])
def test_a_rate_that_is_no_rate_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="fps"):
        exact_fps(bad)


def test_an_illegal_length_names_the_next_legal_one() -> None:
    with pytest.raises(ValueError, match="the next is 33"):
        Timeline(Fraction(16), 16000).video_latents(30)
