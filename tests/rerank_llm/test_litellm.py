"""The generator litellm against a real server on loopback, beside the generator chat; `nox -s litellm` runs it."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

if find_spec("litellm") is None:
    pytest.skip("needs litellm: nox -s litellm", allow_module_level=True)

sys.path.append(str(Path(__file__).parents[1] / "rerank_listwise"))  # where chat_model.py lies

from chat_model import answering, grade, reply, with_logprobs
from loopback import Hit, Loopback, Response

from rerank import (
    AuthenticationError,
    InvalidOptionsError,
    ProviderError,
    ProviderTimeoutError,
    RankedResults,
    RateLimitError,
    Reranker,
)

pytestmark = pytest.mark.usefixtures("no_keys")

QUERY = "which grade is best?"
KEY = "very-secret-key"
NAME = "openai/some-model"

Build = Callable[..., Reranker]


def graded(count: int) -> list[str]:
    """Passages whose grades run through 0 … count-1 in a mixed order."""
    return [f"this text has grade {37 * position % count}" for position in range(count)]


def grades(ranked: RankedResults) -> list[int]:
    return [grade(result.text) for result in ranked]


@pytest.fixture
def server() -> Iterator[Loopback]:
    loopback = Loopback(answering())
    yield loopback
    loopback.close()


@pytest.fixture
def build(server: Loopback) -> Iterator[Build]:
    """Builds rerankers that ask the server through litellm; they are closed at the end."""
    built: list[Reranker] = []

    def build(model: str = NAME, backend: str = "llm-listwise", **options: Any) -> Reranker:
        given = {
            "generator": "litellm",
            "base_url": server.url + "/v1",
            "api_key": KEY,
            "backoff": 0.01,
            "deadline": 20.0,
            **options,
        }
        built.append(Reranker(model, backend=backend, **given))
        return built[-1]

    yield build
    for reranker in built:
        reranker.close()


@pytest.mark.parametrize("backend", ["llm-listwise", "llm-filter"])
def test_it_asks_and_reads_as_the_chat_generator(server: Loopback, build: Build, backend: str) -> None:
    through, direct = (
        build(model, backend, generator=generator).rank(QUERY, graded(8))
        for model, generator in ((NAME, "litellm"), ("some-model", "chat"))
    )
    assert through.model_copy(update={"model": direct.model}) == direct
    half = len(server.hits) // 2
    bodies = [
        sorted(json.dumps(hit.body, sort_keys=True) for hit in hits)
        for hits in (server.hits[:half], server.hits[half:])
    ]
    assert bodies[0] == bodies[1]
    assert {hit.path for hit in server.hits} == {"/v1/chat/completions"}


def test_labels_are_read_from_logprobs(server: Loopback, build: Build) -> None:
    server.handler = with_logprobs
    assert grades(build(answers="labels").rank(QUERY, graded(20))) == list(range(19, -1, -1))
    assert (server.hits[0].body["logprobs"], server.hits[0].body["top_logprobs"]) == (True, 20)


def test_a_provider_without_logprobs_is_named(server: Loopback, build: Build) -> None:
    with pytest.raises(ProviderError, match="anthropic does not support parameters"):
        build("anthropic/claude-3-5-haiku-20241022", answers="labels").rank(QUERY, graded(5))
    assert not server.hits


def test_a_provider_with_an_api_of_its_own(server: Loopback, build: Build) -> None:
    said = {
        "model": "claude-3-5-haiku-20241022",
        "content": [{"type": "text", "text": "[2] > [1] > [3]"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 70, "output_tokens": 9},
    }
    server.handler = lambda hit: Response(said)
    ranked = build("anthropic/claude-3-5-haiku-20241022", base_url=server.url).rank(QUERY, graded(3))
    assert [result.index for result in ranked] == [1, 0, 2]
    assert (ranked.diagnostics["prompt_tokens"], ranked.diagnostics["completion_tokens"]) == (70, 9)
    (hit,) = server.hits
    assert (hit.path, hit.headers["x-api-key"]) == ("/v1/messages", KEY)


def test_the_provider_chooses_the_generator(server: Loopback, build: Build) -> None:
    build(provider="litellm", generator=None).rank(QUERY, graded(3))
    build("some-model", provider="openai").rank(QUERY, graded(3))
    build("groq/llama-3.1-8b-instant", generator="litellm")
    assert [hit.body["model"] for hit in server.hits] == ["some-model", "some-model"]


def test_settings_reach_the_provider(server: Loopback, build: Build) -> None:
    reranker = build(headers={"X-Team": "search"}, extra_body={"seed": 7, "colour": "red"}, max_new_tokens=99)
    reranker.rank(QUERY, graded(3), temperature=0.5)
    (hit,) = server.hits
    assert hit.headers["x-team"] == "search"
    assert hit.headers["authorization"] == f"Bearer {KEY}"
    sent = {name: hit.body[name] for name in ("temperature", "seed", "colour", "max_tokens")}
    assert sent == {"temperature": 0.5, "seed": 7, "colour": "red", "max_tokens": 99}


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"proxy": "http://127.0.0.1:1"}, "proxy.*HTTPS_PROXY"),
        ({"ca_file": "ca.pem"}, "ca_file.*SSL_CERT_FILE"),
        ({"connect_timeout": 1.0}, "connect_timeout.*read_timeout"),
        ({"provider": "nobody"}, "no provider of 'nobody/openai/some-model'"),
        ({"extra_body": {"num_retries": 3}}, "num_retries.*max_retries="),
    ],
)
def test_what_litellm_cannot_follow_is_an_error(build: Build, options: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidOptionsError, match=match):
        build(**options).rank(QUERY, graded(3))


def test_a_name_without_a_provider_is_an_error(build: Build) -> None:
    with pytest.raises(InvalidOptionsError, match=r"no provider of 'some-model'.*openai/NAME"):
        build("some-model").rank(QUERY, graded(3))


def echoing(status: int, **more: Any) -> Callable[[Hit], Response]:
    """A server whose errors repeat what it was sent."""
    return lambda hit: Response({"error": {"message": f"refused {hit.headers['authorization']}"}}, status, **more)


@pytest.mark.parametrize(
    ("handler", "error", "match"),
    [
        (echoing(401), AuthenticationError, r"openai answered 401 \(refused Bearer \*\*\*\).*OPENAI_API_KEY"),
        (echoing(403), AuthenticationError, "answered 403"),
        (echoing(400, headers={"x-request-id": "r-1"}), ProviderError, r"refused Bearer \*\*\*\) \(request r-1\)"),
        (echoing(404), ProviderError, r"answered 404.*model's name"),
        (echoing(429, headers={"retry-after": "0"}), RateLimitError, r"answered 429.*2 attempts"),
        (echoing(504), ProviderTimeoutError, r"answered 504.*2 attempts"),
        (lambda hit: Response("<html>busy</html>", 503), ProviderError, r"answered 503.*2 attempts"),
        (lambda hit: Response({"choices": []}), ProviderError, "choices"),
        (answering(drop=True), ProviderError, r"broke the connection.*2 attempts"),
        (answering(keep=20), ProviderError, "cannot read"),
    ],
)
def test_faults_are_typed_and_hide_the_key(
    server: Loopback, build: Build, handler: Any, error: type[ProviderError], match: str
) -> None:
    server.handler = handler
    with pytest.raises(error, match=match) as caught:
        build(max_retries=1).rank(QUERY, graded(5))
    failure: BaseException | None = caught.value
    assert isinstance(failure, ProviderError)
    assert failure.provider == "openai"
    while failure is not None:
        assert KEY not in f"{failure} {failure!r} {vars(failure)}"
        failure = failure.__cause__ or failure.__context__


def test_a_key_of_the_environment_is_hidden_too(
    server: Loopback, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-the-environment")
    server.handler = echoing(400)
    with pytest.raises(ProviderError, match=r"refused Bearer \*\*\*"):
        build(api_key=None).rank(QUERY, graded(3))


def test_a_missing_key_is_an_error_at_once(server: Loopback, build: Build) -> None:
    with pytest.raises(AuthenticationError, match=r"pass api_key=, or set OPENAI_API_KEY") as caught:
        build(api_key=None).rank(QUERY, graded(3))
    assert "attempts" not in str(caught.value)
    assert not server.hits


def test_a_refused_attempt_is_repeated_after_the_wait(server: Loopback, build: Build) -> None:
    waiting = [echoing(429, headers={"retry-after": "0.3"})]

    def handle(hit: Hit) -> Response:
        return waiting.pop()(hit) if waiting else answering()(hit)

    server.handler = handle
    started = time.monotonic()
    ranked = build().rank(QUERY, graded(5))
    assert time.monotonic() - started >= 0.3
    assert (ranked.diagnostics["requests"], ranked.diagnostics["retries"]) == (2, 1)
    assert len(server.hits) == 2


def test_all_retries_are_ours(server: Loopback, build: Build) -> None:
    server.handler = echoing(500)
    with pytest.raises(ProviderError, match="3 attempts"):
        build(max_retries=2).rank(QUERY, graded(5))
    assert len(server.hits) == 3


def test_a_model_that_takes_no_temperature_is_asked_without(server: Loopback, build: Build) -> None:
    def handle(hit: Hit) -> Response:
        if "temperature" in hit.body:
            return Response({"error": {"message": "Unsupported value: 'temperature' does not support 0"}}, 400)
        return answering()(hit)

    server.handler = handle
    assert grades(build().rank(QUERY, graded(5))) == [4, 3, 2, 1, 0]


def test_a_cut_answer_is_counted(server: Loopback, build: Build) -> None:
    server.handler = lambda hit: Response(reply("[2] > [", reason="length"))
    assert build().rank(QUERY, graded(5)).diagnostics["malformed"] == {"missing": 4, "cut": 1}


def test_slow_answers_end_in_time(server: Loopback, build: Build) -> None:
    server.handler = answering(delay=5.0)
    with pytest.raises(ProviderTimeoutError, match=r"stopped answering.*read_timeout"):
        build(read_timeout=0.2, max_retries=0).rank(QUERY, graded(5))
    with pytest.raises(ProviderTimeoutError, match="deadline"):
        build(deadline=0.3).rank(QUERY, graded(5))


def test_concurrency_is_bounded_and_used(server: Loopback, build: Build) -> None:
    server.handler = answering(delay=0.05)
    list(build(max_concurrency=3).rank_many([(QUERY, graded(20))] * 9))
    assert server.busiest == 3


def test_cancelling_cancels_the_calls(server: Loopback, build: Build) -> None:
    server.handler = answering(delay=10.0)
    reranker = build(algorithm="pairwise-all-pairs", max_concurrency=4)

    async def cancel() -> float:
        task = asyncio.ensure_future(reranker.arank(QUERY, graded(6)))
        while len(server.hits) < 4:
            await asyncio.sleep(0.01)
        started = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.monotonic() - started

    assert asyncio.run(cancel()) < 2
    deadline = time.monotonic() + 3
    while server.open_connections and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (server.open_connections, len(server.hits)) == (0, 4)


def test_a_call_that_is_cancelled_before_it_is_sent_leaves_nothing(
    server: Loopback, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    reranker = build()
    prepare = sys.modules["litellm.main"].completion
    preparing, go_on, prepared = threading.Event(), threading.Event(), threading.Event()

    def prepare_slowly(**arguments: Any) -> Any:
        preparing.set()
        go_on.wait(10)
        prepared.set()
        return prepare(**arguments)

    monkeypatch.setattr("litellm.main.completion", prepare_slowly)

    async def cancel() -> None:
        task = asyncio.ensure_future(reranker.arank(QUERY, graded(6)))
        await asyncio.to_thread(preparing.wait, 10)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(cancel())
    time.sleep(0.1)  # the cancellation reaches the reranker's own event loop
    go_on.set()
    assert prepared.wait(10)
    reranker.close()
    gc.collect()  # Python warns of coroutines that never ran, and pytest makes that an error
    assert not server.hits


def test_closing_closes_the_connections(server: Loopback, build: Build) -> None:
    import litellm

    kept = litellm.in_memory_llm_clients_cache.cache_dict
    before = set(kept)
    first, second = build(), build("groq/some-model")
    server.handler = lambda hit: Response({**reply("[1]"), "service_tier": "on_demand"})
    for reranker in (first, second, first):
        reranker.rank(QUERY, graded(3))
    assert len(set(kept) - before) == server.open_connections == 2
    first.close()
    second.rank(QUERY, graded(3))
    second.close()
    assert set(kept) == before
    deadline = time.monotonic() + 3
    while server.open_connections and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.open_connections == 0


def test_answers_are_cached(server: Loopback, build: Build, tmp_path: Path) -> None:
    reranker = build(cache=tmp_path / "answers.db")
    first, again = (reranker.rank(QUERY, graded(25)) for _ in range(2))
    assert grades(first) == grades(again)
    assert (len(server.hits), again.diagnostics["cached"]) == (2, 2)


def test_keys_and_prompts_appear_nowhere(
    server: Loopback, build: Build, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    reranker = build(headers={"X-Team": "team-secret"})
    ranked = reranker.rank(QUERY, graded(5))
    server.handler = echoing(400)
    with pytest.raises(ProviderError):
        reranker.rank(QUERY, graded(5))
    printed = capfd.readouterr()
    for shown in (reranker, reranker.options, reranker.scorer, caplog.text, printed.out, printed.err):
        for secret in (KEY, "team-secret", QUERY):
            assert secret not in f"{shown!r} {shown}"
    assert KEY not in repr(ranked)


def test_another_version_is_refused(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rerank_llm.generators.litellm_service.version", lambda name: "1.82.8")
    with pytest.raises(InvalidOptionsError, match=r"needs litellm 1\.91\.5 \(litellm 1\.82\.8 is installed\)"):
        build().rank(QUERY, graded(3))


ALONE = """
import sys

connected = []
sys.addaudithook(lambda event, args: connected.append(args[1][1]) if event == "socket.connect" else None)
from rerank import Reranker
from rerank.registry import installed

assert "generator" in installed().backends["llm-listwise"].options.model_fields
assert not {"litellm", "httpx", "torch"} & sys.modules.keys()
with Reranker("openai/m", backend="llm-listwise", generator="litellm", base_url=sys.argv[1], api_key="k") as reranker:
    reranker.rank("q", ["a", "b"])
import litellm, os

assert not litellm.telemetry
assert "OF_DOTENV" not in os.environ
print(sorted(set(connected)))
"""


def test_nothing_is_fetched_read_or_printed(server: Loopback, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OF_DOTENV=1\n", encoding="utf-8")
    command = [sys.executable, "-W", "error", "-c", ALONE, server.url]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    port = server.url.rsplit(":", 1)[1]
    assert (done.stdout, done.stderr, done.returncode) == (f"[{port}]\n", "", 0)


def test_an_address_without_a_named_provider_gets_no_key(
    server: Loopback, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    build("gpt-4o", api_key=None).rank(QUERY, graded(3))
    assert KEY not in json.dumps(dict(server.hits[-1].headers))
