"""Pinecone: ``POST https://api.pinecone.io/rerank``, with the key in ``Api-Key``.

At most 100 documents per request, and 200 for ``cohere-rerank-3.5`` (docs.pinecone.io, models, reranking). Errors are
``{"error": {"code", "message"}, "status"}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rerank_api.answers import read_list
from rerank_api.provider import Provider, Question


def request(question: Question) -> Mapping[str, Any]:
    """The body of a Pinecone request."""
    return {
        "model": question.model,
        "query": question.query,
        "documents": [{"text": text} for text in question.texts],
        "rank_fields": ["text"],
        "top_n": question.top_k,
        "return_documents": False,
    }


PINECONE: Final = Provider(
    name="pinecone",
    summary="Pinecone Inference",
    url="https://api.pinecone.io",
    path="/rerank",
    keys=("PINECONE_API_KEY",),
    authorize=lambda key: {"Api-Key": key},
    headers={"X-Pinecone-API-Version": "2025-04"},
    models={"en": "bge-reranker-v2-m3", "other": "bge-reranker-v2-m3"},
    request=request,
    answer=read_list("data", score="score"),
    max_documents=lambda model: 200 if model == "cohere-rerank-3.5" else 100,
)
