"""What a failed attempt becomes: its message, the next step, the class of the error, and how long to wait."""

from __future__ import annotations

import pickle
import time
from datetime import datetime, timezone
from typing import Any

import httpx
import pytest

from rerank import AuthenticationError, ProviderError, ProviderTimeoutError, RateLimitError
from rerank_http import Reply, Secrets
from rerank_http.failures import TRANSIENT, Failure, message_of, of_answer, of_exception, of_reply, wait_of


def failure_of(status: int, body: Any = None, **reply: Any) -> Failure:
    failure = of_reply(
        Reply(status=status, headers={}, body=body, **reply),
        Secrets(),
        expected="a chat endpoint",
        key_hint="set ACME_API_KEY",
    )
    assert failure is not None
    return failure


def test_a_reply_with_json_is_no_failure() -> None:
    reply = Reply(status=201, headers={}, body={"error": "an answer may say so, and is read by whoever asked"})
    assert of_reply(reply, Secrets(), expected="a chat endpoint", key_hint="") is None


@pytest.mark.parametrize(
    ("status", "kind", "step"),
    [
        (401, AuthenticationError, "set ACME_API_KEY, and check the key's permissions"),
        (403, AuthenticationError, "set ACME_API_KEY, and check the key's permissions"),
        (429, RateLimitError, "requests_per_minute"),
        (408, ProviderTimeoutError, "try again later"),
        (504, ProviderTimeoutError, "try again later"),
        (500, ProviderError, "status page"),
        (307, ProviderError, "redirects are not followed"),
        (402, ProviderError, "credit"),
        (404, ProviderError, "check the model's name and url="),
        (413, ProviderError, "batch_size="),
        (422, ProviderError, "check the model, the documents and the options"),
    ],
)
def test_every_status_has_its_error_and_next_step(status: int, kind: type[ProviderError], step: str) -> None:
    failure = failure_of(status, {"message": "no"})
    error = failure.error("acme", attempts=1)
    assert type(error) is kind
    assert str(error).startswith(f"acme answered {status} (no): ")
    assert step in str(error)
    assert failure.transient == (status in TRANSIENT)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("<html><head><title>Welcome to nginx</title></head></html>", "HTML instead of JSON ('Welcome to nginx')"),
        ('{"results": [{"index": 0, "rel', "incomplete JSON instead of JSON"),
        ("", "nothing instead of JSON"),
        ("OK", "text instead of JSON ('OK')"),
    ],
)
def test_what_is_not_json_is_named(text: str, what: str) -> None:
    failure = failure_of(200, text=text)
    assert what in failure.what
    assert failure.step == "check url= and that a chat endpoint answers there"
    assert not failure.transient


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"message": "that was wrong"}, "that was wrong"),
        ({"error": "Model is not available"}, "Model is not available"),
        ({"error": {"code": 404, "message": "unknown model", "status": "NOT_FOUND"}}, "unknown model"),
        ({"detail": [{"loc": ["body"], "msg": "Field required"}, {"msg": "Too long"}]}, "Field required; Too long"),
        ("plain text", "plain text"),
        ({"code": 7}, ""),
        (None, ""),
    ],
)
def test_the_services_own_message_is_found(body: Any, message: str) -> None:
    assert message_of(Reply(status=400, headers={}, body=body), Secrets()) == message


def test_messages_are_bounded_in_one_line_and_without_secrets() -> None:
    secrets = Secrets()
    secrets.add("sk-314159")
    reply = Reply(status=400, headers={"x-request-id": "sk-314159"}, body={"message": "sk-314159\n is  wrong " * 1000})
    failure = of_reply(reply, secrets, expected="", key_hint="")
    assert failure is not None
    assert failure.what.startswith("answered 400 (*** is wrong *** is wrong")
    assert len(failure.what) < 500
    assert failure.request_id == "***"
    assert "sk-314159" not in of_answer("its answer has sk-314159", reply, secrets).what


@pytest.mark.parametrize(
    ("error", "kind", "what", "transient"),
    [
        (httpx.ConnectTimeout("slow"), ProviderTimeoutError, "could not be reached in time at http://h/v1", True),
        (httpx.ReadTimeout("slow"), ProviderTimeoutError, "stopped answering", True),
        (
            httpx.ConnectError("refused"),
            ProviderError,
            "could not be reached, or broke the connection, at http://h/v1",
            True,
        ),
        (
            httpx.RemoteProtocolError("gone"),
            ProviderError,
            "could not be reached, or broke the connection, at http://h/v1",
            True,
        ),
        (httpx.DecodingError("not gzip"), ProviderError, "sent a response that cannot be decoded", False),
    ],
)
def test_every_broken_request_is_named(
    error: httpx.HTTPError, kind: type[ProviderError], what: str, transient: bool
) -> None:
    failure = of_exception(error, "http://h/v1?key=secret", Secrets())
    assert failure.what.startswith(what)
    assert "secret" not in failure.what
    assert (failure.kind, failure.transient) == (kind, transient)


def test_errors_cross_processes() -> None:
    error = RateLimitError("slow down", provider="jina", status=429, request_id="r", retry_after=2.5)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (RateLimitError, "slow down", vars(error))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0"}, 0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}, 37),
        ({"retry-after": "Sun, 06 Nov 1994 08:48:00 GMT"}, 0),
        ({"retry-after": "Sun Nov  6 08:49:37 1994"}, 37),
        ({"retry-after": "Sunday, 06-Nov-94 08:49:37 GMT"}, 37),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"x-ratelimit-reset": "784111787"}, 47),
        ({"x-ratelimit-reset": "784111760000"}, 20),
        ({"ratelimit-reset": "12"}, 12),
        ({"x-ratelimit-reset-requests": "1m30s", "x-ratelimit-reset-tokens": "250ms"}, 90),
        (
            {
                "x-ratelimit-reset-requests": "6m0s",
                "x-ratelimit-remaining-requests": "4",
                "x-ratelimit-reset-tokens": "250ms",
                "x-ratelimit-remaining-tokens": "0",
            },
            0.25,
        ),
        ({"x-ratelimit-reset": "garbage"}, None),
        ({}, None),
    ],
)
def test_waits_are_read(headers: dict[str, str], seconds: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if hasattr(time, "tzset"):
        monkeypatch.setenv("TZ", "Asia/Tokyo")  # a date without a zone is UTC wherever we are
        time.tzset()
    now = datetime(1994, 11, 6, 8, 49, 0, tzinfo=timezone.utc).timestamp()
    waited = wait_of(headers, now)
    monkeypatch.undo()
    if hasattr(time, "tzset"):
        time.tzset()
    assert waited == pytest.approx(seconds)
