"""``mova plan``: what a clip costs, before anything is downloaded or loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mova.cli import console
from mova.cli.inspect import local_model
from mova.cli.options import with_flag_names
from mova.errors import CheckpointError, RequestError

if TYPE_CHECKING:
    from pathlib import Path

    from mova.request.plan import Capabilities, Plan
    from mova.runtime.estimate import Lengths
    from mova.runtime.memory import Choice
    from mova.sampling.guidance import Branch


MIN_MEMORY, MIN_SPEED = 1e6, 1e6
"""Less is a unit that was left out."""


@dataclass(frozen=True)
class Device:
    """The accelerator.

    Args:
        memory_bytes: Its memory, if known.
        speed: Operations a second that it reaches, if known.
    """

    memory_bytes: int | None = None
    speed: float | None = None


@dataclass(frozen=True)
class CostEstimate:
    """Cost of one clip.

    Args:
        lengths: Tokens of the whole clip.
        windows: Tokens of each window in which the network sees it; one unless the clip is long.
        velocities: Evaluations of each guided velocity of a run, in each window.
        branches: Evaluations of the most expensive of these.
        parts: Operations of one evaluation of the largest window, by part.
        velocity_flops: Operations of the most expensive guided velocity.
        stage_flops: Operations of a run by stage: text, denoise, decode.
        parameters: Parameters by component.
        ways: Ways of holding the weights.
    """

    lengths: Lengths
    windows: tuple[Lengths, ...]
    velocities: tuple[tuple[Branch, ...], ...]
    branches: tuple[Branch, ...]
    parts: Mapping[str, int]
    velocity_flops: int
    stage_flops: Mapping[str, int]
    parameters: Mapping[str, int]
    ways: Sequence[Choice]

    @property
    def evaluations(self) -> int:
        """Evaluations of a whole run, in each window."""
        return sum(len(branches) for branches in self.velocities)


def run(values: dict[str, Any], *, model: str, device: Device, is_json: bool) -> None:
    """Resolve the request for the model, estimate its cost, show it.

    Raises:
        CheckpointError: If there is no such model, or its configurations are wrong.
        RequestError: If the model cannot make what is asked.
    """
    from mova.checkpoints.layout import read_index
    from mova.request.plan import resolve
    from mova.request.schema import GenerationRequest

    folder = local_model(model)
    index = read_index(folder)
    try:
        request = GenerationRequest.model_validate({"prompt": "any", **values})  # what a prompt says costs nothing
        plan = resolve(request, index.capabilities)
    except RequestError as problem:
        raise with_flag_names(problem) from None
    cost = estimate_cost(folder, plan)
    if is_json:
        console.facts_json(_as_json(cost, plan, device))
    else:
        _show(cost, plan, index.capabilities, device)


def estimate_cost(folder: Path, plan: Plan) -> CostEstimate:
    """The cost of a resolved request, from configuration files alone.

    Raises:
        CheckpointError: If they are missing or wrong.
    """
    from mova.checkpoints.layout import CODECS, SCHEDULER_CONFIG, read_index, read_json
    from mova.checkpoints.meta import build_joint, build_module
    from mova.runtime.estimate import NetworkCost, decode_cost, num_texts, text_encoder_cost
    from mova.runtime.memory import ModelCost, choices
    from mova.sampling.guidance import branches_of_run
    from mova.sampling.schedule import ScheduleConfig

    index = read_index(folder)
    max_tokens = index.capabilities.max_tokens
    network = NetworkCost(build_joint(folder, "video_dit"))
    video_codec: Any = build_module(folder, "video_vae", index)
    frames, audio = plan.timeline.video_latents(plan.grid_frames), plan.timeline.audio_latents(plan.grid_frames)
    try:
        velocities = branches_of_run(plan, ScheduleConfig.from_values(read_json(folder / "scheduler" / SCHEDULER_CONFIG)))
        scale = video_codec.config.scale_factor_spatial
        grid = (frames, plan.height // scale, plan.width // scale)
        codecs = {
            name: decode_cost(
                codec,
                network.model.config[tower]["out_dim"],
                latents,
                steady_after=CODECS[name][index.classes[name][1]].steady_after,
            )
            for name, codec, tower, latents in (
                ("video_vae", video_codec, "video", grid),
                ("audio_vae", build_module(folder, "audio_vae", index), "audio", (audio,)),
            )
        }
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder}: {error}", "The configuration files are not those of a model.") from error
    encoder = text_encoder_cost(build_module(folder, "text_encoder", index), max_tokens)
    experts = 2 if "video_dit_2" in index.classes else 1
    lengths = network.lengths(grid, audio, max_tokens)
    parts = _windows(plan, index.capabilities, frames, audio)
    windows = tuple(network.lengths((latents, *grid[1:]), length, max_tokens) for latents, length in parts)
    largest = max(windows, key=lambda window: window.video)
    prices = {branches: sum(network.step_flops(window, branches) for window in windows) for branches in set(velocities)}
    costliest = max(prices, key=lambda branches: prices[branches])
    widest = max(prices, key=lambda branches: (len(branches), num_texts(branches)))
    asked = {branch for branches in velocities for branch in branches}
    prompts = len(windows) * network.prompt_flops(largest, asked, num_experts=experts)
    parameters = network.parameters
    return CostEstimate(
        lengths=lengths,
        windows=windows,
        velocities=velocities,
        branches=costliest,
        parts=network.forward_flops(largest),
        velocity_flops=prices[costliest],
        stage_flops={
            "text": num_texts(asked) * encoder.flops,
            "denoise": sum(prices[branches] for branches in velocities) + prompts,
            "decode": sum(codec.flops for codec in codecs.values()),
        },
        parameters={
            "video_dit": parameters["video_dit"],
            **({"video_dit_2": parameters["video_dit"]} if experts == 2 else {}),
            "audio_dit": parameters["audio_dit"],
            "dual_tower_bridge": parameters["dual_tower_bridge"],
            "text_encoder": encoder.parameters,
            **{name: codec.parameters for name, codec in codecs.items()},
        },
        ways=choices(ModelCost(network, experts, encoder, codecs["video_vae"], codecs["audio_vae"]), largest, widest),
    )


def parse_bytes(text: str | None) -> int | None:
    """``24GB`` or ``24GiB`` as bytes.

    Raises:
        RequestError: If it is not of that form.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)\s*([kmgt]?)(i?)b?", text.strip().lower())
    power = "kmgt".index(found[2]) + 1 if found and found[2] else 0
    size = 0.0 if found is None or (found[3] and not found[2]) else float(found[1]) * (1024.0 if found[3] else 1000.0) ** power
    if size < MIN_MEMORY:
        raise RequestError(
            f"--gpu-memory: takes a number of bytes such as 24GB; got {text[:40]!r}.",
            f"Did you mean {text.strip()}GB?" if found and size and not found[2] else "For example 24GB.",
        )
    return round(size)


def parse_speed(text: str | None) -> float | None:
    """``400TFLOPS`` (or ``400TFLOP/s``, ``400T``, ``4e14``) as operations a second.

    Raises:
        RequestError: If it is not of that form.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?(?:e\d{1,2})?)\s*([kmgtpe]?)(?:flops?(?:/s)?)?", text.strip().lower())
    power = "kmgtpe".index(found[2]) + 1 if found and found[2] else 0
    speed = 0.0 if found is None else float(found[1]) * 1000.0**power
    if speed < MIN_SPEED:
        raise RequestError(
            f"--flops: takes operations a second such as 400TFLOPS; got {text[:40]!r}.",
            f"Did you mean {text.strip()}TFLOPS?" if found and speed and not found[2] else "For example 400TFLOPS.",
        )
    return speed


def _windows(plan: Plan, capabilities: Capabilities, num_video: int, num_audio: int) -> list[tuple[int, int]]:
    """Latents of video and audio in each window."""
    from mova.sampling.denoise import plan_windows

    longest = plan.timeline.video_latents(capabilities.timeline().next_legal_frames(capabilities.max_frames))
    windows = plan_windows(num_video, num_audio, timeline=plan.timeline, max_video=longest)
    return [(window.video[1] - window.video[0], window.audio[1] - window.audio[0]) for window in windows]


def _show(cost: CostEstimate, plan: Plan, capabilities: Capabilities, device: Device) -> None:
    fps = float(plan.timeline.fps)
    console.fact(
        f"{capabilities.name}: {plan.width}x{plan.height}, {console.count(plan.num_frames, 'frame')} "
        f"({plan.num_frames / fps:.3f} s) at {fps:g} fps, {console.count(plan.num_inference_steps, 'step')} ({plan.solver}), "
        f"guidance {plan.guidance_scale:g}, cross guidance {plan.cross_guidance_scale:g}"
        + (f", self-guidance {plan.request.self_guidance_scale:g}" if plan.request.self_guidance_scale else "")
    )
    split = f" in {len(cost.windows)} windows" if len(cost.windows) > 1 else ""
    console.fact(
        f"tokens: {cost.lengths.video:,} video, {cost.lengths.audio:,} audio{split}, {cost.lengths.text:,} text; "
        f"parameters: {_billions(sum(cost.parameters.values()))}"
    )
    console.fact("")
    _show_operations(cost, plan, device)
    console.fact("")
    _show_memory(cost, device)


def _show_operations(cost: CostEstimate, plan: Plan, device: Device) -> None:
    total = sum(cost.parts.values())
    shares = [(name, _flop(value), f"{100 * value / total:.1f} %") for name, value in cost.parts.items()]
    console.table(("one evaluation", "operations", ""), [*shares, ("sum", _flop(total), "")])
    console.fact("")
    run_flops = sum(cost.stage_flops.values())
    evaluations = "1 evaluation" if len(cost.branches) == 1 else f"{len(cost.branches)} evaluations"
    if len(set(cost.velocities)) > 1:
        evaluations = f"at most {evaluations}"
    rows = [
        ("text encoder", cost.stage_flops["text"]),
        (f"guided velocity, {evaluations}", cost.velocity_flops),
        (f"{console.count(plan.num_inference_steps, 'step')}, {len(cost.velocities)} velocities", cost.stage_flops["denoise"]),
        ("decoding", cost.stage_flops["decode"]),
        ("run", run_flops),
    ]
    if device.speed is None:
        console.table(("", "operations"), [(name, _flop(value)) for name, value in rows])
        return
    head = ("", "operations", f"at {_flop(device.speed)}/s")
    console.table(head, [(name, _flop(value), _seconds(value / device.speed)) for name, value in rows])


def _show_memory(cost: CostEstimate, device: Device) -> None:
    from mova.runtime.memory import STAGES, first_that_fits

    head = ["offload", "video blocks", *(f"{stage}: weights + tensors" for stage in STAGES), "peak", "host"]
    rows = []
    for way in cost.ways:
        cells = [f"{_bytes(way.stages[stage].weights)} + {_bytes(way.stages[stage].tensors)}" for stage in STAGES]
        row = [way.offload, way.stored, *cells, _bytes(way.peak_bytes), _bytes(way.host_bytes)]
        if device.memory_bytes is not None:
            row.append("fits" if way.peak_bytes <= device.memory_bytes else "too large")
        rows.append(row)
    if device.memory_bytes is not None:
        head.append(f"in {_bytes(device.memory_bytes)}")
    console.fact("memory of an accelerator in bfloat16, codecs in float32")
    console.table(head, rows, left=(0, 1))
    console.fact("weights are exact, tensors estimated; the peak has 1 GB for the driver and workspace")
    _show_streaming(cost, device)
    if device.memory_bytes is None:
        return
    best = first_that_fits(cost.ways, device.memory_bytes)
    if best is None:
        least = min(cost.ways, key=lambda way: way.peak_bytes)
        console.fact(f"nothing fits in {_bytes(device.memory_bytes)}; the least is {_bytes(least.peak_bytes)}: {_named(least)}")
    else:
        console.fact(f"recommended for {_bytes(device.memory_bytes)}: {_named(best)}")


def _show_streaming(cost: CostEstimate, device: Device) -> None:
    streamed = max(way.streamed_bytes for way in cost.ways)
    if device.speed is None or not streamed:
        return
    seconds = cost.velocity_flops / len(cost.branches) / len(cost.windows) / device.speed
    console.fact(
        f"offload block copies {_bytes(streamed)} for each evaluation of {_seconds(seconds)}: "
        f"free if the link moves {_bytes(streamed / seconds)}/s"
    )


def _as_json(cost: CostEstimate, plan: Plan, device: Device) -> dict[str, Any]:
    from mova.runtime.memory import first_that_fits

    request = {"width": plan.width, "height": plan.height, "num_frames": plan.num_frames, "fps": float(plan.timeline.fps)}
    sampling = {
        "num_inference_steps": plan.num_inference_steps,
        "solver": plan.solver,
        "guidance_scale": plan.guidance_scale,
        "cross_guidance_scale": plan.cross_guidance_scale,
    }
    run_flops = sum(cost.stage_flops.values())
    facts: dict[str, Any] = {
        "request": request | sampling,
        "tokens": asdict(cost.lengths),
        "windows": [asdict(window) for window in cost.windows],
        "parameters": dict(cost.parameters),
        "evaluations_per_velocity": len(cost.branches),
        "evaluations_per_run": cost.evaluations,
        "flops": {
            "evaluation": dict(cost.parts),
            "evaluation_total": sum(cost.parts.values()),
            "velocity": cost.velocity_flops,
            "stages": dict(cost.stage_flops),
            "run": run_flops,
        },
        "memory": [asdict(way) | {"peak_bytes": way.peak_bytes} for way in cost.ways],
    }
    if device.speed is not None:
        facts["seconds"] = {
            "velocity": cost.velocity_flops / device.speed,
            **{stage: value / device.speed for stage, value in cost.stage_flops.items()},
            "run": run_flops / device.speed,
        }
    if device.memory_bytes is not None:
        best = first_that_fits(cost.ways, device.memory_bytes)
        for way, entry in zip(cost.ways, facts["memory"], strict=True):
            entry["fits"] = way.peak_bytes <= device.memory_bytes
        facts["recommended"] = None if best is None else {"offload": best.offload, "stored": best.stored}
    return facts


def _named(way: Choice) -> str:
    stored = "video blocks in 8 bit (quantisation fp8 or int8)" if way.stored == "8 bit" else "weights in bfloat16"
    return f"offload {way.offload}, {stored}"


def _billions(parameters: int) -> str:
    return console.quantity_text(parameters, "").rstrip()


def _flop(operations: float) -> str:
    return console.quantity_text(operations, "FLOP")


def _bytes(count: float) -> str:
    return console.quantity_text(count, "B")


def _seconds(seconds: float) -> str:
    return console.clock_text(seconds) if seconds >= 60 else f"{seconds:.3g} s"
