"""The pipeline in diffusers' form: components, loading and saving, LoRAs, and a call that packs a batch and runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Unpack

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from mova.checkpoints.layout import Index
from mova.checkpoints.load import Components, load_to_run
from mova.checkpoints.lora.attached import LoraSet
from mova.checkpoints.lora.file import Naming
from mova.checkpoints.save import save_checkpoint
from mova.errors import CheckpointError
from mova.pipeline.latents import Codecs, MOVAPipelineOutput
from mova.pipeline.prompts import Texts
from mova.pipeline.reading import read_prompt
from mova.pipeline.run import DESCRIPTIONS, PipelineArguments, StepCallback, check_output_type, pack_batch, run
from mova.progress import CancelToken, OnProgress, Reporter
from mova.request.arguments import show_arguments
from mova.request.plan import Capabilities
from mova.request.reading import PromptReading
from mova.runtime.options import RuntimeOptions
from mova.runtime.resolve import Runtime, apply_runtime
from mova.runtime.weights import frees_hooks, keep_shared_parts
from mova.sampling.task import Grid, latent_grid


class MOVAPipeline(DiffusionPipeline):
    """Video and audio in one diffusion process.

    Args:
        transformer: The joint network (with two experts, the one for high noise).
        transformer_2: The expert for low noise, or ``None``.
        video_vae: Video codec.
        audio_vae: Audio codec.
        text_encoder: Text encoder.
        tokenizer: Its tokenizer.
        scheduler: Noise levels.
        cue_planner: What writes cue sheets from prompts, or ``None``.
        prompt_reader: What marks in a prompt what it says, or ``None``.
        index: What the checkpoint's folder says: classes, boundary, world.
    """

    model_cpu_offload_seq = "prompt_reader->cue_planner->text_encoder->transformer->transformer_2->video_vae->audio_vae"
    _optional_components = ["transformer_2", "cue_planner", "prompt_reader"]  # noqa: RUF012

    def __init__(
        self,
        transformer: Any,
        transformer_2: Any,
        video_vae: Any,
        audio_vae: Any,
        text_encoder: Any,
        tokenizer: Any,
        scheduler: Any,
        cue_planner: Any = None,
        prompt_reader: Any = None,
        index: Index | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            transformer=transformer,
            transformer_2=transformer_2,
            video_vae=video_vae,
            audio_vae=audio_vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            scheduler=scheduler,
            cue_planner=cue_planner,
            prompt_reader=prompt_reader,
        )
        self.index = index or Index(classes={})
        self.runtime: Runtime | None = None  # how it runs and why, where that was resolved
        self.loras = LoraSet(self)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        torch_dtype: torch.dtype | None = None,
        device: str | torch.device | None = None,
        runtime: RuntimeOptions | None = None,
    ) -> MOVAPipeline:
        """Load a model: ``"mova-base"``, a folder, or a repository of the hub.

        Args:
            pretrained_model_name_or_path: Which.
            torch_dtype: Number format of the joint network and the text encoder; in place of ``runtime.dtype``.
            device: Where to run; in place of ``runtime.device``.
            runtime: Offloading, 8-bit weights, attention backend and the like; by default nothing of it, on the
                accelerator if there is one.

        Raises:
            CheckpointError: If there is no such model or its files are broken.
            RequestError: If the model cannot run here as asked.
            MissingExtraError: If that needs a package that is not installed.
        """
        options = runtime or RuntimeOptions()
        options = replace(options, device=device or options.device, dtype=torch_dtype or options.dtype)
        components, resolved = load_to_run(pretrained_model_name_or_path, options)
        pipeline = cls.from_components(components)
        apply_runtime(pipeline, resolved)
        pipeline.runtime = resolved
        return pipeline

    @classmethod
    def from_components(cls, components: Components) -> MOVAPipeline:
        """A pipeline around loaded components."""
        return cls(**{name: getattr(components, name) for name in Components.__dataclass_fields__})

    def save_pretrained(self, save_directory: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Write the model as a checkpoint folder in the official layout.

        Raises:
            CheckpointError: If the folder cannot be written, or the weights have lost bits to quantisation.
        """
        if self.runtime is not None and self.runtime.quantisation != "none":
            raise CheckpointError("the weights are quantised, and would be saved so.", "Load the model without quantisation.")
        names = Components.__dataclass_fields__
        save_checkpoint(save_directory, Components(**{name: getattr(self, name) for name in names}), dtype=dtype)

    def enable_model_cpu_offload(self, gpu_id: int | None = None, device: torch.device | str | None = None) -> None:
        """As diffusers', but audio and bridge stay on the device when one expert follows the other."""
        super().enable_model_cpu_offload(gpu_id=gpu_id, device=device)
        keep_shared_parts(self.transformer, self.transformer_2, self.video_vae)

    @property
    def capabilities(self) -> Capabilities:
        """What the model can make."""
        sizes, known = self.transformer.config["video"], self.index.capabilities
        needs_first_frame = sizes["in_dim"] > sizes["out_dim"] and not known.cues
        return replace(known, needs_first_frame=needs_first_frame)

    @property
    def world(self) -> Capabilities:
        """``capabilities``, under the name of earlier releases."""
        return self.capabilities

    def read_prompt(self, prompt: str, seconds: float) -> PromptReading | None:
        """What the model understands of a prompt for a clip of a length in seconds; ``None`` without a prompt reader."""
        return read_prompt(self.prompt_reader, self.capabilities, prompt, seconds)

    @property
    def codecs(self) -> Codecs:
        """Both codecs, on the device on which they work."""
        return Codecs(self.video_vae, self.audio_vae, self._execution_device)

    @property
    def experts(self) -> list[Any]:
        """The one or two joint networks that share a run."""
        return [expert for expert in (self.transformer, self.transformer_2) if expert is not None]

    def grid(self, *, height: int, width: int, num_frames: int, fps: float | Fraction) -> Grid:
        """The latent grids of a clip of a size in pixels and a length in frames."""
        scale = self.video_vae.config.scale_factor_spatial
        known = self.capabilities
        return latent_grid(known, scale, height=height, width=width, num_frames=num_frames, fps=Fraction(fps))

    @show_arguments(PipelineArguments, others=DESCRIPTIONS)
    @frees_hooks
    @torch.no_grad()
    def __call__(
        self,
        prompt: Texts | None = None,
        negative_prompt: Texts | None = None,
        *,
        output_type: str = "np",
        callback_on_step_end: StepCallback | None = None,
        on_progress: OnProgress | None = None,
        cancel: CancelToken | None = None,
        return_dict: bool = True,
        **arguments: Unpack[PipelineArguments],
    ) -> MOVAPipelineOutput | tuple[Any, Any]:
        """Make one clip a prompt. Each clip of a batch is what a run of its own would give.

        Args:
            prompt: What to see and hear; one or several.
            negative_prompt: What to keep away from; one for all, or as many.
            output_type: ``"np"``, ``"pil"``, ``"pt"``, ``"latent"``, or ``"clips"`` for clips alone.
            callback_on_step_end: ``f(pipeline, step, timestep, {"latents", "audio_latents"})``; what it
                returns under these names takes their place.
            on_progress: Receiver of :class:`~mova.progress.Progress` events; stages: text, denoise, decode.
            cancel: Token that stops the run within a step.
            return_dict: Whether to return an output object and not ``(frames, audio)``.
            arguments: Fields of :class:`~mova.pipeline.run.PipelineArguments`; no others.

        Raises:
            RequestError: If the model cannot make what is asked.
            CancelledError: If the run was cancelled.
        """
        check_output_type(output_type)
        batch = pack_batch(self.capabilities, prompt, negative_prompt, arguments, read=self.read_prompt)
        reporter = Reporter(on_progress, cancel)
        output = run(self, batch, output_type=output_type, reporter=reporter, on_step_end=callback_on_step_end)
        return output if return_dict else (output.frames, output.audio)

    def load_lora_weights(self, path: str | Path, adapter_name: str | None = None, *, scale: float = 1.0) -> str:
        """Read a LoRA and attach it: see :meth:`LoraSet.load`."""
        return self.loras.load(path, adapter_name, scale=scale)

    def set_adapters(self, adapter_names: str | Sequence[str], adapter_weights: float | Sequence[float] | None = None) -> None:
        """Activate exactly these LoRAs: see :meth:`LoraSet.activate`."""
        self.loras.activate(adapter_names, adapter_weights)

    def set_lora_scales(self, scales: Mapping[str, float]) -> None:
        """Set the strength of some LoRAs: see :meth:`LoraSet.set_scales`."""
        self.loras.set_scales(scales)

    def get_list_adapters(self) -> dict[str, list[str]]:
        """Names of the attached LoRAs by network: see :meth:`LoraSet.by_network`."""
        return self.loras.by_network()

    def get_active_adapters(self) -> list[str]:
        """Names of the LoRAs whose strength is not 0."""
        return self.loras.active()

    def delete_adapters(self, adapter_names: str | Sequence[str]) -> None:
        """Detach some LoRAs: see :meth:`LoraSet.detach`."""
        self.loras.detach(adapter_names)

    def unload_lora_weights(self) -> None:
        """Detach all LoRAs: the network is bit for bit what it was."""
        self.loras.detach_all()

    def save_lora_weights(
        self, save_directory: str | Path, adapter_name: str | None = None, *, names: Naming = "diffusers"
    ) -> Path:
        """Write one LoRA into a folder: see :meth:`LoraSet.save`."""
        return self.loras.save(save_directory, adapter_name, names=names)
