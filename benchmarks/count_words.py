"""At which noise level does a model use the number that a prompt names? Prints a table and a plot of it.

    python benchmarks/count_words.py --per-kind 10          # two minutes on one core

Clips are rendered and encoded, noised to a level, and the network predicts their velocity twice: told their own prompt, and
told one with another number of events. How much worse the second is, in squared error of the clean latents summed over a
clip, says how much the network knows of the number there. Nothing at low noise: all events are seen. Where it is largest, it
is decided how many there will be: there a sampler should take its steps, and training its samples.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from einops import rearrange
from rich.console import Console
from torch import Tensor

from mova.evaluation.clapper.counterfactual import counterfactual_scripts
from mova.evaluation.documents import machine, write_json
from mova.models.text_encoder import encode_tokens, tokenise
from mova.pipeline import MOVAPipeline
from mova.sampling.pair import Pair
from mova.scenes.script import Script
from mova.scenes.world import render, sample_scripts

TEST_SEED = 992_000
ROOT = Path(__file__).parents[1]
KINDS = ("ball", "drums", "piano", "mouth", "storm", "fireworks")
SIGMAS = (1.0, 0.98, 0.96, 0.94, 0.92, 0.9, 0.87, 0.84, 0.8, 0.7, 0.5)


@torch.no_grad()
def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="mova-base", help="name or folder of the model")
    parser.add_argument("--per-kind", type=int, default=10, help="clips per kind")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "count_words.json")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    pipeline = MOVAPipeline.from_pretrained(asked.checkpoint)
    pairs = [pair for kind in KINDS for pair in with_other_numbers(kind, asked.per_kind)]
    latents = encoded(pipeline, [script for script, _ in pairs])
    told = [embedded(pipeline, [pair[index].caption for pair in pairs]) for index in (0, 1)]
    lines = []
    for sigma in SIGMAS:
        right, wrong = (errors(pipeline, latents, embeds, sigma) for embeds in told)
        worse = {kind: mean_of(kind, pairs, wrong - right) for kind in KINDS}
        lines.append({"sigma": sigma, "worse": float((wrong - right).mean()), "by_kind": worse})
    console = Console(width=120)
    most = max(line["worse"] for line in lines)
    console.print("| sigma | worse | |\n|---|---|---|", highlight=False)
    for line in lines:
        bar = "#" * round(40 * max(0.0, line["worse"]) / most)
        console.print(f"| {line['sigma']:.2f} | {line['worse']:.1f} | {bar} |", highlight=False)
    write_json(asked.output, {"machine": machine(), "seed": TEST_SEED, "clips": len(pairs), "lines": lines})


def with_other_numbers(kind: str, count: int) -> list[tuple[Script, Script]]:
    """Scripts of a kind whose captions name a number, each with one of another number."""
    found = []
    for script in sample_scripts(TEST_SEED, 4 * count, [kind]):
        found += [(pair.first, pair.second) for pair in counterfactual_scripts(script) if pair.name == "count"]
    return found[:count]


def encoded(pipeline: MOVAPipeline, scripts: Sequence[Script]) -> Pair:
    """Normalised latents of the rendered scripts."""
    clips = [render(script) for script in scripts]
    film = [rearrange(torch.from_numpy(clip.frames).float() / 127.5 - 1.0, "t h w c -> 1 c t h w") for clip in clips]
    sound = [torch.from_numpy(clip.waveform)[None] for clip in clips]
    return Pair(
        torch.cat([pipeline.encode_video(one) for one in film]), torch.cat([pipeline.encode_audio(one) for one in sound])
    )


def embedded(pipeline: MOVAPipeline, prompts: Sequence[str]) -> Tensor:
    """Embeddings of prompts, padded to one length."""
    ids, masks = tokenise(pipeline.tokenizer, list(prompts), pipeline.world.max_tokens)
    embeds: Tensor = encode_tokens(pipeline.text_encoder, ids, masks)
    return embeds


def errors(pipeline: MOVAPipeline, latents: Pair, embeds: Tensor, sigma: float) -> Tensor:
    """Squared error of the clean latents that the network predicts, summed over each clip ``[B]``; always the same noise."""
    generator = torch.Generator().manual_seed(7)
    noise = Pair(*(torch.randn(one.shape, generator=generator) for one in latents))
    noisy = Pair(*(torch.lerp(clean, other, sigma) for clean, other in zip(latents, noise, strict=True)))
    level = torch.full((len(embeds),), 1000.0 * sigma)
    made = pipeline.transformer(
        noisy.video,
        noisy.audio,
        video_timestep=level,
        audio_timestep=level,
        text_embeds=embeds,
        video_fps=float(pipeline.world.default_fps),
    )
    wrong = zip((made.video, made.audio), noise, latents, strict=True)
    return sum((sigma * (velocity - (other - clean))).square().flatten(1).sum(1) for velocity, other, clean in wrong)


def mean_of(kind: str, pairs: Sequence[tuple[Script, Script]], values: Tensor) -> float:
    """The mean over one kind."""
    return float(values[[index for index, (script, _) in enumerate(pairs) if script.kind == kind]].mean())


if __name__ == "__main__":
    main()
