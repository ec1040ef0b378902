"""How many documents a request may hold: what the provider documents, or what a running server reports."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from rerank import ProviderError
from rerank_api.address import path_of
from rerank_api.options import ApiOptions
from rerank_api.provider import Provider
from rerank_http.address import sibling
from rerank_http.caller import Call, Caller
from rerank_http.wire import Reply, as_reply


class DocumentLimit:
    """A provider's limit of documents per request; a server's own is read once for all calls.

    Args:
        provider: Whose limit.
        model: The model's name, on which the server's address may depend.
        options: The options given at construction, by which the limit is read, whichever call comes first.
        caller: Asks the server.
    """

    def __init__(self, provider: Provider, model: str | None, options: ApiOptions, caller: Caller) -> None:
        self._provider, self._model, self._options, self._caller = provider, model, options, caller
        self._reading: asyncio.Task[int | None] | None = None

    async def get(self, call: Call) -> int | None:
        """The limit; None if none is known.

        Args:
            call: Its tally counts the request, if one is sent.

        Raises:
            ProviderError: The server cannot be reached, or answers with an error.
        """
        if self._provider.limit_from is None:
            return self._provider.max_documents
        if self._reading is None or _failed(self._reading):
            reading = self._read(*self._provider.limit_from, Call(self._options, call.tally))
            self._reading = self._caller.start(reading)
            self._reading.add_done_callback(_failed)  # its error is retrieved, even if no one waits any more
        return await asyncio.shield(self._reading)

    async def _read(self, path: str, name: str, call: Call) -> int | None:
        url = sibling(self._caller.url, path_of(self._provider, self._model, self._options), path)

        async def get(body: Mapping[str, Any]) -> Reply:
            return as_reply(await self._caller.client.get(url, headers=self._caller.headers))

        try:
            reply = await self._caller.ask({}, call, send=get)
        except ProviderError as error:
            if error.status in (
                404,
                405,
            ):  # a gateway that only serves the ranking; if a request is too large, the server says so
                return None
            raise
        found = reply.body.get(name) if isinstance(reply.body, Mapping) else None
        return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else None


def _failed(task: asyncio.Task[int | None]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
