"""One pool for every caller: event loops, threads, forks, cancelling and closing."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from chat import Chat, chatting
from loopback import Hit, Loopback, Response

from rerank import ProviderError, RerankError
from rerank_http.caller import Call
from rerank_http.loop_thread import LoopThread


def until(condition: Any) -> bool:
    """Whether it comes true within two seconds."""
    ends = time.monotonic() + 2
    while not condition() and time.monotonic() < ends:
        time.sleep(0.01)
    return bool(condition())


def open_descriptors() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def test_several_event_loops_in_turn_share_one_connection(server: Loopback) -> None:
    with chatting(server.url) as chat:
        for _ in range(3):
            assert asyncio.run(chat.aask("hello"))[0] == ["hello"]
        chat.ask("hello")
    assert server.accepted == 1


def test_sync_inside_a_running_event_loop(server: Loopback) -> None:
    async def inside() -> Any:
        with chatting(server.url) as chat:
            return chat.ask("hello")[0]

    assert asyncio.run(inside()) == ["hello"]


def test_threads_share_one_pool(server: Loopback) -> None:
    async def handler(hit: Hit) -> Response:
        await asyncio.sleep(0.01)
        return Response({"echo": hit.body, "usage": {}})

    server.handler = handler
    with chatting(server.url, max_concurrency=4) as chat, ThreadPoolExecutor(8) as pool:
        texts = [str(i) for i in range(32)]
        assert [answers for answers, _ in pool.map(chat.ask, texts)] == [[text] for text in texts]
    assert server.accepted <= 4


def test_cancelling_closes_the_request(server: Loopback) -> None:
    server.script([Response({}, delay=30)])

    async def cancelled() -> None:
        with chatting(server.url, deadline=60) as chat:
            task = asyncio.ensure_future(chat.aask("hello"))
            assert await asyncio.to_thread(until, lambda: server.open_connections == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(until, lambda: server.open_connections == 0)

    asyncio.run(cancelled())


def test_close_leaves_neither_connection_nor_file_nor_thread(server: Loopback, tmp_path: Path) -> None:
    descriptors, threads = open_descriptors(), threading.active_count()
    with chatting(server.url, cache=tmp_path / "answers") as chat:
        chat.ask(*map(str, range(8)))
        assert server.open_connections > 1
    assert until(lambda: server.open_connections == 0)
    assert until(lambda: open_descriptors() <= descriptors)
    assert until(lambda: threading.active_count() <= threads)


def test_closing_while_asked_is_a_typed_error(server: Loopback) -> None:
    server.script([Response({}, delay=30)])
    chat = Chat(server.url, deadline=60)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(chat.ask, "hello")
        assert until(lambda: server.count == 1)
        chat.portal.close()
        with pytest.raises(ProviderError, match="was closed during"):
            future.result(5)


def test_closing_amid_many_calls_ends_every_one_typed(server: Loopback) -> None:
    server.script([Response({}, delay=30)])
    chat = Chat(server.url, deadline=60)
    futures = [chat.portal.submit(lambda service: service.ask("hello")) for _ in range(50)]
    asyncio.run(chat.portal.aclose())
    for future in futures:
        with pytest.raises(ProviderError, match="was closed during"):
            future.result(5)


def test_closing_ends_work_that_loses_a_cancellation(server: Loopback) -> None:
    """As anyio does before Python 3.11, if it is just opening a connection."""
    started = threading.Event()

    async def stubborn() -> None:
        try:
            started.set()
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            await asyncio.sleep(30)

    chat = Chat(server.url, deadline=60)
    future = chat.portal.submit(lambda service: service.caller.within_deadline(stubborn(), Call(service.options)))
    assert started.wait(5)
    chat.portal.close()
    with pytest.raises(ProviderError, match="was closed during"):
        future.result(5)


def test_what_was_cancelled_before_close_logs_nothing(server: Loopback, caplog: pytest.LogCaptureFixture) -> None:
    server.script([Response({}, delay=30)])
    chat = Chat(server.url, deadline=60)
    future = chat.portal.submit(lambda service: service.ask("hello"))
    assert until(lambda: server.count == 1)
    future.cancel()  # as an interrupt does, right before the reranker is closed
    chat.portal.close()
    del future
    gc.collect()
    assert "never retrieved" not in caplog.text


def test_nothing_is_asked_after_close(server: Loopback) -> None:
    chat = Chat(server.url)
    chat.portal.close()
    chat.portal.close()
    with pytest.raises(RerankError, match="is closed: build another"):
        chat.ask("hello")
    assert server.accepted == 0


def test_a_forgotten_service_closes_itself(server: Loopback) -> None:
    Chat(server.url).ask("hello")
    gc.collect()
    assert until(lambda: server.open_connections == 0)
    assert not any(thread.name == "rerank-http" for thread in threading.enumerate())


def test_an_unclosed_service_ends_with_its_process(server: Loopback) -> None:
    code = (
        "import sys\n"
        "sys.path.append(sys.argv[1])\n"
        "from chat import Chat\n"
        f"chat = Chat({server.url!r})\n"
        "print(chat.ask('a')[0])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(Path(__file__).parent)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("['a']\n", "", 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_asks_on_its_own_connection(server: Loopback) -> None:
    with chatting(server.url) as chat:
        chat.ask("hello")
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if chat.ask("hello")[0] == ["hello"] else 1)
            finally:
                os._exit(2)
        ends = time.monotonic() + 20
        while (waited := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < ends:
            time.sleep(0.02)
        assert waited == (child, 0)
        chat.ask("hello")
    assert server.accepted == 2


def test_a_call_beside_close_ends_typed() -> None:
    closing, refused = threading.Event(), threading.Event()
    thread = LoopThread()

    async def last() -> None:
        closing.set()
        await asyncio.to_thread(refused.wait, 5)  # what is submitted now comes after the last task was cancelled

    thread.submit(asyncio.sleep(0)).result(5)
    with ThreadPoolExecutor(1) as pool:
        closed = pool.submit(thread.close, last)
        assert closing.wait(5)
        with pytest.raises(RerankError, match="closed"):
            thread.submit(asyncio.sleep(0))
        refused.set()
        closed.result(5)


def test_a_thread_whose_last_work_fails_cancels_the_rest_and_ends(caplog: pytest.LogCaptureFixture) -> None:
    thread = LoopThread()

    async def last() -> None:
        raise OSError("the pool is stuck")

    waiting = thread.submit(asyncio.sleep(30))
    thread.close(last)
    assert waiting.cancelled()
    gc.collect()
    assert "the pool is stuck" in caplog.text
