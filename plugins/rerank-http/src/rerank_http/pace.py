"""The client's own limit of requests and tokens per minute, evenly spread."""

from __future__ import annotations

import time

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


def estimate_tokens(text: str) -> float:
    """Tokens of a text: about one per four bytes of UTF-8."""
    return len(text.encode()) / 4


def share(tokens: float, options: HttpOptions) -> float:
    """How much of what may wait at once a request takes up, where requests are sent ahead of their need.

    One in all is as many as may be under way at once, or as can have their turn within half of the deadline.

    Args:
        tokens: The request's size, as `estimate_tokens` counts.
        options: How much may be under way at once, and pass per minute.
    """
    turns = options.deadline / 120  # minutes in half of it
    shares = [1 / options.max_concurrency]
    if options.requests_per_minute is not None:
        shares.append(1 / (options.requests_per_minute * turns))
    if options.tokens_per_minute is not None:
        shares.append(tokens / (options.tokens_per_minute * turns))
    return max(shares)
