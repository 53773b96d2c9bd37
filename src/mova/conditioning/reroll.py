"""Requests that generate the audio or the video of a clip again, while the other modality is kept."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from mova.conditioning.sources import PREFIX, name_of_audio
from mova.errors import RequestError
from mova.media.clip import Clip
from mova.request.schema import GenerationRequest, Modality

_CHANGES = ("video", "extend_s", "extend_at", "retake", "repaint", "only")
_SHOWN = ("image", "last_image", "keyframes", "references", "cues")


def reroll_values(recorded: Mapping[str, Any], modality: Modality, *, kept: str, seed: int | None = None) -> dict[str, Any]:
    """Return the fields of a request that generates one modality of a clip again.

    New audio is made for the video that is there, and so needs nothing else that the video was made from. A new video is
    made to the audio that is there, and from the same pictures.

    Args:
        recorded: The clip's own request.
        modality: Modality to generate again.
        kept: Name of the clip, of which the other modality is given.
        seed: Seed of that modality; drawn if not given.

    Raises:
        RequestError: If ``modality`` is none, the request is that of no single clip, or a new video would need pictures that
            are nowhere any more.
    """
    if modality not in ("audio", "video"):
        raise RequestError(
            f"reroll takes audio or video; got {modality!r}.", "Name the modality to generate again.", field="reroll"
        )
    if "prompt" not in recorded:
        raise RequestError(
            "the clip does not say how it was made.",
            "Make its audio with video=, or its video with audio=, and a prompt.",
            field="reroll",
        )
    if modality == "video" and any(name.startswith(PREFIX) for name in recorded.get("references") or ()):
        # unlike other pictures they are not in the clip, and without them the video would be another one
        raise RequestError(
            "the references of this clip were in memory, and no clip holds its references.",
            "Generate it again with references= and, for the same audio, audio=(clip.waveform, clip.sample_rate).",
            field="reroll",
        )
    gone = _CHANGES if modality == "video" else (*_CHANGES, *_SHOWN)
    values = {name: value for name, value in recorded.items() if name not in (*gone, "audio")}
    new = secrets.randbelow(2**32) if seed is None else seed
    return values | ({"video": kept, "audio_seed": new} if modality == "audio" else {"audio": kept, "seed": new})


def reroll_request(clip: Clip, modality: Modality, *, seed: int | None = None) -> tuple[GenerationRequest, dict[str, Any]]:
    """Return the request that generates one modality of a clip in memory again, and the arrays that its names stand for.

    Args:
        clip: With its request.
        modality: Modality to generate again.
        seed: Seed of that modality; drawn if not given.

    Raises:
        RequestError: As :func:`reroll_values`.
    """
    recorded, memory = dict(clip.request or {}), dict[str, Any]()
    if "prompt" in recorded:
        GenerationRequest.model_validate(recorded)  # it may come from a file
    if modality == "audio" and clip.source_video is not None and "prompt" in recorded:
        # its video is a file already, whose picture stream is to stay
        fresh = secrets.randbelow(2**32) if seed is None else seed
        gone = ("extend_s", "extend_at", "retake", "repaint", "audio", "cues")
        whole = {name: value for name, value in recorded.items() if name not in gone}
        return GenerationRequest.model_validate(whole | {"audio_seed": fresh}), memory
    if modality == "audio":
        kept = PREFIX + hashlib.sha256(clip.frames.tobytes()).hexdigest()[:16]
        memory[kept] = clip.frames
    else:
        kept = name_of_audio((clip.waveform, clip.sample_rate), "audio", memory) or ""
    values = reroll_values(recorded, modality, kept=kept, seed=seed)
    size = {"width": clip.width, "height": clip.height, "num_frames": clip.num_frames, "fps": float(clip.fps)}
    request = GenerationRequest.model_validate({**values, **size, "audio_sample_rate": clip.sample_rate})
    return request, memory | _pictures(clip, request)


def _pictures(clip: Clip, request: GenerationRequest) -> dict[str, Any]:
    """The pictures that were in memory when the clip was made: they are in it."""
    moments = {request.image: 0, request.last_image: clip.num_frames - 1} | {
        key.image: round(Fraction(str(key.time_s)) * clip.fps) for key in request.keyframes
    }
    return {name: clip.frames[index] for name, index in moments.items() if name is not None and name.startswith(PREFIX)}
