"""Cohere, through its own SDK: ``POST https://api.cohere.com/v2/rerank``.

Documents beyond 1,000 a request are advised against. Errors are ``{"message": …}`` with 400, 401, 403, 404, 422, 429,
498, 499, 500, 501, 503 and 504. The SDK's own retries are off: ours are the only ones.
Source: the SDK's ``v2/raw_client.py`` (5.x and 7.x).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rerank_api.answers import read_list
from rerank_api.provider import Link, Provider, Question, Reply, Sender

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


def connect(link: Link) -> Sender:
    """A sender through the SDK's asynchronous client, on our connection pool."""
    import cohere
    from cohere.core.api_error import ApiError

    client = cohere.AsyncClientV2(
        api_key=link.key or "",
        base_url=link.url.removesuffix(_PATH),
        httpx_client=link.client,
        client_name="rerank-api",
        log_warning_experimental_features=False,
    )

    async def send(body: Mapping[str, Any]) -> Reply:
        more = {name: value for name, value in body.items() if name not in _OWN}
        try:
            response = await client.with_raw_response.rerank(
                **{name: value for name, value in body.items() if name in _OWN},
                request_options={
                    "max_retries": 0,
                    "additional_headers": dict(link.headers),
                    "additional_body_parameters": more,
                },
            )
        except ApiError as error:
            text = error.body if isinstance(error.body, str) else None
            return Reply(
                status=error.status_code or 0,
                headers={name.lower(): value for name, value in (error.headers or {}).items()},
                body=None if text is not None else error.body,
                text=text,
            )
        data: Any = response.data
        return Reply(
            status=200,
            headers={name.lower(): value for name, value in response.headers.items()},
            body=data.dict() if hasattr(data, "dict") else data,
        )

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
