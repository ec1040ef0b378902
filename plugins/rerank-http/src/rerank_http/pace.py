"""The client's own limits: simultaneous requests, and requests and tokens per minute, evenly spread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rerank_http.options import HttpOptions


class Pace:
    """Lets amounts through at a steady rate.

    Args:
        per_minute: How much may pass per minute; None lets everything through.
    """

    def __init__(self, per_minute: float | None) -> None:
        self._seconds_each = 0.0 if per_minute is None else 60.0 / per_minute
        self._free_at = 0.0

    def wait(self) -> float:
        """Seconds until the next amount may pass."""
        return max(0.0, self._free_at - time.monotonic())

    def take(self, amount: float) -> None:
        """Count an amount as passed; a negative one gives back what was estimated too high."""
        self._free_at = max(self._free_at, time.monotonic()) + amount * self._seconds_each


class LateTurnError(Exception):
    """A turn comes only after the deadline.

    Args:
        seconds: The wait until the turn.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"its turn comes in {seconds:.1f} s under the limit per minute")


class Turns:
    """Whose turn it is to send: first come, first served.

    Args:
        options: ``max_concurrency``, ``requests_per_minute`` and ``tokens_per_minute`` are read.
    """

    def __init__(self, options: HttpOptions) -> None:
        self._queue = asyncio.Lock()
        self._requests, self._tokens = Pace(options.requests_per_minute), Pace(options.tokens_per_minute)
        self._places = asyncio.Semaphore(options.max_concurrency)

    @asynccontextmanager
    async def turn(self, tokens: float, ends: float) -> AsyncIterator[None]:
        """Wait for a turn, and keep a place while the request runs.

        Args:
            tokens: The request's size, as `estimate_tokens` counts it.
            ends: The deadline, by the monotonic clock.

        Raises:
            LateTurnError: The turn comes after the deadline.
        """
        async with self._queue:
            wait = max(self._requests.wait(), self._tokens.wait())
            if wait >= ends - time.monotonic():
                raise LateTurnError(wait)
            if wait > 0:
                await asyncio.sleep(wait)
            self._requests.take(1)
            self._tokens.take(tokens)
        async with self._places:
            yield

    def correct(self, tokens: float) -> None:
        """Count tokens that a request had beyond its estimate; negative if it had fewer."""
        self._tokens.take(tokens)


def estimate_tokens(text: str) -> float:
    """Tokens of a text: about one per four bytes of UTF-8."""
    return len(text.encode()) / 4


def share(tokens: float, options: HttpOptions) -> float:
    """The share of a full queue that a request takes up, for callers that send requests ahead.

    A full queue has as many requests as may run at once, or as get their turn within half of the deadline.

    Args:
        tokens: The request's size, as `estimate_tokens` counts it.
        options: ``deadline``, ``max_concurrency``, ``requests_per_minute`` and ``tokens_per_minute`` are read.
    """
    turns = options.deadline / 120  # half of it, in minutes
    shares = [1 / options.max_concurrency]
    if options.requests_per_minute is not None:
        shares.append(1 / (options.requests_per_minute * turns))
    if options.tokens_per_minute is not None:
        shares.append(tokens / (options.tokens_per_minute * turns))
    return max(shares)
