"""Encoder graphs: query and document apart, compared token by token; documents' vectors can be kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, Final

import numpy as np

from rerank import (
    GroupScorer,
    InvalidOptionsError,
    ModelLoadError,
    Options,
    PairRows,
    Request,
    Scores,
    TokenLimits,
    Tokens,
    aggregate,
    describe_windows,
    pair_rows,
    place_window,
    saved_prompt,
)
from rerank_onnx.checkpoint import Checkpoint
from rerank_onnx.graph import Array, Graph
from rerank_onnx.options import OnnxOptions
from rerank_vectors import KEPT_NOWHERE, DocumentCache, DocumentVectors, Filled, compare_in_groups

_VERSION: Final = 1
"""Of how a document becomes vectors: vectors kept by another are not used."""

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
        checkpoint: Its ``config.json`` may have ``query_tokens`` and ``document_tokens`` (limits, special tokens included)
            and ``pooled_weight`` under ``late_interaction``; by default those of the embedded model. A prompt that it
            saved for queries or documents is read with their words.
        options: Where documents' vectors are kept.

    Raises:
        ModelLoadError: The configuration has no numbers there, or they leave no room for words.
        InvalidOptionsError: Vectors cannot be kept there.
    """

    def __init__(
        self, tokens: Tokens, limits: TokenLimits, graph: Graph, checkpoint: Checkpoint, options: OnnxOptions
    ) -> None:
        self.tokens, self.limits, self.graph = tokens, limits, graph
        self.layout = tokens.single_layout()
        self.query_prompt = saved_prompt(checkpoint.model, "query")
        self.document_prompt = saved_prompt(checkpoint.model, "document")
        settings = checkpoint.config.get("late_interaction") or {}
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
        self.cache: DocumentCache | None = None
        if options.vectors is not None:
            recipe = {
                "kind": "unit vectors of rerank-onnx: the mean first, then the words",
                "version": _VERSION,
                "prompt": self.document_prompt,
                "graph": checkpoint.graph.parts[-2:],
                "providers": graph.session.get_providers(),
            }
            self.cache = DocumentCache(options, checkpoint.model, recipe, graph.width())

    def score_group(self, requests: Sequence[Request]) -> Iterator[Scores]:
        """Score requests with the same options together."""
        options = requests[0].options
        assert isinstance(options, OnnxOptions)
        room = self._query_room(options)
        whole_queries = self._tokenize(self.query_prompt, [request.query for request in requests], room)
        queries = self._encode_queries([self.layout.row((), query[: max(0, room)]) for query in whole_queries], options)
        score = self._score_new if self.cache is None else partial(self._score_kept, self.cache)
        for request, query, (windows, truncated) in zip(requests, whole_queries, score(requests, queries, options)):
            values = [value for own in windows for value in own]
            owners = [n for n, own in enumerate(windows) for _ in own]
            yield Scores(
                values=aggregate(values, owners, options.aggregate),
                scale="similarity",
                details=describe_windows(values, owners, options, partial(self._place, request, options)),
                diagnostics={"truncated": truncated, "query_truncated": len(query) > room},
            )

    def _query_room(self, options: OnnxOptions) -> int:
        """How many tokens of a query are read, special tokens left out."""
        specials = len(self.layout)
        if options.query_max_length is None:
            return self.limits.check(self.query_tokens) - specials
        return self.limits.check(options.query_max_length + specials, "query_max_length with special tokens") - specials

    def _encode_queries(self, rows: Sequence[Sequence[int]], options: OnnxOptions) -> list[_Query]:
        """The token vectors of queries."""

        def forward(batch: list[tuple[int, ...]]) -> list[_Query]:
            return [self._query(vectors) for vectors in self._vectors(batch)]

        items = [tuple(row) for row in rows]
        return self.graph.map(items, [len(row) for row in rows], forward, options)

    def _query(self, vectors: Array) -> _Query:
        """``vectors``: (tokens, dimensions)."""
        return _Query(words=_unit(self._words(vectors)), pooled=_unit(_mean(vectors)))

    def _score_new(
        self, requests: Sequence[Request], queries: Sequence[_Query], options: OnnxOptions
    ) -> Iterator[tuple[list[list[float]], int]]:
        """The scores of each window of each request's documents, and how many lost tokens; their vectors are let go."""
        encoded = [
            self._rows(self._tokenize_documents([document.text for document in request.documents], options), options)
            for request in requests
        ]
        rows = [(tuple(row), n) for n, documents in enumerate(encoded) for row in documents.rows]
        values = iter(self._compare(rows, queries, options))
        for documents in encoded:
            yield [[next(values) for _ in own] for _, own in groupby(documents.owners)], documents.truncated

    def _tokenize(self, prompt: str, texts: Sequence[str], longest: int | None) -> list[list[int]]:
        """Token ids of texts, each with its prompt: the first ``longest`` at least, all if that is None."""
        whole = [prompt + text for text in texts]
        return self.tokens(whole if longest is None else [self.tokens.shorten(text, longest) for text in whole])

    def _tokenize_documents(self, texts: Sequence[str], options: OnnxOptions) -> list[list[int]]:
        """Token ids of documents, each with the prompt; as many as are read at least."""
        is_cut = options.long_documents == "truncate"
        return self._tokenize(self.document_prompt, texts, self._document_limit(options) if is_cut else None)

    def _rows(self, documents: Sequence[Sequence[int]], options: OnnxOptions) -> PairRows:
        """The rows of documents, of which each may have several."""
        return pair_rows(
            (), documents, self.layout, options, max_length=self._document_limit(options), query_max_length=0
        )

    def _document_limit(self, options: OnnxOptions) -> int:
        return self.limits.check(options.max_length or self.document_tokens)

    def _compare(
        self, rows: Sequence[tuple[tuple[int, ...], int]], queries: Sequence[_Query], options: OnnxOptions
    ) -> list[float]:
        """Encode documents and score each for the query with its number."""

        def forward(batch: list[tuple[tuple[int, ...], int]]) -> list[float]:
            vectors = self._vectors([row for row, _ in batch])
            return [self._similarity(queries[n], self._document(own)) for (_, n), own in zip(batch, vectors)]

        return self.graph.map(rows, [len(row) for row, _ in rows], forward, options)

    def _document(self, vectors: Array) -> Array:
        """``(document_tokens, dimensions)`` → ``(1 + document_words, dimensions)`` of length one, the pooled one first."""
        return _unit(np.vstack([_mean(vectors)[None], self._words(vectors)]))

    def _similarity(self, query: _Query, document: Array) -> float:
        """The score of a document's vectors ``(1 + document_words, dimensions)``, as `_document` returns them."""
        document = document.astype(np.float32, copy=False)
        pooled = self.pooled_weight * float(_products(query.pooled[None], document[:1])[0, 0])
        if not len(query.words) or len(document) == 1:
            return pooled
        cosines = _products(query.words, document[1:])  # (query_words, document_words)
        return float(cosines.max(axis=1).mean()) + pooled

    def _score_kept(
        self, cache: DocumentCache, requests: Sequence[Request], queries: Sequence[_Query], options: OnnxOptions
    ) -> Iterator[tuple[list[list[float]], int]]:
        """The same as `_score_new`, of vectors that are kept."""
        texts = [document.text for request in requests for document in request.documents]
        documents = cache.groups(texts, partial(self._encode_new, options=options), self._settings(options))
        counts = [len(request.documents) for request in requests]
        return compare_in_groups(documents, counts, lambda n, held: self._compare_kept(queries[n], held, options))

    def encode_documents(self, texts: Sequence[str], options: Options) -> Filled:
        """Encode the documents whose vectors are not kept yet, and keep them.

        Raises:
            InvalidOptionsError: The model was loaded without ``vectors``.
        """
        assert isinstance(options, OnnxOptions)
        if self.cache is None:
            raise InvalidOptionsError(KEPT_NOWHERE)
        return self.cache.fill(texts, partial(self._encode_new, options=options), self._settings(options))

    def _settings(self, options: OnnxOptions) -> dict[str, Any]:
        """What a call sets that changes documents' vectors."""
        cut = {"max_length": self._document_limit(options)}
        if options.long_documents == "truncate":
            return cut
        return {**cut, "window": options.window, "overlap": options.overlap}

    def _encode_new(self, texts: list[str], options: OnnxOptions) -> list[DocumentVectors]:
        """The vectors of documents: ``(1 + words, dimensions)`` per window, of length one, the pooled one first."""

        def forward(batch: list[tuple[int, ...]]) -> list[Array]:
            return [self._document(vectors) for vectors in self._vectors(batch)]

        documents = [self._rows([ids], options) for ids in self._tokenize_documents(texts, options)]
        rows = [tuple(row) for document in documents for row in document.rows]
        arrays = iter(self.graph.map(rows, [len(row) for row in rows], forward, options))
        return [
            DocumentVectors(tuple(next(arrays) for _ in document.rows), document.truncated > 0)
            for document in documents
        ]

    def _compare_kept(
        self, query: _Query, documents: Sequence[DocumentVectors], options: OnnxOptions
    ) -> list[list[float]]:
        """The scores of each window of documents whose vectors are kept."""
        windows = [window for document in documents for window in document.windows]

        def forward(batch: list[int]) -> list[float]:
            return [self._similarity(query, windows[n]) for n in batch]

        values = iter(self.graph.map(range(len(windows)), [len(window) for window in windows], forward, options))
        return [[next(values) for _ in document.windows] for document in documents]

    def _place(self, request: Request, options: OnnxOptions, document: int, number: int) -> Mapping[str, Any]:
        """Where a window of one document stands in it, the prompt left out."""
        text, prompt_len = request.documents[document].text, len(self.document_prompt)
        start, end = self._rows(self._tokenize_documents([text], options), options).windows[number]
        spans = self.tokens.spans(self.document_prompt + text) or []
        prompt_tokens = sum(last <= prompt_len for _, last in spans) if prompt_len else 0
        own = [(max(0, first - prompt_len), last - prompt_len) for first, last in spans[prompt_tokens:]]
        return place_window((max(0, start - prompt_tokens), end - prompt_tokens), own)

    def _vectors(self, rows: Sequence[tuple[int, ...]]) -> Iterator[Array]:
        """The token vectors ``(tokens, dimensions)`` of each row."""
        vectors = self.graph(rows, [[0] * len(row) for row in rows])  # (rows, tokens, dimensions)
        return (vectors[n, : len(row)] for n, row in enumerate(rows))

    def _words(self, vectors: Array) -> Array:
        """The vectors of all but special tokens."""
        return vectors[len(self.layout.before) : len(vectors) - len(self.layout.after)]

    def close(self) -> None:
        """End the graph's streams, and release kept vectors."""
        self.graph.close()
        if self.cache is not None:
            self.cache.close()


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
