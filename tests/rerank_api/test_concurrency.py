"""One pool for all callers: event loops, threads, cancelling, closing, splitting, and client-side limits."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from api_ranking import rerank, score
from loopback import Hit, Loopback, Response

from rerank import Document, ProviderError, Request, Reranker, RerankError

DOCUMENTS = [f"document {i}" for i in range(10)]
both = pytest.mark.parametrize("provider", ["jina", "cohere"])


def make(server: Loopback, provider: str = "jina", **options: Any) -> Reranker:
    return Reranker(provider, url=server.url, api_key="secret-key", **{"backoff": 0.01, "deadline": 10.0, **options})


def slow(seconds: float) -> Any:
    async def handler(hit: Hit) -> Response:
        await asyncio.sleep(seconds)
        return rerank(hit)

    return handler


def until(condition: Any) -> bool:
    """Whether it comes true within two seconds."""
    ends = time.monotonic() + 2
    while not condition() and time.monotonic() < ends:
        time.sleep(0.01)
    return bool(condition())


@both
def test_sync_inside_a_running_event_loop(server: Loopback, provider: str) -> None:
    async def inside() -> Any:
        with make(server, provider) as reranker:
            return reranker.rank("q", DOCUMENTS)

    assert len(asyncio.run(inside())) == 10


@both
def test_several_event_loops_in_turn_share_one_connection(server: Loopback, provider: str) -> None:
    with make(server, provider) as reranker:
        for _ in range(3):
            assert len(asyncio.run(reranker.arank("q", DOCUMENTS))) == 10
        reranker.rank("q", DOCUMENTS)
    assert server.accepted == 1


@both
def test_arank_many_shares_one_pool_and_keeps_order(server: Loopback, provider: str) -> None:
    server.handler = slow(0.02)
    requests = [(f"query {i}", DOCUMENTS) for i in range(40)]

    async def all_of_them() -> list[Any]:
        async with make(server, provider) as reranker:
            return [results async for results in reranker.arank_many(requests, concurrency=8)]

    for i, results in enumerate(asyncio.run(all_of_them())):
        assert results.query == f"query {i}"
        assert {r.text: r.score for r in results} == {text: score(f"query {i}", text) for text in DOCUMENTS}
    assert 2 <= server.accepted <= 8


@both
def test_cancelling_closes_the_request(server: Loopback, provider: str) -> None:
    server.handler = lambda hit: Response({}, delay=30)

    async def cancelled() -> None:
        async with make(server, provider, deadline=60) as reranker:
            task = asyncio.ensure_future(reranker.arank("q", DOCUMENTS))
            await asyncio.sleep(0.2)
            assert server.open_connections == 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(until, lambda: server.open_connections == 0)
            server.handler = rerank
            assert len(await reranker.arank("q", DOCUMENTS)) == 10

    asyncio.run(cancelled())


def test_leaving_arank_many_early_cancels_the_rest(server: Loopback) -> None:
    def handler(hit: Hit) -> Response:
        return rerank(hit) if hit.body["query"] == "0" else Response({}, delay=30)

    server.handler = handler

    async def left() -> None:
        async with make(server, deadline=60) as reranker:
            many = reranker.arank_many([(str(i), DOCUMENTS) for i in range(5)], concurrency=5)
            async for _ in many:
                break
            await many.aclose()  # type: ignore[attr-defined]
            assert await asyncio.to_thread(until, lambda: server.open_connections <= 1)

    asyncio.run(left())


@both
@pytest.mark.parametrize("native", [False, True])
def test_close_leaves_no_connection(server: Loopback, provider: str, native: bool) -> None:
    server.handler = slow(0.02)
    descriptors = open_descriptors()
    threads = threading.active_count()
    requests = [(str(i), DOCUMENTS) for i in range(16)]

    async def used() -> None:
        async with make(server, provider) as reranker:
            async for _ in reranker.arank_many(requests, concurrency=8):
                pass
            assert server.open_connections > 1

    if native:
        asyncio.run(used())
    else:
        with make(server, provider) as reranker:
            assert len(list(reranker.rank_many(requests))) == 16
            assert server.open_connections > 1
    assert until(lambda: server.open_connections == 0)
    assert until(lambda: open_descriptors() <= descriptors)
    assert threading.active_count() <= threads


def open_descriptors() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def test_closing_while_asked_is_a_typed_error(server: Loopback) -> None:
    server.handler = lambda hit: Response({}, delay=30)
    reranker = make(server, deadline=60)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(reranker.rank, "q", DOCUMENTS)
        assert until(lambda: server.count == 1)
        reranker.close()
        with pytest.raises(ProviderError, match="was closed during"):
            future.result(5)

    async def asked() -> None:
        other = make(server, deadline=60)
        task = asyncio.ensure_future(other.arank("q", DOCUMENTS))
        await asyncio.sleep(0.2)
        await other.aclose()
        with pytest.raises(ProviderError, match="was closed during"):
            await task

    asyncio.run(asked())


def test_a_forgotten_reranker_closes_itself(server: Loopback) -> None:
    make(server).rank("q", DOCUMENTS)
    gc.collect()
    assert until(lambda: server.open_connections == 0)
    assert not any(thread.name == "rerank-http" for thread in threading.enumerate())


def test_an_unclosed_reranker_ends_with_its_process(server: Loopback) -> None:
    code = (
        "from rerank import Reranker\n"
        f"reranker = Reranker('jina', url={server.url!r})\n"
        "print(len(reranker.rank('q', ['a', 'b'])))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=False, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr, done.returncode) == ("2\n", "", 0)


def test_rank_many_is_concurrent_and_in_order(server: Loopback) -> None:
    server.handler = slow(0.1)
    with make(server) as reranker:
        many = list(reranker.rank_many((str(i), DOCUMENTS) for i in range(16)))
    assert server.busiest > 4
    assert [results.query for results in many] == [str(i) for i in range(16)]


def test_candidates_beyond_the_limit_are_split_and_merged(server: Loopback) -> None:
    documents = [f"document {i}" for i in range(2345)]
    with make(server, "voyage") as reranker:
        server.handler = lambda hit: Response(
            {**rerank(hit).body, "data": rerank(hit).body["results"], "usage": {"total_tokens": 10}}
        )
        results = reranker.rank("q", documents)
    assert [len(hit.body["documents"]) for hit in server.hits].count(1000) == 2
    assert [r.text for r in results] == sorted(documents, key=lambda text: -score("q", text))
    assert results.diagnostics == {
        "provider": "voyage",
        "requests": 3,
        "retries": 0,
        "usage": {"total_tokens": 30},
        "split": 3,
        "comparable": True,
    }


def test_the_first_k_of_a_split_are_exact(server: Loopback) -> None:
    with make(server) as reranker:
        whole = reranker.rank("q", DOCUMENTS)
        parts = reranker.rank("q", DOCUMENTS, top_k=4, batch_size=3)
    assert [(r.text, r.score) for r in parts] == [(r.text, r.score) for r in whole[:4]]
    assert [hit.body["top_n"] for hit in server.hits[1:]].count(3) == 3


def test_a_listwise_model_says_that_its_parts_cannot_be_compared(server: Loopback) -> None:
    with Reranker("jina-reranker-v3", api_provider="jina", url=server.url) as reranker:
        assert reranker.rank("q", DOCUMENTS, batch_size=4).diagnostics["comparable"] is False
        assert "comparable" not in reranker.rank("q", DOCUMENTS).diagnostics


def test_a_failing_part_fails_the_whole_and_cancels_the_rest(server: Loopback) -> None:
    def handler(hit: Hit) -> Response:
        return (
            Response({"message": "not this one"}, 400) if "document 0" in hit.body["documents"] else Response(delay=30)
        )

    server.handler = handler
    with make(server) as reranker:
        with pytest.raises(ProviderError, match="not this one"):
            reranker.rank("q", DOCUMENTS, batch_size=5)
        assert until(lambda: server.open_connections <= 1)


def test_teis_limit_is_read_once_from_info(server: Loopback) -> None:
    with Reranker("tei", url=server.url, api_key="secret-key") as reranker:
        for _ in range(2):
            assert [r.text for r in reranker.rank("q", DOCUMENTS)] == sorted(DOCUMENTS, key=lambda d: -score("q", d))
    assert [hit.path for hit in server.hits].count("/info") == 1
    assert [len(hit.body["texts"]) for hit in server.hits if hit.method == "POST"].count(4) == 4
    assert server.hits[0].headers["authorization"] == "Bearer secret-key"


@pytest.mark.parametrize("status", [404, 500])
def test_teis_limit_may_be_unreadable(server: Loopback, status: int) -> None:
    server.handler = lambda hit: Response({"error": "x"}, status) if hit.method == "GET" else rerank(hit)
    with Reranker("tei", url=server.url, max_retries=0) as reranker:
        assert len(reranker.rank("q", DOCUMENTS)) == 10
        server.handler = rerank
        before = len(server.hits)
        assert len(reranker.rank("q", DOCUMENTS)) == 10
        asked_again = [hit.method for hit in server.hits[before:]].count("GET")
        assert asked_again == (status >= 500)


@pytest.mark.parametrize(
    "info",
    [
        Response("<html><title>app</title></html>"),
        Response(""),
        Response("", 301, {"location": "/info/"}),
        Response("", 302, {"location": "http://[x"}),
        Response("", 302, {"location": "javascript:1"}),
        Response('{"error":' * 600 + "1" + "}" * 600, 500),
        Response(b"x", 200, {"content-encoding": "gzip"}),
        *(Response({"error": "x"}, status) for status in (400, 401, 403, 405, 406, 410, 422, 500, 501, 503)),
        Response(drop=True),
        Response({}, delay=30),
    ],
    ids=lambda response: f"{response.status}-{response.delay:g}-{response.drop}",
)
def test_an_info_that_fails_never_blocks_ranking(
    server: Loopback, info: Response, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rerank_api.limit._PATIENCE", 0.3)
    server.handler = lambda hit: info if hit.method == "GET" else rerank(hit)
    with Reranker("tei", url=server.url, max_retries=1, backoff=0.01) as reranker:
        assert len(reranker.rank("q", DOCUMENTS)) == 10


@pytest.mark.parametrize("deadline", [0.6, 2.0])
def test_an_info_that_hangs_takes_at_most_half_of_the_deadline_once(server: Loopback, deadline: float) -> None:
    server.handler = lambda hit: Response({}, delay=30) if hit.method == "GET" else rerank(hit)
    with Reranker("tei", url=server.url, max_retries=0, deadline=deadline) as reranker:
        started = time.monotonic()
        assert len(reranker.rank("q", DOCUMENTS)) == 10
        assert time.monotonic() - started < 0.75 * deadline
        started = time.monotonic()
        assert len(reranker.rank("q", DOCUMENTS)) == 10
        assert time.monotonic() - started < 0.25


def test_reading_the_limit_takes_no_turn(server: Loopback) -> None:
    with Reranker("tei", url=server.url, requests_per_minute=2, deadline=5) as reranker:
        assert len(reranker.rank("q", DOCUMENTS[:4])) == 4
    assert [hit.path for hit in server.hits] == ["/info", "/rerank"]


@pytest.mark.parametrize("path", ["/rerank", "/rerank/", "/models/bge/rerank/"])
def test_info_is_beside_the_route(server: Loopback, path: str) -> None:
    with Reranker("tei", url=server.url + path) as reranker:
        assert reranker.rank("q", DOCUMENTS).diagnostics["split"] == 3
    assert server.hits[0].path == path.rstrip("/").removesuffix("/rerank") + "/info"


def test_teis_limit_is_read_as_patiently_as_the_reranker_is(server: Loopback) -> None:
    asked = 0

    async def handler(hit: Hit) -> Response:
        nonlocal asked
        if hit.method == "POST":
            return rerank(hit)
        asked += 1
        await asyncio.sleep(0.2)
        return rerank(hit) if asked > 2 else Response({"error": "starting"}, 503)

    server.handler = handler

    async def both_calls() -> list[Any]:
        async with Reranker("tei", url=server.url, backoff=0.01) as reranker:
            hasty = asyncio.ensure_future(reranker.arank("q", DOCUMENTS, deadline=0.3, max_retries=0))
            return await asyncio.gather(hasty, reranker.arank("q", DOCUMENTS), return_exceptions=True)

    hasty, patient = asyncio.run(both_calls())
    assert len(hasty) == 10  # without waiting for it longer than half of its deadline
    assert len(patient) == 10


@pytest.mark.parametrize("reported", [True, "4", 0, None])
def test_a_limit_that_is_not_a_number_is_none(server: Loopback, reported: Any) -> None:
    server.handler = lambda hit: Response({"max_client_batch_size": reported}) if hit.method == "GET" else rerank(hit)
    with Reranker("tei", url=server.url) as reranker:
        assert "split" not in reranker.rank("q", DOCUMENTS).diagnostics


def test_concurrency_is_bounded(server: Loopback) -> None:
    server.handler = slow(0.02)

    async def many(reranker: Reranker) -> None:
        await asyncio.gather(*(reranker.arank(str(i), DOCUMENTS) for i in range(20)))

    with make(server, max_concurrency=3) as reranker:
        asyncio.run(many(reranker))
    assert server.busiest == 3


def test_requests_a_minute_are_spread(server: Loopback) -> None:
    with make(server, requests_per_minute=600) as reranker:
        started = time.monotonic()
        list(reranker.rank_many((str(i), DOCUMENTS) for i in range(6)))
        assert 0.45 < time.monotonic() - started < 1.5


def test_rank_many_sends_no_further_ahead_than_the_deadline_allows(server: Loopback) -> None:
    with make(server, requests_per_minute=300, deadline=1.0) as reranker:  # five a second: the last of ten after 1.8 s
        assert len(list(reranker.rank_many((str(i), DOCUMENTS) for i in range(10)))) == 10


@pytest.mark.parametrize("name", ["total_tokens", "input_tokens"])
def test_tokens_per_minute_are_spread_by_the_reported_usage(server: Loopback, name: str) -> None:
    server.handler = lambda hit: Response({**rerank(hit).body, "usage": {name: 100}})
    with make(server, tokens_per_minute=12_000) as reranker:  # 100 tokens per call by its usage: half a second
        started = time.monotonic()
        for i in range(3):
            reranker.rank(str(i), DOCUMENTS)
        assert 0.9 < time.monotonic() - started < 2


def test_nothing_is_asked_after_close(server: Loopback) -> None:
    reranker = make(server)
    reranker.close()
    with pytest.raises(RerankError, match="closed"):
        reranker.rank("q", DOCUMENTS)
    assert server.count == 0


def test_a_scorer_asked_after_close_starts_nothing(server: Loopback) -> None:
    reranker = make(server)
    scorer: Any = reranker.scorer
    request = Request(query="q", documents=[Document(text="x", doc_id=0)], options=reranker.options)
    reranker.close()
    with pytest.raises(RerankError, match="is closed: build another"):
        scorer.score(request)
    assert server.accepted == 0


def test_closing_amid_rank_many_is_a_typed_error(server: Loopback) -> None:
    reranker = make(server, max_concurrency=2)
    many = reranker.rank_many((str(i), DOCUMENTS) for i in range(9))
    next(many)
    reranker.close()
    with pytest.raises(RerankError, match="closed") as caught:
        list(many)
    assert caught.value.__cause__ is None
