"""Jina: ``POST https://api.jina.ai/v1/rerank``.

Errors are ``{"detail": …}``. No limit of documents is documented. ``jina-reranker-v3`` reads all documents of a
request together, so its scores of different requests cannot be compared, and may be negative.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rerank_api.answers import read_list
from rerank_api.provider import Provider, Question


def request(question: Question) -> Mapping[str, Any]:
    """The body of a Jina request."""
    return {
        "model": question.model,
        "query": question.query,
        "documents": question.texts,
        "top_n": question.top_k,
        "return_documents": False,
    }


def is_listwise(model: str | None) -> bool:
    """Whether a model reads the documents together."""
    return (model or "").startswith("jina-reranker-v3")


JINA: Final = Provider(
    name="jina",
    summary="Jina Reranker",
    url="https://api.jina.ai",
    path="/v1/rerank",
    keys=("JINA_API_KEY",),
    models={"en": "jina-reranker-v2-base-multilingual", "other": "jina-reranker-v2-base-multilingual"},
    request=request,
    answer=read_list(),
    listwise=is_listwise,
)
