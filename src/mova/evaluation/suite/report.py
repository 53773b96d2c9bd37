"""A run as one page that needs nothing else: no network, no scripts, and nothing of what it shows is taken for markup.

Prompts and file names come from strangers: all text is escaped, and the page's own policy forbids whatever is not in it.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mova.errors import MovaError
from mova.evaluation.suite.files import SUITE as FILES
from mova.evaluation.suite.plots import event_raster, offset_histogram
from mova.evaluation.suite.results import ADHERENCE, BRIDGE_OFF, COUNTERFACTUAL, clip_f1, offsets_ms
from mova.evaluation.suite.rows import Row
from mova.evaluation.suite.tables import Table, kind_table, number_table, pair_table, tracks_of
from mova.evaluation.suite.words import number, printable, span
from mova.evaluation.sync import aligned_pairs
from mova.media.decode import read_clip

REPORT = "report.html"
MAX_CARDS, MAX_PLAYERS, MAX_PLAYER_BYTES = 12, 6, 2_000_000
MAX_SHEET_SECONDS = 60.0
_PLAYED = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm"}
_POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_VERDICTS = ("not acceptable", "noticeable", "cannot tell", "in step")  # worst first


@dataclass(frozen=True)
class Card:
    """One clip.

    Args:
        title: Its prompt or file name.
        facts: What was measured.
        seen_s: Times seen.
        heard_s: Times heard.
        pairs_s: What belongs together.
        seconds: Its length.
        path: Its file; None if there is none to show.
    """

    title: str
    facts: str
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
    is_files = document["suite"] == FILES
    title = f"mova eval: {document['folder'] if is_files else document['model']}"
    body = _files_part(document, media) if is_files else _model_part(document, media)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_safe(title)}</title><style>{_STYLE}</style></head><body><main><h1>{_safe(title)}</h1>{body}</main></body></html>\n"
    )


def _model_part(document: Mapping[str, Any], media: Path) -> str:
    names = ("suite", "seed", "num_clips", "steps", "weights", "mova", "made", "metrics_version")
    parts = [_facts([f"{name.replace('_', ' ')} {document[name]}" for name in names if name in document])]
    for track in tracks_of(document):
        parts.append(f"<h2>{_safe(track.name)}: {track.made['num_clips']} clips</h2>{_wide(number_table(track))}")
        for name in (track.name, track.name + BRIDGE_OFF):
            rows = [row for row in document["clips"] if row["track"] == name]
            if rows:
                title = f"<h3>{_safe(name)}</h3>" if track.cut else ""
                parts.append(title + offset_histogram([offset for row in rows for offset in offsets_ms(row)]))
        parts.append(f"<h3>By kind</h3>{_wide(kind_table(track))}")
        for kind, one in track.of_kinds().items():
            parts.append(f"<details><summary>{_safe(kind)}</summary>{_wide(number_table(one))}</details>")
    if document[COUNTERFACTUAL]:
        parts.append(f"<h2>Pairs of prompts that differ in one thing</h2>{_wide(pair_table(document))}")
    rows = [row for row in document["clips"] if not row["track"].endswith((BRIDGE_OFF, COUNTERFACTUAL))]
    worst = sorted(rows, key=lambda row: (clip_f1(row), -max(map(abs, offsets_ms(row)), default=0.0)))[:MAX_CARDS]
    if worst:
        parts += ["<h2>Worst clips first</h2>", *_cards([_model_card(row, media) for row in worst])]
    return "".join(parts)


def _model_card(row: Row, media: Path) -> Card:
    heard = [time_s - row["lag_s"] for time_s in row["audio_s"]]
    pairs = [(row["video_s"][first], heard[second]) for first, second in aligned_pairs(row["video_s"], heard)]
    asked = [f"{name} {number(row['values'][name])}" for name in ADHERENCE if name in row["values"]]
    facts = [row["track"], row["kind"], f"F1 {clip_f1(row):.2f}", *asked, *row["faults"]]
    path = media / row["file"] if row["file"] is not None else None
    return Card(row["prompt"], ", ".join(facts), row["video_s"], heard, pairs, row["seconds"], path)


def _files_part(document: Mapping[str, Any], media: Path) -> str:
    coverage, verdicts = document["coverage"], document["verdicts"]
    facts = [f"{document['num_files']} files", f"coverage {number(coverage['value'])}, 95 % {span(coverage['interval'])}"]
    facts += [f"{verdicts[name]} {name}" for name in _VERDICTS if name in verdicts]
    parts = [_facts([*facts, f"{document['num_faulty']} with faults", f"metrics version {document['metrics_version']}"])]
    missing = [(one["file"], one["status"], one["why"]) for one in document["not_covered"]]
    parts.append(_table(Table(("counted against coverage", "", ""), missing)))
    rows = document["clips"]
    apart = [1000.0 * (heard - seen) for row in rows if "sync" in row for seen, heard in row["sync"]["pairs_s"]]
    parts += ["<h2>Offsets</h2>", offset_histogram(apart)] if apart else []
    values = [
        (name, number(found["value"]), span(found["interval"]), str(found["num_clips"]))
        for name, found in document["values"].items()
    ]
    parts += ["<h2>Measured</h2>", _table(Table(("metric", "mean", "95 %", "films"), values))]
    learned = [
        (
            one["name"],
            one["status"],
            ", ".join(f"{name} {number(value)}" for name, value in one["values"].items()),
            one["reason"],
        )
        for one in document["learned"]
    ]
    parts.append(_table(Table(("with weights", "", "", ""), learned)))
    worst = sorted((row for row in rows if row["status"] != "unreadable"), key=_film_rank)[:MAX_CARDS]
    parts += ["<h2>Worst films first</h2>", *_cards([_film_card(row, media) for row in worst])]
    return "".join(parts)


def _film_rank(row: Row) -> tuple[int, float, int]:
    sync = row.get("sync")
    if sync is None:
        return 2, 0.0, -len(row["faults"])
    return _VERDICTS.index(sync["verdict"]), -abs(sync["offset_ms"] or 0.0), -len(row["faults"])


def _film_card(row: Row, media: Path) -> Card:
    sync = row.get("sync") or {"verdict": row["status"], "why": row["why"], "seen_s": [], "heard_s": [], "pairs_s": []}
    facts = [part for part in (f"{sync['verdict']}: {sync['why']}", row.get("prompt"), *row["faults"]) if part]
    return Card(
        row["file"], "; ".join(facts), sync["seen_s"], sync["heard_s"], sync["pairs_s"], row["seconds"], media / row["file"]
    )


def _cards(cards: Sequence[Card]) -> list[str]:
    found, num_players = [], 0
    for card in cards:
        player = _player(card.path) if num_players < MAX_PLAYERS else ""
        num_players += bool(player)
        raster = event_raster(card.seen_s, card.heard_s, card.pairs_s, seconds=card.seconds)
        words = f"<h3>{_safe(card.title)}</h3><p>{_safe(card.facts)}</p>"
        found.append(f"<section>{words}{player}{raster}{_sheet(card)}</section>")
    return found


def _player(path: Path | None) -> str:
    """The film itself, if it is small and browsers play it."""
    kind = _PLAYED.get(path.suffix.lower()) if path is not None else None
    try:
        if path is None or kind is None or path.stat().st_size > MAX_PLAYER_BYTES:
            return ""
        return f'<video controls src="{_data_uri(kind, path.read_bytes())}"></video>'
    except OSError:
        return ""


def _sheet(card: Card) -> str:
    """Waveform under filmstrip; nothing for what is no whole clip, which its row says."""
    if card.path is None or card.seconds > MAX_SHEET_SECONDS:
        return ""
    try:
        image = read_clip(card.path).sheet(title=printable(card.title))
    except MovaError:
        return ""
    kept = io.BytesIO()
    image.save(kept, "JPEG", quality=82)
    return f'<img alt="filmstrip, waveform and spectrogram" src="{_data_uri("image/jpeg", kept.getvalue())}">'


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _facts(facts: Sequence[str]) -> str:
    return f"<p>{_safe(', '.join(facts))}</p>"


def _table(table: Table) -> str:
    if not table.rows:
        return ""
    head = "".join(f"<th>{_safe(cell)}</th>" for cell in table.header)
    rows = "".join("<tr>" + "".join(f"<td>{_safe(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _wide(table: Table) -> str:
    """A table that is scrolled where the page is too narrow for it."""
    return f'<div class="wide">{_table(table)}</div>'


def _safe(text: object) -> str:
    return html.escape(printable(text), quote=True)


_STYLE = """
:root{color-scheme:light dark;--ink:#1b1e24;--faint:#666c78;--paper:#fff;--panel:#f0f2f5;--line:#d4d8de}
@media (prefers-color-scheme:dark){:root{--ink:#e2e5eb;--faint:#9aa0ac;--paper:#111318;--panel:#1c2028;--line:#2e333d}}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:940px;margin:0 auto;padding:16px}
h1,h2,h3,p,td,th{overflow-wrap:anywhere}
table{border-collapse:collapse;margin:12px 0;font-variant-numeric:tabular-nums}
td,th{padding:3px 12px 3px 0;text-align:right;border-bottom:1px solid var(--line)}
td:first-child,th:first-child{text-align:left}
.wide{overflow-x:auto;white-space:nowrap}summary{cursor:pointer}
section{border-top:1px solid var(--line);padding:8px 0 16px}
svg,img{display:block;width:100%;height:auto;margin:8px 0}
video{display:block;max-width:100%;min-width:240px;max-height:360px}
svg text{font:12px system-ui,sans-serif;fill:var(--faint)}
.panel{fill:var(--panel)}.acceptable{fill:#b8860b;fill-opacity:.22}.detectable{fill:#2e8b57;fill-opacity:.3}
.bar{fill:#3a7dbd}.median{stroke:var(--ink);stroke-width:2}
.near{stroke:#3a7dbd}.far{stroke:#d1495b;stroke-width:2}
.seen{stroke:#2e8b57;stroke-width:3}.heard{stroke:#3a7dbd;stroke-width:3}
""".replace("\n", "")
