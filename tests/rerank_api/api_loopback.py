"""A real HTTP server on loopback, on an event loop thread of its own: it answers, and misbehaves, as it is told."""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Hit:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    content: bytes
    connection: int

    @property
    def body(self) -> Any:
        return json.loads(self.content)


@dataclass
class Response:
    """One response: JSON, or text as it is; ``drop`` closes before it, ``keep`` sends only so many of its bytes."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drop: bool = False
    keep: int | None = None


Handler = Callable[[Hit], "Response | Awaitable[Response]"]


class Loopback:
    """Counts its connections and keeps what it was asked."""

    def __init__(self, handler: Handler, context: ssl.SSLContext | None = None, keep_hits: bool = True) -> None:
        self.handler, self.keep_hits = handler, keep_hits
        self.hits: list[Hit] = []
        self.count = 0
        self.accepted = 0
        self.busy = self.busiest = 0
        self._context = context
        self._open: set[asyncio.StreamWriter] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="loopback", daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    @property
    def url(self) -> str:
        return f"{'http' if self._context is None else 'https'}://127.0.0.1:{self._port}"

    @property
    def open_connections(self) -> int:
        return len(self._open)

    def script(self, responses: Iterable[Response]) -> None:
        """Answer with these in turn, the last one for ever."""
        waiting = list(responses)
        self.handler = lambda hit: waiting.pop(0) if len(waiting) > 1 else waiting[0]

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._context, limit=2**24)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await asyncio.sleep(0.01)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        number = self.accepted
        self._open.add(writer)
        try:
            while (hit := await self._read(reader, number)) is not None:
                if not await self._answer(hit, reader, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    async def _read(self, reader: asyncio.StreamReader, number: int) -> Hit | None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        content = await reader.readexactly(int(headers.get("content-length", 0)))
        hit = Hit(method, path, headers, content, number)
        self.count += 1
        if self.keep_hits:
            self.hits.append(hit)
        return hit

    async def _answer(self, hit: Hit, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            response = self.handler(hit)
            if not isinstance(response, Response):
                response = await response
            if response.delay and not await self._delay(response.delay, reader):
                return False
        finally:
            self.busy -= 1
        if response.drop:
            writer.transport.abort()
            return False
        text = response.body if isinstance(response.body, (str, bytes)) else json.dumps(response.body)
        content = text.encode() if isinstance(text, str) else text
        headers = {"content-type": "application/json", "content-length": str(len(content)), **response.headers}
        head = f"HTTP/1.1 {response.status} X\r\n" + "".join(f"{n}: {v}\r\n" for n, v in headers.items()) + "\r\n"
        writer.write(head.encode("latin-1") + content[: response.keep])
        await writer.drain()
        return response.keep is None

    async def _delay(self, seconds: float, reader: asyncio.StreamReader) -> bool:
        """Wait, unless the client goes away first."""
        gone = asyncio.ensure_future(reader.read(1))
        done, _ = await asyncio.wait([gone], timeout=seconds)
        if done:
            return False
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        return True


def score(query: str, text: str) -> float:
    """A number in [0, 1) that belongs to this pair alone."""
    digest = hashlib.blake2b(f"{query}\0{text}".encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48


def ranked(query: str, texts: Iterable[str], top_n: int | None) -> list[tuple[int, float]]:
    """``(index, score)`` pairs, best first."""
    pairs = sorted(((i, score(query, text)) for i, text in enumerate(texts)), key=lambda pair: (-pair[1], pair[0]))
    return pairs[:top_n]


def rerank(hit: Hit) -> Response:
    """A server that really ranks, in Cohere's and everyone's shape, and in TEI's."""
    if hit.method == "GET":
        return Response({"model_id": "loopback", "max_client_batch_size": 4})
    body = hit.body
    if "texts" in body:
        return Response([{"index": i, "score": s} for i, s in ranked(body["query"], body["texts"], None)])
    pairs = ranked(body["query"], body["documents"], body.get("top_n"))
    return Response(
        {
            "id": "loopback-1",
            "model": body.get("model"),
            "results": [{"index": i, "relevance_score": s} for i, s in pairs],
            "usage": {"total_tokens": 10 * len(body["documents"])},
            "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
        }
    )
