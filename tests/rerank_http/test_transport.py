"""The connection pool: TLS is verified, proxies are used, redirects are not followed, idle connections are closed."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
import socketserver
import ssl
import threading
import time
import tracemalloc
import zlib
from pathlib import Path

import httpx
import pytest
from chat import chatting, echo
from loopback import Hit, Loopback, Response

from rerank import InvalidOptionsError, ProviderError, ProviderTimeoutError
from rerank_http import HttpOptions
from rerank_http.answer_limit import unpacker
from rerank_http.transport import Lanes, _usual_certificates, open_pool


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

    lanes = Lanes(Lane, max_answer_bytes=1000, max_answer_depth=100)
    asyncio.run(used())
    assert len(taken) == 1


@pytest.mark.parametrize("packed", [False, True])
def test_an_answer_is_bounded_after_decoding(server: Loopback, packed: bool) -> None:
    body = b" " * (1 << 24)
    headers = {"content-encoding": "gzip"} if packed else {}
    server.script([Response(gzip.compress(body) if packed else body, 200, headers)])
    with (
        chatting(server.url, max_answer_bytes=1 << 20, max_retries=0) as chat,
        pytest.raises(ProviderError, match=r"sent an answer of more than 1,048,576 bytes: raise max_answer_bytes="),
    ):
        chat.ask("hello")


def test_a_packed_answer_within_the_bound_is_read(server: Loopback) -> None:
    def packed(hit: Hit) -> Response:
        return Response(gzip.compress(json.dumps(echo(hit).body).encode()), 200, {"content-encoding": "gzip"})

    server.handler = packed
    with chatting(server.url) as chat:
        assert chat.ask("hello")[0] == ["hello"]


def test_an_answer_is_bounded_in_proportion_to_the_request(server: Loopback) -> None:
    server.handler = lambda hit: Response(b'{"echo": [' + b"{}," * (2 << 20) + b"{}]}")
    with chatting(server.url) as chat, pytest.raises(ProviderError, match=r"sent an answer of more than 4,194,4\d\d"):
        chat.ask("hello")
    server.handler = echo
    with chatting(server.url) as chat:
        assert chat.ask("x" * (6 << 20))[0] == ["x" * (6 << 20)]


@pytest.mark.parametrize("encoding", ["", "gzip", "deflate"])
def test_the_start_of_an_error_is_read(server: Loopback, encoding: str) -> None:
    body = b'{"message": "' + b"no " * (1 << 24) + b'"}'
    pack = {"": bytes, "gzip": gzip.compress, "deflate": zlib.compress}[encoding]
    server.script([Response(pack(body), 500, {"content-encoding": encoding} if encoding else {})])
    with (
        chatting(server.url, max_retries=0) as chat,
        pytest.raises(ProviderError, match=r'answered 500 .*"message": "no') as caught,
    ):
        chat.ask("hello")
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("encoding", ["gzip,gzip", "deflate, deflate", "gzip, identity, gzip", "br", "zstd", "foo"])
def test_an_encoding_that_was_not_asked_for_is_refused(server: Loopback, encoding: str, status: int) -> None:
    server.script([Response(b"whatever", status, {"content-encoding": encoding})])
    with chatting(server.url) as chat, pytest.raises(ProviderError, match=f"its encoding is '{encoding}', not one of"):
        chat.ask("hello")
    assert [hit.headers["accept-encoding"] for hit in server.hits] == ["gzip, deflate"]


def test_little_more_is_unpacked_than_is_read() -> None:
    packed = gzip.compress(gzip.compress(b"0" * (1 << 28), 9), 9)
    assert next(unpacker("gzip")(packed)) == gzip.decompress(packed)[: 1 << 16]
    tracemalloc.start()
    parts = unpacker("gzip")(gzip.decompress(packed))
    assert sum(len(next(parts)) for _ in range(100)) == 100 << 16
    assert tracemalloc.get_traced_memory()[1] < 1 << 22
    tracemalloc.stop()


@pytest.mark.parametrize("size", [1, 65_535, 65_536, 65_537, 1_000_000])
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_every_part_is_unpacked_whole(size: int, step: int) -> None:
    body = (b"0123456789" * (1 + size // 10))[:size]
    bare = zlib.compressobj(wbits=-15)
    for encoding, packed in {
        "gzip": gzip.compress(body),
        "deflate": zlib.compress(body),
        "Deflate": bare.compress(body) + bare.flush(),
        "identity": body[:1000],
    }.items():
        unpack = unpacker(encoding)
        parts = [packed[start : start + step] for start in range(0, len(packed), step)]
        assert (
            b"".join(piece for part in parts for piece in unpack(part))
            == body[: 1000 if encoding == "identity" else size]
        )


@pytest.mark.parametrize(
    ("body", "said"),
    [(b"[" * 200_000, "max_answer_depth"), (b'{"a": ' + b"9" * 5000 + b"}", "instead of JSON")],
    ids=["deep", "long"],
)
def test_json_that_cannot_be_read_is_an_error(server: Loopback, body: bytes, said: str) -> None:
    server.script([Response(body)])
    with chatting(server.url) as chat, pytest.raises(ProviderError, match=said):
        chat.ask("hello")


def test_a_dead_proxy_is_called_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://user:PASSWORD@127.0.0.1:9")
    with (
        chatting("http://h.example", max_retries=0) as chat,
        pytest.raises(
            ProviderError, match=r"through the proxy .*127\.0\.0\.1:9.*: check the proxy that HTTP_PROXY names, or"
        ) as caught,
    ):
        chat.ask("hello")
    assert "PASSWORD" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "answer"),
    [
        *(
            (f"{scheme}://h.invalid", answer)
            for scheme in ("http", "https")
            for answer in (b"", b"SSH-2.0-x\r\n", None)
        ),
        ("https://h.invalid", b"HTTP/1.1 502 Bad\r\nContent-Length: 0\r\n\r\n"),
        ("https://h.invalid", b"HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n"),
    ],
)
def test_a_broken_proxy_is_not_called_the_service(
    monkeypatch: pytest.MonkeyPatch, url: str, answer: bytes | None
) -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), proxying(answer)) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        variable = f"{url.partition(':')[0].upper()}_PROXY"
        monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.server_address[1]}")
        kind = ProviderTimeoutError if answer is None else ProviderError
        with (
            chatting(url, max_retries=0, read_timeout=0.3) as chat,
            pytest.raises(kind, match=f"through the proxy .*: check the proxy that {variable} names, or name the host"),
        ):
            chat.ask("hello")
        proxy.shutdown()


def test_a_proxy_that_hangs_until_the_deadline_is_named(server: Loopback) -> None:
    server.script([Response({}, delay=30)])
    with (
        chatting("http://h.invalid", proxy=server.url, deadline=0.3) as chat,
        pytest.raises(
            ProviderTimeoutError, match="gave no answer through the proxy that proxy= names within the deadline"
        ),
    ):
        chat.ask("hello")


def proxying(answer: bytes | None) -> type[socketserver.BaseRequestHandler]:
    """A proxy that gives this answer, whatever it is asked; None hangs."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65_536)
            if answer is None:
                time.sleep(1)
            else:
                self.request.sendall(answer)

    return Handler


def test_an_error_of_socksio_is_the_proxys(monkeypatch: pytest.MonkeyPatch) -> None:
    class ProtocolError(Exception):
        """socksio's."""

    class Broken(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            raise ProtocolError("Malformed reply")

    monkeypatch.setattr("rerank_http.transport.find_spec", lambda name: True)
    monkeypatch.setattr(httpx, "AsyncHTTPTransport", lambda **options: Broken())
    monkeypatch.setenv("ALL_PROXY", "socks5://user:SECRET@127.0.0.1:9")
    with (
        chatting("http://h.example", max_retries=0) as chat,
        pytest.raises(
            ProviderError, match=r"socks5://127\.0\.0\.1:9: ProtocolError.* the proxy that ALL_PROXY names"
        ) as caught,
    ):
        chat.ask("hello")
    assert "SECRET" not in str(caught.value)


def test_a_stale_certificate_variable_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _usual_certificates.cache_clear()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
    with pytest.raises(InvalidOptionsError, match=r"SSL_CERT_FILE is '.*gone.pem', which does not exist"):
        open_pool(HttpOptions(), "https://h.example")


def test_a_home_in_ca_file_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, certificate: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    options = HttpOptions(ca_file=Path("~/ca.pem"))
    with pytest.raises(InvalidOptionsError, match="cannot be read"):
        open_pool(options, "https://h.example")
    shutil.copy(certificate, tmp_path / "ca.pem")
    open_pool(options, "https://h.example")
