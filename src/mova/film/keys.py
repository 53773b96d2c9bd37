"""What a rendered shot was made from, as a hash: the settled request, the content of every file it names, the weights.

The names of files are not in it, so that a moved folder renders nothing anew; the shots around a shot are in it only as
far as it keeps something of them. A shot that was repaired has a key of its own: what it is as it was made first stays
under the other, and is healthy or is not used where repairs are asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mova import __version__
from mova.checkpoints.layout import CHECKSUMS, read_json
from mova.conditioning.sources import content_hash
from mova.film.cache import Ending, ShotCache
from mova.film.plan import FILES, FilmPlan, PlannedShot, request_of_take
from mova.media.health.gate import OnFault
from mova.runtime.options import RuntimeOptions

_TEXTS = (".md", ".txt")  # model cards and licences change no clip
_DOCUMENTS = (".json", ".model")


def model_key_of(folder: Path, *, runtime: RuntimeOptions | None = None, loras: Sequence[tuple[Path, float]] = ()) -> str:
    """Says which model is in a checkpoint folder, and how it is loaded as far as that changes what it makes.

    Args:
        folder: The checkpoint.
        runtime: How it is loaded: its number format, quantisation, tiling and attention backend count.
        loras: Files that are attached, and their strengths.

    Raises:
        CheckpointError: If the list of checksums cannot be read.
        MediaError: If a LoRA's file cannot be read.
    """
    options = runtime or RuntimeOptions()
    how = [options.dtype_name, options.quantisation, options.attention_backend, options.vae_tiling]
    attached = sorted([_lora_hash(path), scale] for path, scale in loras if scale != 0)
    return _hash({"files": _files_of(folder), "options": how, "loras": attached})


def _files_of(folder: Path) -> dict[str, Any]:
    """The checksums of a checkpoint's files where the folder lists them (they are verified when it is loaded); else its
    configuration, and size and time of change of its weights.
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


def _lora_hash(path: Path) -> str:
    """Of a LoRA's file, or of those in its folder."""
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    return _hash([content_hash(str(file)) for file in files])


def shot_key(plan: FilmPlan, shot: PlannedShot, before: Ending | None) -> str:
    """The key of a shot before its retakes.

    Args:
        plan: The film.
        shot: One of its shots.
        before: What the shot before ends with; ``None`` if nothing of it is kept.

    Raises:
        MediaError: If a file that the shot names cannot be read.
    """
    kept: dict[str, Any] = {}
    if before is not None and shot.keeps_frame:
        kept["last_frame"] = _of_array(before.frame)
    if before is not None and shot.keeps_audio:
        kept["sound"] = [_of_array(before.audio.waveform), before.audio.sample_rate, shot.lead_frames]
    return _hash({"mova": __version__, "model": plan.model_key, "request": _content(shot), "keep": kept})


def take_key(key: str, shot: PlannedShot, index: int) -> str:
    """The key of a shot after one of its retakes.

    Args:
        key: Of the shot as it was before that.
        shot: Whose retake it is.
        index: Of the retake.
    """
    take, seed = request_of_take(shot, index)
    return _hash({"shot": key, "retake": take.retake.model_dump(), "seed": seed})


def repaired_key(key: str) -> str:
    """The key of what came out of the repair of a faulty shot.

    Args:
        key: Of the shot as it was made first.
    """
    return _hash({"shot": key, "on_fault": "repair"})


def keys_there(first: str, shot: PlannedShot, cache: ShotCache, *, on_fault: OnFault) -> tuple[str, ...]:
    """What of a shot is done: itself, and its retakes one after the other; the last goes into the film if none is missing.

    Args:
        first: :func:`shot_key`.
        shot: Which it is.
        cache: Where finished shots are.
        on_fault: With ``"repair"``, a faulty one counts only if its repair was tried.
    """
    found: list[str] = []
    for step in range(num_steps(shot)):
        key = first if step == 0 else take_key(found[-1], shot, step - 1)
        if on_fault == "repair" and not (key in cache and cache.health(key).verdict == "ok"):
            key = repaired_key(key)
        if key not in cache:
            break
        found.append(key)
    return tuple(found)


def num_steps(shot: PlannedShot) -> int:
    """In how many it is made: itself, and each retake."""
    return 1 + len(shot.shot.retakes)


def keys_of_film(plan: FilmPlan, cache: ShotCache, *, on_fault: OnFault) -> tuple[tuple[str, ...] | None, ...]:
    """What is there of every shot (:func:`keys_there`); ``None`` where a shot keeps something of one that is not finished."""
    result: list[tuple[str, ...] | None] = []
    for shot in plan.shots:
        before = None
        if shot.shot.keep:
            earlier = result[-1]
            if earlier is None or len(earlier) < num_steps(plan.shots[shot.number - 2]):
                result.append(None)
                continue
            before = cache.ending(earlier[-1], shot.lead_frames)
        result.append(keys_there(shot_key(plan, shot, before), shot, cache, on_fault=on_fault))
    return tuple(result)


def _content(shot: PlannedShot) -> Mapping[str, Any]:
    request = shot.plan.request
    values = request.model_dump(exclude_none=True)
    for name in FILES:
        if name in values:
            values[name] = content_hash(values[name])
    values["keyframes"] = [[key.time_s, content_hash(key.image)] for key in request.keyframes]
    return values


def _of_array(array: NDArray[np.uint8] | NDArray[np.float32]) -> str:
    return hashlib.sha256(str(array.shape).encode() + np.ascontiguousarray(array).tobytes()).hexdigest()


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
