"""Fireworks: ``POST https://api.fireworks.ai/inference/v1/rerank``, whose ``task`` is the instruction.

It documents no limit of documents (docs.fireworks.ai/api-reference/rerank-documents). Errors are
``{"error": {"message"}}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rerank_api.answers import read_list
from rerank_api.provider import Provider, Question


def request(question: Question) -> Mapping[str, Any]:
    """The body of a Fireworks request."""
    return {
        "model": question.model,
        "query": question.query,
        "documents": question.texts,
        "task": question.options.instruction,
        "top_n": question.top_k,
        "return_documents": False,
    }


FIREWORKS: Final = Provider(
    name="fireworks",
    summary="Fireworks AI",
    url="https://api.fireworks.ai",
    path="/inference/v1/rerank",
    keys=("FIREWORKS_API_KEY",),
    models={"en": "fireworks/qwen3-reranker-8b", "other": "fireworks/qwen3-reranker-8b"},
    request=request,
    answer=read_list("data"),
    takes=frozenset({"instruction"}),
)
