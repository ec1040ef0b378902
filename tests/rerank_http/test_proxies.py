"""Which proxy the environment sets, and which addresses it excludes: all that curl, requests or httpx would."""

from __future__ import annotations

import pytest

from rerank import InvalidOptionsError
from rerank_http import HttpOptions
from rerank_http.proxies import is_excluded, proxy_of_environment
from rerank_http.transport import open_pool


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("no_proxy", "url", "excluded"),
    [
        ("127.0.0.1", "http://127.0.0.1:7997", True),
        ("127.0.0.0/8", "http://127.0.0.1:7997", True),
        ("127.0.0.1/32", "http://127.0.0.1:7997", True),
        ("10.0.0.0/8", "http://127.0.0.1:7997", False),
        ("10.0.0.0/8,127.0.0.0/8", "http://127.0.0.1:7997", True),
        ("127.0.0.1:7997", "http://127.0.0.1:7997", True),
        ("127.0.0.1:7998", "http://127.0.0.1:7997", False),
        ("localhost:7997", "http://localhost:7997", True),
        ("example.com:443", "https://api.example.com/v1", True),
        ("example.com:443", "http://api.example.com/v1", False),
        ("https://example.com", "https://example.com", True),
        ("https://example.com", "http://example.com", False),
        ("all://example.com", "http://example.com", True),
        ("example.com", "https://api.example.com", True),
        (".example.com", "https://api.example.com", True),
        ("*.example.com", "https://api.example.com", True),
        ("example.com", "https://badexample.com", False),
        ("example.com", "https://example.com.evil.org", False),
        ("EXAMPLE.com", "https://Example.COM", True),
        ("example.com.", "https://example.com", True),
        (" foo , localhost ", "http://localhost", True),
        ("foo localhost", "http://localhost", True),
        ("*", "http://anything", True),
        ("::1", "http://[::1]:8080", True),
        ("[::1]:8080", "http://[::1]:8080", True),
        ("[::1]:8081", "http://[::1]:8080", False),
        ("fe80::/10", "http://[fe80::1]", True),
        ("fe80::/10", "http://127.0.0.1", False),
        ("", "http://localhost", False),
        (",,", "http://localhost", False),
    ],
)
def test_what_no_proxy_excludes(monkeypatch: pytest.MonkeyPatch, no_proxy: str, url: str, excluded: bool) -> None:
    assert is_excluded(url, no_proxy) is excluded
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    variable = "HTTP_PROXY" if url.startswith("http:") else "HTTPS_PROXY"
    assert proxy_of_environment(url) == (None if excluded else ("http://proxy.example:3128", variable))


def test_all_proxy_and_proxies_without_a_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "proxy.example:3128")
    assert proxy_of_environment("https://h.example") == ("http://proxy.example:3128", "ALL_PROXY")
    monkeypatch.setenv("https_proxy", "http://other.example")
    assert proxy_of_environment("https://h.example") == ("http://other.example", "https_proxy")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("ALL_PROXY", "socks5://proxy.example:1080", "names a SOCKS proxy, which needs socksio: pip install 'httpx"),
        ("HTTPS_PROXY", "http://user:PASSWORD@proxy.example:port", "is not the address of a proxy"),
        ("HTTPS_PROXY", "http://user:PASSWORD@127.0.0.1:99999", "is not the address of a proxy"),
        ("https_proxy", "http://user:PASSWORD@[::1", "is not the address of a proxy"),
        ("HTTPS_PROXY", "http://", "is not the address of a proxy"),
        ("ALL_PROXY", "ftp://127.0.0.1:1", "is not the address of a proxy"),
        ("ALL_PROXY", "http://☃:1", "is not the address of a proxy"),
    ],
)
def test_a_proxy_that_cannot_be_used_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setattr("rerank_http.transport.find_spec", lambda name: None)
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidOptionsError, match=message) as caught:
        open_pool(HttpOptions(), "https://h.example")
    assert variable in str(caught.value)
    assert "PASSWORD" not in str(caught.value)
