"""The options of every service: what can be sent is taken, and what cannot is refused with its reason."""

from __future__ import annotations

from typing import Any

import pytest

from rerank import InvalidOptionsError
from rerank.options import parse_options
from rerank_http import HttpOptions


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"url": "localhost:8080"}, "http://"),
        ({"url": "http://me:secret@host"}, "would show in logs"),
        ({"base_url": "ftp://host"}, "http://"),
        ({"proxy": "http://me:secret@host"}, "HTTPS_PROXY"),
        ({"url": "http://a", "base_url": "http://b"}, "differ"),
        ({"headers": {"X": "a\nb"}}, "a header cannot contain"),
        ({"headers": {"X": " secret"}}, "white space"),
        ({"headers": {"X Y": "a"}}, "not a valid header name"),
        ({"headers": {"Content-Length": "3"}}, "belongs to each request's own body"),
        ({"api_key": "bad\nkey"}, "a header cannot contain"),
        ({"deadline": 0}, "greater than 0"),
        ({"max_concurrency": 0}, "greater than or equal to 1"),
        ({"max_retries": -1}, "greater than or equal to 0"),
        ({"cache_max_bytes": 1}, "greater than or equal to 65536"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidOptionsError, match=reason) as caught:
        parse_options(HttpOptions, options, "acme")
    assert "secret" not in str(caught.value)


def test_either_name_gives_the_address() -> None:
    assert HttpOptions(url="http://h").address == HttpOptions(base_url="http://h").address == "http://h"
    assert HttpOptions(url="http://h", base_url="http://h").address == "http://h"
    assert HttpOptions().address is None


def test_an_empty_key_is_none() -> None:
    assert HttpOptions(api_key="").api_key is None


@pytest.mark.parametrize(
    "url",
    [
        "http://h.example:99999",
        "http://h.example:PASSWORD",
        "http://user:PASSWORD@h.example:port",
        "http://h.example:0",
        "http://h.example/\0",
        "http://h .example",
        "http://h.example/a b",
        "http://[::1",
        "h.example",
        "ftp://h.example",
        "http://",
    ],
)
@pytest.mark.parametrize("name", ["url", "base_url", "proxy"])
def test_an_address_that_is_none_is_refused_at_once(name, url):
    with pytest.raises(InvalidOptionsError, match="an address must") as caught:
        parse_options(HttpOptions, {name: url}, "acme")
    assert "PASSWORD" not in str(caught.value)
