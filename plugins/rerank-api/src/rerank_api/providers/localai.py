"""LocalAI, self-hosted: ``POST /v1/rerank``. Errors are ``{"error": {"code", "message", "type"}}``.

What its scores mean depends on the model it runs, so their scale is ``similarity``: pass ``score_scale`` if
you know more. No limit of documents is documented.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rerank_api.answers import read_list
from rerank_api.provider import Provider, Question


def request(question: Question) -> Mapping[str, Any]:
    """The body of a LocalAI request."""
    return {"model": question.model, "query": question.query, "documents": question.texts, "top_n": question.top_k}


LOCALAI: Final = Provider(
    name="localai",
    summary="LocalAI, self-hosted",
    path="/v1/rerank",
    keys=("LOCALAI_API_KEY",),
    key_required=False,
    request=request,
    answer=read_list(),
    scale="similarity",
    takes=frozenset({"template"}),
)
