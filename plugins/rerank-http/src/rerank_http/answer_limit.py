"""Bounds on what a service may answer: a kilobyte of gzip can hold a megabyte, and ten thousand brackets."""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import Any, Final, cast

import httpx

ENCODINGS: Final = "gzip, deflate"
"""What answers may be packed with, once: what `unpacked` can break off."""

_ERROR_BYTES: Final = 2**20
"""How much is read of an error's body; its message stands at the start."""
_LEAST: Final = 4 * 2**20
_MOST: Final = 64 * 2**20
_EACH: Final = 8
"""Bytes of an answer per byte of the request: services may send the documents back, with every letter as an escape."""
_STEP: Final = 2**16
_BY_ITS_HEADER: Final = 32 + zlib.MAX_WBITS
"""For zlib: gzip or zlib's own format."""


class AnswerTooLargeError(httpx.HTTPError):
    """A service's answer is larger than it may be."""


class AnswerTooDeepError(httpx.HTTPError):
    """A service's answer is nested deeper than it may be."""


def is_deeper(body: Any, most: int) -> bool:
    """Whether JSON has more than so many lists and objects in each other."""
    level = [body]
    for _ in range(most + 1):
        level = [one for one in level if isinstance(one, (dict, list))]
        if not level:
            return False
        level = [part for one in level for part in (one.values() if isinstance(one, dict) else one)]
    return True


def most_bytes_for(request: httpx.Request) -> int:
    """How large an answer may be if the user sets no limit: in proportion to the request."""
    return min(_MOST, _LEAST + _EACH * int(request.headers.get("content-length", 0)))


class BoundedBody(httpx.AsyncByteStream):
    """A response's body, unpacked, which breaks off where it becomes too large: an error's is cut there.

    Args:
        response: The response as it came.
        most: At most this many bytes, unpacked.
        close: Called once the body is closed.
    """

    def __init__(self, response: httpx.Response, most: int, close: Callable[[], Awaitable[None]]) -> None:
        self._response, self._close = response, close
        self._cut = response.status_code >= 300
        self._most = min(most, _ERROR_BYTES) if self._cut else most

    async def __aiter__(self) -> AsyncIterator[bytes]:
        unpack = unpacker(self._response.headers.get("content-encoding", ""))
        size = 0
        packed = cast(AsyncGenerator[bytes, None], self._response.aiter_raw())
        async with aclosing(packed):
            async for data in packed:
                for part in unpack(data):
                    size += len(part)
                    if size <= self._most:
                        yield part
                    elif self._cut:
                        yield part[: self._most - size]
                        return
                    else:
                        raise AnswerTooLargeError(f"an answer of more than {self._most:,} bytes")

    async def aclose(self) -> None:
        try:
            await self._response.aclose()
        finally:
            await self._close()


def unpacker(encoding: str) -> Callable[[bytes], Iterator[bytes]]:
    """What unpacks a body's parts in order, each in small pieces, so that hardly more than what is wanted is unpacked.

    Args:
        encoding: The ``Content-Encoding``.

    Raises:
        httpx.DecodingError: It is not one of `ENCODINGS`, or more than one.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return lambda data: iter([data])
    if name not in ("gzip", "x-gzip", "deflate"):
        raise httpx.DecodingError(f"its encoding is {encoding[:80]!r}, not one of {ENCODINGS}")
    unpacking = None

    def unpack(data: bytes) -> Iterator[bytes]:
        nonlocal unpacking
        if unpacking is None:
            bare = name == "deflate" and data[0] & 15 != 8  # some servers leave zlib's header out
            unpacking = zlib.decompressobj(-zlib.MAX_WBITS if bare else _BY_ITS_HEADER)
        full = True
        while (data or full) and not unpacking.eof:
            try:
                part = unpacking.decompress(data, _STEP)
            except zlib.error as error:
                raise httpx.DecodingError(str(error)) from error
            data, full = unpacking.unconsumed_tail, len(part) == _STEP
            yield part

    return unpack
