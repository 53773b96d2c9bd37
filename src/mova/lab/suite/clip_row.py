"""The row of a clip: what is measured of it, what that is worth by chance, and the floors that rendered clips leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mova.lab.read.events import Detection, Reading
from mova.lab.suite.measures import Measure, Subject, list_measures, values_of
from mova.lab.suite.results import ALL
from mova.lab.suite.rows import Row
from mova.lab.suite.tracks import ClipJob
from mova.lab.sync.floors import floor_of, score_floors
from mova.media.clip import Clip
from mova.scenes.clapper.scene import as_scene
from mova.scenes.script import Script
from mova.scenes.sound import synthesise
from mova.scenes.world import sample_scripts


def row_of(
    job: ClipJob,
    clip: Clip,
    *,
    file: str | None = None,
    seconds_taken: float = 0.0,
    measures: Sequence[Measure] | None = None,
) -> Row:
    """What is measured of a clip, as plain values.

    Args:
        job: What it was made for.
        clip: The clip, as the model gave it and not as a file holds it.
        file: Where it was written, beside the results.
        seconds_taken: Time that making it took.
        measures: What is measured; :func:`~mova.lab.suite.measures.list_measures` if None.
    """
    measures = list_measures() if measures is None else measures
    script, subject = job.script, Subject(job.script, clip)
    times = subject.verdict.times
    return {
        "key": job.key,
        "track": job.track,
        "kind": script.kind,
        "prompt": script.caption,
        "file": file,
        "seconds": float(clip.seconds),
        "video_s": list(times.video_s),
        "audio_s": list(times.audio_s),
        "lag_s": times.lag_s,
        "num_expected": len(script.events),
        "values": values_of(measures, subject),
        "chance": chance_values(script, clip, measures),
        "faults": list(subject.faults),
        "seconds_taken": round(seconds_taken, 3),
    }


def chance_values(script: Script, clip: Clip, measures: Sequence[Measure] | None = None) -> dict[str, float]:
    """What the clip is worth if another scene of its kind was asked for, or with that scene's audio.

    The other scene follows from the script, so that the number of a clip does not depend on which others were made.
    """
    measures = list_measures() if measures is None else measures
    other = next(sample_scripts(script.seed, 1, [script.definition or script.kind], seconds=script.seconds))
    found = values_of([one for one in measures if one.chance == "script"], Subject(other, clip))
    by_audio = [one for one in measures if one.chance == "audio" and one.is_of(script.kind)]
    if not by_audio:
        return found
    waveform = synthesise(other, sample_rate=clip.sample_rate, num_samples=clip.waveform.shape[1])
    return found | values_of(by_audio, Subject(script, replace(clip, waveform=waveform)))


def codec_floors(
    scripts: Sequence[Script], rows: Sequence[Row], measures: Sequence[Measure] | None = None
) -> dict[str, dict[str, float]]:
    """The floor of every number, of all kinds together and of each, from what the codecs leave of the truth.

    Args:
        scripts: What was rendered.
        rows: Rows of the track ``floor``, in the order of the scripts.
        measures: What was measured; :func:`~mova.lab.suite.measures.list_measures` if None.
    """
    measures = list_measures() if measures is None else measures
    pairs = list(zip(scripts, rows, strict=True))
    kinds = dict.fromkeys(script.kind for script in scripts)
    by_kind = {kind: _floors([pair for pair in pairs if pair[0].kind == kind], measures) for kind in kinds}
    return {ALL: _floors(pairs, measures), **by_kind}


def _floors(pairs: Sequence[tuple[Script, Row]], measures: Sequence[Measure]) -> dict[str, float]:
    """Of all pairs of a script and its row together."""
    readings = [Reading(_detections(row["video_s"]), _detections(row["audio_s"])) for _, row in pairs]
    found = score_floors(floor_of([as_scene(script) for script, _ in pairs], readings))
    for one in measures:
        measured = [(row["values"][one.name], script) for script, row in pairs if row["values"].get(one.name) is not None]
        if one.floor is not None and measured:
            found[one.name] = one.floor(*zip(*measured, strict=True))
    return found


def _detections(times_s: Sequence[float]) -> tuple[Detection, ...]:
    return tuple(Detection(time_s, "", 1.0) for time_s in times_s)
