"""A server that fails 30 % of its responses, and the outcome of every call to it."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from api_ranking import rerank, score
from loopback import Hit, Loopback, Response

from rerank import ProviderError, ProviderTimeoutError, RateLimitError, Reranker

SHARE = 0.3
KINDS = (
    "429 with Retry-After",
    "429",
    "500",
    "502",
    "503",
    "dropped connection",
    "stall",
    "truncated JSON",
    "wrong indices",
)
DEADLINE = 15.0
GRACE = 2.0
"""Seconds past the deadline that two busy cores may take to hand an error over."""


class FaultyServer:
    """Answers rightly, or with one of `KINDS`; a seed makes the draws repeatable in their order of arrival."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.injected: Counter[str] = Counter()
        self.loopback = Loopback(self._answer, keep_hits=False)

    def _answer(self, hit: Hit) -> Response:
        good = rerank(hit)
        if self._random.random() >= SHARE:
            return good
        kind = self._random.choice(KINDS)
        self.injected[kind] += 1
        if kind == "429 with Retry-After":
            return Response({"message": "slow down"}, 429, {"retry-after": "0.05"})
        if kind.isdigit():
            return Response({"message": "out of order"}, int(kind))
        if kind == "dropped connection":
            return Response(drop=True)
        if kind == "stall":
            return Response(good.body, delay=30)
        if kind == "truncated JSON":
            return Response('{"id": "x", "results": [{"index": 0, "relevance_sc')
        results = good.body["results"]
        return Response({**good.body, "results": [{**results[0], "index": len(results) + 3}, *results[1:]]})


def documents_of(call: int) -> list[str]:
    """The documents of a call: no two calls share one, so that a foreign answer shows."""
    return [f"document {i} of call {call}" for i in range(2 + call % 7)]


async def one_call(reranker: Reranker, call: int, outcomes: Counter[str], retried: Counter[str]) -> None:
    """Make a call and say what it came to: right, typed, wrong, late or untyped."""
    query, documents = f"query {call}", documents_of(call)
    started = time.monotonic()
    try:
        results = await reranker.arank(query, documents)
    except (RateLimitError, ProviderTimeoutError, ProviderError) as error:
        outcome = "typed failures"
        retried[type(error).__name__] += 1
    except Exception as error:
        outcome = f"untyped: {type(error).__name__}"
    else:
        expected = {text: score(query, text) for text in documents}
        right = {r.text: r.score for r in results} == expected and results.query == query
        outcome = "succeeded" if right else "wrong"
        retried["retried"] += results.diagnostics["retries"]
    outcomes[outcome] += 1
    if time.monotonic() - started > DEADLINE + GRACE:
        outcomes["late"] += 1


async def run_calls(
    reranker: Reranker, calls: int, concurrency: int, after: Callable[[int], None] = lambda done: None
) -> tuple[Counter[str], Counter[str]]:
    """Make ``calls`` calls, ``concurrency`` at a time; ``after`` hears how many are done."""
    outcomes: Counter[str] = Counter()
    more: Counter[str] = Counter()
    waiting = iter(range(calls))

    async def worker() -> None:
        for call in waiting:
            await one_call(reranker, call, outcomes, more)
            done = sum(count for outcome, count in outcomes.items() if outcome != "late")
            after(done)

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return outcomes, more


def faulty_reranker(provider: str, server: FaultyServer, **options: Any) -> Reranker:
    """A reranker whose patience suits a test."""
    patience = {"deadline": DEADLINE, "read_timeout": 1.5, "backoff": 0.05, "max_backoff": 0.5}
    return Reranker(provider, url=server.loopback.url, api_key="key-1234", **{**patience, **options})
