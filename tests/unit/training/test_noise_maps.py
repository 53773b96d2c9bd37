"""Noise maps of training: shares of named tasks, over the mask builders that inference uses."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from mova.conditioning.given import Given, given_beginning, given_pictures, spatial_inpaint_mask, temporal_inpaint_mask
from mova.media.clip import Clip
from mova.pipeline.latents import given_levels
from mova.request.plan import Canvas
from mova.sampling.task import Grid
from mova.timeline import Timeline
from mova.training.noise_maps import DEFAULT_TASKS, MASKED_TASKS, WHOLE_TASKS, ClipShape, GivenMask, NoiseSettings, draw_levels

CLIP = ClipShape(Grid(frames=9, height=12, width=12, audio_length=66), Timeline(Fraction(16), 16000, audio_hop=500), (2, 2))
CANVAS = Canvas(width=12, height=12, num_frames=33, num_samples=33000)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def settings(independent: float = 0.0, **tasks: float) -> NoiseSettings:
    return NoiseSettings(independent=independent, tasks=tasks)


def picks(*values: int):
    drawn = iter(values)
    return lambda limit: next(drawn)


def test_without_other_tasks_both_modalities_have_the_same_level() -> None:
    levels = draw_levels(64, CLIP, settings(), generator())
    assert levels.video.shape == levels.audio.shape == (64,)
    assert torch.equal(levels.video, levels.audio)
    assert levels.video.min() > 0 and levels.video.max() < 1


def test_the_shares_are_those_asked_for() -> None:
    noise = settings(independent=0.2, video_to_audio=0.1, audio_to_video=0.1)
    counts = torch.zeros(4)
    for seed in range(40):
        levels = draw_levels(64, CLIP, noise, generator(seed))
        given_v, given_a = levels.video == 0, levels.audio == 0
        equal = levels.video == levels.audio
        counts += torch.stack([given_v.sum(), given_a.sum(), (~equal & ~given_v & ~given_a).sum(), equal.sum()])
    shares = counts / counts.sum()
    # 2560 draws: three standard errors are at most 0.03
    assert torch.allclose(shares, torch.tensor([0.1, 0.1, 0.2, 0.6]), atol=0.03)


def test_tasks_with_maps_have_their_share_of_the_samples_too() -> None:
    noise = settings(first_frame=0.2, retake_audio=0.1, video_to_audio=0.3)
    counts = dict.fromkeys(("first_frame", "retake_audio", "video_to_audio", "text"), 0)
    for seed in range(400):
        levels = draw_levels(8, CLIP, noise, generator(seed))
        has_video, has_audio = (level.reshape(8, -1) == 0 for level in levels)
        for video, audio in zip(has_video, has_audio, strict=True):
            if bool(video.all()):
                counts["retake_audio" if bool(audio.any()) else "video_to_audio"] += 1
            else:
                counts["first_frame" if bool(video.any()) else "text"] += 1
    # 400 batches: three standard errors of a share of batches are 0.07
    shares = {name: count / 3200 for name, count in counts.items()}
    assert shares == pytest.approx({"first_frame": 0.2, "retake_audio": 0.1, "video_to_audio": 0.3, "text": 0.4}, abs=0.07)


def test_nothing_is_ever_given_in_both_modalities_whole() -> None:
    levels = draw_levels(256, CLIP, settings(video_to_audio=0.4, audio_to_video=0.4), generator(1))
    assert not ((levels.video == 0) & (levels.audio == 0)).any()


@pytest.mark.parametrize("name", MASKED_TASKS)
def test_every_task_gives_something_and_leaves_something_to_make(name: str) -> None:
    for seed in range(10):
        levels = draw_levels(16, CLIP, settings(**{name: 1.0}), generator(seed))
        assert levels.video.shape == (16, 9, 12, 12) and levels.audio.shape == (16, 66)
        given = (levels.video == 0).flatten(1).any(1) | (levels.audio == 0).any(1)
        to_make = (levels.video > 0).flatten(1).any(1) | (levels.audio > 0).any(1)
        assert given.all() and to_make.all()


def test_the_tasks_reach_every_latent_of_the_picture_and_of_time() -> None:
    made, given = torch.zeros(9, 12, 12), torch.zeros(9, 12, 12)
    for seed in range(30):
        levels = draw_levels(64, CLIP, settings(**dict.fromkeys(MASKED_TASKS, 0.125)), generator(seed))
        made += (levels.video > 0).sum(0)
        given += (levels.video == 0).sum(0)
    assert bool((made > 0).all()) and bool((given > 0).all())


def test_a_draw_depends_on_its_generator_only() -> None:
    for seed in range(8):
        a, b = (draw_levels(16, CLIP, NoiseSettings(), generator(seed)) for _ in range(2))
        assert torch.equal(a.video, b.video) and torch.equal(a.audio, b.audio)


def some_clip(num_frames: int) -> Clip:
    return Clip(np.zeros((num_frames, 12, 12, 3), np.uint8), np.zeros((1, 1000 * num_frames), np.float32), Fraction(16), 16000)


def region(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((12, 12), np.bool_)
    mask[rows, columns] = True
    return mask


PICTURE = np.zeros((12, 12, 3), np.uint8)


@pytest.mark.parametrize(
    ("name", "drawn", "asked"),
    [
        ("first_frame", (), given_pictures(CANVAS, {0: PICTURE})),
        ("last_frame", (), given_pictures(CANVAS, {32: PICTURE})),
        ("key_frame", (3,), given_pictures(CANVAS, {9: PICTURE})),
        ("extend", (2,), given_beginning(CANVAS, some_clip(9))),
        ("retake_audio", (20, 40), temporal_inpaint_mask(CANVAS, some_clip(33), frames=None, samples=(10000, 20000))),
        ("retake_video", (2, 4), temporal_inpaint_mask(CANVAS, some_clip(33), frames=(5, 13), samples=None)),
        ("repaint", (1, 3, 0, 2), spatial_inpaint_mask(CANVAS, some_clip(33), region(slice(2, 6), slice(0, 4)))),
    ],
)
def test_a_task_has_the_levels_that_the_same_request_has_in_inference(name: str, drawn: tuple[int, ...], asked: Given) -> None:
    video, audio = MASKED_TASKS[name](CLIP, picks(*drawn)).levels(CLIP)
    asked_video, asked_audio = given_levels(asked, CLIP.grid, CLIP.timeline)
    assert torch.equal(video, asked_video) and torch.equal(audio, asked_audio)


def test_filling_audio_gives_audio_around_a_span_and_no_video() -> None:
    given = MASKED_TASKS["fill_audio"](CLIP, picks(30, 25))
    assert isinstance(given, GivenMask)
    video, audio = given.levels(CLIP)
    # a span of five latents is widened to a quarter of a second, which is eight
    assert bool((video == 1).all()) and torch.nonzero(audio)[:, 0].tolist() == list(range(25, 33))


def test_the_default_shares_name_every_task_and_leave_most_to_text() -> None:
    assert {*DEFAULT_TASKS, "text"} == {*WHOLE_TASKS, *MASKED_TASKS}
    shares = NoiseSettings().shares
    assert sum(shares.values()) == pytest.approx(1.0) and shares["text"] == pytest.approx(0.748)
    assert settings(text=0.3, repaint=0.2).shares["text"] == pytest.approx(0.8), "what is left over is text"


@pytest.mark.parametrize(
    ("tasks", "independent", "named"),
    [
        ({"frist_frame": 0.1}, 0.0, "the nearest is 'first_frame'"),
        ({"zzz": 0.1}, 0.0, "known are text"),
        ({"text": 0.9, "extend": 0.2}, 0.0, "at most 1; got 1.1"),
        ({"extend": -0.1}, 0.0, "must not be negative"),
        ({"video_to_audio": 0.5}, 0.6, "at most 0.5"),
    ],
)
def test_shares_that_make_no_sense_are_refused(tasks: dict[str, float], independent: float, named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        settings(independent, **tasks)
