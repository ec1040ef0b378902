"""Pictures of token matches: in a terminal, as a page, and the matrix of similarities as an image.

Texts, names and identifiers are strangers': each picture shows their control characters harmlessly and bounds its size.
"""

from __future__ import annotations

import html
import importlib
import math
import os
import unicodedata
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import IO, Any, Final, NamedTuple

import click

from rerank import InvalidInputError, InvalidOptionsError, RankedResults, Result
from rerank_colbert.highlight import Match, Piece, highlight, outside, shorten

ROWS: Final = 64
"""How many query tokens a picture shows at most."""

COLUMNS: Final = 80
"""How many document tokens a heat map shows at most."""

_LABEL: Final = 24
"""How wide a token's name is at most."""


def as_terminal(ranked: RankedResults, width: int = 100) -> str:
    """Each document's text with its matched tokens in colour, and below it each query token with its match.

    Neighbours that match alike, such as the [MASK] tokens of an augmented query, share a line with the sum of their scores.

    Args:
        ranked: A ranking whose results have ``details["matches"]``.
        width: Columns of the terminal.

    Returns:
        Lines with ANSI colours; ``click.echo`` drops those where the output is no terminal.
    """
    return "\n\n".join("\n".join(_terminal_lines(result, max(width, 40))) for result in ranked)


_STEPS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"underline": True},
    {"fg": 16, "bg": 223},
    {"fg": 16, "bg": 215},
    {"fg": 16, "bg": 208, "bold": True},
)
"""Styles by weight: black on ever stronger orange reads well in light and in dark terminals."""

_CONTEXT: Final = 40
_LINES: Final = 20
_INDENT: Final = "    "


def _terminal_lines(result: Result, width: int) -> Iterator[str]:
    matches = result.details["matches"]
    score = "-" if result.score is None else f"{result.score:.4f}"
    yield click.style(_cut(f"{result.rank}  {score}  {_visible(str(result.doc_id))}", width), bold=True)
    pieces = shorten(highlight(result.text, matches), _CONTEXT)
    for number, line in enumerate(_coloured(pieces, width - len(_INDENT))):
        if number == _LINES:
            yield f"{_INDENT}…"
            break
        yield _INDENT + line
    yield ""
    room = min(_LABEL, (width - len(_INDENT) - len(" →   -0.000")) // 2)
    rows = [
        (_cut(_visible(query), room), _cut(_visible(document), room), [match["score"] for match in run])
        for (query, document), run in groupby(matches, key=lambda match: (match["query"], match["document"]))
    ]
    widest_query = max((_cells(query) for query, _, _ in rows), default=0)
    widest_document = max((_cells(document) for _, document, _ in rows), default=0)
    for query, document, scores in rows[:ROWS]:
        left = query + " " * (widest_query - _cells(query))
        right = document + " " * (widest_document - _cells(document))
        times = f"  {len(scores)} times" if len(scores) > 1 else ""
        yield f"{_INDENT}{left} → {right}  {sum(scores):6.3f}{times}"
    if len(rows) > ROWS:
        yield f"{_INDENT}… and {len(rows) - ROWS} more matches"


def _coloured(pieces: Sequence[Piece], width: int) -> Iterator[str]:
    """The pieces as one paragraph, wrapped; white space is one space."""
    styled: list[tuple[str, int]] = []  # a character and its step
    for piece in pieces:
        step = math.ceil(piece.weight * (len(_STEPS) - 1))
        for character in _visible(piece.text):
            if character != " " or (styled and styled[-1][0] != " "):
                styled.append((character, step))
    for start, end in _wrap("".join(character for character, _ in styled), width):
        line = ""
        for step, run in groupby(styled[start:end], key=lambda pair: pair[1]):
            text = "".join(character for character, _ in run)
            line += click.style(text, **_STEPS[step]) if step else text
        yield line


def _wrap(text: str, width: int) -> Iterator[tuple[int, int]]:
    """Where the lines of a paragraph start and end: after a space if there is one, else inside a word."""
    start = after_space = used = 0
    for position, character in enumerate(text):
        cells = _cells(character)
        if used + cells > width and character != " ":
            end = after_space if after_space > start else position
            yield start, start + len(text[start:end].rstrip(" "))
            start, used = end, _cells(text[end:position])
        used += cells
        if character == " ":
            after_space = position + 1
    if text[start:].rstrip(" "):
        yield start, start + len(text[start:].rstrip(" "))


def _visible(text: str) -> str:
    """A text for a terminal or a label: white space as a space, and what is not printable as its escape."""
    return "".join(
        " "
        if character.isspace()
        else character
        if character.isprintable() or character in "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"
        else character.encode("unicode_escape").decode()
        for character in text
    )


def _cells(text: str) -> int:
    """The columns that a terminal needs: two for a wide character, none for an accent or a joiner."""
    return sum(
        0 if unicodedata.category(point) in ("Mn", "Me", "Cf") else 1 + (unicodedata.east_asian_width(point) in "WF")
        for point in text
    )


def _cut(text: str, width: int) -> str:
    """The beginning of a text, with an ellipsis if it needs more than ``width`` columns."""
    text, rest = text[: 4 * width], text[4 * width :]  # accents need no column, so that there may be any number
    if not rest and _cells(text) <= width:
        return text
    while _cells(text) > width - 1:
        text = text[:-1]
    return f"{text}…"


class _Heat(NamedTuple):
    """The part of a matrix that a heat map shows."""

    rows: list[str]
    columns: list[str]
    scores: list[list[float]]  # (rows, columns)
    best: list[int]  # the column of each row's best match
    total: float  # the sum of the best matches of all rows, shown or not
    note: str

    @property
    def low(self) -> float:
        return min(map(min, self.scores))

    @property
    def high(self) -> float:
        return max(map(max, self.scores))


def _heat(matrix: Mapping[str, Any]) -> _Heat | None:
    """What to show of a matrix: the rows with the best matches, their columns, and the columns that come closest."""
    scores: Sequence[Sequence[float]] = matrix["scores"]
    if not scores or not scores[0]:
        return None
    rows = _largest([max(row) for row in scores], ROWS)
    best = [max(range(len(scores[row])), key=scores[row].__getitem__) for row in rows]
    closeness = [(column in best, max(scores[row][column] for row in rows)) for column in range(len(scores[0]))]
    columns = _largest(closeness, COLUMNS)
    notes = [
        f"{len(shown)} of {len(all_of_them)} {whose} tokens, those with the highest similarities"
        for shown, all_of_them, whose in ((rows, scores, "query"), (columns, closeness, "document"))
        if len(shown) < len(all_of_them)
    ]
    return _Heat(
        rows=[_cut(_visible(matrix["query"][row]), _LABEL) for row in rows],
        columns=[_cut(_visible(matrix["document"][column]), _LABEL) for column in columns],
        scores=[[scores[row][column] for column in columns] for row in rows],
        best=[columns.index(column) for column in best],
        total=sum(map(max, scores)),
        note="; ".join(notes),
    )


def _largest(values: Sequence[Any], count: int) -> list[int]:
    """The positions of the largest values, in order."""
    return sorted(sorted(range(len(values)), key=values.__getitem__, reverse=True)[:count])


def as_html(ranked: RankedResults) -> str:
    """A page without scripts and without anything to load: each document with its matched tokens shaded, and its matrix.

    A shaded token names its matches when the pointer rests on it.

    Args:
        ranked: A ranking whose results have ``details["matches"]``, and ``details["matrix"]`` for the heat maps.

    Returns:
        The page; it can be written as UTF-8 whatever the texts contain.
    """
    query = _escape(ranked.query)
    origin = " · ".join(_escape(_visible(name)) for name in (ranked.model, ranked.backend) if name)
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
    text = "".join(map(_marked, highlight(result.text, matches)))
    elsewhere = ", ".join(map(_explain, outside(result.text, matches)[:ROWS]))
    note = f'\n<p class="note">Outside the text: {_escape(elsewhere)}</p>' if elsewhere else ""
    heat = _heat(result.details["matrix"]) if "matrix" in result.details else None
    return f"""\
<article>
<h2><span>{result.rank}</span> <span class="score">{score}</span> \
<span class="id">{_escape(_cut(_visible(str(result.doc_id)), 100))}</span></h2>
<div class="text" dir="auto">{text}</div>{note}{_table(heat) if heat else ""}
</article>"""


def _marked(piece: Piece) -> str:
    """A piece of the text; a matched one is shaded and explains itself."""
    if not piece.matches:
        return _escape(piece.text)
    shade = round(15 + 85 * piece.weight) if piece.weight else 0  # the weakest is still visible
    title = "\n".join(map(_explain, piece.matches[:ROWS]))
    return f'<mark style="--w:{shade}%" title="{_escape(title)}">{_escape(piece.text)}</mark>'


def _explain(match: Match) -> str:
    query, document = (_cut(_visible(match[name]), _LABEL) for name in ("query", "document"))
    return f"{query} → {document} {match['score']:.3f}"


def _table(heat: _Heat) -> str:
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


_CELL: Final = 0.24
"""Inches of a cell's side."""

_INK: Final = "#1f2328"


def draw_png(result: Result, query: str, file: str | os.PathLike[str] | IO[bytes]) -> None:
    """Draw a document's matrix of similarities as a heat map: a row per query token, a column per document token.

    Args:
        result: A result with ``details["matrix"]``.
        query: The query, for the title.
        file: Where to write the image.

    Raises:
        InvalidOptionsError: matplotlib is not installed.
        InvalidInputError: The result has no matrix, or an empty one.
    """
    check_drawing()
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    heat = _heat(result.details["matrix"]) if "matrix" in result.details else None
    if heat is None:
        raise InvalidInputError(f"document {result.doc_id!r:.60} has no matrix to draw: rank with matches='matrix'")
    height, width = (_CELL * len(names) for names in (heat.rows, heat.columns))  # inches
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))  # labels lie outside: the image is cut to what is drawn
    font: dict[str, Any] = {"family": _fonts(), "parse_math": False, "color": _INK}
    oranges = ListedColormap(colormaps["Oranges"](range(216)))  # without the darkest, where a frame would not show
    mesh = axes.pcolormesh(heat.scores, cmap=oranges, edgecolors="white", linewidth=0.6)
    for row, column in enumerate(heat.best):
        frame = Rectangle((column, row), 1, 1, fill=False, edgecolor=_INK, linewidth=1.4, zorder=3, clip_on=False)
        axes.add_patch(frame)
    axes.invert_yaxis()
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, pad=3)
    axes.set_yticks([row + 0.5 for row in range(len(heat.rows))], heat.rows, fontsize=9, **font)
    axes.set_xticks([c + 0.5 for c in range(len(heat.columns))], heat.columns, fontsize=9, rotation=90, **font)
    above = 1 + 0.1 / height
    axes.text(0, above + 0.22 / height, _cut(_visible(query), 80), transform=axes.transAxes, fontsize=12, **font)
    name = _cut(_visible(str(result.doc_id)), 40)
    facts = f"rank {result.rank}, document {name}, sum of the best matches {heat.total:.2f}"
    axes.text(0, above, facts, transform=axes.transAxes, fontsize=9, **font)
    caption = "Framed: the best match of each query token."
    axes.set_xlabel(f"{caption}\n{heat.note}." if heat.note else caption, loc="left", labelpad=8, fontsize=9, **font)
    bar_axes = figure.add_axes((1 + 0.15 / width, 0, 0.12 / width, 1))
    bar = figure.colorbar(mesh, cax=bar_axes)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=8, labelcolor=_INK)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(file, format="png", dpi=150, bbox_inches="tight", pad_inches=0.2)


def check_drawing() -> None:
    """Check that images can be drawn.

    Raises:
        InvalidOptionsError: matplotlib is not installed.
    """
    try:
        importlib.import_module("matplotlib")
    except ImportError as error:
        raise InvalidOptionsError(
            f"an image needs matplotlib ({error}): pip install 'rerank-colbert[drawing]', or write a page with --html"
        ) from error


_MORE_FONTS: Final = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Noto Sans JP",
    "Noto Sans KR",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "Droid Sans Fallback",
    "IPAGothic",
    "PingFang SC",
    "Hiragino Sans",
    "Apple SD Gothic Neo",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "Arial Unicode MS",
)
"""Fonts with Chinese, Japanese and Korean characters, which DejaVu Sans lacks."""


def _fonts() -> list[str]:
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in _MORE_FONTS if name in installed)]
