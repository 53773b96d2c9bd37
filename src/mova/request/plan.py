"""From a request to a plan: every value resolved for one model. No weights are read and no torch is imported."""

from __future__ import annotations

import difflib
import html
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

import ftfy

from mova.errors import RequestError
from mova.request.capabilities import (
    Capabilities,
    grid_frames,
    resolve_fps,
    resolve_length,
    resolve_size,
    takes_no_cues,
    too_many_tokens,
    value_or,
)
from mova.request.schema import MAX_SEED, GenerationRequest
from mova.timeline import Timeline


@dataclass(frozen=True)
class Canvas:
    """Size and length of the clip to generate.

    Args:
        width: Width in pixels.
        height: Height in pixels.
        num_frames: Length in frames.
        num_samples: Length of the audio in samples, at the model's own rate.
    """

    width: int
    height: int
    num_frames: int
    num_samples: int


@dataclass(frozen=True)
class Plan:
    """A request with every value resolved for one model.

    Args:
        request: The request, with seeds, length and all scales filled in: run again, it gives the same clip.
        width: Width in pixels.
        height: Height in pixels.
        num_frames: Length of the finished clip in frames.
        grid_frames: Number of frames that the network generates, of which ``num_frames`` are kept.
        seed: Seed of the video.
        audio_seed: Seed of the audio.
        timeline: The clock, at the clip's frame rate.
        sample_rate: Sample rate of the finished audio in Hz.
        num_inference_steps: Steps of the sampler.
        guidance_scale: Strength of the text.
        cross_guidance_scale: Strength of the bridge.
        solver: Method of the sampler.
    """

    request: GenerationRequest
    width: int
    height: int
    num_frames: int
    grid_frames: int
    seed: int
    audio_seed: int
    timeline: Timeline
    sample_rate: int
    num_inference_steps: int
    guidance_scale: float
    cross_guidance_scale: float
    solver: str

    @property
    def canvas(self) -> Canvas:
        """The clip to be made, at the model's own sample rate."""
        return Canvas(self.width, self.height, self.num_frames, self.timeline.samples(self.num_frames))

    @property
    def num_samples(self) -> int:
        """Samples of the finished audio per channel."""
        return replace(self.timeline, sample_rate=self.sample_rate).samples(self.num_frames)


def resolve(request: GenerationRequest, capabilities: Capabilities) -> Plan:
    """Resolve every value of a request for one model.

    Raises:
        RequestError: If the model cannot fulfil the request; the message states what is possible, the hint the nearest
            valid value.
    """
    width, height = resolve_size(capabilities, request.width, request.height)
    fps = resolve_fps(capabilities, request.fps)
    num_frames = resolve_length(capabilities, fps, num_frames=request.num_frames, seconds=request.seconds)
    check_cues(request, capabilities, Fraction(num_frames) / fps)
    timeline = capabilities.timeline(fps)
    # 32 bits are enough to tell clips apart and short enough to be typed again
    seed = secrets.randbelow(2**32) if request.seed is None else request.seed
    # the two modalities have their own keys: the same number gives different noise
    audio_seed = seed if request.audio_seed is None else request.audio_seed
    plan = Plan(
        request=request,
        width=width,
        height=height,
        num_frames=num_frames,
        grid_frames=grid_frames(capabilities, num_frames),
        seed=seed,
        audio_seed=audio_seed,
        timeline=timeline,
        sample_rate=request.audio_sample_rate or capabilities.sample_rate,
        num_inference_steps=value_or(request.num_inference_steps, capabilities.num_inference_steps),
        guidance_scale=value_or(request.guidance_scale, capabilities.guidance_scale),
        cross_guidance_scale=value_or(request.cross_guidance_scale, capabilities.cross_guidance_scale),
        solver=value_or(request.solver, capabilities.solver),
    )
    resolved = request.model_copy(
        update={
            "seed": seed,
            "audio_seed": audio_seed,
            "seconds": None,
            "num_frames": num_frames,
            "fps": capabilities.default_fps if request.fps is None else request.fps,
            "width": width,
            "height": height,
            "num_inference_steps": plan.num_inference_steps,
            "guidance_scale": plan.guidance_scale,
            "cross_guidance_scale": plan.cross_guidance_scale,
            "solver": plan.solver,
            "audio_sample_rate": plan.sample_rate,
        }
    )
    return replace(plan, request=resolved)


def check_seeds(plan: Plan, num_clips: int) -> None:
    """Refuse a number of clips with consecutive seeds of which the last would be out of range.

    Raises:
        RequestError: With the greatest seed that is allowed.
    """
    for field, seed in (("seed", plan.seed), ("audio_seed", plan.audio_seed)):
        if seed + num_clips - 1 > MAX_SEED:
            last = MAX_SEED - num_clips + 1
            raise RequestError(
                f"{field} must be at most {last} for {num_clips} clips with consecutive seeds; got {seed}.",
                f"Use {last}, the greatest.",
                field=field,
            )


def check_cues(request: GenerationRequest, capabilities: Capabilities, seconds: Fraction) -> None:
    """Refuse cues that the model does not know, or outside the clip.

    Raises:
        RequestError: With the nearest that is allowed.
    """
    if request.cues and not capabilities.cues:
        raise takes_no_cues(capabilities)
    for cue in request.cues or ():
        if cue.time_s >= seconds:
            raise RequestError(
                f"cues: {cue.time_s:g} s is not within the clip of {float(seconds):g} s.",
                "Give an earlier time, or ask for a longer clip.",
                field="cues",
            )
        if cue.label and cue.label not in capabilities.cues:
            close = difflib.get_close_matches(cue.label, capabilities.cues, n=1, cutoff=0.5)
            guess = f"Did you mean {close[0]}? " if close else ""
            raise RequestError(
                f"cues: {capabilities.name} knows no {cue.label[:40]!r}.",
                f"{guess}It knows {', '.join(capabilities.cues)}.",
                field="cues",
            )


CountTokens = Callable[[str], int]
"""Number of tokens of a cleaned prompt, the end-of-text token included."""


def clean_prompt(prompt: str) -> str:
    """Repair broken characters, resolve HTML entities and collapse white space (spec 3.2)."""
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(prompt))).split())


def check_prompts(request: GenerationRequest, capabilities: Capabilities, count_tokens: CountTokens) -> None:
    """Refuse prompts that have more tokens than the model reads, unless they may be cut.

    Args:
        request: What is asked.
        capabilities: What the model can make.
        count_tokens: The model's tokenizer.

    Raises:
        RequestError: If a prompt is too long.
    """
    if request.truncate:
        return
    for prompt in (request.prompt, request.negative_prompt, request.audio_negative_prompt or ""):
        cleaned = clean_prompt(prompt)
        if (count := count_tokens(cleaned)) > capabilities.max_tokens:
            raise too_many_tokens(cleaned, count, capabilities.max_tokens)
