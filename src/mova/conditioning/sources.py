"""What the names in a request stand for: files, or things in memory under the beginning of their hash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from mova.errors import MediaError, RequestError
from mova.files import hash_file

if TYPE_CHECKING:
    from mova.media.clip import Clip
    from mova.media.decode import Audio

Picture = NDArray[np.uint8]


class AudioInput(NamedTuple):
    """Audio in memory: ``[channels, samples]`` float32 in [-1, 1] and its rate in Hz."""

    waveform: NDArray[np.float32]
    sample_rate: int


MemoryInputs = Mapping[str, Picture | AudioInput]
PREFIX = "memory:"


def name_of(value: Any, field: str, memory: dict[str, Any]) -> str | None:
    """The name of a picture for a request; one that is in memory is added to ``memory`` under it.

    Args:
        value: ``None``, a path, a PIL image, or ``[H, W, 3]`` uint8.
        field: The request's field, for errors.
        memory: Gains an entry for what is no file.

    Raises:
        RequestError: If it is none of these.
        MediaError: If a PIL image has transparent parts, more than 8 bits per channel, or an invalid colour profile.
    """
    from mova.media.image import convert_image

    if value is None or isinstance(value, str | Path):
        return None if value is None else str(value)
    pixels = convert_image(value, f"the image given as {field}") if isinstance(value, Image) else value
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        got = f"{pixels.dtype} {list(pixels.shape)}" if isinstance(pixels, np.ndarray) else type(value).__name__
        raise RequestError(f"{field} must be a path, a PIL image or [H, W, 3] uint8; got {got}.", field=field)
    return _kept(np.ascontiguousarray(pixels), np.ascontiguousarray(pixels).tobytes(), memory)


def name_of_audio(value: Any, field: str, memory: dict[str, Any]) -> str | None:
    """The same for audio: a path, or ``(waveform [channels, samples] float32, sample_rate)``.

    Raises:
        RequestError: If it is none of these.
    """
    if value is None or isinstance(value, str | Path):
        return None if value is None else str(value)
    try:
        waveform, rate = value
        waveform = np.asarray(waveform, dtype=np.float32)
    except (TypeError, ValueError):
        waveform, rate = np.zeros(0, np.float32), 0
    if waveform.ndim != 2 or waveform.size == 0 or not isinstance(rate, int) or rate < 1 or not np.isfinite(waveform).all():
        raise RequestError(
            f"{field} must be a path, or a waveform [channels, samples] with its sample rate.",
            "For example (waveform, 48000).",
            field=field,
        )
    return _kept(AudioInput(waveform, rate), waveform.tobytes() + str(rate).encode(), memory)


def picture_named(name: str, memory: MemoryInputs, field: str) -> Picture:
    """The picture of a name, ``[H, W, 3]`` uint8.

    Raises:
        MediaError: If the file cannot be read.
        RequestError: If it was in memory and is not there.
    """
    from mova.media.image import read_image

    found = _in_memory(name, memory, field)
    if isinstance(found, np.ndarray):
        return found
    return read_image(name)


def audio_named(name: str, memory: MemoryInputs) -> Audio | AudioInput:
    """The audio of a name, at its own rate, in mono or stereo; what was repaired of a file is logged.

    Raises:
        MediaError: If the file cannot be read.
        RequestError: If it was in memory and is not there.
    """
    audio = _in_memory(name, memory, "audio")
    return read_audio(name) if not isinstance(audio, AudioInput) else audio._replace(waveform=_in_stereo("audio", audio))


def read_audio(path: str | Path, *, max_seconds: float | None = None) -> Audio:
    """Audio of a file for a clip: in mono or stereo; what was repaired is logged.

    Raises:
        MediaError: If the file cannot be read, or is longer than ``max_seconds``.
    """
    from mova.media.decode import MAX_SECONDS, read_waveform

    audio = read_waveform(path, max_seconds=MAX_SECONDS if max_seconds is None else max_seconds)
    return audio._replace(waveform=_in_stereo(path, audio))


def mix_audio_of(path: str | Path, clip: Clip) -> Clip:
    """A clip of a file with its audio in mono or stereo; what was repaired is logged."""
    return replace(clip, waveform=_in_stereo(path, clip))


def _in_stereo(name: object, audio: Audio | AudioInput | Clip) -> NDArray[np.float32]:
    from mova.media.resample import mix_to_stereo
    from mova.media.tolerances import tell_repairs

    mixed = mix_to_stereo(audio.waveform, audio.sample_rate)
    is_mixed = len(mixed) < len(audio.waveform)
    tell_repairs(name, (*getattr(audio, "repairs", ()), *([f"{len(audio.waveform)} channels mixed to stereo"] * is_mixed)))
    return mixed


def content_hash(name: str) -> str:
    """SHA-256 of what a name stands for, 64 hex digits; of something in memory, the beginning that its name holds.

    Raises:
        MediaError: If the file cannot be read.
    """
    if name.startswith(PREFIX):
        return name.removeprefix(PREFIX)
    try:
        return hash_file(name)
    except OSError as error:
        raise MediaError(f"{name} cannot be read: {error.strerror or error}.") from None


def _in_memory(name: str, memory: MemoryInputs, field: str) -> Picture | AudioInput | None:
    if name.startswith(PREFIX) and name not in memory:
        raise RequestError(f"what {field} names was in memory and is not there ({name}).", "Give it again.", field=field)
    return memory.get(name)


def _kept(value: Any, content: bytes, memory: dict[str, Any]) -> str:
    name = PREFIX + hashlib.sha256(content).hexdigest()[:16]
    memory[name] = value
    return name
