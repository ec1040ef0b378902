"""The connection pool, and JSON over it."""

from __future__ import annotations

import os
import ssl
import time
from collections import deque
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from rerank import InvalidOptionsError, shown_address
from rerank_http.answer_limit import ENCODINGS, BoundedBody, most_bytes_for
from rerank_http.options import HttpOptions
from rerank_http.proxies import Proxy, ProxyFailedError, proxy_of_environment

_IDLE: Final = 30.0
"""Seconds that an idle connection is kept."""


class Lanes(httpx.AsyncBaseTransport):
    """Connections, of which the most recently used is taken first, and idle ones are closed.

    Each is a pool of one. httpcore's own pool compares all its connections with each other at every request, which with
    64 of them takes ten times as long as the request. The limit on simultaneous requests also bounds the connections.

    Args:
        open_lane: Creates a transport for one connection.
        max_answer_bytes: At most this many bytes of an unpacked answer; None means in proportion to the request.
        max_answer_depth: How deep an answer may be nested; `rerank_http.wire.as_reply` reads it off the response.
        proxy: What the connections go through, for errors; None if nothing.
    """

    def __init__(
        self,
        open_lane: Callable[[], httpx.AsyncBaseTransport],
        max_answer_bytes: int | None,
        max_answer_depth: int,
        proxy: Proxy | None = None,
    ) -> None:
        self._open_lane, self._proxy = open_lane, proxy
        self._max_answer_bytes, self._max_answer_depth = max_answer_bytes, max_answer_depth
        self._free = deque([(time.monotonic(), open_lane())])

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send through a free connection, or a new one; it is free again once the response is closed."""
        lane = self._free.pop()[1] if self._free else self._open_lane()
        try:
            response = await lane.handle_async_request(request)
        except BaseException as error:
            self._free.append((time.monotonic(), lane))
            if self._proxy is not None and isinstance(error, Exception):  # socksio has errors of its own
                raise ProxyFailedError(self._proxy, error) from error
            raise

        async def give_back() -> None:
            now = time.monotonic()
            self._free.append((now, lane))
            while self._free and now - self._free[0][0] > _IDLE:  # others take from it while one is closed
                await self._free.popleft()[1].aclose()

        headers = httpx.Headers(response.headers)
        headers.pop("content-encoding", None)  # the body is passed on unpacked
        headers.pop("content-length", None)
        location = headers.pop("location", None)  # httpx parses it, although redirects are not followed
        return httpx.Response(
            status_code=response.status_code,
            headers=headers,
            stream=BoundedBody(response, self._max_answer_bytes or most_bytes_for(request), give_back),
            extensions={**response.extensions, "location": location, "max_depth": self._max_answer_depth},
        )

    async def aclose(self) -> None:
        """Close every connection; none may be in use."""
        while self._free:
            await self._free.pop()[1].aclose()


def open_pool(options: HttpOptions, url: str) -> httpx.AsyncClient:
    """A client for one service, with the user's timeouts, proxy and certificates.

    TLS is always verified, and redirects are not followed: they would carry the key elsewhere.

    Args:
        options: The construction's options.
        url: The service's address, for which the environment may set a proxy.

    Raises:
        InvalidOptionsError: The address has no host that can be looked up, ``ca_file`` or the environment's certificates
            cannot be read, or a proxy cannot be used.
    """
    _check_address(url)
    timeout = httpx.Timeout(options.read_timeout, connect=options.connect_timeout, pool=None)
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=_IDLE)
    certificates = _certificates(options)
    proxy = proxy_for(options, url)
    way = None if proxy is None else proxy.address

    async def keep_timeouts(request: httpx.Request) -> None:
        request.extensions["timeout"] = timeout.as_dict()  # an SDK would set its own

    return httpx.AsyncClient(
        timeout=timeout,
        headers={"Accept-Encoding": ENCODINGS},
        transport=Lanes(
            lambda: httpx.AsyncHTTPTransport(verify=certificates, proxy=way, limits=limits),
            options.max_answer_bytes,
            options.max_answer_depth,
            proxy,
        ),
        event_hooks={"request": [keep_timeouts]},
    )


def _check_address(url: str) -> None:
    """Refuse an address that httpx or the look-up of its host cannot take.

    Raises:
        InvalidOptionsError: It is one.
    """
    try:
        address = httpx.URL(url)
        _ = address.host  # decoded, as httpx does at every request
        address.raw_host.decode().encode("idna")
    except (ValueError, httpx.InvalidURL) as error:
        raise InvalidOptionsError(
            f"url {shown_address(url)[:200]!r} cannot be asked ({error}): give an address such as http://localhost:8080"
        ) from error


def _certificates(options: HttpOptions) -> ssl.SSLContext:
    if options.ca_file is None:
        return _usual_certificates()
    try:
        return ssl.create_default_context(cafile=str(options.ca_file.expanduser()))
    except (OSError, ssl.SSLError, ValueError, RuntimeError) as error:  # a NUL, or the home of nobody
        raise InvalidOptionsError(
            f"ca_file {options.ca_file} cannot be read ({error}): give a file of PEM certificates"
        ) from error


@cache
def _usual_certificates() -> ssl.SSLContext:
    """The default certificates, read once per process: that takes longer than a request.

    Raises:
        InvalidOptionsError: ``SSL_CERT_FILE`` or ``SSL_CERT_DIR`` names what cannot be read.
    """
    named = {name: os.environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)}
    for name, path in named.items():
        if not Path(path).exists():  # some releases of httpx pass it over
            raise InvalidOptionsError(f"{name} is {path!r}, which does not exist: correct it, or unset it")
    try:
        return httpx.create_ssl_context()
    except (OSError, ssl.SSLError) as error:
        raise InvalidOptionsError(
            f"{', '.join(named) or 'the usual certificates'} cannot be read ({error}): correct SSL_CERT_FILE, or unset it"
        ) from error


def proxy_for(options: HttpOptions, url: str) -> Proxy | None:
    """The proxy that requests to an address go through: the user's, else the environment's.

    Raises:
        InvalidOptionsError: It cannot be used.
    """
    proxy = Proxy(options.proxy, "proxy=") if options.proxy else proxy_of_environment(url)
    if proxy is not None:
        _check_proxy(proxy)
    return proxy


def _check_proxy(proxy: Proxy) -> None:
    """Refuse a proxy that httpx cannot use.

    Raises:
        InvalidOptionsError: It is no address, or a SOCKS proxy without the package that speaks SOCKS.
    """
    try:
        scheme, port = urlsplit(proxy.address).scheme, urlsplit(proxy.address).port
        is_one = port != 0 and bool(httpx.Proxy(proxy.address).url.host)
    except (ValueError, httpx.InvalidURL):  # its message may show a password
        is_one = False
    if not is_one:
        raise InvalidOptionsError(
            f"{proxy.origin} is not the address of a proxy, such as http://proxy.example:3128: correct it, or unset it"
        )
    if scheme.startswith("socks") and find_spec("socksio") is None:
        raise InvalidOptionsError(
            f"{proxy.origin} names a SOCKS proxy, which needs socksio: pip install 'httpx[socks]', or unset it"
        )
