"""A service as a scorer: every call, synchronous or not, runs on the one event loop thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Iterator

from rerank import Request, Scores
from rerank_api.options import ApiOptions
from rerank_api.provider import Provider
from rerank_api.service import Service, estimate_tokens
from rerank_http.loop_thread import LoopThread
from rerank_http.pace import share


class ApiScorer:
    """Scores through a service. Safe to call from several threads and event loops at once, and after a fork.

    Args:
        provider: Whom to ask.
        model: The model's name, or None where the server runs one of its own.
        options: The construction's options.

    Raises:
        AuthenticationError: The provider needs a key and there is none.
        InvalidOptionsError: The provider has no address, or does not know an option.
    """

    def __init__(self, provider: Provider, model: str | None, options: ApiOptions) -> None:
        self._provider, self._model, self._options = provider, model, options
        self._lock = threading.Lock()
        self._open()

    def _open(self) -> None:
        self._thread, self._service = LoopThread(), Service(self._provider, self._model, self._options)
        self._close = weakref.finalize(self, _close, self._thread, self._service)

    def score(self, request: Request) -> Scores:
        """Ask for one request's scores, from any thread, inside a running event loop or not."""
        return _result(self._submit(request))

    def score_many(self, requests: Iterable[Request]) -> Iterator[Scores]:
        """Ask for several requests' scores, up to ``max_concurrency`` at a time; answers come in order."""
        waiting: deque[tuple[concurrent.futures.Future[Scores], float]] = deque()
        try:
            for request in requests:
                waiting.append((self._submit(request), self._share(request)))
                while sum(taken for _, taken in waiting) > 1 - 1e-9:
                    yield _result(waiting.popleft()[0])
            while waiting:
                yield _result(waiting.popleft()[0])
        finally:
            for future, _ in waiting:
                future.cancel()

    def _share(self, request: Request) -> float:
        return share(estimate_tokens(request.query, [document.text for document in request.documents]), self._options)

    async def ascore(self, request: Request) -> Scores:
        """As `score`, without blocking the caller's event loop; cancelling it cancels the request."""
        return await asyncio.wrap_future(self._submit(request))

    def _submit(self, request: Request) -> concurrent.futures.Future[Scores]:
        options = request.options
        assert isinstance(options, ApiOptions)
        with self._lock:
            if self._thread.pid != os.getpid():
                self._open()
            return self._thread.submit(self._service.scores(request, options))

    def close(self) -> None:
        """Cancel what is under way and close every connection."""
        self._close()

    async def aclose(self) -> None:
        """As `close`, without blocking the event loop."""
        await asyncio.to_thread(self._close)


def _result(future: concurrent.futures.Future[Scores]) -> Scores:
    try:
        return future.result()
    except BaseException:
        future.cancel()  # the caller was interrupted
        raise


def _close(thread: LoopThread, service: Service) -> None:
    service.refuse()
    thread.close(service.aclose)
    service.close_files()
