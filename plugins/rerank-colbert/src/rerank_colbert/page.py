"""Token matches as a page: each text with its matched tokens shaded, and its matrix of similarities as a table."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Sequence
from typing import Final

from rerank import RankedResults, Result, visible
from rerank_colbert.heatmap import HeatMap, heat_map
from rerank_colbert.highlight import Match, Piece, highlight, outside, shorten
from rerank_colbert.labels import LABEL, ROWS, cut

CHARACTERS: Final = 100_000
"""How many characters of the query and of each text a page shows at most."""

MARKS: Final = 10_000
"""How many matches a page marks in a text at most; each query token has one."""

_NAME: Final = 200
"""How wide the name of a model is at most."""


def as_html(ranked: RankedResults) -> str:
    """A page without scripts and without anything to load: each document with its matched tokens shaded, and its matrix.

    A shaded token names its matches when the pointer rests on it. Of a text longer than `CHARACTERS` the page shows what
    surrounds the matches, of such a query the beginning; "…" stands for the rest.

    Args:
        ranked: A ranking whose results have ``details["matches"]``, and ``details["matrix"]`` for the heat maps.

    Returns:
        The page; it can be written as UTF-8 whatever the texts contain.
    """
    query = "".join(_escape(piece.text) for piece in _pieces(ranked.query, []))
    origin = " · ".join(_escape(cut(visible(name), _NAME)) for name in (ranked.model, ranked.backend) if name)
    articles = "\n".join(map(_article, ranked))
    return f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{query}</title>
<style>
{_STYLE}</style>
</head>
<body>
<header>
<h1 dir="auto">{query}</h1>
<p>{origin}</p>
<p>The stronger the colour of a token, the more of its document's score comes from it. Rest the pointer on one to see
which tokens of the query it matches.</p>
</header>
{articles}
</body>
</html>
"""


_STYLE: Final = """\
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1f2328; --faint: #656d76; --line: #d8dee4; --strong: #f28c28;
}
@media (prefers-color-scheme: dark) {
  :root { --paper: #15181c; --ink: #e6e8eb; --faint: #9aa3ad; --line: #343a41; --strong: #b3560c; }
}
body {
  margin: 2rem auto; padding: 0 1.25rem; max-width: 64rem;
  background: var(--paper); color: var(--ink); font: 1rem/1.65 system-ui, sans-serif;
}
h1 { font-size: 1.5rem; line-height: 1.3; margin: 0 0 .25rem; overflow-wrap: anywhere; }
header p, .note { color: var(--faint); font-size: .875rem; margin: .25rem 0; overflow-wrap: anywhere; }
article { border-top: 1px solid var(--line); margin-top: 1.5rem; padding-top: 1rem; }
h2 { display: flex; gap: 1rem; font-size: 1rem; margin: 0; overflow-wrap: anywhere; }
h2 .score { font-variant-numeric: tabular-nums; }
h2 .id { color: var(--faint); font-weight: normal; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; margin: .5rem 0; }
mark { color: inherit; border-radius: .2em; }
mark, td { background: color-mix(in oklab, var(--strong) var(--w), var(--paper)); }
summary { cursor: pointer; color: var(--faint); font-size: .875rem; }
.heat { overflow-x: auto; padding: .5rem 0; }
table { border-collapse: separate; border-spacing: 1px; font-size: .75rem; line-height: 1.2; }
th { font-weight: normal; white-space: nowrap; unicode-bidi: isolate; }
th[scope="col"] { writing-mode: vertical-rl; transform: rotate(180deg); text-align: start; padding: .3rem 0 0; }
th[scope="row"] { position: sticky; left: 0; background: var(--paper); text-align: end; padding: 0 .4rem; }
td { min-width: 1.15rem; height: 1.15rem; padding: 0; }
td.best { outline: 2px solid var(--ink); outline-offset: -2px; }
"""


def _article(result: Result) -> str:
    matches = result.details["matches"]
    score = "" if result.score is None else f"{result.score:.4f}"
    text = "".join(map(_marked, _pieces(result.text, matches)))
    elsewhere = ", ".join(map(_explain, outside(result.text, matches)[:ROWS]))
    note = f'\n<p class="note">Outside the text: {_escape(elsewhere)}</p>' if elsewhere else ""
    heat = heat_map(result)
    return f"""\
<article>
<h2><span>{result.rank}</span> <span class="score">{score}</span> \
<span class="id">{_escape(cut(visible(str(result.doc_id)), 100))}</span></h2>
<div class="text" dir="auto">{text}</div>{note}{_table(heat) if heat else ""}
</article>"""


def _pieces(text: str, matches: Sequence[Match]) -> list[Piece]:
    """A text in pieces; if it is too long, each has an equal share of `CHARACTERS`."""
    pieces = highlight(text, matches[:MARKS])
    if len(text) <= CHARACTERS:
        return pieces
    share = CHARACTERS // len(pieces)
    return shorten(pieces, (share - 1) // 2)  # as many characters at each end, and "…" between


def _marked(piece: Piece) -> str:
    """A piece of the text; a matched one is shaded and explains itself."""
    if not piece.matches:
        return _escape(piece.text)
    shade = round(15 + 85 * piece.weight) if piece.weight else 0  # the weakest is still visible
    title = "\n".join(map(_explain, piece.matches[:ROWS]))
    return f'<mark style="--w:{shade}%" title="{_escape(title)}">{_escape(piece.text)}</mark>'


def _explain(match: Match) -> str:
    query, document = (cut(visible(match[name]), LABEL) for name in ("query", "document"))
    return f"{query} → {document} {match['score']:.3f}"


def _table(heat: HeatMap) -> str:
    low, spread = heat.low, (heat.high - heat.low) or 1.0
    headings = "".join(f'<th scope="col">{_escape(name)}</th>' for name in heat.columns)
    lines = []
    for name, scores, best in zip(heat.rows, heat.scores, heat.best):
        cells = "".join(
            f'<td{" class=best" * (column == best)} style="--w:{round(100 * (score - low) / spread)}%"'
            f' title="{_escape(name)} → {_escape(heat.columns[column])} {score:.3f}"></td>'
            for column, score in enumerate(scores)
        )
        lines.append(f'<tr><th scope="row">{_escape(name)}</th>{cells}</tr>')
    rows = "\n".join(lines)
    note = f"{heat.note}. " if heat.note else ""
    return f"""
<details>
<summary>Similarity of every query token with every document token</summary>
<p class="note">{note}The faintest cell is {heat.low:.3f}, the strongest {heat.high:.3f}. A frame marks the best match of each
query token; together they are {heat.total:.3f}.</p>
<div class="heat"><table>
<tr><td style="--w:0%"></td>{headings}</tr>
{rows}
</table></div>
</details>"""


def _escape(text: str) -> str:
    """A text as HTML; control characters and lone surrogates, which HTML cannot hold, become U+FFFD."""
    return html.escape(
        "".join(
            "\N{REPLACEMENT CHARACTER}"
            if unicodedata.category(point) in ("Cc", "Cs") and point not in "\t\n\r"
            else point
            for point in text
        )
    )
