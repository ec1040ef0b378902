"""The facade: the same interface to every model, whichever backend runs it."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, overload

from rerank.backend import Backend
from rerank.distributions import DEFAULT_MODEL
from rerank.documents import DocumentLike, as_fields, as_items
from rerank.errors import InvalidInputError, InvalidOptionsError, ScoringError
from rerank.model_ref import ModelRef
from rerank.model_source import as_path
from rerank.options import Options, name_arguments, override_options, parse_options
from rerank.protocols import Scorer
from rerank.registry import Registry, installed
from rerank.requests import RankRequest, RequestMaker, group_pairs
from rerank.resolution import select
from rerank.results import RankedResults, Result, ScoreScale, check_top_k
from rerank.session import Session


class Reranker:
    """A model that ranks documents for a query.

    Usable as a context manager, synchronous or asynchronous, and from several threads at once. It pickles as its
    model and options, without secrets, and loads again on first use.

    Args:
        model: A hub name, a folder, or a short name such as ``"cross-encoder"``, which wins over a folder of that name
            (``"./cross-encoder"``). None means the default of ``backend`` or ``api_provider``, else the embedded model.
        registry: Where to look for backends; None means every installed plugin.
        backend: The backend to use, if several could run the model or none claims it.
        lang: The language of a short name's model: ``en``, ``fr``, ``zh`` … or ``other``.
        revision: Branch, tag or commit on the hub.
        token: Access token for the hub, instead of ``HF_TOKEN`` or a saved login.
        cache_dir: Folder for downloads, instead of the hub's cache.
        local_files_only: Never access the network.
        model_type: Another name for ``backend``.
        api_provider: The API vendor that serves the model.
        options: The backend's options; most can be overridden per call.

    Raises:
        BackendNotFoundError: No installed backend runs the model; the message says what to ``pip install``.
        AmbiguousModelError: Several backends claim the model equally.
        InvalidOptionsError: An option is unknown or has a wrong value.
        ModelLoadError: The checkpoint cannot be found, read or trusted.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        registry: Registry | None = None,
        backend: str | None = None,
        lang: str = "en",
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        model_type: str | None = None,
        api_provider: str | None = None,
        **options: Any,
    ) -> None:
        if registry is not None and not isinstance(registry, Registry):
            raise InvalidInputError(
                f"registry is of type {type(registry).__name__}: give a rerank.Registry, or leave it out"
            )
        asked = ModelRef(
            as_path((backend or model_type or api_provider or DEFAULT_MODEL) if model is None else model, "model"),
            backend=backend,
            lang=lang,
            revision=revision,
            token=token,
            cache_dir=None if cache_dir is None else as_path(cache_dir, "cache_dir"),
            local_files_only=local_files_only,
            model_type=model_type,
            api_provider=api_provider,
        )
        chosen, found, defaults = select(registry or installed(), asked)
        validated = parse_options(chosen.options, {**defaults, **options}, chosen.name)
        self._session = Session(chosen, found, validated)
        self._session.load()

    @property
    def model(self) -> str:
        """The model's full name."""
        return self._session.model.name

    @property
    def backend(self) -> str:
        """The name of the backend that runs it."""
        return self._session.backend.name

    @property
    def model_ref(self) -> ModelRef:
        """The model as its backend knows it: its full name, and where to look for it."""
        return self._session.model

    @property
    def description(self) -> Backend:
        """The backend as its plugin describes it."""
        return self._session.backend

    @property
    def options(self) -> Options:
        """The options it was built with."""
        return self._session.options

    @property
    def scorer(self) -> Scorer:
        """The loaded model, as its backend returned it, for what the backend offers beyond ranking.

        Raises:
            ModelLoadError: It could not be loaded again after unpickling.
            RerankError: This reranker is closed.
        """
        return self._session.load()

    @name_arguments
    def rank(
        self,
        query: str,
        docs: Iterable[DocumentLike],
        *,
        doc_ids: Iterable[str | int] | None = None,
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
        text_fields: Sequence[str] = (),
        top_k: int | None = None,
        **options: Any,
    ) -> RankedResults:
        """Rank documents for a query.

        Args:
            query: What to rank for.
            docs: Strings, mappings with ``id``, ``text`` and ``meta``, or `Document`s; none give an empty ranking.
            doc_ids: One identifier per document; by default, its position from 0.
            metadata: One mapping per document, passed on to its result.
            text_fields: The keys of a mapping that make its text, joined by a space, such as ``("title", "text")``. By
                default ``text``; of BEIR's rows (``_id``, ``title``, ``text``) title and text.
            top_k: How many of the best results to keep; None keeps all.
            options: Overrides for this call.

        Raises:
            InvalidInputError: The query or a document is unusable; the message says which and why.
            InvalidOptionsError: An option is unknown, wrong, or fixed when the model loads.
            ScoringError: The model failed.
        """
        return self._session.rank(self._request_maker(top_k, options).make(query, docs, doc_ids, metadata, text_fields))

    def rank_many(
        self,
        requests: Iterable[RankRequest],
        *,
        text_fields: Sequence[str] = (),
        top_k: int | None = None,
        **options: Any,
    ) -> Iterator[RankedResults]:
        """Rank documents for several queries, lazily and in order; some backends batch across queries.

        Args:
            requests: ``(query, docs)`` pairs, or mappings with `rank`'s arguments ``query``, ``docs``, ``doc_ids``,
                ``metadata`` and ``text_fields``.
            text_fields: As for `rank`, of requests that name none.
            top_k: How many of the best results to keep per request; None keeps all.
            options: Overrides for this call.

        Raises:
            InvalidInputError, InvalidOptionsError, ScoringError: As for `rank`.
        """
        maker = self._request_maker(top_k, options, text_fields)
        return self._session.rank_many(maker.read_all(as_items(requests, "requests")))

    @name_arguments
    def score(self, query: str, doc: DocumentLike, *, text_fields: Sequence[str] = (), **options: Any) -> float:
        """The score of one document; the arguments are those of `rank`.

        Raises:
            ScoringError: The model only orders documents, so a single one has no score.
            InvalidInputError, InvalidOptionsError: As for `rank`.
        """
        ranked = self.rank(query, [doc], text_fields=text_fields, **options)
        return self._score_of(ranked[0], ranked.scale)

    @overload
    def score_pairs(
        self,
        pairs: Iterable[tuple[str, DocumentLike]],
        *,
        cutoff_layers: Sequence[int],
        text_fields: Sequence[str] = (),
        **options: Any,
    ) -> dict[int, list[float]]: ...

    @overload
    def score_pairs(
        self, pairs: Iterable[tuple[str, DocumentLike]], *, text_fields: Sequence[str] = (), **options: Any
    ) -> list[float]: ...

    def score_pairs(
        self, pairs: Iterable[tuple[str, DocumentLike]], *, text_fields: Sequence[str] = (), **options: Any
    ) -> list[float] | dict[int, list[float]]:
        """The scores of ``(query, document)`` pairs, in their order; pairs with the same query are scored together.

        Args:
            pairs: The pairs.
            text_fields: As for `rank`.
            options: Overrides for this call.

        Returns:
            One score per pair; if this call has a list of ``cutoff_layers``, such lists by layer.

        Raises:
            ScoringError: The model only orders documents.
            InvalidInputError, InvalidOptionsError: As for `rank`.
        """
        if "top_k" in options:
            raise InvalidOptionsError("score_pairs scores every pair: leave top_k out")
        groups = group_pairs(pairs, as_fields(text_fields))
        requests = ((query, list(texts.values())) for query, texts in groups.items())
        scored: dict[int, Result] = {}
        scale: ScoreScale = "logit"
        for texts, results in zip(groups.values(), self.rank_many(requests, **options)):
            positions, scale = list(texts), results.scale
            scored |= {positions[result.index or 0]: result for result in results}
        ordered = [scored[position] for position in range(len(scored))]
        layers = options.get("cutoff_layers")
        if isinstance(layers, Sequence):
            if not all("layers" in result.details for result in ordered):
                raise ScoringError(f"{self.model} does not score by layer: leave cutoff_layers out")
            return {layer: [result.details["layers"][str(layer)] for result in ordered] for layer in sorted(layers)}
        return [self._score_of(result, scale) for result in ordered]

    def _score_of(self, result: Result, scale: ScoreScale) -> float:
        if scale == "ordinal":
            raise ScoringError(f"{self.model} orders documents and gives them no scores (scale 'ordinal'): use rank")
        if result.score is None:
            raise ScoringError(f"{self.model} gave {result.text!r:.60} no score: use rank, which needs none")
        return result.score

    @name_arguments
    async def arank(
        self,
        query: str,
        docs: Iterable[DocumentLike],
        *,
        doc_ids: Iterable[str | int] | None = None,
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
        text_fields: Sequence[str] = (),
        top_k: int | None = None,
        **options: Any,
    ) -> RankedResults:
        """Like `rank`, without blocking the event loop: natively if the backend can, else in a worker thread."""
        return await self._session.arank(
            self._request_maker(top_k, options).make(query, docs, doc_ids, metadata, text_fields)
        )

    @name_arguments
    async def ascore(self, query: str, doc: DocumentLike, *, text_fields: Sequence[str] = (), **options: Any) -> float:
        """Like `score`, without blocking the event loop.

        Raises:
            InvalidInputError, InvalidOptionsError, ScoringError: As for `score`.
        """
        ranked = await self.arank(query, [doc], text_fields=text_fields, **options)
        return self._score_of(ranked[0], ranked.scale)

    async def arank_many(
        self,
        requests: Iterable[RankRequest],
        *,
        text_fields: Sequence[str] = (),
        top_k: int | None = None,
        concurrency: int = 8,
        **options: Any,
    ) -> AsyncIterator[RankedResults]:
        """Like `rank_many`, with up to ``concurrency`` requests at a time; results come in order.

        Leaving the loop early cancels the remaining requests. One that already runs in a worker thread runs to its end,
        and its result is discarded.

        Raises:
            InvalidInputError, InvalidOptionsError, ScoringError: As for `rank_many`, or ``concurrency`` is below 1.
        """
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
            raise InvalidOptionsError(f"concurrency must be a whole number of at least 1, not {concurrency!r}")
        maker = self._request_maker(top_k, options, text_fields)
        tasks: deque[asyncio.Task[RankedResults]] = deque()

        async def rank_one(request: RankRequest) -> RankedResults:
            return await self._session.arank(maker.read(request))

        try:
            for request in as_items(requests, "requests"):
                tasks.append(asyncio.ensure_future(rank_one(request)))
                if len(tasks) >= concurrency:
                    yield await tasks.popleft()
            while tasks:
                yield await tasks.popleft()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _request_maker(
        self, top_k: int | None, overrides: Mapping[str, Any], text_fields: Sequence[str] = ()
    ) -> RequestMaker:
        options = override_options(self.options, overrides, self.backend)
        return RequestMaker(options, None if top_k is None else check_top_k(top_k), as_fields(text_fields))

    def close(self) -> None:
        """Release the model. May be called again; ranking afterwards is an error."""
        self._session.close()

    async def aclose(self) -> None:
        """Like `close`, from inside an event loop."""
        await self._session.aclose()

    def __enter__(self) -> Reranker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Reranker:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"Reranker({self.model!r}, backend={self.backend!r})"
