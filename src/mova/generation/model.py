"""The high-level API: one object that makes clips from requests, or from keyword arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, cast

import numpy as np

from mova.conditioning.prepare import Prepared, prepare
from mova.conditioning.reroll import reroll_request
from mova.conditioning.sources import MemoryInputs, name_of, name_of_audio
from mova.errors import RequestError
from mova.generation.run import run, run_many
from mova.media.clip import Clip
from mova.models.text import count_tokens
from mova.progress import CancelToken, OnProgress
from mova.request.arguments import RequestArguments, check_names, show_arguments
from mova.request.plan import Capabilities
from mova.request.reading import PromptReading
from mova.request.schema import Cue, GenerationRequest, Modality

if TYPE_CHECKING:
    import torch

    from mova.pipeline import MOVAPipeline
    from mova.pipeline.latents import Codecs
    from mova.runtime.options import RuntimeOptions


DESCRIPTIONS = {
    "cues": "What happens when: (seconds, label) each, of ``capabilities.cues`` or an empty label; planned from the prompt "
    "if not given, and left open if empty.",
    "image": "First frame: a path, a PIL image or ``[H, W, 3]`` uint8.",
    "last_image": "Last frame, likewise.",
    "keyframes": "Frames at moments: seconds to image.",
    "audio": "Audio for which a video is made: a path, or ``(waveform [channels, samples], sample_rate)``.",
    "retake": "Modality, begin and end in seconds of the span of the clip given as video to generate again.",
}
"""Descriptions of arguments that take more in Python than in a request."""
_NAMES = tuple(name for name in GenerationRequest.model_fields if name != "prompt")


def request_of(prompt: str, arguments: RequestArguments) -> tuple[GenerationRequest, dict[str, Any]]:
    """The request of keyword arguments, and what its names stand for where they are no files.

    Raises:
        RequestError: If an argument is unknown or wrong.
    """
    check_names(cast("dict[str, Any]", arguments), _NAMES)
    memory: dict[str, Any] = {}
    values: dict[str, Any] = {"prompt": prompt, **arguments}
    for name in ("image", "last_image", "repaint"):
        if name in values:
            values[name] = name_of(values[name], name, memory)
    if values.get("video") is not None:
        values["video"] = str(values["video"])
    if "audio" in values:
        values["audio"] = name_of_audio(values["audio"], "audio", memory)
    if "references" in values:
        values["references"] = tuple(name_of(one, "references", memory) or "" for one in values["references"])
    if "keyframes" in values:
        shown = (values["keyframes"] or {}).items()
        values["keyframes"] = tuple(
            {"time_s": time_s, "image": name_of(image, "keyframes", memory) or ""} for time_s, image in shown
        )
    if values.get("cues") is not None:
        values["cues"] = _cues(values["cues"])
    if values.get("retake") is not None:
        values["retake"] = _named(("modality", "from_s", "to_s"), values["retake"], "retake", '("audio", 0.8, 1.6)')
    return GenerationRequest.model_validate(values), memory


def _cues(given: Any) -> tuple[dict[str, Any], ...]:
    """Cues in every form: ``(0.5, "red")``, ``(0.5, None)``, ``0.5``, and as they are typed, ``"0.5=red"`` or ``"none"``.

    Raises:
        RequestError: If one has another form.
    """
    given = given if isinstance(given, list | tuple) else [given]
    if list(given) == ["none"]:
        return ()
    return tuple(_cue(one) for one in given)


def _cue(given: Any) -> dict[str, Any]:
    if isinstance(given, Cue):
        return given.model_dump()
    if isinstance(given, str):
        time_text, _, label = given.partition("=")
        try:
            return {"time_s": float(time_text), "label": label}
        except ValueError:
            given = (given,)  # refused below, in the same words
    one = given if isinstance(given, list | tuple) else (given,)
    is_time = len(one) in (1, 2) and isinstance(one[0], int | float | np.number) and not isinstance(one[0], bool)
    if not is_time or not (len(one) == 1 or one[1] is None or isinstance(one[1], str)):
        raise RequestError(
            f'cues must be given as [(0.5, "red"), ...]; got {str(given)[:40]!r}.',
            'Give seconds, with a label or without: (0.5, "red"), 0.5, or "0.5=red".',
            field="cues",
        )
    return {"time_s": float(one[0]), "label": (one[1] if len(one) == 2 else None) or ""}


def _named(names: tuple[str, ...], value: Any, field: str, example: str) -> dict[str, Any]:
    """A tuple as the fields of a part of a request.

    Raises:
        RequestError: If it has another form.
    """
    if not isinstance(value, tuple | list) or len(value) != len(names):
        raise RequestError(f"{field} must be given as {example}; got {str(value)[:40]!r}.", f"Give {example}.", field=field)
    return dict(zip(names, value, strict=True))


class MOVAModel:
    """A model ready to make clips.

    Examples:
        >>> model = MOVAModel.from_pretrained("mova-base")
        >>> clip = model.generate(prompt="a red ball bounces twice", seed=7)
        >>> video, audio = clip

    Args:
        pipeline: The pipeline that it runs.
    """

    def __init__(self, pipeline: MOVAPipeline) -> None:
        self.pipeline = pipeline

    def __repr__(self) -> str:
        """Name, what it makes, and how it runs."""
        able, transformer = self.capabilities, self.pipeline.transformer
        width, height = able.default_size
        seconds = able.default_frames / able.default_fps
        loras = "".join(f", LoRA {lora['name']} at {lora['scale']:g}" for lora in self.pipeline.loras.record())
        return (
            f"MOVAModel({able.name!r}: {width}x{height}, {able.default_fps:g} fps, {seconds:.4g} s, {able.sample_rate} Hz; "
            f"{transformer.device}, {str(transformer.dtype).removeprefix('torch.')}{loras})"
        )

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path = "mova-base",
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        runtime: RuntimeOptions | None = None,
    ) -> MOVAModel:
        """Load a model.

        Args:
            name_or_path: ``"mova-base"``, a folder, or a repository of the Hugging Face hub.
            device: Device to run on; the accelerator if there is one, if not given.
            dtype: Number format of the joint network and the text encoder; what suits the device, if not given.
            runtime: Offloading, 8-bit weights, attention backend and the like.

        Raises:
            CheckpointError: If there is no such model or its files are broken.
            RequestError: If the model cannot run here as asked.
            MissingExtraError: If that needs a package that is not installed.
        """
        from mova.pipeline import MOVAPipeline

        return cls(MOVAPipeline.from_pretrained(name_or_path, torch_dtype=dtype, device=device, runtime=runtime))

    def load_lora(self, path: str | Path, *, name: str | None = None, scale: float = 1.0) -> str:
        """Add a LoRA to those that are attached, and return its name.

        Args:
            path: A ``.safetensors`` file, or a folder that holds one.
            name: Name of the adapter; made from the file's name if not given.
            scale: Strength.

        Raises:
            CheckpointError: If the file is broken, or made for another model. Nothing has changed then.
        """
        return self.pipeline.load_lora_weights(path, name, scale=scale)

    def set_lora_scales(self, scales: Mapping[str, float]) -> None:
        """Set the strength of some LoRAs by name; the others keep theirs.

        Raises:
            RequestError: If a name is not attached, or a scale is not a finite number.
        """
        self.pipeline.set_lora_scales(scales)

    def unload_lora(self, name: str | None = None) -> None:
        """Detach a LoRA, or all; without any, the model is bit for bit what it was.

        Raises:
            RequestError: If the name is not attached.
        """
        if name is None:
            self.pipeline.unload_lora_weights()
        else:
            self.pipeline.delete_adapters(name)

    @property
    def capabilities(self) -> Capabilities:
        """What the model can make."""
        return self.pipeline.capabilities

    @property
    def world(self) -> Capabilities:
        """``capabilities``, under the name of earlier releases."""
        return self.capabilities

    @show_arguments(RequestArguments, others=DESCRIPTIONS)
    def generate(
        self,
        prompt: str,
        *,
        on_progress: OnProgress | None = None,
        cancel: CancelToken | None = None,
        **arguments: Unpack[RequestArguments],
    ) -> Clip:
        """Make one clip; the arguments are the fields of :class:`GenerationRequest`. ``clip.health`` is the verdict on it.

        Args:
            prompt: What to see and hear.
            on_progress: Receiver of :class:`~mova.progress.Progress` events; stages: text, denoise, decode, resample.
            cancel: Token that stops the run within a step.
            arguments: Fields of :class:`GenerationRequest`; Python takes images and audio in memory, too
                (:class:`~mova.request.arguments.RequestArguments`).

        Raises:
            RequestError: If the model cannot make what is asked.
            CancelledError: If the run was cancelled.
        """
        request, memory = request_of(prompt, arguments)
        return self.run(request, memory=memory, on_progress=on_progress, cancel=cancel)

    def run(
        self,
        request: GenerationRequest,
        *,
        memory: MemoryInputs | None = None,
        on_progress: OnProgress | None = None,
        cancel: CancelToken | None = None,
    ) -> Clip:
        """Make the clip of a request; ``clip.request`` holds it with every value resolved, ``clip.health`` the verdict.

        Args:
            request: What to make.
            memory: What its names stand for, where they are no files (:mod:`mova.conditioning.sources`).
            on_progress: As for :meth:`generate`.
            cancel: As for :meth:`generate`.

        Raises:
            RequestError: If the model cannot make what is asked.
            MediaError: If a file that it names cannot be read; a NonFiniteError if a codec gives NaN or infinity.
            CancelledError: If the run was cancelled.
        """
        return self.run_prepared(self.prepare(request, memory=memory), on_progress=on_progress, cancel=cancel)

    def run_prepared(
        self,
        prepared: Prepared,
        *,
        codecs: Codecs | None = None,
        on_progress: OnProgress | None = None,
        cancel: CancelToken | None = None,
    ) -> Clip:
        """Make a prepared clip (:func:`mova.generation.run.run`)."""
        return run(self, prepared, codecs=codecs, on_progress=on_progress, cancel=cancel)

    def run_many(
        self,
        requests: Sequence[GenerationRequest],
        *,
        batch_size: int = 8,
        on_progress: OnProgress | None = None,
        cancel: CancelToken | None = None,
    ) -> list[Clip]:
        """Make the clips of several requests, those that can share a batch together (:func:`mova.generation.run.run_many`)."""
        prepared = [self.prepare(request) for request in requests]
        return run_many(self, prepared, batch_size=batch_size, on_progress=on_progress, cancel=cancel)

    def reroll(
        self,
        clip: Clip,
        modality: Modality,
        *,
        seed: int | None = None,
        on_progress: OnProgress | None = None,
        cancel: CancelToken | None = None,
    ) -> Clip:
        """Generate the audio or the video of a clip again for the other, which stays as it is to the last bit.

        Args:
            clip: One that this model or another made, or that was read from a file and says how it was made.
            modality: What is generated again: ``"audio"`` or ``"video"``.
            seed: Its seed; drawn if not given, and recorded in ``clip.request``.
            on_progress: As for :meth:`generate`.
            cancel: As for :meth:`generate`.

        Raises:
            RequestError: If the clip does not say how it was made, or this model cannot make clips of its size and rate.
        """
        request, memory = reroll_request(clip, modality, seed=seed)
        return self.run(request, memory=memory, on_progress=on_progress, cancel=cancel)

    def prepare(self, request: GenerationRequest, *, memory: MemoryInputs | None = None) -> Prepared:
        """Resolve every value of a request for this model and read the files that it names; nothing is computed.

        Raises:
            RequestError: If the model cannot make what is asked.
            MediaError: If a file that it names cannot be read.
        """
        count = partial(count_tokens, self.pipeline.tokenizer)
        return prepare(request, self.capabilities, memory, count_tokens=count, read=self.pipeline.read_prompt)

    def read(self, prompt: str, *, seconds: float | None = None) -> PromptReading | None:
        """What the model understands of a prompt; nothing is made.

        Args:
            prompt: What to see and hear.
            seconds: Length of the clip; the model's own if not given.

        Returns:
            The reading; ``None`` if the model has no prompt reader.
        """
        able = self.capabilities
        return self.pipeline.read_prompt(prompt, able.default_frames / able.default_fps if seconds is None else seconds)

    def made_by(self, prepared: Prepared, cues: Sequence[tuple[float, str]]) -> dict[str, Any]:
        """What makes clips here, as plain JSON values: version, model, fingerprint of the weights, their number format and
        quantisation, threads, schedule, inputs, LoRAs, and the cues of the run on the clip's own clock.
        """
        from mova._version import __version__
        from mova.runtime.threads import choose_threads

        pipeline, runtime = self.pipeline, self.pipeline.runtime
        is_exact = runtime is not None and runtime.same_for_any_threads
        lead_s = float(prepared.lead_frames / prepared.plan.timeline.fps)
        dtype = pipeline.transformer.dtype if runtime is None else runtime.dtype
        return {
            "mova": __version__,
            "model": self.capabilities.name,
            "weights": pipeline.index.fingerprint,
            "dtype": str(dtype).removeprefix("torch."),
            "quantisation": "none" if runtime is None else runtime.quantisation,
            "threads": choose_threads(None if runtime is None else runtime.threads, is_exact=is_exact),
            "same_for_any_threads": is_exact,
            "schedule": asdict(pipeline.scheduler.schedule_config),
            "inputs": dict(prepared.inputs),
            "loras": pipeline.loras.record(),
            "cues": [[round(time_s - lead_s, 9), label] for time_s, label in cues],
            "reading": None if prepared.reading is None else prepared.reading.as_dict(),
        }
