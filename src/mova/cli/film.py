"""``mova film``: a shot list to one film; only what an edit touched is rendered."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mova.cli import console
from mova.cli.generate import REMEDIES, STAGES, clip_facts, loudness_words
from mova.cli.options import with_flag_names
from mova.errors import MovaError, RequestError

if TYPE_CHECKING:
    from mova.film.cache import ShotCache, ShotClip
    from mova.film.plan import FilmPlan
    from mova.film.render import ShotState
    from mova.film.shots import Film, Take
    from mova.generation.model import MOVAModel
    from mova.media.health.gate import Health, OnFault, Remedy
    from mova.progress import Progress


@dataclass(frozen=True)
class FilmOutput:
    """Where the film goes and how much is said.

    Args:
        path: Film to write.
        cache: Folder of finished shots; beside the shot list if ``None``.
        should_prune: Remove the finished shots of the folder that this film does not use.
        is_json: One JSON document on stdout instead of a line of facts.
        is_dry_run: Check and plan only.
        on_fault: What to do about a faulty shot (:mod:`mova.generation.run`).
        threads: Threads that compute on a CPU; torch's own number if ``None``.
    """

    path: Path
    cache: Path | None
    should_prune: bool
    is_json: bool
    is_dry_run: bool
    on_fault: OnFault = "keep"
    threads: int | None = None


def run(shots: Path, output: FilmOutput, *, retakes: Sequence[str], model: str | None) -> None:
    """Check everything, render what is missing, join, write, say what it is."""
    from mova.checkpoints.layout import read_index, resolve_model
    from mova.film.cache import ShotCache, model_key_of
    from mova.film.plan import plan_film
    from mova.film.render import shot_states
    from mova.film.shots import read_film
    from mova.media.encode import check_target
    from mova.media.health.gate import check_on_fault
    from mova.pipeline.reading import reader_of_folder

    try:
        check_on_fault(output.on_fault)
    except RequestError as problem:
        raise with_flag_names(problem) from None
    film = _with_retakes(read_film(shots), retakes)
    folder = resolve_model(model or film.model)
    capabilities = read_index(folder).capabilities
    plan = plan_film(film, capabilities, model_key=model_key_of(folder), read=reader_of_folder(folder, capabilities))
    width, height = plan.size
    check_target(output.path, width=width, height=height)
    cache = ShotCache(output.cache or shots.with_name(f"{shots.stem}.cache"))
    states = shot_states(plan, cache, on_fault=output.on_fault)
    _say_plan(plan, states, cache)
    if output.is_dry_run:
        _show_plan(plan, states, output)
        return
    _make(plan, cache, folder, output)
    for text in retakes:
        number, _, take = text.partition(":")
        console.say(f"to keep {text} in the film, write under shot {number}:  retakes: [{take!r}]")


def _make(plan: FilmPlan, cache: ShotCache, folder: Path, output: FilmOutput) -> None:
    from mova.film.cache import find_film_keys
    from mova.film.render import join_shots, render_shots
    from mova.generation.run import fault_words

    began = time.monotonic()
    rendered: set[int] = set()
    lines: dict[tuple[int, str], console.ProgressLine] = {}

    def load_model() -> MOVAModel:
        from mova.generation.model import MOVAModel
        from mova.runtime.options import RuntimeOptions

        begin = time.monotonic()
        model = MOVAModel.from_pretrained(folder, runtime=RuntimeOptions(threads=output.threads))
        console.say(f"loaded {plan.capabilities.name} in {time.monotonic() - begin:.1f} s")
        return model

    def on_progress(number: int, progress: Progress) -> None:
        rendered.add(number)
        label = f"shot {number}/{len(plan.shots)}: {STAGES.get(progress.stage, progress.stage)}"
        if progress.done == 0:  # a retake of the same shot begins again
            lines.pop((number, progress.stage), None)
        lines.setdefault((number, progress.stage), console.ProgressLine(label)).show(progress)

    def on_remedy(number: int, health: Health, remedy: Remedy) -> None:
        console.say(f"shot {number}/{len(plan.shots)}: {fault_words(health)}; next: {REMEDIES[remedy]}")

    finished = render_shots(plan, cache, load_model, on_fault=output.on_fault, on_progress=on_progress, on_remedy=on_remedy)
    shots = [
        _shot_facts(plan, index) | {"rendered": index + 1 in rendered, "health": _verdict(shot)}
        for index, shot in enumerate(finished)
    ]
    faulty = {number: shot.health for number, shot in enumerate(finished, start=1) if shot.health.faults}
    if faulty and output.on_fault == "fail":
        if output.is_json:
            console.facts_json({"file": None, "shots": shots})
        raise _refusal(output.path, faulty)
    clip = join_shots(plan, finished)
    written = clip.save(output.path)
    for number, health in faulty.items():
        console.say(f"warning: shot {number}: {fault_words(health)}; see --on-fault")
    if output.should_prune:
        there = find_film_keys(plan, cache, on_fault=output.on_fault)
        used = [key for keys in there if keys is not None for key in keys]
        console.say(f"removed {len(cache.prune(used))} finished shots that this film does not use from {cache.folder}")
    facts = clip_facts(clip, output.path, written.size_bytes, time.monotonic() - began) | {"shots": shots}
    if output.is_json:
        console.facts_json(facts)
    else:
        console.fact(_fact_line(facts))


def _with_retakes(film: Film, texts: Sequence[str]) -> Film:
    """The film with the retakes that were typed: ``2:audio:1.0-1.8`` each."""
    from mova.film.shots import parse_take

    takes: dict[int, tuple[Take, ...]] = {}
    try:
        for text in texts:
            number, colon, rest = text.partition(":")
            if not (colon and number.isascii() and number.isdigit() and len(number) < 6):
                raise RequestError(
                    f"retake takes SHOT:MODALITY:FROM-TO; got {text[:40]!r}.", "For example 2:audio:1.0-1.8.", field="retake"
                )
            takes[int(number)] = (*takes.get(int(number), ()), parse_take(rest))
        return film.with_takes(takes)
    except RequestError as problem:
        if problem.field != "retake":
            raise
        raise RequestError(f"--retake: {problem.message.removeprefix('retake ')}", problem.hint, field="retake") from None


def _say_plan(plan: FilmPlan, states: tuple[ShotState, ...], cache: ShotCache) -> None:
    from mova.generation.notes import notes_before

    width, height = plan.size
    missing = sum(state.state != "cached" for state in states)
    num_shots = console.count(len(states), "shot")
    console.say(
        f"{plan.capabilities.name}: {num_shots}, {width}x{height}, {console.count(plan.num_frames, 'frame')} "
        f"({float(plan.num_frames / plan.fps):.3f} s) at {float(plan.fps):g} fps, audio {plan.sample_rate} Hz; "
        f"{len(states) - missing} in {cache.folder}, {missing} to render" + _estimate_text(plan, states, cache)
    )
    for shot in plan.shots:
        request = shot.plan.request
        cues = [(cue.time_s, cue.label) for cue in request.cues or ()]
        for note in notes_before(shot.reading, cues, plan.capabilities):
            console.say(f"note: shot {shot.number}: {note}")


def _estimate_text(plan: FilmPlan, states: tuple[ShotState, ...], cache: ShotCache) -> str:
    work = sum(state.work for state in states)
    pace = cache.pace(plan.model_key) if work else None
    return "" if pace is None else f", about {console.clock_text(pace * work)} at the speed of those that are there"


def _show_plan(plan: FilmPlan, states: tuple[ShotState, ...], output: FilmOutput) -> None:
    if output.is_json:
        shots = [_shot_facts(plan, index) | {"state": state.state} for index, state in enumerate(states)]
        console.facts_json({"file": str(output.path), "num_frames": plan.num_frames, "shots": shots})
        return
    rows = []
    for shot, state in zip(plan.shots, states, strict=True):
        prompt = shot.plan.request.prompt
        shown = f"to render, unless shot {shot.number - 1} ends as before" if state.state == "waits" else state.state
        start = f"{float(plan.start_s(shot)):.4f}"
        name = prompt if len(prompt) <= 40 else prompt[:37] + "..."
        rows.append((str(shot.number), name, start, str(shot.num_frames), str(shot.plan.seed), shown))
    console.table(("shot", "prompt", "starts at (s)", "frames", "seed", "state"), rows, left=(1, 5))


def _shot_facts(plan: FilmPlan, index: int) -> dict[str, Any]:
    shot = plan.shots[index]
    return {
        "number": shot.number,
        "prompt": shot.plan.request.prompt,
        "first_frame": shot.first_frame,
        "first_sample": plan.span(shot)[0],
        "start_s": float(plan.start_s(shot)),
        "num_frames": shot.num_frames,
        "seed": shot.plan.seed,
    }


def _verdict(shot: ShotClip) -> dict[str, Any]:
    return {**shot.health.as_dict(), "remedies": list(shot.remedies)}


def _refusal(path: Path, faulty: Mapping[int, Health]) -> MovaError:
    from mova.generation.run import fault_words

    names = "; ".join(f"shot {number}: {fault_words(health)}" for number, health in faulty.items())
    return MovaError(f"{path} was not written: {names}.", "Give these shots another seed, or --on-fault repair, or keep.")


def _fact_line(fact: dict[str, Any]) -> str:
    rendered = sum(shot["rendered"] for shot in fact["shots"])
    faulty = sum(shot["health"]["verdict"] != "ok" for shot in fact["shots"])
    return (
        f"{fact['file']}  {console.count(len(fact['shots']), 'shot')}, {rendered} rendered, {faulty or 'none'} faulty, "
        f"{fact['width']}x{fact['height']}, {fact['seconds']:.3f} s at {fact['fps']:g} fps, {fact['bytes'] / 1000:.0f} kB, "
        f"{loudness_words(fact)}, made in {fact['seconds_taken']:.1f} s"
    )
