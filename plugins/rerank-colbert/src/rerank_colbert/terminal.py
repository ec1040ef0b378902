"""Token matches in a terminal: each text in colour, and each query token with its match."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Final

import click

from rerank import RankedResults, Result, visible
from rerank_colbert.highlight import Piece, highlight, shorten
from rerank_colbert.labels import LABEL, ROWS, cells, cut


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
    yield click.style(cut(f"{result.rank}  {score}  {visible(str(result.doc_id))}", width), bold=True)
    pieces = shorten(highlight(result.text, matches), _CONTEXT)
    for number, line in enumerate(_coloured(pieces, width - len(_INDENT))):
        if number == _LINES:
            yield f"{_INDENT}…"
            break
        yield _INDENT + line
    yield ""
    room = min(LABEL, (width - len(_INDENT) - len(" →   -0.000")) // 2)
    rows = [
        (cut(visible(query), room), cut(visible(document), room), [match["score"] for match in run])
        for (query, document), run in groupby(matches, key=lambda match: (match["query"], match["document"]))
    ]
    widest_query = max((cells(query) for query, _, _ in rows), default=0)
    widest_document = max((cells(document) for _, document, _ in rows), default=0)
    for query, document, scores in rows[:ROWS]:
        left = query + " " * (widest_query - cells(query))
        right = document + " " * (widest_document - cells(document))
        times = f"  {len(scores)} times" if len(scores) > 1 else ""
        yield f"{_INDENT}{left} → {right}  {sum(scores):6.3f}{times}"
    if len(rows) > ROWS:
        yield f"{_INDENT}… and {len(rows) - ROWS} more matches"


def _coloured(pieces: Sequence[Piece], width: int) -> Iterator[str]:
    """The pieces as one paragraph, wrapped; white space is one space."""
    styled: list[tuple[str, int]] = []  # a character and its step
    for piece in pieces:
        step = math.ceil(piece.weight * (len(_STEPS) - 1))
        for character in visible(piece.text):
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
        needed = cells(character)
        if used + needed > width and character != " ":
            end = after_space if after_space > start else position
            yield start, start + len(text[start:end].rstrip(" "))
            start, used = end, cells(text[end:position])
        used += needed
        if character == " ":
            after_space = position + 1
    if text[start:].rstrip(" "):
        yield start, start + len(text[start:].rstrip(" "))
