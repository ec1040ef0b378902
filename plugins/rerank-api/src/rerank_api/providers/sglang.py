"""SGLang, self-hosted: ``POST /v1/rerank``, answered by a bare array.

No limit of documents is documented. Errors are ``{"message", "type", "code"}``, or under ``error``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rerank_api.answers import read_list
from rerank_api.provider import Provider, Question


def request(question: Question) -> Mapping[str, Any]:
    """The body of an SGLang request."""
    return {
        "model": question.model,
        "query": question.query,
        "documents": question.texts,
        "instruct": question.options.instruction,
        "top_n": question.top_k,
        "return_documents": False,
    }


SGLANG: Final = Provider(
    name="sglang",
    summary="SGLang, self-hosted",
    path="/v1/rerank",
    keys=("SGLANG_API_KEY",),
    key_required=False,
    request=request,
    answer=read_list("", score="score", usage=()),
    takes=frozenset({"instruction", "template"}),
)
