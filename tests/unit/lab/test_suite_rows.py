"""Rows that are kept as they are made, and a run that goes on."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mova.errors import MediaError, RequestError
from mova.lab.documents import plain
from mova.lab.suite.results import Row
from mova.lab.suite.run import read_rows, run_batches

RUN = {"model": "tiny", "seed": 3}
JOBS = {"a": 1, "b": 2, "c": 3}


def run_missing(jobs: dict[str, int], work: Callable[[int], Row], path: Path, **options: Any) -> list[Row]:
    """Jobs each by itself."""
    return run_batches(jobs, lambda batch: [work(job) for job in batch], path, **options)


class Worker:
    """Makes rows, and remembers which; stops like a power cut before the ``limit``-th."""

    def __init__(self, limit: int = 99) -> None:
        self.limit, self.made = limit, list[int]()

    def __call__(self, job: int) -> Row:
        if len(self.made) == self.limit:
            raise KeyboardInterrupt
        self.made.append(job)
        return {"key": "abc"[job - 1], "value": 10 * job}


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path, first, second = tmp_path / "rows.jsonl", Worker(limit=2), Worker()
    with pytest.raises(KeyboardInterrupt):
        run_missing(JOBS, first, path, run=RUN)
    told: list[tuple[int, int]] = []
    rows = run_missing(JOBS, second, path, run=RUN, on_row=lambda done, of: told.append((done, of)))
    assert (first.made, second.made) == ([1, 2], [3])
    assert [row["value"] for row in rows] == [10, 20, 30]
    assert told == [(2, 3), (3, 3)]


def test_a_pool_makes_the_same_rows_and_stops_where_a_job_fails(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        rows = run_missing(JOBS, Worker(), tmp_path / "rows.jsonl", run=RUN, pool=pool)
        assert [row["value"] for row in rows] == [10, 20, 30]
        with pytest.raises(ZeroDivisionError):
            run_missing({"d": 0, **JOBS}, lambda job: {"key": str(1 // job)}, tmp_path / "rows.jsonl", run=RUN, pool=pool)
        with pytest.raises(RuntimeError, match="shutdown"):
            pool.submit(int)
    assert set(read_rows(tmp_path / "rows.jsonl", RUN)) == set(JOBS)


def test_a_line_that_was_being_written_is_made_again(tmp_path: Path) -> None:
    path, worker = tmp_path / "rows.jsonl", Worker()
    run_missing({"a": 1}, Worker(), path, run=RUN)
    with open(path, "ab") as handle:
        handle.write(b'{"key": "b", "val')
    run_missing(JOBS, worker, path, run=RUN)
    assert worker.made == [2, 3]
    assert [json.loads(line).get("key") for line in path.read_text().splitlines()] == [None, "a", "b", "c"]


def test_a_run_that_is_asked_for_less_gets_only_that(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    run_missing(JOBS, Worker(), path, run=RUN)
    assert [row["key"] for row in run_missing({"c": 3}, Worker(limit=0), path, run=RUN)] == ["c"]


def test_rows_of_another_run_are_refused_and_say_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    run_missing({"a": 1}, Worker(), path, run=RUN)
    with pytest.raises(RequestError, match="another run: seed differ"):
        read_rows(path, {**RUN, "seed": 4})


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("[1, 2]\nnot json\n")
    with pytest.raises(MediaError, match="cannot read the rows"):
        run_missing(JOBS, Worker(), tmp_path / "rows.jsonl", run=RUN)


def test_plain_values_hold_nothing_that_json_does_not() -> None:
    assert plain({"a": np.float32(0.5), "b": (math.nan, math.inf, 1)}) == {"a": 0.5, "b": [None, None, 1]}
