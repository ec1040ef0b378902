"""Texts to rows of token ids, and which of a row's vectors are compared."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rerank import (
    InvalidOptionsError,
    PairLayout,
    TokenLimits,
    Tokens,
    place_window,
    plan_parts,
    probe_limits,
    probe_rows,
    special_token,
)
from rerank_colbert.options import ColbertOptions
from rerank_colbert.recipe import Augmentation, Recipe
from rerank_torch.rows import Row

logger = logging.getLogger(__name__)

_MASK_TOKENS: Final = ("[MASK]", "<mask>")


@dataclass(frozen=True, slots=True)
class TextRow:
    """A text, or a window of it, as the model reads it.

    Args:
        tokens: Its token ids.
        compared: ``(tokens,)`` whether a token's vector is compared.
        places: Per token its position among the text's own; None for those that were added.
    """

    tokens: Row
    compared: NDArray[np.bool_]
    places: Sequence[int | None]


@dataclass(frozen=True, slots=True)
class Query:
    """A query that was encoded.

    Args:
        row: What the model read.
        vectors: ``(query_vectors, dimensions)`` those that are compared.
        truncated: Whether it lost tokens.
    """

    row: TextRow
    vectors: NDArray[np.float32]
    truncated: bool


class RowMaker:
    """Queries and documents to rows, as a recipe says.

    Args:
        tokens: The tokenizer.
        recipe: The checkpoint's recipe.
        limits: How many tokens the model reads.
        tokenizer_config: The checkpoint's ``tokenizer_config.json``.

    Raises:
        ModelLoadError: The tokenizer puts its special tokens around a text in no fixed layout.
    """

    def __init__(
        self, tokens: Tokens, recipe: Recipe, limits: TokenLimits, tokenizer_config: Mapping[str, Any]
    ) -> None:
        self.tokens, self.recipe, self.limits = tokens, recipe, limits
        self._tokenizer_config = tokenizer_config
        layout = self._layout = tokens.single_layout()
        self._query = self._prefix(recipe.query_marker, recipe.query_prompt, layout)
        self._document = self._prefix(recipe.document_marker, recipe.document_prompt, layout)
        self._skipped = np.array(sorted(_skipped_ids(recipe, tokens)), dtype=np.int64)

    def queries(self, texts: Sequence[str], options: ColbertOptions) -> list[tuple[TextRow, bool]]:
        """One row per query, and whether the query lost tokens.

        Raises:
            InvalidOptionsError: ``query_max_length`` leaves no room for words, or there is no token to augment with.
        """
        how = options.augmentation or self.recipe.augmentation
        longest = self._query_length(how, options)
        layout = self._query.layout
        room = longest - len(layout)
        if room < 1:
            raise InvalidOptionsError(
                f"query_max_length={longest} leaves no room for words beside {len(layout)} other tokens: raise it"
            )
        rows = []
        for text, ids in zip(texts, self._encode(self._query, texts, longest)):
            if len(ids) > room:
                logger.warning("a query of %d characters was cut to %d tokens: raise query_max_length", len(text), room)
            row = layout.row((), ids[:room])
            added = _augmented_length(how, len(row), self.recipe.augmented_length, longest) - len(row)
            filled = [*row, *([self._augmentation_id] * added if added else ())]
            text_row = self._text_row(
                filled,
                range(min(len(ids), room)),
                before=len(layout.before),
                skips=self.recipe.skips_in_queries,
                unattended=0 if self.recipe.attends else added,
            )
            rows.append((text_row, len(ids) > room))
        return rows

    def probe(self) -> list[tuple[int, ...]]:
        """Token ids of a short and a long text, which show whether padding changes vectors."""
        return [ids for ids, _ in probe_rows(self.tokens, self._layout, self.limits.default)]

    def probe_limits(self, runs: Callable[[tuple[int, ...]], bool]) -> None:
        """Lower the limits to what the model reads; ``runs`` says whether it reads a row.

        Raises:
            ModelLoadError: It reads no rows.
        """
        self.limits = probe_limits(self.limits, self.tokens, self._layout, lambda ids, _: runs(ids))

    def check_lengths(self, options: ColbertOptions) -> None:
        """Check the lengths that options set.

        Raises:
            InvalidOptionsError: The model has no positions for so many tokens.
        """
        self.document_length(options)
        self._query_length(self.recipe.augmentation, options)

    def _query_length(self, how: Augmentation, options: ColbertOptions) -> int:
        """The longest a query may become."""
        if options.query_max_length is not None:
            return self.limits.check(options.query_max_length, "query_max_length")
        grows = how in ("minimum", "dynamic") and how != self.recipe.augmentation
        stated = None if grows else self.recipe.query_length
        if stated is None and how == "fixed":
            stated = self.recipe.augmented_length
        return self._within_limit(stated)

    def _within_limit(self, stated: int | None) -> int:
        """A checkpoint's own length, or the model's where it states none; never more than there are positions."""
        length = self.limits.default if stated is None else stated
        return length if self.limits.positions is None else min(length, self.limits.positions)

    @property
    def _augmentation_id(self) -> int:
        named = self.recipe.augmentation_token
        usual = [
            special_token(self._tokenizer_config, "mask"),
            *_MASK_TOKENS,
            special_token(self._tokenizer_config, "eos"),
        ]
        candidates = [self.tokens.find(token) for token in ([named] if named else usual) if token]
        found = next((token for token in candidates if token is not None), None)
        if found is None:
            raise InvalidOptionsError(
                f"the tokenizer has no {named or 'mask or end-of-sequence'} token to augment queries with: "
                "pass augmentation='none'"
            )
        return found

    def documents(self, texts: Sequence[str], options: ColbertOptions) -> list[tuple[list[TextRow], bool]]:
        """Per document its rows, several if it is read in windows, and whether it lost tokens.

        Raises:
            InvalidOptionsError: ``max_length`` is beyond the model's positions or leaves no room for words.
        """
        longest = self.document_length(options)
        documents = []
        for whole in self._encode(self._document, texts, self._read_length(options)):
            layout, ids = self._document.split(whole)
            prompt_len, room = len(whole) - len(ids), longest - len(layout)
            if room < 1:
                raise InvalidOptionsError(
                    f"max_length={longest} leaves no room for words beside {len(layout)} other tokens: raise it"
                )
            parts, is_cut = plan_parts(0, len(ids), room, options)
            rows = [
                self._text_row(
                    layout.row((), ids[start:end]),
                    range(prompt_len + start, prompt_len + end),
                    before=len(layout.before),
                    skips=self.recipe.skips_in_documents,
                )
                for start, end in parts
            ]
            documents.append((rows, is_cut))
        return documents

    def document_length(self, options: ColbertOptions) -> int:
        """Token count per document, special tokens included.

        Raises:
            InvalidOptionsError: ``max_length`` is beyond the model's positions.
        """
        if options.max_length is not None:
            return self.limits.check(options.max_length)
        return self._within_limit(self.recipe.document_length)

    def _read_length(self, options: ColbertOptions) -> int | None:
        """How many tokens of a document are read; None for all, in windows."""
        return None if options.long_documents == "chunk" else self.document_length(options)

    def place(self, text: str, number: int, options: ColbertOptions) -> Mapping[str, Any]:
        """Where a window of a document stands in it, in its own tokens and in characters."""
        ((rows, _),) = self.documents([text], options)
        windows = [[place for place in row.places if place is not None] for row in rows]
        first, own = windows[0][0], windows[number]
        spans = self.document_spans(text, options)
        return place_window((own[0] - first, own[-1] + 1 - first), None if spans is None else spans[first:])

    def document_spans(self, text: str, options: ColbertOptions) -> list[tuple[int, int] | None] | None:
        """Where each of a document's own tokens that are read stands in its text; None if the tokenizer cannot tell."""
        spans = self.tokens.spans(self._whole(self._document, text, self._read_length(options)))
        if spans is None:
            return None
        prompt_len = len(self._document.prompt)
        shift = text.index(self._trim(text)) - prompt_len
        return [(max(start, prompt_len) + shift, end + shift) if end > prompt_len else None for start, end in spans]

    def _encode(self, prefix: _Prefix, texts: Sequence[str], longest: int | None = None) -> list[list[int]]:
        """Token ids of texts, each with the prompt: the first ``longest`` at least, all if that is None."""
        return self.tokens([self._whole(prefix, text, longest) for text in texts])

    def _whole(self, prefix: _Prefix, text: str, longest: int | None) -> str:
        """What is tokenized of a text: as much as has ``longest`` tokens, all if that is None."""
        whole = prefix.prompt + self._trim(text)
        if self.recipe.lowercases:
            whole = whole.lower()
        return whole if longest is None else self.tokens.shorten(whole, longest)

    def _trim(self, text: str) -> str:
        return text.strip() if self.recipe.strips else text

    def _prefix(self, marker: str, prompt: str, layout: PairLayout) -> _Prefix:
        """What stands before and after a text. A marker that the vocabulary lacks is text, for Stanford the unknown token."""
        if marker and self.tokens.find(marker) is None and self.recipe.layout == "stanford":
            marker = special_token(self._tokenizer_config, "unk") or ""
        token = self.tokens.find(marker) if marker else None
        before, prompt = ((*layout.before, token), prompt) if token is not None else (layout.before, marker + prompt)
        (ids,) = self._encode(_Prefix(layout, prompt, ()), [""])
        return _Prefix(PairLayout(before=before, after=layout.after), prompt, tuple(ids))

    def _text_row(self, ids: Sequence[int], places: range, *, before: int, skips: bool, unattended: int = 0) -> TextRow:
        """A row, of which so many tokens as there are places, from ``before`` on, are the text's own."""
        tokens = np.array(ids)  # (tokens,)
        own = np.zeros(len(ids), dtype=bool)  # (tokens,)
        own[before : before + len(places)] = True
        compared = own | self.recipe.specials
        if skips:
            compared &= ~np.isin(tokens, self._skipped)
        if not compared.any():  # a text without words
            compared[:] = True
        row_places = [None] * before + list(places) + [None] * (len(ids) - before - len(places))
        return TextRow(Row(tuple(ids), unattended=unattended), compared, row_places)


@dataclass(frozen=True, slots=True)
class _Prefix:
    """What stands before and after a text.

    Args:
        layout: Special tokens, and the marker.
        prompt: Text that is tokenized with it.
        prompt_ids: Its token ids.
    """

    layout: PairLayout
    prompt: str
    prompt_ids: tuple[int, ...]

    def split(self, ids: Sequence[int]) -> tuple[PairLayout, Sequence[int]]:
        """Token ids of prompt and text as the layout with the prompt, which windows repeat, and the text's own."""
        count = len(self.prompt_ids)
        if tuple(ids[:count]) != self.prompt_ids:  # prompt and text share a token
            return self.layout, ids
        return PairLayout(before=(*self.layout.before, *self.prompt_ids), after=self.layout.after), ids[count:]


def _skipped_ids(recipe: Recipe, tokens: Tokens) -> set[int]:
    """The tokens that a skiplist names; words that the vocabulary lacks are left out, or unknown words would be skipped.

    colbert-ai 0.2.22 takes the first token of each word instead: the space before it, where a tokenizer sees one.
    """
    if recipe.layout == "stanford":
        return {ids[0] for ids in tokens(recipe.skiplist) if len(ids)}
    return {token for word in recipe.skiplist if (token := tokens.find(word)) is not None}


def _augmented_length(how: Augmentation, length: int, least: int, longest: int) -> int:
    """The token count to which a query is filled.

    Args:
        how: The kind of augmentation.
        length: The query's own token count, special tokens included.
        least: What ``minimum`` fills to.
        longest: What ``fixed`` fills to, and none exceeds.
    """
    if how == "dynamic":  # AnswerDotAI rerankers 0.10.0
        filled = length + 8 if length % 16 <= 8 else math.ceil(length / 16) * 16
    else:
        filled = {"fixed": longest, "minimum": least, "none": length}[how]
    return max(length, min(filled, longest))
