"""What is worth knowing of a prompt before and after a clip is made of it: how it is read, and where that may be wrong."""

from __future__ import annotations

from collections.abc import Sequence

from mova.conditioning.prepare import Prepared
from mova.request.plan import Capabilities
from mova.scenes.kind import Kind
from mova.scenes.prompts import are_known, read_as_known
from mova.scenes.script import MIN_GAP_S

Cues = Sequence[tuple[float, str]]


def notes_on(prepared: Prepared, capabilities: Capabilities, made: Cues | None = None) -> list[str]:
    """Notes on what is asked and given, and, once it was made, on the cues that were planned.

    Args:
        prepared: What to make.
        capabilities: What the model can make.
        made: Times and labels with which the clip was made; None before that.
    """
    request = prepared.plan.request
    given = [(cue.time_s, cue.label) for cue in request.cues or ()]
    after = notes_after(request.prompt, made, capabilities) if made and request.cues is None else []
    useless = (
        []
        if request.fit == "exact" or set(request.inputs) - {request.audio}
        else [f"fit={request.fit}: no image or video is given"]
    )
    return [*prepared.notes, *useless, *notes_before(request.prompt, given, capabilities), *after]


def notes_before(prompt: str, cues: Cues, capabilities: Capabilities) -> list[str]:
    """Notes on a prompt and the cues that are given with it.

    Args:
        prompt: What to see and hear.
        cues: Times and labels that the user gives.
        capabilities: What the model can make.
    """
    if not are_known(capabilities.kinds):
        return []
    name, known = capabilities.name, ", ".join(capabilities.kinds)
    reading = read_as_known(prompt, capabilities.kinds)
    if reading.kind is None:
        return [f"this prompt is outside what {name} knows (English prompts of {known}); see `mova examples`"]
    notes, read_as = [], f"read as {reading.kind.name}"
    nearest = f'; nearest: "{reading.caption}"' if reading.caption else ""
    if reading.is_foreign:
        words = ", ".join(repr(word) for word in reading.unread[:5])
        notes.append(
            f"most words of this prompt are outside what {name} knows (English prompts of {known}): {words}; {read_as}{nearest}"
        )
    elif reading.unread:
        words = ", ".join(repr(word) for word in reading.unread[:5])
        notes.append(f"{read_as}; not in the captions that {name} learnt from: {words}{nearest}")
    elif not reading.is_caption:
        notes.append(f"{read_as}; phrased otherwise than the captions that {name} learnt from{nearest}")
    if reading.others:
        notes.append(f"{read_as}; words of it also name {', '.join(reading.others)}, and {name} knows no negation")
    return notes + _cue_notes(cues, reading.kind)


def notes_after(prompt: str, planned: Cues, capabilities: Capabilities) -> list[str]:
    """Notes on the cues that the model planned for a prompt: of another kind, order or number.

    Args:
        prompt: What to see and hear.
        planned: Times and labels.
        capabilities: What the model can make.
    """
    reading = read_as_known(prompt, capabilities.kinds)
    if reading.kind is None or not planned:
        return []
    notes, labels = [], [label for _, label in planned]
    strange = sorted({label for label in labels if label and label not in reading.kind.labels})
    if strange:
        notes.append(
            f"the prompt reads as {reading.kind.name}, and the planned cues {', '.join(strange)} are of other kinds; give --cue"
        )
    if reading.number is not None and reading.number != len(labels):
        notes.append(f"the prompt says {reading.number}, and {len(labels)} are planned; give --cue for each")
    elif reading.order and labels != list(reading.order):
        notes.append(f"the prompt names {', '.join(reading.order)}, and {', '.join(labels)} are planned; give --cue for each")
    return notes


def _cue_notes(cues: Cues, kind: Kind) -> list[str]:
    notes = []
    strange = sorted({label for _, label in cues if label and label not in kind.labels})
    if strange:
        notes.append(f"{kind.name} has no {', '.join(strange)}; its labels are {', '.join(kind.labels)}")
    times = sorted(time_s for time_s, _ in cues)
    close = [(one, other) for one, other in zip(times, times[1:], strict=False) if other - one < MIN_GAP_S - 1e-9]
    if close:
        notes.append(
            f"cues at {close[0][0]:g} and {close[0][1]:g} s are nearer than {MIN_GAP_S:g} s, the least that the model learnt "
            "from; they may become one event"
        )
    return notes
