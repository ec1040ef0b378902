"""The scorer: texts to rows, rows to vectors, vectors kept or not, and each document's vectors compared with the query's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, Final

from rerank import (
    GroupScorer,
    ModelRef,
    Options,
    Request,
    Scores,
    TokenLimits,
    aggregate,
    describe_windows,
    find_pad_id,
    knows_positions,
    read_tokenizer_config,
)
from rerank_colbert.encoder import TokenEncoder, count_dimensions
from rerank_colbert.matches import find_matches
from rerank_colbert.maxsim import maxsim
from rerank_colbert.options import ColbertOptions
from rerank_colbert.recipe import choose_recipe
from rerank_colbert.rows import Query, RowMaker
from rerank_torch.device import choose_dtype
from rerank_torch.loading import load_config
from rerank_torch.rows import Padding, Row
from rerank_torch.runner import Runner
from rerank_torch.tokens import load_tokens
from rerank_vectors import DocumentCache, DocumentVectors, Filled, compare_in_groups

_VERSION: Final = 1
"""Of how documents become vectors: those that another version kept are not used."""

COMPARED_TOKENS: Final = 8192
"""How many document vectors are compared with a query at once: few enough for the products to stay in a core's caches."""


class LateInteraction(GroupScorer):
    """Scores documents by MaxSim over token vectors that know nothing of the query.

    Args:
        model: Where the checkpoint is.
        options: How to load and run it, and where document vectors are kept.
    """

    def __init__(self, model: ModelRef, options: ColbertOptions) -> None:
        self.recipe = choose_recipe(model)
        config = load_config(model, options)
        tokenizer_config = {**read_tokenizer_config(model), **options.tokenizer_kwargs}
        tokens = load_tokens(model, options)
        pad_id = find_pad_id(tokens, config.to_dict(), tokenizer_config)
        limits = TokenLimits.read(config.to_dict(), tokenizer_config, pad_id)
        self.rows = RowMaker(tokens, self.recipe, limits, tokenizer_config)
        self.rows.check_lengths(options)
        start = partial(TokenEncoder, model=model, options=options, recipe=self.recipe)
        probe = tuple(Row(ids) for ids in self.rows.probe())
        self.runner = Runner(start, options, Padding(pad_id, probe=probe))
        if not knows_positions(config.to_dict()) and self.runner.on_cpu:  # elsewhere such a failure ends the process
            self.rows.probe_limits(lambda ids: self.runner.reads(Row(ids), options))
            self.rows.check_lengths(options)
        loaded_as = (choose_dtype(options, self.runner.devices[0]), options.model_kwargs, options.tokenizer_kwargs)
        origin = {"version": _VERSION, "recipe": self.recipe.model_dump(mode="json"), "loaded_as": repr(loaded_as)}
        self.cache = DocumentCache(options, model, origin, count_dimensions(model, self.recipe, config.hidden_size))

    def score_group(self, requests: Sequence[Request]) -> Iterator[Scores]:
        """Score requests with the same options together: their queries in one go, and equal documents once per group."""
        options = requests[0].options
        assert isinstance(options, ColbertOptions)
        queries = self._encode_queries([request.query for request in requests], options)
        documents = self._documents([doc.text for request in requests for doc in request.documents], options)
        counts = [len(request.documents) for request in requests]
        scored = compare_in_groups(documents, counts, lambda n, held: self._compare(queries[n], held))
        for request, query, (windows, truncated) in zip(requests, queries, scored):
            values = [value for own in windows for value in own]
            owners = [n for n, own in enumerate(windows) for _ in own]
            scores = aggregate(values, owners, options.aggregate)
            details = describe_windows(values, owners, options, partial(self._place, request, options))
            if options.matches:
                matches = self._explain(request, query, scores, options)
                details = [{**a, **b} for a, b in zip(details or [{}] * len(scores), matches)]
            yield Scores(
                values=scores,
                scale="similarity",
                details=details,
                diagnostics={"truncated": truncated, "query_truncated": query.truncated},
            )

    def encode_documents(self, texts: Sequence[str], options: Options) -> Filled:
        """Encode the documents whose vectors are not kept yet, and keep them.

        Raises:
            InvalidOptionsError: The model was loaded without ``vectors``.
        """
        assert isinstance(options, ColbertOptions)
        return self.cache.fill(texts, partial(self._encode_new, options=options), self._settings(options))

    def _encode_queries(self, texts: Sequence[str], options: ColbertOptions) -> list[Query]:
        """Queries with their vectors."""
        made = self.rows.queries(texts, options)
        vectors = self.runner([row.tokens for row, _ in made], options)
        return [Query(row, own[row.compared], is_cut) for (row, is_cut), own in zip(made, vectors)]

    def _documents(self, texts: Sequence[str], options: ColbertOptions) -> Iterator[list[DocumentVectors]]:
        """Documents with their vectors, in groups; those that are kept are not encoded."""
        return self.cache.groups(texts, partial(self._encode_new, options=options), self._settings(options))

    def _encode_new(self, texts: list[str], options: ColbertOptions) -> list[DocumentVectors]:
        """Documents with their vectors: one array ``(document_vectors, dimensions)`` per window."""
        made = self.rows.documents(texts, options)
        vectors = iter(self.runner([row.tokens for rows, _ in made for row in rows], options))
        return [DocumentVectors(tuple(next(vectors)[row.compared] for row in rows), is_cut) for rows, is_cut in made]

    def _settings(self, options: ColbertOptions) -> Mapping[str, Any]:
        """What a call can set that changes a document's vectors."""
        windows = {"window": options.window, "overlap": options.overlap} if options.long_documents == "chunk" else {}
        return {"max_length": self.rows.document_length(options), **windows}

    def _compare(self, query: Query, documents: Sequence[DocumentVectors]) -> list[list[float]]:
        """The score of each window of each document."""
        windows = [window for document in documents for window in document.windows]

        def compare(batch: list[int]) -> list[float]:
            values: list[float] = maxsim(query.vectors, [windows[i] for i in batch]).tolist()
            return values

        sums = iter(self.runner.map([len(window) for window in windows], compare, max_tokens=COMPARED_TOKENS))
        scale = len(query.vectors) if self.recipe.mean else 1
        return [[next(sums) / scale for _ in document.windows] for document in documents]

    def _place(self, request: Request, options: ColbertOptions, document: int, number: int) -> Mapping[str, Any]:
        """Where a window of one document stands in it."""
        return self.rows.place(request.documents[document].text, number, options)

    def _explain(
        self, request: Request, query: Query, values: Sequence[float], options: ColbertOptions
    ) -> list[Mapping[str, Any]]:
        """Per document its matches; only for those that will be results, whose vectors may have to be encoded again."""
        shown = sorted(range(len(values)), key=lambda i: -values[i])[: request.top_k]
        texts = [request.documents[i].text for i in shown]
        documents = chain.from_iterable(self._documents(texts, options))
        found = {
            i: find_matches(self.rows, options, query, text, document)
            for i, text, document in zip(shown, texts, documents)
        }
        return [found.get(i, {}) for i in range(len(values))]

    def close(self) -> None:
        """End the streams and the processes, and close what keeps the vectors."""
        self.runner.close()
        self.cache.close()
