"""The connection pool, and JSON over it."""

from __future__ import annotations

import ssl
import time
import urllib.request
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from typing import Final
from urllib.parse import urlsplit

import httpx

from rerank import InvalidOptionsError
from rerank_http.options import HttpOptions

_IDLE: Final = 30.0
"""Seconds that an idle connection is kept."""


class Lanes(httpx.AsyncBaseTransport):
    """Connections, of which the most recently used is taken first, and idle ones are closed.

    Each is a pool of one. httpcore's own pool compares all its connections with each other at every request, which with
    64 of them takes ten times as long as the request. The limit on simultaneous requests also bounds the connections.

    Args:
        open_lane: Creates a transport for one connection.
    """

    def __init__(self, open_lane: Callable[[], httpx.AsyncBaseTransport]) -> None:
        self._open_lane = open_lane
        self._free = deque([(time.monotonic(), open_lane())])

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send through a free connection, or a new one; it is free again once the response is closed."""
        lane = self._free.pop()[1] if self._free else self._open_lane()
        try:
            response = await lane.handle_async_request(request)
        except BaseException:
            self._free.append((time.monotonic(), lane))
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)

        async def give_back() -> None:
            now = time.monotonic()
            self._free.append((now, lane))
            while self._free and now - self._free[0][0] > _IDLE:  # others take from it while one is closed
                await self._free.popleft()[1].aclose()

        return httpx.Response(
            status_code=response.status_code,
            headers=response.headers,
            stream=_Lent(response.stream, give_back),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Close every connection; none may be in use."""
        while self._free:
            await self._free.pop()[1].aclose()


class _Lent(httpx.AsyncByteStream):
    """A response's body, which gives its connection back when it is closed."""

    def __init__(self, stream: httpx.AsyncByteStream, give_back: Callable[[], Awaitable[None]]) -> None:
        self._stream, self._give_back = stream, give_back

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            yield part

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            await self._give_back()


def open_pool(options: HttpOptions, url: str) -> httpx.AsyncClient:
    """A client for one service, with the user's timeouts, proxy and certificates.

    TLS is always verified, and redirects are not followed: they would carry the key elsewhere.

    Args:
        options: The construction's options.
        url: The service's address, for which the environment may set a proxy.

    Raises:
        InvalidOptionsError: ``ca_file`` cannot be read.
    """
    timeout = httpx.Timeout(options.read_timeout, connect=options.connect_timeout, pool=None)
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=_IDLE)
    certificates, proxy = _certificates(options), options.proxy or _proxy_of_environment(url)

    async def keep_timeouts(request: httpx.Request) -> None:
        request.extensions["timeout"] = timeout.as_dict()  # an SDK would set its own

    return httpx.AsyncClient(
        timeout=timeout,
        transport=Lanes(lambda: httpx.AsyncHTTPTransport(verify=certificates, proxy=proxy, limits=limits)),
        event_hooks={"request": [keep_timeouts]},
    )


def _certificates(options: HttpOptions) -> ssl.SSLContext:
    if options.ca_file is None:
        return _usual_certificates()
    try:
        return ssl.create_default_context(cafile=str(options.ca_file))
    except (OSError, ssl.SSLError) as error:
        raise InvalidOptionsError(
            f"ca_file {options.ca_file} cannot be read ({error}): give a file of PEM certificates"
        ) from error


@cache
def _usual_certificates() -> ssl.SSLContext:
    """The default certificates, read once per process: that takes longer than a request."""
    return httpx.create_ssl_context()


def _proxy_of_environment(url: str) -> str | None:
    """The proxy that ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` set for an address."""
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    found = proxies.get(parts.scheme) or proxies.get("all")
    return f"http://{found}" if found and "://" not in found else found
