"""Where the tokens of a query found their matches in a document: its text in pieces, each with its share of the score."""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import Any, Final

Match = Mapping[str, Any]
"""One query token's best match, as in ``Result.details["matches"]``: query, document, start, end, score, window."""

_REACH: Final = 16
"""How far a span is widened at most, in characters: a text may pile up marks without end."""

_JOINER: Final = "\N{ZERO WIDTH JOINER}"


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a document's text.

    Args:
        text: The part.
        weight: From 0 (no match) to 1 (the document token that adds most to the score).
        matches: The matches that cover it.
    """

    text: str
    weight: float
    matches: tuple[Match, ...]


def highlight(text: str, matches: Iterable[Match]) -> list[Piece]:
    """Split a document's text where its matched tokens start and end.

    A token weighs the sum of its matches' scores, negative ones as 0, relative to the largest such sum in the document.
    Where spans overlap, the heaviest counts. A span beyond the text is cut at its end; matches of tokens that are not
    in the text, such as ``[CLS]``, are left out (see `outside`).

    Args:
        text: The document's text.
        matches: Its ``details["matches"]``.

    Returns:
        Pieces in the text's order; joined they are the text.
    """
    found: dict[tuple[int, int], list[Match]] = {}
    for match in matches:
        if span := _span(text, match):
            found.setdefault(span, []).append(match)
    sums = {span: sum(max(0.0, match["score"]) for match in own) for span, own in found.items()}
    largest = max(sums.values(), default=0.0) or 1.0
    edges = sorted({0, len(text), *chain.from_iterable(found)})
    covering: list[list[tuple[int, int]]] = [[] for _ in edges[1:]]
    for start, end in found:
        for position in range(bisect_left(edges, start), bisect_left(edges, end)):
            covering[position].append((start, end))
    return [
        Piece(
            text[start:end],
            max((sums[span] for span in spans), default=0.0) / largest,
            tuple(match for span in spans for match in found[span]),
        )
        for (start, end), spans in zip(pairwise(edges), covering)
    ]


def outside(text: str, matches: Iterable[Match]) -> list[Match]:
    """The matches with a document token that is not in the text, such as ``[CLS]``."""
    return [match for match in matches if not _span(text, match)]


def shorten(pieces: Sequence[Piece], context: int) -> list[Piece]:
    """Keep about ``context`` characters before and after each match, and of a longer match; "…" stands for the rest."""
    last = len(pieces) - 1

    def cut(position: int, piece: Piece) -> Piece:
        text = piece.text
        head = context if position > 0 or last == 0 else 0
        tail = context if position < last else 0
        if len(text) <= head + tail + 1:
            return piece
        start, end = text[:head], text[len(text) - tail :]
        start = start[: start.rfind(" ") + 1] or start  # whole words, where there are spaces
        end = end[max(0, end.find(" ")) :]
        return replace(piece, text=f"{start}…{end}")

    return [cut(position, piece) for position, piece in enumerate(pieces)]


def _span(text: str, match: Match) -> tuple[int, int] | None:
    """The range of a match in the text, widened to whole characters: accents stay with their letter."""
    start, end = match["start"], match["end"]
    if start is None or end is None:
        return None
    start, end = max(0, start), min(end, len(text))
    if start >= end:
        return None
    backwards = range(start, max(-1, start - _REACH), -1)
    forwards = range(end, min(len(text) + 1, end + _REACH))
    return (
        next((position for position in backwards if not _continues(text, position)), start),
        next((position for position in forwards if not _continues(text, position)), end),
    )


def _continues(text: str, position: int) -> bool:
    """Whether the code point here only completes the character before: an accent, a skin tone, a joined emoji."""
    if not 0 < position < len(text):
        return False
    point = text[position]
    return (
        unicodedata.category(point).startswith("M")
        or "\N{EMOJI MODIFIER FITZPATRICK TYPE-1-2}" <= point <= "\N{EMOJI MODIFIER FITZPATRICK TYPE-6}"
        or _JOINER in text[position - 1 : position + 1]
    )
