"""Vertex AI ranking: ``POST https://discoveryengine.googleapis.com/v1/projects/{p}/…:rank``.

At most 200 records per request (its REST reference, rankingConfigs.rank), with their positions as ids, which are
strings. The key is an OAuth access token: ``api_key=``, else Application Default Credentials
(``pip install 'rerank-api[vertex]'``), refreshed as they expire. Errors are
``{"error": {"code", "message", "status"}}``.
"""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Mapping
from typing import Any, Final

from rerank import AuthenticationError, InvalidOptionsError
from rerank_api.answers import read_list
from rerank_api.options import ApiOptions
from rerank_api.provider import Connection, Provider, Question, post
from rerank_http.address import in_part
from rerank_http.wire import Reply, Sender, bearer, merge_headers, post_json

_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"


def path(model: str | None, options: ApiOptions) -> str:
    """The path of a project's ranking."""
    project = options.project or os.environ.get("GOOGLE_CLOUD_PROJECT")
    if not project:
        raise InvalidOptionsError("vertex needs a Google Cloud project: set GOOGLE_CLOUD_PROJECT or pass project=")
    place = f"{in_part(project, 'project')}/locations/{in_part(options.location, 'location')}"
    return f"/v1/projects/{place}/rankingConfigs/default_ranking_config:rank"


def request(question: Question) -> Mapping[str, Any]:
    """The body of a Vertex request."""
    return {
        "model": question.model,
        "query": question.query,
        "records": [{"id": str(position), "content": text} for position, text in enumerate(question.texts)],
        "topN": question.top_k,
    }


def connect(connection: Connection) -> Sender:
    """A sender with the token given, or with the machine's own credentials."""
    if connection.key is not None:
        return post(connection)
    try:
        auth = importlib.import_module("google.auth")
        transport = importlib.import_module("google.auth.transport.requests")
    except ImportError as error:
        raise AuthenticationError(
            "vertex has no access token, and google-auth is not installed to get one: "
            "pass api_key=, or pip install 'rerank-api[vertex]'",
            provider="vertex",
        ) from error
    try:
        credentials, _ = auth.default(scopes=[_SCOPE])
    except auth.exceptions.GoogleAuthError as error:
        raise _unauthorized(error) from error
    refreshing = asyncio.Lock()

    async def send(body: Mapping[str, Any]) -> Reply:
        async with refreshing:
            if not credentials.valid:
                try:
                    await asyncio.to_thread(credentials.refresh, transport.Request())
                except auth.exceptions.GoogleAuthError as error:
                    raise _unauthorized(error) from error
                for name in ("token", "refresh_token", "client_secret"):
                    connection.keep_secret(getattr(credentials, name, None) or "")
        headers = merge_headers(bearer(credentials.token), connection.headers)
        return await post_json(connection.client, connection.url, headers)(body)

    return send


def _unauthorized(error: Exception) -> AuthenticationError:
    return AuthenticationError(
        f"vertex has no access token: {type(error).__name__}: {error}; pass api_key=, "
        "or run gcloud auth application-default login",
        provider="vertex",
    )


VERTEX: Final = Provider(
    name="vertex",
    summary="Google Vertex AI ranking",
    url="https://discoveryengine.googleapis.com",
    path=path,
    keys=("VERTEX_ACCESS_TOKEN",),
    key_required=False,
    models={"en": "semantic-ranker-default@latest", "other": "semantic-ranker-default@latest"},
    request=request,
    answer=read_list("records", index="id", score="score", usage=()),
    takes=frozenset({"project", "location"}),
    max_documents=200,
    connect=connect,
)
