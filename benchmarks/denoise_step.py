"""Times one guided step of the joint network as the library runs it, against the arithmetic of the specification written out.

    python benchmarks/denoise_step.py                       # measures, writes the results, prints the table of docs/official.md

Both sides make the same step (two evaluations, guidance, Euler) with the same weights from the same latents, one after the
other, in turns; the velocities must agree. The plain side is the specification read from top to bottom: positions as complex
numbers of 128 bits, rebuilt in each pass, and the text projected again in each pass and block. Attention is torch's own on
both sides. Sizes: ``tiny`` is mova-base, ``mid`` has 512 channels, 8 layers, 2048 + 200 tokens, ``full`` is the official
network at 640x352 and 193 frames in bfloat16 with random weights, on CUDA only. As in the pipeline, the two evaluations of
ours share a pass where tokens are few.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import sys
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mova.files import atomic_write
from mova.models.bridge import interaction_layers
from mova.models.joint import JointModel, ours_to_official
from mova.models.presets import BASE, MOVA_360P
from mova.runtime.estimate import Lengths, NetworkCost
from mova.sampling.denoise import cfg_batch, denoise
from mova.sampling.guidance import Experts, Guidance
from mova.sampling.schedule import ScheduleConfig, schedule_pair
from mova.sampling.solvers import SolverState, Step, Velocity, euler
from mova.sampling.task import AVTensors, Task

ROOT = Path(__file__).parents[1]
SCALE = 5.0
MID_TOWER = {"ffn_dim": 1408, "num_layers": 8, "text_dim": 512, "freq_dim": 256, "eps": 1e-6}
MID: dict[str, Any] = {
    "video": MID_TOWER | {"dim": 512, "num_heads": 4, "in_dim": 16, "out_dim": 16, "patch_size": [1, 2, 2]},
    "audio": MID_TOWER | {"dim": 256, "num_heads": 2, "in_dim": 32, "out_dim": 32, "patch_size": [1], "ffn_dim": 704},
    "bridge": {
        "visual_layers": 8,
        "audio_layers": 8,
        "visual_hidden_dim": 512,
        "audio_hidden_dim": 256,
        "audio_fps": 50.0,
        "head_dim": 128,
    },
}


@dataclass(frozen=True)
class Size:
    """What is timed.

    Args:
        config: Of the network.
        grid: Video latents (T, H, W).
        audio: Audio latents.
        text: Text tokens.
        fps: Frames per second.
        tolerance: Largest root mean square difference of the velocities, relative to theirs.
        on_cuda: Whether it is made for CUDA in bfloat16; else float32 on the CPU.
    """

    config: dict[str, Any]
    grid: tuple[int, int, int]
    audio: int
    text: int
    fps: float
    tolerance: float = 1e-4
    on_cuda: bool = False

    @property
    def lengths(self) -> Lengths:
        """Tokens."""
        patches = zip(self.grid, self.config["video"]["patch_size"], strict=True)
        return Lengths(math.prod(n // p for n, p in patches), self.audio, self.text, self.grid[0])


SIZES = {
    "tiny": Size(BASE, grid=(9, 12, 12), audio=66, text=32, fps=16.0),
    "mid": Size(MID, grid=(8, 32, 32), audio=200, text=512, fps=24.0),
    # bfloat16 has three digits; forty layers of different rounding leave two
    "full": Size(MOVA_360P, grid=(49, 44, 80), audio=403, text=512, fps=24.0, tolerance=5e-2, on_cuda=True),
}


@dataclass
class Timing:
    """Seconds of each repeat, and the largest difference seen."""

    ours_s: list[float] = field(default_factory=list)
    plain_s: list[float] = field(default_factory=list)
    ours_cpu_s: list[float] = field(default_factory=list)
    plain_cpu_s: list[float] = field(default_factory=list)
    video_difference: float = 0.0
    audio_difference: float = 0.0


def main() -> None:
    """Measure, print, write; a difference beyond the tolerance is an error."""
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    results = []
    for name in arguments.sizes:
        size = SIZES[name]
        if size.on_cuda and not torch.cuda.is_available():
            sys.stderr.write(f"{name}: there is no CUDA device here\n")
            continue
        shared = cfg_batch(size.lengths.video + size.lengths.audio)
        timing = measure(size, arguments.repeats, branches_per_forward=shared)
        results.append(result_of(name, size, timing) | {"branches_per_forward": shared})
    document = document_of(arguments, results)
    write(arguments.output, document)
    sys.stdout.write(markdown_of(document))
    wrong = [result["size"] for result in results if not result["agrees"]]
    if wrong:
        sys.exit(f"the velocities differ by more than the tolerance at {', '.join(wrong)}")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = ["tiny", "mid", "full"] if torch.cuda.is_available() else ["tiny", "mid"]
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=default)
    parser.add_argument("--repeats", type=int, default=9, help="steps timed of each side, after one that is not")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "denoise_step.json")
    return parser.parse_args()


def measure(size: Size, repeats: int, *, branches_per_forward: int) -> Timing:
    """Run the library's loop with a solver that makes every step twice, once in each way, and takes the library's."""
    device, dtype = (torch.device("cuda"), torch.bfloat16) if size.on_cuda else (torch.device("cpu"), torch.float32)
    model = random_model(size.config, device, dtype)
    weights = official_weights(model)
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    video, audio = size.config["video"], size.config["audio"]
    texts = {has_text: noise(1, size.text, video["text_dim"]) for has_text in (True, False)}
    extra = video["in_dim"] - video["out_dim"]
    condition = noise(extra, *size.grid) if extra else None
    task = Task(torch.ones(size.grid), torch.ones(size.audio), video_condition=condition)
    schedules = schedule_pair(ScheduleConfig(shift=5.0), repeats + 1)
    timing = Timing()

    def both_ways(
        velocity: Velocity, latents: AVTensors, step: Step, state: SolverState | None
    ) -> tuple[AVTensors, SolverState | None]:
        found: dict[str, AVTensors] = {}

        def library(now: AVTensors, point: int, /) -> AVTensors:
            found["ours"] = velocity(now, point)
            return found["ours"]

        def plain(now: AVTensors, point: int, /) -> AVTensors:
            taus = float(schedules[0].timesteps[point]), float(schedules[1].timesteps[point])
            whole = now.video if condition is None else torch.cat([now.video, condition[None]], dim=1)
            made = [plain_velocity(weights, size, whole, now.audio, taus, texts[text].to(dtype)) for text in (True, False)]
            found["plain"] = AVTensors(
                *(negative + SCALE * (positive - negative) for positive, negative in zip(*made, strict=True))
            )
            return found["plain"]

        sides = {"ours": library, "plain": plain}
        moved: dict[str, AVTensors] = {}
        for side in sides if step.index % 2 else reversed(sides):
            began, began_cpu = clock(device), time.process_time()
            moved[side], state = euler(sides[side], latents, step, state)
            took, took_cpu = clock(device) - began, time.process_time() - began_cpu
            if step.index > 0:  # the first one warms caches up
                getattr(timing, f"{side}_s").append(took)
                getattr(timing, f"{side}_cpu_s").append(took_cpu)
        for part in ("video", "audio"):
            ours, theirs = (getattr(found[side], part) for side in ("ours", "plain"))
            difference = float((ours - theirs).square().mean().sqrt() / theirs.square().mean().sqrt())
            setattr(timing, f"{part}_difference", max(getattr(timing, f"{part}_difference"), difference))
        return moved["ours"], state

    denoise(
        Experts([model]),
        task,
        text_embeds=texts[True],
        negative_embeds=texts[False],
        video_schedule=schedules[0],
        audio_schedule=schedules[1],
        guidance=Guidance.from_scales(SCALE),
        video_fps=size.fps,
        video_noise=noise(1, video["out_dim"], *size.grid),
        audio_noise=noise(1, audio["out_dim"], size.audio),
        solver=both_ways,
        branches_per_forward=branches_per_forward,
    )
    return timing


def result_of(name: str, size: Size, timing: Timing) -> dict[str, Any]:
    """Medians, ratio and speed of one size."""
    with torch.device("meta"):
        network = NetworkCost(JointModel(**size.config))
    flops = network.step_flops(size.lengths, Guidance.from_scales(SCALE).branches(1.0))
    device, dtype = (torch.device("cuda"), torch.bfloat16) if size.on_cuda else (torch.device("cpu"), torch.float32)
    peak = matmul_speed(device, dtype)
    ours, plain = statistics.median(timing.ours_s), statistics.median(timing.plain_s)
    return {
        "size": name,
        "tokens": asdict(size.lengths),
        "device": torch.cuda.get_device_name() if size.on_cuda else cpu_name(),
        "dtype": str(dtype).removeprefix("torch."),
        "ours_median_s": ours,
        "plain_median_s": plain,
        "ratio": plain / ours,
        "cpu_ratio": statistics.median(timing.plain_cpu_s) / statistics.median(timing.ours_cpu_s),
        "flops": flops,
        "flops_per_s": flops / ours,
        "matmul_flops_per_s": peak,
        "share_of_matmul": flops / ours / peak,
        "tolerance": size.tolerance,
        "agrees": max(timing.video_difference, timing.audio_difference) <= size.tolerance,
        **asdict(timing),
    }


def markdown_of(document: dict[str, Any]) -> str:
    """What was measured, for the documentation; a ratio above 1 says that ours is faster."""
    machine = f"{document['machine']['cpu']}, {document['machine']['cores']} cores, {document['threads']} threads"
    lines = [
        f"Median of {document['repeats']} steps, torch {document['torch']}, {machine}:",
        "",
        "| size | tokens (video + audio + text) | on | plain | here | plain / here | speed | share of matmul | difference |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for result in document["sizes"]:
        tokens, difference = result["tokens"], max(result["video_difference"], result["audio_difference"])
        cells = (
            result["size"],
            f"{tokens['video']:,} + {tokens['audio']:,} + {tokens['text']:,}",
            ("CPU" if result["dtype"] == "float32" else result["device"]) + f", {result['dtype']}",
            f"{result['plain_median_s']:.3f} s",
            f"{result['ours_median_s']:.3f} s",
            f"{result['ratio']:.2f}",
            f"{result['flops_per_s'] / 1e9:,.0f} GFLOP/s",
            f"{100 * result['share_of_matmul']:.0f} %",
            f"{difference:.0e}" + ("" if result["agrees"] else f", beyond {result['tolerance']:.0e}"),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def document_of(arguments: argparse.Namespace, results: list[dict[str, Any]]) -> dict[str, Any]:
    """The record, with the machine named."""
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cpu": cpu_name(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)},
        "torch": torch.__version__,
        "threads": arguments.threads,
        "repeats": arguments.repeats,
        "sizes": results,
    }


def write(output: Path, document: dict[str, Any]) -> None:
    """The record as a file."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(output) as beside:
        beside.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def random_model(config: dict[str, Any], device: torch.device, dtype: torch.dtype) -> JointModel:
    """A network that is never anywhere but on its device, with weights that keep the size of what passes through."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device("meta"):
            model: JointModel = JointModel(**config)
    finally:
        torch.set_default_dtype(usual)
    model = model.to_empty(device=device).requires_grad_(False).eval()
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
        elif "norm" in name:
            parameter.fill_(1.0)
        elif name.endswith("modulation"):
            parameter.normal_(std=0.2)
        else:
            parameter.normal_(std=parameter[0].numel() ** -0.5)
    return model


def clock(device: torch.device) -> float:
    """Seconds, when all work so far is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def matmul_speed(device: torch.device, dtype: torch.dtype, repeats: int = 8) -> float:
    """Operations a second of the fastest of some large matrix products: what the machine can do now."""
    side = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    taken = []
    for _ in range(repeats):
        began = clock(device)
        a @ b
        taken.append(clock(device) - began)
    return 2 * side**3 / min(taken)


def cpu_name() -> str:
    """This machine's processor."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


# ---- the specification, section 3, written out; weights go by their official names -----------------------------------

Weights = dict[str, Tensor]


def official_weights(model: JointModel) -> dict[str, Weights]:
    """The model's own tensors by component and official name."""
    components: dict[str, Weights] = {}
    for name, tensor in model.state_dict().items():
        component, key = ours_to_official(name)
        components.setdefault(component, {})[key] = tensor
    return components


def plain_velocity(
    weights: dict[str, Weights], size: Size, video: Tensor, audio: Tensor, taus: tuple[float, float], text: Tensor
) -> tuple[Tensor, Tensor]:
    """Velocities of one evaluation, float32 (spec 3.1 to 3.6 and 3.12)."""
    video_config, audio_config, bridge = (size.config[part] for part in ("video", "audio", "bridge"))
    towers = [Tower(weights["video_dit"], video_config), Tower(weights["audio_dit"], audio_config)]
    device, dtype = video.device, text.dtype
    grid = tuple(n // p for n, p in zip(video.shape[2:], video_config["patch_size"], strict=True))
    x = F.conv3d(video.to(dtype), *towers[0].pair("patch_embedding"), stride=tuple(video_config["patch_size"])).flatten(2).mT
    y = F.conv1d(audio.to(dtype), *towers[1].pair("patch_embedding")).mT
    x, y = x.contiguous(), y.contiguous()
    times = [tower.time(tau, device) for tower, tau in zip(towers, taus, strict=True)]
    contexts = [tower.text(text) for tower in towers]
    ropes = [video_positions(grid, towers[0].head_dim, device), audio_positions(len(y[0]), towers[1].head_dim, device)]
    video_at, audio_at = bridge_positions(grid, len(y[0]), size.fps, bridge, dtype, device)
    layers = interaction_layers(
        bridge.get("interaction_strategy", "full"), video_config["num_layers"], audio_config["num_layers"]
    )
    for layer in range(max(video_config["num_layers"], audio_config["num_layers"])):
        if layer in layers:
            join, heads = (
                weights["dual_tower_bridge"],
                (video_config["dim"] // bridge["head_dim"], audio_config["dim"] // bridge["head_dim"]),
            )
            from_audio = read_other(join, f"audio_to_video_conditioners.{layer}.", x, y, video_at, audio_at, heads[0])
            from_video = read_other(join, f"video_to_audio_conditioners.{layer}.", y, x, audio_at, video_at, heads[1])
            x, y = x + from_audio, y + from_video
        if layer < video_config["num_layers"]:
            x = towers[0].block(layer, x, contexts[0], times[0][1], ropes[0])
        if layer < audio_config["num_layers"]:
            y = towers[1].block(layer, y, contexts[1], times[1][1], ropes[1])
    x, y = towers[0].head(x, times[0][0]), towers[1].head(y, times[1][0])
    (t, h, w), (f, p, q) = grid, video_config["patch_size"]
    x = x.view(1, t, h, w, f, p, q, video_config["out_dim"]).permute(0, 7, 1, 4, 2, 5, 3, 6)
    return x.reshape(1, video_config["out_dim"], t * f, h * p, w * q).float(), y.mT.float()


class Tower:
    """One tower's weights and arithmetic."""

    def __init__(self, weights: Weights, config: dict[str, Any]) -> None:
        self.weights, self.config = weights, config
        self.heads = config["num_heads"]
        self.head_dim = config["dim"] // self.heads
        self.eps = config["eps"]

    def pair(self, name: str) -> tuple[Tensor, Tensor]:
        return self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, *self.pair(name))

    def norm(self, x: Tensor, name: str | None = None) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], *(self.pair(name) if name else (None, None)), eps=self.eps)

    def time(self, tau: float, device: torch.device) -> tuple[Tensor, Tensor]:
        """3.1: in float32, whatever the weights are stored in."""
        half = self.config["freq_dim"] // 2
        frequencies = 10_000.0 ** (-torch.arange(half, dtype=torch.float64, device=device) / half)
        angles = tau * frequencies
        s = torch.cat([angles.cos(), angles.sin()])[None].float()
        wide = {name: [part.float() for part in self.pair(name)] for name in ("time_embedding.0", "time_embedding.2")}
        t = F.linear(F.silu(F.linear(s, *wide["time_embedding.0"])), *wide["time_embedding.2"])
        levels = F.linear(F.silu(t), *(part.float() for part in self.pair("time_projection.1"))).unflatten(-1, (6, -1))
        dtype = self.weights["head.modulation"].dtype
        return t.to(dtype), levels.to(dtype)

    def text(self, text: Tensor) -> Tensor:
        """3.2."""
        return self.linear("text_embedding.2", F.gelu(self.linear("text_embedding.0", text), approximate="tanh"))

    def block(self, layer: int, x: Tensor, context: Tensor, levels: Tensor, rope: Tensor) -> Tensor:
        """3.3."""
        name = f"blocks.{layer}."
        a1, b1, g1, a2, b2, g2 = (self.weights[f"{name}modulation"] + levels).chunk(6, dim=1)
        h = self.norm(x) * (1 + b1) + a1
        x = x + g1 * self.attend(f"{name}self_attn.", h, h, rope)
        h = self.norm(x, f"{name}norm3")
        x = x + self.attend(f"{name}cross_attn.", h, context, None)
        h = self.norm(x) * (1 + b2) + a2
        return x + g2 * self.linear(f"{name}ffn.2", F.gelu(self.linear(f"{name}ffn.0", h), approximate="tanh"))

    def attend(self, name: str, x: Tensor, context: Tensor, rope: Tensor | None) -> Tensor:
        q = F.rms_norm(self.linear(f"{name}q", x), x.shape[-1:], self.weights[f"{name}norm_q.weight"], self.eps)
        k = F.rms_norm(self.linear(f"{name}k", context), x.shape[-1:], self.weights[f"{name}norm_k.weight"], self.eps)
        q, k, v = (part.unflatten(-1, (self.heads, -1)) for part in (q, k, self.linear(f"{name}v", context)))
        if rope is not None:
            q, k = turned(q, rope), turned(k, rope)
        return self.linear(f"{name}o", attention(q, k, v))

    def head(self, x: Tensor, time: Tensor) -> Tensor:
        """3.5."""
        shift, scale = (self.weights["head.modulation"] + time[:, None]).chunk(2, dim=1)
        return self.linear("head.head", self.norm(x) * (1 + scale) + shift)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """``[B, L, N, H]`` to ``[B, L, N H]``."""
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def turned(x: Tensor, rope: Tensor) -> Tensor:
    """3.4: neighbouring channels as a complex number, in double precision."""
    numbers = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)))
    return torch.view_as_real(numbers * rope[:, None]).flatten(-2).to(x.dtype)


def axis(length: int, channels: int, device: torch.device) -> Tensor:
    """3.4: the turns of one axis as complex numbers ``[length, channels / 2]``."""
    angles = torch.outer(
        torch.arange(length, dtype=torch.float64, device=device),
        10_000.0 ** -(torch.arange(0, channels, 2, dtype=torch.float64, device=device) / channels),
    )
    return torch.polar(torch.ones_like(angles), angles)


def video_positions(grid: tuple[int, ...], head_dim: int, device: torch.device) -> Tensor:
    """3.4: frame, row and column of each video token."""
    side = head_dim // 3
    frames, rows, columns = (axis(n, c, device) for n, c in zip(grid, (head_dim - 2 * side, side, side), strict=True))
    parts = (frames[:, None, None], rows[None, :, None], columns[None, None])
    return torch.cat([part.expand(*grid, -1) for part in parts], dim=-1).flatten(0, 2)


def audio_positions(length: int, head_dim: int, device: torch.device) -> Tensor:
    """3.4: of each audio token."""
    return axis(length, head_dim, device)


def bridge_positions(
    grid: tuple[int, ...], length: int, fps: float, bridge: dict[str, Any], dtype: torch.dtype, device: torch.device
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """3.6: cosines and sines of video and audio on one clock."""
    stride, audio_fps, width = bridge.get("video_stride", 4), bridge["audio_fps"], bridge["head_dim"]
    index = torch.arange(grid[0], dtype=torch.float32, device=device)
    video_config = index * (audio_fps / (fps / stride))
    if bridge.get("apply_first_frame_bias_in_rope"):
        video_config = torch.where(index == 0, 0.0, 1.0 / fps + (index - 1) * (stride / fps)) * audio_fps
    inverse = 1.0 / (10_000.0 ** (torch.arange(0, width, 2, dtype=torch.float32, device=device) / width))
    audio_config = torch.arange(length, dtype=torch.float32, device=device)

    def table(positions: Tensor) -> tuple[Tensor, Tensor]:
        angles = (positions[:, None] * inverse).repeat(1, 2)[:, None]
        return angles.cos().to(dtype), angles.sin().to(dtype)

    return table(video_config.repeat_interleave(grid[1] * grid[2])), table(audio_config)


def read_other(
    weights: Weights,
    name: str,
    x: Tensor,
    y: Tensor,
    x_at: tuple[Tensor, Tensor],
    y_at: tuple[Tensor, Tensor],
    heads: int,
) -> Tensor:
    """3.6: one direction of the bridge in one layer."""

    def linear(part: str, value: Tensor) -> Tensor:
        return F.linear(value, weights[f"{name}inner.{part}.weight"], weights[f"{name}inner.{part}.bias"])

    def half_turned(value: Tensor, at: tuple[Tensor, Tensor]) -> Tensor:
        first, second = value.chunk(2, dim=-1)
        return value * at[0] + torch.cat([-second, first], dim=-1) * at[1]

    y = F.layer_norm(y, y.shape[-1:], weights[f"{name}y_norm.weight"], weights[f"{name}y_norm.bias"], eps=1e-6)
    q = F.rms_norm(linear("q", x), x.shape[-1:], weights[f"{name}inner.norm_q.weight"], 1e-6)
    k = F.rms_norm(linear("k", y), x.shape[-1:], weights[f"{name}inner.norm_k.weight"], 1e-6)
    q, k, v = (part.unflatten(-1, (heads, -1)) for part in (q, k, linear("v", y)))
    return linear("o", attention(half_turned(q, x_at), half_turned(k, y_at), v))


if __name__ == "__main__":
    main()
