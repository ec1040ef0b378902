"""One event loop on a thread of its own, so that the asynchronous code serves every caller.

Callers with and without an event loop, in several threads or in successive `asyncio.run` calls, share its one
connection pool.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from rerank import RerankError

T = TypeVar("T")


class LoopThread:
    """Runs coroutines; its thread starts with the first, and does not survive a fork."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Start a coroutine; cancelling the future cancels it.

        Raises:
            RerankError: `close` was called.
        """
        with self._lock:
            if self._closed:
                work.close()
                raise RerankError("this reranker is closed: build another")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_run, args=(self._loop,), name="rerank-http", daemon=True)
                self._thread.start()
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run ``last``, cancel what still runs, and end the thread; does nothing if the thread never started."""
        if self.pid != os.getpid():  # after a fork: another thread may hold the lock, and no thread runs the loop
            return
        with self._lock:  # what was submitted before runs by then, and nothing can follow
            self._closed, loop, thread = True, self._loop, self._thread
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(lambda: loop.create_task(_finish(loop, last)))
        if thread is not threading.current_thread():  # the garbage collector may call from any thread
            thread.join()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def _finish(loop: asyncio.AbstractEventLoop, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
    tasks = asyncio.all_tasks()
    try:
        await last()
    finally:
        tasks = (tasks | asyncio.all_tasks()) - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)  # also those that ended meanwhile and that no one awaits
        loop.stop()
