"""The client's own limit of requests and tokens a minute, evenly spread."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rerank.protocols import Request
from rerank_api.options import ApiOptions


class Pace:
    """Lets amounts through at a steady rate.

    Args:
        per_minute: How much may pass a minute; None lets everything through.
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


def estimate_tokens(query: str, texts: Sequence[str]) -> float:
    """Tokens of a request: the query goes with every text, and a token is about four bytes of UTF-8."""
    of_query = len(query.encode())
    return sum(of_query + len(text.encode()) for text in texts) / 4


def share(request: Request, options: ApiOptions) -> float:
    """How much of what may wait at once a request takes up, where requests are sent ahead of their need.

    One in all is as many as may be under way at once, or as can have their turn within half of the deadline.
    """
    turns = options.deadline / 120  # minutes in half of it
    shares = [1 / options.max_concurrency]
    if options.requests_per_minute is not None:
        shares.append(1 / (options.requests_per_minute * turns))
    if options.tokens_per_minute is not None:
        tokens = estimate_tokens(request.query, [document.text for document in request.documents])
        shares.append(tokens / (options.tokens_per_minute * turns))
    return max(shares)
