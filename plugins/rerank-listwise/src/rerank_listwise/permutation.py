"""Reading an order out of whatever a language model writes: any text gives a permutation, or says that it gives none."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_THOUGHT: Final = "</think>"
_ANSWER: Final = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL | re.IGNORECASE)
_FRAMED: Final = re.compile(r"\[rankstart\](.*?)(?:\[rankend\]|\Z)", re.DOTALL | re.IGNORECASE)
_BRACKETS: Final = re.compile(r"\[([^\[\]]*)\]")
_NUMBER_LINK: Final = re.compile(r"\[([^\[\]]*)\]|(?:(?<=>)|(?<=^)|(?<==))\s*\[?(\d+)\]?(?=\s*(?:[>=]|$))", re.MULTILINE)
_LETTER_LINK: Final = re.compile(r"\[([^\[\]]*)\]|(?:(?<=>)|(?<=^)|(?<==))\s*\[?([A-Z])\]?(?=\s*(?:[>=]|$))", re.MULTILINE)
"""An identifier in brackets, or one that lost a bracket or both, between the marks of a ranking."""
_NUMBER: Final = re.compile(r"\d+")
_LETTER: Final = re.compile(r"(?<![^\W\d_])[A-Z](?![^\W\d_])")
_WORD: Final = re.compile(r"[^\W\d_]|^\s*\d+[.:)]")
"""What no bare ranking contains: letters, and the number of a line."""

_LONGEST: Final = 100_000
"""Characters of an answer that are read; a model that writes more repeats itself."""
_DIGITS: Final = 9
"""Longer numbers identify nothing."""


@dataclass(frozen=True, slots=True)
class Permutation:
    """An order of ``n`` passages, and how malformed the text was.

    Args:
        order: Positions from 0, best first; always a permutation of ``range(n)``.
        named: How many of them the text names; the rest follow in their given order.
        duplicates: Identifiers that the text names again.
        unknown: Identifiers of no passage.
        missing: Passages that the text does not name.
        chatter: Whether the text has more than identifiers and the marks between them.
    """

    order: tuple[int, ...]
    named: int
    duplicates: int = 0
    unknown: int = 0
    missing: int = 0
    chatter: bool = False

    @property
    def is_given(self) -> bool:
        """Whether the text names any passage."""
        return self.named > 0

    @property
    def is_whole(self) -> bool:
        """Whether the text names every passage exactly once, and no other."""
        return self.named == len(self.order) and not self.duplicates and not self.unknown

    @property
    def faults(self) -> Mapping[str, int]:
        """The faults of the text by name, as ``diagnostics["malformed"]`` counts them."""
        if not self.is_given and self.order:
            return {"unreadable": 1}
        counts = {"duplicates": self.duplicates, "unknown": self.unknown, "missing": self.missing}
        return {**counts, "chatter": int(self.chatter)}


def parse_permutation(text: str, n: int, *, letters: bool = False, ties: bool = False, first: int = 1) -> Permutation:
    """Read the order of ``n`` passages out of a model's answer.

    A chain of thought up to ``</think>`` is left out, and what stands in ``<answer>`` or ``[rankstart]`` is preferred. Digits
    of any script, in circles or raised, count as digits. Identifiers in brackets come before those without; of several
    mentions the first counts; passages that are not named follow in their given order.

    Args:
        text: The answer.
        n: How many passages there are.
        letters: Whether passages have letters (``A``, ``B`` …) in place of numbers.
        ties: Whether ``=`` between two identifiers says that they are equal (Rank-K): they keep their given order.
        first: The number of the first passage.
    """
    said = final_answer(text)
    groups = _groups_of(said, letters) if ties else [[name] for name in _names_in(said, letters)]
    order: list[int] = []
    duplicates = unknown = 0
    for group in groups:
        members = []
        for name in group:
            position = _position(name, letters, first)
            if position is None or not 0 <= position < n:
                unknown += 1
            elif position in order or position in members:
                duplicates += 1
            else:
                members.append(position)
        order += sorted(members)
    missing = [position for position in range(n) if position not in {*order}]
    chatter = bool(_WORD.search(_LETTER.sub("", said) if letters else said))
    return Permutation((*order, *missing), len(order), duplicates, unknown, len(missing), chatter)


def parse_choice(text: str, n: int, *, letters: bool = True, first: int = 1) -> int | None:
    """The one passage that an answer names, as a position from 0; None if it names none.

    Args:
        text: The answer.
        n: How many passages there are.
        letters: Whether passages have letters in place of numbers.
        first: The number of the first passage.
    """
    said = final_answer(text)
    if letters:
        said = re.sub(r"\bpassages?\b", " ", said, flags=re.IGNORECASE)
        said = said.upper() if re.fullmatch(r"\W*[a-zA-Z]\W*", said) else said
    found = (_position(name, letters, first) for name in _names_in(said, letters))
    return next((position for position in found if position is not None and 0 <= position < n), None)


def final_answer(text: str) -> str:
    """What an answer says at its end: after its chain of thought, inside its marks, in plain digits."""
    said = text[-_LONGEST:] if _THOUGHT in text[-_LONGEST:] else text[:_LONGEST]
    said = said.rpartition(_THOUGHT)[2]
    for marks in (_ANSWER, _FRAMED):
        if found := marks.findall(said):
            said = found[-1]
    return "".join(map(_plain, said))


def _plain(character: str) -> str:
    """A character with its number or letter in ASCII, such as ``③``, ``²``, ``３`` and ``Ｂ``."""
    if character.isascii():
        return character
    plain = unicodedata.normalize("NFKC", character)
    if plain.isascii():
        return plain
    digit = unicodedata.decimal(character, None)
    return character if digit is None else str(digit)


def _names_in(said: str, letters: bool) -> list[str]:
    """The identifiers in a text: those in brackets or between ``>``, or all if there are none in brackets."""
    pattern = _LETTER if letters else _NUMBER
    if not _BRACKETS.search(said):
        return pattern.findall(said)
    in_chain = (inside or alone for inside, alone in (_LETTER_LINK if letters else _NUMBER_LINK).findall(said))
    return [name for link in in_chain for name in pattern.findall(link)] or pattern.findall(said)


def _groups_of(said: str, letters: bool) -> list[list[str]]:
    """The identifiers between one ``>`` and the next: several if ``=`` joins them."""
    groups: list[list[str]] = []
    for part in said.split(">"):
        names = [_names_in(one, letters) for one in part.split("=")]
        tied = [found[0] for found in names if found]
        groups += [tied, *([name] for found in names for name in found[1:])]
    return [group for group in groups if group]


def _position(name: str, letters: bool, first: int) -> int | None:
    if letters:
        return LETTERS.index(name)
    return int(name) - first if len(name) <= _DIGITS else None


def identifiers(n: int, *, letters: bool, first: int = 1) -> Sequence[str]:
    """The identifiers of ``n`` passages, in order."""
    return LETTERS[:n] if letters else [str(number) for number in range(first, first + n)]

