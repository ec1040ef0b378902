"""JSON over the wire: bodies out, replies in."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back over the wire.

    Args:
        status: The HTTP status.
        headers: Lower-case names.
        body: The parsed JSON; None if it was not JSON.
        text: The body as text, if it was not JSON.
        url: The address that answered.
    """

    status: int
    headers: Mapping[str, str]
    body: Any = None
    text: str | None = None
    url: str = ""


Sender: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[Reply]]
"""Sends one request's body and returns the reply, whatever its status.

Where no reply came, it raises an ``httpx.HTTPError`` or a `rerank_http.failures.AttemptError`.
"""


def bearer(key: str) -> Mapping[str, str]:
    """The headers that most services read a key from."""
    return {"Authorization": f"Bearer {key}"}


def merge_headers(*several: Mapping[str, str]) -> dict[str, str]:
    """Headers with lower-case names; a later one replaces an earlier one of the same name, whatever its case."""
    return {name.lower(): value for headers in several for name, value in headers.items()}


def post_json(client: httpx.AsyncClient, url: str, headers: Mapping[str, str]) -> Sender:
    """A sender that posts JSON to one address.

    Args:
        client: The connection pool.
        url: Where to post.
        headers: Sent with every request.
    """
    sent = merge_headers({"Content-Type": "application/json"}, headers)

    async def send(body: Mapping[str, Any]) -> Reply:
        return as_reply(await client.post(url, content=encode(body), headers=sent))

    return send


def encode(body: Mapping[str, Any]) -> bytes:
    """A body as UTF-8 JSON."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def as_reply(response: httpx.Response) -> Reply:
    """A response with its JSON parsed, or its text if it is not JSON.

    Raises:
        AnswerTooDeepError: Its JSON is nested deeper than ``max_answer_depth``; of an error, only the status is read.
    """
    from rerank_http.answer_limit import AnswerTooDeepError, is_deeper

    headers, url = dict(response.headers), str(response.url)
    if location := response.extensions.get("location"):
        headers["location"] = location
    most = response.extensions["max_depth"]
    try:
        body = json.loads(response.content)
    except ValueError:
        text = response.content.decode("utf-8", "replace")
        return Reply(status=response.status_code, headers=headers, text=text, url=url)
    except RecursionError:
        too_deep = True
    else:
        too_deep = is_deeper(body, most)
    if not too_deep:
        return Reply(status=response.status_code, headers=headers, body=body, url=url)
    if response.status_code >= 300:
        return Reply(status=response.status_code, headers=headers, text="", url=url)
    raise AnswerTooDeepError(f"an answer nested more than {most} levels deep")
