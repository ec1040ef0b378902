"""One provider, asked: split → cache → pace → attempt → check → merge, within one deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from rerank import InvalidOptionsError, ProviderError, ProviderTimeoutError, Request, Scores
from rerank_api.address import endpoint, path_of
from rerank_api.answers import WrongAnswerError, check, kept_scores
from rerank_api.keys import find_key, how_to_set
from rerank_api.options import SPECIFIC, ApiOptions
from rerank_api.provider import Answer, Link, Provider, Question
from rerank_http.address import sibling
from rerank_http.cache import ResponseCache, cache_key, without_credentials
from rerank_http.failures import AttemptError, Failure, of_answer, of_exception, of_reply
from rerank_http.pace import Pace
from rerank_http.pace import estimate_tokens as tokens_of
from rerank_http.retries import RetryBudget, retrying
from rerank_http.secrets import Secrets
from rerank_http.transport import open_pool
from rerank_http.wire import Reply, Sender, as_reply, merge_headers

T = TypeVar("T")


@dataclass(slots=True)
class Tally:
    """What one call cost, summed over its requests.

    Args:
        until: Its deadline, by the monotonic clock.
        requests: Attempts sent.
        retries: Those of them that were not a request's first.
        cached: Requests answered by the cache.
        usage: What the provider bills, by name.
        last: How the latest attempt failed; None where it did not.
    """

    until: float
    requests: int = 0
    retries: int = 0
    cached: int = 0
    usage: dict[str, float] = field(default_factory=dict)
    last: Failure | None = None


class Service:
    """A provider with everything that its requests share. Its coroutines all run on one event loop.

    Args:
        provider: Whom to ask.
        model: The model's name, or None where the server runs one of its own.
        options: The construction's options.

    Raises:
        AuthenticationError: The provider needs a key and there is none.
        InvalidOptionsError: The provider has no address, or does not know an option.
    """

    def __init__(self, provider: Provider, model: str | None, options: ApiOptions) -> None:
        refuse_foreign_options(provider, options)
        key = find_key(provider, options)
        own = {name: value.get_secret_value() for name, value in options.headers.items()}
        self._provider, self._model, self._options, self._own_headers = provider, model, options, own
        self._secrets = Secrets()
        for secret in (*own.values(), key or ""):
            self._secrets.add(secret)
        self._url = endpoint(provider, model, options)
        self._cache = None if options.cache is None else ResponseCache(options.cache, options.cache_max_bytes)
        self._pool = open_pool(options, self._url)
        self._headers = merge_headers({} if key is None else provider.authorize(key), provider.headers, own)
        self._send = provider.connect(
            Link(
                client=self._pool,
                url=self._url,
                headers=self._headers,
                key=key,
                options=options,
                keep_secret=self._secrets.add,
            )
        )
        self._turns = asyncio.Semaphore(options.max_concurrency)
        self._queue = asyncio.Lock()
        self._requests, self._tokens = Pace(options.requests_per_minute), Pace(options.tokens_per_minute)
        self._budget = RetryBudget(options.retry_budget)
        self._limit: asyncio.Task[int | None] | None = None
        self._closing = False

    async def scores(self, request: Request, options: ApiOptions) -> Scores:
        """Score one request's documents.

        Raises:
            ProviderError: The provider failed, or its answer is wrong.
            ProviderTimeoutError: The deadline passed.
        """
        refuse_foreign_options(self._provider, options)
        tally = Tally(until=time.monotonic() + options.deadline)
        try:
            return await asyncio.wait_for(self._split(request, options, tally), options.deadline)
        except asyncio.TimeoutError:
            raise self._too_late(tally, options) from None
        except asyncio.CancelledError:
            if self._closing:
                raise ProviderError(
                    f"this reranker was closed while {self._provider.name} was asked: close it after its last call",
                    provider=self._provider.name,
                ) from None
            raise

    async def _split(self, request: Request, options: ApiOptions, tally: Tally) -> Scores:
        """Ask for as many documents at a time as the provider takes, and put the scores together."""
        texts = [document.text for document in request.documents]
        limits = [await self._max_documents(tally), options.batch_size, len(texts)]
        size = min(limit for limit in limits if limit is not None)
        questions = [
            Question(
                query=request.query,
                texts=texts[start : start + size],
                model=self._model,
                top_k=None
                if request.top_k is None or not self._provider.takes_top_k
                else min(request.top_k, len(texts[start : start + size])),
                options=options,
            )
            for start in range(0, len(texts), size)
        ]
        parts = await _together([self._ask(question, tally) for question in questions])
        values = [value for part in parts for value in part]
        scale = self._provider.scale_of(options)
        diagnostics: dict[str, Any] = {
            "provider": self._provider.name,
            "requests": tally.requests,
            "retries": tally.retries,
            "usage": tally.usage,
        }
        if options.cache is not None:
            diagnostics["cached"] = tally.cached
        if len(questions) > 1:
            diagnostics["split"] = len(questions)
            diagnostics["comparable"] = not self._provider.listwise(self._model)
        if scale == "probability" and any(value is not None and not -1e-6 <= value <= 1 + 1e-6 for value in values):
            scale = "similarity"
            diagnostics["scale"] = "scores outside [0, 1], so they are no probabilities as documented"
        return Scores(values=values, scale=scale, diagnostics=diagnostics)

    async def _max_documents(self, tally: Tally) -> int | None:
        """The provider's documented limit, or what a running server tells, asked once for all calls."""
        if self._provider.limit_from is None:
            return self._provider.max_documents
        if self._limit is None or (self._limit.done() and (self._limit.cancelled() or self._limit.exception())):
            self._limit = asyncio.ensure_future(self._read_limit(*self._provider.limit_from, tally))
            self._limit.add_done_callback(lambda task: task.cancelled() or task.exception())  # if nobody waits any more
        return await asyncio.shield(self._limit)

    async def _read_limit(self, path: str, name: str, tally: Tally) -> int | None:
        """A server's own limit; as patient as the construction's options, whatever the call that happens to be first."""
        options = self._options
        url = sibling(self._url, path_of(self._provider, self._model, options), path)

        async def get(body: Mapping[str, Any]) -> Reply:
            return as_reply(await self._pool.get(url, headers=self._headers))

        try:
            reply = await self._attempts(get, {}, options, tally, until=time.monotonic() + options.deadline)
        except ProviderError as error:
            if error.status in (404, 405):  # behind a gateway that knows only the ranking: its own error will tell
                return None
            raise
        found = reply.body.get(name) if isinstance(reply.body, Mapping) else None
        return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else None

    async def _ask(self, question: Question, tally: Tally) -> Sequence[float | None]:
        """The checked scores of one request, from the cache where they are known."""
        body = {name: value for name, value in self._provider.request(question).items() if value is not None}
        body = {**body, **question.options.extra_body}
        key = ""
        if self._cache is not None:
            key = self._cache_key(question, body)
            kept = kept_scores(await asyncio.to_thread(self._cache.get, key), len(question.texts))
            if kept is not None:
                tally.cached += 1
                return kept
        estimate = estimate_tokens(question.query, question.texts) if question.options.tokens_per_minute else 0.0
        reply = await self._attempts(self._send, body, question.options, tally, until=tally.until, tokens=estimate)
        answer, values = self._checked(reply, question)
        for name, value in answer.usage.items():
            tally.usage[name] = tally.usage.get(name, 0) + value
        tokens = answer.usage.get("total_tokens", answer.usage.get("input_tokens"))
        if tokens is not None:
            self._tokens.take(tokens - estimate)
        if self._cache is not None:
            await asyncio.to_thread(self._cache.put, key, values)
        return values

    def _cache_key(self, question: Question, body: Mapping[str, Any]) -> str:
        return cache_key(
            {
                "provider": self._provider.name,
                "url": self._url,
                "body": body,
                "top_k": question.top_k,  # how many scores are enough, even where the body does not tell
                "headers": without_credentials(merge_headers(self._provider.headers, self._own_headers)),
                "options": {name: getattr(question.options, name) for name in SPECIFIC},
            }
        )

    async def _attempts(
        self,
        send: Sender,
        body: Mapping[str, Any],
        options: ApiOptions,
        tally: Tally,
        *,
        until: float,
        tokens: float = 0.0,
    ) -> Reply:
        """Send a body until a usable reply comes or the policy says stop; every attempt waits for its turn."""
        attempts = 0

        async def attempt() -> Reply:
            nonlocal attempts
            await self._wait_for_pace(tokens, tally, options, until)
            async with self._turns:
                attempts += 1
                tally.requests += 1
                tally.retries += attempts > 1
                try:
                    reply = await send(body)
                except httpx.HTTPError as error:
                    tally.last = of_exception(error, self._url, self._secrets)
                    raise AttemptError(tally.last) from error
            tally.last = of_reply(
                reply, self._secrets, expected="a rerank service", key_hint=how_to_set(self._provider)
            )
            if tally.last is not None:
                raise AttemptError(tally.last)
            return reply

        self._budget.earn()
        try:
            return await retrying(options, self._budget, until - time.monotonic())(attempt)
        except AttemptError as error:
            raise error.failure.error(self._provider.name, attempts) from error.__cause__

    async def _wait_for_pace(self, tokens: float, tally: Tally, options: ApiOptions, until: float) -> None:
        async with self._queue:  # first come, first served
            wait = max(self._requests.wait(), self._tokens.wait())
            if wait >= until - time.monotonic():
                raise self._too_late(tally, options, f"its turn comes in {wait:.1f} s by the limit set a minute")
            if wait > 0:
                await asyncio.sleep(wait)
            self._requests.take(1)
            self._tokens.take(tokens)

    def _checked(self, reply: Reply, question: Question) -> tuple[Answer, list[float | None]]:
        try:
            answer = self._provider.answer(reply.body, question)
            return answer, check(answer, question)
        except WrongAnswerError as error:
            failure = of_answer(str(error), reply, self._secrets)
            raise failure.error(self._provider.name, attempts=1) from None

    def _too_late(self, tally: Tally, options: ApiOptions, why: str = "") -> ProviderTimeoutError:
        last = f"; the last one {tally.last.what}" if tally.last is not None else ""
        return ProviderTimeoutError(
            f"{self._provider.name} gave no answer within the deadline of {options.deadline:g} s "
            f"({why or f'{tally.requests} requests sent{last}'}): raise deadline=, or send fewer documents",
            provider=self._provider.name,
            status=tally.last.status if tally.last is not None else None,
            request_id=tally.last.request_id if tally.last is not None else None,
        )

    def refuse(self) -> None:
        """From now on, what is cancelled is told that the reranker was closed."""
        self._closing = True

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pool.aclose()

    def close_files(self) -> None:
        """Close the cache."""
        if self._cache is not None:
            self._cache.close()

    def __repr__(self) -> str:
        return f"Service({self._provider.name!r}, {self._model!r})"


def estimate_tokens(query: str, texts: Sequence[str]) -> float:
    """Tokens of a request: the query goes with every text."""
    return len(texts) * tokens_of(query) + sum(map(tokens_of, texts))


def refuse_foreign_options(provider: Provider, options: ApiOptions) -> None:
    """Make sure that no option is accepted and then ignored.

    Raises:
        InvalidOptionsError: An option was set that means nothing to this provider.
    """
    foreign = sorted((options.model_fields_set & SPECIFIC) - provider.takes)
    if foreign:
        known = ", ".join(sorted(provider.takes)) or "none"
        raise InvalidOptionsError(
            f"{provider.name} has no option {foreign[0]!r} (of those that only some providers have, it has: {known}): "
            "leave it out, or send what its own documentation names with extra_body="
        )


async def _together(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All results in order; the first failure cancels the rest."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
