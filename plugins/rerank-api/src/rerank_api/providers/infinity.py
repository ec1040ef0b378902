"""Infinity, self-hosted: ``POST /rerank`` (port 7997). Errors are ``{"error": {"message", "type", "code"}}``.

At most 2,048 documents per request (``RerankInput`` of infinity_emb 0.0.77).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rerank_api.answers import read_list
from rerank_api.provider import Provider, Question


def request(question: Question) -> Mapping[str, Any]:
    """The body of an Infinity request."""
    return {
        "model": question.model,
        "query": question.query,
        "documents": question.texts,
        "top_n": question.top_k,
        "raw_scores": question.options.raw_scores,
        "return_documents": False,
    }


INFINITY: Final = Provider(
    name="infinity",
    summary="Infinity, self-hosted",
    path="/rerank",
    keys=("INFINITY_API_KEY",),
    key_required=False,
    request=request,
    answer=read_list(),
    scale=lambda options: "logit" if options.raw_scores else "probability",
    takes=frozenset({"raw_scores", "template"}),
    max_documents=2048,
)
