"""No secret of a call leaves it: not in messages, causes, log lines, attributes, reprs, dumps, pickles or reports."""

from __future__ import annotations

import base64
import html
import json
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hub_server import Hub
from loopback import Hit, Loopback, Response

from rerank import ModelLoadError, ModelRef, ProviderError, Reranker, Secrets, shown_address

pytest.importorskip("rerank_api")

KEY = 'sk-3141592653589793"x'
BASIC = base64.b64encode(b"user-name:basicpw-99").decode()
PROXY = "proxypw-55"
SECRETS = {
    "the key": KEY,
    "a token behind its scheme": "tok-271828182845",
    "a cookie's value": "cookieval-77",
    "a basic header's text": BASIC,
    "a basic header's password": "basicpw-99",
    "a value of the query": "queryval-88",
    "a field of the body": "bodykey-66",
    "a field deep in the body": "deepkey-33",
    "the proxy's password": PROXY,
    "the proxy's header": base64.b64encode(f"user:{PROXY}".encode()).decode(),
}
each = pytest.mark.parametrize("secret", SECRETS.values(), ids=list(SECRETS))


@pytest.fixture
def server(no_keys: None) -> Iterator[Loopback]:
    loopback = Loopback(lambda hit: Response({}))
    yield loopback
    loopback.close()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Every line that any package writes."""
    caplog.set_level(1)
    return caplog


def options_for(server: Loopback) -> dict[str, Any]:
    return {
        "url": f"{server.url}?api_key=queryval-88&version=2024-05-01",
        "api_key": KEY,
        "headers": {
            "X-Authorization": "Bearer tok-271828182845",
            "Cookie": "a=b; session=cookieval-77",
            "X-Basic": f"Basic {BASIC}",
        },
        "extra_body": {"api_key": "bodykey-66", "more": [{"access_token": "deepkey-33"}], "truncate": "END"},
        "max_retries": 1,
        "backoff": 0.01,
    }


def assert_hidden(*texts: str | bytes) -> None:
    for text in texts:
        shown = text.decode("latin-1") if isinstance(text, bytes) else text
        for what, secret in SECRETS.items():
            for written in (secret, json.dumps(secret)[1:-1], quote(secret, safe=""), html.escape(secret)):
                assert written not in shown, what


def everything_of(error: BaseException) -> str:
    """All that a crash reporter finds in an exception and in what it was raised for."""
    found, waiting, seen = ["".join(traceback.format_exception(error))], [error], set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        found.append(f"{one!r} {one} {one.args} {vars(one)}")
        for name in ("request", "response", "_request"):
            try:
                carried = getattr(one, name, None)
            except RuntimeError:  # httpx's, where there is none
                continue
            assert carried is None
        waiting += [other for other in (one.__cause__, one.__context__) if other is not None]
    return "\n".join(found)


ECHOES: dict[str, Callable[[str], Response]] = {
    "a field's name": lambda secret: Response({secret: 1}),
    "a message": lambda secret: Response({"message": f"no such key {secret}"}, 401),
    "a message to retry": lambda secret: Response({"message": f"busy, {secret}"}, 500),
    "a code": lambda secret: Response({"code": secret}, 429),
    "a request's id": lambda secret: Response({"message": "no"}, 400, {"x-request-id": secret}),
    "a place": lambda secret: Response({"detail": [{"loc": ["body", secret], "msg": "is missing"}]}, 422),
    "text": lambda secret: Response(f"<title>{html.escape(secret)}</title>", 502),
    "an address": lambda secret: Response("", 302, {"location": f"https://h.example/x?y={quote(secret, safe='')}"}),
    "a path": lambda secret: Response("", 307, {"location": f"https://h.example/{quote(secret, safe='')}"}),
    "another header": lambda secret: Response({"message": "no"}, 400, {"set-cookie": f"a={secret}"}),
    "a name of usage": lambda secret: Response({"usage": {secret: 3}, "results": [{"index": 0, "relevance_score": 1}]}),
}


@each
@pytest.mark.parametrize("echo", ECHOES.values(), ids=list(ECHOES))
def test_what_a_service_echoes(
    server: Loopback, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, secret: str, echo: Any
) -> None:
    server.script([echo(secret)])
    monkeypatch.setenv("HTTP_PROXY", server.url.replace("//", f"//user:{PROXY}@"))
    with Reranker("jina", **options_for(server)) as reranker:
        try:
            ranked = reranker.rank("q", ["x"])
        except ProviderError as error:
            assert_hidden(everything_of(error))
        else:
            assert_hidden(str(ranked.diagnostics))
    hit: Hit = server.hits[0]
    assert hit.headers["authorization"] == f"Bearer {KEY}"  # it was sent, and all came from there
    assert hit.headers["cookie"].endswith("cookieval-77")
    assert_hidden(log.text)


@pytest.mark.parametrize(
    "fault", [{"drop": True}, {"body": "{", "headers": {"content-encoding": "gzip"}}, {"delay": 9}]
)
def test_causes_carry_no_request(server: Loopback, log: pytest.LogCaptureFixture, fault: dict[str, Any]) -> None:
    server.script([Response(**fault)])
    with (
        Reranker("jina", **options_for(server), read_timeout=0.2, deadline=2) as reranker,
        pytest.raises(ProviderError) as caught,
    ):
        reranker.rank("q", ["x"])
    assert_hidden(everything_of(caught.value), log.text)


@each
def test_what_a_chat_model_echoes(server: Loopback, log: pytest.LogCaptureFixture, secret: str) -> None:
    pytest.importorskip("rerank_listwise")
    message = {"role": "assistant", "content": f"my answer is {secret}"}
    server.script([Response({"choices": [{"message": message, "finish_reason": "stop"}]})])
    options = {**options_for(server), "url": f"{server.url}/v1?api_key=queryval-88"}
    if secret not in (PROXY, SECRETS["the proxy's header"]):
        with Reranker("gpt-4", backend="llm-listwise", provider="openai", **options) as reranker:
            try:
                ranked = reranker.rank("q", ["x", "y"])
            except Exception as error:
                assert_hidden(everything_of(error))
            else:
                assert_hidden(repr(ranked), ranked.model_dump_json())
    assert_hidden(log.text)


def test_reprs_dumps_and_pickles(server: Loopback) -> None:
    given = options_for(server)
    with Reranker("jina", **given) as reranker:
        options: Any = reranker.options
        assert_hidden(repr(reranker), str(reranker), repr(options), str(options), f"{[options]}")
        assert_hidden(str(options.model_dump()), options.model_dump_json(), str(options.model_dump(mode="json")))
        assert_hidden(pickle.dumps(reranker), pickle.dumps(options), pickle.dumps(options, 0))
        again = pickle.loads(pickle.dumps(options))
    assert options.url == given["url"]
    assert options.extra_body["api_key"] == "bodykey-66"
    assert again.url == f"{server.url}?version=2024-05-01"  # what is no secret is kept
    assert again.extra_body == {"more": [{}], "truncate": "END"}
    assert (again.api_key, dict(again.headers), again.max_retries) == (None, {}, 1)


def test_secrets_of_one_call(server: Loopback, log: pytest.LogCaptureFixture) -> None:
    server.script([Response({"message": "bodykey-66 is unknown"}, 400)])
    given = {"extra_body": {"api_key": SECRETS["a field of the body"]}}
    with Reranker("jina", url=server.url, api_key=KEY) as reranker, pytest.raises(ProviderError) as caught:
        reranker.rank("q", ["x"], **given)
    assert_hidden(everything_of(caught.value), log.text)


# addresses


@pytest.mark.parametrize(
    "address",
    [
        "http://user:{}@h.example:1/x",
        "http://{}@h.example/x",
        "http://user:a/{}@h.example",
        "http://user:{}/a@h.example",
        "http://user:{}?a@h.example",
        "http://user:{}#a@h.example",
        "http://user:{}@no host",
        "user:{}@h.example",
        "http://h.example/x?api_key={}",
    ],
)
def test_passwords_of_addresses(address: str, monkeypatch: pytest.MonkeyPatch, no_keys: None, run: Any) -> None:
    password = "PASSWORD-42"
    url = address.format(password)
    assert password not in shown_address(url)
    secrets = Secrets()
    secrets.add_address(url)
    assert password not in secrets.hide(f"Invalid port: {password!r}")
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setenv("HF_ENDPOINT", url)
    ran = run("doctor")
    assert password not in ran.out + ran.err
    monkeypatch.setenv("HTTP_PROXY", url)
    with pytest.raises(Exception) as caught, Reranker("jina", url="http://127.0.0.1:9", api_key=KEY) as reranker:
        reranker.rank("q", ["x"], max_retries=0)
    assert password not in everything_of(caught.value)


def test_an_address_without_secrets_is_shown_whole() -> None:
    for url in ("http://h.example:8080/v1/models/a@b", "https://h.example", "http://[::1]:80/x"):
        assert shown_address(url) == url


# the hub


@pytest.mark.parametrize("status", [400, 401, 403, 500])
def test_a_token_that_a_hub_echoes(
    server: Loopback, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, hub: Hub, status: int
) -> None:
    token = "hf_ABCDEFGHIJKLMNOP"
    server.script(
        [Response({"error": f"no {token}"}, status, {"x-error-message": f"bad {token}", "x-request-id": token})]
    )
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url.replace("//", "//user:PASSWORD-42@"))
    with pytest.raises(ModelLoadError) as caught:
        _ = ModelRef("owner/name", token=token).files
    assert server.hits
    shown = everything_of(caught.value) + log.text
    assert token not in shown
    assert "PASSWORD-42" not in shown


# the place itself


def test_short_parts_and_schemes_are_words() -> None:
    secrets = Secrets()
    secrets.add_header("Bearer tok-271828182845")
    secrets.add_header("Basic abc, de")
    assert secrets.hide("Bearer abc de tok-271828182845") == "Bearer abc de ***"


def test_nothing_is_hidden_in_lines_of_others(log: pytest.LogCaptureFixture) -> None:
    Secrets().add("other-secret")
    logging.getLogger("httpx").info("other-secret %d", 1)
    assert log.text.endswith("other-secret 1\n")
