"""Any endpoint that speaks OpenAI's chat API: prompts go out together, completions come back within one deadline."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict
from functools import partial
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from rerank import (
    AuthenticationError,
    InvalidOptionsError,
    ModelRef,
    ProviderError,
    ProviderTimeoutError,
    RateLimitError,
)
from rerank_http import Reply, Sender, read_key
from rerank_http.address import join
from rerank_http.caller import Call, Caller, together
from rerank_http.caller import Tally as Cost
from rerank_http.pace import estimate_tokens
from rerank_http.portal import Portal
from rerank_listwise.generator import TextMeasure
from rerank_listwise.generators.endpoints import ENDPOINTS, Endpoint, find_endpoint
from rerank_listwise.generators.measure import read_tokens
from rerank_listwise.generators.options import ChatOptions
from rerank_listwise.questions import Tally
from rerank_listwise.recipe import Completion, Prompt
from rerank_listwise.rounds import Work, arun

logger = logging.getLogger(__name__)

V = TypeVar("V")

_PATH: Final = "/chat/completions"
_LISTED: Final = 20
"""How many tokens' log-probabilities endpoints list at most."""
_TOKENS_READ: Final = 4
"""How many tokens are written where a label is read: it may follow a bracket, a quote or a word."""
_DISPENSABLE: Final = ("temperature", "top_p", "response_format")
"""Fields that some endpoints and models refuse by name; answers are read without them too."""
_REFUSED: Final = (400, 422)
"""Statuses with which an endpoint refuses a request; some refuse a schema with one of these, and name no field."""
_LIMIT_FIELD: Final = "max_completion_tokens"
"""What OpenAI's newer models call the limit of an answer."""
_FRAME: Final = 8
"""Tokens that a message takes besides its content, estimated high."""


class ChatWriter:
    """A chat model on an event loop of its own. Safe to call from several threads and event loops at once, and after a fork.

    Args:
        model: Where its tokenizer is looked for.
        options: The options given at construction.
        open_service: Creates the service; called at once, and in every forked child that uses it.

    Attributes:
        measure: The model's tokens, or an estimate of them.
        context_size: How many tokens prompt and answer may have together; None if that is unknown.
        max_concurrency: How many requests it sends at the same time.
    """

    def __init__(self, model: ModelRef, options: ChatOptions, open_service: Callable[[], ChatService]) -> None:
        self.measure: TextMeasure = read_tokens(options.tokenizer, model)
        self.context_size = options.context_size
        self.max_concurrency = options.max_concurrency
        self._portal = Portal(open_service)

    def submit(self, work: Work[Prompt, Completion, V], options: ChatOptions, tally: Tally) -> Future[V]:
        """Start a work; its prompts of one round are sent at the same time. Cancelling the future cancels its requests."""
        return self._portal.submit(lambda service: service.run(work, options, tally))

    def prompt_tokens(self, prompt: Prompt) -> int:
        """How many tokens a prompt has, with what the chat template may add."""
        counts = self.measure.count([message.content for message in prompt.messages])
        return sum(counts) + _FRAME * (len(counts) + 1)

    def close(self) -> None:
        """Cancel pending requests and close every connection."""
        self._portal.close()


def write_to_endpoint(model: ModelRef, options: ChatOptions) -> ChatWriter:
    """A model behind a chat endpoint.

    Raises:
        AuthenticationError: The endpoint needs a key and there is none.
        InvalidOptionsError: Nothing says where the model is.
    """
    provider = options.provider or model.api_provider
    endpoint, name = find_endpoint(model.name, provider, by_family=options.address is None)
    if endpoint is None and options.address is None:
        asked = f"provider {provider!r} is not known" if provider is not None else "its name says no provider"
        raise InvalidOptionsError(
            f"{model.name!r} is behind an unknown address ({asked}): give base_url= of a chat endpoint, or provider= "
            f"one of {', '.join(ENDPOINTS)}"
        )
    return ChatWriter(model, options, partial(open_endpoint, endpoint, name, options))


def open_endpoint(endpoint: Endpoint | None, model: str, options: ChatOptions) -> ChatService:
    """A model of an endpoint, whose requests are posted to its address.

    Args:
        endpoint: The endpoint, if it is a known one.
        model: The model's name there.
        options: The options given at construction.

    Raises:
        AuthenticationError: The endpoint needs a key and there is none.
    """
    known = endpoint or Endpoint("the chat endpoint", "", ("OPENAI_API_KEY",), needs_key=False)
    keys = known.keys if endpoint is not None else ()
    key = read_key(options, keys, service=known.name)
    how_to_set = f"set {keys[0]} or pass api_key=" if keys else "pass api_key="
    if key is None and known.needs_key and options.address is None:
        raise AuthenticationError(f"{known.name} has no key: {how_to_set}", provider=known.name)
    url = join(options.address or known.url, _PATH)
    caller = Caller(known.name, url, options, key=key, expected="a chat endpoint", key_hint=how_to_set)
    return ChatService(caller, model, limit_field=known.limit_field)


class ChatService:
    """A chat model behind a caller. Its coroutines all run on one event loop.

    Args:
        caller: What its requests go through.
        model: The model's name in requests.
        limit_field: The request's field for how long an answer may be.
        send: How to send a request of OpenAI's chat API; None posts it to the caller's address.
    """

    def __init__(
        self, caller: Caller, model: str, *, limit_field: str = "max_tokens", send: Sender | None = None
    ) -> None:
        self._caller, self._model, self._limit_field, self._send = caller, model, limit_field, send
        self._refused: set[str] = set()
        self._names: Mapping[str, str] = {}

    async def run(self, work: Work[Prompt, Completion, V], options: ChatOptions, tally: Tally) -> V:
        """Run a work to its end.

        Raises:
            ProviderError: The endpoint failed, or its answer is wrong.
            ProviderTimeoutError: The deadline passed.
        """
        call = Call(options)
        try:
            return await self._caller.within_deadline(arun(work, partial(self._complete_all, call=call)), call)
        finally:
            _note(tally, call.tally, cached=options.cache is not None)

    async def _complete_all(self, prompts: Sequence[Prompt], call: Call) -> list[Completion]:
        """All completions in order; the first failure cancels the rest."""
        return await together(self._complete(prompt, call) for prompt in prompts)

    async def _complete(self, prompt: Prompt, call: Call) -> Completion:
        options: Any = call.options
        wanted = {**self._body(prompt), **options.extra_body}
        key = self._caller.cache.key(wanted)
        if (kept := _read_kept(await self._caller.cache.get(key))) is not None:
            call.tally.cached += 1
            return kept
        refused: set[str] = set()
        while True:
            left_out = (self._refused | refused) - options.extra_body.keys()
            body = {self._names.get(field, field): value for field, value in wanted.items() if field not in left_out}
            try:
                completion = await self._ask(body, prompt, call, key)
            except (AuthenticationError, RateLimitError, ProviderTimeoutError):
                raise
            except ProviderError as error:  # servers answer 400, 422, and llama-cpp-python's even 500
                sent = body.keys() - options.extra_body.keys()
                if "max_tokens" in sent and _LIMIT_FIELD in str(error):
                    self._names = {"max_tokens": _LIMIT_FIELD}
                    continue
                named = {field for field in _DISPENSABLE if field in sent and field in str(error)}
                if not named and "response_format" in sent and error.status in _REFUSED:
                    named = {"response_format"}
                if not named:
                    raise
                refused |= named
            else:
                self._leave_out(refused)
                return completion

    def _leave_out(self, refused: set[str]) -> None:
        """Remember the fields without which a refused request was answered."""
        if new := sorted(refused - self._refused):
            logger.info("%s takes no %s with %s: it is left out", self._caller.name, " and ".join(new), self._model)
            self._refused |= refused

    async def _ask(self, body: Mapping[str, Any], prompt: Prompt, call: Call, key: str | None) -> Completion:
        tokens = sum(estimate_tokens(message.content) for message in prompt.messages)
        reply = await self._caller.ask(body, call, send=self._send, tokens=tokens)
        completion = self._read(reply, prompt)
        used = {"prompt_tokens": completion.prompt_tokens, "completion_tokens": completion.completion_tokens}
        self._caller.add_usage({**used, "total_tokens": sum(used.values())}, call, tokens=tokens)
        await self._caller.cache.put(key, asdict(completion))
        return completion

    def _body(self, prompt: Prompt) -> dict[str, Any]:
        """The request's body, with the names of OpenAI's API."""
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": message.role, "content": message.content} for message in prompt.messages],
            "temperature": prompt.temperature,
        }
        if prompt.top_p != 1:
            body["top_p"] = prompt.top_p
        longest = prompt.max_new_tokens
        if prompt.labels:
            longest = _TOKENS_READ
            body |= {"logprobs": True, "top_logprobs": _LISTED}
        if longest is not None:
            body[self._limit_field] = longest
        if prompt.schema is not None:
            schema = {"name": "answer", "strict": True, "schema": prompt.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body

    def _read(self, reply: Reply, prompt: Prompt) -> Completion:
        """The completion in a reply."""
        body = reply.body
        choices = body.get("choices") if isinstance(body, Mapping) else None
        choice = choices[0] if isinstance(choices, list) and choices else None
        message = choice.get("message") if isinstance(choice, Mapping) else None
        if not isinstance(choice, Mapping) or not isinstance(message, Mapping):
            raise self._caller.wrong_answer("its answer has no 'choices' with a 'message'", reply)
        content = message.get("content")
        if content is not None and not isinstance(content, str):
            raise self._caller.wrong_answer("its message's content is no text", reply)
        if prompt.labels and not choice.get("logprobs"):
            raise self._caller.wrong_answer("it offers no logprobs, which answers='labels' reads", reply)
        usage = body.get("usage")
        usage = usage if isinstance(usage, Mapping) else {}
        return Completion(
            text=self._caller.secrets.hide(content or ""),
            logits=_logits(choice["logprobs"], prompt.labels) if prompt.labels else None,
            prompt_tokens=_whole(usage.get("prompt_tokens")),
            completion_tokens=_whole(usage.get("completion_tokens")),
            cut=choice.get("finish_reason") == "length" and not prompt.labels,
        )

    async def aclose(self) -> None:
        """Cancel pending requests, and close every connection and the cache."""
        await self._caller.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._caller.name!r}, {self._model!r})"


def _logits(logprobs: Any, labels: Sequence[str]) -> dict[str, float]:
    """Each label's log-probability at the first token that is one; of several spellings the most probable counts."""
    tokens = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    for token in tokens if isinstance(tokens, list) else ():
        if not isinstance(token, Mapping) or _bare(token) not in labels:
            continue
        listed = token.get("top_logprobs")
        found: dict[str, float] = {}
        for other in [token, *(listed if isinstance(listed, list) else ())]:
            value = other.get("logprob") if isinstance(other, Mapping) else None
            if isinstance(value, (int, float)) and math.isfinite(value) and (label := _bare(other)) in labels:
                found[label] = max(found.get(label, float("-inf")), float(value))
        return found
    return {}


def _bare(token: Mapping[str, Any]) -> str:
    return str(token.get("token", "")).strip(" \n\t[]\"'▁Ġ")


def _whole(number: Any) -> int:
    return number if isinstance(number, int) and 0 < number < 2**53 else 0


def _read_kept(kept: Any) -> Completion | None:
    """A completion from the cache; None if it has none, or something else."""
    try:
        return TypeAdapter(Completion).validate_python(kept)
    except ValidationError:
        return None


def _note(tally: Tally, cost: Cost, *, cached: bool) -> None:
    """What the requests cost, for diagnostics."""
    tally.notes["requests"] = cost.requests
    tally.notes["retries"] = cost.retries
    if cached:
        tally.notes["cached"] = cost.cached
