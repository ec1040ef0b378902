"""Strangers' texts where people read them: on a terminal they could hide, move or forge what stands there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_JOINERS: Final = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"
_MOST: Final = 100
_UNSAFE_IN_JSON: Final = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """A text in one line: white space as a space, and what is not printable as its escape, such as ``\\x1b``."""
    if text.isprintable():
        return text
    return "".join(
        " "
        if character.isspace()
        else character
        if character.isprintable() or character in _JOINERS
        else character.encode("unicode_escape").decode()
        for character in text
    )


def listed(names: Iterable[str]) -> str:
    """Names in their order, with commas; of many, the first `_MOST`, and how many more there are."""
    known = sorted(names)
    more = f" and {len(known) - _MOST} more" if len(known) > _MOST else ""
    return f"{', '.join(known[:_MOST])}{more}"


def escaped(json: str) -> str:
    """JSON with the control characters that it may hold as they are (C1 and those of direction) as its own escapes."""
    return _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", json)
