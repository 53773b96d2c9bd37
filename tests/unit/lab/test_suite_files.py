"""Videos of anybody: what is measured, what is named, and a page that nobody can write into."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import sys
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from mova.cli import evaluate
from mova.cli.app import app
from mova.errors import MediaError, MissingExtraError, MovaError, RequestError, is_shortage
from mova.lab.quality import metric as learned_metric
from mova.lab.quality.learned.fad import VGGish
from mova.lab.quality.learned.lse import LipSync, SyncNet
from mova.lab.quality.plugins import measure
from mova.lab.suite import files
from mova.lab.suite.files import WholeVideos, check_metrics, list_jobs, video_row, video_rows
from mova.lab.suite.report import MAX_PLAYERS, render_report
from mova.lab.suite.results import SHORT, Row, read_results
from mova.lab.suite.run import run_batches
from mova.lab.suite.tables import Plot, event_raster, offset_histogram
from mova.media.clip import Clip
from mova.media.remux.silent import write_silent
from mova.scenes.world import render, write_script

HOSTILE = "<img src=x onerror=alert(1)>\" & '\x1b[31m"


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips, one of which is silent, one video without audio, audio, a broken file and a note."""
    folder = tmp_path_factory.mktemp("films")
    script = write_script("drums", 7, attributes={"count": 3})
    clip = replace(render(script, width=48, height=48).clip(), request={"prompt": script.caption})
    clip.save(folder / "good.mp4")
    shutil.copy(folder / "good.mp4", folder / "<b>hostile&\x1b[31m.mp4")
    replace(clip, waveform=np.zeros_like(clip.waveform)).save(folder / "silent.mp4")
    write_silent(clip, folder / "mute.mp4")
    clip.save(folder / "alone.wav")
    (folder / "broken.mp4").write_bytes(b"\x00\x00\x00\x18ftypisom" + bytes(100))
    (folder / "notes.txt").write_text("no video")
    (folder / ".hidden.mp4").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def measured(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run over the folder, against itself as the reference: its output folder and what it said."""
    output = tmp_path_factory.mktemp("output")
    arguments = ["eval", "files", str(videos), "--reference", str(videos), "-o", str(output), "--processes", "1"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return output, done.output


def test_every_video_is_measured_and_what_is_missing_counts_against_coverage(measured: tuple[Path, str]) -> None:
    document = read_results(measured[0] / "results.json")
    rows = {row["file"]: row for row in document["clips"]}
    assert {name: row["status"] for name, row in rows.items()} == {
        "good.mp4": "ok",
        "<b>hostile&\x1b[31m.mp4": "ok",
        "silent.mp4": "silent",
        "mute.mp4": "no audio",
        "alone.wav": "no picture",
        "broken.mp4": "unreadable",
    }
    assert document["coverage"]["value"] == pytest.approx(2 / 6)
    assert {one["file"] for one in document["not_covered"]} == {"silent.mp4", "mute.mp4", "alone.wav", "broken.mp4"}
    good = rows["good.mp4"]
    assert abs(good["values"]["sync.offset_ms"]) < 60.0 and good["sync"]["num_events"] == 3
    assert good["values"]["fidelity.psnr_db"] == 99.0 and good["values"]["fidelity.ssim"] == pytest.approx(1.0)
    assert good["values"]["fidelity.mel"] == 0.0
    assert rows["mute.mp4"]["skipped"] == {"audio": "there is no audio"} and "video.blur" in rows["mute.mp4"]["values"]
    assert set(rows["alone.wav"]["skipped"]) == {"sync", "video"} and "audio.rms_db" in rows["alone.wav"]["values"]
    assert "avalign.score" not in good["values"]  # only if it is named
    assert {one["name"]: one["status"] for one in document["learned"]}["clap"] == "skipped"


def test_the_terminal_names_what_is_wrong_and_is_not_written_to_by_file_names(measured: tuple[Path, str]) -> None:
    said = measured[1]
    assert "notes.txt" in said and "broken.mp4: unreadable: " in said and "silent.mp4: silent" in said
    assert "clap: skipped" in said and "coverage 0.333" in said
    assert "\x1b" not in said


class Page(HTMLParser):
    """What a browser would see: tags with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_needs_nothing_and_takes_no_text_for_markup(measured: tuple[Path, str]) -> None:
    text = (measured[0] / "report.html").read_text(encoding="utf-8")
    tags = Page(text).tags
    policy = next(found["content"] or "" for tag, found in tags if found.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'") and "script-src" not in policy
    assert not [tag for tag, _ in tags if tag in ("script", "link", "iframe", "b")]
    assert all((found["src"] or "").startswith("data:") for _, found in tags if "src" in found)
    assert not [name for _, found in tags for name in found if name.startswith("on")]
    assert "http://" not in text and "https://" not in text
    assert "&lt;b&gt;hostile&amp;\\x1b[31m.mp4" in text
    assert {tag for tag, _ in tags} >= {"svg", "video", "img", "table"}


def test_prompts_are_text_too_and_only_few_videos_are_put_inside(videos: Path) -> None:
    row: dict[str, Any] = {
        "key": "a", "file": "good.mp4", "status": "ok", "why": HOSTILE, "prompt": HOSTILE, "values": {}, "skipped": {},
        "faults": [HOSTILE], "seconds": 2.0625,
        "sync": {"verdict": "noticeable", "why": HOSTILE, "offset_ms": 9.0, "seen_s": [1], "heard_s": [1], "pairs_s": [[1, 1]]},
    }  # fmt: skip
    document = {
        "suite": "files", "folder": HOSTILE, "num_files": 9, "coverage": {"value": 1.0, "interval": [1.0, 1.0]},
        "verdicts": {"noticeable": 9}, "num_faulty": 9, "metrics_version": 1, "not_covered": [], "values": {},
        "learned": [{"name": HOSTILE, "status": "skipped", "values": {}, "reason": HOSTILE}], "clips": [row] * 9,
    }  # fmt: skip
    text = render_report(document, videos)
    tags = Page(text).tags
    assert sum(tag == "video" for tag, _ in tags) == MAX_PLAYERS
    assert not [found for tag, found in tags if "onerror" in found or found.get("src") == "x"]
    assert "\x1b" not in text


def test_a_metric_that_does_not_exist_names_the_nearest_before_any_work(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no metric 'clop'"):
        check_metrics(["clop"])
    done = CliRunner().invoke(app, ["eval", "files", str(videos), "-o", str(tmp_path / "out"), "--metric", "sinc"])
    assert isinstance(done.exception, RequestError) and "'sync'" in done.exception.hint
    assert not (tmp_path / "out").exists()
    assert check_metrics(["audio", "sync"]) == ("sync", "audio")


@pytest.mark.parametrize(("package", "metric"), [("cv2", "video"), ("skimage", "fidelity"), ("librosa", "avalign")])
def test_a_package_that_a_metric_needs_and_that_is_not_there_is_named_before_any_work(
    monkeypatch: pytest.MonkeyPatch, package: str, metric: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=package) as caught:
        check_metrics([metric])
    assert "mova-av[eval]" in caught.value.hint
    assert check_metrics(["audio", "sync", "health"]) == ("sync", "health", "audio")  # these need no more than mova itself


def test_fidelity_without_a_reference_and_a_folder_without_videos_are_refused(videos: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["eval", "files", str(videos), "-o", str(tmp_path / "out"), "--metric", "fidelity"])
    assert isinstance(done.exception, RequestError) and "--reference" in done.exception.hint
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(MediaError, match="no video"):
        list_jobs(tmp_path, reference=None, metrics=())
    for path in (tmp_path / "none", tmp_path / "notes.txt"):
        with pytest.raises(MediaError, match="cannot read the folder") as caught:
            list_jobs(path, reference=None, metrics=())
        assert caught.value.hint


def test_a_link_to_nothing_is_a_video_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (job,) = list_jobs(tmp_path, reference=None, metrics=("sync",)).jobs.values()
    row = video_row(job)
    assert (row["file"], row["status"]) == ("gone.mp4", "unreadable") and row["why"]


@pytest.mark.parametrize("output", ["file", "file/inside"])
def test_an_output_that_is_no_folder_is_refused_before_any_work(videos: Path, tmp_path: Path, output: str) -> None:
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(app, ["eval", "files", str(videos), "-o", str(tmp_path / output), "--processes", "1"])
    assert isinstance(done.exception, MediaError) and done.exception.message.startswith("--output: cannot make the folder")
    assert done.exception.hint and "films" not in done.output


@contextmanager
def without_descriptors() -> Iterator[None]:
    """No file can be opened: what a process sees that has too many open."""
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = [os.open(os.devnull, os.O_RDONLY) for _ in range(highest + 4)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(spare) + 1, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in spare:
            os.close(descriptor)


@pytest.mark.parametrize("metrics", [(), ("health",)])  # while the video is read; while a metric reads it once more
def test_a_video_for_which_descriptors_run_out_gets_no_row_and_the_next_call_measures_it(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metrics: tuple[str, ...]
) -> None:
    jobs = list_jobs(videos, reference=None, metrics=metrics).jobs
    jobs = {key: job for key, job in jobs.items() if job.path.name == "good.mp4"}
    (job,) = jobs.values()
    whole = video_row(job)
    assert whole["status"] == "ok"
    if metrics:
        read = files._read(job.path)
        monkeypatch.setattr(files, "_read", lambda path: read)

    def starved(jobs: Sequence[files.VideoJob]) -> list[dict[str, Any]]:
        with without_descriptors():
            return video_rows(jobs)

    (row,) = run_batches(jobs, starved, tmp_path / "rows.jsonl", run={})
    assert row[SHORT] and row["status"] == "not measured" and "too many open files" in row["why"].lower()
    with pytest.raises(MovaError, match=r"1 of 1 videos \(good\.mp4\)") as caught:
        evaluate._check_shortage([row], [])
    assert caught.value.exit_code == 1
    monkeypatch.undo()
    assert run_batches(jobs, video_rows, tmp_path / "rows.jsonl", run={}) == [whole]
    evaluate._check_shortage([whole], [])


@pytest.mark.parametrize(
    ("problem", "is_one"),
    [
        (MemoryError(), True),
        (OSError(errno.EMFILE, "many"), True),
        (MediaError("cannot read a.mp4: Cannot allocate memory."), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory: you tried to allocate"), True),
        (RuntimeError("can't start new thread"), True),
        (OSError(errno.ENOENT, "none"), False),
        (MediaError("cannot read a.mp4: Invalid data found when processing input."), False),
    ],
)
def test_a_shortage_is_told_from_a_fault_of_the_file(problem: Exception, is_one: bool) -> None:
    assert is_shortage(problem) == is_one
    for hides in (None, problem):
        try:
            try:
                raise problem
            except Exception:
                raise MediaError("cannot read a.mp4.") from hides
        except MediaError as wrapped:
            assert is_shortage(wrapped) == is_one


def end_process(jobs: Sequence[int]) -> list[Row]:
    os._exit(jobs[0])


def test_a_worker_that_ends_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(MovaError, match="a worker process ended in the middle of its work"):
        evaluate._rows({"a": 1}, end_process, tmp_path / "rows.jsonl", run={}, processes=2, label="films")


def test_a_video_that_changed_is_another_job_and_one_without_a_reference_is_named(videos: Path, tmp_path: Path) -> None:
    for name in ("one.mp4", "two.mp4"):
        shutil.copy(videos / "good.mp4", tmp_path / name)
    shutil.copytree(tmp_path, tmp_path / "reference")
    (tmp_path / "reference" / "two.mp4").rename(tmp_path / "reference" / "three.mp4")
    (tmp_path / "reference" / "one.mp4").rename(tmp_path / "reference" / "one.mov")
    before = list_jobs(tmp_path, reference=tmp_path / "reference", metrics=("sync", "fidelity"))
    assert before.unpaired == ("two.mp4",)
    assert [job.metrics for job in before.jobs.values()] == [("sync", "fidelity"), ("sync",)]
    shutil.copy(videos / "silent.mp4", tmp_path / "two.mp4")
    after = list_jobs(tmp_path, reference=tmp_path / "reference", metrics=("sync",))
    assert len(before.jobs.keys() & after.jobs.keys()) == 1


TINY_METRIC = """
from mova.lab.quality.learned.fad import VGGish, VGGishFAD


class TinyFAD(VGGishFAD):
    def __init__(self):
        super().__init__(name="tinyfad", fewest=4, network=VGGish(width=4, channels=2, hidden=8))
"""


@pytest.fixture
def tiny_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A distance of sets at tiny size, added as other packages add theirs, and a folder with its weights."""
    package = tmp_path / "package"
    (package / "tiny_metric-1.dist-info").mkdir(parents=True)
    (package / "tiny_metric.py").write_text(TINY_METRIC)
    (package / "tiny_metric-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-metric\nVersion: 1\n")
    entry_points = "[mova.metrics]\ntinyfad = tiny_metric:TinyFAD\n"
    (package / "tiny_metric-1.dist-info" / "entry_points.txt").write_text(entry_points)
    monkeypatch.syspath_prepend(package)
    torch.manual_seed(0)
    weights = {name: 2.0 * value for name, value in VGGish(width=4, channels=2, hidden=8).state_dict().items()}
    (tmp_path / "weights").mkdir()
    save_file(weights, tmp_path / "weights" / "tinyfad.safetensors")
    return tmp_path / "weights"


def test_two_processes_give_the_numbers_of_one_of_each_video_and_of_sets(tiny_weights: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for folder, level in (("made", 0.1), ("real", 0.4)):
        (tmp_path / folder).mkdir()
        for number in range(3):
            frames = rng.integers(0, 256, (16, 16, 16, 3), dtype=np.uint8)
            waveform = rng.uniform(-level, level, (1, 32000)).astype(np.float32)
            Clip(frames, waveform, Fraction(8), 16000).save(tmp_path / folder / f"{number}.mp4")
    (tmp_path / "made" / "1b.mp4").write_bytes(b"broken")
    found = []
    for processes in ("1", "2"):
        output = tmp_path / f"with{processes}"
        arguments = ["-o", str(output), "--processes", processes, "--weights", str(tiny_weights)]
        metrics = ["--metric", "audio", "--metric", "tinyfad"]
        folders = [str(tmp_path / "made"), "--reference", str(tmp_path / "real")]
        done = CliRunner().invoke(app, ["eval", "files", *folders, *arguments, *metrics])
        assert done.exit_code == 0, done.output
        found.append({**read_results(output / "results.json"), "made": None})
    assert found[0] == found[1]
    (learned,) = found[0]["learned"]
    assert (learned["status"], learned["num_scored"]) == ("ok", 3) and learned["values"]["fad"] > 1e-4
    assert [row["file"] for row in found[0]["clips"]] == ["0.mp4", "1.mp4", "1b.mp4", "2.mp4"]


TALKING = Clip(
    np.random.default_rng(0).integers(0, 256, (20, 64, 80, 3), dtype=np.uint8),
    np.random.default_rng(1).uniform(-0.5, 0.5, (1, 12_800)).astype(np.float32),
    Fraction(25),
    16_000,
)


def test_lse_takes_the_face_from_the_document_beside_the_video(tmp_path: Path) -> None:
    weights = tmp_path / "lse.safetensors"
    torch.manual_seed(0)
    save_file(SyncNet(width=8, share=1 / 64).state_dict(), weights)
    folder = tmp_path / "films"
    folder.mkdir()
    box, moving = [10, 0, 70, 60], [[index, 0.5, index + 50, 60] for index in range(20)]
    for name, document in (("all", box), ("each", moving), ("none", None), ("wrong", [[0, 0, 50, 50]] * 3)):
        TALKING.save(folder / f"{name}.mp4")
        if document is not None:
            (folder / f"{name}.faces.json").write_text(json.dumps(document))
    listing = list_jobs(folder, reference=None, metrics=())
    assert listing.passed_by == ()
    found = WholeVideos([job.path for job in listing.jobs.values()])
    boxes = [sample.face for sample in found]
    np.testing.assert_array_equal(boxes[0], np.tile(np.array(box, float), (20, 1)))
    np.testing.assert_array_equal(boxes[1], np.array(moving, float))
    assert boxes[2:] == [None, None]
    result = measure(LipSync(network=SyncNet(width=8, share=1 / 64)), found, weights=weights)
    assert (result.status, result.num_scored, result.num_failed) == ("ok", 2, 2) and set(result.values) >= {"lse_d", "lse_c"}
    skipped = {job.path.stem: video_row(job)["skipped"] for job in listing.jobs.values()}
    wrong = skipped.pop("wrong")
    assert wrong == {"faces": "wrong.faces.json holds 3 x 4 numbers; the video has 20 frames."}
    assert skipped == {"all": {}, "each": {}, "none": {}}
    (folder / "none.faces.json").write_text(json.dumps(box))
    assert list_jobs(folder, reference=None, metrics=()).jobs.keys() != listing.jobs.keys()  # such a video is measured anew


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("[1, 2, 3]", "holds 1 x 3 numbers"),
        ("[[0, 0, 9, 9], [0, 0, 9, 9]]", "holds 2 x 4 numbers"),
        ("[0, 0, 81, 9]", "within 80x64 pixels"),
        ("[9, 0, 9, 9]", "within 80x64 pixels"),
        ("[-1, 0, 9, 9]", "within 80x64 pixels"),
        ("[0, 0, NaN, 9]", "within 80x64 pixels"),
        ("[0, 0, true, 9]", "does not hold boxes"),
        ("[[0, 0, 9, 9], [0, 0]]", "does not hold boxes"),
        ("{}", "does not hold boxes"),
        ("[]", "does not hold boxes"),
        ("[0, 0, 1", "does not hold boxes"),
        ("[" * 100_000, "does not hold boxes"),
        (" " * (learned_metric.MAX_FACES_BYTES + 1), "more than"),
    ],
)
def test_a_document_of_faces_that_does_not_fit_is_told(tmp_path: Path, document: str, words: str) -> None:
    (tmp_path / "film.faces.json").write_text(document)
    with pytest.raises(MediaError, match=words) as caught:
        learned_metric.read_faces(tmp_path / "film.mp4", num_frames=20, width=80, height=64)
    assert caught.value.hint


def test_videos_for_metrics_with_weights_are_in_memory_one_at_a_time(videos: Path) -> None:
    script = write_script("drums", 7, attributes={"count": 3})
    names = ("good.mp4", "broken.mp4", "silent.mp4", "good.mp4", "alone.wav", "good.mp4")
    whole = WholeVideos([videos / name for name in names])
    assert len(whole) == 4  # a broken video and audio alone are no clips
    seen: list[weakref.ref[Clip]] = []
    for sample in whole:
        seen.append(weakref.ref(sample.clip))
        assert sum(one() is not None for one in seen) == 1
        assert sample.prompt == script.caption
    np.testing.assert_array_equal(whole[0].clip.frames, whole[2].clip.frames)
    assert not whole[1].clip.waveform.any() and len(whole[1:]) == 3


def styles(plot: Plot) -> Counter[str]:
    return Counter(shape[-1] for shape in (*plot.boxes, *plot.lines))


def test_plots_hold_what_they_are_given() -> None:
    histogram = offset_histogram([[0.0, 3.0], [250.0, -9000.0, float("nan")], []])
    assert styles(histogram)["bar"] == 3 and "histogram of 4 offsets" in histogram.label
    assert styles(histogram)["median"] == 1 and styles(histogram)["rug"] == 2  # one for each clip with pairs
    assert styles(offset_histogram([]))["bar"] == 0 and offset_histogram([[]]).label == "histogram of 0 offsets"
    assert offset_histogram([[400.0]]).label.startswith("histogram of 1 offset,")
    raster = event_raster([0.5, 1.0], [0.52, 1.4], [(0.5, 0.52), (1.0, 1.4)], seconds=2.0)
    assert (styles(raster)["near"], styles(raster)["far"], styles(raster)["seen"]) == (1, 1, 2)


def test_a_median_that_no_pair_has_is_told_and_not_drawn() -> None:
    apart = offset_histogram([[-2.0, 0.0], [200.0, 202.0]])
    assert styles(apart)["median"] == 0 and styles(apart)["rug"] == 2
    assert "median +100 ms, between groups: no pair is there" in [words for _, _, words, _ in apart.texts]
    together = offset_histogram([[-2.0, 0.0], [2.0]])
    assert styles(together)["median"] == 1 and "between groups" not in together.label
