"""A run as one page that needs nothing else: no network, no scripts, and nothing of what it shows is taken for markup.

The headline stands first, then every number beside what it is held against, then the worst clips, so that they can be seen
and heard. Prompts and file names come from strangers: :mod:`mova.lab.suite.page` escapes all text.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from mova.errors import MovaError
from mova.lab.adherence.physics import PHYSICS
from mova.lab.suite import page
from mova.lab.suite.files import SUITE as FILES
from mova.lab.suite.page import safe
from mova.lab.suite.plots import event_raster, offset_histogram
from mova.lab.suite.results import ADHERENCE, BRIDGE_OFF, CONTROLS, COUNTERFACTUAL, clip_f1, offsets_ms
from mova.lab.suite.rows import Row
from mova.lab.suite.tables import ComparisonRow, Table, control_table, kind_table, number_table, pair_table, tracks_of
from mova.lab.suite.words import MISSING, counted, label, number, printable, span
from mova.lab.sync.scores import HEADLINE_WINDOW
from mova.lab.sync.summary import WINDOWS_MS, aligned_pairs
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
_CUT = " Bridge off: of the same clips made with picture and audio cut apart."


@dataclass(frozen=True)
class Card:
    """One clip.

    Args:
        title: Its prompt or file name.
        verdict: In two or three words.
        style: Of the verdict: ``"good"``, ``"warn"``, ``"bad"`` or none.
        facts: Names of what else was measured, and what came out.
        seen_s: Times seen.
        heard_s: Times heard.
        pairs_s: What belongs together.
        seconds: Its length.
        path: Its file; None if there is none to show.
    """

    title: str
    verdict: str
    style: str
    facts: Sequence[tuple[str, str]]
    seen_s: Sequence[float]
    heard_s: Sequence[float]
    pairs_s: Sequence[Sequence[float]]
    seconds: float
    path: Path | None


def render_report(document: Mapping[str, Any], media: Path) -> str:
    """The page of a run.

    Args:
        document: Its results.
        media: The folder that the rows' file names are in.
    """
    if document["suite"] != FILES:
        return page.page(f"mova eval: {document['model']}", _model_part(document, media))
    # the name alone: a page is passed on, and the path to it is nobody's business
    name = Path(document["folder"]).name
    return page.page(f"mova eval: {name if name not in ('', '..') else media.resolve().name}", _files_part(document, media))


def _model_part(document: Mapping[str, Any], media: Path) -> str:
    parts = [
        _headline(document),
        page.facts([(words, str(document[name])) for name, words in _FACTS.items() if name in document]),
    ]
    for track in tracks_of(document):
        words = f"{track.name}: {counted(track.made['num_clips'], 'clip')}"
        parts.append(f"<h2>{safe(words)}</h2>{_numbers(track, f'Every number of {track.name}')}")
        parts.append(f'<p class="note">{safe(_COLUMNS + (_CUT if track.cut else ""))}</p>')
        for name in (track.name, track.name + BRIDGE_OFF):
            rows = [row for row in document["clips"] if row["track"] == name]
            if rows:
                parts.append(f"<h3>Offsets: {safe(name)}</h3>{offset_histogram([offsets_ms(row) for row in rows])}")
        parts.append(f"<h3>By kind</h3>{page.grouped_table(kind_table(track), f'{track.name}, kind by kind')}")
        for kind, one in track.of_kinds().items():
            parts.append(f"<details><summary>{safe(kind)}</summary>{_numbers(one, f'{track.name}, {kind}')}</details>")
    if document[COUNTERFACTUAL]:
        table = page.number_table(pair_table(document), "In what share of the pairs it changes as it should")
        parts.append(f"<h2>Pairs of prompts that differ in one thing</h2>{table}")
    if document.get(CONTROLS):
        table = page.number_table(control_table(document), "How many events per clip were made where none should be")
        parts.append(f"<h2>Controls</h2>{table}")
    rows = [row for row in document["clips"] if not row["track"].endswith((BRIDGE_OFF, COUNTERFACTUAL, CONTROLS))]
    worst = sorted(rows, key=lambda row: (clip_f1(row), -max(map(abs, offsets_ms(row)), default=0.0)))[:MAX_CARDS]
    if worst:
        parts += ["<h2>Worst clips first</h2>", *_cards([_model_card(row, media) for row in worst])]
    return "".join(parts)


def _headline(document: Mapping[str, Any]) -> str:
    """The one number of a run, large, and what it means in words."""
    found = document["headline"]
    if found is None:
        return ""
    value, (low, high) = found["value"], found["interval"]
    low_ms, high_ms = WINDOWS_MS[HEADLINE_WINDOW]
    counts = f"Audio counts if it comes at most {-low_ms:.0f} ms before its picture or {high_ms:.0f} ms after it, where "
    counts += "nobody notices (ITU-R BT.1359)."
    if value is None:
        words = "Not measured: chance takes at least two clips of a kind."
    elif low is not None and low <= 0.0:
        words = f"Audio and picture of the clips of {found['track']} cannot be told from ones that have nothing to do with "
        words += f"each other. {counts}"
    else:
        words = (
            f"The clips of {found['track']} are {100.0 * value:.0f} % of the way from chance (0) to every audio in step with "
        )
        words += f"its picture (1). {counts}"
    known = "" if None in (low, high) else f" <span>95 % {safe(span(found['interval']))}</span>"
    return (
        f'<section class="headline" aria-label="headline"><p>Chance-corrected F1, {safe(found["track"])} '
        f'<code>{safe(found["name"])}</code></p><p class="value">{safe(number(value))}{known}</p><p>{safe(words)}</p></section>'
    )


def _numbers(track: ComparisonRow, caption: str) -> str:
    """The table of a track's numbers, by the names that results have."""
    table = number_table(track)
    rows = []
    for name, *cells in table.rows:
        raw = f"{name.removesuffix(', ms')}_ms" if name.endswith(", ms") else name
        rows.append([raw, *cells])
    return page.number_table(Table(table.header, rows), caption)


def _model_card(row: Row, media: Path) -> Card:
    heard = [time_s - row["lag_s"] for time_s in row["audio_s"]]
    pairs = [(row["video_s"][first], heard[second]) for first, second in aligned_pairs(row["video_s"], heard)]
    facts = [("track", row["track"]), ("kind", row["kind"])]
    for names, values in ((ADHERENCE, row["values"]), (PHYSICS, row["physics"])):
        facts += [(label(name).removesuffix(", share"), number(values[name])) for name in names if name in values]
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


def _files_part(document: Mapping[str, Any], media: Path) -> str:
    coverage, verdicts = document["coverage"], document["verdicts"]
    facts = [
        ("files", str(document["num_files"])),
        ("measured whole, share", f"{number(coverage['value'])}, 95 % {span(coverage['interval'])}"),
        ("sync", ", ".join(f"{verdicts[name]} {name}" for name in _VERDICTS if name in verdicts) or MISSING),
        ("with faults", str(document["num_faulty"])),
        ("version of the metrics", str(document["metrics_version"])),
    ]
    missing = [(one["file"], one["status"], one["why"].replace(f"{media}/", "")) for one in document["not_covered"]]
    parts = [page.facts(facts), page.text_table(Table(("file", "what", "why"), missing), "Not measured whole")]
    rows = document["clips"]
    apart = [[1000.0 * (heard - seen) for seen, heard in row["sync"]["pairs_s"]] for row in rows if "sync" in row]
    parts += ["<h2>Offsets</h2>", offset_histogram(apart)] if any(apart) else []
    values = [
        (name, _measured(name, number, found["value"]), _measured(name, span, found["interval"]), str(found["num_clips"]))
        for name, found in document["values"].items()
    ]
    parts += ["<h2>Measured</h2>", page.number_table(Table(("what", "mean", "95 %", "films"), values), "Mean over videos")]
    learned = [
        (
            one["name"],
            one["status"],
            ", ".join(f"{name} {number(value)}" for name, value in one["values"].items()) or MISSING,
            one["reason"],
        )
        for one in document["learned"]
    ]
    parts.append(page.text_table(Table(("metric", "status", "values", "why"), learned), "Metrics with weights"))
    worst = sorted((row for row in rows if row["status"] != "unreadable"), key=_video_rank)[:MAX_CARDS]
    parts += ["<h2>Worst videos first</h2>", *_cards([_video_card(row, media) for row in worst])]
    return "".join(parts)


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


def _cards(cards: Sequence[Card]) -> list[str]:
    found, num_players = [], 0
    for card in cards:
        clip = _clip(card)
        player = _player(card, clip) if num_players < MAX_PLAYERS else ""
        num_players += bool(player)
        raster = event_raster(card.seen_s, card.heard_s, card.pairs_s, seconds=card.seconds)
        words = f'<p class="badge {card.style}">{safe(card.verdict)}</p>{page.facts(card.facts)}'
        beside = f'<div class="beside">{player}<div>{words}</div></div>'
        found.append(f'<section class="clip"><h3>{safe(card.title)}</h3>{beside}{raster}{_sheet(card, clip)}</section>')
    return found


def _clip(card: Card) -> Clip | None:
    """The clip to be drawn; none where it is no whole clip, which its row says, or too long."""
    if card.path is None or card.seconds > MAX_SHEET_SECONDS:
        return None
    try:
        return read_clip(card.path)
    except MovaError:
        return None


def _player(card: Card, clip: Clip | None) -> str:
    """The video itself, if it is small and browsers play it; before it plays, its first frame."""
    kind = _PLAYED.get(card.path.suffix.lower()) if card.path is not None else None
    try:
        if card.path is None or kind is None or card.path.stat().st_size > MAX_PLAYER_BYTES:
            return ""
        video = page.data_uri(kind, card.path.read_bytes())
    except OSError:
        return ""
    poster = f' poster="{_jpeg(Image.fromarray(clip.frames[0]))}"' if clip is not None else ""
    size = f' width="{clip.frames.shape[2]}" height="{clip.frames.shape[1]}"' if clip is not None else ""
    return f'<video controls{size}{poster} aria-label="{safe(card.title)}" src="{video}"></video>'


def _sheet(card: Card, clip: Clip | None) -> str:
    """Waveform and spectrogram under videostrip."""
    if clip is None:
        return ""
    words = f"videostrip, waveform and spectrogram of {card.title}"
    return f'<img alt="{safe(words)}" src="{_jpeg(clip.sheet(title=printable(card.title)))}">'


def _jpeg(image: Image.Image) -> str:
    kept = io.BytesIO()
    image.save(kept, "JPEG", quality=82)
    return page.data_uri("image/jpeg", kept.getvalue())
