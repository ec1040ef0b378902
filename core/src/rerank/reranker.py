"""The facade: everything a user sees of a model, whatever runs underneath."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, TypeAlias

from pydantic import BaseModel, SecretBytes, SecretStr

from rerank.documents import DocumentLike, as_document, as_documents, as_items, as_query
from rerank.errors import InvalidInputError, InvalidOptionsError, ModelLoadError, RerankError, ScoringError
from rerank.model_ref import ModelRef
from rerank.options import Options, override_options, parse_options
from rerank.protocols import Closes, ClosesAsync, Request, Scorer, Scores, ScoresAsync, ScoresMany
from rerank.ranking import rank_by_score
from rerank.registry import Registry, installed
from rerank.resolution import select
from rerank.results import RankedResults, Result, check_top_k

logger = logging.getLogger("rerank")

DEFAULT_MODEL: Final = "nano"
"""What `Reranker()` runs: the embedded model of ``rerank-nano``."""

RankRequest: TypeAlias = tuple[str, Iterable[DocumentLike]] | Mapping[str, Any]
"""A query with its documents, or a mapping of `Reranker.rank`'s own arguments."""

_NOTHING = Scores(values=(), scale="logit")


class Reranker:
    """A model that ranks documents for a query.

    Usable as a context manager, synchronous or asynchronous, and from several threads at once. It pickles as its
    model and options, without secrets, and loads again on first use.

    Args:
        model: A hub name, a folder, or a short name such as ``"cross-encoder"``, which wins over a folder called so
            (``"./cross-encoder"``). None is the default of ``backend`` or ``api_provider``, else the embedded model.
        backend: A backend's name, where several could run the model or none would by itself.
        lang: Which of a short name's models: ``"en"``, ``"fr"``, ``"zh"`` … or ``"other"``.
        registry: Where to look for backends; None is every installed plugin.
        revision: Branch, tag or commit on the hub.
        token: Access token for the hub.
        cache_dir: Folder for downloads.
        local_files_only: Never touch the network.
        model_type: Another name of ``backend``.
        api_provider: The API vendor that serves the model.
        options: The backend's own options; `rank` and its siblings can override most of them a call.

    Raises:
        BackendNotFoundError: No installed backend runs the model; the message says what to ``pip install``.
        AmbiguousModelError: Several would, equally.
        InvalidOptionsError: An option is unknown or has a wrong value.
        ModelLoadError: The checkpoint cannot be found, read or trusted.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        backend: str | None = None,
        lang: str = "en",
        registry: Registry | None = None,
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        model_type: str | None = None,
        api_provider: str | None = None,
        **options: Any,
    ) -> None:
        if backend is not None and model_type is not None and backend != model_type:
            raise InvalidOptionsError(f"backend={backend!r} and model_type={model_type!r} differ: give one of them")
        if registry is not None and not isinstance(registry, Registry):
            raise InvalidInputError(
                f"registry is of type {type(registry).__name__}: give a rerank.Registry, or leave it out"
            )
        names = {"backend": backend, "lang": lang, "revision": revision, "token": token}
        for name, value in {**names, "model_type": model_type, "api_provider": api_provider}.items():
            if value is not None and not isinstance(value, str):
                raise InvalidInputError(f"{name} is of type {type(value).__name__}: give a str, or leave it out")
        named = (backend or model_type or api_provider or DEFAULT_MODEL) if model is None else model
        asked = ModelRef(
            name=_as_path(named, "model"),
            provider=api_provider,
            revision=revision,
            token=token,
            cache_dir=None if cache_dir is None else _as_path(cache_dir, "cache_dir"),
            local_files_only=local_files_only,
        )
        self._backend, self._model, defaults = select(registry or installed(), asked, backend or model_type, lang)
        self._options = parse_options(self._backend.options, {**defaults, **options}, self._backend.name)
        self._lock = threading.Lock()
        self._closed = False
        self._scorer: Scorer | None = None
        self._loaded()

    @property
    def model(self) -> str:
        """The model's full name."""
        return self._model.name

    @property
    def backend(self) -> str:
        """The name of the backend that runs it."""
        return self._backend.name

    @property
    def options(self) -> Options:
        """The options it was built with."""
        return self._options

    def rank(
        self,
        query: str,
        docs: Iterable[DocumentLike],
        *,
        doc_ids: Iterable[str | int] | None = None,
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
        top_k: int | None = None,
        **options: Any,
    ) -> RankedResults:
        """Rank documents for a query.

        Args:
            query: What to rank for.
            docs: Strings, mappings with ``id``, ``text`` and ``meta``, or `Document`s. None at all is an empty ranking.
            doc_ids: One identifier a document; without any, its position from 0.
            metadata: One mapping a document, carried to its result.
            top_k: Keep only the best.
            options: Overrides for this call.

        Raises:
            InvalidInputError: The query or a document is unusable; the message says which and why.
            InvalidOptionsError: An option is unknown, wrong, or fixed when the model loads.
            ScoringError: The model failed.
        """
        request = {"query": query, "docs": docs, "doc_ids": doc_ids, "metadata": metadata}
        return next(self._rank_requests(map(self._request_maker(top_k, options), [request])))

    def rank_many(
        self, requests: Iterable[RankRequest], *, top_k: int | None = None, **options: Any
    ) -> Iterator[RankedResults]:
        """Rank for several queries, lazily and in order; backends that can, batch across queries.

        Args:
            requests: ``(query, docs)`` pairs, or mappings of `rank`'s arguments ``query``, ``docs``, ``doc_ids`` and
                ``metadata``.
            top_k: Keep only the best of each.
            options: Overrides for this call.

        Raises:
            InvalidInputError, InvalidOptionsError, ScoringError: As `rank`.
        """
        as_request = self._request_maker(top_k, options)
        items = as_items(requests, "requests")

        def numbered() -> Iterator[Request]:
            for position, request in enumerate(items):
                try:
                    yield as_request(request)
                except InvalidInputError as error:
                    raise InvalidInputError(f"request {position}: {error}") from error

        return self._rank_requests(numbered())

    def score(self, query: str, doc: DocumentLike, **options: Any) -> float:
        """The score of one document.

        Raises:
            ScoringError: The model only orders, so that a single document has no score.
            InvalidInputError, InvalidOptionsError: As `rank`.
        """
        return self._score_of(self.rank(query, [doc], **options)[0])

    def score_pairs(self, pairs: Iterable[tuple[str, DocumentLike]], **options: Any) -> list[float]:
        """The scores of ``(query, document)`` pairs, in their order; pairs with the same query are scored together.

        Raises:
            ScoringError: The model only orders.
            InvalidInputError, InvalidOptionsError: As `rank`.
        """
        if "top_k" in options:
            raise InvalidOptionsError("score_pairs scores every pair: leave top_k out")
        positions: dict[str, list[int]] = {}
        documents: dict[str, list[str]] = {}
        for position, pair in enumerate(as_items(pairs, "pairs")):
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                raise InvalidInputError(f"pair {position} is no (query, document): give two texts")
            try:
                query, document = as_query(pair[0]), as_document(pair[1], where="the document")
            except InvalidInputError as error:
                raise InvalidInputError(f"pair {position}: {error}") from error
            positions.setdefault(query, []).append(position)
            documents.setdefault(query, []).append(document.text)
        scores: dict[int, float] = {}
        for own_positions, results in zip(positions.values(), self.rank_many(documents.items(), **options)):
            for result in results:
                scores[own_positions[result.index or 0]] = self._score_of(result)
        return [scores[position] for position in range(len(scores))]

    def _score_of(self, result: Result) -> float:
        if result.score is None:
            raise ScoringError(f"{self.model} gave {result.text!r:.60} no score: use rank, which orders without one")
        return result.score

    async def arank(
        self,
        query: str,
        docs: Iterable[DocumentLike],
        *,
        doc_ids: Iterable[str | int] | None = None,
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
        top_k: int | None = None,
        **options: Any,
    ) -> RankedResults:
        """As `rank`, without blocking the event loop: natively where the backend can, else in a worker thread."""
        request = {"query": query, "docs": docs, "doc_ids": doc_ids, "metadata": metadata}
        return await self._arank_request(self._request_maker(top_k, options)(request))

    async def ascore(self, query: str, doc: DocumentLike, **options: Any) -> float:
        """As `score`, without blocking the event loop.

        Raises:
            InvalidInputError, InvalidOptionsError, ScoringError: As `score`.
        """
        return self._score_of((await self.arank(query, [doc], **options))[0])

    async def arank_many(
        self, requests: Iterable[RankRequest], *, top_k: int | None = None, concurrency: int = 8, **options: Any
    ) -> AsyncIterator[RankedResults]:
        """As `rank_many`, with up to ``concurrency`` requests under way; results come in order.

        Leaving the loop early cancels what is under way; what already runs in a worker thread ends there, unheard.

        Raises:
            InvalidInputError, InvalidOptionsError, ScoringError: As `rank_many`, and ``concurrency`` is below 1.
        """
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
            raise InvalidOptionsError(f"concurrency must be at least 1, a whole number, not {concurrency!r}")
        as_request = self._request_maker(top_k, options)
        tasks: deque[asyncio.Task[RankedResults]] = deque()

        async def rank_one(request: RankRequest) -> RankedResults:
            return await self._arank_request(as_request(request))

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

    def _request_maker(self, top_k: int | None, overrides: Mapping[str, Any]) -> Callable[[RankRequest], Request]:
        """Validate what all requests of a call share, and return what turns each into a `Request`."""
        options = override_options(self._options, overrides, self.backend)
        kept = None if top_k is None else check_top_k(top_k)

        def as_request(request: RankRequest) -> Request:
            if isinstance(request, Mapping):
                arguments = dict(request)
            elif isinstance(request, (tuple, list)) and len(request) == 2:
                arguments = {"query": request[0], "docs": request[1]}
            else:
                raise InvalidInputError(f"{request!r:.80} is no request: give (query, docs) or a mapping of both")
            if unknown := sorted(map(str, set(arguments) - {"query", "docs", "doc_ids", "metadata"})):
                raise InvalidInputError(f"a request has the unknown key {unknown[0]!r}: give query and docs")
            if missing := sorted({"query", "docs"} - set(arguments)):
                raise InvalidInputError(f"a request has no {missing[0]!r}: give query and docs")
            query = as_query(arguments.pop("query"))
            return Request(query=query, documents=as_documents(**arguments), top_k=kept, options=options)

        return as_request

    def _rank_requests(self, requests: Iterator[Request]) -> Iterator[RankedResults]:
        """Score lazily; requests without documents never reach the scorer.

        Where the caller's own iterable raises, what it gave before is answered first.
        """
        scorer = self._loaded()
        waiting: deque[Request] = deque()
        broken_off: list[Exception] = []

        def with_documents() -> Iterator[Request]:
            try:
                for request in requests:
                    waiting.append(request)
                    if request.documents:
                        yield request
            except Exception as error:
                broken_off.append(error)

        many = scorer.score_many if isinstance(scorer, ScoresMany) else lambda rs: map(scorer.score, rs)
        started = time.perf_counter()
        with self._failures_told("score"):
            answers = iter(many(with_documents()))
        while True:
            with self._failures_told("score"):
                scores = next(answers, None)
            while waiting and not waiting[0].documents:
                yield self._finish(waiting.popleft(), _NOTHING, scorer, started)
            if scores is None:
                break
            if not waiting:
                raise ScoringError(f"backend {self.backend!r} returned more answers than requests: report it")
            yield self._finish(waiting.popleft(), scores, scorer, started)
            started = time.perf_counter()
        if waiting:
            raise ScoringError(f"backend {self.backend!r} left {len(waiting)} requests unanswered: report it")
        if broken_off:
            raise broken_off[0]

    async def _arank_request(self, request: Request) -> RankedResults:
        scorer = self._scorer if self._scorer is not None else await asyncio.to_thread(self._loaded)
        if not isinstance(scorer, ScoresAsync):
            return await asyncio.to_thread(lambda: next(self._rank_requests(iter([request]))))
        started = time.perf_counter()
        with self._failures_told("score"):
            scores = await scorer.ascore(request) if request.documents else _NOTHING
        return self._finish(request, scores, scorer, started)

    def _finish(self, request: Request, scores: Scores, scorer: Scorer, started: float) -> RankedResults:
        with self._failures_told("rank"):
            results = rank_by_score(request, scores, scorer, model=self.model, backend=self.backend)
        logger.debug(
            "%s ranked %d documents, %s truncated, in %.1f ms",
            self.model,
            len(request.documents),
            scores.diagnostics.get("truncated", 0),
            1000 * (time.perf_counter() - started),
        )
        return results

    def _loaded(self) -> Scorer:
        """The scorer, loaded on first use after construction or unpickling."""
        with self._lock:
            if self._closed:
                raise RerankError(f"this Reranker of {self.model} is closed: build another")
            if self._scorer is None:
                with self._failures_told("load", ModelLoadError):
                    self._scorer = self._backend.load(self._model, self._options)
            return self._scorer

    @contextmanager
    def _failures_told(self, action: str, kind: type[RerankError] = ScoringError) -> Iterator[None]:
        """Let typed errors through; name the model and backend in any other."""
        try:
            yield
        except RerankError:
            raise
        except Exception as error:
            raise kind(
                f"backend {self.backend!r} could not {action} {self.model}: {type(error).__name__}: {error}; "
                "check the input and the options, and report it to the backend's authors if both are right"
            ) from error

    def close(self) -> None:
        """Let go of the model. May be called again; ranking afterwards is an error."""
        if isinstance(scorer := self._release(), Closes):
            scorer.close()

    async def aclose(self) -> None:
        """As `close`, from inside an event loop."""
        scorer = self._release()
        if isinstance(scorer, ClosesAsync):
            await scorer.aclose()
        elif isinstance(scorer, Closes):
            await asyncio.to_thread(scorer.close)

    def _release(self) -> Scorer | None:
        with self._lock:
            scorer, self._scorer, self._closed = self._scorer, None, True
        return scorer

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

    def __getstate__(self) -> dict[str, Any]:
        given = {name: getattr(self._options, name) for name in self._options.model_fields_set}
        is_installed = installed().backends.get(self.backend) is self._backend
        return {
            "backend": self.backend if is_installed else self._backend,
            "model": replace(self._model, token=None),
            "options": {name: value for name, value in given.items() if not _holds_secret(value)},
            "closed": self._closed,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        backend, self._model, self._closed = state["backend"], state["model"], state["closed"]
        self._backend = installed().find(backend) if isinstance(backend, str) else backend
        self._options = parse_options(self._backend.options, state["options"], self._backend.name)
        self._lock = threading.Lock()
        self._scorer = None


def _as_path(value: object, name: str) -> str:
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(path, str):
        raise InvalidInputError(f"{name} is of type {type(value).__name__}: give a name or a folder as a str or a Path")
    return path


def _holds_secret(value: Any) -> bool:
    """Whether an option's value is a secret, or contains one."""
    if isinstance(value, (Mapping, BaseModel)):
        return any(map(_holds_secret, (value if isinstance(value, Mapping) else vars(value)).values()))
    if isinstance(value, (list, tuple, set, frozenset)):
        return any(map(_holds_secret, value))
    return isinstance(value, (SecretStr, SecretBytes))
