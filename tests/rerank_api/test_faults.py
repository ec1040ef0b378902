"""Every call to a faulty server ends in a correct result or a typed error, within its deadline."""

from __future__ import annotations

import asyncio

import pytest
from api_faults import FaultyServer, faulty_reranker, run_calls


@pytest.mark.parametrize("provider", ["cohere", "jina"])
def test_every_call_ends_well_or_typed(provider: str) -> None:
    server = FaultyServer(seed=8)

    async def calls() -> None:
        async with faulty_reranker(provider, server) as reranker:
            outcomes, _ = await run_calls(reranker, calls=200, concurrency=32)
        assert set(outcomes) <= {"succeeded", "typed failures"}, outcomes
        assert sum(outcomes.values()) == 200
        assert outcomes["succeeded"] > 100, outcomes

    try:
        asyncio.run(calls())
    finally:
        server.loopback.close()
    share = sum(server.injected.values()) / server.loopback.count
    assert 0.22 < share < 0.38
