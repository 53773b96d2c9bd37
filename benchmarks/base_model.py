"""Measures a model of the rendered world against the acceptance table: sync, adherence, codecs. Prints and writes JSON.

    python benchmarks/base_model.py --checkpoint mova-base --per-kind 30
    python benchmarks/base_model.py --codecs runs/base/video_codec/codec runs/base/audio_codec/codec --rows truth,codec

Rows: ``truth`` (rendered clips: what the detectors can see at best), ``codec`` (the same through both codecs: what the
model can reach at best), ``generated``, ``bridge_off`` (the same prompts and seeds with the towers cut apart), and
``chance`` (each generated picture with the sound of another generated clip of its kind).

Scripts come from a seed that training never uses; where a kind has prompts enough, those that occur in the training data
are passed over, and the number of unseen ones is written down.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from einops import rearrange
from rich.console import Console
from rich.table import Table

from mova.data.shards import describe, scripts_in
from mova.evaluation.acceptance import Summary, Verdict, judge, summarise
from mova.evaluation.codec import CodecReading, CodecSummary, compare, summarise_codec
from mova.evaluation.suite.tracks import BridgeOff
from mova.evaluation.sync import shuffled_within_kind
from mova.models.audio_codec import AudioCodec
from mova.models.video_codec import VideoCodec
from mova.pipeline import MOVAPipeline
from mova.scenes.script import Script
from mova.scenes.world import KINDS, render, sample_scripts
from mova.training.recipe import JointRecipe, LatentsRecipe, load_recipe
from mova.training.stages import phrasings

TEST_SEED = 990_000
ROWS = ("truth", "codec", "generated", "bridge_off", "chance")
ROOT = Path(__file__).parents[1]
RUNS = (("base/4_latents.yaml", "base/5_joint.yaml"), ("continue/1_latents.yaml", "continue/2_joint.yaml"))
COLUMNS = (
    ("colour", "colour"),
    ("count", "count"),
    ("count_seen", "seen"),
    ("count_heard", "heard"),
    ("sequence", "sequence"),
    ("key_pitch", "pitch=key"),
    ("key_asked", "pitch=asked"),
    ("drum_sound", "drum=pad"),
    ("sound", "sound"),
    ("rate", "rate"),
)
Rendered = tuple[np.ndarray[Any, np.dtype[np.uint8]], np.ndarray[Any, np.dtype[np.float32]]]


@dataclass(frozen=True)
class Options:
    """What the workers need to know."""

    checkpoint: str | None
    codecs: tuple[str, str] | None
    rows: tuple[str, ...]
    steps: int | None
    guidance_scale: float | None
    batch_size: int


@dataclass(frozen=True)
class Part:
    """What one worker measured."""

    verdicts: dict[str, list[Verdict]]
    codec: list[CodecReading]


def main() -> None:
    """Measure, print, write."""
    arguments = parse_arguments()
    rows = tuple(row for row in ROWS if row in arguments.rows.split(","))
    kinds = arguments.kinds.split(",") if arguments.kinds else list(KINDS)
    options = Options(
        checkpoint=None if arguments.codecs else arguments.checkpoint,
        codecs=tuple(arguments.codecs) if arguments.codecs else None,
        rows=rows,
        steps=arguments.steps,
        guidance_scale=arguments.guidance_scale,
        batch_size=arguments.batch_size,
    )
    console = Console(width=max(Console().width, 170))
    began = time.monotonic()
    recipes = ROOT / "recipes"
    known = frozenset[str]().union(*(training_captions(recipes / latents, recipes / joint) for latents, joint in RUNS))
    scripts = [script for kind in kinds for script in test_scripts(kind, arguments.per_kind, known)]
    unseen = {kind: sum(s.caption not in known for s in scripts if s.kind == kind) for kind in kinds}
    parts = run_parts(scripts, options, arguments.processes)
    verdicts = {row: [v for part in parts for v in part.verdicts.get(row, [])] for row in rows}
    if "chance" in rows:
        source = "generated" if verdicts.get("generated") else "truth"
        clips = [verdict.events for verdict in verdicts[source]]
        verdicts["chance"] = [Verdict(clip, {}) for clip in shuffled_within_kind(clips)]
    result = {row: by_kind(found, kinds) for row, found in verdicts.items() if found}
    readings = [reading for part in parts for reading in part.codec]
    codec = codec_by_kind(readings, [s for index in range(len(parts)) for s in scripts[index :: len(parts)]], kinds)

    console.print(overall_table({row: summaries["all"] for row, summaries in result.items()}))
    console.print(kinds_table(result, kinds))
    if codec:
        console.print(codec_table(codec))
    document = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "options": {**asdict(options), "per_kind": arguments.per_kind, "seed": TEST_SEED},
        "unseen_prompts": unseen,
        "minutes": round((time.monotonic() - began) / 60.0, 2),
        "rows": {row: {kind: as_json(summary) for kind, summary in found.items()} for row, found in result.items()},
        "codec": {kind: asdict(summary) for kind, summary in codec.items()},
    }
    write_json(arguments.output, document)
    console.print(f"{sum(unseen.values())} of {len(scripts)} prompts unseen in training; written to {arguments.output}")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="mova-base", help="name or folder of the model")
    parser.add_argument("--codecs", nargs=2, metavar=("VIDEO", "AUDIO"), help="measure two codec folders, no model")
    parser.add_argument("--per-kind", type=int, default=30, help="clips per kind")
    parser.add_argument("--rows", default=",".join(ROWS), help="rows to measure")
    parser.add_argument("--kinds", default="", help="kinds to measure; all if empty")
    parser.add_argument("--steps", type=int, help="steps of the sampler; the model's own if not given")
    parser.add_argument("--guidance-scale", type=float, help="strength of the text; the model's own if not given")
    parser.add_argument("--batch-size", type=int, default=10, help="clips generated at once, per process")
    parser.add_argument("--processes", type=int, default=2, help="worker processes of one thread each")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "base_model.json")
    return parser.parse_args()


def training_captions(latents: Path, joint: Path) -> frozenset[str]:
    """Every prompt that a run's joint network was trained on: from its latents if they are there, else written again."""
    recipe, trained = load_recipe(latents), load_recipe(joint)
    assert isinstance(recipe, LatentsRecipe)
    assert isinstance(trained, JointRecipe)
    found = sorted((ROOT / recipe.folder / "latents" / "train").glob("*.jsonl"))
    if found:
        scripts = [json.loads(line) for path in found for line in path.read_text(encoding="utf-8").splitlines()]
    else:
        scripts = [describe(script) for script in scripts_in(recipe.seed, 0, recipe.num_clips, recipe.world.world())]
    return frozenset(caption for script in scripts for caption in phrasings(script, trained.phrasings))


def test_scripts(kind: str, count: int, known: frozenset[str]) -> list[Script]:
    """Scripts of the test seed, those with prompts that training never saw first; 5 times as many are looked at."""
    drawn = list(sample_scripts(TEST_SEED, 5 * count, [kind]))
    fresh = [script for script in drawn if script.caption not in known]
    seen = [script for script in drawn if script.caption in known]
    return [*fresh, *seen][:count]


def run_parts(scripts: Sequence[Script], options: Options, processes: int) -> list[Part]:
    """Every ``processes``-th script to each worker."""
    shares = [list(scripts[index::processes]) for index in range(processes)]
    if processes == 1:
        return [measure(shares[0], options)]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        return list(pool.map(measure, shares, [options] * processes))


@torch.no_grad()
def measure(scripts: Sequence[Script], options: Options) -> Part:
    """All rows of some scripts, in one process of one thread."""
    torch.set_num_threads(1)
    pipeline = None if options.checkpoint is None else MOVAPipeline.from_pretrained(options.checkpoint)
    truths = [(clip.frames, clip.waveform) for clip in (render(script) for script in scripts)]
    verdicts: dict[str, list[Verdict]] = {}
    readings: list[CodecReading] = []
    if "truth" in options.rows:
        verdicts["truth"] = judged(scripts, truths)
    if "codec" in options.rows:
        through = through_codecs(pipeline, options.codecs)
        decoded = [through(*truth) for truth in truths]
        verdicts["codec"] = judged(scripts, decoded)
        for script, truth, back in zip(scripts, truths, decoded, strict=True):
            readings.append(compare(script, truth, back, fps=16.0, sample_rate=16000))
    if pipeline is not None:
        for row in ("generated", "bridge_off"):
            if row in options.rows:
                verdicts[row] = judged(scripts, generated(pipeline, scripts, options, is_bridged=row == "generated"))
    return Part(verdicts, readings)


def judged(scripts: Sequence[Script], clips: Iterator[Rendered] | Sequence[Rendered]) -> list[Verdict]:
    """Verdicts of clips made for scripts."""
    return [
        judge(script, frames, waveform, fps=16.0, sample_rate=16000)
        for script, (frames, waveform) in zip(scripts, clips, strict=True)
    ]


def through_codecs(pipeline: MOVAPipeline | None, folders: tuple[str, str] | None) -> Any:
    """A function that encodes and decodes frames and sound."""
    if folders is not None:
        video, audio = VideoCodec.from_pretrained(folders[0]).eval(), AudioCodec.from_pretrained(folders[1]).eval()
    else:
        assert pipeline is not None
        video, audio = pipeline.video_vae, pipeline.audio_vae

    def through(frames: np.ndarray[Any, Any], waveform: np.ndarray[Any, Any]) -> Rendered:
        film = rearrange(torch.from_numpy(frames).float() / 127.5 - 1.0, "t h w c -> 1 c t h w")
        film = video.decode(video.encode(film).latent_dist.mode()).sample[0]
        pixels = ((rearrange(film, "c t h w -> t h w c") + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
        sound = audio.decode(audio.encode(torch.from_numpy(waveform)[None]).latent_dist.mode()).sample[0]
        return pixels.numpy(), sound[:, : waveform.shape[1]].numpy()

    return through


def generated(pipeline: MOVAPipeline, scripts: Sequence[Script], options: Options, *, is_bridged: bool) -> Iterator[Rendered]:
    """Clips that the model makes of the scripts' captions; the seed of clip ``i`` is the script's own."""
    scale = pipeline.world.guidance_scale if options.guidance_scale is None else options.guidance_scale
    for first in range(0, len(scripts), options.batch_size):
        batch = scripts[first : first + options.batch_size]
        output = pipeline(
            [script.caption for script in batch],
            num_inference_steps=options.steps,
            guidance_scale=scale,
            guidance=None if is_bridged else BridgeOff(scale),
            seed=[script.seed % 2**62 for script in batch],
        )
        for clip in output.clips:
            yield clip.frames, clip.waveform


def by_kind(verdicts: Sequence[Verdict], kinds: Sequence[str]) -> dict[str, Summary]:
    """A summary of all and of each kind."""
    groups = {kind: [verdict for verdict in verdicts if verdict.events.kind == kind] for kind in kinds}
    return {name: summarise(group) for name, group in {"all": verdicts, **groups}.items() if group}


def codec_by_kind(readings: Sequence[CodecReading], scripts: Sequence[Script], kinds: Sequence[str]) -> dict[str, CodecSummary]:
    """The same for the codecs."""
    if not readings:
        return {}
    pairs = list(zip(readings, scripts, strict=True))
    groups = {kind: [reading for reading, script in pairs if script.kind == kind] for kind in kinds}
    return {name: summarise_codec(group) for name, group in {"all": readings, **groups}.items()}


def overall_table(rows: Mapping[str, Summary]) -> Table:
    """All kinds together: one line a number, a column a row, with 95 % intervals."""
    table = Table(title="all kinds, [95 % interval over clips]", title_justify="left")
    table.add_column("")
    for row in rows:
        table.add_column(row, justify="right")
    columns: list[dict[str, str]] = []
    for summary in rows.values():
        sync = summary.sync
        numbers = {
            "clips": str(sync.num_clips),
            "median abs ms": f"{sync.median_abs_ms:.1f} [{sync.median_abs_interval[0]:.1f}-{sync.median_abs_interval[1]:.1f}]",
            "offset ms": f"{sync.offset_ms:+.1f} [{sync.offset_interval[0]:+.1f}-{sync.offset_interval[1]:+.1f}]",
            **{f"F1@{name}": share(window.f1, window.f1_interval) for name, window in sync.windows.items()},
            "missed / extra @80": f"{1 - sync.windows['80'].recall:.2f} / {1 - sync.windows['80'].precision:.2f}",
            **{key: share(mean.value, mean.interval) for key, mean in summary.means.items()},
        }
        columns.append(numbers)
    for name in dict.fromkeys(name for numbers in columns for name in numbers):
        table.add_row(name, *(numbers.get(name, "") for numbers in columns))
    return table


def kinds_table(rows: Mapping[str, Mapping[str, Summary]], kinds: Sequence[str]) -> Table:
    """One line a kind and row; the intervals are in the file."""
    table = Table(title="by kind", title_justify="left")
    for head in ("kind", "row", "abs ms", "F1@45", "F1@80", "missed", "extra", *(head for _, head in COLUMNS)):
        table.add_column(head, justify="left" if head in ("kind", "row") else "right")
    for kind in kinds:
        for row, summaries in rows.items():
            if kind not in summaries:
                continue
            summary, windows = summaries[kind], summaries[kind].sync.windows
            numbers = [windows["45"].f1, windows["80"].f1, 1 - windows["80"].recall, 1 - windows["80"].precision]
            cells = [f"{summary.means[key].value:.2f}" if key in summary.means else "" for key, _ in COLUMNS]
            shown = [f"{number:.2f}" for number in numbers]
            table.add_row(kind if row == next(iter(rows)) else "", row, f"{summary.sync.median_abs_ms:.1f}", *shown, *cells)
        table.add_section()
    return table


def codec_table(codec: Mapping[str, CodecSummary]) -> Table:
    """One line a kind."""
    table = Table(title="codecs", title_justify="left")
    heads = ("PSNR", "moving", "onset ms", "heard", "extra", "sight ms", "seen", "extra", "names right")
    table.add_column("kind")
    for head in heads:
        table.add_column(head, justify="right")
    for kind, numbers in codec.items():
        table.add_row(
            kind,
            f"{numbers.psnr_db:.1f}",
            f"{numbers.moving_psnr_db:.1f}",
            f"{numbers.onset_error_ms:.2f}",
            f"{numbers.heard:.3f}",
            f"{numbers.heard_extra:.3f}",
            f"{numbers.sight_error_ms:.1f}",
            f"{numbers.seen:.3f}",
            f"{numbers.seen_extra:.3f}",
            "" if np.isnan(numbers.names_right) else share(numbers.names_right, numbers.names_interval),
        )
    return table


def share(value: float, bounds: tuple[float, float]) -> str:
    """``0.93 [0.90, 0.96]`` in few characters."""
    return f"{value:.2f} [{bounds[0]:.2f}-{bounds[1]:.2f}]"


def as_json(summary: Summary) -> dict[str, Any]:
    """Plain values."""
    return {"sync": asdict(summary.sync), "means": {name: asdict(mean) for name, mean in summary.means.items()}}


def machine() -> dict[str, Any]:
    """What this ran on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load": [round(load, 1) for load in os.getloadavg()],
    }


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Written beside, then renamed; nan becomes null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(without_nan(document), indent=1) + "\n"
    beside = path.with_suffix(".partial")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def without_nan(value: Any) -> Any:
    """JSON has no nan."""
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


if __name__ == "__main__":
    main()
