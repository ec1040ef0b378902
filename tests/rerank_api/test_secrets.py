"""Keys and headers appear nowhere: not in reprs, errors, logs, pickles, the cache, or the list of backends."""

from __future__ import annotations

import json
import logging
import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from loopback import Loopback, Response

from rerank import AuthenticationError, ProviderError, Reranker
from rerank.cli import cli

KEY = "sk-3141592653589793"
HEADER = "team-secret-271828"
providers = pytest.mark.parametrize("provider", ["jina", "cohere", "pinecone"])


def make(server: Loopback, provider: str, **options: Any) -> Reranker:
    return Reranker(provider, url=server.url, api_key=KEY, headers={"X-Team": HEADER}, max_retries=1, **options)


def assert_hidden(text: str | bytes) -> None:
    for secret in (KEY, HEADER):
        assert (secret.encode() if isinstance(text, bytes) else secret) not in text


@providers
def test_reprs(server: Loopback, provider: str) -> None:
    with make(server, provider) as reranker:
        scorer: Any = reranker.scorer
        service = scorer._portal._service
        for thing in (reranker, reranker.options, scorer, service, service._caller, service._caller.secrets):
            assert_hidden(repr(thing) + str(thing))


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_explain(form: list[str]) -> None:
    given = ["-o", f"api_key={KEY}", "-o", f'headers={{"X-Team": "{HEADER}"}}', "-o", "deadline=7"]
    shown = CliRunner().invoke(cli, ["explain", "cohere", *given, *form])
    assert shown.exit_code == 0
    assert_hidden(shown.output)
    if form:
        assert json.loads(shown.output)["options"]["deadline"] == 7


@providers
@pytest.mark.parametrize("status", [200, 400, 401, 429, 500])
def test_errors_and_logs(server: Loopback, provider: str, status: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    body = {"message": f"Bearer {KEY} from {HEADER} is not welcome", "id": KEY}
    server.script([Response(body, status, {"retry-after": "0"})])
    with make(server, provider, backoff=0.01) as reranker, pytest.raises(ProviderError, match="not welcome") as caught:
        reranker.rank("q", ["x"])
    assert_hidden("".join(traceback.format_exception(caught.value)))
    assert_hidden(repr(vars(caught.value)))
    assert_hidden(caplog.text)


@providers
def test_unreachable(provider: str, caplog: pytest.LogCaptureFixture, server: Loopback) -> None:
    caplog.set_level(logging.DEBUG)
    server.script([Response(drop=True)])
    with make(server, provider, backoff=0.01) as reranker, pytest.raises(ProviderError) as caught:
        reranker.rank("q", ["x"])
    assert_hidden("".join(traceback.format_exception(caught.value)) + caplog.text)


@providers
def test_pickles(server: Loopback, provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with make(server, provider) as reranker:
        content = pickle.dumps(reranker)
    assert_hidden(content)
    monkeypatch.setenv(f"{provider.upper()}_API_KEY", KEY)
    with pickle.loads(content) as again:
        assert again.options.url == server.url
        assert not again.options.headers


def test_cache(server: Loopback, tmp_path: Path) -> None:
    with make(server, "jina", cache=tmp_path / "answers") as reranker:
        reranker.rank("q", ["x"])
    for file in tmp_path.iterdir():
        assert_hidden(file.read_bytes())
        assert b'"x"' not in file.read_bytes()


def test_list_of_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOYAGE_API_KEY", KEY)
    shown = CliRunner().invoke(cli, ["list-backends", "--notes"]).output
    assert "voyage: Voyage AI; key set (VOYAGE_API_KEY)" in shown
    assert "cohere: Cohere Rerank; no key: set COHERE_API_KEY" in shown
    assert_hidden(shown)
    as_json = CliRunner().invoke(cli, ["list-backends", "--json"]).output
    assert_hidden(as_json)
    backends = [backend for plugin in json.loads(as_json) for backend in plugin["backends"]]
    notes = next(backend["notes"] for backend in backends if backend["name"] == "api")
    assert any(note.startswith("voyage") and "key set" in note for note in notes)
    assert all(backend["notes"] == [] for backend in backends if backend["name"] not in ("api", "llm-listwise"))


def test_a_key_in_the_environment_that_no_header_can_carry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JINA_API_KEY", "sk-\u2026copied")
    with pytest.raises(AuthenticationError, match="JINA_API_KEY") as caught:
        Reranker("jina")
    assert "copied" not in str(caught.value)


def test_the_key_given_goes_before_the_environments(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JINA_API_KEY", " from-the-environment\n")
    for options, key in (({}, "from-the-environment"), ({"api_key": "given"}, "given")):
        with Reranker("jina", url=server.url, **options) as reranker:
            reranker.rank("q", ["x"])
        assert server.hits[-1].headers["authorization"] == f"Bearer {key}"
