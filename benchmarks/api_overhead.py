"""The cost of a call compared with a bare httpx post, and the throughput of concurrent calls.

    python benchmarks/api_overhead.py

The server runs in a process of its own. Writes ``benchmarks/results/api_overhead.md``.
"""

from __future__ import annotations

import asyncio
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
from cohere import AsyncClientV2

from rerank import Request, Reranker
from rerank.documents import as_documents

SERVER = """
import asyncio, sys
sys.path.extend({folders!r})
from api_ranking import rerank
from loopback import Loopback

async def answer(hit):
    await asyncio.sleep({delay})
    return rerank(hit)

server = Loopback(answer if {delay} else rerank, keep_hits=False)
print(server.url, flush=True)
sys.stdin.read()
"""
QUERY = "which of these documents answers the question?"
DOCUMENTS = [
    f"Document number {i}: " + "some words that a passage of usual length would have. " * 8 for i in range(100)
]
ROUNDS = 300
CALLS = {1: 40, 8: 320, 64: 1280}
RESULTS = Path(__file__).parent / "results" / "api_overhead.md"


class Server:
    """The loopback server in a process of its own."""

    def __init__(self, delay: float) -> None:
        tests = Path(__file__).parents[1] / "tests"
        code = SERVER.format(folders=[str(tests / "rerank_api"), str(tests / "rerank_http")], delay=delay)
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def close(self) -> None:
        self._process.communicate("", timeout=10)


def milliseconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - started)


async def amilliseconds(call: Callable[[], Awaitable[object]]) -> float:
    started = time.perf_counter()
    await call()
    return 1000 * (time.perf_counter() - started)


def overhead(url: str) -> list[tuple[str, float]]:
    """Median milliseconds a call, every kind in turn within each round."""
    body = {"model": "m", "query": QUERY, "documents": DOCUMENTS}
    bare = httpx.Client()
    jina = Reranker("m", api_provider="jina", url=url, api_key="key-1234")
    cohere = Reranker("m", api_provider="cohere", url=url, api_key="key-1234")
    sdk = AsyncClientV2(api_key="key-1234", base_url=url)
    request = Request(query=QUERY, documents=as_documents(DOCUMENTS), options=jina.options)
    scorer = jina.scorer
    taken: dict[str, list[float]] = {}

    async def rounds() -> None:
        async with httpx.AsyncClient() as abare:
            for _ in range(ROUNDS + 20):
                for name, call in {
                    "bare `httpx.Client.post(…).json()`": lambda: bare.post(f"{url}/v1/rerank", json=body).json(),
                    "the scorer alone, through httpx (jina)": lambda: scorer.score(request),
                    "`rank` through httpx (jina)": lambda: jina.rank(QUERY, DOCUMENTS),
                    "`rank` through the cohere SDK": lambda: cohere.rank(QUERY, DOCUMENTS),
                }.items():
                    taken.setdefault(name, []).append(milliseconds(call))
                for name, acall in {
                    "bare `httpx.AsyncClient.post(…).json()`": lambda: abare.post(f"{url}/v1/rerank", json=body),
                    "`arank` through httpx (jina)": lambda: jina.arank(QUERY, DOCUMENTS),
                    "bare `cohere.AsyncClientV2.rerank(…)`": lambda: sdk.rerank(
                        model="m", query=QUERY, documents=DOCUMENTS
                    ),
                    "`arank` through the cohere SDK": lambda: cohere.arank(QUERY, DOCUMENTS),
                }.items():
                    taken.setdefault(name, []).append(await amilliseconds(acall))

    asyncio.run(rounds())
    for closing in (bare, jina, cohere):
        closing.close()
    return [(name, statistics.median(times[20:])) for name, times in taken.items()]


def throughput(url: str) -> list[tuple[int, int, float]]:
    """Calls a second of ``arank_many`` by its concurrency."""

    async def one(concurrency: int, calls: int) -> float:
        async with Reranker("m", api_provider="jina", url=url, api_key="key-1234", max_concurrency=64) as reranker:
            requests = [(f"{QUERY} {i}", DOCUMENTS[:10]) for i in range(calls)]
            async for _ in reranker.arank_many(requests[:concurrency], concurrency=concurrency):
                pass  # connections are open
            started = time.perf_counter()
            count = 0
            async for results in reranker.arank_many(requests, concurrency=concurrency):
                assert len(results) == 10
                count += 1
            assert count == calls
            return calls / (time.perf_counter() - started)

    return [(concurrency, calls, asyncio.run(one(concurrency, calls))) for concurrency, calls in CALLS.items()]


def table(times: list[tuple[str, float]], rates: list[tuple[int, int, float]], load: float) -> str:
    bare = {False: times[0][1], True: times[4][1]}
    lines = [
        "# What a call through a service costs",
        "",
        (
            f"`python benchmarks/api_overhead.py`, Python {platform.python_version()}, {os.cpu_count()} cores shared with "
            f"others (load {load:.1f} before the start), a server on loopback in a process of its own."
        ),
        "",
        (
            f"Median of {ROUNDS} calls with {len(DOCUMENTS)} documents ({sum(map(len, DOCUMENTS)) // 1000} kB), the kinds in "
            "turn. Beside the post, the scorer goes to the event loop thread and back and checks every index and score; `rank` "
            "also validates the documents and builds ranked results."
        ),
        "",
        "| call | median | more than bare |",
        "|---|---:|---:|",
    ]
    for place, (name, time_taken) in enumerate(times):
        more = time_taken - bare[place >= 4]
        lines.append(f"| {name} | {time_taken:.2f} ms | {'' if place in (0, 4) else f'{more:+.2f} ms'} |")
    lines += [
        "",
        "`arank_many` against a server that takes 50 ms, 10 documents per call:",
        "",
        "| concurrency | calls | calls per second | of the most possible (concurrency / 50 ms) |",
        "|---:|---:|---:|---:|",
    ]
    lines += [f"| {c} | {n} | {rate:.1f} | {rate * 0.05 / c:.0%} |" for c, n, rate in rates]
    return "\n".join(lines) + "\n"


def main() -> None:
    load = os.getloadavg()[0]
    quick, slow = Server(0), Server(0.05)
    try:
        text = table(overhead(quick.url), throughput(slow.url), load)
    finally:
        quick.close()
        slow.close()
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
