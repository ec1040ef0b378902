"""Requests to one service: pace → turn → attempt → retry → failure, within a call's deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import httpx

from rerank import ProviderError, ProviderTimeoutError
from rerank_http.cache import ResponseCache
from rerank_http.failures import AttemptError, Failure, of_answer, of_exception, of_reply
from rerank_http.options import HttpOptions
from rerank_http.pace import LateTurnError, Turns
from rerank_http.retries import RetryBudget, retrying
from rerank_http.transport import open_pool, proxy_for
from rerank_http.wire import Reply, Sender, bearer, merge_headers, post_json

T = TypeVar("T")

_CANCELLATIONS: Final = 5
"""How often a task is cancelled, with a second in between, before closing goes on without it."""


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All results in order; the first failure cancels the rest."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(slots=True, kw_only=True)
class Tally:
    """What one call cost, summed over its requests.

    Args:
        requests: Attempts made.
        retries: Attempts after a request's first.
        cached: Requests answered by the cache.
        usage: What the service bills, by name.
        last: How the latest attempt failed; None if it did not.
    """

    requests: int = 0
    retries: int = 0
    cached: int = 0
    usage: dict[str, float] = field(default_factory=dict)
    last: Failure | None = None


class Call:
    """One call: its options, its deadline and what it cost.

    Args:
        options: The call's options; their deadline starts now.
        tally: Counts what it costs; None starts at zero.

    Attributes:
        ends: The deadline, by the monotonic clock.
    """

    def __init__(self, options: HttpOptions, tally: Tally | None = None) -> None:
        self.options = options
        self.tally = Tally() if tally is None else tally
        self.ends = time.monotonic() + options.deadline

    @property
    def seconds_left(self) -> float:
        """Seconds until the deadline; negative after it."""
        return self.ends - time.monotonic()


class Caller:
    """A service with everything that its requests share. Its coroutines all run on one event loop.

    Every request belongs to a `Call`: `within_deadline` runs the call's work, and each `ask` in it is one request.

    Args:
        name: The service's name in errors.
        url: Where its requests go.
        options: The options given at construction.
        key: The key, or None.
        authorize: The headers that carry the key.
        headers: Sent with every request besides the key's; the user's own replace both.
        expected: What should answer at the address, such as ``a rerank service``.
        key_hint: How to set a key, such as ``set COHERE_API_KEY or pass api_key=``.

    Attributes:
        name: The service's name in errors.
        url: Where its requests go.
        cache: What it answered before.
        client: The connection pool, with the user's timeouts, proxy and certificates.
        headers: Sent with every request, with lower-case names.
        secrets: What no message shows; add those that are fetched later.

    Raises:
        InvalidOptionsError: The cache or ``ca_file`` cannot be used.
    """

    def __init__(
        self,
        name: str,
        url: str,
        options: HttpOptions,
        *,
        key: str | None = None,
        authorize: Callable[[str], Mapping[str, str]] = bearer,
        headers: Mapping[str, str] | None = None,
        expected: str = "the service",
        key_hint: str = "pass api_key=",
    ) -> None:
        self.name, self.url = name, url
        self._expected, self._key_hint = expected, key_hint
        own = {name: value.get_secret_value() for name, value in options.headers.items()}
        self.secrets = options.secrets
        self.secrets.add_header(key or "")
        self.secrets.add_address(url)
        named = merge_headers(headers or {}, own)
        self.cache = ResponseCache(options, url, named)
        self.headers = merge_headers({} if key is None else authorize(key), named)
        self.client = open_pool(options, url)
        self._proxy = proxy_for(options, url)
        if self._proxy is not None:
            self.secrets.add_address(self._proxy.address)
        self._post = post_json(self.client, url, self.headers)
        self._turns = Turns(options)
        self._budget = RetryBudget(options.retry_budget)
        self._under_way: set[asyncio.Task[Any]] = set()
        self._closing = False

    async def within_deadline(self, work: Coroutine[Any, Any, T], call: Call) -> T:
        """Run a call's work and return its result. What it raises shows no secret and carries no request.

        Raises:
            ProviderError: The caller was closed in the meantime.
            ProviderTimeoutError: The deadline passed.
        """
        self.secrets.add_body(getattr(call.options, "extra_body", {}))
        try:
            return await self._within_deadline(work, call)
        except Exception as error:
            self.secrets.scrub(error)
            raise

    async def _within_deadline(self, work: Coroutine[Any, Any, T], call: Call) -> T:
        try:
            return await asyncio.wait_for(self.start(work), call.seconds_left)
        except asyncio.TimeoutError:
            raise self._too_late(call) from None
        except asyncio.CancelledError:
            if self._closing:
                raise self._closed() from None
            raise

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run work in a task that closing cancels.

        Raises:
            ProviderError: The caller is closed.
        """
        if self._closing:
            work.close()
            raise self._closed()
        with self.secrets.hidden_in_logs():
            task = asyncio.ensure_future(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    async def ask(
        self,
        body: Mapping[str, Any],
        call: Call,
        *,
        send: Sender | None = None,
        tokens: float = 0.0,
        in_turn: bool = True,
    ) -> Reply:
        """The reply to one request: failed attempts are repeated if another may succeed, and each waits for its turn.

        Args:
            body: What to send.
            call: The call that it belongs to.
            send: How to send; None posts JSON to the service's address.
            tokens: The request's size, as `rerank_http.pace.estimate_tokens` counts it.
            in_turn: Whether it counts among the requests that are limited; a question about the server does not.

        Returns:
            A reply with a status from 200 to 299 and JSON in its body.

        Raises:
            ProviderError: The last attempt failed; the class says how.
            ProviderTimeoutError: Its turn comes after the deadline.
        """
        attempts = 0

        async def attempt() -> Reply:
            nonlocal attempts
            async with self._turns.turn(tokens, call.ends) if in_turn else nullcontext():
                attempts += 1
                call.tally.requests += 1
                call.tally.retries += attempts > 1
                return await self._attempt(send or self._post, body, call.tally)

        self._budget.earn()
        try:
            return await retrying(call.options, self._budget, call.seconds_left)(attempt)
        except AttemptError as error:
            raise error.failure.error(self.name, attempts) from error.__cause__
        except LateTurnError as error:
            raise self._too_late(call, str(error)) from None

    async def _attempt(self, send: Sender, body: Mapping[str, Any], tally: Tally) -> Reply:
        try:
            reply = await send(body)
        except AttemptError as error:
            tally.last = error.failure
            raise
        except httpx.HTTPError as error:
            tally.last = of_exception(error, self.url, self.secrets)
            raise AttemptError(tally.last) from error
        tally.last = of_reply(reply, self.secrets, expected=self._expected, key_hint=self._key_hint)
        if tally.last is not None:
            raise AttemptError(tally.last)
        return reply

    def add_usage(self, usage: Mapping[str, float], call: Call, *, tokens: float) -> None:
        """Count what the service bills for a request, and correct the pace by the tokens it reports.

        Args:
            usage: What it bills, by name.
            call: The call that the request belongs to.
            tokens: What `ask` was given.
        """
        for name, value in usage.items():
            shown = self.secrets.hide(name)
            call.tally.usage[shown] = call.tally.usage.get(shown, 0) + value
        reported = usage.get("total_tokens", usage.get("input_tokens"))
        if reported is not None:
            self._turns.correct(reported - tokens)

    def wrong_answer(self, problem: str, reply: Reply) -> ProviderError:
        """The error for a reply whose answer cannot be used.

        Args:
            problem: What is wrong with it, such as ``its answer has no 'results'``.
            reply: The reply.
        """
        return of_answer(problem, reply, self.secrets).error(self.name, attempts=1)

    def _too_late(self, call: Call, why: str = "") -> ProviderTimeoutError:
        tally = call.tally
        last = f"; the last one {tally.last.what}" if tally.last is not None else ""
        way = f" through the proxy that {self._proxy.origin} names" if self._proxy is not None else ""
        return ProviderTimeoutError(
            f"{self.name} gave no answer{way} within the deadline of {call.options.deadline:g} s "
            f"({why or f'{tally.requests} requests sent{last}'}): raise deadline=, or send fewer documents",
            provider=self.name,
            status=tally.last.status if tally.last is not None else None,
            request_id=tally.last.request_id if tally.last is not None else None,
        )

    def _closed(self) -> ProviderError:
        return ProviderError(
            f"this reranker was closed during a request to {self.name}: close it after its last call",
            provider=self.name,
        )

    async def aclose(self) -> None:
        """Cancel pending requests, and close every connection and the cache."""
        self._closing = True
        try:
            await self._cancel_all()
        finally:
            await self.client.aclose()
            self.cache.close()

    async def _cancel_all(self) -> None:
        """Cancel every task and wait for it.

        A task that is just opening a connection can lose a cancellation before Python 3.11, so it is cancelled again.
        """
        tasks = set(self._under_way)
        for _ in range(_CANCELLATIONS):
            if not tasks:
                return
            for task in tasks:
                task.cancel()
            ended, tasks = await asyncio.wait(tasks, timeout=1)
            await asyncio.gather(*ended, return_exceptions=True)

    def __repr__(self) -> str:
        return f"Caller({self.name!r})"
