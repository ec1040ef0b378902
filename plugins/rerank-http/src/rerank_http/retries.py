"""When to try again, how long to wait first, and when to stop: one policy for every service."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Final

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, stop_any, stop_before_delay
from tenacity.stop import stop_base

from rerank_http.failures import AttemptError, Failure
from rerank_http.options import HttpOptions

logger = logging.getLogger(__name__)

_RESERVE: Final = 20.0
"""Retries beyond the budget's ratio, so that a single caller can get through a short fault."""


class RetryBudget(stop_base):
    """Tokens that requests earn and retries spend: in an outage, retries are a fraction of the requests.

    It must be the last of tenacity's ``stop`` conditions: if it does not stop, it has spent a token.

    Args:
        ratio: Tokens that each request earns; a retry costs one.
    """

    def __init__(self, ratio: float) -> None:
        self._ratio = ratio
        self.tokens = _RESERVE

    def earn(self) -> None:
        """Count the first attempt of a request."""
        self.tokens = min(_RESERVE, self.tokens + self._ratio)

    def __call__(self, retry_state: RetryCallState) -> bool:
        """Whether no retry is left; if one is, it is spent."""
        if self.tokens < 1:
            return True
        self.tokens -= 1
        return False


def retrying(options: HttpOptions, budget: RetryBudget, seconds_left: float) -> AsyncRetrying:
    """Tenacity's loop for one request.

    Args:
        options: ``max_retries``, ``backoff`` and ``max_backoff`` are read.
        budget: Shared by all requests of a reranker.
        seconds_left: Until the deadline; a retry that could only start later is not made.
    """

    def wait(state: RetryCallState) -> float:
        doubled = options.backoff * 2.0 ** min(state.attempt_number - 1, 30)
        jitter = random.uniform(0, min(options.max_backoff, doubled))  # noqa: S311 (spreads load, hides nothing)
        asked = _failure(state).wait
        return jitter if asked is None else asked + min(jitter, options.backoff)

    return AsyncRetrying(
        retry=retry_if_exception(lambda error: isinstance(error, AttemptError) and error.failure.transient),
        wait=wait,
        stop=stop_any(stop_after_attempt(options.max_retries + 1), stop_before_delay(max(0.0, seconds_left)), budget),
        before_sleep=_log,
        sleep=asyncio.sleep,
        reraise=True,
    )


def _failure(state: RetryCallState) -> Failure:
    error = state.outcome.exception() if state.outcome is not None else None
    assert isinstance(error, AttemptError)
    return error.failure


def _log(state: RetryCallState) -> None:
    logger.info(
        "attempt %d %s; trying again in %.2f s", state.attempt_number, _failure(state).what, state.upcoming_sleep
    )
