"""``mova inspect``: how a video was made; what a model's folder holds, and what is wrong with it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mova.checkpoints.layout import BASE_NAME, resolve_model
from mova.cli import console
from mova.errors import CheckpointError, MissingCheckpointError, MissingMediaError
from mova.media.kinds import FILE_KINDS

if TYPE_CHECKING:
    from mova.checkpoints.inspect import CheckpointReport, ComponentReport
    from mova.media.probe import AudioInfo, MediaInfo, VideoInfo

SHOWN = 3  # names of each problem; all of them are in the JSON
MAKER = {"mova": "made by mova", "model": "model", "weights": "weights", "dtype": "number format",
         "quantisation": "quantisation", "schedule": "schedule", "loras": "LoRAs", "inputs": "made from"}  # fmt: skip


def run(target: str, *, is_json: bool) -> None:
    """Look at what ``target`` names.

    Raises:
        CheckpointError: If it is no checkpoint, or not a whole one; what is there has been shown by then.
        MediaError: If it is a file, and neither video nor audio.
    """
    path = Path(target).expanduser()
    if os.path.exists(path) and not path.is_dir():
        _inspect_video(path, is_json=is_json)
    elif path.suffix.lower() in (*FILE_KINDS, ".mp3", ".ogg", ".avi") and not os.path.exists(path):
        raise MissingMediaError(f"there is no file {path}.", "Give a video or audio file, or a model.")
    else:
        _inspect_model(local_model(target), is_json=is_json)


def local_model(name: str) -> Path:
    """The folder of a model on this machine; nothing is downloaded for a look.

    Raises:
        CheckpointError: If there is none.
    """
    if name != BASE_NAME and not os.path.exists(Path(name).expanduser()):
        raise MissingCheckpointError(
            f"there is no file or model folder {name[:200]!r} on this machine.",
            f"Give {BASE_NAME}, or a folder; of one that is on the hub the JSON files are enough.",
        )
    return resolve_model(name)


def _inspect_video(path: Path, *, is_json: bool) -> None:
    from mova.conditioning.recorded import read_record
    from mova.media.probe import probe

    info = probe(path)
    show_video(info, is_json=is_json)
    read_record(info)  # what it says has been shown; whether it can be used is said last


def show_video(info: MediaInfo, *, is_json: bool) -> None:
    """Show what a media file is and what it says of itself."""
    if is_json:
        console.facts_json(_video_facts(info))
        return
    console.fact(f"{info.path}: {info.format}, {info.size_bytes / 1000:.0f} kB")
    console.fact(f"video: {_video_words(info.video)}")
    console.fact(f"audio: {_audio_words(info.audio)}")
    if info.request is None:
        console.fact("it does not say how it was made")
        return
    made_by = info.made_by or {}
    rows = [(name, _value_text(value)) for name, value in info.request.items()]
    rows += [(MAKER.get(name, name), _value_text(value)) for name, value in made_by.items() if value not in (None, {}, [])]
    console.table(("of the request", "value"), rows, left=(0, 1))


def _video_facts(info: MediaInfo) -> dict[str, Any]:
    return {
        "file": str(info.path),
        "format": info.format,
        "bytes": info.size_bytes,
        "seconds": _plain(info.duration_s),
        "video": None if info.video is None else {name: _plain(value) for name, value in asdict(info.video).items()},
        "audio": None if info.audio is None else {name: _plain(value) for name, value in asdict(info.audio).items()},
        "request": info.request,
        "made_by": info.made_by,
    }


def _video_words(video: VideoInfo | None) -> str:
    if video is None:
        return "none"
    rate = "" if video.fps is None else f" at {float(video.fps):g} fps"
    frames = "" if video.num_frames is None else f", {console.count(video.num_frames, 'frame')}"
    return f"{video.codec}, {video.width}x{video.height}{rate}{frames}{_length_words(video.duration_s)}"


def _audio_words(audio: AudioInfo | None) -> str:
    if audio is None:
        return "none"
    channels = {1: "mono", 2: "stereo"}.get(audio.channels, f"{audio.channels} channels")
    return f"{audio.codec}, {audio.sample_rate} Hz, {channels}{_length_words(audio.duration_s)}"


def _length_words(seconds: Fraction | None) -> str:
    return "" if seconds is None else f", {float(seconds):.4f} s"


def _value_text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value_text(item)}" for name, item in value.items())
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Fraction) else value


def _inspect_model(folder: Path, *, is_json: bool) -> None:
    from mova.checkpoints.inspect import inspect_checkpoint

    report = inspect_checkpoint(folder)
    if is_json:
        facts = asdict(report) | {
            "num_parameters": report.num_parameters,
            "num_bytes": report.num_bytes,
            "is_whole": report.is_whole,
        }
        console.facts_json(facts)
    else:
        _show(report)
    if not report.is_whole:
        wrong = [component.name for component in report.components if not component.is_whole]
        raise CheckpointError(f"{report.folder} is not whole: see {', '.join(wrong)}.", "Download the folder again.")


def _show(report: CheckpointReport) -> None:
    experts = "one expert" if report.boundary_ratio is None else f"two experts, boundary {report.boundary_ratio:g}"
    console.fact(f"{report.name}, {experts}: {report.folder}")
    if not report.has_weights:
        console.fact("configuration only: the folder holds no weights; parameters are those that it asks for")
    rows = [_row(component) for component in report.components]
    total = ("all", "", f"{report.num_parameters:,}", "", "", console.quantity_text(report.num_bytes, "B"))
    console.table(("component", "class", "parameters", "tensors", "stored as", "on disk"), [*rows, total], left=(0, 1, 4))
    for component in report.components:
        for problem in _problems(component):
            console.fact(f"{component.name}: {problem}")


def _row(component: ComponentReport) -> tuple[str, ...]:
    return (
        component.name,
        component.class_name,
        f"{component.num_parameters:,}" if component.num_parameters else "",
        str(component.num_tensors) if component.num_tensors else "",
        ", ".join(component.dtypes),
        console.quantity_text(component.num_bytes, "B") if component.files else "not there",
    )


def _problems(component: ComponentReport) -> list[str]:
    shapes = [f"{item.name} {list(item.stored)} for {list(item.expected)}" for item in component.wrong_shapes]
    groups = (("lacks", component.missing), ("holds unknown", component.extra), ("has another shape in", shapes))
    return [f"{what} {_some(names)}" for what, names in groups if names]


def _some(names: tuple[str, ...] | list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
