"""A backend's model while it is in use: loaded once, asked for scores, closed once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from rerank.backend import Backend
from rerank.errors import ModelLoadError, RerankError, ScoringError, is_failure
from rerank.forks import ForkSafeLock
from rerank.model_ref import ModelRef
from rerank.options import Options, parse_options
from rerank.protocols import Closes, ClosesAsync, Request, Scorer, Scores, ScoresAsync, ScoresMany
from rerank.ranking import rank_by_score
from rerank.registry import installed
from rerank.results import RankedResults

logger = logging.getLogger("rerank")

_EMPTY_AHEAD: Final = 1000
"""How many requests without documents are read before they are answered."""

_NOTHING: Final = Scores(values=(), scale="logit")
"""The answer to a request without documents, which never reaches a scorer."""


class Session:
    """A model of a backend, for any number of threads and event loops.

    It pickles as its backend, model and options, without secrets, and loads again on first use.

    Args:
        backend: The backend that runs the model.
        model: The model.
        options: The options that it is loaded with.
    """

    def __init__(self, backend: Backend, model: ModelRef, options: Options) -> None:
        self.backend, self.model, self.options = backend, model, options
        self._lock = ForkSafeLock()
        self._closed = False
        self._scorer: Scorer | None = None

    def load(self) -> Scorer:
        """The scorer, loaded on first use after construction or unpickling.

        Raises:
            ModelLoadError: The checkpoint cannot be found, read or trusted.
            RerankError: The session is closed.
        """
        with self._lock:
            if self._closed:
                raise RerankError(f"this Reranker of {self.model.name} is closed: build another")
            if self._scorer is None:
                with self._failures_wrapped("load", ModelLoadError):
                    self._scorer = self.backend.load(self.model, self.options)
            return self._scorer

    def rank(self, request: Request) -> RankedResults:
        """Rank one request's documents."""
        scorer = self.load()
        started = time.perf_counter()
        with self._failures_wrapped("score"):
            scores = scorer.score(request) if request.documents else _NOTHING
        return self._ranked(request, scores, scorer, started)

    def rank_many(self, requests: Iterator[Request]) -> Iterator[RankedResults]:
        """Rank several requests lazily and in order, as a stream if the scorer takes one."""
        scorer = self.load()
        if isinstance(scorer, ScoresMany):
            yield from self._rank_stream(requests, scorer, scorer.score_many)
        else:
            yield from map(self.rank, requests)

    def _rank_stream(
        self, requests: Iterator[Request], scorer: Scorer, score_many: Callable[[Iterator[Request]], Iterator[Scores]]
    ) -> Iterator[RankedResults]:
        """Rank a stream in parts: many empty requests end one, so that they are answered before more are read.

        If the caller's iterable raises, the requests before that are answered first.
        """
        unanswered: deque[Request] = deque()
        broken_off: list[Exception] = []
        count, is_read = 0, False

        def with_documents() -> Iterator[Request]:
            nonlocal count, is_read
            empty = 0
            try:
                for request in requests:
                    count += 1
                    unanswered.append(request)
                    if request.documents:
                        empty = 0
                        yield request
                    elif (empty := empty + 1) == _EMPTY_AHEAD:
                        return
            except Exception as error:
                broken_off.append(error)
            is_read = True

        while not is_read:
            before = count
            yield from self._rank_part(with_documents(), unanswered, scorer, score_many)
            if before == count and not is_read:
                raise ScoringError(f"backend {self.backend.name!r} took no request: report it to its authors")
        if broken_off:
            raise broken_off[0]

    def _rank_part(
        self,
        requests: Iterator[Request],
        unanswered: deque[Request],
        scorer: Scorer,
        score_many: Callable[[Iterator[Request]], Iterator[Scores]],
    ) -> Iterator[RankedResults]:
        """Match a scorer's answers to the requests that it took, and to the empty ones between them."""
        started = time.perf_counter()
        with self._failures_wrapped("score"):
            answers = iter(score_many(requests))
        while True:
            with self._failures_wrapped("score"):
                scores = next(answers, None)
            while unanswered and not unanswered[0].documents:
                yield self._ranked(unanswered.popleft(), _NOTHING, scorer, started)
            if scores is None:
                break
            if not unanswered:
                raise ScoringError(
                    f"backend {self.backend.name!r} returned more answers than requests: report it to its authors"
                )
            yield self._ranked(unanswered.popleft(), scores, scorer, started)
            started = time.perf_counter()
        if unanswered:
            raise ScoringError(
                f"backend {self.backend.name!r} left {len(unanswered)} requests unanswered: report it to its authors"
            )

    async def arank(self, request: Request) -> RankedResults:
        """Like `rank`: with the scorer's ``ascore`` if it has one, else in a worker thread."""
        scorer = self._scorer if self._scorer is not None else await asyncio.to_thread(self.load)
        if not isinstance(scorer, ScoresAsync):
            return await asyncio.to_thread(self.rank, request)
        started = time.perf_counter()
        with self._failures_wrapped("score"):
            scores = await scorer.ascore(request) if request.documents else _NOTHING
        return self._ranked(request, scores, scorer, started)

    def _ranked(self, request: Request, scores: Scores | None, scorer: Scorer, started: float) -> RankedResults:
        if not isinstance(scores, Scores):
            raise ScoringError(
                f"backend {self.backend.name!r} returned {type(scores).__name__} for a request instead of Scores: report it "
                "to its authors"
            )
        with self._failures_wrapped("rank"):
            results = rank_by_score(request, scores, scorer, model=self.model.name, backend=self.backend.name)
        logger.debug(
            "%s ranked %d documents, %s truncated, in %.1f ms",
            self.model.name,
            len(request.documents),
            scores.diagnostics.get("truncated", 0),
            1000 * (time.perf_counter() - started),
        )
        return results

    @contextmanager
    def _failures_wrapped(self, action: str, kind: type[RerankError] = ScoringError) -> Iterator[None]:
        """Pass typed errors on; wrap any other in one that names the model and the backend."""
        try:
            yield
        except RerankError:
            raise
        except BaseException as error:
            if not is_failure(error):
                raise
            raise kind(
                f"backend {self.backend.name!r} could not {action} {self.model.name}: {type(error).__name__}: {error}; "
                "check the input and the options, and report it to the backend's authors if both are right"
            ) from error

    def close(self) -> None:
        """Release the model; ranking afterwards is an error."""
        if isinstance(scorer := self._release(), Closes):
            scorer.close()

    async def aclose(self) -> None:
        """Like `close`, from inside an event loop."""
        scorer = self._release()
        if isinstance(scorer, ClosesAsync):
            await scorer.aclose()
        elif isinstance(scorer, Closes):
            await asyncio.to_thread(scorer.close)

    def _release(self) -> Scorer | None:
        with self._lock:
            scorer, self._scorer, self._closed = self._scorer, None, True
        return scorer

    def __getstate__(self) -> dict[str, Any]:
        is_installed = installed().backends.get(self.backend.name) is self.backend
        return {
            "backend": self.backend.name if is_installed else self.backend,
            "model": replace(self.model, token=None),
            "options": self.options.without_secrets(),
            "closed": self._closed,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        backend = state["backend"]
        if isinstance(backend, str):
            backend = installed().find(backend)
        Session.__init__(self, backend, state["model"], parse_options(backend.options, state["options"], backend.name))
        self._closed = state["closed"]
