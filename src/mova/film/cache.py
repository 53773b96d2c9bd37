"""Rendered shots on disk, each under the hash of everything that it depends on: lossless, written atomically.

One file per shot: ``<key>.safetensors`` with ``frames`` uint8 ``[T, H, W, 3]``, ``waveform`` and ``run_in`` float32
``[channels, samples]``, and rates, request and health as text metadata, with a digest of all of it. Files are complete; one
that was damaged later counts as missing.

Keys are hashes of the resolved request, the content of every file it names, and the weights. Names of files are not hashed,
so that moving a folder renders nothing again; other shots are hashed only as far as a shot keeps something of them. A
repaired shot has its own key: the shot as first rendered stays under the original key.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mova._version import __version__
from mova.checkpoints.layout import CHECKSUMS, read_json
from mova.conditioning.sources import AudioInput, content_hash
from mova.errors import MediaError
from mova.files import atomic_write, remove_leftovers
from mova.film.plan import FILES, FilmPlan, PlannedShot, request_of_take
from mova.media.clip import Clip
from mova.media.health.gate import Fault, Health, OnFault
from mova.runtime.options import RuntimeOptions
from mova.timeline import samples_in_frames

SUFFIX = ".safetensors"
DIGEST = "digest"


@dataclass(frozen=True, eq=False)
class ShotClip:
    """A finished shot.

    Args:
        clip: Frames and audio of the shot.
        run_in: ``[channels, samples]`` float32 at the clip's rate, which replaces the last samples of the shot before so that
            its audio continues without a click; empty unless this shot keeps that audio.
        health: Verdict of the health gate.
        remedies: Remedies tried for a fault, in order (:mod:`mova.generation.run`).
        seeds: Seeds of video and audio, of the shot and of each of its retakes.
    """

    clip: Clip
    run_in: NDArray[np.float32]
    health: Health
    remedies: tuple[str, ...]
    seeds: tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Ending:
    """The part of a shot that the next one may keep.

    Args:
        frame: ``[H, W, 3]`` uint8, the last frame.
        audio: The last samples, as many as were requested or as there are.
    """

    frame: NDArray[np.uint8]
    audio: AudioInput


class ShotCache:
    """A folder of finished shots.

    Args:
        folder: Folder of the files; created when the first shot is stored.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._whole: dict[Path, tuple[int, int]] = {}
        remove_leftovers(self.folder)

    def __contains__(self, key: str) -> bool:
        """Whether a shot is there and is what was stored: all of it is read, once in a run."""
        path = self._path(key)
        try:
            state = path.stat()
            if self._whole.get(path) != (state.st_size, state.st_mtime_ns):
                with self._open(key) as file:
                    _read_whole(file)
                self._whole[path] = (state.st_size, state.st_mtime_ns)
            return True
        except (OSError, MediaError):
            return False

    def read(self, key: str) -> ShotClip:
        """Read a shot.

        Raises:
            MediaError: If it cannot be read, or is not what was stored.
        """
        with self._open(key) as file:
            tensors, facts = _read_whole(file)
            clip = Clip(
                frames=tensors["frames"],
                waveform=tensors["waveform"],
                fps=Fraction(facts["fps"]),
                sample_rate=int(facts["sample_rate"]),
                request=json.loads(facts["request"]),
                made_by=json.loads(facts["made_by"]),
            )
            seeds = tuple((int(video), int(audio)) for video, audio in json.loads(facts["seeds"]))
            remedies = tuple(json.loads(facts["remedies"]))
            return ShotClip(clip, tensors["run_in"], _parse_health(facts), remedies, seeds)

    def health(self, key: str) -> Health:
        """Read the health gate's verdict on a shot, without its frames.

        Raises:
            MediaError: If it cannot be read.
        """
        with self._open(key) as file:
            return _parse_health(file.metadata())

    def ending(self, key: str, num_frames: int) -> Ending:
        """Read the last frame of a shot and the audio of its last ``num_frames`` frames, without its other frames.

        Raises:
            MediaError: If it cannot be read.
        """
        with self._open(key) as file:
            facts = file.metadata()
            fps, rate = Fraction(facts["fps"]), int(facts["sample_rate"])
            frames, waveform = file.get_slice("frames"), file.get_tensor("waveform")
            last = frames.get_shape()[0] - 1
            begin = max(0, waveform.shape[1] - samples_in_frames(num_frames, fps, rate))
            return Ending(frames[last : last + 1][0], AudioInput(waveform[:, begin:].copy(), rate))

    def store(self, key: str, shot: ShotClip, *, model_key: str, work: float, seconds_taken: float) -> None:
        """Store a shot.

        Args:
            key: Key of the shot.
            shot: Shot to store.
            model_key: Key of the model that rendered it.
            work: Amount of computation (:func:`mova.film.plan.work_of`).
            seconds_taken: Time it took, in seconds.

        Raises:
            MediaError: If the folder cannot be written to; no file is left behind.
        """
        clip = shot.clip
        tensors: dict[str, NDArray[Any]] = {
            "frames": np.ascontiguousarray(clip.frames),
            "waveform": np.ascontiguousarray(clip.waveform),
            "run_in": np.ascontiguousarray(shot.run_in),
        }
        facts = {
            "fps": str(clip.fps),
            "sample_rate": str(clip.sample_rate),
            "request": json.dumps(dict(clip.request or {}), sort_keys=True),
            "made_by": json.dumps(dict(clip.made_by or {}), sort_keys=True),
            "health": json.dumps(shot.health.as_dict()),
            "remedies": json.dumps(shot.remedies),
            "seeds": json.dumps(shot.seeds),
            "model": model_key,
            "work": repr(work),
            "seconds_taken": repr(seconds_taken),
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(self._path(key)) as temporary:
                save_file(tensors, temporary, metadata={**facts, DIGEST: _digest(tensors, facts)})
        except (OSError, SafetensorError) as error:
            reason = getattr(error, "strerror", None) or error
            raise MediaError(
                f"cannot store a finished shot in {self.folder}: {reason}.", "Free some space, or choose another --cache."
            ) from error

    def pace(self, model_key: str) -> float | None:
        """Return a model's seconds per unit of work, as the median over the stored shots; ``None`` without any."""
        paces = []
        for path in self.files():
            with suppress(OSError, SafetensorError, KeyError, TypeError, ValueError), safe_open(path, "numpy") as file:
                facts: Mapping[str, Any] = file.metadata()
                if facts["model"] == model_key and float(facts["work"]) > 0:
                    paces.append(float(facts["seconds_taken"]) / float(facts["work"]))
        return median(paces) if paces else None

    def files(self) -> list[Path]:
        """Return the files of all stored shots."""
        return sorted(self.folder.glob(f"[0-9a-f]*{SUFFIX}"))

    def prune(self, keys: Iterable[str]) -> list[Path]:
        """Remove all shots except those with the given keys.

        Args:
            keys: Keys of the shots to keep.

        Returns:
            The removed files.
        """
        kept = {self._path(key) for key in keys}
        removed = [path for path in self.files() if path not in kept]
        for path in removed:
            path.unlink(missing_ok=True)
        return removed

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{SUFFIX}"

    @contextmanager
    def _open(self, key: str) -> Iterator[Any]:
        path = self._path(key)
        try:
            with safe_open(path, "numpy") as file:
                yield file
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise MediaError(f"the finished shot {path} cannot be read: {error}.", "Remove it, and run again.") from error


def _read_whole(file: Any) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Read all of a shot's file, opened by safetensors.

    Raises:
        ValueError: If it is not what was stored, or an earlier version stored it without a digest.
    """
    facts = dict(file.metadata() or {})
    tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dictionary
    if facts.pop(DIGEST, None) != _digest(tensors, facts):
        raise ValueError("its content has changed since it was stored")
    return tensors, facts


def _digest(tensors: Mapping[str, NDArray[Any]], facts: Mapping[str, str]) -> str:
    found = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
        found.update(np.ascontiguousarray(tensor).data)
    return found.hexdigest()


def _parse_health(facts: Mapping[str, str]) -> Health:
    """Parse what :meth:`mova.media.health.gate.Health.as_dict` wrote; values that were not finite become NaN."""
    found = json.loads(facts["health"])
    faults = [Fault(**{**fault, "value": math.nan if fault["value"] is None else fault["value"]}) for fault in found["faults"]]
    return Health(tuple(faults), tuple(found["looked_at"]))


_TEXTS = (".md", ".txt")  # model cards and licences do not affect clips
_DOCUMENTS = (".json", ".model")


def model_key_of(folder: Path, *, runtime: RuntimeOptions | None = None, loras: Sequence[tuple[Path, float]] = ()) -> str:
    """Hash a checkpoint folder and the options of loading that affect the output.

    Args:
        folder: Folder of the checkpoint.
        runtime: Options of loading, of which number format, quantisation, tiling and attention backend are hashed.
        loras: Attached LoRA files and their scales.

    Raises:
        CheckpointError: If the list of checksums cannot be read.
        MediaError: If a LoRA's file cannot be read.
    """
    options = runtime or RuntimeOptions()
    how = [options.dtype_name, options.quantisation, options.attention_backend, options.vae_tiling]
    how += [] if options.same_for_any_threads else [options.threads]
    attached = sorted([_hash_lora(path), scale] for path, scale in loras if scale != 0)
    return _hash({"files": _files_of(folder), "options": how, "loras": attached})


def _files_of(folder: Path) -> dict[str, Any]:
    """Return the checksums of a checkpoint's files if the folder lists them (loading verifies them).

    Otherwise return hashes of its configuration, and size and modification time of its weights.
    """
    if (folder / CHECKSUMS).is_file():
        listed = read_json(folder / CHECKSUMS)
        return {name: value for name, value in listed.items() if not name.endswith(_TEXTS)}
    facts: dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(_TEXTS)):
        state = path.stat()
        is_small = path.suffix in _DOCUMENTS
        facts[path.relative_to(folder).as_posix()] = content_hash(str(path)) if is_small else [state.st_size, state.st_mtime_ns]
    return facts


def _hash_lora(path: Path) -> str:
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    return _hash([content_hash(str(file)) for file in files])


def shot_key(plan: FilmPlan, shot: PlannedShot, before: Ending | None) -> str:
    """Return the key of a shot before its retakes.

    Args:
        plan: Plan of the film.
        shot: One of its shots.
        before: Ending of the shot before; ``None`` if nothing of it is kept.

    Raises:
        MediaError: If a file that the shot names cannot be read.
    """
    kept: dict[str, Any] = {}
    if before is not None and shot.keeps_frame:
        kept["last_frame"] = _hash_array(before.frame)
    if before is not None and shot.keeps_audio:
        kept["sound"] = [_hash_array(before.audio.waveform), before.audio.sample_rate, shot.lead_frames]
    return _hash({"mova": __version__, "model": plan.model_key, "request": _hashed_request(shot), "keep": kept})


def take_key(key: str, shot: PlannedShot, index: int) -> str:
    """Return the key of a shot after one of its retakes.

    Args:
        key: Key of the shot before that retake.
        shot: The shot.
        index: Index of the retake.
    """
    take, seed = request_of_take(shot, index)
    return _hash({"shot": key, "retake": take.retake.model_dump(), "seed": seed})


def repair_key(key: str) -> str:
    """Return the key of the repaired version of a faulty shot.

    Args:
        key: Key of the shot as first rendered.
    """
    return _hash({"shot": key, "on_fault": "repair"})


def find_finished_keys(first: str, shot: PlannedShot, cache: ShotCache, *, on_fault: OnFault) -> tuple[str, ...]:
    """Return the keys of the finished steps of a shot: the shot, then its retakes in order; the last is used in the film.

    Args:
        first: Key of the shot before its retakes (:func:`shot_key`).
        shot: The shot.
        cache: Cache of finished shots.
        on_fault: Treatment of faults; with ``"repair"``, a faulty shot counts only if its repair was tried.
    """
    found: list[str] = []
    for step in range(num_steps(shot)):
        key = first if step == 0 else take_key(found[-1], shot, step - 1)
        if on_fault == "repair" and not (key in cache and cache.health(key).verdict == "ok"):
            key = repair_key(key)
        if key not in cache:
            break
        found.append(key)
    return tuple(found)


def num_steps(shot: PlannedShot) -> int:
    """Return the number of steps of a shot: the shot, and each retake."""
    return 1 + len(shot.shot.retakes)


def find_film_keys(plan: FilmPlan, cache: ShotCache, *, on_fault: OnFault) -> tuple[tuple[str, ...] | None, ...]:
    """Return :func:`find_finished_keys` of every shot; ``None`` if the shot keeps something of one that is not finished."""
    result: list[tuple[str, ...] | None] = []
    for shot in plan.shots:
        before = None
        if shot.shot.keep:
            earlier = result[-1]
            if earlier is None or len(earlier) < num_steps(plan.shots[shot.number - 2]):
                result.append(None)
                continue
            before = cache.ending(earlier[-1], shot.lead_frames)
        result.append(find_finished_keys(shot_key(plan, shot, before), shot, cache, on_fault=on_fault))
    return tuple(result)


def _hashed_request(shot: PlannedShot) -> Mapping[str, Any]:
    request = shot.plan.request
    values = request.model_dump(exclude_none=True)
    for name in FILES:
        if name in values:
            values[name] = content_hash(values[name])
    values["keyframes"] = [[key.time_s, content_hash(key.image)] for key in request.keyframes]
    return values


def _hash_array(array: NDArray[np.uint8] | NDArray[np.float32]) -> str:
    return hashlib.sha256(str(array.shape).encode() + np.ascontiguousarray(array).tobytes()).hexdigest()


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
