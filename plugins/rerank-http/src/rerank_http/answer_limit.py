"""A bound on what a service may answer: a megabyte of gzip can hold a gigabyte."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import httpx


class AnswerTooLargeError(httpx.HTTPError):
    """A service's answer is larger than it may be."""


class BoundedBody(httpx.AsyncByteStream):
    """A response's body, decoded, which breaks off where it becomes too large.

    Args:
        response: The response as it came.
        most: At most this many bytes, after decoding.
        close: Called once the body is closed.
    """

    def __init__(self, response: httpx.Response, most: int, close: Callable[[], Awaitable[None]]) -> None:
        self._response, self._most, self._close = response, most, close

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for part in self._response.aiter_bytes():
            size += len(part)
            if size > self._most:
                raise AnswerTooLargeError(f"an answer of more than {self._most:,} bytes")
            yield part

    async def aclose(self) -> None:
        try:
            await self._response.aclose()
        finally:
            await self._close()
