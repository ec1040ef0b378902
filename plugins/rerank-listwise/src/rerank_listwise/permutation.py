"""Reading an order out of whatever a language model writes: any text gives a permutation, or says that it gives none."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
OPENING: Final = "[［【〔〖「『⟦"
CLOSING: Final = "]］】〕〗」』⟧"
"""Brackets in which models write identifiers."""

_LONGEST: Final = 100_000
"""Characters of an answer that are read; a model that writes more repeats itself."""
_MOST_DIGITS: Final = 9
"""Longer numbers identify nothing."""
_SHORT_TAIL: Final = 40
"""Characters at the end of a prompt in which a chain of thought can begin."""
_SHORT: Final = 20
"""Characters of an answer in which a lower-case letter can be an identifier."""

_THOUGHT: Final = r"(?:think|thinking|thought|reason|reasoning)>"
_BEGINS: Final = rf"<{_THOUGHT}|\[THINK\]|◁think▷|<\|begin_of_thought\|>|<\|channel\|>analysis"
_ENDS: Final = rf"</{_THOUGHT}|\[/THINK\]|◁/think▷|<\|end_of_thought\|>|<\|channel\|>final(?:<\|message\|>)?"
_THOUGHT_BEGINS: Final = re.compile(_BEGINS, re.IGNORECASE)
_THOUGHT_IS_OPEN: Final = re.compile(rf"(?:{_BEGINS})\s*\Z", re.IGNORECASE)
_THOUGHT_ENDS: Final = re.compile(_ENDS, re.IGNORECASE)
"""Around a chain of thought: those of DeepSeek-R1, Qwen3 and GroupRank, Magistral, Kimi, OpenThinker and gpt-oss."""
_MARKS: Final = tuple(
    (re.compile(begin, re.IGNORECASE), re.compile(end, re.IGNORECASE))
    for begin, end in ((r"<answer>", r"</answer>"), (r"\[rankstart\]", r"\[rankend\]"))
)
_END: Final = re.compile(rf"{_ENDS}|<answer>|\[rankstart\]", re.IGNORECASE)
"""Where the end of a long answer may begin."""
ANSWER_MARK: Final = re.compile(
    r"[<\[◁]\|?(/?(?:think|thinking|thought|reason|reasoning|answer|rankstart|rankend|(?:begin|end)_of_thought|channel))"
    r"\|?[>\]▷]",
    re.IGNORECASE,
)
"""What a passage must not contain, or a model that quotes it seems to end its thoughts or its answer there."""
_SPACES: Final = re.compile(r"\s+")
_ALIKE: Final = {
    **dict.fromkeys(OPENING[1:], "["),
    **dict.fromkeys(CLOSING[1:], "]"),
    **dict.fromkeys("→⇒➔➜›»≻⟩", ">"),
}
"""What models write in place of brackets and ``>``."""

_NOUN: Final = r"(?i:passages?|documents?|docs?)[ _#:.]{0,2}"
_NUMBER: Final = rf"(?:(?<![^\W_])(?:(?P<noun>{_NOUN})|[^\W\d_]{{1,2}})|(?<![0-9.]))(?P<name>[0-9]+(?:\.[0-9]+)*)"
_LETTER: Final = rf"(?<![^\W_])(?P<noun>{_NOUN})?(?P<name>[A-Z])(?![^\W_])"
_NAMES: Final = {False: re.compile(rf"{_NUMBER}|[\[\]]"), True: re.compile(rf"{_LETTER}|[\[\]]")}
"""Identifiers, by whether they are letters, and brackets."""
_NOUNS: Final = re.compile(rf"(?<![^\W_]){_NOUN}(?![^\W\d_])")
_ALONE: Final = re.compile(rf"\W*(?:{_NOUN})?\W*([a-z])\W*")
_AFTER_LINE_NUMBER: Final = re.compile(rf"[.:)] ?(?:\[|{_NOUN}|[0-9])")
_BARE_AFTER: Final = re.compile(r"[.:)] ?[0-9]")
_AND: Final = re.compile(r" ?[,;&]? ?(?:and )?", re.IGNORECASE)
_OF_MANY: Final = re.compile(r" ?(?:passages|documents|docs)\b", re.IGNORECASE)
"""After a number that counts passages and identifies none."""
_WORDS: Final = re.compile(r"[^\w>]*\w[^>]*")
_TRIMMINGS: Final = " \n#*`\"'."
"""What may stand between an identifier and ``>``."""
_CHATTER: Final = re.compile(r"[^\W\d_]|<|(?:^|\n) ?[0-9]+[.:)] ")
"""What no bare ranking contains: letters, a mark the wrong way round, and the number of a line."""


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


def parse_permutation(
    text: str, n: int, *, letters: bool = False, ties: bool | Sequence[int] = False, first: int = 1
) -> Permutation:
    """Read the order of ``n`` passages out of a model's answer.

    A chain of thought is left out, and what stands in ``<answer>`` or ``[rankstart]`` is preferred. Digits of any script, in
    circles or raised, count as digits. Identifiers that are both in brackets and beside ``>`` come before those that are one of
    it, these before those after the word passage or document, and these before all others; of several mentions the first
    counts; passages that are not named follow in their given order.

    Args:
        text: The answer.
        n: How many passages there are.
        letters: Whether passages have letters (``A``, ``B`` …) in place of numbers.
        ties: Whether the last line is the answer, in which ``=`` between two identifiers says that they are equal (Rank-K): they
            keep their given order, or that of the places which are given here, one per passage.
        first: The number of the first passage.
    """
    said = in_plain_digits(final_answer(text))
    if ties is not False:
        said = _last_chain(said, letters)
    places = range(n) if isinstance(ties, bool) else ties
    order: list[int] = []
    seen: set[int] = set()
    duplicates = unknown = 0
    for group in _groups_in(said, letters, ties is not False):
        members = []
        for name in group:
            position = _position(name, letters, first)
            if position is None or not 0 <= position < n:
                unknown += 1
            elif position in seen:
                duplicates += 1
            else:
                seen.add(position)
                members.append(position)
        order += sorted(members, key=places.__getitem__)
    missing = [position for position in range(n) if position not in seen]
    return Permutation((*order, *missing), len(order), duplicates, unknown, len(missing), _has_chatter(said, letters))


def _last_chain(said: str, letters: bool) -> str:
    """The last line with identifiers beside ``>``; a line may go on after a mark. All that is said where there is none."""
    lines = re.sub(r"\s*([>=])\s*", r" \1 ", said).split("\n")
    chains = (line for line in reversed(lines) if ">" in line and _is_sure(line, letters))
    return next(chains, said)


def _is_sure(line: str, letters: bool) -> bool:
    return any(mention.rank >= 3 for mention in _mentions_in(line, letters, ">="))


def parse_choice(text: str, n: int, *, letters: bool = True, first: int = 1) -> int | None:
    """The one passage that an answer names, as a position from 0; None if it names none.

    Args:
        text: The answer.
        n: How many passages there are.
        letters: Whether passages have letters in place of numbers.
        first: The number of the first passage.
    """
    said = in_plain_digits(final_answer(text))
    if letters and len(said) <= _SHORT and (alone := _ALONE.fullmatch(said)):
        said = alone[1].upper()
    found = (_position(mention.name, letters, first) for mention in _mentions_in(said, letters, ">"))
    return next((position for position in found if position is not None and 0 <= position < n), None)


def final_answer(text: str) -> str:
    """What an answer says at its end: after its chain of thought, and inside its marks.

    A chain of thought that does not end says nothing, unless an answer stands in ``<answer>``.
    """
    said = text[-_LONGEST:] if _END.search(text, max(0, len(text) - _LONGEST)) else text[:_LONGEST]
    said = said[_last_end(_THOUGHT_ENDS, said) :]
    inside = next((said[start:] for begin, _ in _MARKS if (start := _last_end(begin, said))), None)
    if inside is not None:
        said = inside
        for _, end in _MARKS:
            said = end.split(said, maxsplit=1)[0]
    elif thought := _THOUGHT_BEGINS.search(said):
        said = said[: thought.start()]
    return said


def open_thought(prompt: str) -> str:
    """The mark with which a prompt begins the model's chain of thought, as some chat templates do; empty if it does not."""
    found = _THOUGHT_IS_OPEN.search(prompt, max(0, len(prompt) - _SHORT_TAIL))
    return found[0] if found else ""


def in_plain_digits(said: str) -> str:
    """A text with its digits, letters and brackets in ASCII, and with single spaces and line breaks."""
    if not said.isascii():
        said = "".join(map(_plain, said))
    return _SPACES.sub(lambda space: "\n" if "\n" in space[0] else " ", said)


def _last_end(pattern: re.Pattern[str], text: str) -> int:
    """Where the last match ends; 0 if there is none."""
    end = 0
    for match in pattern.finditer(text):
        end = match.end()
    return end


@lru_cache(maxsize=4096)
def _plain(character: str) -> str:
    """A character with its number or letter in ASCII, such as ``²``, ``３`` and ``Ｂ``; ``①②`` are two numbers."""
    if character.isascii():
        return character
    if character in _ALIKE:
        return _ALIKE[character]
    plain = unicodedata.normalize("NFKC", character)
    if unicodedata.category(character) == "No":
        number = unicodedata.numeric(character)
        is_raised = unicodedata.decomposition(character).startswith(("<super>", "<sub>"))
        return plain if is_raised else f" {int(number)} " if number.is_integer() else character
    if plain.isascii():
        return plain
    digit = unicodedata.decimal(character, None)
    return character if digit is None else str(digit)


class _Mention(NamedTuple):
    """An identifier in a text, and how surely it is one: 4 in brackets and beside ``>``, 3 in brackets or beside ``>``, 2 after
    the word passage, 1 elsewhere, 0 in a word.
    """

    name: str
    start: int
    end: int
    rank: int


def _mentions_in(said: str, letters: bool, joints: str) -> list[_Mention]:
    """The identifiers in a text in their order: of all that could be some, those of the highest rank.

    Args:
        said: The text, as `in_plain_digits` returns it.
        letters: Whether identifiers are letters.
        joints: The marks that stand between identifiers.
    """
    found: list[_Mention] = []
    opened: int | None = None
    lines = 0
    for match in _NAMES[letters].finditer(said):
        if match[0] == "[":
            opened = len(found)
        elif match[0] == "]":
            if opened is not None:
                found[opened:] = [_in_brackets(one, said, joints) for one in found[opened:]]
            opened = None
        elif opened is None and _is_line_number(said, match, lines + 1):
            lines += 1
        elif "." not in match["name"]:
            rank = _rank(said, match, joints)
            if rank < 2 and found and found[-1].rank == 2 and _AND.fullmatch(said, found[-1].end, match.start()):
                rank = 2  # the second of "documents 3 and 1"
            found.append(_Mention(match["name"], match.start(), match.end(), rank))
    highest = max((mention.rank for mention in found), default=0)
    if highest < 4:
        return [mention for mention in found if mention.rank == highest]
    sure = [mention for mention in found if mention.rank >= 3]
    chain = sure[_chain_start(sure, said) :]
    return chain if {mention.name for mention in chain} == {mention.name for mention in sure} else sure


def _in_brackets(mention: _Mention, said: str, joints: str) -> _Mention:
    """A mention that stands in brackets, with ``>`` before or after them or not."""
    before = said[max(0, mention.start - 6) : mention.start].rstrip(_TRIMMINGS + "[")[-1:]
    after = said[mention.end : mention.end + 6].lstrip(_TRIMMINGS + "]")[:1]
    is_joined = (before and before in joints) or (after and after in joints)
    return mention._replace(rank=4 if is_joined else 3)


def _chain_start(found: Sequence[_Mention], said: str) -> int:
    """Where the first ranking begins: at the first identifier beside ``>``, or before it, but for words without ``>``."""
    start = next(n for n, mention in enumerate(found) if mention.rank == 4)
    while start and not _WORDS.fullmatch(said, found[start - 1].end, found[start].start):
        start -= 1
    return start


def _rank(said: str, match: re.Match[str], joints: str) -> int:
    start, end = match.span()
    before = said[max(0, start - 4) : start].rstrip(_TRIMMINGS)[-1:]
    if before and before in joints + "[":
        return 3
    after = said[end : end + 4].lstrip(_TRIMMINGS)[:1]
    if after and after in joints + "]":
        return 3
    if _OF_MANY.match(said, end) or said[max(0, start - 4) : start].lower() == "top ":
        return 0
    if match["noun"]:
        return 2
    is_in_word = (
        start < match.start("name") or said[max(0, start - 1) : start].isalnum() or said[end : end + 1].isalpha()
    )
    return 0 if is_in_word else 1


def _is_line_number(said: str, match: re.Match[str], expected: int) -> bool:
    """Whether a number only counts the identifiers, such as the 2 of ``2. [5]`` in the second line."""
    start, end = match.span()
    if _BARE_AFTER.match(said, end) and match["name"] not in (str(expected), str(expected - 1)):
        return False  # the 3 of "3. 1. 2."
    before = said[max(0, start - 2) : start].strip(" ")[-1:]
    return before in ("", "\n", ">") and match["noun"] is None and bool(_AFTER_LINE_NUMBER.match(said, end))


def _groups_in(said: str, letters: bool, ties: bool) -> Iterator[list[str]]:
    """The identifiers in a text, each with those that are tied with it."""
    group: list[str] = []
    last = 0
    for mention in _mentions_in(said, letters, ">=" if ties else ">"):
        between = said[last : mention.start]
        if group and not (ties and "=" in between and ">" not in between):
            yield group
            group = []
        group.append(mention.name)
        last = mention.end
    if group:
        yield group


def _has_chatter(said: str, letters: bool) -> bool:
    """Whether there is more than identifiers, the word passage, and marks."""
    rest = _NAMES[True].sub("", said) if letters else said
    return bool(_CHATTER.search(_NOUNS.sub("", rest)))


def _position(name: str, letters: bool, first: int) -> int | None:
    if letters:
        return LETTERS.index(name)
    return int(name) - first if len(name) <= _MOST_DIGITS else None


def identifiers(n: int, *, letters: bool, first: int = 1) -> Sequence[str]:
    """The identifiers of ``n`` passages, in order."""
    return LETTERS[:n] if letters else [str(number) for number in range(first, first + n)]
