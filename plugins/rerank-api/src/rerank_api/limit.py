"""How much a request may hold: what the provider documents, or what a running server reports."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from rerank import ProviderError
from rerank_api.address import path_of
from rerank_api.options import ApiOptions
from rerank_api.provider import Provider
from rerank_http.address import sibling
from rerank_http.caller import Call, Caller
from rerank_http.wire import Reply, as_reply

logger = logging.getLogger(__name__)


_PATIENCE: Final = 5.0
"""Seconds to wait for a server's own limit: without it, the server itself refuses what is too much."""


def split(
    query: str, texts: Sequence[str], *, documents: int, size: int | None, each: int = 0
) -> Iterator[Sequence[str]]:
    """The texts of each request, in order.

    Args:
        query: What is sent with every text; services count it with every text too.
        texts: The documents' texts.
        documents: At most this many per request.
        size: At most this many bytes per request, unless one text alone has more; None sets no limit.
        each: Bytes that a document counts besides its text and the query.
    """
    asked = len(query.encode())
    start = taken = 0
    for end, text in enumerate(texts):
        added = 0 if size is None else each + asked + len(text.encode())
        if end > start and (end - start == documents or (size is not None and taken + added > size)):
            yield texts[start:end]
            start, taken = end, 0
        taken += added
    yield texts[start:]


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
        self._is_late = False

    async def get(self, call: Call) -> int | None:
        """The limit; None if none is known, or the server does not report it in time.

        Args:
            call: Its tally counts the request, if one is sent; at most half of its time is spent.
        """
        if self._provider.limit_from is None:
            return self._provider.most_documents(self._model)
        if self._reading is None or _failed(self._reading):
            options = self._options.model_copy(update={"deadline": min(self._options.deadline, _PATIENCE)})
            self._reading = self._caller.start(self._read(*self._provider.limit_from, Call(options, call.tally)))
            self._reading.add_done_callback(_failed)  # its error is retrieved, even if no one waits any more
            self._is_late = False
        patience = 0 if self._is_late else min(_PATIENCE, call.seconds_left / 2)
        await asyncio.wait({self._reading}, timeout=patience)
        self._is_late = not self._reading.done()  # later calls do not wait for what hangs
        return None if self._is_late or _failed(self._reading) else self._reading.result()

    async def _read(self, path: str, name: str, call: Call) -> int | None:
        url = sibling(self._caller.url, path_of(self._provider, self._model, self._options), path)

        async def get(body: Mapping[str, Any]) -> Reply:
            return as_reply(await self._caller.client.get(url, headers=self._caller.headers))

        try:
            reply = await self._caller.ask({}, call, send=get, in_turn=False)
        except ProviderError as error:  # as behind a gateway that only serves the ranking
            logger.info("%s reports no limit of documents, and all are sent at once: %s", self._caller.name, error)
            if error.status is None or error.status >= 500:
                raise  # it may have been starting: the next call asks again
            return None
        found = reply.body.get(name) if isinstance(reply.body, Mapping) else None
        return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else None


def _failed(task: asyncio.Task[int | None]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
