"""Access to one asynchronous service from any thread or event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Protocol, TypeVar

from rerank import ForkSafeLock
from rerank_http.loop_thread import LoopThread

T = TypeVar("T")


class Closable(Protocol):
    """The service behind a portal."""

    async def aclose(self) -> None:
        """Cancel pending work and close everything; called once, if the service was ever used."""
        ...


S = TypeVar("S", bound=Closable)


class Portal(Generic[S]):
    """A service on its own event loop thread, opened again in a forked child, and closed when it is garbage-collected.

    Args:
        open_service: Creates the service; called at once, and in every forked child that uses it.
    """

    def __init__(self, open_service: Callable[[], S]) -> None:
        self._open_service = open_service
        self._lock = ForkSafeLock()
        self._open()

    def _open(self) -> None:
        self._thread, self._service = LoopThread(), self._open_service()
        self._close = weakref.finalize(self, self._thread.close, self._service.aclose)

    def submit(self, work: Callable[[S], Coroutine[Any, Any, T]]) -> concurrent.futures.Future[T]:
        """Start work on the service; cancelling the future cancels it.

        Raises:
            RerankError: The portal is closed.
        """
        with self._lock:
            if self._thread.pid != os.getpid():
                self._open()
            return self._thread.submit(work(self._service))

    def close(self) -> None:
        """Close the service and end its thread; may be called again."""
        self._close()

    async def aclose(self) -> None:
        """Like `close`, without blocking the event loop."""
        await asyncio.to_thread(self._close)


def result_of(future: concurrent.futures.Future[T]) -> T:
    """What a future returns; interrupting the wait cancels it."""
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise
