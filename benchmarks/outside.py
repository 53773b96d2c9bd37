"""Checks of the measures against what others have made or published. Prints a table and writes it to ``outside.md``.

    python benchmarks/outside.py

A package that is not installed, or a video that is not there, is a check that was skipped, and the table says so.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from rich.console import Console

from mova.lab.quality.fidelity import mel_distance
from mova.lab.sync.pairing import match
from mova.media.loudness import loudness_lufs

ROOT = Path(__file__).parents[1]
MEDIA = ROOT.parent / "shared" / "media"
WINDOWS_MS = (22.5, 45.0, 80.0)
NUM_TRAINS = 300


@dataclass(frozen=True)
class Outcome:
    """One check.

    Args:
        name: What was compared.
        expected: What must come out.
        found: What came out.
        result: ``"passed"``, ``"failed"`` or ``"skipped: why"``.
    """

    name: str
    expected: str
    found: str
    result: str


def main() -> int:
    """Check, print, write; 1 if a check failed."""
    outcomes = [check() for check in CHECKS]
    page = markdown(outcomes)
    Console(width=200).print(page, markup=False, highlight=False)
    (Path(__file__).parent / "outside.md").write_text(page + "\n", encoding="utf-8")
    return int(any(outcome.result == "failed" for outcome in outcomes))


def onsets_as_mir_eval() -> Outcome:
    """F1, precision and recall of our pairs are those of mir_eval's onsets, on random trains of events."""
    name, expected = f"onset F1, precision and recall, {NUM_TRAINS} trains", "as mir_eval.onset.f_measure, within 1e-9"
    if find_spec("mir_eval") is None:
        return Outcome(name, expected, "", "skipped: mir_eval is not installed")
    import mir_eval

    rng = np.random.default_rng(0)
    largest = 0.0
    for index in range(NUM_TRAINS):
        truth = np.sort(rng.uniform(0.0, 6.0, size=rng.integers(1, 14)))
        moved = truth + rng.normal(0.0, 0.05, size=truth.size)
        heard = np.sort(np.concatenate((moved[rng.random(truth.size) < 0.8], rng.uniform(0.0, 6.0, size=rng.integers(1, 4)))))
        window_ms = WINDOWS_MS[index % len(WINDOWS_MS)]
        theirs = mir_eval.onset.f_measure(truth, heard, window=window_ms / 1000.0)
        matched = len(match(truth, heard, low_ms=-window_ms, high_ms=window_ms))
        ours = (2.0 * matched / (truth.size + heard.size), matched / heard.size, matched / truth.size)
        largest = max(largest, *(abs(one - other) for one, other in zip(ours, theirs, strict=True)))
    return Outcome(name, expected, f"largest difference {largest:.1e}", passed(largest < 1e-9))


def loudness_case_1() -> Outcome:
    """EBU Tech 3341, case 1: a stereo sine of 1 kHz at -23 dBFS for 20 s reads -23.0 +- 0.1 LUFS."""
    rate = 48_000
    sine = 10.0 ** (-23.0 / 20.0) * np.sin(2.0 * np.pi * 1000.0 * np.arange(20 * rate) / rate)
    found = loudness_lufs(np.stack((sine, sine)).astype(np.float32), rate)
    shown = "none" if found is None else f"{found:.3f} LUFS"
    name = "EBU loudness case 1: 1 kHz stereo sine at -23 dBFS, 20 s"
    return Outcome(name, "-23.0 +- 0.1 LUFS", shown, passed(found is not None and abs(found + 23.0) <= 0.1))


def mel_as_librosa() -> Outcome:
    """The distance of mel spectra is that of the spectra that librosa makes."""
    name, expected = "distance of mel spectra, 80 bands", "as of librosa's spectra and filters, within 1e-5"
    if find_spec("librosa") is None:
        return Outcome(name, expected, "", "skipped: librosa is not installed")
    import librosa

    audio = 0.1 * np.random.default_rng(0).standard_normal((2, 16000))
    filters = librosa.filters.mel(sr=16000, n_fft=1024, n_mels=80)
    spectra = [np.abs(librosa.stft(one, n_fft=1024, hop_length=256, pad_mode="reflect")) for one in audio]
    first, second = (np.log(np.maximum(filters @ spectrum, 1e-5)) for spectrum in spectra)
    difference = abs(mel_distance(*audio, 16000) - float(np.abs(first - second).mean()))
    return Outcome(name, expected, f"difference {difference:.1e}", passed(difference < 1e-5))


def real_videos() -> Outcome:
    """Videos that mova did not make go through ``mova eval files`` whole."""
    name, expected = "videos of others through `mova eval files`", "every file has a row, each metric a number or a reason"
    if not MEDIA.is_dir():
        return Outcome(name, expected, "", "skipped: the videos are not there")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mova.cli.app", "eval", "files", str(MEDIA), "-o", folder, "--processes", "1"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return Outcome(name, expected, done.stderr.strip().splitlines()[-1], "failed")
        document = json.loads((Path(folder) / "results.json").read_text(encoding="utf-8"))
        has_report = (Path(folder) / "report.html").stat().st_size > 0
    rows = document["clips"]
    covered = [row for row in rows if row["status"] == "ok"]
    is_whole = all(
        {name.partition(".")[0] for name in row["values"]} >= {"sync", "health", "video", "audio"} for row in covered
    )
    told = [f"{row['file']} {row['sync']['verdict']}" for row in covered]
    missing = [f"{one['file']} {one['status']}" for one in document["not_covered"]]
    return Outcome(name, expected, "; ".join([*told, *missing]), passed(bool(covered) and is_whole and has_report))


CHECKS: tuple[Callable[[], Outcome], ...] = (
    onsets_as_mir_eval,
    loudness_case_1,
    mel_as_librosa,
    real_videos,
)


def passed(is_passed: bool) -> str:
    """In a word."""
    return "passed" if is_passed else "failed"


def markdown(outcomes: list[Outcome]) -> str:
    """The page."""
    lines = ["# Outside checks", "", "Printed by `python benchmarks/outside.py`.", ""]
    lines += ["| check | expected | found | result |", "| --- | --- | --- | --- |"]
    lines += [f"| {one.name} | {one.expected} | {one.found} | {one.result} |" for one in outcomes]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
