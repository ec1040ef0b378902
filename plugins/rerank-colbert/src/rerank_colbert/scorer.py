"""The scorer: texts to rows, rows to vectors, vectors kept or not, and each document's vectors compared with the query's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rerank_vectors import DocumentCache, DocumentVectors

from rerank import (
    GroupScorer,
    ModelRef,
    Options,
    Request,
    Scores,
    TokenLimits,
    aggregate,
    find_pad_id,
    read_tokenizer_config,
)
from rerank_colbert.encoder import TokenEncoder, count_dimensions
from rerank_colbert.matches import find_matches
from rerank_colbert.maxsim import maxsim
from rerank_colbert.options import ColbertOptions
from rerank_colbert.recipe import ZERO_SHOT, read_recipe
from rerank_colbert.rows import RowMaker, TextRow
from rerank_torch.loading import load_config
from rerank_torch.rows import Padding
from rerank_torch.runner import Runner
from rerank_torch.tokens import load_tokens

COMPARED_TOKENS: Final = 8192
"""How many document vectors are compared with a query at once: few enough for the products to stay in a core's caches."""


class LateInteraction(GroupScorer):
    """Scores documents by MaxSim over token vectors that know nothing of the query.

    Args:
        model: Where the checkpoint is.
        options: How to load and run it, and where document vectors are kept.
    """

    def __init__(self, model: ModelRef, options: ColbertOptions) -> None:
        self.recipe = read_recipe(model) or ZERO_SHOT
        config = load_config(model, options).to_dict()
        tokenizer_config = {**read_tokenizer_config(model), **options.tokenizer_kwargs}
        tokens = load_tokens(model, options)
        pad_id = find_pad_id(tokens, config, tokenizer_config)
        limits = TokenLimits.read(config, tokenizer_config, pad_id)
        self.rows = RowMaker(tokens, self.recipe, limits, tokenizer_config)
        self.rows.document_length(options)
        start = partial(TokenEncoder, model=model, options=options, recipe=self.recipe)
        self.runner = Runner(start, options, Padding(pad_id))
        loaded = {
            "dtype": options.dtype_name,
            "tokenizer": dict(options.tokenizer_kwargs),
            "model": dict(options.model_kwargs),
        }
        kept = {"recipe": asdict(self.recipe), **{name: repr(value) for name, value in loaded.items()}}
        self.cache = DocumentCache(options, model, kept, count_dimensions(model, self.recipe))

    def score_group(self, requests: Sequence[Request]) -> Iterator[Scores]:
        """Score requests with the same options together: their queries in one go, and each document once."""
        options = requests[0].options
        assert isinstance(options, ColbertOptions)
        queries = self._encode_queries([request.query for request in requests], options)
        texts = [document.text for request in requests for document in request.documents]
        documents = iter(self._encode_documents(texts, options))
        for request, (query_row, query, query_cut) in zip(requests, queries):
            own = [next(documents) for _ in request.documents]
            values = self._compare(query, own, options)
            yield Scores(
                values=values,
                scale="similarity",
                details=self._explain(request, values, query_row, query, own) if options.matches else None,
                diagnostics={
                    "truncated": sum(document.truncated for document in own),
                    "query_truncated": query_cut,
                },
            )

    def encode_documents(self, texts: Sequence[str], options: Options) -> int:
        """Encode documents and keep their vectors.

        Returns:
            How many of them were not kept yet.
        """
        assert isinstance(options, ColbertOptions)
        new = len(self.cache.missing(texts, self._settings(options)))
        self._encode_documents(texts, options)
        return new

    def _encode_queries(
        self, texts: Sequence[str], options: ColbertOptions
    ) -> list[tuple[TextRow, NDArray[np.float32], bool]]:
        """Per query its row, its compared vectors ``(query_vectors, dimensions)``, and whether it lost tokens."""
        made = self.rows.queries(texts, options)
        vectors = self.runner([text.row for text, _ in made], options)
        return [(text, own[text.compared], is_cut) for (text, is_cut), own in zip(made, vectors)]

    def _encode_documents(self, texts: Sequence[str], options: ColbertOptions) -> list[DocumentVectors]:
        """Per document its vectors; those that are kept are not encoded."""

        def encode(missing: list[str]) -> list[DocumentVectors]:
            made = self.rows.documents(missing, options)
            vectors = iter(self.runner([text.row for rows, _ in made for text in rows], options))
            return [
                DocumentVectors(tuple(next(vectors)[text.compared] for text in rows), is_cut) for rows, is_cut in made
            ]

        return self.cache.encode(texts, encode, self._settings(options))

    def _settings(self, options: ColbertOptions) -> Mapping[str, Any]:
        """What a call can set that changes a document's vectors."""
        windows = {"window": options.window, "overlap": options.overlap} if options.long_documents == "chunk" else {}
        return {"max_length": self.rows.document_length(options), **windows}

    def _compare(
        self, query: NDArray[np.float32], documents: Sequence[DocumentVectors], options: ColbertOptions
    ) -> list[float]:
        """The score of each document."""
        windows = [window for document in documents for window in document.windows]
        owners = [owner for owner, document in enumerate(documents) for _ in document.windows]

        def compare(batch: list[int]) -> list[float]:
            values: list[float] = maxsim(query, [windows[i] for i in batch]).tolist()
            return values

        sums = self.runner.map([len(window) for window in windows], compare, max_tokens=COMPARED_TOKENS)
        scale = len(query) if self.recipe.mean else 1
        return aggregate([value / scale for value in sums], owners, options.aggregate)

    def _explain(
        self,
        request: Request,
        values: Sequence[float],
        query_row: TextRow,
        query: NDArray[np.float32],
        documents: Sequence[DocumentVectors],
    ) -> list[Mapping[str, Any]]:
        """Per document its matches; only for those that will be results."""
        shown = sorted(range(len(values)), key=lambda i: -values[i])[: request.top_k]
        found = {
            i: find_matches(self.rows, request.options, query_row, query, request.documents[i].text, documents[i])
            for i in shown
        }
        return [found.get(i, {}) for i in range(len(values))]

    def close(self) -> None:
        """End the streams and the processes, and close what keeps the vectors."""
        self.runner.close()
        self.cache.close()
