"""The scorer: texts to rows, rows to vectors, vectors kept or not, and each document's vectors compared with the query's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from rerank import (
    GroupScorer,
    InvalidOptionsError,
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
from rerank_colbert.matches import Query, find_matches
from rerank_colbert.maxsim import maxsim
from rerank_colbert.options import ColbertOptions
from rerank_colbert.recipe import ZERO_SHOT, read_recipe
from rerank_colbert.rows import RowMaker
from rerank_torch.device import choose_dtype
from rerank_torch.loading import load_config
from rerank_torch.rows import Padding
from rerank_torch.runner import Runner
from rerank_torch.tokens import load_tokens
from rerank_vectors import DocumentCache, DocumentVectors, compare_in_groups

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
        loaded_as = (choose_dtype(options, self.runner.devices[0]), options.model_kwargs, options.tokenizer_kwargs)
        origin = {"recipe": self.recipe.model_dump(mode="json"), "loaded_as": repr(loaded_as)}
        self.cache = DocumentCache(options, model, origin, count_dimensions(model, self.recipe))

    def score_group(self, requests: Sequence[Request]) -> Iterator[Scores]:
        """Score requests with the same options together: their queries in one go, and each document once."""
        options = requests[0].options
        assert isinstance(options, ColbertOptions)
        queries = self._encode_queries([request.query for request in requests], options)
        documents = self._encode_documents([doc.text for request in requests for doc in request.documents], options)
        counts = [len(request.documents) for request in requests]
        scored = compare_in_groups(documents, counts, lambda n, held: self._compare(queries[n], held, options))
        for request, query, (values, truncated) in zip(requests, queries, scored):
            yield Scores(
                values=values,
                scale="similarity",
                details=self._explain(request, query, values, options) if options.matches else None,
                diagnostics={"truncated": truncated, "query_truncated": query.truncated},
            )

    def encode_documents(self, texts: Sequence[str], options: Options) -> int:
        """Encode documents and keep their vectors.

        Returns:
            How many of them were not kept yet.

        Raises:
            InvalidOptionsError: The model was loaded without ``vectors``.
        """
        assert isinstance(options, ColbertOptions)
        if options.vectors is None:
            raise InvalidOptionsError("vectors are kept nowhere: load the model with vectors='disk', or a folder")
        new = len(self.cache.missing(texts, self._settings(options)))
        for _ in self._encode_documents(texts, options):
            pass
        return new

    def _encode_queries(self, texts: Sequence[str], options: ColbertOptions) -> list[Query]:
        """Queries with their vectors."""
        made = self.rows.queries(texts, options)
        vectors = self.runner([text.row for text, _ in made], options)
        return [Query(text, own[text.compared], is_cut) for (text, is_cut), own in zip(made, vectors)]

    def _encode_documents(self, texts: Sequence[str], options: ColbertOptions) -> Iterator[DocumentVectors]:
        """Per document its vectors, some documents ahead; those that are kept are not encoded."""

        def encode(missing: list[str]) -> list[DocumentVectors]:
            made = self.rows.documents(missing, options)
            vectors = iter(self.runner([text.row for rows, _ in made for text in rows], options))
            return [
                DocumentVectors(tuple(next(vectors)[text.compared] for text in rows), is_cut) for rows, is_cut in made
            ]

        return self.cache.stream(texts, encode, self._settings(options))

    def _settings(self, options: ColbertOptions) -> Mapping[str, Any]:
        """What a call can set that changes a document's vectors."""
        windows = {"window": options.window, "overlap": options.overlap} if options.long_documents == "chunk" else {}
        return {"max_length": self.rows.document_length(options), **windows}

    def _compare(self, query: Query, documents: Sequence[DocumentVectors], options: ColbertOptions) -> list[float]:
        """The score of each document."""
        windows = [window for document in documents for window in document.windows]
        owners = [owner for owner, document in enumerate(documents) for _ in document.windows]

        def compare(batch: list[int]) -> list[float]:
            values: list[float] = maxsim(query.vectors, [windows[i] for i in batch]).tolist()
            return values

        sums = self.runner.map([len(window) for window in windows], compare, max_tokens=COMPARED_TOKENS)
        scale = len(query.vectors) if self.recipe.mean else 1
        return aggregate([value / scale for value in sums], owners, options.aggregate)

    def _explain(
        self, request: Request, query: Query, values: Sequence[float], options: ColbertOptions
    ) -> list[Mapping[str, Any]]:
        """Per document its matches; only for those that will be results, whose vectors may have to be encoded again."""
        shown = sorted(range(len(values)), key=lambda i: -values[i])[: request.top_k]
        texts = [request.documents[i].text for i in shown]
        documents = self._encode_documents(texts, options)
        found = {
            i: find_matches(self.rows, options, query, text, document)
            for i, text, document in zip(shown, texts, documents)
        }
        return [found.get(i, {}) for i in range(len(values))]

    def close(self) -> None:
        """End the streams and the processes, and close what keeps the vectors."""
        self.runner.close()
        self.cache.close()
