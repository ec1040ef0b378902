"""What a service answers costs little, whatever it is: its size, its depth, its pages and its words are bounded."""

from __future__ import annotations

import gzip
import importlib
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from loopback import Hit, Loopback, Response

from rerank import ProviderError, Reranker

pytest.importorskip("rerank_api")

KEY = "sk-3141592653589793"
SCORED = '"results": [{"index": 0, "relevance_score": 0.5}]'


@pytest.fixture
def server(no_keys: None) -> Iterator[Loopback]:
    loopback = Loopback(lambda hit: Response({}))
    yield loopback
    loopback.close()


def ask(server: Loopback, **options: Any) -> Any:
    with Reranker("jina", url=server.url, api_key=KEY, max_retries=0, deadline=5, **options) as reranker:
        return reranker.rank("q", ["x"])


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


@pytest.mark.parametrize("status", [200, 400, 500])
def test_a_bomb_is_broken_off(server: Loopback, status: int) -> None:
    server.script([Response(gzip.compress(b" " * 200_000_000), status, {"content-encoding": "gzip"})])
    started = time.monotonic()
    with pytest.raises(ProviderError, match="max_answer_bytes" if status == 200 else str(status)):
        ask(server)
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("levels", [101, 900, 100_000])
@pytest.mark.parametrize("body", ['{{{scored}, "x": {deep}}}', "{deep}", '{{"usage": {{"a": {deep}}}, {scored}}}'])
def test_a_deep_answer_is_refused(server: Loopback, levels: int, body: str) -> None:
    server.script([Response(body.format(scored=SCORED, deep=nested(levels)))])
    with pytest.raises(ProviderError, match="nested more than 100 levels deep: raise max_answer_depth="):
        ask(server)


def test_the_limit_of_depth_can_be_raised(server: Loopback) -> None:
    server.script([Response(f'{{{SCORED}, "x": {nested(300)}}}')])
    assert len(ask(server, max_answer_depth=301)) == 1
    with pytest.raises(ProviderError, match="max_answer_depth"):
        ask(server, max_answer_depth=300)


@pytest.mark.parametrize("levels", [101, 900, 100_000])
@pytest.mark.parametrize("field", ["message", "other"])
def test_a_deep_error_is_its_status(server: Loopback, levels: int, field: str) -> None:
    server.script([Response(f'{{"{field}":' * levels + "1" + "}" * levels, 400)])
    with pytest.raises(ProviderError, match="answered 400") as caught:
        ask(server)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "body",
    [
        {"code": "text " * 150_000},
        {"message": "text " * 150_000},
        {"message": "x", "code": "too many " * 20_000 + "exceeded your current " * 20_000},
        {"errors": [{"type": "documents " * 90_000}] * 3},
        "<title" * 150_000,
    ],
)
def test_words_are_not_searched_without_end(server: Loopback, body: Any) -> None:
    server.script([Response(body, 400)])
    started = time.monotonic()
    with pytest.raises(ProviderError, match="400"):
        ask(server)
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("number", ["1" + "0" * 400, "-1000000", "1e400", "NaN", "true"])
def test_usage_that_is_no_number_of_tokens_counts_nothing(server: Loopback, number: str) -> None:
    server.script([Response(f'{{"usage": {{"total_tokens": {number}}}, {SCORED}}}')])
    assert ask(server, tokens_per_minute=1e6).diagnostics["usage"] == {}


@pytest.mark.parametrize("number", ["1" + "0" * 4000, "1" + "0" * 1_000_000, "1e400", "NaN"])
@pytest.mark.parametrize("field", ["index", "relevance_score"])
def test_numbers_beyond_reason_are_errors(server: Loopback, number: str, field: str) -> None:
    result = {"index": "0", "relevance_score": "1", field: number}
    server.script(
        [Response(f'{{"results": [{{"index": {result["index"]}, "relevance_score": {result["relevance_score"]}}}]}}')]
    )
    with pytest.raises(ProviderError):
        ask(server)


# pages


@pytest.fixture
def paged(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> Loopback:
    """A service that answers in pages as Bedrock does, without the signature of its requests."""
    providers = importlib.import_module("rerank_api.providers")
    rest = importlib.import_module("rerank_api.providers.bedrock").BEDROCK.rest
    monkeypatch.setitem(providers.known(), "jina", replace(providers.find("jina"), rest=rest))
    return server


def page(*positions: int, more: bool = True) -> Response:
    results = [{"index": position, "relevance_score": 0.5} for position in positions]
    return Response({"results": results, **({"nextToken": "more"} if more else {})})


def ask_pages(server: Loopback, documents: int, **options: Any) -> Any:
    given = {"url": server.url, "api_key": KEY, "max_retries": 0, "deadline": 5, **options}
    with Reranker("jina", **given) as reranker:
        return reranker.rank("q", ["x"] * documents)


def test_pages_are_read_while_they_bring_results(paged: Loopback) -> None:
    paged.script([page(0), page(1), page(2, more=False)])
    assert ask_pages(paged, 3).diagnostics["requests"] == 3
    assert [json.loads(hit.content).get("nextToken") for hit in paged.hits] == [None, "more", "more"]


@pytest.mark.parametrize("positions", [(), (0,), (0, 1, 2)])
def test_pages_without_end_are_not_read(paged: Loopback, positions: tuple[int, ...]) -> None:
    paged.script([page(*positions)])
    with suppress(ProviderError):
        ask_pages(paged, 3)
    assert paged.count <= 3


def test_pages_keep_the_limit_per_minute(paged: Loopback) -> None:
    paged.script([page(place) for place in range(9)])
    started = time.monotonic()
    ask_pages(paged, 5, requests_per_minute=600)
    assert paged.count == 5
    assert time.monotonic() - started >= 0.4


# the deadline


@pytest.mark.parametrize("pages", [True, False])
def test_slow_answers_end_with_the_deadline(paged: Loopback, pages: bool) -> None:
    place = iter(range(10_000))

    def slow(hit: Hit) -> Response:
        return Response(page(next(place)).body, delay=0.2 if pages else 30)

    paged.handler = slow
    started = time.monotonic()
    with pytest.raises(ProviderError, match="deadline"):
        ask_pages(paged, 100, deadline=1)
    assert time.monotonic() - started < 3


def test_a_chat_models_huge_usage_is_nothing(server: Loopback) -> None:
    chat = pytest.importorskip("rerank_listwise.generators.chat")
    assert chat._whole(10**400) == 0
    assert importlib.import_module("rerank_api.answers")._usage({"usage": {"a": 10**400, "b": 7}}, ("usage",)) == {
        "b": 7
    }
