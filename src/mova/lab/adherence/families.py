"""Is a clip what its caption asked for? One value in 0..1 for each thing that a caption of a family can name.

    traits = read_traits(clip, family=scene.family)
    adherence_of(scene, traits)             # {"count_seen": 1.0, "colour": 1.0, "material": 0.75, "tempo_seen": None, ...}

Only what the caption says is asked for: None is "not asked", and what could not be read is 0. Chance is what another scene's
video is worth against this scene's caption, within the family; the floor is what the meter takes off true videos.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mova.lab.adherence.judge import constraints_of
from mova.lab.read.events import Detection
from mova.lab.read.traits import VOICES_HZ, Traits
from mova.lab.sync.scores import NUM_CHANCE_ROUNDS, Number, share_floor
from mova.lab.sync.summary import mean_interval
from mova.scenes.clapper.scene import ClapperScene
from mova.scenes.kinds import KINDS

ADHERENCE = (
    "count_seen",
    "count_heard",
    "colour",
    "material",
    "pitch",
    "order_seen",
    "order_heard",
    "tempo_seen",
    "tempo_heard",
)
"""Every value. ``count``: 1 if there are as many events as asked. ``colour``: 1 if the subject has the colours asked.
``material``: share of the sounds that are nearest to the floor asked, among all floors as the scenes render them. ``pitch``:
share of the sounds with the note or the voice asked; of keys, in their places. ``order``: longest common run of pads or keys,
with gaps, over the longer of the two. ``tempo``: 1 if the mean rate is within 15 % of that asked."""
TEMPO = 1.15
"""A mean rate off by at most this factor is right; captions round to 5 a minute."""


@dataclass(frozen=True)
class Asked:
    """What a scene's caption says; None where it says nothing.

    Args:
        count: Of events.
        colours: Of the subject.
        material: Of the floor.
        pitch: Note or voice of every audio.
        order: Of pads or keys.
        has_notes: Whether ``order`` is one of notes.
        per_minute: Mean rate of events.
    """

    count: int | None = None
    colours: frozenset[str] | None = None
    material: str | None = None
    pitch: str | None = None
    order: tuple[str, ...] | None = None
    has_notes: bool = False
    per_minute: float | None = None


def request_from_video(scene: ClapperScene) -> Asked:
    """What the caption of a scene asks for; its attributes tell how to read the words."""
    given, words = scene.attributes, set(scene.caption.replace(",", " ").replace(":", " ").split())
    if scene.picture.kind not in KINDS:  # the captions of the suite's own pictures name everything
        return Asked(
            count=int(given["count"]),
            colours=frozenset(str(given[name]) for name in ("colour", "colour2") if name in given),
            pitch=str(given["note"]) if "note" in given else None,
            per_minute=float(given["per_minute"]) if "per_minute" in given else None,
        )
    wish = constraints_of(scene.picture)
    voice = str(given.get("voice", ""))
    return Asked(
        count=wish.count,
        colours=wish.colours,
        material=wish.sound if scene.picture.kind == "ball" else None,
        pitch=voice if voice in VOICES_HZ and voice in words else None,
        order=wish.sequence,
        has_notes=scene.picture.kind == "piano",
    )


def adherence_of(scene: ClapperScene, traits: Traits) -> dict[str, float | None]:
    """How far a clip is what a scene's caption asked for.

    Args:
        scene: Of a family with sync.
        traits: Read from the clip, as a clip of the same family.

    Returns:
        By the names of :data:`ADHERENCE`; None where the caption asks for nothing.
    """
    asked = request_from_video(scene)
    seen, heard = traits.reading.seen, traits.reading.heard
    labels = tuple(one.label for one in heard)
    sung = traits.voices if asked.pitch in VOICES_HZ else labels
    values: dict[str, float | None] = dict.fromkeys(ADHERENCE)
    if asked.count is not None:
        values["count_seen"], values["count_heard"] = float(len(seen) == asked.count), float(len(heard) == asked.count)
    if asked.colours is not None:
        values["colour"] = float(traits.colours == asked.colours)
    if asked.material is not None:
        values["material"] = _share(labels, asked.material)
    if asked.pitch is not None:
        values["pitch"] = _share(sung, asked.pitch)
    if asked.order is not None:
        values["order_seen"] = _common(tuple(one.label for one in seen), asked.order)
        values["order_heard"] = _common(labels, asked.order)
        if asked.has_notes:
            right = sum(one == other for one, other in zip(labels, asked.order, strict=False))
            values["pitch"] = right / max(len(labels), len(asked.order))
    if asked.per_minute is not None:
        values["tempo_seen"], values["tempo_heard"] = (_keeps(found, asked.per_minute) for found in (seen, heard))
    return values


def score_adherence(
    scenes: Sequence[ClapperScene],
    traits: Sequence[Traits],
    *,
    floors: Mapping[str, float] | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Number]:
    """Mean of every value over the clips that were asked for it.

    Args:
        scenes: What was asked for.
        traits: Of the clip of each.
        floors: By name, from :func:`adherence_floors`.
        num_resamples: Of the bootstrap over clips.
        seed: Of the bootstrap and of the choice of other videos.

    Returns:
        By the names of :data:`ADHERENCE` that any caption asks for. The chance level is that of up to ``NUM_CHANCE_ROUNDS``
        other videos of the family for each caption; nan where there are none.

    Raises:
        ValueError: If there are no clips, or not as many of the one as of the other.
    """
    own, by_chance = _tables(scenes, traits, seed)
    numbers = {}
    for name in ADHERENCE:
        values = [value for row in own if (value := row[name]) is not None]
        others = [value for row in by_chance if (value := row[name]) is not None]
        if values:
            numbers[name] = Number(
                value=float(np.mean(values)),
                interval=mean_interval(values, num_resamples=num_resamples, seed=seed),
                chance=float(np.mean(others)) if others else float("nan"),
                floor=(floors or {}).get(name, float("nan")),
                unit="",
            )
    return numbers


def adherence_floors(scenes: Sequence[ClapperScene], traits: Sequence[Traits]) -> dict[str, float]:
    """What the meter takes off true videos: 1 less their mean, but at least one clip of all.

    Args:
        scenes: What was asked for.
        traits: Read from the true video of each, through a codec if that is what is to be told.

    Raises:
        ValueError: As :func:`score_adherence`.
    """
    own, _ = _tables(scenes, traits, 0)
    columns = {name: [value for row in own if (value := row[name]) is not None] for name in ADHERENCE}
    return {name: share_floor(values) for name, values in columns.items() if values}


Values = Mapping[str, float | None]


def _tables(scenes: Sequence[ClapperScene], traits: Sequence[Traits], seed: int) -> tuple[list[Values], list[Values]]:
    """The values of every clip, and those of other videos of its family against the same caption."""
    if not scenes or len(scenes) != len(traits):
        raise ValueError(f"adherence needs clips and the scenes of all; got {len(scenes)} scenes and {len(traits)} clips.")
    own: list[Values] = []
    by_chance: list[Values] = []
    for index, (scene, found) in enumerate(zip(scenes, traits, strict=True)):
        own.append(adherence_of(scene, found))
        others = [place for place, other in enumerate(scenes) if other.family == scene.family and place != index]
        chosen = np.random.default_rng([seed, index]).permutation(others)[:NUM_CHANCE_ROUNDS]
        by_chance += [adherence_of(scene, traits[int(place)]) for place in chosen]
    return own, by_chance


def _share(labels: Sequence[str], asked: str) -> float:
    return sum(label == asked for label in labels) / len(labels) if labels else 0.0


def _common(found: Sequence[str], asked: Sequence[str]) -> float:
    """Length of the longest common subsequence over the longer of the two."""
    lengths = np.zeros((len(found) + 1, len(asked) + 1), np.int64)
    for row, one in enumerate(found):
        for column, other in enumerate(asked):
            around = max(lengths[row, column + 1], lengths[row + 1, column])
            lengths[row + 1, column + 1] = lengths[row, column] + 1 if one == other else around
    return float(lengths[-1, -1] / max(len(found), len(asked), 1))


def _keeps(found: Sequence[Detection], per_minute: float) -> float:
    """Whether the mean rate of events is the one asked for."""
    if len(found) < 2 or found[-1].time_s <= found[0].time_s:
        return 0.0
    rate = 60.0 * (len(found) - 1) / (found[-1].time_s - found[0].time_s)
    return float(1.0 / TEMPO <= rate / per_minute <= TEMPO)
