"""Rendered shots on disk, each under the hash of all that it was made from: lossless, written beside and renamed.

One file a shot: ``<key>.safetensors`` with ``frames`` uint8 ``[T, H, W, 3]``, ``waveform`` and ``run_in`` float32
``[channels, samples]``, and the facts around them as text, with what the health gate said. A file that is there is whole;
one that was damaged since counts as not there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mova.conditioning.sources import AudioInput
from mova.errors import MediaError
from mova.files import atomic_write
from mova.media.clip import Clip
from mova.media.health.gate import Fault, Health
from mova.timeline import samples_in_frames

SUFFIX = ".safetensors"


@dataclass(frozen=True, eq=False)
class ShotClip:
    """A finished shot.

    Args:
        clip: Its picture and audio.
        run_in: ``[channels, samples]`` float32 at the clip's rate: where the audio of the shot before goes on in this one,
            what replaces its last samples so that the cut is not heard; else empty.
        health: What the health gate says of it.
        remedies: What was tried about a fault, in order (:mod:`mova.generation.repair`).
        seeds: Of picture and audio, that made the shot and each of its retakes.
    """

    clip: Clip
    run_in: NDArray[np.float32]
    health: Health
    remedies: tuple[str, ...]
    seeds: tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Ending:
    """What the next shot may keep of a shot.

    Args:
        frame: ``[H, W, 3]`` uint8, the last.
        audio: Its last samples, as many as were asked for or as there are.
    """

    frame: NDArray[np.uint8]
    audio: AudioInput


class ShotCache:
    """A folder of finished shots.

    Args:
        folder: Made when the first shot is stored.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def __contains__(self, key: str) -> bool:
        try:
            # the header says how long the file must be, and reading it checks that
            with safe_open(self._path(key), "numpy") as file:
                # older versions did not look at their shots, and did not say what made them
                return {"health", "made_by"} <= (file.metadata() or {}).keys()
        except (OSError, SafetensorError):
            return False

    def read(self, key: str) -> ShotClip:
        """A shot that is there.

        Raises:
            MediaError: If it cannot be read.
        """
        try:
            with safe_open(self._path(key), "numpy") as file:
                facts = file.metadata()
                tensors = {name: file.get_tensor(name) for name in ("frames", "waveform", "run_in")}
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
            return ShotClip(clip, tensors["run_in"], _health_of(facts), remedies, seeds)
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise self._unreadable(key, error) from error

    def health(self, key: str) -> Health:
        """What the health gate said of a shot that is there; no frame is read.

        Raises:
            MediaError: If it cannot be read.
        """
        try:
            with safe_open(self._path(key), "numpy") as file:
                return _health_of(file.metadata())
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise self._unreadable(key, error) from error

    def ending(self, key: str, num_frames: int) -> Ending:
        """The last frame of a shot that is there, and the audio of its last ``num_frames`` frames; no other frame is read.

        Raises:
            MediaError: If it cannot be read.
        """
        try:
            with safe_open(self._path(key), "numpy") as file:
                facts = file.metadata()
                fps, rate = Fraction(facts["fps"]), int(facts["sample_rate"])
                frames, waveform = file.get_slice("frames"), file.get_tensor("waveform")
                last = frames.get_shape()[0] - 1
                begin = max(0, waveform.shape[1] - samples_in_frames(num_frames, fps, rate))
                return Ending(frames[last : last + 1][0], AudioInput(waveform[:, begin:].copy(), rate))
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise self._unreadable(key, error) from error

    def store(self, key: str, shot: ShotClip, *, model_key: str, work: float, seconds_taken: float) -> None:
        """Keep a shot.

        Args:
            key: Names it.
            shot: What to keep.
            model_key: What made it.
            work: How much of that (:func:`mova.film.plan.work_of`).
            seconds_taken: In how long.

        Raises:
            MediaError: If the folder cannot be written; nothing is left behind.
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
            with atomic_write(self._path(key)) as beside:
                save_file(tensors, beside, metadata=facts)
        except (OSError, SafetensorError) as error:
            reason = getattr(error, "strerror", None) or error
            raise MediaError(
                f"cannot keep a finished shot in {self.folder}: {reason}.", "Free some space, or choose another --cache."
            ) from error

    def pace(self, model_key: str) -> float | None:
        """Seconds that a model took for a unit of work, the median over the shots that are there; ``None`` without any."""
        paces = []
        for path in self.files():
            with suppress(OSError, SafetensorError, KeyError, TypeError, ValueError), safe_open(path, "numpy") as file:
                facts: Mapping[str, Any] = file.metadata()
                if facts["model"] == model_key and float(facts["work"]) > 0:
                    paces.append(float(facts["seconds_taken"]) / float(facts["work"]))
        return median(paces) if paces else None

    def files(self) -> list[Path]:
        """Every shot that is there."""
        return sorted(self.folder.glob(f"[0-9a-f]*{SUFFIX}"))

    def prune(self, keys: Iterable[str]) -> list[Path]:
        """Remove every shot but some.

        Args:
            keys: What is kept.

        Returns:
            What was removed.
        """
        kept = {self._path(key) for key in keys}
        removed = [path for path in self.files() if path not in kept]
        for path in removed:
            path.unlink(missing_ok=True)
        return removed

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{SUFFIX}"

    def _unreadable(self, key: str, error: Exception) -> MediaError:
        return MediaError(f"the finished shot {self._path(key)} cannot be read: {error}.", "Remove it, and run again.")


def _health_of(facts: Mapping[str, str]) -> Health:
    """What :meth:`mova.media.health.gate.Health.as_dict` wrote; a value that was not finite is not a number again."""
    found = json.loads(facts["health"])
    faults = [Fault(**{**fault, "value": math.nan if fault["value"] is None else fault["value"]}) for fault in found["faults"]]
    return Health(tuple(faults), tuple(found["looked_at"]))
