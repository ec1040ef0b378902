"""Voyage: ``POST https://api.voyageai.com/v1/rerank``.

At most 1,000 documents per request, and 600,000 tokens with the query counted for every document; 300,000 for the first
generation (docs.voyageai.com/reference/reranker-api). Errors are ``{"detail": …}`` with 400, 401, 422, 429 and 500.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rerank_api.answers import read_list
from rerank_api.provider import Provider, Question, bytes_for


def request(question: Question) -> Mapping[str, Any]:
    """The body of a Voyage request."""
    return {
        "model": question.model,
        "query": question.query,
        "documents": question.texts,
        "top_k": question.top_k,
        "truncation": question.options.truncate,
        "return_documents": False,
    }


VOYAGE: Final = Provider(
    name="voyage",
    summary="Voyage AI",
    url="https://api.voyageai.com",
    path="/v1/rerank",
    keys=("VOYAGE_API_KEY",),
    models={"en": "rerank-2.5", "other": "rerank-2.5"},
    request=request,
    answer=read_list("data"),
    takes=frozenset({"truncate"}),
    max_documents=1000,
    max_bytes=lambda model: bytes_for(300_000 if model in ("rerank-1", "rerank-lite-1") else 600_000),
)
