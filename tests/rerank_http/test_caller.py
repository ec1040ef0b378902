"""One service, asked: attempts and their turns, the deadline over all of them, what they cost, and closing."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from chat import ChatService, chatting
from loopback import Hit, Loopback, Response

from rerank import AuthenticationError, InvalidOptionsError, ProviderError, ProviderTimeoutError, RateLimitError
from rerank_http import HttpOptions, Reply
from rerank_http.caller import Call
from rerank_http.retries import RetryBudget

GOOD = Response({"echo": {"text": "hello"}, "usage": {"total_tokens": 10}})


def slow(seconds: float) -> Any:
    async def handler(hit: Hit) -> Response:
        await asyncio.sleep(seconds)
        return Response({"echo": hit.body, "usage": {}})

    return handler


def test_a_body_goes_out_and_a_checked_reply_comes_back(server: Loopback) -> None:
    with chatting(server.url) as chat:
        answers, tally = chat.ask("hello", "wörld")
    assert answers == ["hello", "wörld"]
    assert (tally.requests, tally.retries, tally.usage, tally.last) == (2, 0, {"total_tokens": 20}, None)
    hit = server.hits[0]
    assert (hit.method, hit.path, hit.headers["content-type"]) == ("POST", "/", "application/json")
    assert hit.headers["authorization"] == "Bearer secret-key"


def test_ones_own_header_replaces_ours_whatever_its_case(server: Loopback) -> None:
    own = {"authorization": "Bearer other-key", "CONTENT-TYPE": "application/json; charset=utf-8"}
    with chatting(server.url, headers=own) as chat:
        chat.ask("hello")
    hit = server.hits[0]
    assert [hit.named.count(name) for name in ("authorization", "content-type")] == [1, 1]
    assert hit.headers["authorization"] == "Bearer other-key"


def test_another_way_to_send_is_retried_as_well(server: Loopback) -> None:
    server.script([Response({}, 503), GOOD])

    async def asked() -> Reply:
        service = ChatService(server.url, HttpOptions(backoff=0.01))

        async def send(body: Any) -> Reply:
            response = await service.caller.client.get(f"{server.url}/models")
            return Reply(status=response.status_code, headers=dict(response.headers), body=response.json())

        try:
            return await service.caller.ask({}, Call(service.options), send=send)
        finally:
            await service.aclose()

    assert asyncio.run(asked()).body == GOOD.body
    assert [(hit.method, hit.path) for hit in server.hits] == [("GET", "/models")] * 2


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
def test_transient_statuses_are_tried_again(server: Loopback, status: int) -> None:
    server.script([Response({"message": "busy"}, status), Response({"message": "busy"}, status), GOOD])
    with chatting(server.url) as chat:
        _, tally = chat.ask("hello")
    assert (tally.requests, tally.retries) == (3, 2)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 418, 422, 498, 501, 307])
def test_other_statuses_fail_at_once(server: Loopback, status: int) -> None:
    server.script([Response({"message": "no"}, status, {"location": "/elsewhere"}), GOOD])
    with chatting(server.url) as chat, pytest.raises(ProviderError, match="no") as caught:
        chat.ask("hello")
    assert server.count == 1
    assert (caught.value.provider, caught.value.status) == ("acme", status)
    assert isinstance(caught.value, AuthenticationError) == (status in (401, 403))


def test_dropped_and_stalled_connections_are_tried_again(server: Loopback) -> None:
    server.script([Response(drop=True), Response(GOOD.body, keep=20), Response(GOOD.body, delay=5), GOOD])
    with chatting(server.url, read_timeout=0.2) as chat:
        assert chat.ask("hello")[1].retries == 3


def test_the_last_failure_is_reported_with_the_attempts(server: Loopback) -> None:
    server.script([Response({"message": "all busy"}, 503, {"x-request-id": "r-9"})])
    reported = r"acme answered 503 \(all busy\) \(request r-9, 3 attempts\): try again"
    with chatting(server.url, max_retries=2) as chat, pytest.raises(ProviderError, match=reported) as caught:
        chat.ask("hello")
    assert server.count == 3
    assert caught.value.request_id == "r-9"


def test_nobody_there_is_reported(server: Loopback) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        reported = f"could not be reached.*{url}.*2 attempts"
        with (
            chatting(url + "?key=of-the-address", max_retries=1) as chat,
            pytest.raises(ProviderError, match=reported) as caught,
        ):
            chat.ask("hello")
    assert caught.value.status is None
    assert "of-the-address" not in str(caught.value)


def test_a_refused_key_names_how_to_set_it(server: Loopback) -> None:
    server.script([Response({}, 401)])
    with chatting(server.url) as chat, pytest.raises(AuthenticationError, match="set ACME_API_KEY or pass api_key="):
        chat.ask("hello")


def test_another_kind_of_server_is_named_by_what_belongs_there(server: Loopback) -> None:
    server.script([Response("<html><title>Welcome</title></html>")])
    with chatting(server.url) as chat, pytest.raises(ProviderError, match=r"Welcome.*that a chat endpoint answers"):
        chat.ask("hello")


def test_a_wrong_answer_is_reported_once_and_short(server: Loopback) -> None:
    server.script([Response({"error": {"message": "quota used up " * 1000}}, headers={"x-request-id": "r-1"})])
    reported = "answered 200, but its answer has no 'echo'; it says: quota used up"
    with chatting(server.url) as chat, pytest.raises(ProviderError, match=reported) as caught:
        chat.ask("hello")
    assert server.count == 1
    assert (caught.value.status, caught.value.request_id) == (200, "r-1")
    assert len(str(caught.value)) < 1000


# the deadline


def test_the_deadline_covers_everything(server: Loopback) -> None:
    server.script([Response({}, 503), Response({}, delay=30)])
    with chatting(server.url, deadline=0.5) as chat:
        started = time.monotonic()
        reported = r"deadline of 0.5 s \(2 requests sent; the last one answered 503"
        with pytest.raises(ProviderTimeoutError, match=reported) as caught:
            chat.ask("hello")
        assert 0.4 < time.monotonic() - started < 1.5
    assert caught.value.status == 503


def test_the_deadline_of_a_call_may_be_its_own(server: Loopback) -> None:
    server.script([Response({}, delay=30)])
    with chatting(server.url, deadline=60) as chat, pytest.raises(ProviderTimeoutError, match=r"deadline of 0.2 s"):
        chat.ask("hello", deadline=0.2)


def test_a_wait_beyond_the_deadline_is_not_waited_for(server: Loopback) -> None:
    server.script([Response({"message": "slow down"}, 429, {"retry-after": "3600"})])
    with chatting(server.url) as chat:
        started = time.monotonic()
        with pytest.raises(RateLimitError, match="slow down") as caught:
            chat.ask("hello")
        assert time.monotonic() - started < 1
    assert caught.value.retry_after == 3600


def test_the_reset_of_a_rate_limit_is_waited_for(server: Loopback) -> None:
    server.script([Response({}, 429, {"x-ratelimit-reset": "1", "x-ratelimit-remaining": "0"}), GOOD])
    with chatting(server.url) as chat:
        started = time.monotonic()
        chat.ask("hello")
        assert 0.9 < time.monotonic() - started < 3


# retries and limits


def test_an_outage_is_not_amplified(server: Loopback) -> None:
    server.script([Response({}, 503)])
    with chatting(server.url, max_retries=5, backoff=0.001, retry_budget=0.1) as chat:
        for _ in range(60):
            with pytest.raises(ProviderError):
                chat.ask("hello")
    assert 80 <= server.count <= 60 + 20 + 6


def test_a_budget_is_earned_by_requests() -> None:
    budget = RetryBudget(0.5)
    state: Any = None
    assert [budget(state) for _ in range(21)] == [False] * 20 + [True]
    budget.earn()
    assert budget(state)
    budget.earn()
    assert not budget(state)


def test_concurrency_is_bounded(server: Loopback) -> None:
    server.handler = slow(0.02)
    with chatting(server.url, max_concurrency=3) as chat:
        assert chat.ask(*map(str, range(20)))[0] == [str(i) for i in range(20)]
    assert server.busiest == 3
    assert server.accepted <= 3


def test_requests_per_minute_are_spread(server: Loopback) -> None:
    with chatting(server.url, requests_per_minute=600) as chat:
        started = time.monotonic()
        chat.ask(*map(str, range(6)))
        assert 0.45 < time.monotonic() - started < 1.5


def test_retries_wait_for_their_turn_too(server: Loopback) -> None:
    server.script([Response({}, 503), Response({}, 503), GOOD])
    with chatting(server.url, requests_per_minute=300) as chat:
        started = time.monotonic()
        chat.ask("hello")
        assert time.monotonic() - started > 0.35


@pytest.mark.parametrize("name", ["total_tokens", "input_tokens"])
def test_tokens_per_minute_are_spread_by_the_usage_reported(server: Loopback, name: str) -> None:
    server.handler = lambda hit: Response({"echo": hit.body, "usage": {name: 100}})
    with chatting(server.url, tokens_per_minute=12_000) as chat:  # 100 tokens per call by its usage: half a second
        started = time.monotonic()
        for i in range(3):
            chat.ask(str(i))
        assert 0.9 < time.monotonic() - started < 2


def test_a_turn_beyond_the_deadline_is_reported_at_once(server: Loopback) -> None:
    with chatting(server.url, requests_per_minute=1, deadline=5) as chat:
        chat.ask("hello")
        started = time.monotonic()
        with pytest.raises(ProviderTimeoutError, match="its turn comes in"):
            chat.ask("hello")
        assert time.monotonic() - started < 1


# closing


def test_closing_while_asked_is_a_typed_error(server: Loopback, tmp_path: Path) -> None:
    server.script([Response({}, delay=30)])

    async def asked() -> None:
        service = ChatService(server.url, HttpOptions(deadline=60, cache=tmp_path / "answers"))
        task = asyncio.ensure_future(service.ask("hello", "world"))
        while server.count < 2:
            await asyncio.sleep(0.01)
        await service.aclose()
        with pytest.raises(ProviderError, match="was closed during a request to acme"):
            await task
        with pytest.raises(ProviderError, match="was closed"):
            await service.ask("hello")
        while server.open_connections:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(asked(), 10))
    assert server.count == 2


def test_what_is_started_beside_the_calls_is_cancelled(server: Loopback) -> None:
    async def started() -> None:
        service = ChatService(server.url, HttpOptions())
        task = service.caller.start(asyncio.sleep(30))
        await service.aclose()
        assert task.cancelled()

    asyncio.run(asyncio.wait_for(started(), 10))


@pytest.mark.parametrize("options", [{"ca_file": "/no/such.pem"}, {"cache": "/dev/null/answers"}])
def test_a_file_that_cannot_be_used_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOptionsError, match=r"/no/such\.pem|/dev/null/answers"):
        ChatService("http://h", HttpOptions(**options))
