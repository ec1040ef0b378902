"""Contextual: ``POST https://api.contextual.ai/v1/rerank``, which takes an instruction.

At most 400,000 tokens per request (docs.contextual.ai/api-reference/rerank/rerank). Query, instruction and one document
have at most 8,000 together; more is the provider's own error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rerank_api.answers import read_list
from rerank_api.provider import Provider, Question, bytes_for


def request(question: Question) -> Mapping[str, Any]:
    """The body of a Contextual request."""
    return {
        "model": question.model,
        "query": question.query,
        "documents": question.texts,
        "instruction": question.options.instruction,
        "top_n": question.top_k,
    }


CONTEXTUAL: Final = Provider(
    name="contextual",
    summary="Contextual AI, which takes an instruction",
    url="https://api.contextual.ai",
    path="/v1/rerank",
    keys=("CONTEXTUAL_API_KEY",),
    models={
        "en": "ctxl-rerank-v2-instruct-multilingual",
        "other": "ctxl-rerank-v2-instruct-multilingual",
    },
    request=request,
    answer=read_list(),
    takes=frozenset({"instruction"}),
    max_bytes=bytes_for(400_000),
)
