"""The asynchronous facade gives the same results, bounded and in order, and cancels cleanly."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from rerank import (
    InvalidInputError,
    InvalidOptionsError,
    RankedResults,
    Request,
    Reranker,
    RerankError,
    Scores,
    ScoringError,
)
from rerank.testing.fake import FakeScorer, fake_backend, fake_registry

DOCS = ["a cat sat", "a dog ran", "a cat and a dog"]


class Native(FakeScorer):
    """Scores on the event loop, keeping count of what is under way."""

    def __init__(self, delay: Callable[[str], float] = lambda query: 0.0) -> None:
        super().__init__()
        self.delay = delay
        self.running = 0
        self.most = 0
        self.finished: list[str] = []
        self.cancelled: list[str] = []

    async def ascore(self, request: Request) -> Scores:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self.delay(request.query))
            self.finished.append(request.query)
            return self.score(request)
        except asyncio.CancelledError:
            self.cancelled.append(request.query)
            raise
        finally:
            self.running -= 1


def build(scorer: Any, **options: Any) -> Reranker:
    return Reranker("fake", registry=fake_registry(fake_backend(load=lambda model, options: scorer)), **options)


async def collect(results: AsyncIterator[RankedResults], into: list[str]) -> None:
    """Keep the queries of what comes, as far as it comes."""
    async for ranked in results:
        into.append(ranked.query)  # noqa: PERF401 (what came before an error counts)


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(main)


@pytest.mark.parametrize("scorer", [FakeScorer, Native])
def test_results_equal_the_synchronous_ones(scorer: Any) -> None:
    async def main() -> None:
        async with build(scorer()) as reranker:
            assert await reranker.arank("cat", DOCS, top_k=2) == reranker.rank("cat", DOCS, top_k=2)
            assert await reranker.arank("cat", DOCS, doc_ids=["x", "y", "z"], weight=2.0) == reranker.rank(
                "cat", DOCS, doc_ids=["x", "y", "z"], weight=2.0
            )
            assert await reranker.ascore("cat dog", DOCS[0]) == reranker.score("cat dog", DOCS[0])
            assert len(await reranker.arank("cat", [])) == 0

    run(main())


@pytest.mark.parametrize("scorer", [FakeScorer, Native])
def test_no_documents_reach_no_scorer(scorer: Any) -> None:
    made = scorer()

    async def main() -> list[int]:
        reranker = build(made)
        return [len(ranked) async for ranked in reranker.arank_many([("a", []), ("b", [])])]

    assert run(main()) == [0, 0]
    assert made.requests == []


def test_a_scorer_without_async_runs_beside_the_event_loop() -> None:
    class Blocking(FakeScorer):
        def score(self, request: Request) -> Scores:
            self.thread = threading.get_ident()
            time.sleep(0.15)
            return super().score(request)

    scorer = Blocking()

    async def main() -> int:
        ticks = 0
        task = asyncio.ensure_future(build(scorer).arank("q", DOCS))
        while not task.done():
            await asyncio.sleep(0.01)
            ticks += 1
        return ticks

    assert run(main()) > 3
    assert scorer.thread != threading.get_ident()


def test_loading_again_does_not_block_the_event_loop() -> None:
    def load(model: object, options: object) -> FakeScorer:
        time.sleep(0.15)
        return FakeScorer()

    async def main() -> int:
        reranker = Reranker("fake", registry=fake_registry(fake_backend(load=load)))
        reranker._session._scorer = None  # as after unpickling
        ticks = 0
        task = asyncio.ensure_future(reranker.arank("q", DOCS))
        while not task.done():
            await asyncio.sleep(0.01)
            ticks += 1
        return ticks

    assert run(main()) > 3


@pytest.mark.parametrize("concurrency", [1, 3, 8, 100])
def test_many_come_in_order_and_within_the_bound(concurrency: int) -> None:
    scorer = Native(delay=lambda query: 0.02 if query == "q0" else 0.002 * (int(query[1:]) % 3))

    async def main() -> list[str]:
        requests = ((f"q{i}", DOCS if i % 4 else []) for i in range(12))
        reranker = build(scorer)
        return [ranked.query async for ranked in reranker.arank_many(requests, concurrency=concurrency)]

    assert run(main()) == [f"q{i}" for i in range(12)]
    assert scorer.most <= concurrency
    assert scorer.most == min(concurrency, scorer.most)
    if concurrency == 3:
        assert scorer.most > 1


def test_requests_are_taken_only_as_needed() -> None:
    taken: list[int] = []

    def endless() -> Any:
        while True:
            taken.append(1)
            yield "q", DOCS

    async def main() -> None:
        results = build(Native()).arank_many(endless(), concurrency=4)
        assert taken == []
        async for _ in results:
            break
        await results.aclose()  # type: ignore[attr-defined]

    run(main())
    assert len(taken) == 4


def test_leaving_early_cancels_what_is_under_way() -> None:
    scorer = Native(delay=lambda query: 0.0 if query == "q0" else 60.0)

    async def main() -> None:
        results = build(scorer).arank_many([(f"q{i}", DOCS) for i in range(9)], concurrency=4)
        async for ranked in results:
            assert ranked.query == "q0"
            break
        await results.aclose()  # type: ignore[attr-defined]
        assert scorer.running == 0

    run(main())
    assert scorer.finished == ["q0"]


def test_cancelling_the_caller_cancels_what_is_under_way() -> None:
    scorer = Native(delay=lambda query: 60.0)

    async def consume() -> None:
        async for _ in build(scorer).arank_many([(f"q{i}", DOCS) for i in range(3)]):
            pass

    async def main() -> None:
        task = asyncio.ensure_future(consume())
        while scorer.running < 3:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert scorer.running == 0

    run(main())
    assert sorted(scorer.cancelled) == ["q0", "q1", "q2"]


def test_cancelling_one_ranking() -> None:
    scorer = Native(delay=lambda query: 60.0)

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(build(scorer).arank("q", DOCS), 0.02)

    run(main())
    assert scorer.cancelled == ["q"]


def test_a_failure_comes_in_its_place_and_ends_the_rest() -> None:
    class Failing(Native):
        async def ascore(self, request: Request) -> Scores:
            if request.query == "q2":
                raise ValueError("boom")
            return await super().ascore(request)

    scorer = Failing(delay=lambda query: 0.0 if query in ("q0", "q1") else 60.0)

    async def main() -> list[str]:
        seen: list[str] = []
        with pytest.raises(ScoringError, match="could not score fake: ValueError: boom"):
            await collect(build(scorer).arank_many([(f"q{i}", DOCS) for i in range(9)], concurrency=5), seen)
        assert scorer.running == 0
        return seen

    assert run(main()) == ["q0", "q1"]


@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_bad_request_comes_in_its_place(concurrency: int) -> None:
    async def main() -> list[str]:
        seen: list[str] = []
        requests: list[Any] = [("q0", DOCS), ("q1", DOCS), ("", DOCS), ("q3", DOCS)]
        with pytest.raises(InvalidInputError, match="query is empty"):
            await collect(build(Native()).arank_many(requests, concurrency=concurrency), seen)
        return seen

    assert run(main()) == ["q0", "q1"]


@pytest.mark.parametrize("scorer", [FakeScorer, Native])
def test_bad_input_is_told_as_by_rank(scorer: Any) -> None:
    async def main() -> None:
        reranker = build(scorer())
        with pytest.raises(InvalidInputError, match="document 1"):
            await reranker.arank("q", ["a", None])  # type: ignore[list-item]
        with pytest.raises(InvalidOptionsError, match="weight"):
            await reranker.arank("q", DOCS, weigth=1)
        with pytest.raises(InvalidOptionsError, match="concurrency must be a whole number of at least 1"):
            await collect(reranker.arank_many([], concurrency=0), [])
        with pytest.raises(InvalidInputError, match="top_k"):
            await collect(reranker.arank_many([], top_k=0), [])

    run(main())


def test_a_model_that_only_orders_has_no_score() -> None:
    with pytest.raises(ScoringError, match="gives them no scores"):
        run(build(Native(), scale="ordinal").ascore("q", "a"))


def test_an_answer_that_is_none() -> None:
    class Silent(FakeScorer):
        async def ascore(self, request: Request) -> Any:
            return None

    with pytest.raises(ScoringError, match="backend 'fake'"):
        run(build(Silent()).arank("q", DOCS))


class Closing(FakeScorer):
    closed = 0

    def close(self) -> None:
        self.closed += 1


class ClosingAsync(Closing):
    awaited = 0

    async def aclose(self) -> None:
        self.awaited += 1


def test_closing_from_the_event_loop() -> None:
    async def main(scorer: Any) -> None:
        reranker = build(scorer)
        await reranker.aclose()
        await reranker.aclose()
        reranker.close()
        with pytest.raises(RerankError, match="closed"):
            await reranker.arank("q", DOCS)

    plain, native, nothing = Closing(), ClosingAsync(), FakeScorer()
    for scorer in (plain, native, nothing):
        run(main(scorer))
    assert plain.closed == 1
    assert (native.closed, native.awaited) == (0, 1)


def test_the_context_manager_closes() -> None:
    scorer = ClosingAsync()

    async def main() -> None:
        async with build(scorer) as reranker:
            await reranker.arank("q", DOCS)

    run(main())
    assert scorer.awaited == 1
