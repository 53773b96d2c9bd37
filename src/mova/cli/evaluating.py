"""The commands under ``mova arena`` and ``mova eval``: as light to import as the table of commands that they are part of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

arena_app = typer.Typer(help="Blind comparison by people: a page that works offline, and its votes.", no_args_is_help=True)
eval_app = typer.Typer(help="Measure a model or videos, with intervals, chance levels and floors.", no_args_is_help=True)

RUNTIME = "How it runs"
AsJson = Annotated[bool, typer.Option("--json", help="Facts as JSON on standard output.")]

Threads = Annotated[
    int | None,
    typer.Option(min=1, max=1024, help="Threads that compute on a CPU.", rich_help_panel=RUNTIME),
]


@arena_app.command("make")
def arena_make(
    folders: Annotated[list[Path], typer.Argument(help="One folder of videos for each system; the same file names in all.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the page; its key is written beside it.")],
    seed: Annotated[int, typer.Option(min=0, help="Of pairs, sides, order and names.")] = 0,
    num_pairs: Annotated[int | None, typer.Option(help="Of different systems; all if not given.")] = None,
    num_checks: Annotated[int | None, typer.Option(help="Attention checks; one for ten pairs if not given.")] = None,
    mode: Annotated[list[str] | None, typer.Option(help="both, audio or video; may be repeated. All if not given.")] = None,
    title: Annotated[str, typer.Option(help="Over the page; it must not give the systems away.")] = "Which is better?",
    keep_loudness: Annotated[
        bool, typer.Option("--keep-loudness", help="Do not turn the louder video of a pair down to the other.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Write a blind pairwise page: a folder to hand out, and a key to keep."""
    from mova.cli.arena import PageOptions, make

    options = PageOptions(
        seed=seed,
        num_pairs=num_pairs,
        num_checks=num_checks,
        modes=tuple(mode or ()),
        title=title,
        keeps_loudness=keep_loudness,
        is_json=json,
    )
    make(folders, output, options)


@arena_app.command("rank")
def arena_rank(
    votes: Annotated[list[Path], typer.Argument(help="Files of votes that the page saved.")],
    key: Annotated[Path | None, typer.Option(help="Of the page; sought beside the votes if not given.")] = None,
    mode: Annotated[list[str] | None, typer.Option(help="both, audio or video; may be repeated. All if not given.")] = None,
    drop_failing: Annotated[
        bool, typer.Option("--drop-failing", help="Leave out raters who fail the attention checks.")
    ] = False,
    num_resamples: Annotated[int, typer.Option(help="Of the bootstrap behind the intervals; 0 for none.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    json: AsJson = False,
) -> None:
    """Ratings from votes, with intervals, win rates and attention checks."""
    from mova.cli.arena import RankOptions, rank

    options = RankOptions(
        key=key,
        modes=tuple(mode or ()),
        drops_failing=drop_failing,
        num_resamples=num_resamples,
        seed=seed,
        is_json=json,
    )
    rank(votes, options)


@eval_app.command("model")
def eval_model(
    model: Annotated[str, typer.Argument(envvar="MOVA_MODEL", help="mova-base, a folder, or a hub id.")] = "mova-base",
    suite: Annotated[str, typer.Option(help="What is measured.")] = "clapper",
    num_clips: Annotated[int, typer.Option("-n", "--num-clips", min=1, max=100_000, help="Prompts of each track.")] = 64,
    track: Annotated[
        list[str] | None, typer.Option(help="text, v2a, a2v (these by default), counterfactual, controls; may be repeated.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of clips, rows, results and report; a second call goes on.")
    ] = Path("eval"),
    seed: Annotated[int | None, typer.Option(min=0, max=2**31, help="Of the prompts.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, max=1000, help="Sampler steps; the model's own.")] = None,
    processes: Annotated[int, typer.Option(min=1, max=1000, help="Processes of one thread each.")] = 2,
    threads: Threads = None,
    bridge_off: Annotated[
        bool, typer.Option("--bridge-off", help="Make each track once more without the bridge between video and audio.")
    ] = False,
    by_kind: Annotated[bool, typer.Option("--by-kind", help="Show the numbers of each kind of scene, too.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, or such as cuda:0.")] = "auto",
    baseline: Annotated[Path | None, typer.Option(help="Results to hold the headline against.")] = None,
    fail_below: Annotated[
        float | None, typer.Option(min=0.0, max=2.0, help="How far it may fall below --baseline; exit code 1 beyond.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Measure how well a model keeps video and audio in step and does what prompts ask: table, results.json, report."""
    from mova.cli.evaluate import ModelOptions, run_model

    options = ModelOptions(
        model=model,
        suite=suite,
        num_clips=num_clips,
        tracks=tuple(track or ()),
        output=output,
        seed=seed,
        steps=steps,
        processes=processes,
        threads=threads,
        has_bridge_off=bridge_off,
        shows_kinds=by_kind,
        device=device,
        baseline=baseline,
        fail_below=fail_below,
        is_json=json,
    )
    run_model(options)


@eval_app.command("files")
def eval_files(
    folder: Annotated[Path, typer.Argument(help="Folder of videos.")],
    reference: Annotated[Path | None, typer.Option(help="Folder of videos of the same names, to compare with.")] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of rows, results and report; a second call goes on.")
    ] = Path("eval"),
    weights: Annotated[Path | None, typer.Option(help="Folder with weights of learned metrics: clap, fad ...")] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="sync, health, video, audio, avalign, fidelity, clap ...; may be repeated.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, max=1000, help="Processes of one thread each.")] = 2,
    device: Annotated[str, typer.Option(help="Of learned metrics: auto, cpu, or such as cuda:0.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="Threads of learned metrics on a CPU.")] = None,
    json: AsJson = False,
) -> None:
    """Measure every video of a folder: sync, health, quality, and fidelity to a reference: table, results.json, report."""
    from mova.cli.evaluate import FileOptions, run_files

    options = FileOptions(
        folder=folder,
        reference=reference,
        output=output,
        weights=weights,
        metrics=tuple(metric or ()),
        processes=processes,
        device=device,
        threads=threads,
        is_json=json,
    )
    run_files(options)


@eval_app.command("compare")
def eval_compare(
    first: Annotated[Path, typer.Argument(help="results.json of a run.")],
    second: Annotated[Path, typer.Argument(help="That of another, of the same prompts or file names.")],
    json: AsJson = False,
) -> None:
    """Hold two results against each other, clip by clip, with intervals and corrected p-values."""
    from mova.cli.evaluate import run_compare

    run_compare(first, second, is_json=json)


@eval_app.command("self-test")
def eval_self_test(
    family: Annotated[list[str] | None, typer.Option(help="Of scenes; may be repeated. All if not given.")] = None,
    num_clips: Annotated[int, typer.Option("-n", "--num-clips", min=1, max=1000, help="Clips of each family.")] = 2,
    size: Annotated[int, typer.Option(min=64, max=1024, help="Width and height in pixels.")] = 256,
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="Of the scenes.")] = 0,
    json: AsJson = False,
) -> None:
    """Put known offsets, drift and faults into rendered scenes and test that they are found; exit code 1 if not."""
    from mova.cli.evaluate import run_self_test

    if not run_self_test(tuple(family or ()), num_clips=num_clips, size=size, seed=seed, is_json=json):
        raise typer.Exit(1)
