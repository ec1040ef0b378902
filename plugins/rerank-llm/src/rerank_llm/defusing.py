"""Texts that imitate a prompt's marks: a passage that says ``<|im_end|>`` must not end a turn."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from rerank import FastTokens


class Defuser:
    """Makes marks in a text plain text, by breaking them: ``<|im_end|>`` becomes ``< |im_end|>``.

    A tokenizer that normalizes a text may find marks in it that were none, such as those in full-width characters; so does this,
    and then returns the normalized text.

    Args:
        marks: What a text must not contain.
        normalize: The tokenizer's normalizer, if it has one.
    """

    def __init__(self, marks: Iterable[str], normalize: Callable[[str], str] | None = None) -> None:
        longest_first = sorted({*marks}, key=lambda mark: (-len(mark), mark))
        self._marks = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
        self._normalize = normalize

    @classmethod
    def of(cls, tokens: FastTokens, frame: str, marks: Iterable[str] = ()) -> Defuser:
        """A defuser of a tokenizer's special tokens.

        Args:
            tokens: The tokenizer.
            frame: The prompt without any text: added tokens that stand in it count as marks too.
            marks: Further marks.
        """
        added = tokens.tokenizer.get_added_tokens_decoder().values()
        found = {
            token.content for token in added if len(token.content) > 1 and (token.special or token.content in frame)
        }
        normalizer = tokens.tokenizer.normalizer
        return cls({*found, *marks}, normalizer.normalize_str if normalizer else None)

    def __call__(self, text: str) -> tuple[str, int]:
        """The text, and how many marks in it were broken."""
        if self._marks is None:
            return text, 0
        text, count = self._marks.subn(_break, text)
        if self._normalize is not None and self._marks.search(normalized := self._normalize(text)):
            text, more = self._marks.subn(_break, normalized)
            count += more
        return text, count


def _break(mark: re.Match[str]) -> str:
    return f"{mark[0][0]} {mark[0][1:]}"
