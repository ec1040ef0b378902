"""The connection pool, and JSON over it."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from typing import Any, Final

import httpx

from rerank.errors import InvalidOptionsError
from rerank_api.options import ApiOptions
from rerank_api.provider import Reply

_IDLE: Final = 30.0
"""Seconds that an idle connection is kept."""


def open_pool(options: ApiOptions) -> httpx.AsyncClient:
    """A pool with the user's timeouts, proxy and certificates; TLS is always verified, redirects are not followed.

    Raises:
        InvalidOptionsError: ``ca_file`` cannot be read.
    """
    timeout = httpx.Timeout(options.read_timeout, connect=options.connect_timeout, pool=None)

    async def keep_timeouts(request: httpx.Request) -> None:
        request.extensions["timeout"] = timeout.as_dict()  # an SDK would set its own

    return httpx.AsyncClient(
        timeout=timeout,
        limits=httpx.Limits(
            max_connections=options.max_concurrency,
            max_keepalive_connections=options.max_concurrency,
            keepalive_expiry=_IDLE,
        ),
        proxy=options.proxy,
        verify=_certificates(options),
        event_hooks={"request": [keep_timeouts]},
    )


def _certificates(options: ApiOptions) -> ssl.SSLContext | bool:
    if options.ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=str(options.ca_file))
    except (OSError, ssl.SSLError) as error:
        raise InvalidOptionsError(
            f"ca_file {options.ca_file} cannot be read ({error}): give a file of PEM certificates"
        ) from error


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
