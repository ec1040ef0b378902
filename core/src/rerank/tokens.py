"""A tokenizer as plain token ids: the layout in which it joins texts, its padding, and how many tokens a model reads."""

from __future__ import annotations

import json
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, Final

from rerank.errors import InvalidOptionsError, ModelLoadError, is_failure
from rerank.model_ref import ModelRef
from rerank.pairs import PairLayout

LONGEST_DEFAULT: Final = 1024
"""Default token count per row if the model reads more: attention takes time in the square of a row's length."""

UNSTATED_LIMIT: Final = 512
"""Token count per row if neither the model nor its tokenizer states a limit."""

_PROBES: Final = (("query", "document"), ("how do bees find flowers?", "Foragers dance. Others follow, and fly."))
_PAD_TOKENS: Final = ("[PAD]", "<pad>", "<|padding|>", "<|endoftext|>")
_NO_LIMIT: Final = 1_000_000  # tokenizers without a limit state a far larger number
_POSITIONS: Final = ("max_position_embeddings", "n_positions", "max_encoder_position_embeddings")
"""What configurations call the number of positions: most, GPT-2's kind, and LED's."""

MAX_GROWTH: Final = 64
"""How many times as long a tokenizer's normalizer may make a text: none that was trained comes near it."""

_NORMALIZER: Final = '"normalizer"'
_OBJECT: Final = re.compile(r"\s*:\s*(?=\{)")

_WITHOUT_SEGMENTS: Final = frozenset(("BigBirdTokenizer", "DistilBertTokenizer"))
"""Tokenizers whose pairs have a second segment that their models are not given."""

POSITIONS_BEHIND_PADDING: Final = frozenset(
    (
        "camembert",
        "data2vec-text",
        "esm",
        "ibert",
        "lilt",
        "longformer",
        "luke",
        "markuplm",
        "mpnet",
        "roberta",
        "roberta-prelayernorm",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xmod",
    )
)
"""Model types whose positions start at ``pad_token_id + 1``, so that fewer tokens fit (transformers 5.24)."""

_CHARACTERS_PER_TOKEN: Final = 8
"""How much of a long text is tokenized first, per token that is read of it."""

_UNDECIDED_TOKENS: Final = 32
"""How many tokens before a cut are not relied on."""

_WORD_ENDS_WITHIN: Final = 1000
"""How many characters before a cut are searched for the end of a word."""

_ACROSS_WORDS: Final = re.compile("[^\\W_\u0100-\u0143][ ▁Ġ]")
"""A word and the space after it in one token. Byte-level vocabularies write bytes that are no letters as U+0100 to U+0143."""


class Tokens(ABC):
    """Texts to token ids. Safe to share between threads: no truncation or padding state is ever set."""

    @abstractmethod
    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens, from one batched call."""

    @abstractmethod
    def join(self, text: str, other: str | None = None) -> tuple[list[int], list[int]]:
        """One text or a pair as the tokenizer itself encodes it: token ids with special tokens, and segment ids."""

    @abstractmethod
    def find(self, token: str) -> int | None:
        """The id of a token by its name; None if the vocabulary lacks it."""

    @abstractmethod
    def name(self, token_id: int) -> str:
        """A token's name, such as ``##ing`` or ``[MASK]``; empty if the vocabulary lacks the id."""

    @abstractmethod
    def spans(self, text: str) -> list[tuple[int, int]] | None:
        """Where each token of a text begins and ends in it, special tokens left out; None if the tokenizer cannot tell."""

    @property
    @abstractmethod
    def pad_id(self) -> int | None:
        """The id that the tokenizer itself pads with; None if it states none."""

    def shorten(self, text: str, tokens: int) -> str:
        """The beginning of a long text, so that what a model does not read need not be tokenized.

        Whatever follows it, its first ``tokens`` tokens are those of the whole text; it has more, if the text has.
        This method returns the whole text, and subclasses may do better.

        Args:
            text: The text.
            tokens: How many tokens are wanted.
        """
        return text

    def single_layout(self) -> PairLayout:
        """Where the special tokens of one text stand: in ``before`` and ``after``.

        Raises:
            ModelLoadError: The tokenizer encodes a text in a way that no fixed layout describes.
        """
        layouts = {self._learn_single(text) for probe in _PROBES for text in probe}
        layout = layouts.pop()
        if layout is None or layouts:
            raise ModelLoadError(
                "the tokenizer does not put special tokens around a text in a fixed layout: "
                "use a backend made for this model"
            )
        return layout

    def pair_layout(self) -> PairLayout:
        """Where the special tokens of a pair stand, learnt from one pair and checked on another.

        Raises:
            ModelLoadError: The tokenizer joins pairs in a way that no fixed layout describes.
        """
        layout = self._learn_pair(*_PROBES[0])
        if layout is None or not all(self._explains(layout, *probe) for probe in _PROBES):
            if len({*self.join(*_PROBES[0])[1]}) > 2:
                raise ModelLoadError(
                    "the tokenizer puts a pair into more than two segments, as XLNet's does, which is not supported: "
                    "use another model"
                )
            raise ModelLoadError(
                "the tokenizer does not join query and document in a fixed layout: use a backend made for this model"
            )
        return layout

    def _learn_single(self, text: str) -> PairLayout | None:
        whole, _ = self.join(text)
        (plain,) = self([text])
        at = _find(plain, whole, 0)
        return None if at is None else PairLayout(before=tuple(whole[:at]), after=tuple(whole[at + len(plain) :]))

    def _learn_pair(self, query: str, document: str) -> PairLayout | None:
        whole, types = self.join(query, document)
        first, second = self([query, document])
        at = _find(first, whole, 0)
        then = None if at is None else _find(second, whole, at + len(first))
        if at is None or then is None:
            return None
        between = slice(at + len(first), then)
        return PairLayout(
            before=tuple(whole[:at]),
            between=tuple(whole[between]),
            after=tuple(whole[then + len(second) :]),
            types=(types[at], types[then]),
            opening=types[between].count(types[then]) if types[at] != types[then] else 0,
        )

    def _explains(self, layout: PairLayout, query: str, document: str) -> bool:
        first, second = self([query, document])
        row = layout.row(first, second)
        return (row, layout.type_ids(len(first), len(row))) == self.join(query, document)


def _find(part: Sequence[int], whole: Sequence[int], start: int) -> int | None:
    places = range(start, len(whole) - len(part) + 1)
    return next((at for at in places if whole[at : at + len(part)] == part), None)


class FastTokens(Tokens):
    """A tokenizer of the library ``tokenizers``, such as one read from a ``tokenizer.json``.

    Args:
        tokenizer: The ``tokenizers.Tokenizer``; its truncation and padding are switched off.
        segments: Whether the model was trained with the tokenizer's segment ids; False makes them all 0.
    """

    def __init__(self, tokenizer: Any, *, segments: bool = True) -> None:
        self.tokenizer, self.segments = tokenizer, segments
        self._pad_id = (tokenizer.padding or {}).get("pad_id")
        tokenizer.no_truncation()
        tokenizer.no_padding()

    @classmethod
    def read(cls, file: Path, *, segments: bool = True) -> FastTokens:
        """Read a ``tokenizer.json`` as it stands.

        Args:
            file: The file.
            segments: As for the class.

        Raises:
            ModelLoadError: The file is no tokenizer, or makes texts more than `MAX_GROWTH` times as long.
            ImportError: The package ``tokenizers`` is not installed.
        """
        from tokenizers import Tokenizer

        try:
            content = file.read_text(encoding="utf-8")
            growth = _growth(content)
            if growth <= MAX_GROWTH:
                return cls(Tokenizer.from_str(content), segments=segments)
        except BaseException as error:
            if not is_failure(error):
                raise
            raise ModelLoadError(f"{file} is not a tokenizer ({error}): fetch the checkpoint again") from error
        raise ModelLoadError(
            f"{file} makes a text up to {growth:.3g} times as long before it is read, more than {MAX_GROWTH} times: do not "
            "use this checkpoint, or remove the replacements from its normalizer"
        )

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens, from one batched call."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def count(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, without special tokens."""
        return [len(ids) for ids in self(texts)]

    def shorten(self, text: str, tokens: int) -> str:
        """The beginning of a long text, so that what a model does not read need not be tokenized.

        Whatever follows it, its first ``tokens`` tokens are those of the whole text; it has more, if the text has.
        Where a beginning has too few tokens, as one of spaces has, a longer one is tried, up to the whole text.

        Args:
            text: The text.
            tokens: How many tokens are wanted.
        """
        size = _CHARACTERS_PER_TOKEN * (tokens + self._undecided)
        while 2 * size < len(text):
            places = self._places_to_cut(text, size)
            if 0 < sum(places) < len(text):
                encoded = self([text[:place] for place in places])
                low, high = min(encoded), max(encoded)  # where these two agree, all between them do
                agreed = next((n for n, (a, b) in enumerate(zip(low, high)) if a != b), len(low))
                if agreed - self._undecided > tokens:
                    return text[: places[0] + 1]
            size *= 4
        return text

    def _places_to_cut(self, text: str, size: int) -> list[int]:
        """Places near ``size`` of which one is between two tokens of the whole text; the farthest first, empty if there are none.

        What is left of such a place has the same tokens whatever is right of it: so the merges of BPE and the best paths of
        unigram models work. That is the place behind a word, where no token holds a word and the space behind it. In a text
        without spaces it is one of as many places as the longest token has characters; controls, marks and spaces, which
        normalizers may remove, are not counted.
        """
        if not self._crosses_words:
            for place in range(size, max(1, size - _WORD_ENDS_WITHIN), -1):
                if text[place] == " " and text[place - 1].isalnum():
                    return [place]
        places, counted = [], 0
        for place in range(size, size // 2, -1):
            places.append(place)
            counted += unicodedata.category(text[place - 1])[0] not in "CMZ"
            if counted == self._longest:
                return places
        return []

    @cached_property
    def _undecided(self) -> int:
        """How many tokens before a cut are not relied on; WordPiece takes a word of up to so many characters as a whole."""
        return _UNDECIDED_TOKENS + getattr(self.tokenizer.model, "max_input_chars_per_word", 0)

    @cached_property
    def _longest(self) -> int:
        """How many characters the longest token has, or bytes in byte-level vocabularies."""
        return max(map(len, self.tokenizer.get_vocab()))

    @cached_property
    def _crosses_words(self) -> bool:
        return any(map(_ACROSS_WORDS.search, self.tokenizer.get_vocab()))

    def cut(self, text: str, tokens: int) -> str:
        """The beginning of a text that has at most so many tokens, without special tokens, and ends with a whole character."""
        text = self.shorten(text, tokens + 1)
        offsets = self.spans(text)
        if len(offsets) <= tokens:
            return text
        while tokens and offsets[tokens][0] < offsets[tokens - 1][1]:  # both are parts of one character
            tokens -= 1
        return text[: offsets[tokens - 1][1]] if tokens else ""

    def join(self, text: str, other: str | None = None) -> tuple[list[int], list[int]]:
        """One text or a pair as the tokenizer itself encodes it: token ids with special tokens, and segment ids."""
        encoding = self.tokenizer.encode(text, other)
        return encoding.ids, encoding.type_ids if self.segments else [0] * len(encoding.ids)

    def find(self, token: str) -> int | None:
        """The id of a token by its name; None if the vocabulary lacks it."""
        found: int | None = self.tokenizer.token_to_id(token)
        return found

    def name(self, token_id: int) -> str:
        """A token's name, such as ``##ing`` or ``[MASK]``; empty if the vocabulary lacks the id."""
        return self.tokenizer.id_to_token(token_id) or ""

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where each token of a text begins and ends in it, special tokens left out."""
        offsets: list[tuple[int, int]] = self.tokenizer.encode(text, add_special_tokens=False).offsets
        return offsets

    @property
    def pad_id(self) -> int | None:
        """The id that the tokenizer itself pads with; None if it states none."""
        return self._pad_id


def _growth(tokenizer: str) -> float:
    """How many times as long the normalizers of a ``tokenizer.json`` make a text at most."""
    growth, place = 1.0, tokenizer.find(_NORMALIZER)  # many times as fast as a regular expression
    while place >= 0:
        if start := _OBJECT.match(tokenizer, place + len(_NORMALIZER)):
            growth = max(growth, _growth_of(json.JSONDecoder().raw_decode(tokenizer, start.end())[0]))
        place = tokenizer.find(_NORMALIZER, place + 1)
    return growth


def _growth_of(normalizer: Mapping[str, Any]) -> float:
    """The same of one: a sequence multiplies, and a replacement puts its content in the place of a character or more."""
    if normalizer.get("type") == "Sequence":
        return prod(map(_growth_of, normalizer.get("normalizers") or ()))
    if normalizer.get("type") != "Replace":
        return 1
    replaced = normalizer.get("pattern", {}).get("String") or "a"
    return max(1, len(normalizer.get("content", "")) / len(replaced))


def read_tokenizer_config(model: ModelRef) -> Mapping[str, Any]:
    """A checkpoint's ``tokenizer_config.json``, empty where it has none.

    The ``max_seq_length`` that sentence-transformers saves in a file of its own takes the place of
    ``model_max_length``, as it does there.

    Raises:
        ModelLoadError: A file cannot be fetched, or is not a JSON object.
    """
    own, beside = (
        model.read_json(file) if file in model.files else {}
        for file in ("tokenizer_config.json", "sentence_bert_config.json")
    )
    longest = beside.get("max_seq_length")
    return {**own, **({} if longest is None else {"model_max_length": longest})}


def special_token(tokenizer_config: Mapping[str, Any], role: str) -> str | None:
    """The text of a special token, by its role (``bos``, ``eos``, ``pad`` …); None if the tokenizer states none.

    Args:
        tokenizer_config: The checkpoint's ``tokenizer_config.json``.
        role: The token's role.
    """
    stated = tokenizer_config.get(f"{role}_token")
    text = stated.get("content") if isinstance(stated, Mapping) else stated
    return text if isinstance(text, str) else None


def reads_segments(tokenizer_config: Mapping[str, Any]) -> bool:
    """Whether a checkpoint's model reads segment ids, by its ``tokenizer_config.json``.

    Where that names no inputs, it does unless the tokenizer's class says otherwise (transformers 4.57; 5 dropped the
    segments of most classes, under which the models were trained).
    """
    stated = tokenizer_config.get("model_input_names")
    if not stated:
        return str(tokenizer_config.get("tokenizer_class")).removesuffix("Fast") not in _WITHOUT_SEGMENTS
    return "token_type_ids" in stated


def find_pad_id(tokens: Tokens, config: Mapping[str, Any], tokenizer_config: Mapping[str, Any]) -> int:
    """The id that fills short rows.

    Any id works under the mask, but some models compute positions or lengths from it. So the model's setting comes
    first, then the tokenizer's, then a token with a usual name.

    Args:
        tokens: The tokenizer.
        config: The checkpoint's ``config.json``.
        tokenizer_config: Its ``tokenizer_config.json``.
    """
    named = special_token(tokenizer_config, "pad")
    candidates = [config.get("pad_token_id"), tokens.pad_id]
    candidates += [tokens.find(token) for token in (named, *_PAD_TOKENS) if token is not None]
    return next((value for value in candidates if isinstance(value, int) and value >= 0), 0)


def first_position(config: Mapping[str, Any], pad_id: int) -> int:
    """The position of a row's first token, by its ``config.json``; RoBERTa's kind counts from behind the padding's."""
    return pad_id + 1 if config.get("model_type") in POSITIONS_BEHIND_PADDING else 0


@dataclass(frozen=True, slots=True)
class TokenLimits:
    """How many tokens a model reads.

    Args:
        positions: How many tokens it has positions for, special tokens included; None if it states none.
        trained: How many tokens it was trained for, by its tokenizer and its positions; None if neither states it.
    """

    positions: int | None
    trained: int | None

    @classmethod
    def read(cls, config: Mapping[str, Any], tokenizer_config: Mapping[str, Any], pad_id: int) -> TokenLimits:
        """The limits that a checkpoint states.

        Args:
            config: Its ``config.json``.
            tokenizer_config: Its ``tokenizer_config.json``.
            pad_id: The id that fills short rows.
        """
        stated = next((config[name] for name in _POSITIONS if config.get(name) is not None), None)
        rows = stated if isinstance(stated, int) and stated > 0 else None
        if rows is not None:
            rows -= first_position(config, pad_id)
        longest = tokenizer_config.get("model_max_length")
        limits = [int(longest)] if isinstance(longest, (int, float)) and 0 < longest < _NO_LIMIT else []
        return cls(
            positions=rows if config.get("position_biased_input", True) else None,  # DeBERTa's are relative without it
            trained=min([*limits, *([] if rows is None else [rows])], default=None),
        )

    @property
    def longest(self) -> int:
        """Token count per row that the model was trained for, or a safe one if it states none."""
        return self.trained or UNSTATED_LIMIT

    @property
    def default(self) -> int:
        """Token count per row if the user sets no ``max_length``."""
        return min(self.longest, LONGEST_DEFAULT)

    def at_most(self, length: int | None) -> TokenLimits:
        """The limits of a model that reads no more than ``length`` tokens; None changes nothing."""
        if length is None:
            return self
        limits = (min(length, limit or length) for limit in (self.positions, self.trained))
        return TokenLimits(*limits)

    def check(self, max_length: int, option: str = "max_length") -> int:
        """Return ``max_length`` unchanged.

        Args:
            max_length: A token count.
            option: The option that set it.

        Raises:
            InvalidOptionsError: The model has no positions for that many tokens.
        """
        if self.positions is not None and max_length > self.positions:
            windows = ", or set long_documents='chunk' to read all of a document in windows"
            raise InvalidOptionsError(
                f"{option}={max_length} is beyond the {self.positions} tokens that the model has positions for: "
                f"lower it{windows if option == 'max_length' else ''}"
            )
        return max_length

    def of_row(self, max_length: int | None) -> int:
        """Token count per row: ``max_length`` if it is set and fits, else the default.

        Raises:
            InvalidOptionsError: The model has no positions for that many tokens.
        """
        return self.default if max_length is None else self.check(max_length)


def query_limit(query_max_length: int | None, max_length: int) -> int:
    """How many tokens of a row a query may take: as set, else three quarters (FlagEmbedding 1.4.2)."""
    return query_max_length or max_length * 3 // 4
