"""What a model can make, and a request with every value resolved for one model, before any weight is read.

Nothing is rounded: what cannot be made as asked is refused with the nearest that can. No torch here.
"""

from __future__ import annotations

import difflib
import html
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any, TypeVar, cast

import ftfy
from pydantic import TypeAdapter, ValidationError

from mova.errors import RequestError, number_of
from mova.request.schema import MAX_SEED, GenerationRequest, both_lengths
from mova.request.solver_names import SolverName
from mova.timeline import Timeline, exact_fps, frames_in_seconds

_T = TypeVar("_T")
# of what a model says of itself, where less than a million makes sense
_LIMITS = {
    **{
        "size_multiple": 1024,
        "default_size": 16384,
        "sizes": 16384,
        "fps_range": 1000,
        "default_fps": 1000,
        "video_stride": 64,
    },
    **{"max_tokens": 8192, "num_inference_steps": 1000, "guidance_scale": 100, "cross_guidance_scale": 100},
}


@dataclass(frozen=True)
class Capabilities:
    """What a model can make, and what it makes where nothing is asked. Stored as ``capabilities`` in
    ``model_index.json``.

    Args:
        name: How the model is called in messages.
        sizes: Sizes ``(width, height)`` that it makes; empty means any multiple of ``size_multiple``.
        size_multiple: Pixels that width and height must be multiples of.
        default_size: Width and height where none is asked.
        fps_range: Lowest and highest frames per second.
        default_fps: Frames per second where none is asked.
        max_frames: Longest clip in one window, in frames.
        max_continued_frames: Longest clip, made window after window; 0 if the model cannot go on.
        default_frames: Length where none is asked.
        min_grid_frames: Shortest length on which to run the network; shorter clips are cut from it.
        sample_rate: Samples per second of the audio codec.
        audio_hop: Samples per audio latent.
        video_stride: Frames per video latent after the first.
        max_tokens: Tokens of text that the model reads.
        num_inference_steps: Steps where none are asked.
        guidance_scale: Strength of the text where none is asked.
        cross_guidance_scale: The same for the bridge.
        solver: Method of the sampler where none is asked.
        kinds: What the model knows, in a few words each; empty means anything.
        needs_first_frame: Whether the network was trained with a first frame as extra input channels.
        cues: Labels of the events whose times can be given, in the order of the network's channels; empty without cues.
    """

    name: str = "this model"
    sizes: tuple[tuple[int, int], ...] = ()
    size_multiple: int = 16
    default_size: tuple[int, int] = (640, 352)
    fps_range: tuple[float, float] = (1.0, 240.0)
    default_fps: float = 24.0
    max_frames: int = 193
    max_continued_frames: int = 0
    default_frames: int = 193
    min_grid_frames: int = 1
    sample_rate: int = 48000
    audio_hop: int = 960
    video_stride: int = 4
    max_tokens: int = 512
    num_inference_steps: int = 50
    guidance_scale: float = 5.0
    cross_guidance_scale: float = 1.0
    solver: SolverName = "euler"
    kinds: tuple[str, ...] = ()
    cues: tuple[str, ...] = ()
    needs_first_frame: bool = False

    @property
    def longest(self) -> int:
        """Frames of the longest clip."""
        return max(self.max_frames, self.max_continued_frames)

    def timeline(self, fps: Fraction | None = None) -> Timeline:
        """The clock at a frame rate."""
        return Timeline(
            fps=exact_fps(self.default_fps) if fps is None else fps,
            sample_rate=self.sample_rate,
            video_stride=self.video_stride,
            audio_hop=self.audio_hop,
        )

    @staticmethod
    def from_values(values: Mapping[str, Any]) -> Capabilities:
        """Of parsed JSON; lists become tuples, unknown keys have no effect.

        Raises:
            ValueError: If a value is of another type, or beyond what any model makes; the message names it.
        """
        known = {item.name for item in fields(Capabilities)}
        given = {name: value for name, value in values.items() if name in known}
        solver = given.pop("solver", Capabilities.solver)  # another package may have added it
        try:
            read = TypeAdapter(Capabilities).validate_python(given)
        except ValidationError as error:
            problem = error.errors()[0]
            raise ValueError(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None
        if not isinstance(solver, str):
            raise ValueError(f"solver: must be text; got {solver!r}")
        _check_limits(read)
        return replace(read, solver=cast(Any, solver))


def resolve_size(capabilities: Capabilities, width: int | None, height: int | None) -> tuple[int, int]:
    """Width and height that the model makes.

    Raises:
        RequestError: If it does not make the asked size; the nearest is named.
    """
    asked = (value_or(width, capabilities.default_size[0]), value_or(height, capabilities.default_size[1]))
    wrong = "width" if width is not None and (height is None or asked[0] != capabilities.default_size[0]) else "height"
    if capabilities.sizes:
        if asked in capabilities.sizes:
            return asked
        nearest = min(capabilities.sizes, key=lambda size: abs(size[0] - asked[0]) + abs(size[1] - asked[1]))
        allowed = ", ".join(f"{w}x{h}" for w, h in capabilities.sizes)
        raise RequestError(
            f"{wrong}: {capabilities.name} cannot make {asked[0]}x{asked[1]}; it makes {allowed} pixels.",
            f"Use {nearest[0]}x{nearest[1]}, the nearest.",
            field=wrong,
        )
    for name, value in (("width", asked[0]), ("height", asked[1])):
        if value % capabilities.size_multiple:
            nearest_value = max(1, round(value / capabilities.size_multiple)) * capabilities.size_multiple
            raise RequestError(
                f"{name} must be a multiple of {capabilities.size_multiple} for {capabilities.name}; got {value}.",
                f"Use {nearest_value}, the nearest.",
                field=name,
            )
    return asked


def resolve_fps(capabilities: Capabilities, fps: float | Fraction | None) -> Fraction:
    """Frames per second, exact.

    Raises:
        RequestError: If the model does not make them; the nearest is named.
    """
    asked = exact_fps(capabilities.default_fps if fps is None else fps)
    low, high = (exact_fps(value) for value in capabilities.fps_range)
    if low <= asked <= high:
        return asked
    allowed = f"{float(low):g}" if low == high else f"between {float(low):g} and {float(high):g}"
    nearest = float(min(max(asked, low), high))
    raise RequestError(
        f"fps must be {allowed} for {capabilities.name}; got {float(asked):g}.",
        f"Use {nearest:g}, the nearest.",
        field="fps",
    )


def resolve_length(capabilities: Capabilities, fps: Fraction, *, num_frames: int | None, seconds: float | None) -> int:
    """Frames of the finished clip.

    Raises:
        RequestError: If the clip is longer than the model makes, or both lengths are given.
    """
    if num_frames is not None and seconds is not None:
        raise both_lengths()
    limit = Fraction(capabilities.longest) / fps
    if seconds is not None:
        frames = frames_in_seconds(seconds, fps)
        if frames > capabilities.longest:
            raise RequestError(
                f"seconds must be at most {float(limit):.4f} for {capabilities.name} "
                f"({capabilities.longest} frames at {float(fps):g} fps); got {seconds:g}.",
                f"Use {_floor_text(limit)}, the longest.",
                field="seconds",
            )
        return frames
    frames = value_or(num_frames, capabilities.default_frames)
    if not 1 <= frames <= capabilities.longest:
        raise RequestError(
            f"num_frames must be between 1 and {capabilities.longest} for {capabilities.name} "
            f"({float(limit):.4f} s at {float(fps):g} fps); got {frames}.",
            f"Use {min(max(frames, 1), capabilities.longest)}, the nearest.",
            field="num_frames",
        )
    return frames


def grid_frames(capabilities: Capabilities, num_frames: int) -> int:
    """Frames on which to run the network for a clip of ``num_frames``: the next legal length."""
    return capabilities.timeline().next_legal_frames(max(num_frames, capabilities.min_grid_frames))


def too_many_tokens(prompt: str, num_tokens: int, max_tokens: int) -> RequestError:
    """The refusal of a prompt with too many tokens."""
    return RequestError(
        f"the prompt has {number_of(num_tokens, 'token')}; this model reads {max_tokens} ({prompt[:40]}...).",
        "Shorten the prompt, or ask for truncate.",
        field="prompt",
    )


def takes_no_cues(capabilities: Capabilities) -> RequestError:
    """The refusal of cues by a model that knows none."""
    return RequestError(f"{capabilities.name} takes no cues.", "Describe the events in the prompt.", field="cues")


def value_or(value: _T | None, otherwise: _T) -> _T:
    """``value``, or ``otherwise`` where it is ``None``."""
    return otherwise if value is None else value


def _check_limits(capabilities: Capabilities) -> None:
    """Refuse what would only fill the memory.

    Raises:
        ValueError: With the name of the value.
    """
    for item in fields(Capabilities):
        value = getattr(capabilities, item.name)
        parts = value if isinstance(value, tuple) else (value,)
        numbers = [one for part in parts for one in (part if isinstance(part, tuple) else (part,)) if not isinstance(one, str)]
        lowest = 0 if item.name in ("max_continued_frames", "needs_first_frame") or "guidance" in item.name else 1
        limit = _LIMITS.get(item.name, 10**6)
        if not all(lowest <= number <= limit for number in numbers):
            raise ValueError(f"{item.name}: must be from {lowest} to {limit}; got {value}")
        if len(parts) > 256 or any(len(part) > 200 for part in parts if isinstance(part, str)):
            raise ValueError(f"{item.name}: is too long")


def _floor_text(seconds: Fraction) -> str:
    return f"{int(seconds * 10000) / 10000:g}"


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

    Raises:
        RequestError: If a prompt is too long.
    """
    if request.truncate:
        return
    for prompt in (request.prompt, request.negative_prompt, request.audio_negative_prompt or ""):
        cleaned = clean_prompt(prompt)
        if (count := count_tokens(cleaned)) > capabilities.max_tokens:
            raise too_many_tokens(cleaned, count, capabilities.max_tokens)
