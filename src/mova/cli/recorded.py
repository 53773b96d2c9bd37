"""What a video says of how it was made: to vary it, and to make it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from mova.cli import console
from mova.errors import CheckpointError, MediaError, MovaError, RequestError
from mova.parsing import parse_yaml
from mova.request.schema import GenerationRequest
from mova.runtime.options import RuntimeOptions


def request_from_video(
    video: Path | None, given: Mapping[str, Any], changes: Sequence[str], *, reroll: str | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is asked of a model, begun with the request inside a video if there is one; and what made that video.

    Args:
        video: Its file.
        given: Fields of the request that take the place of those in the video.
        changes: ``name=value`` each, as :func:`varied`.
        reroll: The one modality that is generated again, if not both.

    Raises:
        MediaError: If the video cannot be read or holds no request.
        RequestError: If a change is of another form, or what the video was made from has changed since and is not given again.
    """
    recorded, made_by = ({}, {}) if video is None else read_recorded_request(video)
    if reroll is not None:
        recorded = reroll_from_file(video, recorded, reroll)
    request = apply_changes({**recorded, **given}, changes)
    replaced = {*given, *(change.partition("=")[0] for change in changes)}
    check_inputs({name: value for name, value in recorded.items() if name not in replaced}, made_by)
    return request, made_by


def read_recorded_request(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The request inside a video, and what made it.

    Raises:
        MediaError: If the file cannot be read, or holds no request or a broken one.
        RequestError: If it is a video of several shots.
    """
    from mova.conditioning.recorded import read_record
    from mova.media.probe import probe

    record = read_record(probe(path))
    if record is None:
        raise MediaError(f"{path} does not say how it was made.", "Give a video that mova wrote.")
    if record.is_film:
        raise RequestError(
            f"{path} is a video of shots, which one request does not make.",
            "Make it again, or vary it, from its shot list: mova film SHOTS.yaml; mova inspect shows every shot.",
        )
    return record.request, record.made_by


def apply_changes(recorded: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """A recorded request with ``name=value`` changes; values are read as YAML, ``null`` leaves one to the model.

    Raises:
        RequestError: If a change is not of that form.
    """
    values = dict(recorded)
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals or not name:
            raise RequestError(f"--set: takes field=value; got {change[:40]!r}.", "For example --set guidance_scale=3.")
        try:
            GenerationRequest.check_field(name)
        except RequestError as problem:
            raise RequestError(f"--set {name[:40]}: {problem.message}", problem.hint, field=name) from None
        try:
            value = parse_yaml(text)
        except ValueError:
            raise RequestError(f"--set: {text[:40]!r} is no value.", "For example --set guidance_scale=3.") from None
        # a whole number is a number too; which of both a field wants, the request knows
        values[name] = value
        if name in ("seconds", "num_frames"):  # one length takes the other's place
            values.pop("num_frames" if name == "seconds" else "seconds", None)
    return {name: value for name, value in values.items() if value is not None}


def reroll_from_file(path: Path | None, recorded: Mapping[str, Any], modality: str) -> dict[str, Any]:
    """The request that makes the audio or the video of a file again, for the other as it is in the file.

    Args:
        path: The video.
        recorded: The request inside it.
        modality: Modality that is generated again.

    Raises:
        RequestError: If there is no video, or ``modality`` is none.
    """
    from mova.conditioning.reroll import reroll_values

    if path is None:
        raise RequestError("--reroll: needs a clip of which a part is kept.", "Give it as --from clip.mp4.")
    values = reroll_values(recorded, cast(Any, modality), kept=str(path))  # which checks the modality
    if modality == "audio":
        values.pop("num_frames", None)  # the length is the video's, whose picture stream is then copied
    return values


def model_of_video(made_by: Mapping[str, Any], *, model: str | None = None) -> str:
    """The model that made a video, or ``model`` in its place; whether its weights are still the same is said.

    Args:
        made_by: What the video says of it; empty without a video.
        model: Name, folder or hub id.

    Raises:
        CheckpointError: If there is no such model.
    """
    from mova.checkpoints.layout import BASE_NAME, read_index, resolve_model

    name = model or made_by.get("model") or BASE_NAME
    if made_by:
        try:
            # nothing is fetched from a network because a video says so
            here = read_index(resolve_model(name, may_download=model is not None)).fingerprint
        except CheckpointError:
            if model is not None:
                raise
            hint = f"Give --model: another one, or {name} itself if you trust it."
            raise CheckpointError(f"the video was made with {name!r}, which is not on this machine.", hint) from None
        if made_by.get("weights") not in (None, here):
            console.say(f"note: the video was made with other weights ({made_by['weights']}, here {here})")
    return str(name)


def loras_of_video(made_by: Mapping[str, Any]) -> tuple[tuple[Path, float], ...]:
    """The LoRAs that a video was made with, and their strengths.

    Raises:
        CheckpointError: If a file is not there.
        RequestError: If one has changed, or the video does not say which file it was.
    """
    from mova.checkpoints.lora.file import lora_hash

    found = []
    for lora in made_by.get("loras") or ():
        if not isinstance(lora, Mapping) or not lora.get("file"):  # attached from memory, or written by an older version
            raise RequestError(
                "the video was made with a LoRA, and does not say with which file.", "Give --lora.", field="lora"
            )
        if lora_hash(lora["file"]) != lora.get("hash"):
            raise RequestError(
                f"the LoRA {lora['file']} is not what it was when the video was made.", "Put the old file back.", field="lora"
            )
        found.append((Path(lora["file"]), float(lora.get("scale", 1.0))))
    return tuple(found)


def replay(path: Path, output: Path | None, *, model: str | None, threads: int | None = None, is_json: bool) -> None:
    """Make a video again from what it says of itself, and say whether it is the same.

    It is computed as it was: with its number of threads, where that matters and is recorded.

    Raises:
        CheckpointError: If its model or a LoRA of it is not there.
        MediaError: If the file holds no request, or an input of it is gone.
        MovaError: If what was made is not the same; it is written all the same, to be looked at.
        RequestError: If an input of it has changed, or ``output`` cannot be compared with it.
    """
    from mova.cli.generate import Choice, Output, run

    request, made_by = read_recorded_request(path)
    target = output or path.with_name(f"{path.stem}-replay{path.suffix}")
    if target.suffix != path.suffix or target.resolve() == path.resolve():
        raise RequestError(
            f"--output: a replay is compared with {path.name}; {target} is of another kind, or the same file.",
            f"Give another {path.suffix}.",
        )
    check_inputs(request, made_by)
    name, loras = model_of_video(made_by, model=model), loras_of_video(made_by)
    is_exact = made_by.get("same_for_any_threads", False)  # clips of earlier versions are not
    runtime = RuntimeOptions(
        dtype=made_by.get("dtype", "auto"),
        quantisation=made_by.get("quantisation", "none"),
        threads=threads or (None if is_exact else made_by.get("threads")),
        same_for_any_threads=is_exact,
    )
    wanted = Output(target, sheet=None, has_sidecar=False, is_json=is_json, is_dry_run=False, num_clips=1)
    run(request, Choice(name, runtime, loras), wanted)
    _compare(path, target, made_by)


def check_inputs(request: Mapping[str, Any], made_by: Mapping[str, Any]) -> None:
    """Refuse what a recorded request names, if it is not any more what the video was made from."""
    from mova.conditioning.sources import PREFIX, content_hash
    from mova.film.plan import FILES

    fields = {name: [request[name]] for name in FILES if request.get(name) is not None}
    fields["keyframes"] = [key["image"] for key in request.get("keyframes") or ()]
    fields["references"] = list(request.get("references") or ())
    hashes = made_by.get("inputs") or {}
    for field, names in fields.items():
        for name in names:
            if name.startswith(PREFIX):
                raise RequestError(
                    f"what {field} names was in memory when the video was made ({name}).",
                    "Make it again from Python.",
                    field=field,
                )
            if name in hashes and content_hash(name) != hashes[name]:
                raise RequestError(f"{name} is not what it was when the video was made.", "Put the old file back.", field=field)


def _compare(path: Path, again: Path, made_by: Mapping[str, Any]) -> None:
    if again.read_bytes() == path.read_bytes():
        console.say(f"{again.name} is the same as {path.name}, byte by byte")
        return
    pairs = zip(("picture", "sound"), _decoded(path), _decoded(again), strict=True)
    different = [part for part, one, other in pairs if not np.array_equal(one, other)]  # of two that are None, too
    if different:
        raise MovaError(
            f"{again.name} is not the same as {path.name}: another {' and another '.join(different)}.",
            _why_different(made_by),
        )
    console.say(f"{again.name} has the same frames and samples as {path.name}; what is written about them differs")


def _why_different(made_by: Mapping[str, Any]) -> str:
    if made_by.get("same_for_any_threads"):
        return "Another version, other weights or another machine make another clip: see mova inspect."
    if "threads" in made_by:
        return f"Made with {made_by['threads']} threads; other weights or another version or machine make another clip."
    return "It does not say with how many threads it was made: try --threads 1, 2 ...; or it is of another version or machine."


def _decoded(path: Path) -> tuple[Any, Any]:
    """Frames and samples of a file; None of a stream that it has not."""
    from mova.media.decode import read_frames, read_waveform
    from mova.media.probe import probe

    info = probe(path)
    frames = None if info.video is None else read_frames(path).frames
    return frames, None if info.audio is None else read_waveform(path).waveform
