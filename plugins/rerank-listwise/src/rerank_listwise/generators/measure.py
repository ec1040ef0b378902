"""How many tokens a text has, where the model is behind a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec

from rerank import FastTokens, InvalidOptionsError, ModelRef


class EstimatedTokens:
    """Tokens by the characters: one per four of ASCII, one per two of the other alphabets, and one per character of any other
    script.

    Tokenizers write English with four characters per token, Russian with two or three, and Chinese and Japanese with about one.
    """

    def count(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has."""
        return [-(-sum(map(_quarters, text)) // 4) for text in texts]

    def cut(self, text: str, tokens: int) -> str:
        """The beginning of a text that has at most so many tokens; it ends at a space where there is one, so that no word is cut."""
        if len(text) <= tokens:
            return text
        left = 4 * tokens
        for end, character in enumerate(text):
            left -= _quarters(character)
            if left < 0:
                kept = text[:end]
                whole, space, word = kept.rpartition(" ")
                is_cut = character.isascii() and not character.isspace()
                return whole if space and is_cut and word.isascii() and len(word) < 40 else kept.rstrip()
        return text


def _quarters(character: str) -> int:
    if character.isascii():
        return 1
    return 2 if character < "\u0900" else 4  # Latin, Greek, Cyrillic, Hebrew and Arabic letters come before


def read_tokens(name: str | None, model: ModelRef) -> EstimatedTokens | FastTokens:
    """The tokens of a tokenizer on this machine or the hub; an estimate if none is named.

    Raises:
        InvalidOptionsError: The package ``tokenizers`` is not installed.
        ModelLoadError: There is no such tokenizer, or it cannot be read.
    """
    if name is None:
        return EstimatedTokens()
    if find_spec("tokenizers") is None:
        raise InvalidOptionsError("tokenizer= needs tokenizers: pip install tokenizers, or leave it out")
    return FastTokens.read(replace(model, name=name, alias=None, revision=None).fetch("tokenizer.json"))
