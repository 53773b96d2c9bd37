"""The friendly face: one object that makes clips from requests."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mova.conditioning.given import Given, paste_back
from mova.conditioning.prepare import Prepared, prepare
from mova.conditioning.reroll import rerolled
from mova.conditioning.sources import MemoryInputs, name_of, name_of_audio
from mova.media.clip import Clip
from mova.request.capabilities import Capabilities, SolverName
from mova.request.schema import Fit, GenerationRequest, Modality, TextOnly, make_request

if TYPE_CHECKING:
    import torch

    from mova.pipeline import MOVAPipeline
    from mova.runtime.options import RuntimeOptions

OnProgress = Callable[[str, int, int], None]


def fully_conditioned(given: Given) -> tuple[Literal["audio", "video"], ...]:
    """The audio or the video, where nothing of it is to be made."""
    keeps: tuple[tuple[Literal["audio", "video"], Any], ...] = (("audio", given.keep_audio), ("video", given.keep_picture))
    return tuple(modality for modality, kept in keeps if kept is not None and kept.all())


class MOVAModel:
    """A model ready to make clips.

    Examples:
        >>> model = MOVAModel.from_pretrained("mova-base")
        >>> clip = model.generate(prompt="a red ball bounces twice", seed=7)
        >>> video, audio = clip

    Args:
        pipeline: What it runs.
    """

    def __init__(self, pipeline: MOVAPipeline) -> None:
        self.pipeline = pipeline

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
            device: Where to run; the accelerator if there is one, if not given.
            dtype: Of the joint network and the text encoder; what suits the device, if not given.
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
            name: To speak of it; made from the file's name if not given.
            scale: Its strength.

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
        """Take a LoRA off, or all; without any, the model is bit for bit what it was.

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

    def generate(
        self,
        prompt: str,
        *,
        negative_prompt: str = "",
        audio_negative_prompt: str | None = None,
        seed: int | None = None,
        audio_seed: int | None = None,
        seconds: float | None = None,
        num_frames: int | None = None,
        fps: float | None = None,
        width: int | None = None,
        height: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        cross_guidance_scale: float | None = None,
        self_guidance_scale: float = 0.0,
        audio_guidance_scale: float | None = None,
        audio_cross_guidance_scale: float | None = None,
        audio_self_guidance_scale: float | None = None,
        guidance_from: float = 1.0,
        guidance_to: float = 0.0,
        cross_guidance_from: float | None = None,
        cross_guidance_to: float | None = None,
        self_guidance_from: float | None = None,
        self_guidance_to: float | None = None,
        guidance_rescale: float = 0.0,
        shift: float | None = None,
        audio_shift: float | None = None,
        solver: SolverName | None = None,
        audio_sample_rate: int | None = None,
        cues: Sequence[tuple[float, str]] | None = None,
        image: Any = None,
        last_image: Any = None,
        keyframes: Mapping[float, Any] | None = None,
        references: Sequence[Any] = (),
        video: str | Path | None = None,
        audio: Any = None,
        extend_s: float | None = None,
        extend_at: Literal["end", "start"] = "end",
        retake: tuple[Literal["audio", "video", "both"], float, float] | None = None,
        repaint: Any = None,
        only: Modality | None = None,
        fit: Fit = "exact",
        text_only: TextOnly | None = None,
        truncate: bool = False,
        on_progress: OnProgress | None = None,
    ) -> Clip:
        """Make one clip; the arguments are the fields of :class:`GenerationRequest`. ``clip.health`` is the verdict on it.

        Args:
            prompt: What to see and hear.
            negative_prompt: What to keep away from.
            audio_negative_prompt: What the audio keeps away from, if not from ``negative_prompt``.
            seed: Of the video; drawn if not given, and recorded in ``clip.request``.
            audio_seed: Of the audio; follows from ``seed`` if not given.
            seconds: Length; excludes ``num_frames``. The model's own length if neither is given.
            num_frames: Length in frames.
            fps: Frames per second.
            width: Of the picture in pixels.
            height: Of the picture in pixels.
            num_inference_steps: Steps of the sampler.
            guidance_scale: Strength of the text.
            cross_guidance_scale: How far picture and audio are bound.
            self_guidance_scale: How far the model is led away from its own weak side; 0 is off.
            audio_guidance_scale: ``guidance_scale`` of the audio; the video's if not given, as the next two.
            audio_cross_guidance_scale: ``cross_guidance_scale`` of the audio.
            audio_self_guidance_scale: ``self_guidance_scale`` of the audio.
            guidance_from: Noise level at which guidance begins.
            guidance_to: Noise level at which it ends.
            cross_guidance_from: The same for cross guidance; ``guidance_from`` if not given, and so the next three.
            cross_guidance_to: The same for cross guidance.
            self_guidance_from: The same for self-guidance.
            self_guidance_to: The same for self-guidance.
            guidance_rescale: How far guidance's gain in contrast is taken back.
            shift: Above 1: more steps at high noise.
            audio_shift: The same for the audio.
            solver: Method of the sampler.
            audio_sample_rate: Of the finished audio, in Hz.
            cues: What happens when: (seconds, label) each, of ``capabilities.cues`` or ``""``; planned from the
                prompt if not given, and left open if empty.
            image: Picture that the video begins with: a path, a PIL image or ``[H, W, 3]`` uint8.
            last_image: Picture that it ends with.
            keyframes: Pictures at moments of the video: seconds to picture.
            references: Pictures that the video goes on from and does not show: of what is to be in it.
            video: Video whose audio is made; with ``extend_s``, ``retake`` or ``repaint``, the clip that is changed.
            audio: Audio to which a video is made: a path, or ``(waveform [channels, samples], sample_rate)``.
            extend_s: Seconds to add to the clip given as ``video``.
            extend_at: Where they are added.
            retake: Modality, begin and end in seconds of the span of that clip to make anew.
            repaint: Mask of its size, a picture: what is white is painted anew.
            only: Write the audio ("audio") or the video ("video") alone; both are made, each with the other.
            fit: What to do with a picture of another shape: refuse it ("exact"), "crop", "pad" or "stretch".
            text_only: For a model that was trained with a first picture, when none is given: what takes its place.
            truncate: Cut a prompt that has more tokens than the model reads.
            on_progress: ``f(stage, done, of)`` with the stages text, denoise, decode, resample.

        Raises:
            RequestError: If the model cannot make what is asked.
        """
        memory: dict[str, Any] = {}
        values = dict(
            prompt=prompt,
            negative_prompt=negative_prompt,
            audio_negative_prompt=audio_negative_prompt,
            seed=seed,
            audio_seed=audio_seed,
            seconds=seconds,
            num_frames=num_frames,
            fps=fps,
            width=width,
            height=height,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            cross_guidance_scale=cross_guidance_scale,
            self_guidance_scale=self_guidance_scale,
            audio_guidance_scale=audio_guidance_scale,
            audio_cross_guidance_scale=audio_cross_guidance_scale,
            audio_self_guidance_scale=audio_self_guidance_scale,
            guidance_from=guidance_from,
            guidance_to=guidance_to,
            cross_guidance_from=cross_guidance_from,
            cross_guidance_to=cross_guidance_to,
            self_guidance_from=self_guidance_from,
            self_guidance_to=self_guidance_to,
            guidance_rescale=guidance_rescale,
            shift=shift,
            audio_shift=audio_shift,
            solver=solver,
            audio_sample_rate=audio_sample_rate,
            cues=None if cues is None else tuple({"time_s": time_s, "label": label} for time_s, label in cues),
            image=name_of(image, "image", memory),
            last_image=name_of(last_image, "last_image", memory),
            keyframes=tuple(
                {"time_s": time_s, "image": name_of(picture, "keyframes", memory) or ""}
                for time_s, picture in (keyframes or {}).items()
            ),
            references=tuple(name_of(picture, "references", memory) or "" for picture in references),
            video=None if video is None else str(video),
            audio=name_of_audio(audio, "audio", memory),
            extend_s=extend_s,
            extend_at=extend_at,
            retake=None if retake is None else dict(zip(("modality", "from_s", "to_s"), retake, strict=True)),
            repaint=name_of(repaint, "repaint", memory),
            only=only,
            fit=fit,
            text_only=text_only,
            truncate=truncate,
        )
        return self.run(make_request(values), memory=memory, on_progress=on_progress)

    def run(
        self, request: GenerationRequest, *, memory: MemoryInputs | None = None, on_progress: OnProgress | None = None
    ) -> Clip:
        """Make the clip of a request; ``clip.request`` holds it with every value settled, ``clip.health`` the verdict.

        Args:
            request: What to make.
            memory: What its names stand for, where they are no files (:mod:`mova.conditioning.prepare`).
            on_progress: As in :meth:`generate`.

        Raises:
            RequestError: If the model cannot make what is asked.
            MediaError: If a file that it names cannot be read; a NonFiniteError if a codec gives NaN or infinity.
        """
        return self.run_prepared(self.prepare(request, memory=memory), on_progress=on_progress)

    def reroll(self, clip: Clip, modality: Modality, *, seed: int | None = None, on_progress: OnProgress | None = None) -> Clip:
        """The clip with its audio or its video made anew for the other, which stays as it is to the last bit.

        Args:
            clip: One that this model or another made, or that was read from a file and says how it was made.
            modality: What is made anew: ``"audio"`` or ``"video"``.
            seed: Of what is made anew; drawn if not given, and recorded in ``clip.request``.
            on_progress: As in :meth:`generate`.

        Raises:
            RequestError: If the clip does not say how it was made, or this model cannot make clips of its size and rate.
        """
        request, memory = rerolled(clip, modality, seed=seed)
        return self.run(request, memory=memory, on_progress=on_progress)

    def prepare(self, request: GenerationRequest, *, memory: MemoryInputs | None = None) -> Prepared:
        """The request with every value settled for this model, and the files that it names; nothing is computed.

        Raises:
            RequestError: If the model cannot make what is asked.
            MediaError: If a file that it names cannot be read.
        """
        return prepare(request, self.capabilities, memory)

    def run_prepared(self, prepared: Prepared, *, on_progress: OnProgress | None = None) -> Clip:
        """Make the clip; what was given is in it as it was."""
        from mova.pipeline.output import MOVAPipelineOutput
        from mova.pipeline.passes import guidance_of

        plan, given = prepared.plan, prepared.given
        request, timeline = plan.request, plan.timeline
        lead_s = float(prepared.lead_frames / timeline.fps)
        output = self.pipeline(
            request.prompt,
            request.negative_prompt,
            height=plan.height,
            width=plan.width,
            num_frames=plan.num_frames + prepared.lead_frames,
            fps=request.fps,
            num_inference_steps=plan.num_inference_steps,
            guidance=guidance_of(plan),
            audio_negative_prompt=request.audio_negative_prompt,
            shift=request.shift,
            audio_shift=request.audio_shift,
            solver=plan.solver,
            seed=plan.seed,
            audio_seed=plan.audio_seed,
            text_only=request.text_only,
            truncate=request.truncate,
            cues=None if request.cues is None else [[(cue.time_s + lead_s, cue.label) for cue in request.cues]],
            given=[prepared.with_lead],
            output_type="clips",
            on_progress=on_progress,
        )
        assert isinstance(output, MOVAPipelineOutput)
        clip = output.clip.without_beginning(prepared.lead_frames)
        if plan.sample_rate != clip.sample_rate:
            if on_progress is not None:
                on_progress("resample", 0, 1)
            clip = clip.resampled(plan.sample_rate)
            if on_progress is not None:
                on_progress("resample", 1, 1)
        clip = paste_back(clip, given, audio=prepared.audio, timeline=timeline)
        return replace(
            clip,
            request=request.model_dump(exclude_defaults=True),
            made_by=self.made_by(prepared, output.cues[0]),
            source_video=prepared.source_video,
            only=request.only,
            fully_conditioned=fully_conditioned(given),
            reroll_method=weakref.WeakMethod(self.reroll),
        )

    def made_by(self, prepared: Prepared, cues: Sequence[tuple[float, str]]) -> dict[str, Any]:
        """What makes clips here, as plain JSON values: version, model, fingerprint of the weights, their number format and
        quantisation, schedule, inputs, LoRAs, and the cues of the run on the clip's own clock.
        """
        from mova import __version__

        pipeline, runtime = self.pipeline, self.pipeline.runtime
        lead_s = float(prepared.lead_frames / prepared.plan.timeline.fps)
        dtype = pipeline.transformer.dtype if runtime is None else runtime.dtype
        return {
            "mova": __version__,
            "model": self.capabilities.name,
            "weights": pipeline.index.fingerprint,
            "dtype": str(dtype).removeprefix("torch."),
            "quantisation": "none" if runtime is None else runtime.quantisation,
            "schedule": asdict(pipeline.scheduler.schedule_config),
            "inputs": dict(prepared.inputs),
            "loras": pipeline.lora_record(),
            "cues": [[round(time_s - lead_s, 9), label] for time_s, label in cues],
        }
