"""Keys are found where they may be, and show nowhere."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path

import pytest
from chat import chatting
from loopback import Loopback, Response

from rerank import AuthenticationError, ProviderError
from rerank_http import HttpOptions, Secrets, read_key

KEY = "sk-3141592653589793"
HEADER = "team-secret-271828"


def assert_hidden(text: str | bytes) -> None:
    for secret in (KEY, HEADER):
        assert (secret.encode() if isinstance(text, bytes) else secret) not in text


def test_the_longest_secret_is_hidden_first() -> None:
    secrets = Secrets()
    for value in ("key-1", "key-1-and-more", "abc"):
        secrets.add(value)
    assert secrets.hide("key-1-and-more, key-1, abc") == "***, ***, abc"  # three letters are a word, not a secret
    assert "key" not in repr(secrets)


def test_a_key_is_the_one_given_or_the_first_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = ["ACME_API_KEY", "ACME_TOKEN"]
    assert read_key(HttpOptions(), variables, service="acme") is None
    monkeypatch.setenv("ACME_TOKEN", " second\n")
    assert read_key(HttpOptions(), variables, service="acme") == "second"
    monkeypatch.setenv("ACME_API_KEY", "first")
    assert read_key(HttpOptions(), variables, service="acme") == "first"
    assert read_key(HttpOptions(api_key="given"), variables, service="acme") == "given"


def test_a_key_in_the_environment_that_no_header_can_carry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_API_KEY", "sk-\u2026copied")
    with pytest.raises(AuthenticationError, match="ACME_API_KEY") as caught:
        read_key(HttpOptions(), ["ACME_API_KEY"], service="acme")
    assert "copied" not in str(caught.value)


@pytest.mark.parametrize("status", [200, 400, 401, 429, 500])
def test_errors_and_logs(server: Loopback, status: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server.script([Response({"message": f"Bearer {KEY} from {HEADER} is not welcome", "id": KEY}, status)])
    with (
        chatting(server.url, api_key=KEY, headers={"X-Team": HEADER}, max_retries=1) as chat,
        pytest.raises(ProviderError, match="not welcome") as caught,
    ):
        chat.ask("hello")
    assert server.hits[0].headers["authorization"] == f"Bearer {KEY}"
    assert server.hits[0].headers["x-team"] == HEADER
    assert_hidden("".join(traceback.format_exception(caught.value)))
    assert_hidden(repr(vars(caught.value)))
    assert_hidden(caplog.text)


def test_the_cache(server: Loopback, tmp_path: Path) -> None:
    options = {"api_key": KEY, "headers": {"X-Team": HEADER}, "cache": tmp_path / "answers"}
    with chatting(server.url, **options) as chat:
        chat.ask("hello")
    for file in tmp_path.iterdir():
        assert_hidden(file.read_bytes())
