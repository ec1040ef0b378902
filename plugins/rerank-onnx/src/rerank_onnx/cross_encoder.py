"""Cross-encoder graphs: query and document in one row, one logit (or two) out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from rerank import GroupScorer, Request, Scores, ScoringError, aggregate, map_batches, pair_rows
from rerank_onnx.graph import Graph
from rerank_onnx.options import OnnxOptions
from rerank_onnx.tokens import Tokens

BATCH_TOKENS = 2048
"""Tokens a batch by default, padding included: beyond it two cores gain nothing and memory grows."""

LONGEST_DEFAULT = 1024
"""Tokens a row by default, where the model allows more: attention costs the square of a row's length."""


class OnnxCrossEncoder(GroupScorer):
    """Scores pairs with a sequence-classification graph.

    One output is the logit. Two outputs are those of "not relevant" and "relevant"; their difference is the log-odds,
    whose sigmoid is the softmax that monoBERT and FlashRank show.
    """

    def __init__(self, tokens: Tokens, graph: Graph) -> None:
        self.tokens, self.graph = tokens, graph
        self.layout = tokens.pair_layout()

    def score_group(self, requests: Sequence[Request]) -> Iterator[Scores]:
        """Score requests that share their options, in one go."""
        options = requests[0].options
        assert isinstance(options, OnnxOptions)
        max_length = self.tokens.check(options.max_length or min(self.tokens.limit, LONGEST_DEFAULT))
        queries = self.tokens([request.query for request in requests])
        encoded = [
            pair_rows(
                query,
                self.tokens([document.text for document in request.documents]),
                self.layout,
                options,
                max_length=max_length,
                query_max_length=options.query_max_length or max_length * 3 // 4,
            )
            for query, request in zip(queries, requests)
        ]
        items = [(row, pairs.query_len) for pairs in encoded for row in pairs.rows]
        logits = iter(
            map_batches(
                items,
                [len(row) for row, _ in items],
                self._forward,
                max_tokens=options.max_batch_tokens or BATCH_TOKENS,
                max_items=options.batch_size,
                out_of_memory=(MemoryError,),
                progress=options.progress,
            )
        )
        for pairs in encoded:
            values = [next(logits) for _ in pairs.rows]
            yield Scores(
                values=aggregate(values, pairs.owners, options.aggregate),
                scale="logit",
                diagnostics={"truncated": pairs.truncated, "query_truncated": pairs.query_truncated},
            )

    def _forward(self, batch: list[tuple[list[int], int]]) -> list[float]:
        rows = [row for row, _ in batch]
        types = [self.layout.type_ids(query_len, len(row)) for row, query_len in batch]
        logits = self.graph(rows, types).reshape(len(rows), -1)  # (rows, 1 or 2)
        if logits.shape[1] > 2:
            raise ScoringError(
                f"the graph returned {logits.shape[1]} numbers a row, and a reranker returns one or two: "
                "export the model with a head of one or two labels"
            )
        values = logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]
        return [float(value) for value in values.astype(np.float64)]
