"""Pairs of events are those of mir_eval, the usual measure of onsets in music."""

from __future__ import annotations

import numpy as np
import pytest

from mova.lab.sync.pairing import match

onset = pytest.importorskip("mir_eval.onset", reason="mir_eval is not installed; it is in the dev extra")


@pytest.mark.parametrize("window_ms", [22.5, 45.0, 80.0])
def test_f1_precision_and_recall_are_those_of_mir_eval(window_ms: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        truth = np.sort(rng.uniform(0.0, 6.0, size=rng.integers(1, 14)))
        kept = (truth + rng.normal(0.0, 0.05, size=truth.size))[rng.random(truth.size) < 0.8]
        heard = np.sort(np.concatenate((kept, rng.uniform(0.0, 6.0, size=rng.integers(1, 4)))))
        matched = len(match(truth, heard, low_ms=-window_ms, high_ms=window_ms))
        found = 2 * matched / (truth.size + heard.size), matched / heard.size, matched / truth.size
        assert found == pytest.approx(onset.f_measure(truth, heard, window=window_ms / 1000), abs=1e-9)
