"""Joins a query and its documents into a model's input rows, for any tokenizer, and a row's value into scores."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rerank.errors import InvalidOptionsError
from rerank.options import Aggregate, Options
from rerank.protocols import Scores
from rerank.results import ScoreScale

logger = logging.getLogger(__name__)


def fit_pair(query_len: int, doc_len: int, budget: int) -> tuple[int, int]:
    """How many tokens of a query and of a document fit into ``budget``; the document is cut first."""
    query = min(query_len, max(0, budget))
    return query, min(doc_len, max(0, budget - query))


def plan_windows(query_len: int, doc_len: int, budget: int, overlap: int) -> list[tuple[int, int]]:
    """Cut a document into windows that fit into a row with the query.

    Args:
        query_len: Token count of the query, which is repeated in every window.
        doc_len: Token count of the document.
        budget: Token count that query and window may have together.
        overlap: Tokens that neighbouring windows share.

    Returns:
        ``(start, end)`` of each window, at least one; together they cover the document.

    Raises:
        InvalidOptionsError: The query leaves no room for more than the overlap.
    """
    size = budget - query_len
    if doc_len <= size:
        return [(0, doc_len)]
    if size <= overlap:
        raise InvalidOptionsError(
            f"a query of {query_len} tokens leaves windows of {max(0, size)} in a budget of {budget}, which "
            f"do not exceed their overlap of {overlap}: raise max_length or window, or lower overlap"
        )
    starts = range(0, doc_len - overlap, size - overlap)
    return [(start, min(start + size, doc_len)) for start in starts]


def plan_parts(query_len: int, doc_len: int, budget: int, options: Options) -> tuple[list[tuple[int, int]], bool]:
    """Which parts of a document the model reads.

    Args:
        query_len: Token count of the query in every row; 0 if documents are read without it.
        doc_len: Token count of the document.
        budget: Token count that query and document may have together.
        options: ``long_documents``, ``window`` and ``overlap`` are read.

    Returns:
        ``(start, end)`` of each part: its windows if ``long_documents`` is ``chunk``, else its beginning; and whether the
        document lost tokens.

    Raises:
        InvalidOptionsError: As for `plan_windows`.
    """
    if options.long_documents == "chunk":
        room = budget if options.window is None else min(budget, query_len + options.window)
        return plan_windows(query_len, doc_len, room, options.overlap), False
    _, kept = fit_pair(query_len, doc_len, budget)
    return [(0, kept)], kept < doc_len


def aggregate(values: Sequence[float], owners: Sequence[int], how: Aggregate) -> list[float]:
    """One value per document, from the values of its windows.

    Args:
        values: One per window.
        owners: Which document each window belongs to: 0, 0, 1, 2, 2 … in order, none left out.
        how: ``max`` takes the best window, ``mean`` the average of all, ``first`` the first one.
    """
    windows = _by_document(values, owners)
    if how == "max":
        return [max(group) for group in windows]
    if how == "mean":
        return [sum(group) / len(group) for group in windows]
    return [group[0] for group in windows]


def describe_windows(
    values: Sequence[float],
    owners: Sequence[int],
    options: Options,
    place: Callable[[int, int], Mapping[str, Any]],
) -> list[Mapping[str, Any]] | None:
    """Which window of each document won, as plain data for ``Result.details``.

    Args:
        values: As for `aggregate`.
        owners: As for `aggregate`.
        options: With ``aggregate="first"`` it is the first window, else the one with the highest value.
        place: Takes a document's number and its window's, and returns where the window stands in the document.

    Returns:
        Per document with several windows ``window``: its number ``index`` from 0, how many there are (``count``), its
        ``score`` and what ``place`` says; nothing for other documents. None if documents are not read in windows.
    """
    if options.long_documents != "chunk":
        return None
    details: list[Mapping[str, Any]] = []
    for owner, own in enumerate(_by_document(values, owners)):
        best = 0 if options.aggregate == "first" else max(range(len(own)), key=own.__getitem__)
        window = {"index": best, "count": len(own), "score": own[best]}
        details.append({"window": {**window, **place(owner, best)}} if len(own) > 1 else {})
    return details


def _by_document(values: Sequence[float], owners: Sequence[int]) -> list[list[float]]:
    """The values of each document's windows."""
    windows: list[list[float]] = []
    for value, owner in zip(values, owners):
        if owner == len(windows):
            windows.append([])
        windows[owner].append(value)
    return windows


def place_window(tokens: tuple[int, int], spans: Sequence[tuple[int, int] | None] | None) -> Mapping[str, Any]:
    """Where a window stands, as `describe_windows` asks for it.

    Args:
        tokens: The window's first token, and the one after its last.
        spans: Where each token of the document stands in its text; None if that is unknown, of one or of all.

    Returns:
        ``tokens``, and ``characters`` where they are known: each ``[start, end]``.
    """
    start, end = tokens
    known = [span for span in (spans or ())[start:end] if span is not None]
    characters = {"characters": [known[0][0], known[-1][1]]} if known else {}
    return {"tokens": [start, end], **characters}


@dataclass(frozen=True, slots=True)
class PairLayout:
    """Where a model expects the query and the document: ``before query between document after``.

    Args:
        before: Token ids before the query, such as ``[CLS]`` or a prompt's beginning.
        between: Token ids between query and document.
        after: Token ids after the document, never cut.
        types: Segment ids of ``before query between`` and of ``document after``.
        opening: How many tokens of ``between``, at its end, already belong to the second segment, as in Llama's layout.
    """

    before: tuple[int, ...] = ()
    between: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    types: tuple[int, int] = (0, 0)
    opening: int = 0

    def __len__(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)

    def row(self, query: Sequence[int], document: Sequence[int]) -> list[int]:
        """One input row."""
        return [*self.before, *query, *self.between, *document, *self.after]

    def first_len(self, query_len: int) -> int:
        """How many tokens of a row, from its start, belong to the first segment."""
        return len(self.before) + query_len + len(self.between) - self.opening

    def type_ids(self, query_len: int, row_len: int) -> list[int]:
        """Segment ids of one row."""
        first = self.first_len(query_len)
        return [self.types[0]] * first + [self.types[1]] * (row_len - first)


@dataclass(frozen=True, slots=True)
class PairRows:
    """A query with its documents, ready to run.

    Args:
        rows: Token ids of each row.
        query_len: Token count of the query in every row, after any cut.
        owners: Which document each row belongs to, in their order.
        truncated: How many documents lost tokens.
        query_truncated: Whether the query lost tokens.
        windows: Which tokens of its document each row has, ``(start, end)``.
        spans: Takes a document's number, and returns where each of its tokens stands in its text; None if that is unknown.
    """

    rows: list[list[int]]
    query_len: int
    owners: list[int]
    truncated: int
    query_truncated: bool
    windows: Sequence[tuple[int, int]]
    spans: Callable[[int], Sequence[tuple[int, int]] | None] = field(default=lambda owner: None, compare=False)

    def scores(self, values: Iterator[float], options: Options, scale: ScoreScale) -> Scores:
        """The documents' scores.

        Of a document with several windows, ``details["window"]`` says which one won, as `describe_windows` does.

        Args:
            values: One per row; as many are taken as there are rows.
            options: ``aggregate`` and ``long_documents`` are read.
            scale: What a score means.
        """
        taken = [next(values) for _ in self.rows]
        return Scores(
            values=aggregate(taken, self.owners, options.aggregate),
            scale=scale,
            details=describe_windows(taken, self.owners, options, self._place),
            diagnostics={"truncated": self.truncated, "query_truncated": self.query_truncated},
        )

    def _place(self, owner: int, number: int) -> Mapping[str, Any]:
        return place_window(self.windows[bisect_left(self.owners, owner) + number], self.spans(owner))


def pair_rows(
    query: Sequence[int],
    documents: Sequence[Sequence[int]],
    layout: PairLayout,
    options: Options,
    *,
    max_length: int,
    query_max_length: int,
    spans: Callable[[int], Sequence[tuple[int, int]] | None] = lambda owner: None,
) -> PairRows:
    """Lay out one query with each document, or with each window of it if ``long_documents`` is ``chunk``.

    Args:
        query: Token ids without special tokens.
        documents: Token ids without special tokens.
        layout: The model's layout.
        options: Core's ``long_documents``, ``window`` and ``overlap`` are read.
        max_length: Maximum token count per row, special tokens included.
        query_max_length: Maximum token count of the query; a longer one is cut, and ``query_truncated`` is True.
        spans: As for `PairRows`.
    """
    budget = max_length - len(layout)
    kept_query, _ = fit_pair(min(len(query), query_max_length), 0, budget)
    cut_query = query[:kept_query]
    rows, owners, truncated = [], [], 0
    kept: list[tuple[int, int]] = []
    for owner, document in enumerate(documents):
        windows, is_cut = plan_parts(kept_query, len(document), budget, options)
        truncated += is_cut
        rows += [layout.row(cut_query, document[start:end]) for start, end in windows]
        owners += [owner] * len(windows)
        kept += windows
    return PairRows(rows, kept_query, owners, truncated, kept_query < len(query), kept, spans)


def encode_pairs(
    texts: Iterable[tuple[str, Sequence[str]]],
    tokens: Callable[[Sequence[str]], Sequence[Sequence[int]]],
    layout: PairLayout,
    options: Options,
    *,
    max_length: int,
    query_max_length: int,
) -> list[PairRows]:
    """Encode every text in one call, and lay out the rows of each query; a query that is cut is warned about.

    Of a long text, only the beginning is encoded where the rest is cut anyway (`Tokens.shorten`).

    Args:
        texts: Queries, each with its documents.
        tokens: Texts to token ids without special tokens, such as `rerank.Tokens`.
        layout: As for `pair_rows`, like the arguments that follow.
        options: As for `pair_rows`.
        max_length: As for `pair_rows`.
        query_max_length: As for `pair_rows`.
    """
    texts = list(texts)
    shorten = getattr(tokens, "shorten", _keep)
    read = _keep if options.long_documents == "chunk" else partial(shorten, tokens=max_length)
    encoded = iter(
        tokens(
            [text for query, documents in texts for text in (shorten(query, query_max_length), *map(read, documents))]
        )
    )
    pairs = []
    for text, documents in texts:
        query = next(encoded)
        ids = [next(encoded) for _ in documents]
        one = pair_rows(
            query,
            ids,
            layout,
            options,
            max_length=max_length,
            query_max_length=query_max_length,
            spans=partial(_spans_of, tokens, documents),
        )
        if one.query_truncated:
            logger.warning(
                "a query of %d characters was cut to %d tokens: raise query_max_length or max_length",
                len(text),
                one.query_len,
            )
        pairs.append(one)
    return pairs


def _keep(text: str, tokens: int = 0) -> str:
    """The whole text, in place of `Tokens.shorten`."""
    return text


def _spans_of(
    tokens: Callable[[Sequence[str]], Sequence[Sequence[int]]], documents: Sequence[str], owner: int
) -> Sequence[tuple[int, int]] | None:
    """Where each token of a document stands in its text; None if the tokenizer cannot tell."""
    spans = getattr(tokens, "spans", None)
    return None if spans is None else spans(documents[owner])
