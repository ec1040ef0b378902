"""Cross-encoder graphs: query and document in one row, one logit (or two) out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from rerank import (
    GroupScorer,
    Request,
    Scores,
    ScoreScale,
    ScoringError,
    TokenLimits,
    Tokens,
    encode_pairs,
    query_limit,
    relevant_output,
    saved_prompt,
)
from rerank_onnx.checkpoint import Checkpoint
from rerank_onnx.graph import Graph
from rerank_onnx.options import OnnxOptions


class OnnxCrossEncoder(GroupScorer):
    """Scores pairs with a sequence-classification graph.

    One output is the logit. Two outputs are those of "not relevant" and "relevant"; their difference is the log-odds,
    whose sigmoid is the softmax that monoBERT and FlashRank return. Probabilities are returned as they are.

    Args:
        tokens: The tokenizer.
        limits: How many tokens the model reads.
        graph: Takes token ids and returns logits.
        checkpoint: Says which of two outputs means relevant, and what is put before every query.

    Raises:
        ModelLoadError: The names of two outputs do not say which means relevant.
    """

    def __init__(self, tokens: Tokens, limits: TokenLimits, graph: Graph, checkpoint: Checkpoint) -> None:
        self.tokens, self.limits, self.graph = tokens, limits, graph
        self.prompt = saved_prompt(checkpoint.model)
        gives_one = graph.output.shape[1:] in ([], [1])
        self.relevant = 0 if gives_one else relevant_output(checkpoint.config, checkpoint.model.name)
        self.scale: ScoreScale = "probability" if graph.gives_probabilities else "logit"
        self.layout = tokens.pair_layout()

    def score_group(self, requests: Sequence[Request]) -> Iterator[Scores]:
        """Score requests with the same options together."""
        options = requests[0].options
        assert isinstance(options, OnnxOptions)
        max_length = self.limits.of_row(options.max_length)
        pairs = encode_pairs(
            [(self.prompt + request.query, [document.text for document in request.documents]) for request in requests],
            self.tokens,
            self.layout,
            options,
            max_length=max_length,
            query_max_length=query_limit(options.query_max_length, max_length),
        )
        rows = [(tuple(ids), one.query_len) for one in pairs for ids in one.rows]
        lengths = [len(row) for row, _ in rows]
        values = iter(self.graph.map(rows, lengths, self._forward, options))
        for one in pairs:
            yield one.scores(values, options, self.scale)

    def _forward(self, batch: list[tuple[tuple[int, ...], int]]) -> list[float]:
        rows = [row for row, _ in batch]
        types = [self.layout.type_ids(query_len, len(row)) for row, query_len in batch]
        logits = self.graph(rows, types).reshape(len(rows), -1)  # (rows, 1 or 2)
        if logits.shape[1] > 2:
            raise ScoringError(
                f"the graph returned {logits.shape[1]} numbers per row, but a reranker returns one or two: "
                "export the model with a head of one or two labels"
            )
        if logits.shape[1] == 1:
            values = logits[:, 0]  # (rows,)
        elif self.scale == "probability":
            values = logits[:, self.relevant]
        else:
            values = logits[:, self.relevant] - logits[:, 1 - self.relevant]
        if self.scale == "probability" and not np.all((values >= 0) & (values <= 1)):
            raise ScoringError(
                f"the graph's output {self.graph.output.name!r} is called a probability, but has {values.max():.4g}, which is "
                "none: rename it to logits"
            )
        return [float(value) for value in values.astype(np.float64)]

    def close(self) -> None:
        """End the graph's streams."""
        self.graph.close()
