"""How a page is set: elements that need nothing else, in which no text is taken for markup, and their style."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence

from mova.lab.suite.tables import Table
from mova.lab.suite.words import label, printable

_POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def page(title: str, body: str) -> str:
    """A whole page, whose own policy forbids whatever is not in it.

    Args:
        title: Text.
        body: Elements.
    """
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{safe(title)}</title><style>{_STYLE}</style></head><body><main><h1>{safe(title)}</h1>{body}</main></body></html>\n"
    )


def safe(text: object) -> str:
    """Text as text."""
    return html.escape(printable(text), quote=True)


def named(name: str) -> str:
    """A number's name in words, and the name that files have for it, small."""
    words = label(name)
    return f"<code>{safe(name)}</code>" if words == name else f"{safe(words)} <code>{safe(name)}</code>"


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Names and what they are, each on a line of its own; what has no name belongs to the name before it."""
    lines = [(f"<dt>{safe(name)}</dt>" if name else "") + f"<dd>{safe(words)}</dd>" for name, words in pairs]
    return f"<dl>{''.join(lines)}</dl>" if lines else ""


def number_table(table: Table, caption: str) -> str:
    """A table of numbers, of which the first column is names of numbers: in words, and scrolled where the page is narrow."""
    rows = "".join(f'<tr><th scope="row">{named(name)}</th>{_cells(cells)}</tr>' for name, *cells in table.rows)
    return _table(table.header, rows, caption, style="numbers")


def grouped_table(table: Table, caption: str) -> str:
    """A table of numbers whose first column names a group of lines, in the first of them, and the second the line."""
    starts = [index for index, row in enumerate(table.rows) if row[0]]
    parts = []
    for start, end in zip(starts, [*starts[1:], len(table.rows)], strict=True):
        head = f'<th scope="rowgroup" rowspan="{end - start}">{safe(table.rows[start][0])}</th>'
        lines = [f'<th scope="row">{safe(line)}</th>{_cells(cells)}' for _, line, *cells in table.rows[start:end]]
        parts.append(f"<tbody><tr>{head}{'</tr><tr>'.join(lines)}</tr></tbody>")
    return _table([name or "of" for name in table.header], "".join(parts), caption, style="numbers kinds")


def text_table(table: Table, caption: str) -> str:
    """A table of words; nothing if there are none."""
    rows = [f'<tr><th scope="row">{safe(name)}</th>{_cells(cells)}</tr>' for name, *cells in table.rows]
    return _table(table.header, "".join(rows), caption, style="words") if rows else ""


def data_uri(kind: str, content: bytes) -> str:
    """A file inside a page."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _table(header: Sequence[str], rows: str, caption: str, *, style: str) -> str:
    head = "".join(f'<th scope="col">{safe(cell)}</th>' for cell in header)
    body = rows if rows.startswith("<tbody>") else f"<tbody>{rows}</tbody>"
    inside = f'<table class="{style}"><caption>{safe(caption)}</caption><thead><tr>{head}</tr></thead>{body}</table>'
    # a box that can be scrolled must be reached by the keyboard, and then has to say what it is
    return f'<div class="wide" role="region" tabindex="0" aria-label="{safe(caption)}">{inside}</div>'


def _cells(cells: Sequence[str]) -> str:
    return "".join(f"<td>{safe(cell)}</td>" for cell in cells)


_STYLE = """
:root{color-scheme:light dark;--ink:#1b1e24;--faint:#5c626e;--paper:#fff;--panel:#f0f2f5;--line:#d4d8de;
--bar:#2f6fae;--seen:#24774b;--far:#c2334c;--well:#dcf2e3;--well-ink:#14532d;--warn:#fdeecb;--warn-ink:#6b4500;
--bad:#fbdcdf;--bad-ink:#7f1420}
@media (prefers-color-scheme:dark){:root{--ink:#e2e5eb;--faint:#9aa0ac;--paper:#111318;--panel:#1c2028;--line:#343a46;
--bar:#5b9bd8;--seen:#4fb07c;--far:#f0788c;--well:#143d26;--well-ink:#b9ecca;--warn:#46340a;--warn-ink:#f7dd9a;
--bad:#521820;--bad-ink:#ffc9ce}}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:1080px;margin:0 auto;padding:16px}
h1,h2,h3,p,dd{overflow-wrap:anywhere}
h2{margin:2.2em 0 .4em}h3{margin:1.2em 0 .4em}
.headline{background:var(--panel);border:1px solid var(--line);border-radius:10px;padding:16px 20px;margin:16px 0}
.headline p{margin:0;max-width:46rem}
.headline .value{font-size:2.8rem;line-height:1.2;font-weight:650;font-variant-numeric:tabular-nums}
.headline .value span{font-size:1.1rem;font-weight:400;color:var(--faint);display:inline-block}
.note,caption{color:var(--faint);font-size:.9rem}.note{max-width:46rem}
dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:2px 16px;margin:10px 0}
dt{color:var(--faint)}dd{margin:0;grid-column:2}
.wide{overflow-x:auto;margin:12px 0}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
caption{text-align:left;padding:4px 0}
td,th{padding:5px 14px 5px 0;border-bottom:1px solid var(--line);text-align:left;vertical-align:top;font-weight:400}
thead th{color:var(--faint);font-size:.9rem;white-space:nowrap}
.numbers td,.numbers thead th{text-align:right;white-space:nowrap}
.numbers th:first-child,.kinds thead th:nth-child(2){text-align:left}
.kinds th{white-space:nowrap}.kinds td,.kinds th{font-size:.88rem;padding-right:10px}
tbody th[scope=row]{min-width:9rem}.kinds tbody th[scope=row]{min-width:0}.words td:last-child{min-width:14rem}
code{font:.8rem ui-monospace,monospace;color:var(--faint);white-space:nowrap}
summary{cursor:pointer;padding:4px 0}
section.clip{border-top:1px solid var(--line);padding:4px 0 20px}
.beside{display:flex;flex-wrap:wrap;gap:8px 24px}.beside>div{flex:1 1 18rem;min-width:0}
.badge{display:inline-block;border-radius:99px;padding:1px 12px;margin:0;font-weight:600;background:var(--panel);
border:1px solid var(--line)}
.good{background:var(--well);color:var(--well-ink)}.warn{background:var(--warn);color:var(--warn-ink)}
.bad{background:var(--bad);color:var(--bad-ink)}
video{flex:1 1 26rem;width:100%;min-width:0;max-width:34rem;height:auto;max-height:22rem;align-self:flex-start;
background:#111318;border-radius:8px}
svg,img{display:block;width:100%;height:auto;margin:10px 0}
img{box-sizing:border-box;border:1px solid var(--line);border-radius:8px;background:#111318}
svg text{font:13px system-ui,sans-serif;fill:var(--faint)}
.panel{fill:var(--panel)}.acceptable{fill:#b8860b;fill-opacity:.22}.detectable{fill:#2e8b57;fill-opacity:.3}
.bar{fill:var(--bar)}.median{stroke:var(--ink);stroke-width:2}.rug{stroke:var(--ink);stroke-opacity:.5;stroke-width:2}
.near{stroke:var(--bar)}.far{stroke:var(--far);stroke-width:2}
.seen{stroke:var(--seen);stroke-width:3}.heard{stroke:var(--bar);stroke-width:3}
""".replace("\n", "")
