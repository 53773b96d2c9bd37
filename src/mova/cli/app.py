"""The command line: the table of commands. Nothing heavy is imported before a command is known."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from mova.cli import console
from mova.cli.evaluating import AsJson, arena_app, eval_app
from mova.errors import MovaError

app = typer.Typer(
    name="mova",
    help="Video and its audio, made together.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)
scenes_app = typer.Typer(help="The rendered world that mova-base learns from.", no_args_is_help=True)
app.add_typer(scenes_app, name="scenes")
app.add_typer(arena_app, name="arena")
app.add_typer(eval_app, name="eval")

# options that several commands have
Seconds = Annotated[float | None, typer.Option(help="Length; or give --num-frames.")]
NumFrames = Annotated[int | None, typer.Option(help="Length; or give --seconds.")]
Fps = Annotated[float | None, typer.Option(help="Frames per second.")]
Size = Annotated[str | None, typer.Option(help="Picture, WIDTHxHEIGHT.")]
Steps = Annotated[int | None, typer.Option("--steps", "--num-inference-steps", help="Sampler steps.")]
GuidanceScale = Annotated[float | None, typer.Option(help="Strength of the text; 1 is its own.")]
CrossGuidanceScale = Annotated[float | None, typer.Option(help="How far picture and audio are bound; 1 is their own.")]
SelfGuidanceScale = Annotated[
    float | None, typer.Option(help="How far the model is led away from its own weak side; 0 is off.")
]


@app.command()
def generate(
    prompt: Annotated[
        str | None, typer.Argument(help="What to see and hear. '-' reads standard input, '@file' a file.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Video: .mp4 .webm .mkv .mov; .gif picture only, .wav audio only. mova.mp4 if not given."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", envvar="MOVA_MODEL", help="mova-base, a folder, a hub id; or that of --from.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same clip. Drawn and shown if not given.")] = None,
    audio_seed: Annotated[int | None, typer.Option(help="Of the audio; follows --seed if not given.")] = None,
    seconds: Seconds = None,
    num_frames: NumFrames = None,
    fps: Fps = None,
    size: Size = None,
    steps: Steps = None,
    guidance_scale: GuidanceScale = None,
    cross_guidance_scale: CrossGuidanceScale = None,
    self_guidance_scale: SelfGuidanceScale = None,
    audio_guidance_scale: Annotated[float | None, typer.Option(help="--guidance-scale of the audio, if another.")] = None,
    audio_cross_guidance_scale: Annotated[
        float | None, typer.Option(help="--cross-guidance-scale of the audio, if another.")
    ] = None,
    audio_self_guidance_scale: Annotated[
        float | None, typer.Option(help="--self-guidance-scale of the audio, if another.")
    ] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What to keep away from.")] = None,
    audio_negative_prompt: Annotated[
        str | None, typer.Option(help="What the audio keeps away from, if not from --negative-prompt.")
    ] = None,
    shift: Annotated[float | None, typer.Option(help="Above 1: more steps at high noise.")] = None,
    audio_shift: Annotated[float | None, typer.Option(help="The same for the audio.")] = None,
    solver: Annotated[str | None, typer.Option(help="Method of the sampler: euler, heun, adams, dpmpp, unipc.")] = None,
    audio_sample_rate: Annotated[int | None, typer.Option(help="Of the finished audio, in Hz.")] = None,
    cue: Annotated[
        list[str] | None,
        typer.Option(help="What happens when, SECONDS or SECONDS=LABEL; may be repeated; 'none' plans nothing."),
    ] = None,
    image: Annotated[str | None, typer.Option(help="Picture that the video begins with.")] = None,
    last_image: Annotated[str | None, typer.Option(help="Picture that the video ends with.")] = None,
    keyframe: Annotated[list[str] | None, typer.Option(help="Picture at a moment, SECONDS=FILE; may be repeated.")] = None,
    reference: Annotated[
        list[str] | None, typer.Option(help="Picture that the video goes on from and does not show; may be repeated.")
    ] = None,
    video: Annotated[
        str | None, typer.Option(help="Video whose audio is made; with --extend, --retake or --repaint, the clip to change.")
    ] = None,
    audio: Annotated[str | None, typer.Option(help="Audio to which a video is made.")] = None,
    extend: Annotated[str | None, typer.Option(help="Add to --video: 2s at its end, start:2s before it.")] = None,
    retake: Annotated[str | None, typer.Option(help="Make a span of --video anew: audio:0.8-1.6, video:..., both:...")] = None,
    repaint: Annotated[str | None, typer.Option(help="Mask of --video, a picture: what is white is painted anew.")] = None,
    only: Annotated[
        str | None, typer.Option(help="Write one alone, made with the other all the same: audio (.wav) or video.")
    ] = None,
    fit: Annotated[
        str | None, typer.Option(help="A picture of another shape: exact (refuse it), crop, pad or stretch.")
    ] = None,
    text_only: Annotated[
        str | None, typer.Option(help="Without --image, for a model that was trained with one: white or unmasked.")
    ] = None,
    truncate: Annotated[bool, typer.Option("--truncate", help="Cut a prompt that is too long.")] = False,
    from_: Annotated[Path | None, typer.Option("--from", help="Begin with the request inside this video.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Then set a field: guidance_scale=3; repeatable.")] = None,
    reroll: Annotated[
        str | None, typer.Option(help="Of the clip given as --from, make only the audio (audio) or the video (video) anew.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, or such as cuda:0.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    offload: Annotated[str, typer.Option(help="What waits in host memory: none, component or block.")] = "none",
    quantisation: Annotated[str, typer.Option(help="Weights of the video's blocks: none, fp8, fp8_scaled or int8.")] = "none",
    attention_backend: Annotated[str, typer.Option(help="auto, sdpa, flash, flex or sage.")] = "auto",
    num_clips: Annotated[int, typer.Option("-n", "--num-clips", min=1, max=1000, help="Clips, consecutive seeds.")] = 1,
    on_fault: Annotated[
        str, typer.Option(help="A clip with a fault: keep (write it and say so), repair (try again), fail (write nothing).")
    ] = "keep",
    lora: Annotated[list[str] | None, typer.Option(help="LoRA, FILE or FILE:SCALE; may be repeated.")] = None,
    sidecar: Annotated[bool, typer.Option("--sidecar", help="Also write request, maker and facts as CLIP.json.")] = False,
    sheet: Annotated[Path | None, typer.Option(help="Also draw frames, waveform and spectrogram as a .png.")] = None,
    json: AsJson = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and show the plan; read no weights.")] = False,
) -> None:
    """Make a clip and its audio from a prompt."""
    from mova.cli.generate import Choice, Output, run
    from mova.cli.options import parse_cues, parse_extend, parse_keyframes, parse_loras, parse_retake
    from mova.cli.recorded import loras_of_video, model_of_video, request_from_video
    from mova.runtime.options import RuntimeOptions

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
        "self_guidance_scale": self_guidance_scale,
        "audio_guidance_scale": audio_guidance_scale,
        "audio_cross_guidance_scale": audio_cross_guidance_scale,
        "audio_self_guidance_scale": audio_self_guidance_scale,
        "negative_prompt": negative_prompt,
        "audio_negative_prompt": audio_negative_prompt,
        "shift": shift,
        "audio_shift": audio_shift,
        "solver": solver,
        "audio_sample_rate": audio_sample_rate,
        "cues": parse_cues(cue),
        "image": image,
        "last_image": last_image,
        "keyframes": parse_keyframes(keyframe),
        "references": reference,
        "video": video,
        "audio": audio,
        **parse_extend(extend),
        "retake": parse_retake(retake),
        "repaint": repaint,
        "only": only,
        "fit": fit,
        "text_only": text_only,
        "truncate": truncate,
    }
    runtime = RuntimeOptions(
        device=device,
        dtype=dtype,
        offload=cast(Any, offload),  # checked by the class, whose errors name what is allowed
        quantisation=cast(Any, quantisation),
        attention_backend=attention_backend,
    )
    given = {name: value for name, value in values.items() if value is not None and value is not False}
    request, made_by = request_from_video(from_, given, set_ or (), reroll=reroll)
    loras = parse_loras(lora) or loras_of_video(made_by)
    wanted = Output(
        path=output or Path("mova.wav" if request.get("only") == "audio" else "mova.mp4"),
        sheet=sheet,
        has_sidecar=sidecar,
        is_json=json,
        is_dry_run=dry_run,
        num_clips=num_clips,
        on_fault=cast(Any, on_fault),  # checked by run
    )
    run(request, Choice(model or model_of_video(made_by), runtime, loras), wanted, size=size)


@app.command()
def replay(
    film: Annotated[Path, typer.Argument(help="A video that mova wrote.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="FILM-replay if not given.")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="The one that made it, if not given.")] = None,
    json: AsJson = False,
) -> None:
    """Make a video again from the request inside it; exit with code 1 if its frames and samples are not the same."""
    from mova.cli.recorded import replay

    replay(film, output, model=model, is_json=json)


@app.command()
def film(
    shots: Annotated[Path, typer.Argument(help="Shot list: a YAML document.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Video: .mp4 .webm .mkv .mov; .gif picture only, .wav audio only.")
    ] = Path("film.mp4"),
    model: Annotated[str | None, typer.Option("--model", "-m", help="In place of the document's.")] = None,
    retake: Annotated[
        list[str] | None, typer.Option(help="Make a span of a shot anew: 2:audio:1.0-1.8, and :SEED; may be repeated.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of finished shots; beside the document, SHOTS.cache, if not given.")
    ] = None,
    prune: Annotated[bool, typer.Option("--prune", help="Remove finished shots that this video does not use.")] = False,
    on_fault: Annotated[
        str, typer.Option(help="A shot with a fault: keep (write it and say so), repair (try again), fail (write nothing).")
    ] = "keep",
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
    """Draw videostrips with waveforms and event ticks of rendered scenes."""
    from mova.cli.options import parse_size
    from mova.cli.scenes import draw_sheet

    width, height = parse_size(size)
    assert width is not None and height is not None
    draw_sheet(output, kinds=kind, per_kind=per_kind, seed=seed, size=(width, height), fps=fps, seconds=seconds)


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(help="Videos or sounds.")],
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
    """Measure how far the audio is from the picture, in milliseconds, or say that it cannot be told."""
    from mova.cli.sync import run

    run(file, kind=kind, plot=plot, is_json=json)


@app.command()
def inspect(
    target: Annotated[str, typer.Argument(help="mova-base, a folder that holds a model, or a video or audio.")],
    json: AsJson = False,
) -> None:
    """Show how a video was made; or what a model's folder holds and what is wrong with it. Reads no weights."""
    from mova.cli.inspect import run

    run(target, is_json=json)


@app.command()
def plan(
    model: Annotated[
        str, typer.Option("--model", "-m", envvar="MOVA_MODEL", help="mova-base, or a folder; configuration files are enough.")
    ] = "mova-base",
    size: Size = None,
    seconds: Seconds = None,
    num_frames: NumFrames = None,
    fps: Fps = None,
    steps: Steps = None,
    guidance_scale: GuidanceScale = None,
    cross_guidance_scale: CrossGuidanceScale = None,
    self_guidance_scale: SelfGuidanceScale = None,
    solver: Annotated[str | None, typer.Option(help="Method of the sampler.")] = None,
    gpu_memory: Annotated[str | None, typer.Option(help="Of the device, such as 24GB: which choices fit?")] = None,
    flops: Annotated[str | None, typer.Option(help="Speed of the device, such as 400TFLOPS: how long does it take?")] = None,
    json: AsJson = False,
) -> None:
    """Show what a clip costs in operations, memory and time; read no weights."""
    from mova.cli.plan import Device, parse_bytes, parse_speed, run

    values = {
        "seconds": seconds,
        "num_frames": num_frames,
        "fps": fps,
        "num_inference_steps": steps,
        "guidance_scale": guidance_scale,
        "cross_guidance_scale": cross_guidance_scale,
        "self_guidance_scale": self_guidance_scale,
        "solver": solver,
    }
    device = Device(memory_bytes=parse_bytes(gpu_memory), speed=parse_speed(flops))
    run(values, size=size, model=model, device=device, is_json=json)


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
        is_json=json,
    )
    run(options)


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
