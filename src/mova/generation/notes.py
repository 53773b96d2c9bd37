"""What is worth knowing of a prompt before and after a clip is made of it: what cannot be kept, and where it may be wrong."""

from __future__ import annotations

from collections.abc import Sequence

from mova.conditioning.prepare import Prepared
from mova.request.plan import Capabilities
from mova.request.reading import PromptReading
from mova.scenes.kind import Kind
from mova.scenes.prompts import kinds_known
from mova.scenes.script import MIN_GAP_S

Cues = Sequence[tuple[float, str]]
UNSURE = 0.5
"""A reading of less confidence is said to be unsure."""


def notes_on(prepared: Prepared, capabilities: Capabilities, made: Cues | None = None) -> list[str]:
    """Notes on what is asked and given, and, once it was made, on the cues that were planned.

    Args:
        prepared: What to make.
        capabilities: What the model can make.
        made: Times and labels with which the clip was made; None before that.
    """
    request = prepared.plan.request
    given = [(cue.time_s, cue.label) for cue in request.cues or ()]
    after = notes_after(prepared.reading, made, capabilities) if made and request.cues is None else []
    useless = (
        []
        if request.fit == "exact" or set(request.inputs) - {request.audio}
        else [f"fit={request.fit}: no image or video is given"]
    )
    return [*prepared.notes, *useless, *notes_before(prepared.reading, given, capabilities), *after]


def notes_before(reading: PromptReading | None, cues: Cues, capabilities: Capabilities) -> list[str]:
    """Notes on a prompt and the cues that are given with it.

    Args:
        reading: What was understood of the prompt; ``None`` if it was not read.
        cues: Times and labels that the user gives.
        capabilities: What the model can make.
    """
    if reading is None:
        return []
    if reading.kind is None:
        known = ", ".join(capabilities.kinds)
        return [f"this prompt is outside what {capabilities.name} knows ({known}); see `mova examples`"]
    notes = [f"not kept: {one}" for one in reading.unsupported]
    if reading.confidence < UNSURE:
        notes.append(f"unsure of how the prompt is read ({100 * reading.confidence:.0f} %); say it otherwise, or take it as_is")
    return notes + _cue_notes(cues, kinds_known(capabilities.kinds)[reading.kind])


def notes_after(reading: PromptReading | None, planned: Cues, capabilities: Capabilities) -> list[str]:
    """Notes on the cues that the model planned for a prompt: of another kind, order or number.

    Args:
        reading: What was understood of the prompt; ``None`` if it was not read.
        planned: Times and labels.
        capabilities: What the model can make.
    """
    if reading is None or reading.kind is None or not planned:
        return []
    kind = kinds_known(capabilities.kinds)[reading.kind]
    notes, labels = [], [label for _, label in planned]
    strange = sorted({label for label in labels if label and label not in kind.labels})
    if strange:
        notes.append(
            f"the prompt reads as {kind.name}, and the planned cues {', '.join(strange)} are of other kinds; give --cue"
        )
    number, order = reading.events.number, reading.events.order
    if number is not None and number != len(labels):
        notes.append(f"the prompt says {number}, and {len(labels)} are planned; give --cue for each")
    elif order and labels != list(order):
        notes.append(f"the prompt names {', '.join(order)}, and {', '.join(labels)} are planned; give --cue for each")
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
