"""Cohere, through its own SDK: ``POST https://api.cohere.com/v2/rerank``.

Cohere takes at most 10,000 documents per request and advises against more than 1,000
(docs.cohere.com/docs/reranking-best-practices, docs.cohere.com/reference/rerank). Errors are ``{"message": …}`` with
400, 401, 403, 404, 422, 429, 498, 499, 500, 501, 503 and 504. The SDK's own retries are off: ours are the only ones.
Source: the SDK's ``v2/raw_client.py`` (5.x and 7.x).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final

from rerank_api.answers import read_list
from rerank_api.provider import Connection, Provider, Question
from rerank_http.wire import Reply, Sender, as_reply

_PATH: Final = "/v2/rerank"
_OWN: Final = ("model", "query", "documents", "top_n", "max_tokens_per_doc")


def request(question: Question) -> Mapping[str, Any]:
    """The body of a Cohere v2 request."""
    return {
        "model": question.model,
        "query": question.query,
        "documents": question.texts,
        "top_n": question.top_k,
        "max_tokens_per_doc": question.options.max_tokens_per_doc,
    }


def connect(connection: Connection) -> Sender:
    """A sender through the SDK's asynchronous client, on our connection pool.

    The raw response is read: the SDK's types do not validate it.
    """
    import cohere
    import httpx

    client = cohere.AsyncClientV2(
        api_key=connection.key or "",
        base_url=connection.url,
        httpx_client=connection.client,
        client_name="rerank-api",
        log_warning_experimental_features=False,
    )
    responses: ContextVar[list[httpx.Response]] = ContextVar("responses")

    async def remember(response: httpx.Response) -> None:
        responses.get().append(response)

    url = httpx.URL(connection.url)

    async def as_we_ask(request: httpx.Request) -> None:
        request.url = url  # the SDK appends its own path
        request.headers.pop("Authorization", None)  # the SDK always sends one, even without a key
        request.headers.update(connection.headers)  # the SDK would send one in another case besides its own

    hooks = connection.client.event_hooks
    connection.client.event_hooks = {"request": [*hooks["request"], as_we_ask], "response": [remember]}

    async def send(body: Mapping[str, Any]) -> Reply:
        own: dict[str, Any] = {name: value for name, value in body.items() if name in _OWN}
        more = {name: value for name, value in body.items() if name not in _OWN}
        received: list[httpx.Response] = []
        responses.set(received)
        try:
            await client.rerank(
                **own,
                request_options={"max_retries": 0, "additional_body_parameters": more},
            )
        except httpx.HTTPError:
            raise
        except Exception:  # the SDK's error for a status, or for a body that it cannot read
            if not received:
                raise
        return as_reply(received[-1])

    return send


COHERE: Final = Provider(
    name="cohere",
    summary="Cohere Rerank",
    url="https://api.cohere.com",
    path=_PATH,
    keys=("COHERE_API_KEY", "CO_API_KEY"),
    models={"en": "rerank-v3.5", "other": "rerank-v3.5"},
    request=request,
    answer=read_list(usage=("meta.billed_units",)),
    takes=frozenset({"max_tokens_per_doc"}),
    max_documents=1000,
    connect=connect,
)
