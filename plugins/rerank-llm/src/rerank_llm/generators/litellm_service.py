"""A chat model that litellm asks: one attempt is one call of ``litellm.acompletion``, and all around it is ours.

litellm 1.91.5 is required exactly: 1.82.7 and 1.82.8 on PyPI were compromised, this release was read, and closing its
connections needs its internals. Its import is told to fetch nothing, to read no ``.env`` file and to print no request.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from importlib.metadata import version
from typing import Any, Final

import httpx

from rerank import AuthenticationError, InvalidOptionsError, ProviderTimeoutError
from rerank_http import Reply, merge_headers
from rerank_http.address import in_part
from rerank_http.caller import Caller
from rerank_http.failures import AttemptError, Failure
from rerank_listwise.generators.chat import ChatService
from rerank_llm.generators.litellm_options import LiteLlmOptions

_VERSION: Final = "1.91.5"

_ENVIRONMENT: Final = {
    "LITELLM_MODE": "PRODUCTION",  # any other reads the folder's .env
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
}
"""What litellm's import reads, and its first call."""

_LOGGERS: Final = ("LiteLLM", "openai._base_client")
"""Those to which requests are written, at the level of debugging."""

_prepared: Final[ContextVar[list[Future[Any]] | None]] = ContextVar("prepared", default=None)
"""What litellm does in threads for the call at hand; None where it does not work for us."""

_SECRET: Final = ("_KEY", "_KEY_ID", "_TOKEN", "_SECRET", "_PASSWORD")
"""How variables with credentials end: which of them litellm reads depends on the provider."""

_PLACE: Final = re.compile(r"region(_name)?$|location$|project(_id)?$|account_id$")
"""How arguments and variables are called that litellm puts into addresses."""
_PLACES_BY_VARIABLE: Final = ("AWS_", "VERTEX", "GOOGLE_")
_LEADS_ELSEWHERE: Final = re.compile(r"[?#%\\\s]|(^|/)\.\.?(/|$)")
"""What a model's name in an address could lead to another with."""

_CLASSES: Final = re.compile(r"\Alitellm\.\w+: (?:.{0,200}?\w+Exception(?: \w+)? - )?", re.DOTALL)
"""The names of exceptions that litellm writes before a provider's message."""

_NO_KEY: Final = "none"
"""What an address gets that is given for no named provider: litellm would send the key that belongs to the model's name."""

_TRACEBACK: Final = "Traceback (most recent call last)"
_LONGEST: Final = 400


def import_litellm() -> Any:
    """The package litellm, set to send, fetch and print nothing of its own.

    Raises:
        InvalidOptionsError: It is not installed, or in another version.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        if (installed := version("litellm")) != _VERSION:
            raise ImportError(f"litellm {installed} is installed")
        litellm: Any = importlib.import_module("litellm")
    except ImportError as error:
        raise InvalidOptionsError(
            f"the generator 'litellm' needs litellm {_VERSION} ({error}): pip install 'rerank-llm[litellm]', or choose "
            "generator='chat'"
        ) from error
    litellm.telemetry = False
    litellm.suppress_debug_info = True
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_shows_no_request)
    return litellm


def _shows_no_request(record: logging.LogRecord) -> bool:
    """Drop the details of our own calls: they show prompts, and the values of headers."""
    return record.levelno >= logging.WARNING or _prepared.get() is None


def check_addresses(model: str, arguments: Mapping[str, Any]) -> None:
    """Refuse what litellm would put into an address, and what could make it another machine's.

    Args:
        model: The model's name.
        arguments: Those of a call, among which may be a region, a location or a project; the environment has some too.

    Raises:
        InvalidOptionsError: One has a character in it that ends a host's name, or leads to another path.
    """
    if _LEADS_ELSEWHERE.search(model):
        raise InvalidOptionsError(
            f"the model {model!r:.80} cannot be part of an address: give its name as the provider does"
        )
    if arn := model.partition("arn:")[2]:
        in_part(arn.split(":")[2] if arn.count(":") > 1 else arn, "the region of the model's ARN")
    variables = {name: value for name, value in os.environ.items() if name.startswith(_PLACES_BY_VARIABLE)}
    for name, value in {**variables, **arguments}.items():
        if isinstance(value, str) and value and _PLACE.search(name.lower()):
            in_part(value, name)


class Threads(ThreadPoolExecutor):
    """The threads of an event loop. In one, litellm prepares a call, and returns the coroutine that sends it.

    A call that is cancelled meanwhile leaves a coroutine that nobody awaits, of which Python warns; `close_unsent` closes it.
    """

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Start work in a thread, and remember it for the call at hand."""
        future = super().submit(work, *args, **kwargs)
        if (prepared := _prepared.get()) is not None:
            prepared.append(future)
        return future


def close_unsent(prepared: Future[Any]) -> None:
    """Close the coroutine that was prepared for a cancelled call."""
    if not prepared.cancelled() and prepared.exception() is None and asyncio.iscoroutine(call := prepared.result()):
        call.close()


class LiteLlmService(ChatService):
    """A model that litellm asks. Its coroutines all run on one event loop.

    Args:
        model: The model's name, with the provider's before it.
        options: The options given at construction.

    Raises:
        InvalidOptionsError: litellm is not installed, or knows no such provider.
    """

    def __init__(self, model: str, options: LiteLlmOptions) -> None:
        check_addresses(model, options.extra_body)
        self._litellm, self._threads = import_litellm(), Threads()
        key = options.api_key.get_secret_value() if options.api_key is not None else None
        is_named = "/" in model
        self._fixed = {
            "api_key": _NO_KEY if key is None and options.address is not None and not is_named else key,
            "base_url": options.address,
            "extra_headers": {name: value.get_secret_value() for name, value in options.headers.items()} or None,
            "timeout": options.read_timeout,
            "num_retries": 0,
            "max_retries": 0,
            "stream": False,
        }
        provider, url = self._find_provider(model, options.address)
        unset = self._litellm.validate_environment(model)["missing_keys"]
        self._key_hint = "pass api_key=" + (f", or set {' and '.join(unset)}" if unset else "")
        self._unset = key is None and bool(unset)
        caller = Caller(provider, url, options, key=key, expected="a chat model", key_hint=self._key_hint)
        for name, value in os.environ.items():
            if name.upper().endswith(_SECRET):
                caller.secrets.add(value)
        super().__init__(caller, model, send=self._complete_one)

    def _find_provider(self, model: str, address: str | None) -> tuple[str, str]:
        """The provider's name, and the address that stands for it."""
        try:
            _, provider, _, url = self._litellm.get_llm_provider(model, api_base=address)
        except self._litellm.BadRequestError:
            raise InvalidOptionsError(
                f"litellm knows no provider of {model!r}: write it before the model's name, as in "
                "groq/llama-3.1-8b-instant, or openai/NAME with base_url= for a server of your own"
            ) from None
        return provider, address or url or f"litellm://{provider}"

    async def _complete_one(self, body: Mapping[str, Any]) -> Reply:
        """One attempt; what is raised holds nothing of litellm's exceptions, which show requests and keys."""
        if clash := sorted(self._fixed.keys() & body.keys()):
            raise InvalidOptionsError(
                f"extra_body sets {clash[0]!r}, which the reranker passes to litellm itself: use api_key=, base_url=, "
                "headers=, read_timeout= or max_retries="
            )
        check_addresses(self._model, body)
        prepared: list[Future[Any]] = []
        _prepared.set(prepared)
        asyncio.get_running_loop().set_default_executor(self._threads)
        self._litellm._internal_context.is_internal_call.set(True)  # others go to a log queue of one event loop
        try:
            answer = await self._litellm.acompletion(**body, **self._fixed)
        except asyncio.CancelledError:
            for future in prepared:
                future.add_done_callback(close_unsent)
            raise
        except Exception as error:
            outcome = self._outcome(error)
        else:
            outcome = Reply(status=200, headers={}, body=answer.model_dump())
        if isinstance(outcome, Failure):
            raise AttemptError(outcome)
        return outcome

    def _outcome(self, error: Exception) -> Reply | Failure:
        """The provider's reply, if one is why litellm raised an exception, else what went wrong without one.

        litellm gives some replies another status; that of the exception before its own is the provider's.
        """
        chain = list(_chain(error))
        text = _CLASSES.sub("", str(error)).partition(_TRACEBACK)[0]
        statuses = [getattr(one, "status_code", None) for one in (*chain[1:2], error)]
        status = next((status for status in statuses if isinstance(status, int)), 0)
        headers = getattr(error, "litellm_response_headers", None)
        if headers is not None and status >= 300:
            return Reply(status=status, headers=merge_headers(headers), body=_read(text))
        detail = " ".join(self._caller.secrets.hide(text).split())[:_LONGEST]
        if isinstance(error, self._litellm.Timeout):
            return Failure(
                what=f"stopped answering ({detail})",
                step="try again later, or raise read_timeout",
                kind=ProviderTimeoutError,
                transient=True,
            )
        if any(isinstance(one, httpx.TransportError) for one in chain):
            return Failure(
                what=f"could not be reached, or broke the connection ({detail})",
                step="check base_url=, the network and that the service runs, or try again later",
                transient=True,
            )
        what = f"was not asked by litellm, or answered what it cannot read ({detail})"
        if status == 401 or isinstance(error, self._litellm.AuthenticationError) or self._unset:
            return Failure(what=what, step=self._key_hint, kind=AuthenticationError)
        return Failure(what=what, step="check the model, the options and what litellm needs for the provider")

    async def aclose(self) -> None:
        """Cancel pending requests, and close the cache and the connections that litellm keeps for this event loop."""
        await super().aclose()
        kept = self._litellm.in_memory_llm_clients_cache
        mine = f"-{id(asyncio.get_running_loop())}"
        for name in [name for name in list(kept.cache_dict) if name.endswith(mine)]:
            await kept.cache_dict[name].close()
            kept.delete_cache(name)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, and what it was raised for."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _read(text: str) -> Any:
    """A provider's message as the JSON that it was, if it still is."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {"message": text}
