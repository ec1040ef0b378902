"""JSON over the wire: bodies out, replies in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back over the wire.

    Args:
        status: The HTTP status.
        headers: Lower-case names.
        body: The parsed JSON; None where it was none.
        text: The body as it came, where it was no JSON.
    """

    status: int
    headers: Mapping[str, str]
    body: Any = None
    text: str | None = None


def merge_headers(*several: Mapping[str, str]) -> dict[str, str]:
    """Headers with lower-case names, of which a later one replaces an earlier one of the same name in any case."""
    return {name.lower(): value for headers in several for name, value in headers.items()}


def encode(body: Mapping[str, Any]) -> bytes:
    """A body as UTF-8 JSON."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def as_reply(response: httpx.Response) -> Reply:
    """A response with its JSON parsed, or its text where it is none."""
    headers = dict(response.headers)
    try:
        return Reply(status=response.status_code, headers=headers, body=json.loads(response.content))
    except (ValueError, RecursionError):
        text = response.content.decode("utf-8", "replace")
        return Reply(status=response.status_code, headers=headers, text=text)
