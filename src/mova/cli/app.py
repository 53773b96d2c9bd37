"""The command line: the table of commands. Nothing heavy is imported before a command is known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from mova._version import __version__
from mova.cli import console
from mova.cli.defaults import add_defaults, config_path
from mova.cli.ending import exit_with
from mova.cli.evaluating import RUNTIME, AsJson, Threads, arena_app, eval_app
from mova.cli.interrupts import raise_on_signals
from mova.cli.request_options import request_options
from mova.cli.values import name_values
from mova.cli.verbosity import add_verbosity

app = typer.Typer(
    name="mova",
    help="Video and its audio, made together.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
scenes_app = typer.Typer(help="The rendered world that mova-base learns from.", no_args_is_help=True)
app.add_typer(scenes_app, name="scenes")
app.add_typer(arena_app, name="arena")
app.add_typer(eval_app, name="eval")

DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything and show the plan; read no weights.")]
OnFault = Annotated[
    str, typer.Option(help="A clip with a fault: keep (write it and say so), repair (try again), fail (write nothing).")
]
PLANNED = (
    *("width", "height", "seconds", "num_frames", "fps", "num_inference_steps", "solver"),
    *("guidance_scale", "cross_guidance_scale", "self_guidance_scale"),
)
"""Fields on which the cost of a clip depends."""
RECORDED = "From a clip that mova made"


def _show_version(is_asked: bool) -> None:
    if is_asked:
        console.fact(f"mova {__version__}")
        raise typer.Exit


@app.callback()
def mova(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Video and its audio, made together."""


@app.command()
@request_options()
def generate(
    request: dict[str, Any],
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Video: .mp4 .webm .mkv .mov; .gif video only, .wav audio only. mova.mp4 if not given. "
            "{index} in the name is the clip's number.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", envvar="MOVA_MODEL", help="mova-base, a folder, a hub id; or that of --from.")
    ] = None,
    num_clips: Annotated[
        int, typer.Option("-n", "--num-clips", min=1, max=1000, help="Clips of each prompt, with consecutive seeds.")
    ] = 1,
    on_fault: OnFault = "keep",
    sheet: Annotated[
        Path | None, typer.Option(help="Also draw frames, waveform and spectrogram of each clip as a .png.")
    ] = None,
    sidecar: Annotated[bool, typer.Option("--sidecar", help="Also write request, maker and facts as CLIP.json.")] = False,
    json: AsJson = False,
    dry_run: DryRun = False,
    from_: Annotated[
        Path | None, typer.Option("--from", help="Begin with the request inside this video.", rich_help_panel=RECORDED)
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Then set a field: guidance_scale=3; repeatable.", rich_help_panel=RECORDED),
    ] = None,
    reroll: Annotated[
        str | None,
        typer.Option(help="Modality of the clip --from to generate again: audio or video.", rich_help_panel=RECORDED),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, or such as cuda:0.", rich_help_panel=RUNTIME)] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.", rich_help_panel=RUNTIME)] = "auto",
    offload: Annotated[
        str, typer.Option(help="What waits in host memory: none, component or block.", rich_help_panel=RUNTIME)
    ] = "none",
    quantisation: Annotated[
        str, typer.Option(help="Weights of the video's blocks: none, fp8, fp8_scaled or int8.", rich_help_panel=RUNTIME)
    ] = "none",
    attention_backend: Annotated[str, typer.Option(help="auto, sdpa, flash, flex or sage.", rich_help_panel=RUNTIME)] = "auto",
    threads: Threads = None,
    lora: Annotated[
        list[str] | None, typer.Option(help="LoRA, FILE or FILE:SCALE; repeatable.", rich_help_panel=RUNTIME)
    ] = None,
) -> None:
    """Make a clip and its audio from a prompt."""
    from mova.cli.generate import Choice, Output, run
    from mova.cli.options import parse_loras
    from mova.cli.recorded import loras_of_video, model_of_video, request_from_video
    from mova.runtime.options import RuntimeOptions

    runtime = RuntimeOptions(
        device=device,
        dtype=dtype,
        offload=cast(Any, offload),  # checked by the class, whose errors name what is allowed
        quantisation=cast(Any, quantisation),
        attention_backend=attention_backend,
        threads=threads,
    )
    values, made_by = request_from_video(from_, request, set_ or (), reroll=reroll)
    loras = parse_loras(lora) or loras_of_video(made_by)
    wanted = Output(
        path=output or Path("mova.wav" if values.get("only") == "audio" else "mova.mp4"),
        sheet=sheet,
        has_sidecar=sidecar,
        is_json=json,
        is_dry_run=dry_run,
        num_clips=num_clips,
        on_fault=cast(Any, on_fault),  # checked by run
    )
    run(values, Choice(model or model_of_video(made_by), runtime, loras), wanted)


@app.command()
def replay(
    video: Annotated[Path, typer.Argument(help="A video that mova wrote.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="FILM-replay if not given.")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="The one that made it, if not given.")] = None,
    threads: Threads = None,
    json: AsJson = False,
) -> None:
    """Make a video again from the request inside it; exit with code 1 if its frames and samples are not the same."""
    from mova.cli.recorded import replay

    replay(video, output, model=model, threads=threads, is_json=json)


@app.command()
def film(
    shots: Annotated[Path, typer.Argument(help="Shot list: a YAML document.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Video: .mp4 .webm .mkv .mov; .gif picture only, .wav audio only.")
    ] = Path("film.mp4"),
    model: Annotated[str | None, typer.Option("--model", "-m", help="In place of the document's.")] = None,
    retake: Annotated[
        list[str] | None, typer.Option(help="Generate a span of a shot again: 2:audio:1.0-1.8, and :SEED; may be repeated.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of finished shots; beside the document, SHOTS.cache, if not given.")
    ] = None,
    prune: Annotated[bool, typer.Option("--prune", help="Remove finished shots that this video does not use.")] = False,
    on_fault: Annotated[
        str, typer.Option(help="A shot with a fault: keep (write it and say so), repair (try again), fail (write nothing).")
    ] = "keep",
    threads: Threads = None,
    json: AsJson = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and show the plan; read no weights.")] = False,
) -> None:
    """Make a video of several shots; only what an edit touched is rendered again."""
    from mova.cli.film import FilmOutput, run

    wanted = FilmOutput(
        path=output,
        cache=cache,
        should_prune=prune,
        is_json=json,
        is_dry_run=dry_run,
        on_fault=cast(Any, on_fault),  # checked by run
        threads=threads,
    )
    run(shots, wanted, retakes=tuple(retake or ()), model=model)


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
    """Draw filmstrips with waveforms and event ticks of rendered scenes."""
    from mova.cli.options import parse_size
    from mova.cli.scenes import draw_sheet

    width, height = parse_size(size)
    assert width is not None and height is not None
    draw_sheet(output, kinds=kind, per_kind=per_kind, seed=seed, size=(width, height), fps=fps, seconds=seconds)


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(help="Video or audio files.")],
    json: AsJson = False,
) -> None:
    """Look for frozen or black frames, pops, clipping, silence and other faults; exit code 1 if there is one."""
    from mova.cli.health import run

    if not run(files, is_json=json):
        raise typer.Exit(1)


@app.command()
def sync(
    file: Annotated[Path, typer.Argument(help="A video with its audio.")],
    kind: Annotated[
        str | None, typer.Option(help="Kind of scene, if the video does not say it; any: whatever it says.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw events, pairs and offsets as a .png.")] = None,
    json: AsJson = False,
) -> None:
    """Measure the offset of the audio from the video, in milliseconds, or say that it is unknown."""
    from mova.cli.sync import run

    run(file, kind=kind, plot=plot, is_json=json)


@app.command()
def sheet(
    file: Annotated[Path, typer.Argument(help="A video with its audio.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Picture to write; FILE.png if not given.")] = None,
) -> None:
    """Draw a clip as one picture: frames at its events, waveform and spectrogram."""
    from mova.cli.sheet import run

    run(file, output)


@app.command()
def models(json: AsJson = False) -> None:
    """List the models on this machine, and where downloads are kept."""
    from mova.cli.models import run

    run(is_json=json)


@app.command()
def inspect(
    target: Annotated[str, typer.Argument(help="mova-base, a folder that holds a model, or a video or audio.")],
    json: AsJson = False,
) -> None:
    """Show how a video was made; or what a model's folder holds and what is wrong with it. Reads no weights."""
    from mova.cli.inspect import run

    run(target, is_json=json)


@app.command()
@request_options(*PLANNED)
def plan(
    request: dict[str, Any],
    *,
    model: Annotated[
        str, typer.Option("--model", "-m", envvar="MOVA_MODEL", help="mova-base, or a folder; configuration files are enough.")
    ] = "mova-base",
    gpu_memory: Annotated[str | None, typer.Option(help="Of the device, such as 24GB: which choices fit?")] = None,
    flops: Annotated[str | None, typer.Option(help="Speed of the device, such as 400TFLOPS: how long does it take?")] = None,
    json: AsJson = False,
) -> None:
    """Show what a clip costs in operations, memory and time; read no weights."""
    from mova.cli.plan import Device, parse_bytes, parse_speed, run

    run(request, model=model, device=Device(memory_bytes=parse_bytes(gpu_memory), speed=parse_speed(flops)), is_json=json)


@app.command("tune-guidance")
def tune_guidance(
    model: Annotated[
        str, typer.Option("--model", "-m", envvar="MOVA_MODEL", help="mova-base, a folder, or a hub id.")
    ] = "mova-base",
    scales: Annotated[str, typer.Option(help="Of the text, with commas.")] = "1,1.5,2,3",
    cross: Annotated[str, typer.Option(help="Of the bridge, with commas.")] = "1,1.5",
    self_: Annotated[str, typer.Option("--self", help="Of self-guidance, with commas.")] = "0",
    audio_scales: Annotated[str, typer.Option(help="Of the text for the audio, with commas, if not the video's.")] = "",
    per_kind: Annotated[int, typer.Option("-n", "--per-kind", min=1, max=1000, help="Prompts of each kind.")] = 2,
    kinds: Annotated[str, typer.Option(help="Kinds of scene, with commas; all that the model knows if not given.")] = "",
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the rows and the plot.")] = Path("guidance"),
    steps: Annotated[int | None, typer.Option("--steps", min=1, max=1000, help="Sampler steps; the model's own.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**31, help="Of the prompts.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=1000, help="Clips made at once.")] = 8,
    device: Annotated[str, typer.Option(help="auto, cpu, or such as cuda:0.")] = "auto",
    threads: Threads = None,
    json: AsJson = False,
) -> None:
    """Try guidance scales on a few prompts: sync against adherence, as a table and a plot. A second call goes on."""
    from mova.cli.tune import SEED, TuneOptions, run

    options = TuneOptions(
        model=model,
        scales=scales,
        cross=cross,
        own=self_,
        audio=audio_scales,
        per_kind=per_kind,
        kinds=kinds,
        output=output,
        steps=steps,
        seed=SEED if seed is None else seed,
        batch_size=batch_size,
        device=device,
        threads=threads,
        is_json=json,
    )
    run(options)


@app.command()
def train(
    recipes: Annotated[list[Path], typer.Argument(help="YAML recipes, run in this order.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a field of every recipe: optim.num_steps=200.")
    ] = None,
    threads: Threads = None,
) -> None:
    """Train from recipes; the same command resumes after an interruption."""
    from mova.cli.train import run

    run(recipes, tuple(set_ or ()), threads=threads)


def main() -> None:
    """Run the command line; a user's mistake is two lines and an exit code, never a traceback."""
    raise_on_signals()
    command = name_values(add_verbosity(typer.main.get_command(app)))
    exit_with(lambda: add_defaults(command, config_path())())


if __name__ == "__main__":
    main()
