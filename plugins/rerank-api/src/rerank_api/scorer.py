"""A service as a scorer: every call, synchronous or not, runs on the one event loop thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial

from rerank import Request, Scores
from rerank_api.options import ApiOptions
from rerank_api.provider import Provider
from rerank_api.service import Service, estimate_tokens
from rerank_http.pace import share
from rerank_http.portal import Portal, result_of


class ApiScorer:
    """Scores through a service. Safe to call from several threads and event loops at once, and after a fork.

    Args:
        provider: The provider to call.
        model: The model's name, or None if the server runs one of its own.
        options: The options given at construction.

    Raises:
        AuthenticationError: The provider needs a key and there is none.
        InvalidOptionsError: The provider has no address, or does not support an option.
    """

    def __init__(self, provider: Provider, model: str | None, options: ApiOptions) -> None:
        self._options = options
        self._portal = Portal(partial(Service, provider, model, options))

    def score(self, request: Request) -> Scores:
        """Ask for one request's scores, from any thread, inside a running event loop or not."""
        return result_of(self._submit(request))

    def score_many(self, requests: Iterable[Request]) -> Iterator[Scores]:
        """Ask for several requests' scores, up to ``max_concurrency`` at a time; answers come in order."""
        waiting: deque[tuple[concurrent.futures.Future[Scores], float]] = deque()
        try:
            for request in requests:
                waiting.append((self._submit(request), self._share(request)))
                while sum(taken for _, taken in waiting) > 1 - 1e-9:
                    yield result_of(waiting.popleft()[0])
            while waiting:
                yield result_of(waiting.popleft()[0])
        finally:
            for future, _ in waiting:
                future.cancel()

    async def ascore(self, request: Request) -> Scores:
        """Like `score`, without blocking the caller's event loop; cancelling it cancels the request."""
        return await asyncio.wrap_future(self._submit(request))

    def _submit(self, request: Request) -> concurrent.futures.Future[Scores]:
        options = request.options
        assert isinstance(options, ApiOptions)
        return self._portal.submit(lambda service: service.scores(request, options))

    def _share(self, request: Request) -> float:
        texts = [document.text for document in request.documents]
        return share(estimate_tokens(request.query, texts, self._options), self._options)

    def close(self) -> None:
        """Cancel pending requests and close every connection."""
        self._portal.close()

    async def aclose(self) -> None:
        """Like `close`, without blocking the event loop."""
        await self._portal.aclose()
