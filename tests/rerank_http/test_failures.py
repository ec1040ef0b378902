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
        (407, ProviderError, "a proxy asks for a user and a password"),
        (405, ProviderError, "check url=: give the server's route for reranking"),
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
        (
            {"detail": [{"loc": ["body"], "msg": "Field required"}, {"msg": "Too long"}]},
            "body: Field required; Too long",
        ),
        ("plain text", "plain text"),
        ({"code": 7}, '{"code": 7}'),
        ({}, ""),
        ({"Message": "not authorized"}, "not authorized"),
        ({"error_code": 336221, "error_msg": "too many"}, "too many"),
        ({"errorMessage": "bad"}, "bad"),
        ({"error_message": "bad"}, "bad"),
        ({"status": "FAILED", "reason": "bad"}, "bad"),
        ({"result": {"error": "bad"}}, "bad"),
        ({"detail": {"error": {"reason": "deep"}}}, "deep"),
        ({"fault": {"faultstring": "Invalid ApiKey", "detail": {"errorcode": "x"}}}, "Invalid ApiKey"),
        (
            {"detail": [{"loc": ["body", "documents", 3], "msg": "String should have at most 10 characters"}]},
            "body.documents.3: String should have at most 10 characters",
        ),
        (None, "null"),
        (42, "42"),
        ([{"foo": "bar"}], '[{"foo": "bar"}]'),
        ([], ""),
        ({"message": "a\x1b[2Jb\x07 \u202ec"}, r"a\x1b[2Jb\x07 \u202ec"),
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


@pytest.mark.parametrize("name", ["error", "a"])
@pytest.mark.parametrize("depth", [600, 960])
def test_a_body_nested_deep_is_shortened(name: str, depth: int) -> None:
    body: Any = {}
    for _ in range(depth):
        body = {name: body}
    assert failure_of(400, body).what.startswith(f'answered 400 ({{"{name}": {{"{name}": ')
    assert len(failure_of(400, [body]).what) < 500
    assert "it says" in of_answer("it is nested", Reply(status=200, headers={}, body=body), Secrets()).what


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


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (500, "input is too large to process. increase the physical batch size"),
        (
            500,
            "input (2088 tokens) is too large to process. increase the physical batch size (current batch size: 512)",
        ),
        (500, "rpc error: code = Unknown desc = input is too large to process"),
        (500, "rpc error: code = ResourceExhausted desc = received message larger than max (5000000 vs. 4194304)"),
        (400, "request (4096 tokens) exceeds the available context size (2048 tokens), try increasing it"),
        (400, "This model's maximum context length is 512 tokens. However, you requested 600 tokens in the input"),
        (500, "The decoder prompt (length 1234) is longer than the maximum model length of 1024"),
        (400, "The input (9000 tokens) is longer than the model's context length (8192 tokens)."),
        (500, "input prompt is too big compared to KV size, please increase KV size"),
        (500, "the prompt input is larger than the maximum physical batch size"),
        (422, "Input validation error: `inputs` must have less than 512 tokens. Given: 1024"),
        (500, "The size of tensor a (600) must match the size of tensor b (512) at non-singleton dimension 1"),
        (500, "The expanded size of the tensor (1200) must match the existing size (514) at dimension 1"),
        (500, "http: request body too large"),
        (500, {"error": {"message": "bad request", "type": "exceed_context_size_error"}}),
        (500, "the request exceeds the available context size. try increasing the context size"),
        (500, "the input is larger than the max context size. skipping"),
        (500, "maximum context length is 512 tokens"),
        (500, "Sequence length 1000 is longer than the maximum 512"),
        (500, "batch size 100 > maximum allowed batch size 32"),
        (500, "too many documents: 100 > 32"),
        (500, "index out of range in self"),
        (500, {"error": {"message": "bad request", "code": "context_length_exceeded"}}),
    ],
)
def test_texts_that_are_too_long_are_sent_once(status: int, message: Any) -> None:
    failure = failure_of(status, {"message": message} if isinstance(message, str) else message)
    assert not failure.transient
    assert failure.step.startswith("send shorter documents")


def test_a_server_without_reranking_is_asked_once() -> None:
    failure = failure_of(501, {"message": "This server does not support reranking. Start it with `--reranking`"})
    assert not failure.transient
    assert failure.step.startswith("start the server with reranking")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, {"message": "You exceeded your current quota, please check your plan"}),
        (429, {"message": "insufficient_quota"}),
        (
            429,
            {
                "error": {
                    "code": "RESOURCE_EXHAUSTED",
                    "message": "You've reached the max requests for the month (500).",
                }
            },
        ),
        (429, {"code": "Throttling.AllocationQuota", "message": "Free allocated quota exceeded."}),
        (429, {"detail": "Insufficient account balance, please recharge."}),
        (429, {"message": "Monthly quota exceeded"}),
        (429, {"message": "Quota has been used up"}),
        (429, {"message": "Your credit balance is too low"}),
        (429, {"message": "billing hard limit has been reached"}),
        (429, {"message": "No credits left"}),
        (429, {"message": "You have used all your monthly tokens"}),
        (429, {"error": {"message": "You have no more of it", "type": "insufficient_quota", "code": None}}),
        (429, {"error": {"message": "no", "code": "insufficient_quota"}}),
        (429, {"errors": [{"message": "no", "code": "insufficient_quota"}]}),
        (429, {"error": {"message": "no", "type": "exceeded_current_quota_error"}}),
        (429, {"error": {"code": "1113", "message": "您的账户已欠费,请充值后重试"}}),
        (429, {"error": {"message": "no", "code": "billing_hard_limit_reached"}}),
        (429, {"error": {"message": "no", "code": "billing_not_active"}}),
        (429, {"message": "You are using a Trial key, which is limited to 1000 API calls / month."}),
        (429, {"error": {"code": "RESOURCE_EXHAUSTED", "message": "You've reached the limit for the current month"}}),
        (429, {"code": "CommodityNotPurchased", "message": "Commodity has not purchased yet."}),
        (500, {"error": {"message": "no", "code": "insufficient_user_quota"}}),
        (400, {"code": "Arrearage", "message": "Access denied, please make sure your account is in good standing."}),
        (400, {"error": {"type": "budget_exceeded", "message": "Budget has been exceeded! Current cost: 2"}}),
        (403, {"code": 30001, "message": "Sorry, your account balance is insufficient"}),
        (403, {"code": "AllocationQuota.FreeTierOnly", "message": "no"}),
        (403, {"message": "The free tier of the model has been exhausted"}),
        (403, {"error": {"code": "AccountOverdueError", "message": "no"}}),
        (402, {"error": "You have exceeded your monthly included credits"}),
        (402, {"detail": "InsufficientAccountBalance"}),
    ],
)
def test_an_exhausted_quota_is_asked_once(status: int, body: Any) -> None:
    failure = failure_of(status, body)
    assert not failure.transient
    assert failure.step == "check the account's quota and credit"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, {"message": "Rate limit reached. Add a payment method at https://h.example/account/billing to raise it"}),
        (429, {"error": {"message": "slow down", "type": "tokens", "code": "rate_limit_exceeded"}}),
        (429, {"error": {"message": "Rate limit reached for tokens per min: Limit 1000, input exceeds it"}}),
        (429, {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "Quota exceeded for quota metric"}}),
        (429, {"code": "Throttling.RateQuota", "message": "Requests rate limit exceeded, please try again later."}),
        (429, {"code": "Throttling.AllocationQuota", "message": "Allocated quota exceeded, please try again later."}),
        (429, {"message": "You are using a Trial key, which is limited to 10 API calls / minute."}),
        (429, {"message": "Too many tokens, please wait before trying again."}),
        (429, {"error": "Model is overloaded", "error_type": "overloaded"}),
        (503, {"message": "requests exceed the rate limit"}),
        (503, {"message": "Too many tokens per minute"}),
        (503, {"message": "queue too long"}),
        (500, {"message": "context canceled: the upstream timeout exceeds 30s"}),
        (500, {"message": "text queue too long"}),
        (500, {"message": "the query took too long"}),
        (500, {"message": "text service latency exceeds the limit"}),
        (503, {"message": "too many concurrent requests for the input model: exceeds 10"}),
        (503, {"message": "text-embedding pod memory exceeds limit"}),
        (429, {"message": "Quota exceeded: 100 requests per minute, 10000 per month"}),
        (429, {"message": "Rate limit reached; insufficient credits remaining this minute"}),
        (503, {"message": "the input queue is too long"}),
        (504, {"message": "it took too long"}),
        (500, {"message": "rpc error: code = DeadlineExceeded desc = context deadline exceeded"}),
        (500, {"error": {"message": "CUDA out of memory", "type": "server_error"}}),
    ],
)
def test_what_may_pass_is_repeated(status: int, body: Any) -> None:
    assert failure_of(status, body).transient


def test_a_429_says_how_long_it_asks_to_wait():
    reply = Reply(status=429, headers={"retry-after": "7"}, body={"message": "slow down"})
    failure = of_reply(reply, Secrets(), expected="x", key_hint="k")
    assert failure is not None
    assert failure.transient
    assert failure.what == "answered 429 (slow down); it asks to wait 7 s"


@pytest.mark.parametrize("status", [404, 405])
def test_an_address_without_a_route_is_named(status):
    reply = Reply(status=status, headers={}, text="not found", url="https://h.example/v1/rerank?key=sk-1")
    failure = of_reply(reply, Secrets(), expected="x", key_hint="k")
    assert failure is not None
    assert "at https://h.example/v1/rerank" in failure.what
    assert "sk-1" not in failure.what


def test_a_redirect_names_its_target():
    headers = {"location": "https://other.example/rerank?token=sk-1"}
    failure = of_reply(
        Reply(status=307, headers=headers, url="https://h.example/rerank"), Secrets(), expected="x", key_hint="k"
    )
    assert failure is not None
    assert "at https://h.example/rerank, redirecting to https://other.example/rerank" in failure.what
    assert "sk-1" not in failure.what
