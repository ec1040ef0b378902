"""Text in the pictures of token matches.

Texts, names and identifiers are strangers': each picture shows their control characters harmlessly and bounds its size.
"""

from __future__ import annotations

import unicodedata
from typing import Final

ROWS: Final = 64
"""How many query tokens a picture shows at most."""

LABEL: Final = 24
"""How wide a token's name is at most."""


def cells(text: str) -> int:
    """The columns that a terminal needs: two for a wide character, none for an accent or a joiner."""
    return sum(
        0 if unicodedata.category(point) in ("Mn", "Me", "Cf") else 1 + (unicodedata.east_asian_width(point) in "WF")
        for point in text
    )


def cut(text: str, width: int) -> str:
    """The beginning of a text, with an ellipsis if it needs more than ``width`` columns."""
    text, rest = text[: 4 * width], text[4 * width :]  # accents need no column, so that there may be any number
    if not rest and cells(text) <= width:
        return text
    while cells(text) > width - 1:
        text = text[:-1]
    return f"{text}…"
