"""Encoder graphs: query and document apart, compared token by token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from rerank import GroupScorer, ModelLoadError, Request, Scores, TokenLimits, Tokens, aggregate, pair_rows
from rerank_onnx.graph import Array, Graph
from rerank_onnx.options import OnnxOptions

_TINY: Final = 1e-9
"""Lower bound of vector lengths, so that a zero vector causes no division by zero."""


class OnnxLateInteraction(GroupScorer):
    """Scores documents by their token vectors, with this project's own formula, not ColBERT's.

    The score is MaxSim plus a share of the pooled cosine. MaxSim: for each query token its best cosine over the
    document's tokens, averaged over the query's; special tokens are left out, and MaxSim is 0 if a side has no others.
    Pooled: the cosine of the mean token vectors, special tokens included.

    Args:
        tokens: The tokenizer.
        limits: How many tokens the model reads.
        graph: Takes token ids and returns token vectors.
        settings: ``query_tokens`` and ``document_tokens`` (limits, special tokens included) and ``pooled_weight``, as
            ``config.json`` has them under ``late_interaction``; by default those of the embedded model.

    Raises:
        ModelLoadError: The settings are not numbers, or leave no room for words.
    """

    def __init__(self, tokens: Tokens, limits: TokenLimits, graph: Graph, settings: Mapping[str, Any]) -> None:
        self.tokens, self.limits, self.graph = tokens, limits, graph
        self.layout = tokens.single_layout()
        try:
            self.query_tokens = int(settings.get("query_tokens", 48))
            self.document_tokens = min(int(settings.get("document_tokens", 256)), limits.longest)
            self.pooled_weight = float(settings.get("pooled_weight", 0.5))
        except (AttributeError, TypeError, ValueError) as error:
            raise ModelLoadError(f"late_interaction in config.json is {settings!r}: give it numbers") from error
        if min(self.query_tokens, self.document_tokens) <= len(self.layout):
            raise ModelLoadError(
                f"late_interaction in config.json leaves no room for words ({settings!r}): its token counts include "
                f"the {len(self.layout)} special tokens"
            )

    def score_group(self, requests: Sequence[Request]) -> Iterator[Scores]:
        """Score requests with the same options together."""
        options = requests[0].options
        assert isinstance(options, OnnxOptions)
        whole_queries = self.tokens([request.query for request in requests])
        specials = len(self.layout)
        room = self.limits.check((options.query_max_length or self.query_tokens - specials) + specials) - specials
        queries = self._encode([self.layout.row((), query[: max(0, room)]) for query in whole_queries], options)
        encoded = [
            pair_rows(
                (),
                self.tokens([document.text for document in request.documents]),
                self.layout,
                options,
                max_length=self.limits.check(options.max_length or self.document_tokens),
                query_max_length=0,
            )
            for request in requests
        ]
        rows = [(tuple(row), n) for n, documents in enumerate(encoded) for row in documents.rows]
        values = iter(self._compare(rows, queries, options))
        for documents, query in zip(encoded, whole_queries):
            yield Scores(
                values=aggregate([next(values) for _ in documents.rows], documents.owners, options.aggregate),
                scale="similarity",
                diagnostics={"truncated": documents.truncated, "query_truncated": len(query) > room},
            )

    def _encode(self, rows: Sequence[Sequence[int]], options: OnnxOptions) -> list[_Query]:
        """The token vectors of queries."""

        def forward(batch: list[tuple[int, ...]]) -> list[_Query]:
            return [self._query(vectors) for vectors in self._vectors(batch)]

        items = [tuple(row) for row in rows]
        return self.graph.map(items, [len(row) for row in rows], forward, options)

    def _compare(
        self, rows: Sequence[tuple[tuple[int, ...], int]], queries: Sequence[_Query], options: OnnxOptions
    ) -> list[float]:
        """The scores of documents, each for the query with its number; their vectors are not kept."""

        def forward(batch: list[tuple[tuple[int, ...], int]]) -> list[float]:
            vectors = self._vectors([row for row, _ in batch])
            return [self._similarity(queries[n], document) for (_, n), document in zip(batch, vectors)]

        return self.graph.map(rows, [len(row) for row, _ in rows], forward, options)

    def _vectors(self, rows: Sequence[tuple[int, ...]]) -> Iterator[Array]:
        """The token vectors ``(tokens, dimensions)`` of each row."""
        vectors = self.graph(rows, [[0] * len(row) for row in rows])  # (rows, tokens, dimensions)
        return (vectors[n, : len(row)] for n, row in enumerate(rows))

    def _query(self, vectors: Array) -> _Query:
        """``vectors``: (tokens, dimensions)."""
        return _Query(words=_unit(self._words(vectors)), pooled=_unit(_mean(vectors)))

    def _similarity(self, query: _Query, document: Array) -> float:
        """The score of a document's token vectors ``(document_tokens, dimensions)``."""
        pooled = float(_products(query.pooled[None], _unit(_mean(document))[None])[0, 0])
        words = self._words(document)
        if not len(query.words) or not len(words):
            return self.pooled_weight * pooled
        cosines = _products(query.words, words) / _lengths(words)  # (query_words, document_words)
        return float(cosines.max(axis=1).mean()) + self.pooled_weight * pooled

    def _words(self, vectors: Array) -> Array:
        """The vectors of all but special tokens."""
        return vectors[len(self.layout.before) : len(vectors) - len(self.layout.after)]

    def close(self) -> None:
        """End the graph's streams."""
        self.graph.close()


@dataclass(frozen=True, slots=True)
class _Query:
    """A query's vectors, which documents are compared with.

    Args:
        words: ``(query_words, dimensions)`` of length one.
        pooled: ``(dimensions,)`` of length one.
    """

    words: Array
    pooled: Array


# einsum without ``optimize`` computes in this thread; ``@`` would wake BLAS's threads, which then spin beside the model's.


def _products(left: Array, right: Array) -> Array:
    """``(n, dimensions)`` and ``(m, dimensions)`` → ``(n, m)`` their inner products."""
    return np.asarray(np.einsum("nd,md->nm", left, right))


def _lengths(vectors: Array) -> Array:
    """``(…, dimensions)`` → ``(…)``."""
    return np.asarray(np.maximum(np.sqrt(np.einsum("...d,...d->...", vectors, vectors)), _TINY))


def _unit(vectors: Array) -> Array:
    return np.asarray(vectors / _lengths(vectors)[..., None])


def _mean(vectors: Array) -> Array:
    """``(tokens, dimensions)`` → ``(dimensions,)``; 0 if there are no tokens."""
    return np.asarray(vectors.sum(axis=0) / max(1, len(vectors)))
