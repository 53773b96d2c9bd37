"""One progress event and one cancel token for everybody."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from mova.generation.model import MOVAModel
from mova.media.clip import Clip
from mova.progress import CancelledError, CancelToken, Progress, Reporter
from mova.request.schema import GenerationRequest

SHORT = {"num_frames": 5, "num_inference_steps": 4}


def test_a_cancelled_run_stops_within_a_step_and_the_model_goes_on_working(tiny_model: MOVAModel) -> None:
    token, seen = CancelToken(), list[Progress]()

    def cancel_in_the_second_step(progress: Progress) -> None:
        seen.append(progress)
        if progress.stage == "denoise" and progress.done == 1:
            token.cancel()

    with pytest.raises(CancelledError):
        tiny_model.generate("rain", seed=1, on_progress=cancel_in_the_second_step, cancel=token, **SHORT)
    assert [now.done for now in seen if now.stage == "denoise"] == [0, 1]
    assert not any(now.stage == "decode" for now in seen)
    assert tiny_model.generate("rain", seed=1, **SHORT).num_frames == 5


def test_a_token_is_looked_at_before_every_forward_pass(tiny_model: MOVAModel) -> None:
    token, calls = CancelToken(), list[int]()

    def cancel_in_the_first_pass(module: object, inputs: object) -> None:
        calls.append(1)
        token.cancel()

    handle = tiny_model.pipeline.transformer.register_forward_pre_hook(cancel_in_the_first_pass)
    try:
        with pytest.raises(CancelledError):
            tiny_model.generate("rain", seed=1, cancel=token, solver="heun", **SHORT)
    finally:
        handle.remove()
    assert calls == [1], "a step of heun has two velocities"


def test_a_token_that_was_cancelled_before_does_no_work(tiny_model: MOVAModel) -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(CancelledError):
        tiny_model.generate("rain", seed=1, cancel=token, **SHORT)


def test_another_thread_can_cancel(tiny_model: MOVAModel) -> None:
    token = CancelToken()

    def cancel(progress: Progress) -> None:
        if progress.done == 1:
            thread = threading.Thread(target=token.cancel)
            thread.start()
            thread.join()

    with pytest.raises(CancelledError):
        tiny_model.generate("rain", seed=1, on_progress=cancel, cancel=token, **SHORT)


def test_a_preview_is_the_clip_so_far_and_costs_nothing_unless_asked_for(tiny_model: MOVAModel) -> None:
    previews: list[Clip] = []

    def look(progress: Progress) -> None:
        if progress.preview is not None and progress.done == progress.total:
            previews.append(progress.preview())

    clip = tiny_model.generate("rain", seed=1, on_progress=look, **SHORT)
    assert len(previews) == 1 and np.array_equal(previews[0].frames, clip.frames)


def test_an_estimate_follows_from_the_speed_seen_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("mova.progress.time.monotonic", lambda: now[0])
    seen: list[Progress] = []
    reporter = Reporter(seen.append)
    for done, time_s in ((0, 100.0), (1, 102.0), (3, 106.0)):
        now[0] = time_s
        reporter.report("denoise", done, 10)
    assert [progress.seconds_left for progress in seen] == [None, 18.0, 14.0]


def test_several_requests_give_the_clips_of_each_and_one_count_of_steps(tiny_model: MOVAModel) -> None:
    requests = [
        GenerationRequest(prompt=prompt, seed=seed, **SHORT) for prompt, seed in (("rain", 1), ("a ball", 2), ("rain", 3))
    ]
    requests.append(GenerationRequest(prompt="rain", seed=4, num_frames=9, num_inference_steps=4))
    seen: list[Progress] = []
    clips = tiny_model.run_many(requests, batch_size=2, on_progress=seen.append)
    assert [clip.num_frames for clip in clips] == [5, 5, 5, 9]
    for request, clip in zip(requests, clips, strict=True):
        alone = tiny_model.run(request)
        assert clip.request == alone.request and clip.made_by == alone.made_by
        assert np.abs(clip.frames.astype(int) - alone.frames).max() <= 1
    denoised = [(now.done, now.total) for now in seen if now.stage == "denoise"]
    assert denoised[-1] == (12, 12) and [done for done, _ in denoised] == sorted(done for done, _ in denoised)
