"""``mova scenes sheet`` and ``mova examples``: the rendered world, drawn and named."""

from __future__ import annotations

from pathlib import Path

from mova.cli import console
from mova.errors import MediaError
from mova.files import atomic_write


def draw_sheet(
    output: Path, *, kinds: list[str] | None, per_kind: int, seed: int, size: tuple[int, int], fps: int, seconds: float
) -> None:
    """Render a few clips of each kind and draw their filmstrips, waveforms and events into one PNG."""
    from mova.scenes.kinds import KINDS, drawable_kinds, load_kinds
    from mova.scenes.world import render, sample_scripts, scene_sheet
    from mova.timeline import frames_in_seconds

    if not output.parent.is_dir():
        raise MediaError(f"the folder {output.parent} does not exist.", "Make it, or choose another -o.")
    wanted = load_kinds(kinds or tuple(drawable_kinds()))
    for kind in KINDS.values():
        if not kinds and not kind.is_drawable:
            console.say(f"{kind.name} is left out: it needs {kind.needs}; see docs/scenes.md")
    order = [kind.name for kind in wanted]
    frames = frames_in_seconds(seconds, fps)
    scripts = sorted(
        sample_scripts(seed, per_kind * len(wanted), kinds=wanted, seconds=frames / fps),
        key=lambda s: order.index(s.kind),
    )
    width, height = size
    clips = []
    line = console.ProgressLine("rendering")
    for number, script in enumerate(scripts, start=1):
        clips.append(render(script, width=width, height=height, fps=fps, num_frames=frames))
        line.update(number, len(scripts))
    try:
        with atomic_write(output) as beside:
            scene_sheet(clips).save(beside, format="PNG")
    except OSError as problem:
        raise MediaError(f"cannot write {output}: {problem}", "Choose another folder.") from problem
    drawn = f"{console.count(len(clips), 'clip')} of {console.count(len(wanted), 'kind')}"
    console.fact(f"{output}  {drawn}, {width}x{height}, {fps} fps")


def show_examples() -> None:
    """The kinds that mova-base knows, with prompts to start from."""
    from mova.checkpoints.layout import BASE_NAME, read_index, resolve_model
    from mova.scenes.kinds import KINDS

    for name in read_index(resolve_model(BASE_NAME)).capabilities.kinds:
        kind = KINDS[name]
        console.fact(f"{name}: {kind.description}")
        for prompt in kind.example_captions:
            console.fact(f'  mova generate "{prompt}"')
