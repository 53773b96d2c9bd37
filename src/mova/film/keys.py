"""Keys of rendered shots: hashes of the resolved request, the content of every file it names, and the weights.

Names of files are not hashed, so that moving a folder renders nothing again; other shots are hashed only as far as a shot
keeps something of them. A repaired shot has its own key: the shot as first rendered stays under the original key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mova._version import __version__
from mova.checkpoints.layout import CHECKSUMS, read_json
from mova.conditioning.sources import content_hash
from mova.film.cache import Ending, ShotCache
from mova.film.plan import FILES, FilmPlan, PlannedShot, request_of_take
from mova.media.health.gate import OnFault
from mova.runtime.options import RuntimeOptions

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
    """Hash a LoRA file, or the files in its folder."""
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
