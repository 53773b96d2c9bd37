"""A run as one page that needs nothing else: no network, no scripts, and nothing of what it shows is taken for markup.

The headline stands first, then every number beside what it is held against, then the worst clips, so that they can be seen
and heard. Prompts and file names come from strangers: the template, ``report.html`` beside this file, escapes all text.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from mova.errors import MovaError
from mova.lab.documents import printable, render_page
from mova.lab.suite.files import SUITE as FILES
from mova.lab.suite.measures import Measure, list_measures
from mova.lab.suite.results import BRIDGE_OFF, CONTROLS, COUNTERFACTUAL, Row, clip_f1, offsets_ms
from mova.lab.suite.tables import (
    MISSING,
    ComparisonRow,
    Table,
    control_table,
    event_raster,
    kind_table,
    label,
    number,
    number_table,
    offset_histogram,
    pair_table,
    pluralise,
    span,
    tracks_of,
)
from mova.lab.sync.pairing import WINDOWS_MS, match_aligned
from mova.lab.sync.scores import HEADLINE_WINDOW
from mova.media.clip import Clip
from mova.media.decode import read_clip

REPORT = "report.html"
MAX_CARDS, MAX_PLAYERS, MAX_PLAYER_BYTES = 12, 6, 2_000_000
MAX_SHEET_SECONDS = 60.0
_PLAYED = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm"}
_VERDICTS = ("not acceptable", "noticeable", "cannot tell", "in step")  # worst first
_STYLES = {"not acceptable": "bad", "noticeable": "warn", "in step": "good"}
_FACTS = {
    "num_clips": "prompts",
    "suite": "suite",
    "seed": "seed",
    "steps": "steps",
    "made": "made",
    "weights": "weights",
    "mova": "version of mova",
    "metrics_version": "version of the metrics",
}
_COLUMNS = (
    "Chance: the same score of pictures with the sounds of other clips; of what prompts ask for, of another scene's prompt. "
    "Codec: of rendered clips, in step, after the model's own codecs: what the model can reach. "
    "Floor: how far that is from perfect; a difference below it says nothing."
)
_CUT = " Bridge off: of the same clips made without the bridge between video and audio."


Card = dict[str, Any]
"""One clip: ``title``, ``verdict`` with its ``style``, ``facts``, times ``seen_s``, ``heard_s`` and ``pairs_s``, ``seconds``
and ``path``: its file, None if there is none to show."""


def render_report(document: Mapping[str, Any], media: Path, measures: Sequence[Measure] | None = None) -> str:
    """The page of a run.

    Args:
        document: Its results.
        media: The folder that the rows' file names are in.
        measures: Those of the clips of models; :func:`~mova.lab.suite.measures.list_measures` if None.
    """
    measures = list_measures() if measures is None else measures
    if document["suite"] == FILES:
        # the name alone: a page is passed on, and the path to it is nobody's business
        name = Path(document["folder"]).name
        title = f"mova eval: {name if name not in ('', '..') else media.resolve().name}"
        values = _files_values(document, media)
    else:
        title, values = f"mova eval: {document['model']}", _model_values(document, media, measures)
    known = {"title": title, "label": partial(label, measures=measures)}
    return render_page(Path(__file__).with_name("report.html"), {**_NOTHING, **values, **known})


_NOTHING: Mapping[str, Any] = {
    "headline": None, "tracks": (), "missing": None, "offsets": None, "more_numbers": (), "learned": None,
}  # fmt: skip


def _model_values(document: Mapping[str, Any], media: Path, measures: Sequence[Measure]) -> dict[str, Any]:
    """What the template shows of a model."""
    rows = [row for row in document["clips"] if not row["track"].endswith((BRIDGE_OFF, COUNTERFACTUAL, CONTROLS))]
    worst = sorted(rows, key=lambda row: (clip_f1(row), -max(map(abs, offsets_ms(row)), default=0.0)))[:MAX_CARDS]
    pairs, controls = document.get(COUNTERFACTUAL), document.get(CONTROLS)
    more = [
        ("Pairs of prompts that differ in one thing", "In what share of the pairs it changes as it should", pair_table, pairs),
        ("Controls", "How many events per clip were made where none should be", control_table, controls),
    ]
    return {
        "headline": _headline(document["headline"]),
        "summary": [(words, str(document[name])) for name, words in _FACTS.items() if name in document],
        "tracks": [_track(track, document, measures) for track in tracks_of(document)],
        "more_numbers": [(heading, caption, table(document)) for heading, caption, table, found in more if found],
        "cards_title": "Worst clips first",
        "cards": _cards([_model_card(row, media, measures) for row in worst]),
    }


def _track(track: ComparisonRow, document: Mapping[str, Any], measures: Sequence[Measure]) -> dict[str, Any]:
    rows = {end: [row for row in document["clips"] if row["track"] == track.name + end] for end in ("", BRIDGE_OFF)}
    kinds = kind_table(track, measures)
    starts = [index for index, row in enumerate(kinds.rows) if row[0]]
    groups = [kinds.rows[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]
    return {
        "name": track.name,
        "title": f"{track.name}: {pluralise(track.made['num_clips'], 'clip')}",
        "note": _COLUMNS + (_CUT if track.cut else ""),
        "numbers": number_table(track, measures),
        "offsets": [(track.name + end, offset_histogram(list(map(offsets_ms, own)))) for end, own in rows.items() if own],
        "kinds": {"header": kinds.header, "groups": [(group[0][0], group) for group in groups]},
        "of_kinds": [(kind, number_table(one, measures)) for kind, one in track.of_kinds().items()],
    }


def _headline(found: Mapping[str, Any] | None) -> dict[str, str] | None:
    """The one number of a run, and what it means in words."""
    if found is None:
        return None
    value, (low, high) = found["value"], found["interval"]
    low_ms, high_ms = WINDOWS_MS[HEADLINE_WINDOW]
    counts = f"Audio counts if it comes at most {-low_ms:.0f} ms before its picture or {high_ms:.0f} ms after it, where "
    counts += "nobody notices (ITU-R BT.1359)."
    if value is None:
        words = "Not measured: chance takes at least two clips of a kind."
    elif low is not None and low <= 0.0:
        words = f"Audio and video of the clips of {found['track']} cannot be distinguished from unrelated ones. {counts}"
    else:
        words = f"The clips of {found['track']} are {100.0 * value:.0f} % of the way from chance (0) to every audio in step "
        words += f"with its picture (1). {counts}"
    known = "" if None in (low, high) else span(found["interval"])
    return {"track": found["track"], "name": found["name"], "value": number(value), "interval": known, "words": words}


def _model_card(row: Row, media: Path, measures: Sequence[Measure]) -> Card:
    heard = [time_s - row["lag_s"] for time_s in row["audio_s"]]
    pairs = [(row["video_s"][first], heard[second]) for first, second in match_aligned(row["video_s"], heard)]
    facts = [("track", row["track"]), ("kind", row["kind"])]
    shown = [one for one in measures if one.name in row["values"] and one.name != "whole"]
    facts += [(one.words.removesuffix(", share"), number(row["values"][one.name])) for one in shown]
    return Card(
        title=row["prompt"],
        verdict=f"F1 {clip_f1(row):.2f}",
        style="",
        facts=[*facts, *_faults(row)],
        seen_s=row["video_s"],
        heard_s=heard,
        pairs_s=pairs,
        seconds=row["seconds"],
        path=media / row["file"] if row["file"] is not None else None,
    )


def _files_values(document: Mapping[str, Any], media: Path) -> dict[str, Any]:
    """What the template shows of a folder of videos."""
    coverage, verdicts, rows = document["coverage"], document["verdicts"], document["clips"]
    missing = [(one["file"], one["status"], one["why"].replace(f"{media}/", "")) for one in document["not_covered"]]
    apart = [[1000.0 * (heard - seen) for seen, heard in row["sync"]["pairs_s"]] for row in rows if "sync" in row]
    values = [
        (name, _measured(name, number, found["value"]), _measured(name, span, found["interval"]), str(found["num_clips"]))
        for name, found in document["values"].items()
    ]
    learned = [
        (
            one["name"],
            one["status"],
            ", ".join(f"{name} {number(value)}" for name, value in one["values"].items()) or MISSING,
            one["reason"],
        )
        for one in document["learned"]
    ]
    worst = sorted((row for row in rows if row["status"] not in ("unreadable", "not measured")), key=_video_rank)[:MAX_CARDS]
    return {
        "summary": [
            ("files", str(document["num_files"])),
            ("measured whole, share", f"{number(coverage['value'])}, 95 % {span(coverage['interval'])}"),
            ("sync", ", ".join(f"{verdicts[name]} {name}" for name in _VERDICTS if name in verdicts) or MISSING),
            ("with faults", str(document["num_faulty"])),
            ("version of the metrics", str(document["metrics_version"])),
        ],
        "missing": Table(("file", "what", "why"), missing),
        "offsets": offset_histogram(apart) if any(apart) else None,
        "more_numbers": [("Measured", "Mean over videos", Table(("what", "mean", "95 %", "videos"), values))],
        "learned": Table(("metric", "status", "values", "why"), learned),
        "cards_title": "Worst videos first",
        "cards": _cards([_video_card(row, media) for row in worst]),
    }


def _measured(name: str, words: Callable[[Any, str], str], value: Any) -> str:
    """Milliseconds as such, with a sign where it says late or early."""
    unit = "ms" if name.endswith(("_ms", "_ms_per_s")) else ""
    found = words(value, unit)
    return found if name.endswith((".offset_ms", "_per_s")) else found.replace("+", "")


def _video_rank(row: Row) -> tuple[int, float, int]:
    sync = row.get("sync")
    if sync is None:
        return 2, 0.0, -len(row["faults"])
    return _VERDICTS.index(sync["verdict"]), -abs(sync["offset_ms"] or 0.0), -len(row["faults"])


def _video_card(row: Row, media: Path) -> Card:
    sync = row.get("sync") or {"verdict": row["status"], "why": row["why"], "seen_s": [], "heard_s": [], "pairs_s": []}
    facts = [("prompt", row.get("prompt")), ("sync", sync["why"])]
    if "sync" in row and row["status"] != "ok":
        facts.append(("status", f"{row['status']}{': ' if row['why'] else ''}{row['why']}"))
    return Card(
        title=row["file"],
        verdict=sync["verdict"],
        style=_STYLES.get(sync["verdict"], ""),
        facts=[*((name, words) for name, words in facts if words), *_faults(row)],
        seen_s=sync["seen_s"],
        heard_s=sync["heard_s"],
        pairs_s=sync["pairs_s"],
        seconds=row["seconds"],
        path=media / row["file"],
    )


def _faults(row: Row) -> list[tuple[str, str]]:
    """Each fault on its own line."""
    return [("fault" if index == 0 else "", fault) for index, fault in enumerate(row["faults"])]


def _cards(cards: Sequence[Card]) -> list[dict[str, Any]]:
    """Cards as the template shows them, the first few with the video itself, if it is small and browsers play it."""
    found, num_players = [], 0
    for card in cards:
        path, clip = card["path"], _clip(card)
        video = _video(path) if path is not None and num_players < MAX_PLAYERS else ""
        num_players += bool(video)
        times = (card[name] for name in ("seen_s", "heard_s", "pairs_s"))
        pictures: dict[str, Any] = {"poster": "", "sheet": ""}
        if clip is not None:
            pictures = {"poster": _jpeg(Image.fromarray(clip.frames[0])), "size": (clip.width, clip.height)}
            pictures["sheet"] = _jpeg(clip.sheet(title=printable(card["title"])))
        raster = event_raster(*times, seconds=card["seconds"])
        found.append({**card, **pictures, "video": video, "raster": raster})
    return found


def _clip(card: Card) -> Clip | None:
    """The clip to be drawn; none where it is no whole clip, which its row says, or too long."""
    if card["path"] is None or card["seconds"] > MAX_SHEET_SECONDS:
        return None
    try:
        return read_clip(card["path"])
    except MovaError:
        return None


def _video(path: Path) -> str:
    """A video inside the page; empty if it is too large, cannot be read, or is of a kind that browsers do not play."""
    kind = _PLAYED.get(path.suffix.lower())
    try:
        return _data_uri(kind, path.read_bytes()) if kind is not None and path.stat().st_size <= MAX_PLAYER_BYTES else ""
    except OSError:
        return ""


def _jpeg(image: Image.Image) -> str:
    kept = io.BytesIO()
    image.save(kept, "JPEG", quality=82)
    return _data_uri("image/jpeg", kept.getvalue())


def _data_uri(kind: str, content: bytes) -> Markup:
    """A file inside a page; base64 has nothing to escape."""
    return Markup(f"data:{kind};base64,{base64.b64encode(content).decode()}")
