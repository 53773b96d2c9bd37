"""Requests are checked whole, in words, and settled exactly for a model."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from mova.errors import RequestError
from mova.request.plan import Capabilities, resolve
from mova.request.schema import GenerationRequest

BASE = Capabilities(
    name="mova-base",
    sizes=((96, 96), (128, 64)),
    default_size=(96, 96),
    fps_range=(16.0, 16.0),
    default_fps=16.0,
    max_frames=33,
    default_frames=33,
    sample_rate=16000,
    audio_hop=500,
)
OFFICIAL = Capabilities(name="MOVA-360p")


@pytest.mark.parametrize(
    ("values", "field", "words"),
    [
        ({}, "prompt", "missing"),
        ({"prompt": " \n"}, "prompt", "empty"),
        ({"prompt": "x" * 2001}, "prompt", "2000"),
        ({"prompt": "x" * 10**7}, "prompt", "2000"),
        ({"prompt": 3}, "prompt", "text"),
        ({"promt": "a"}, "promt", "Did you mean prompt"),
        ({"prompt": "a", "zzz": 1}, "zzz", "num_frames"),
        ({"prompt": "a", "num_frames": 0}, "num_frames", "at least 1"),
        ({"prompt": "a", "num_frames": 2.5}, "num_frames", "whole number"),
        ({"prompt": "a", "num_frames": True}, "num_frames", "whole number"),
        ({"prompt": "a", "num_inference_steps": 1001}, "num_inference_steps", "Use 1000"),
        ({"prompt": "a", "seconds": 0.0}, "seconds", "more than 0"),
        ({"prompt": "a", "seconds": float("nan")}, "seconds", "finite|more than 0"),
        ({"prompt": "a", "seconds": 1.0, "num_frames": 9}, "seconds", "both"),
        ({"prompt": "a", "guidance_scale": float("inf")}, "guidance_scale", "finite"),
        ({"prompt": "a", "guidance_scale": -1.0}, "guidance_scale", "at least 0"),
        ({"prompt": "a", "shift": 0.0}, "shift", "at least 0.01"),
        ({"prompt": "a", "solver": "rk4"}, "solver", "euler"),
        ({"prompt": "a", "audio_sample_rate": 100}, "audio_sample_rate", "8000"),
        ({"prompt": "a", "seed": -1}, "seed", "at least 0"),
        ({"prompt": "a", "seed": 2**63}, "seed", "at most"),
        ({"prompt": "a", "guidance_from": 0.2, "guidance_to": 0.5}, "guidance_from", "below"),
    ],
)
def test_a_wrong_field_is_named_with_what_is_allowed(values: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        GenerationRequest.model_validate(values)
    assert caught.value.field == field
    assert caught.value.exit_code == 2
    assert len(str(caught.value)) < 500


def test_a_request_built_directly_or_from_json_is_refused_in_the_same_words() -> None:
    with pytest.raises(RequestError, match="num_frames must be at least 1"):
        GenerationRequest(prompt="a", num_frames=0)
    with pytest.raises(RequestError, match="num_frames must be at least 1"):
        GenerationRequest.model_validate_json('{"prompt": "a", "num_frames": 0}')


def test_a_request_goes_through_json_unchanged_and_takes_numbers_of_numpy() -> None:
    request = GenerationRequest(prompt="a ball", seed=np.int64(3), seconds=2, guidance_scale=np.float32(2.5))
    assert request.seed == 3
    assert GenerationRequest.model_validate_json(request.model_dump_json()) == request


@pytest.mark.parametrize(
    ("values", "field", "nearest"),
    [
        ({"width": 100}, "width", "96x96"),
        ({"height": 90}, "height", "96x96"),
        ({"width": 120, "height": 64}, "width", "128x64"),
        ({"fps": 24}, "fps", "16"),
        ({"num_frames": 34}, "num_frames", "33"),
        ({"seconds": 2.07}, "seconds", "2.0625"),
    ],
)
def test_what_a_model_cannot_make_is_refused_with_the_nearest(values: dict[str, Any], field: str, nearest: str) -> None:
    with pytest.raises(RequestError, match="mova-base") as caught:
        resolve(GenerationRequest(prompt="a", **values), BASE)
    assert caught.value.field == field
    assert nearest in caught.value.hint


def test_sides_of_a_free_size_must_be_multiples_and_the_nearest_is_named() -> None:
    with pytest.raises(RequestError, match="multiple of 16") as caught:
        resolve(GenerationRequest(prompt="a", width=640, height=360), OFFICIAL)
    assert (caught.value.field, caught.value.hint) == ("height", "Use 352, the nearest.")
    assert resolve(GenerationRequest(prompt="a", width=640, height=352), OFFICIAL).height == 352


@pytest.mark.parametrize("num_frames", range(1, 34))
def test_every_length_up_to_the_longest_is_made_exactly(num_frames: int) -> None:
    plan = resolve(GenerationRequest(prompt="a", num_frames=num_frames, audio_sample_rate=44100), BASE)
    assert plan.num_frames == num_frames
    assert plan.num_samples == num_frames * 44100 // 16
    assert plan.grid_frames >= num_frames
    assert plan.grid_frames % 4 == 1
    assert plan.grid_frames - num_frames < 4


def test_a_model_can_ask_for_a_longer_grid_than_the_clip() -> None:
    capabilities = Capabilities(name="long", max_frames=33, default_frames=33, min_grid_frames=33)
    plan = resolve(GenerationRequest(prompt="a", num_frames=5), capabilities)
    assert (plan.num_frames, plan.grid_frames) == (5, 33)


def test_seconds_become_the_shortest_video_that_lasts_them() -> None:
    assert resolve(GenerationRequest(prompt="a", seconds=2.0625), BASE).num_frames == 33
    assert resolve(GenerationRequest(prompt="a", seconds=1), BASE).num_frames == 16
    assert resolve(GenerationRequest(prompt="a", seconds=1.01), BASE).num_frames == 17
    assert resolve(GenerationRequest(prompt="a", seconds=0.001), BASE).num_frames == 1


def test_a_settled_request_settles_to_itself() -> None:
    plan = resolve(GenerationRequest(prompt="a", seconds=1.0), BASE)
    again = resolve(plan.request, BASE)
    assert again == plan
    assert plan.request.seed is not None
    assert plan.request.num_frames == 16


def test_a_drawn_seed_is_recorded_and_differs_each_time_while_the_audio_follows() -> None:
    plans = [resolve(GenerationRequest(prompt="a"), BASE) for _ in range(4)]
    assert len({plan.seed for plan in plans}) == 4
    assert all(plan.audio_seed == plan.seed == plan.request.seed for plan in plans)
    assert resolve(GenerationRequest(prompt="a", audio_seed=5), BASE).audio_seed == 5


def test_a_broadcast_rate_is_exact() -> None:
    plan = resolve(GenerationRequest(prompt="a", fps=23.976), OFFICIAL)
    assert plan.timeline.fps == Fraction(24000, 1001)


def test_a_world_survives_json_with_unknown_keys() -> None:
    values = {"name": "x", "sizes": [[96, 96]], "kinds": ["ball", "rain"], "future": 1}
    capabilities = Capabilities.from_values(values)
    assert capabilities.sizes == ((96, 96),)
    assert capabilities.kinds == ("ball", "rain")


def test_checking_a_request_does_not_import_torch() -> None:
    code = "import sys, mova.request.schema; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
