"""Failures of the network and in responses: retried if that may help, otherwise raised at once with a type."""

from __future__ import annotations

import socket
import ssl
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from api_ranking import rerank, score
from loopback import Loopback, Response

from rerank import AuthenticationError, ProviderError, ProviderTimeoutError, RateLimitError, Reranker
from rerank_http.failures import TRANSIENT

DOCUMENTS = ["one", "two", "three"]
GOOD = {"results": [{"index": i, "relevance_score": 0.5} for i in range(3)]}
both = pytest.mark.parametrize("provider", ["jina", "cohere"])


def make(server: Loopback, provider: str = "jina", **options: Any) -> Reranker:
    return Reranker(provider, url=server.url, api_key="secret-key", **{"backoff": 0.01, "deadline": 10.0, **options})


@both
@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
def test_transient_statuses_are_tried_again(server: Loopback, provider: str, status: int) -> None:
    server.script([Response({"message": "busy"}, status), Response({"message": "busy"}, status), Response(GOOD)])
    with make(server, provider) as reranker:
        diagnostics = reranker.rank("q", DOCUMENTS).diagnostics
    assert (diagnostics["requests"], diagnostics["retries"]) == (3, 2)


@both
@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 418, 422, 498, 501, 307])
def test_other_statuses_fail_at_once(server: Loopback, provider: str, status: int) -> None:
    server.script([Response({"message": "no"}, status, {"location": "/elsewhere"}), Response(GOOD)])
    with make(server, provider) as reranker, pytest.raises(ProviderError, match="no") as caught:
        reranker.rank("q", DOCUMENTS)
    assert server.count == 1
    assert caught.value.status == status
    assert isinstance(caught.value, AuthenticationError) == (status in (401, 403))
    assert status not in TRANSIENT


@both
def test_last_failure_is_told_with_the_attempts(server: Loopback, provider: str) -> None:
    server.script([Response({"message": "all busy"}, 503, {"x-request-id": "r-9"})])
    expected = r"503 \(all busy\) \(request r-9, 3 attempts\): try again"
    with make(server, provider, max_retries=2) as reranker, pytest.raises(ProviderError, match=expected) as caught:
        reranker.rank("q", DOCUMENTS)
    assert server.count == 3
    assert (caught.value.provider, caught.value.request_id) == (provider, "r-9")


@both
def test_dropped_connections_are_tried_again(server: Loopback, provider: str) -> None:
    server.script([Response(drop=True), Response(GOOD, keep=20), Response(GOOD)])
    with make(server, provider) as reranker:
        assert reranker.rank("q", DOCUMENTS).diagnostics["retries"] == 2


@both
def test_stalls_are_tried_again(server: Loopback, provider: str) -> None:
    server.script([Response(GOOD, delay=5), Response(GOOD)])
    with make(server, provider, read_timeout=0.2) as reranker:
        started = time.monotonic()
        assert reranker.rank("q", DOCUMENTS).diagnostics["retries"] == 1
        assert time.monotonic() - started < 2


@both
def test_no_server_there_is_reported(provider: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        expected = f"could not be reached.*{url}.*2 attempts"
        with (
            Reranker(provider, url=url, backoff=0.01, max_retries=1) as reranker,
            pytest.raises(ProviderError, match=expected) as caught,
        ):
            reranker.rank("q", DOCUMENTS)
    assert caught.value.status is None


@both
def test_deadline_covers_everything(server: Loopback, provider: str) -> None:
    server.script([Response({}, 503), Response(GOOD, delay=30)])
    with make(server, provider, deadline=0.5) as reranker:
        started = time.monotonic()
        with pytest.raises(
            ProviderTimeoutError, match=r"deadline of 0.5 s \(2 requests sent; the last one answered 503"
        ):
            reranker.rank("q", DOCUMENTS)
        assert 0.4 < time.monotonic() - started < 1.5


@both
@pytest.mark.parametrize("dated", [False, True])
def test_retry_after_is_honoured(server: Loopback, provider: str, dated: bool) -> None:
    then = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=2), usegmt=True)
    server.script([Response({}, 429, {"retry-after": then if dated else "1"}), Response(GOOD)])
    with make(server, provider) as reranker:
        started = time.monotonic()
        reranker.rank("q", DOCUMENTS)
        assert 0.9 < time.monotonic() - started < 3.5


@both
def test_a_wait_beyond_the_deadline_is_not_waited_for(server: Loopback, provider: str) -> None:
    server.script([Response({"message": "slow down"}, 429, {"retry-after": "3600"})])
    with make(server, provider) as reranker:
        started = time.monotonic()
        with pytest.raises(RateLimitError, match="slow down") as caught:
            reranker.rank("q", DOCUMENTS)
        assert time.monotonic() - started < 1
    assert caught.value.retry_after == 3600


@both
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"results": GOOD["results"][:2]}, r"2 results instead of 3 \(missing: 2\)"),
        ({"results": [*GOOD["results"][:2], {"index": 1, "relevance_score": 0.1}]}, "index 1 twice"),
        ({"results": [*GOOD["results"][:2], {"index": 3, "relevance_score": 0.1}]}, "index 3, for 3 documents"),
        ({"results": [*GOOD["results"][:2], {"index": -1, "relevance_score": 0.1}]}, "index -1, for 3 documents"),
        ({"results": [*GOOD["results"][:2], {"index": 2, "relevance_score": "high"}]}, "a string as score"),
        ({"results": [*GOOD["results"][:2], {"index": 2, "relevance_score": True}]}, "a boolean as score"),
        ({"results": [*GOOD["results"][:2], {"index": "c", "relevance_score": 0.1}]}, "a string as index"),
        ({"results": [*GOOD["results"][:2], {"index": 2}]}, "result 2 of its answer has no 'relevance_score'"),
        ({"results": [*GOOD["results"][:2], {"relevance_score": 0.1}]}, "result 2 of its answer has no 'index'"),
        ({"results": [*GOOD["results"][:2], 0.1]}, "result 2 of its answer has no 'index'"),
        ('{"results": [{"index": 0, "relevance_score": NaN}]}', "score nan"),
        ('{"results": [{"index": 0, "relevance_score": 1e999}]}', "score inf"),
        ({"results": {"0": 0.5}}, "an object in 'results'"),
        ({"ranking": []}, "no 'results'"),
        ({"error": {"message": "quota used up"}}, "no 'results', only 'error'; it says: quota used up"),
        ({"code": "Throttled", "message": "too many"}, "no 'results', .*; it says: too many"),
        ([], "a list, not an object"),
        ("<html><head><title>Welcome to nginx</title></head></html>", "HTML instead of JSON.*Welcome to nginx"),
        ('{"results": [{"index": 0, "rel', "incomplete JSON instead of JSON"),
        ("", "nothing instead of JSON"),
        ("OK", "text instead of JSON.*OK"),
    ],
)  # fmt: skip
def test_wrong_answers_are_named_and_not_tried_again(server: Loopback, provider: str, body: Any, expected: str) -> None:
    server.script([Response(body, headers={"x-request-id": "r-1"})])
    with make(server, provider) as reranker, pytest.raises(ProviderError, match=expected) as caught:
        reranker.rank("q", DOCUMENTS)
    assert server.count == 1
    assert (caught.value.status, caught.value.request_id) == (200, "r-1")


def test_a_wrong_answer_of_any_size_is_a_short_message(server: Loopback) -> None:
    server.script([Response({f"field {i}": i for i in range(5000)})])
    with make(server) as reranker, pytest.raises(ProviderError, match="no 'results', only 'field 0'") as caught:
        reranker.rank("q", DOCUMENTS)
    assert len(str(caught.value)) < 1000


def test_only_the_first_k_are_handled_as_such(server: Loopback) -> None:
    with make(server) as reranker:
        results = reranker.rank("q", DOCUMENTS, top_k=2)
    assert server.hits[0].body["top_n"] == 2
    assert len(results) == 2
    best = sorted(DOCUMENTS, key=lambda text: -score("q", text))
    assert [r.text for r in results] == best[:2]


def test_more_than_asked_for_is_fine(server: Loopback) -> None:
    server.script([Response(GOOD)])
    with make(server) as reranker:
        assert len(reranker.rank("q", DOCUMENTS, top_k=1)) == 1


def test_scores_that_are_no_probabilities_do_not_claim_so(server: Loopback) -> None:
    server.script([Response({"results": [{"index": 0, "relevance_score": -0.2}]})])
    with make(server) as reranker:
        results = reranker.rank("q", ["one"])
    assert results.scale == "similarity"
    assert "outside [0, 1]" in results.diagnostics["scale"]


def test_strange_index_of_a_provider_is_no_crash(server: Loopback) -> None:
    for index in (None, 1.5, [], {}, "9" * 40, True, 10**30):
        server.script([Response({"results": [{"index": index, "relevance_score": 0.5}]})])
        with make(server) as reranker, pytest.raises(ProviderError, match="index"):
            reranker.rank("q", ["one"])


@pytest.mark.parametrize("scores", [[0.5, 0.25], [0.5, 0.25, 0.1, 0.2], [], [0.5, None, 0.1], [0.5, [0.25], 0.1]])
def test_scores_without_indices_are_one_a_document(server: Loopback, scores: list[Any]) -> None:
    server.script([Response({"scores": scores})])
    options = {"results_field": "scores", "index_field": "", "score_field": ""}
    with make(server, "generic", **options) as reranker, pytest.raises(ProviderError, match=r"scores for 3|as score"):
        reranker.rank("q", DOCUMENTS, top_k=1)


@both
def test_tls_is_verified(certificate: Path, provider: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    server = Loopback(rerank, context)
    try:
        with make(server, provider) as reranker, pytest.raises(ProviderError, match=r"untrusted.*ca_file"):
            reranker.rank("q", DOCUMENTS)
        assert server.count == 0
        with make(server, provider, ca_file=certificate) as reranker:
            assert len(reranker.rank("q", DOCUMENTS)) == 3
    finally:
        server.close()


@both
def test_a_proxy_is_used(server: Loopback, provider: str) -> None:
    with Reranker(provider, url="http://nowhere.invalid", proxy=server.url, max_retries=0) as reranker:
        assert len(reranker.rank("q", DOCUMENTS)) == 3
    assert server.hits[0].path.startswith("http://nowhere.invalid/v")
    assert "authorization" not in server.hits[0].headers  # there is no key


def test_headers_are_sent(server: Loopback) -> None:
    for provider in ("jina", "cohere"):
        with make(server, provider, headers={"X-Team": "search"}) as reranker:
            reranker.rank("q", DOCUMENTS)
        assert server.hits[-1].headers["x-team"] == "search"
        assert server.hits[-1].headers["authorization"] == "Bearer secret-key"


@both
def test_ones_own_header_replaces_ours_whatever_its_case(server: Loopback, provider: str) -> None:
    own = {"authorization": "Bearer other-key", "CONTENT-TYPE": "application/json; charset=utf-8"}
    with make(server, provider, headers=own) as reranker:
        reranker.rank("q", DOCUMENTS)
    sent = {name: server.hits[-1].named.count(name) for name in ("authorization", "content-type")}
    assert sent == {"authorization": 1, "content-type": 1}
    assert server.hits[-1].headers["authorization"] == "Bearer other-key"
