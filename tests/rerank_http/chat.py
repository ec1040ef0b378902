"""A chat endpoint that echoes, and a user of the caller that asks it, as a plugin would write one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from loopback import Hit, Response

from rerank_http import HttpOptions, Reply, read_key
from rerank_http.caller import Call, Caller, Tally
from rerank_http.pace import estimate_tokens
from rerank_http.portal import Portal, result_of


def echo(hit: Hit) -> Response:
    """The server: it answers with what it was sent."""
    return Response({"echo": hit.body, "usage": {"total_tokens": 10}})


class ChatService:
    """The endpoint, with everything that its requests share."""

    def __init__(self, url: str, options: HttpOptions) -> None:
        self.options = options
        self.caller = Caller(
            "acme",
            url,
            options,
            key=read_key(options, ["ACME_API_KEY"], service="acme"),
            expected="a chat endpoint",
            key_hint="set ACME_API_KEY or pass api_key=",
        )

    async def ask(self, *texts: str, **overrides: Any) -> tuple[list[str], Tally]:
        """Send texts at once, under one deadline."""
        call = Call(self.options.model_copy(update=overrides))
        return await self.caller.within_deadline(self._ask_all(texts, call), call), call.tally

    async def _ask_all(self, texts: tuple[str, ...], call: Call) -> list[str]:
        return list(await asyncio.gather(*(self._ask(text, call) for text in texts)))

    async def _ask(self, text: str, call: Call) -> str:
        body = {"text": text}
        key = self.caller.cache.key(body)
        if isinstance(kept := await self.caller.cache.get(key), str):
            call.tally.cached += 1
            return kept
        tokens = estimate_tokens(text)
        reply = await self.caller.ask(body, call, tokens=tokens)
        answer = self._check(reply)
        self.caller.add_usage(reply.body["usage"], call, tokens=tokens)
        await self.caller.cache.put(key, answer)
        return answer

    def _check(self, reply: Reply) -> str:
        echo = reply.body.get("echo") if isinstance(reply.body, dict) else None
        if not isinstance(echo, dict):
            raise self.caller.wrong_answer("its answer has no 'echo'", reply)
        return str(echo["text"])

    async def aclose(self) -> None:
        await self.caller.aclose()


class Chat:
    """The service for any thread or event loop."""

    def __init__(self, url: str, **options: Any) -> None:
        patience = {"api_key": "secret-key", "backoff": 0.01, "deadline": 10.0}
        self.portal = Portal(partial(ChatService, url, HttpOptions(**{**patience, **options})))

    def ask(self, *texts: str, **overrides: Any) -> tuple[list[str], Tally]:
        return result_of(self.portal.submit(lambda service: service.ask(*texts, **overrides)))

    async def aask(self, *texts: str, **overrides: Any) -> tuple[list[str], Tally]:
        return await asyncio.wrap_future(self.portal.submit(lambda service: service.ask(*texts, **overrides)))


@contextmanager
def chatting(url: str, **options: Any) -> Iterator[Chat]:
    """A chat that is closed at the end."""
    chat = Chat(url, **options)
    try:
        yield chat
    finally:
        chat.portal.close()
