"""Threads: as many as asked for, and clips that do not depend on how many."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from mova.errors import RequestError
from mova.generation.model import MOVAModel
from mova.media.clip import Clip
from mova.runtime.options import RuntimeOptions
from mova.runtime.threads import use_threads

REQUEST = {"prompt": "drum pads are hit: red, blue", "seed": 7, "num_inference_steps": 2}


def make(threads: int | None) -> Clip:
    return MOVAModel.from_pretrained("mova-base", runtime=RuntimeOptions(threads=threads)).generate(**REQUEST)


def test_a_clip_is_the_same_to_the_last_bit_on_machines_with_one_core_two_and_more() -> None:
    before = torch.get_num_threads()
    first = make(1)
    try:
        torch.set_num_threads(4)
        others = [make(2), make(None)]
        assert torch.get_num_threads() == 4 and torch.backends.mkldnn.enabled
    finally:
        torch.set_num_threads(before)
    for clip, threads in ((first, 1), *((other, 2) for other in others)):
        assert np.array_equal(clip.frames, first.frames) and np.array_equal(clip.waveform, first.waveform)
        assert clip.made_by is not None
        assert (clip.made_by["threads"], clip.made_by["same_for_any_threads"]) == (threads, True)


def test_more_threads_are_taken_if_asked_for_and_recorded_as_what_the_clip_depends_on() -> None:
    made_by = make(3).made_by
    assert made_by is not None and (made_by["threads"], made_by["same_for_any_threads"]) == (3, False)


def test_threads_and_onednn_are_what_they_were_after_a_run_that_fails_and_between_runs_that_overlap() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ValueError), use_threads(before + 1, is_exact=True):
        assert torch.get_num_threads() == before + 1 and not torch.backends.mkldnn.enabled
        raise ValueError
    assert torch.get_num_threads() == before and torch.backends.mkldnn.enabled
    with ThreadPoolExecutor(1) as pool:
        outer = use_threads(None, is_exact=True)
        outer.__enter__()
        inner = use_threads(None, is_exact=True)
        pool.submit(inner.__enter__).result()
        outer.__exit__(None, None, None)
        assert not torch.backends.mkldnn.enabled, "the other run is not done"
        pool.submit(inner.__exit__, None, None, None).result()
    assert torch.backends.mkldnn.enabled


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2", True, 100_000])
def test_a_number_of_threads_that_makes_no_sense_is_refused(threads: object) -> None:
    with pytest.raises(RequestError, match="threads must be from 1 to"):
        RuntimeOptions(threads=threads)  # type: ignore[arg-type]


@pytest.mark.parametrize(("given", "found"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_waiting_threads_sleep_unless_the_user_says_otherwise(given: str | None, found: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    if given is not None:
        environment["OMP_WAIT_POLICY"] = given
    code = "import mova, os; print(os.environ['OMP_WAIT_POLICY'])"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == found
