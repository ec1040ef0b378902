"""Encoder graphs: query and document apart, compared token by token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from rerank import GroupScorer, ModelLoadError, Request, Scores, aggregate, map_batches, pair_rows
from rerank_onnx.graph import Array, Graph
from rerank_onnx.options import OnnxOptions
from rerank_onnx.tokens import Tokens

T = TypeVar("T")

BATCH_TOKENS = 1024
"""Tokens a batch by default: the embedded model was fastest there on two cores."""


class OnnxLateInteraction(GroupScorer):
    """Scores documents by their token vectors.

    The score is MaxSim plus a share of the pooled cosine. MaxSim: for each query token its best cosine over the
    document's tokens, averaged over the query's; special tokens are left out, and a side without others gives 0.
    Pooled: the cosine of the mean token vectors, specials included.

    Args:
        tokens: The tokenizer.
        graph: From token ids to token vectors.
        settings: ``query_tokens`` and ``document_tokens`` (limits, specials included) and ``pooled_weight``, as
            ``config.json`` has them under ``late_interaction``; by default those of the embedded model.

    Raises:
        ModelLoadError: The settings are no numbers, or leave no room for words.
    """

    def __init__(self, tokens: Tokens, graph: Graph, settings: Mapping[str, Any]) -> None:
        self.tokens, self.graph = tokens, graph
        self.layout = tokens.single_layout()
        try:
            self.query_tokens = int(settings.get("query_tokens", 48))
            self.document_tokens = min(int(settings.get("document_tokens", 256)), tokens.limit)
            self.pooled_weight = float(settings.get("pooled_weight", 0.5))
        except (AttributeError, TypeError, ValueError) as error:
            raise ModelLoadError(f"late_interaction in config.json is {settings!r}: give it numbers") from error
        if min(self.query_tokens, self.document_tokens) <= len(self.layout):
            raise ModelLoadError(
                f"late_interaction in config.json leaves no room for words ({settings!r}): its token counts include "
                f"the {len(self.layout)} special tokens"
            )

    def score_group(self, requests: Sequence[Request]) -> Iterator[Scores]:
        """Score requests that share their options, in one go."""
        options = requests[0].options
        assert isinstance(options, OnnxOptions)
        whole_queries = self.tokens([request.query for request in requests])
        specials = len(self.layout)
        room = self.tokens.check((options.query_max_length or self.query_tokens - specials) + specials) - specials
        queries = self._run(
            [self.layout.row((), query[: max(0, room)]) for query in whole_queries], options, lambda vectors, _: vectors
        )
        encoded = [
            pair_rows(
                (),
                self.tokens([document.text for document in request.documents]),
                self.layout,
                options,
                max_length=self.tokens.check(options.max_length or self.document_tokens),
                query_max_length=0,
            )
            for request in requests
        ]
        owners = [query for documents, query in zip(encoded, queries) for _ in documents.rows]
        rows = [row for documents in encoded for row in documents.rows]
        values = iter(self._run(rows, options, lambda vectors, i: self._similarity(owners[i], vectors)))
        for documents, query in zip(encoded, whole_queries):
            yield Scores(
                values=aggregate([next(values) for _ in documents.rows], documents.owners, options.aggregate),
                scale="similarity",
                diagnostics={"truncated": documents.truncated, "query_truncated": len(query) > room},
            )

    def _run(self, rows: list[list[int]], options: OnnxOptions, then: Callable[[Array, int], T]) -> list[T]:
        """Encode rows in batches and keep of each only what ``then`` makes of its token vectors and position."""

        def forward(batch: list[int]) -> list[T]:
            batch_rows = [rows[i] for i in batch]
            vectors = self.graph(batch_rows, [[0] * len(row) for row in batch_rows])  # (rows, tokens, dimensions)
            return [then(vectors[n, : len(rows[i])], i) for n, i in enumerate(batch)]

        return map_batches(
            range(len(rows)),
            [len(row) for row in rows],
            forward,
            max_tokens=options.max_batch_tokens or BATCH_TOKENS,
            max_items=options.batch_size,
            out_of_memory=(MemoryError,),
            progress=options.progress,
        )

    def _similarity(self, query: Array, document: Array) -> float:
        """The score of token vectors ``(query_tokens, dimensions)`` and ``(document_tokens, dimensions)``."""
        if not len(query) or not len(document):  # no special tokens, and nothing said
            return 0.0
        pooled = float(_unit(query.mean(axis=0)) @ _unit(document.mean(axis=0)))
        query_words, document_words = self._words(query), self._words(document)
        if not len(query_words) or not len(document_words):
            return self.pooled_weight * pooled
        cosines = query_words @ document_words.T  # (query_words, document_words)
        return float(cosines.max(axis=1).mean()) + self.pooled_weight * pooled

    def _words(self, vectors: Array) -> Array:
        """The vectors of all but special tokens, of length one."""
        return _unit(vectors[len(self.layout.before) : len(vectors) - len(self.layout.after)])


def _unit(vectors: Array) -> Array:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-9))
