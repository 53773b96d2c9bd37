"""Arbitrary videos: each measured by what needs no reference, against a reference of its name, and by what weights are given.

A video that cannot be read, is silent or has no picture is measured as far as it goes, named, and counted against coverage;
whatever is wrong with one video, the others are measured. A video for which memory or descriptors ran out is not measured:
that is no fault of it, and the next call tries again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from mova.errors import MediaError, MovaError, RequestError, is_shortage, number_of
from mova.lab.numbers import mean_interval
from mova.lab.quality import fidelity, from_extra
from mova.lab.quality.audio import audio_quality
from mova.lab.quality.avalign import av_align
from mova.lab.quality.metric import Sample, faces_path, read_faces
from mova.lab.quality.plugins import MetricResult, list_metrics, weights_in
from mova.lab.quality.plugins import measure as measure_learned
from mova.lab.quality.video import video_quality
from mova.lab.suite.results import METRICS_VERSION, SHORT, Row, means_of
from mova.lab.sync.measure import Read, measure, read_video
from mova.media.decode import StreamedFrames, read_clip, read_waveform
from mova.media.health.files import check_file
from mova.media.probe import probe
from mova.scenes.script import nearest_hint

SUITE = "files"
SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".ts", ".ogv", ".wmv", ".flv", ".3gp", ".gif",
    ".wav", ".flac", ".mp3", ".m4a", ".aac", ".ogg", ".opus",
)  # fmt: skip
"""What is taken for a video; an audio file is a video without a picture."""
FIDELITY = "fidelity"
ON_REQUEST = "avalign"
"""Measured only if it is named: of no use but to compare with published numbers."""
SILENT_PEAK = 1e-3
_PACKAGES: Mapping[str, tuple[str, ...]] = {"video": ("cv2",), FIDELITY: ("skimage",), ON_REQUEST: ("cv2", "librosa")}


@dataclass(frozen=True)
class VideoJob:
    """A video to be measured.

    Args:
        key: Key of its row: name, size and time of change of video, reference and document of faces.
        path: The video.
        reference: What it is compared with.
        metrics: Names in :data:`METRICS`, and ``"fidelity"`` if there is a reference.
    """

    key: str
    path: Path
    reference: Path | None
    metrics: tuple[str, ...]


class WholeVideos(Sequence[Sample]):
    """The videos that are whole, decoded again each time one is asked for: a set of videos need not fit into memory.

    The rows say of the others what is wrong with them.

    Args:
        paths: The videos; each is decoded once, to see whether it is whole.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(path for path in paths if _is_whole(path))

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [_sample(path) for path in self._paths[index]]
        return _sample(self._paths[index])

    def __iter__(self) -> Iterator[Sample]:
        # not by index, as the base class has it: there an IndexError of a decoder would end the set in silence
        return map(_sample, self._paths)


@dataclass(frozen=True)
class Listing:
    """What is in a folder.

    Args:
        jobs: By key, in order of name.
        passed_by: Names of files that are no videos.
        unpaired: Names of videos without a reference, if there is a folder of references.
    """

    jobs: Mapping[str, VideoJob]
    passed_by: tuple[str, ...]
    unpaired: tuple[str, ...]


def check_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """Metrics by name, in their own order; all but :data:`ON_REQUEST` if none is named.

    Raises:
        RequestError: If there is none of a name; the nearest is named.
        MissingExtraError: If a package that one of them needs is not installed.
    """
    known = (*METRICS, FIDELITY, *list_metrics())
    for name in names:
        if name not in known:
            raise RequestError(f"there is no metric {name!r}.", nearest_hint(name, known), field="metric")
    found = tuple(name for name in known if name in names or (not names and name != ON_REQUEST))
    for name in found:
        for package in _PACKAGES.get(name, ()):
            from_extra(package)
    return found


def list_jobs(folder: Path, *, reference: Path | None, metrics: Sequence[str]) -> Listing:
    """The videos of a folder, hidden ones left out.

    Args:
        folder: The videos.
        reference: Folder of videos of the same names; of the same stems, where no name is the same.
        metrics: From :func:`check_metrics`.

    Raises:
        MediaError: If a folder cannot be read, or there is no video in it.
    """
    files = [path for path in _files(folder) if not path.name.startswith(".")]
    videos = [path for path in files if path.suffix.lower() in SUFFIXES]
    if not videos:
        raise MediaError(f"there is no video in {folder}.", f"Videos end in {', '.join(SUFFIXES)}.")
    others = [path for path in _files(reference) if path.suffix.lower() in SUFFIXES] if reference is not None else []
    named, stemmed = {path.name: path for path in others}, {path.stem: path for path in others}
    jobs, unpaired = {}, []
    for path in videos:
        partner = named.get(path.name) or stemmed.get(path.stem)
        if reference is not None and partner is None:
            unpaired.append(path.name)
        faces = faces_path(path)
        parts = (path, partner, faces if faces.exists() else None)
        key = "|".join([path.name, *(_stamp(one) for one in parts if one is not None)])
        own = tuple(name for name in metrics if name in METRICS or (name == FIDELITY and partner is not None))
        jobs[key] = VideoJob(key, path, partner, own)
    known = {*videos, *(faces_path(path) for path in videos)}
    return Listing(jobs, tuple(path.name for path in files if path not in known), tuple(unpaired))


def video_row(job: VideoJob) -> Row:
    """What is measured of a video, as plain values; errors are part of it."""
    row: Row = {"key": job.key, "file": job.path.name, "status": "ok", "why": "", "values": {}, "skipped": {}, "faults": []}
    try:
        video, row["status"] = _read(job.path)
        row["seconds"] = len(video.frames) / video.fps if len(video.frames) else video.waveform.shape[1] / video.sample_rate
        prompt = (video.request or {}).get("prompt")
        row["prompt"] = prompt if isinstance(prompt, str) else None
    except Exception as problem:  # one video must not end the run, whatever is wrong with it
        if is_shortage(problem):
            return _not_measured(row, problem)
        return {**row, "status": "unreadable", "why": _words(problem)}
    try:
        _faces(job.path, video.frames)
    except MediaError as problem:
        if is_shortage(problem):
            return _not_measured(row, problem)
        row["skipped"]["faces"] = _words(problem)
    for name in job.metrics:
        work = partial(_fidelity, reference=job.reference) if name == FIDELITY else METRICS[name]
        try:
            found = work(video, job.path)
        except Exception as problem:  # likewise
            if is_shortage(problem):
                return _not_measured(row, problem)
            row["skipped"][name] = _words(problem)
            continue
        row["values"] |= {f"{name}.{column}": value for column, value in found.pop("values").items()}
        row["skipped"] |= found.pop("skipped", {})
        row |= found
    return row


def video_rows(jobs: Sequence[VideoJob]) -> list[Row]:
    """:func:`video_row` of each, for a run of batches."""
    return [video_row(job) for job in jobs]


def _not_measured(row: Row, problem: Exception) -> Row:
    return {**row, SHORT: True, "status": "not measured", "why": _words(problem), "values": {}, "skipped": {}, "faults": []}


def file_results(facts: Mapping[str, Any], rows: Sequence[Row], learned: Sequence[MetricResult]) -> dict[str, Any]:
    """The results of a folder of videos.

    Args:
        facts: What was run.
        rows: Row of every video.
        learned: Metrics with weights.
    """
    # by name, so that two folders of videos can be compared; what a file was at the time is of no use there
    rows = [{**row, "key": row["file"]} for row in rows]
    covered = [float(row["status"] == "ok") for row in rows]
    verdicts = [row["sync"]["verdict"] for row in rows if "sync" in row]
    return {
        "metrics_version": METRICS_VERSION,
        "suite": SUITE,
        **facts,
        "num_files": len(rows),
        "coverage": {"value": float(np.mean(covered)), "interval": list(mean_interval(covered))},
        "not_covered": [
            {"file": row["file"], "status": row["status"], "why": row["why"]} for row in rows if row["status"] != "ok"
        ],
        "verdicts": dict(Counter(verdicts)),
        "num_faulty": sum(bool(row["faults"]) for row in rows),
        "values": means_of([row["values"] for row in rows]),
        "learned": [result.as_dict() for result in learned],
        "clips": rows,
    }


def score_learned(listing: Listing, names: Sequence[str], *, weights: Path | None, device: str = "cpu") -> list[MetricResult]:
    """Metrics with weights on all videos that are whole; without weights they are skipped, and no video is read.

    Args:
        listing: The videos.
        names: Names of metrics; others are passed over.
        weights: Folder with the weights of each under its name.
        device: Where to run.
    """
    known, found = list_metrics(), weights_in(weights) if weights is not None else {}
    wanted = [known[name] for name in names if name in known]
    samples = references = WholeVideos(())
    if any(metric.name in found for metric in wanted):
        try:
            samples = WholeVideos([job.path for job in listing.jobs.values()])
            references = WholeVideos([job.reference for job in listing.jobs.values() if job.reference is not None])
        except Exception as problem:  # a shortage; the rows are there all the same
            return [MetricResult(metric.name, metric.version, "failed", _words(problem)) for metric in wanted]
    results = []
    for metric in wanted:
        path = found.get(metric.name)
        try:
            result = measure_learned(metric, samples, references=references, weights=path, device=device)
        except Exception as problem:  # metrics of other packages too: one must not end the run
            result = MetricResult(metric.name, metric.version, "failed", _words(problem))
        unread = len(listing.jobs) - len(samples)
        if result.status == "ok" and unread:
            more = f"{unread} of {len(listing.jobs)} videos are no whole clips"
            result = replace(result, reason="; ".join(part for part in (result.reason, more) if part))
        results.append(result)
    return results


def _sync(video: Read, path: Path) -> dict[str, Any]:
    _need_picture(video)
    found = measure(video)
    values = {
        "offset_ms": found.offset_ms,
        "abs_offset_ms": None if found.offset_ms is None else abs(found.offset_ms),
        "mad_ms": found.mad_ms,
        "drift_ms_per_s": found.drift_ms_per_s,
    }
    times = {"seen_s": list(found.seen_s), "heard_s": list(found.heard_s), "pairs_s": [list(pair) for pair in found.pairs]}
    return {"values": values, "sync": {**found.as_dict(), **times}}


def _health(video: Read, path: Path) -> dict[str, Any]:
    faults = [fault.message for fault in check_file(path).faults]
    return {"values": {"num_faults": float(len(faults))}, "faults": faults}


def _video(video: Read, path: Path) -> dict[str, Any]:
    _need_picture(video)
    return {"values": video_quality(np.asarray(video.frames), video.fps).as_dict()}


def _audio(video: Read, path: Path) -> dict[str, Any]:
    _need_audio(video)
    return {"values": audio_quality(video.waveform.astype(np.float32, copy=False), video.sample_rate).as_dict()}


def _avalign(video: Read, path: Path) -> dict[str, Any]:
    _need_picture(video)
    _need_audio(video)
    waveform = video.waveform.astype(np.float32, copy=False)
    found = av_align(np.asarray(video.frames), waveform, fps=video.fps, sample_rate=video.sample_rate)
    return {"values": {"score": found.score, "chance": found.chance}}


METRICS: Mapping[str, Callable[[Read, Path], dict[str, Any]]] = {
    "sync": _sync,
    "health": _health,
    "video": _video,
    "audio": _audio,
    ON_REQUEST: _avalign,
}
"""Metrics of one video. What they give: ``values`` to be averaged, what was ``skipped`` and why, and more of the row."""


def _fidelity(video: Read, path: Path, *, reference: Path | None) -> dict[str, Any]:
    assert reference is not None
    truth, _ = _read(reference)
    values: dict[str, float] = {}
    skipped: dict[str, str] = {}
    if video.frames.shape == truth.frames.shape and len(video.frames):
        values["psnr_db"] = fidelity.psnr_db(np.asarray(video.frames), np.asarray(truth.frames))
        if min(video.frames.shape[1:3]) >= 11:
            values["ssim"] = fidelity.ssim(np.asarray(video.frames), np.asarray(truth.frames))
    elif len(video.frames) or len(truth.frames):
        skipped["fidelity of the picture"] = f"{_size(video)}, and the reference {_size(truth)}"
    sounds = video.waveform, truth.waveform
    if video.sample_rate == truth.sample_rate and video.waveform.shape == truth.waveform.shape and video.waveform.size:
        values["mel"] = fidelity.mel_distance(*sounds, video.sample_rate)
        values["stft"] = fidelity.stft_distance(*sounds)
        values["si_sdr_db"] = fidelity.si_sdr_db(*sounds)
    elif video.waveform.size or truth.waveform.size:
        skipped["fidelity of the audio"] = f"{_length(video)}, and the reference {_length(truth)}"
    return {"values": values, "skipped": skipped}


def _read(path: Path) -> tuple[Read, str]:
    """A video and its status; one without a picture has no frames."""
    if probe(path).video is None:
        audio = read_waveform(path)
        return Read(np.zeros((0, 1, 1, 3), np.uint8), audio.waveform, 1.0, audio.sample_rate), "no picture"
    video = read_video(path)
    if not video.waveform.size:
        return video, "no audio"
    return video, "silent" if float(np.abs(video.waveform).max()) < SILENT_PEAK else "ok"


def _need_picture(video: Read) -> None:
    if not len(video.frames):
        raise MediaError("there is no picture")


def _need_audio(video: Read) -> None:
    if not video.waveform.size:
        raise MediaError("there is no audio")


def _is_whole(path: Path) -> bool:
    try:
        read_clip(path)
    except Exception as problem:  # its row says so
        if is_shortage(problem):
            raise
        return False
    return True


def _sample(path: Path) -> Sample:
    clip = read_clip(path)
    prompt = (clip.request or {}).get("prompt")
    try:
        face = _faces(path, clip.frames)
    except MediaError as problem:  # its row says so
        if is_shortage(problem):
            raise
        face = None
    return Sample(clip, prompt=prompt if isinstance(prompt, str) else None, face=face)


def _faces(path: Path, frames: npt.NDArray[np.uint8] | StreamedFrames) -> npt.NDArray[np.float64] | None:
    if not len(frames):
        return None
    return read_faces(path, num_frames=len(frames), width=frames.shape[2], height=frames.shape[1])


def _files(folder: Path) -> list[Path]:
    try:
        # a link to nothing is a video that cannot be read, and is reported as one
        return sorted(path for path in folder.iterdir() if path.is_file() or (path.is_symlink() and not path.exists()))
    except OSError as problem:
        reason = problem.strerror or problem
        raise MediaError(f"cannot read the folder {folder}: {reason}.", "Give a folder of videos.") from None


def _stamp(path: Path) -> str:
    found = path.stat(follow_symlinks=path.exists())
    return f"{found.st_size}-{found.st_mtime_ns}"


def _size(video: Read) -> str:
    return f"{number_of(len(video.frames), 'frame')} of {video.frames.shape[2]}x{video.frames.shape[1]}"


def _length(video: Read) -> str:
    return f"{video.waveform.shape[0]} x {video.waveform.shape[1]} samples at {video.sample_rate} Hz"


def _words(problem: Exception) -> str:
    return problem.message if isinstance(problem, MovaError) else f"{type(problem).__name__}: {problem}"
