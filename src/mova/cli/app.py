"""The command line: the table of commands. Nothing heavy is imported before a command is known."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mova.cli import console
from mova.errors import MovaError

app = typer.Typer(
    name="mova",
    help="Video and its sound, made together.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)
scenes_app = typer.Typer(help="The rendered world that mova-base learns from.", no_args_is_help=True)
app.add_typer(scenes_app, name="scenes")


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="What to see and hear. '-' reads standard input, '@file' a file.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Film: .mp4 .webm .mkv .mov; .gif picture only, .wav sound only.")
    ] = Path("mova.mp4"),
    model: Annotated[
        str, typer.Option("--model", "-m", envvar="MOVA_MODEL", help="mova-base, a folder, or a hub id.")
    ] = "mova-base",
    seed: Annotated[int | None, typer.Option(help="Same seed, same clip. Drawn and shown if not given.")] = None,
    audio_seed: Annotated[int | None, typer.Option(help="Of the sound; follows --seed if not given.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Length; or give --num-frames.")] = None,
    num_frames: Annotated[int | None, typer.Option(help="Length; or give --seconds.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second.")] = None,
    size: Annotated[str | None, typer.Option(help="Picture, WIDTHxHEIGHT.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", "--num-inference-steps", help="Sampler steps.")] = None,
    guidance_scale: Annotated[float | None, typer.Option(help="Strength of the text; 1 is its own.")] = None,
    cross_guidance_scale: Annotated[
        float | None, typer.Option(help="How far picture and sound are bound; 1 is their own.")
    ] = None,
    negative_prompt: Annotated[str, typer.Option(help="What to keep away from.")] = "",
    shift: Annotated[float | None, typer.Option(help="Above 1: more steps at high noise.")] = None,
    audio_shift: Annotated[float | None, typer.Option(help="The same for the sound.")] = None,
    solver: Annotated[str | None, typer.Option(help="Method of the sampler: euler, heun, adams.")] = None,
    audio_sample_rate: Annotated[int | None, typer.Option(help="Of the finished sound, in Hz.")] = None,
    image: Annotated[str | None, typer.Option(help="Picture that the film begins with.")] = None,
    last_image: Annotated[str | None, typer.Option(help="Picture that the film ends with.")] = None,
    fit: Annotated[
        str | None, typer.Option(help="A picture of another shape: exact (refuse it), crop, pad or stretch.")
    ] = None,
    text_only: Annotated[
        str | None, typer.Option(help="Without --image, for a model that was trained with one: white or unmasked.")
    ] = None,
    truncate: Annotated[bool, typer.Option("--truncate", help="Cut a prompt that is too long.")] = False,
    num_clips: Annotated[int, typer.Option("-n", "--num-clips", min=1, max=1000, help="Clips, consecutive seeds.")] = 1,
    sheet: Annotated[Path | None, typer.Option(help="Also draw frames, waveform and spectrogram as a .png.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Facts as JSON on standard output.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and show the plan; read no weights.")] = False,
) -> None:
    """Make a clip and its sound from a prompt."""
    from mova.cli.generate import Output, run

    values = {
        "prompt": prompt,
        "seed": seed,
        "audio_seed": audio_seed,
        "seconds": seconds,
        "num_frames": num_frames,
        "fps": fps,
        "num_inference_steps": steps,
        "guidance_scale": guidance_scale,
        "cross_guidance_scale": cross_guidance_scale,
        "negative_prompt": negative_prompt,
        "shift": shift,
        "audio_shift": audio_shift,
        "solver": solver,
        "audio_sample_rate": audio_sample_rate,
        "image": image,
        "last_image": last_image,
        "fit": fit,
        "text_only": text_only,
        "truncate": truncate,
    }
    wanted = Output(path=output, sheet=sheet, is_json=json, is_dry_run=dry_run, num_clips=num_clips)
    run(values, size=size, model=model, output=wanted)


@app.command()
def examples() -> None:
    """The kinds of scene that mova-base knows, with prompts to start from."""
    from mova.cli.scenes import show_examples

    show_examples()


@scenes_app.command("sheet")
def scenes_sheet(
    output: Annotated[Path, typer.Option("--output", "-o", help="Picture to write.")] = Path("scenes.png"),
    kind: Annotated[list[str] | None, typer.Option(help="Only this kind; may be repeated.")] = None,
    per_kind: Annotated[int, typer.Option(min=1, max=50, help="Clips of each kind.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Names the clips.")] = 0,
    size: Annotated[str, typer.Option(help="Picture, WIDTHxHEIGHT.")] = "96x96",
    fps: Annotated[int, typer.Option(min=8, max=60)] = 16,
    seconds: Annotated[float, typer.Option(min=0.5, max=20.0)] = 2.0625,
) -> None:
    """Draw film strips with waveforms and event ticks of rendered scenes."""
    from mova.cli.options import parse_size
    from mova.cli.scenes import draw_sheet

    width, height = parse_size(size)
    assert width is not None and height is not None
    draw_sheet(output, kinds=kind, per_kind=per_kind, seed=seed, size=(width, height), fps=fps, seconds=seconds)


@app.command()
def train(
    recipes: Annotated[list[Path], typer.Argument(help="YAML recipes, run in this order.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a field of every recipe: optim.num_steps=200.")
    ] = None,
) -> None:
    """Train from recipes; the same command resumes after an interruption."""
    from mova.cli.train import run

    run(recipes, tuple(set_ or ()))


def main() -> None:
    """Run the command line; a user's mistake is two lines and an exit code, never a traceback."""
    try:
        app()
    except MovaError as problem:
        console.error(problem)
        sys.exit(problem.exit_code)
    except KeyboardInterrupt:
        console.say("interrupted")
        sys.exit(130)


if __name__ == "__main__":
    main()
