"""The connection pool: TLS is verified, proxies are used, redirects are not followed, idle connections are closed."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import httpx
import pytest
from chat import chatting, echo
from loopback import Loopback, Response

from rerank import ProviderError
from rerank_http.transport import Lanes


def test_tls_is_verified(certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    server = Loopback(echo, context)
    try:
        with chatting(server.url) as chat, pytest.raises(ProviderError, match=r"untrusted.*ca_file"):
            chat.ask("hello")
        assert server.count == 0
        with chatting(server.url, ca_file=certificate) as chat:
            assert chat.ask("hello")[0] == ["hello"]
    finally:
        server.close()


def test_a_proxy_is_used(server: Loopback) -> None:
    with chatting("http://nowhere.invalid/v1", proxy=server.url) as chat:
        assert chat.ask("hello")[0] == ["hello"]
    assert server.hits[0].path == "http://nowhere.invalid/v1"


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
def test_the_environments_proxy_is_used(server: Loopback, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, server.url.replace("//", "//user:password@"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,other.invalid")
    with chatting("http://nowhere.invalid") as chat:
        assert chat.ask("hello")[0] == ["hello"]
    assert server.hits[-1].headers["proxy-authorization"].startswith("Basic ")
    monkeypatch.setenv("NO_PROXY", "nowhere.invalid")
    with (
        chatting("http://nowhere.invalid", max_retries=0) as chat,
        pytest.raises(ProviderError, match="could not be reached"),
    ):
        chat.ask("hello")


def test_a_redirect_is_not_followed_with_the_key(server: Loopback) -> None:
    other = Loopback(echo)
    try:
        server.script([Response({}, 307, {"location": other.url})])
        with chatting(server.url) as chat, pytest.raises(ProviderError, match="redirects are not followed"):
            chat.ask("hello")
        assert other.count == 0
    finally:
        other.close()


def test_idle_connections_are_closed_while_others_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[httpx.Response] = []

    class Lane(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, stream=httpx.ByteStream(b""))

        async def aclose(self) -> None:
            if not taken:  # another call takes the connection just given back
                taken.append(await lanes.handle_async_request(httpx.Request("POST", "http://h")))

    async def used() -> None:
        monkeypatch.setattr("rerank_http.transport._IDLE", 0.05)
        first, second = [await lanes.handle_async_request(httpx.Request("POST", "http://h")) for _ in range(2)]
        await second.aclose()
        await asyncio.sleep(0.1)
        await first.aclose()

    lanes = Lanes(Lane)
    asyncio.run(used())
    assert len(taken) == 1
