"""How a run is shown: its numbers in words, as tables of text (the same in a terminal and on a page), and as plots."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mova.lab.documents import printable as printable
from mova.lab.suite.measures import MEASURES, Measure, list_measures
from mova.lab.suite.results import BRIDGE_OFF, CONTROLS, COUNTERFACTUAL
from mova.lab.sync.pairing import WINDOWS_MS

MISSING = "-"
WORDS: Mapping[str, str] = {
    "abs_offset_ms": "distance of audio from picture, ms",
    "metal_decay_s": "metal for wood: how long it rings",
    "metal_centroid_hz": "metal for wood: how bright it sounds",
    "size_body_hz": "small for large: how high it sounds",
    "count_events_seen": "one event more: events seen",
    "count_events_heard": "one event more: events heard",
    "heard_in_silence": "sounds made to a silent video, per clip",
    "seen_off_screen": "events shown to audio out of sight, per clip",
    "health.num_faults": "faults, number",
    "video.flicker": "absence of flicker (1 is still)",
    "video.motion_px_s": "motion, pixels per second",
    "video.jerk_px_s3": "jerk of the motion, pixels per cubed second",
    "video.still_ratio": "frames as the one before, share",
    "video.black_ratio": "black frames, share",
    "video.blur": "sharpness (below 60 is soft)",
    "video.blockiness": "blockiness (1 is none)",
    "video.luma": "brightness, 0 to 255",
    "video.contrast": "contrast, 0 to 255",
    "video.crushed_ratio": "pixels too dark, share",
    "video.blown_ratio": "pixels too bright, share",
    "audio.loudness_lufs": "loudness, LUFS",
    "audio.peak_db": "highest sample, dB of full scale",
    "audio.true_peak_db": "true peak, dB of full scale",
    "audio.rms_db": "mean level, dB of full scale",
    "audio.crest_db": "peak over mean level, dB",
    "audio.dc_offset": "constant offset, of full scale",
    "audio.clip_ratio": "clipped samples, share",
    "audio.silence_ratio": "silence, share",
    "audio.quiet_ratio": "quiet beside the loud, share",
    "audio.bandwidth_hz": "highest frequency, Hz",
    "audio.snr_db": "sounds above the noise, dB",
    "audio.stereo_correlation": "likeness of left and right (1 is mono)",
    "avalign.score": "AV-Align (comparisons only)",
    "avalign.chance": "AV-Align by chance",
    "fidelity.psnr_db": "picture against the reference, PSNR, dB",
    "fidelity.ssim": "picture against the reference, SSIM (1 is alike)",
    "fidelity.mel": "audio from the reference, log-mel distance",
    "fidelity.stft": "audio from the reference, spectral distance",
    "fidelity.si_sdr_db": "audio against the reference, SI-SDR, dB",
}
"""What numbers are that are no measures of a model's clips, with their units, in plain words."""


def label(name: str, measures: Sequence[Measure] = MEASURES) -> str:
    """A number's name in words; one that nobody put into words, such as a learned metric's, stays as it is.

    Args:
        name: Name of the number; sync of videos goes by the name behind the dot.
        measures: Whose words are known.
    """
    words = {**WORDS, **{one.name: one.words for one in measures}}
    return words.get(name) or words.get(name.removeprefix("sync."), name)


def pluralise(count: int, one: str) -> str:
    """So many of a thing, in the plural where it is one: ``1 clip``, ``2 clips``."""
    return f"{count} {one}{'' if count == 1 else 's'}"


def number(value: float | None, unit: str = "") -> str:
    """A number with as many digits as it is worth: milliseconds with one, shares with three; ``-`` if there is none."""
    if value is None or not math.isfinite(value):
        return MISSING
    if unit:
        return f"{value:+.1f}"
    return f"{value:.3f}" if abs(value) < 100.0 else f"{value:.1f}"


def span(interval: Any, unit: str = "") -> str:
    """An interval, low to high; ``-`` if there is none."""
    low, high = interval
    words = number(low, unit), number(high, unit)
    return MISSING if MISSING in words else f"{words[0]} to {words[1]}"


Numbers = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; the first column is left-aligned."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class ComparisonRow:
    """A set of clips, and what its numbers are held against.

    Args:
        name: Name of its track.
        made: Numbers of the clips.
        codec: Numbers of rendered clips after the model's codecs.
        cut: Numbers of the same clips made with the bridge off; None if there are none.
    """

    name: str
    made: Numbers
    codec: Numbers
    cut: Numbers | None

    def of_kinds(self) -> dict[str, ComparisonRow]:
        """The same, kind by kind."""
        return {
            kind: ComparisonRow(self.name, made, self.codec["by_kind"][kind], self.cut["by_kind"][kind] if self.cut else None)
            for kind, made in self.made["by_kind"].items()
        }


def tracks_of(document: Mapping[str, Any]) -> list[ComparisonRow]:
    """The tracks of the results of a model, those with the bridge off beside the others."""
    tracks = document["tracks"]
    return [
        ComparisonRow(name, track, document["codec"], tracks.get(name + BRIDGE_OFF))
        for name, track in tracks.items()
        if not name.endswith(BRIDGE_OFF)
    ]


def number_table(track: ComparisonRow, measures: Sequence[Measure] | None = None) -> Table:
    """Every measure with its interval, and beside it by chance, of the codecs, with the bridge off, and its floor.

    Args:
        track: The clips and what they are held against.
        measures: In their order; :func:`~mova.lab.suite.measures.list_measures` if None.
    """
    header = ["score", "value", "95 %", "chance", "codec", *(["bridge off"] if track.cut else []), "floor", "clips"]
    rows = []
    for name in [one.name for one in (list_measures() if measures is None else measures)]:
        found = number_of(track.made, name)
        if found is None:
            continue
        unit, others = found.get("unit", ""), [track.codec, *([track.cut] if track.cut else [])]
        values = [value_of(one, name) for one in others]
        rows.append(
            [
                name,
                _cell(name, found["value"], unit),
                _unsigned(name, span(found["interval"], unit)),
                *(_cell(name, value, unit) for value in (found["chance"], *values)),
                _cell("", found["floor"], unit),
                str(found.get("num_clips", track.made["num_clips"])),
            ]
        )
    return Table(header, rows)


def kind_table(track: ComparisonRow, measures: Sequence[Measure] | None = None) -> Table:
    """One line a kind for the clips, by chance, of the codecs and with the bridge off; intervals are in the results.

    What no kind is measured for has no column. Arguments are those of :func:`number_table`.
    """
    rows, kinds = [], track.of_kinds()
    sides = [side for one in kinds.values() for side in (one.made, one.codec)]
    headings = {one.name: one.heading for one in (list_measures() if measures is None else measures) if one.heading}
    names = [name for name in headings if any(number_of(side, name) for side in sides)]
    for kind, one in kinds.items():
        chance = {name: found["chance"] for name in names if (found := number_of(one.made, name))}
        lines = {
            track.name: {name: value_of(one.made, name) for name in names},
            "chance": chance,
            "codec": {name: value_of(one.codec, name) for name in names},
        }
        if one.cut:
            lines["bridge off"] = {name: value_of(one.cut, name) for name in names}
        for what, values in lines.items():
            rows.append([kind if what == track.name else "", what, *(_short(name, values.get(name)) for name in names)])
    return Table(("kind", "", *(headings[name] for name in names)), rows)


def pair_table(document: Mapping[str, Any]) -> Table:
    """One line for everything that must change with a prompt: in what share of the pairs it does, the right way."""
    rows = [
        (
            name,
            number(one["value"]),
            span(one["interval"]),
            *(number(one[beside]) for beside in ("chance", "codec", "floor")),
            str(one["num_pairs"]),
        )
        for name, one in document[COUNTERFACTUAL].items()
    ]
    return Table(("changes as it should", "share", "95 %", "chance", "codec", "floor", "pairs"), rows)


def control_table(document: Mapping[str, Any]) -> Table:
    """One line a control: how many events per clip were made where none should be."""
    rows = [
        (name, number(one["value"]), span(one["interval"]), number(one["floor"]), str(one["num_clips"]))
        for name, one in document[CONTROLS].items()
    ]
    return Table(("made where nothing should be", "per clip", "95 %", "floor", "clips"), rows)


def number_of(numbers: Numbers, name: str) -> Numbers | None:
    """A score, or a mean over clips: value, interval, chance, floor; None if nothing asked for it."""
    found: Numbers | None = numbers["numbers"].get(name)
    return found


def value_of(numbers: Numbers, name: str) -> float | None:
    """Its value alone."""
    found = number_of(numbers, name)
    return None if found is None else found["value"]


def _cell(name: str, value: float | None, unit: str) -> str:
    return _unsigned(name, number(value, unit))


def _unsigned(name: str, words: str) -> str:
    """A sign says late or early; the size of something has none."""
    return words if name.startswith(("offset", "drift")) else words.replace("+", "")


def _short(name: str, value: float | None) -> str:
    words = number(value, "ms" if name.endswith("_ms") else "")
    return words.replace("+", "") if name.endswith("_ms") or words == MISSING else f"{value:.2f}"


DETECTABLE_MS, ACCEPTABLE_MS = WINDOWS_MS["bt1359_detectability"], WINDOWS_MS["bt1359_acceptability"]
_LEFT, _RIGHT = 64.0, 884.0
_HALF_MS, _BIN_MS = 400.0, 10.0
_PLOT, _PANEL, _RUG, _RASTER = 150, 22, 18, 92


@dataclass
class Plot:
    """What is drawn, in this order: boxes, lines, texts. All coordinates are in units of the plot, from its top left.

    Args:
        height: Height of the plot.
        label: What it shows, in words.
        width: Width of the plot.
        boxes: Left, top, width, height and style.
        lines: Both ends and style.
        texts: Place, words and anchor (``"start"``, ``"middle"``, ``"end"``).
    """

    height: float
    label: str = ""
    width: int = 900
    boxes: list[tuple[float, float, float, float, str]] = field(default_factory=list)
    lines: list[tuple[float, float, float, float, str]] = field(default_factory=list)
    texts: list[tuple[float, float, str, str]] = field(default_factory=list)

    def box(self, left: float, top: float, right: float, bottom: float, style: str) -> None:
        """Add a box that is never too narrow to be seen."""
        self.boxes.append((round(left, 1), round(top, 1), round(max(right - left, 0.5), 1), round(bottom - top, 1), style))

    def upright(self, x: float, top: float, bottom: float, style: str) -> None:
        """Add a line from top to bottom."""
        self.lines.append((round(x, 1), top, round(x, 1), bottom, style))

    def text(self, x: float, y: float, words: str, *, anchor: str = "start") -> None:
        """Add words."""
        self.texts.append((round(x, 1), y, words, anchor))


def offset_histogram(clips_ms: Sequence[Sequence[float]]) -> Plot:
    """How far pairs of events are apart, against the two windows of ITU-R BT.1359, and the median of each clip below.

    The median of all pairs is a line only where pairs are: between two groups it would mark what no pair has.

    Args:
        clips_ms: Offsets of each clip, heard less seen of its pairs, positive if the audio is late; those beyond 400 ms are
            drawn at the ends.
    """
    edges = np.arange(-_HALF_MS, _HALF_MS + _BIN_MS, _BIN_MS)
    clips = [own for offsets in clips_ms if (own := [offset for offset in offsets if math.isfinite(offset)])]
    known = [offset for own in clips for offset in own]
    counts, _ = np.histogram(_inside(known), edges)
    top, bottom = _PANEL, _PANEL + _PLOT
    plot = Plot(bottom + _RUG + 42)
    plot.box(_LEFT, top, _RIGHT, bottom, "panel")
    for (low_ms, high_ms), style in ((ACCEPTABLE_MS, "acceptable"), (DETECTABLE_MS, "detectable")):
        plot.box(_offset_x(low_ms), top, _offset_x(high_ms), bottom, style)
    highest = max(int(counts.max()), 1)
    for left_ms, count in zip(edges, counts, strict=False):
        if count:
            height = int(count) / highest * (_PLOT - 8)
            plot.box(_offset_x(left_ms), bottom - height, _offset_x(left_ms + _BIN_MS) - 1.0, bottom, "bar")
    middle = ""
    if known:
        middle_ms = float(np.median(known))
        middle = f"median {middle_ms:+.0f} ms"
        drawn_ms = float(_inside([middle_ms])[0])
        if counts[int((drawn_ms + _HALF_MS) // _BIN_MS)]:
            plot.upright(_offset_x(drawn_ms), top, bottom, "median")
        else:
            middle += ", between groups: no pair is there"
    for one_ms in _inside([float(np.median(own)) for own in clips]):
        plot.upright(_offset_x(one_ms), bottom + 3, bottom + _RUG - 3, "rug")
    for mark_ms in (-300.0, *ACCEPTABLE_MS, *DETECTABLE_MS, 0.0, 300.0):
        plot.text(_offset_x(mark_ms), bottom + _RUG + 14, f"{mark_ms:+.0f}" if mark_ms else "0", anchor="middle")
    plot.text(_LEFT - 8, top + 12, str(highest), anchor="end")
    plot.text(_LEFT - 8, bottom + 13, "clips", anchor="end")
    plot.text(_LEFT, top - 7, "green: nobody notices; brown: acceptable (BT.1359)")
    plot.text(_RIGHT, top - 7, middle, anchor="end")
    plot.text(_LEFT, bottom + _RUG + 33, "audio after picture, ms (+ is late); ticks below the bars: the median of each clip")
    plot.label = ", ".join(part for part in (f"histogram of {pluralise(len(known), 'offset')}", middle) if part)
    return plot


def event_raster(
    seen_s: Sequence[float], heard_s: Sequence[float], pairs_s: Sequence[Sequence[float]], *, seconds: float
) -> Plot:
    """What is seen over what is heard, on one axis of time, with a line for each pair: blue where nobody notices it.

    Args:
        seen_s: Times seen.
        heard_s: Times heard; a lag that the scene means is taken off.
        pairs_s: Times ``(seen, heard)`` of what belongs together.
        seconds: Length of the axis.
    """
    length = max(seconds, 0.1)

    def across(time_s: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * min(max(time_s / length, 0.0), 1.0), 1)

    plot = Plot(_RASTER, f"{pluralise(len(seen_s), 'event')} seen, {len(heard_s)} heard, {pluralise(len(pairs_s), 'pair')}")
    for times_s, style, top in ((seen_s, "seen", 4), (heard_s, "heard", 52)):
        plot.box(_LEFT, top, _RIGHT, top + 26, "panel")
        plot.text(_LEFT - 8, top + 17, style, anchor="end")
        for time_s in times_s:
            plot.upright(across(time_s), top + 2, top + 24, style)
    for seen, heard in pairs_s:
        is_near = DETECTABLE_MS[0] <= 1000.0 * (heard - seen) <= DETECTABLE_MS[1]
        plot.lines.append((across(seen), 30, across(heard), 52, "near" if is_near else "far"))
    step = next((step for step in (0.25, 0.5, 1, 2, 5, 10, 20, 60) if length / step <= 12), 300)
    for index in range(int(length / step) + 1):
        plot.text(across(index * step), 90, f"{index * step:g} s", anchor="middle")
    return plot


def _inside(offsets_ms: Sequence[float]) -> npt.NDArray[np.float64]:
    """Offsets, those beyond the ends of the axis drawn to its ends."""
    return np.clip(np.asarray(offsets_ms, dtype=np.float64), -_HALF_MS + 1.0, _HALF_MS - 1.0)


def _offset_x(offset_ms: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * (offset_ms + _HALF_MS) / (2.0 * _HALF_MS)
