"""vLLM, self-hosted: ``POST /v1/rerank`` (``vllm``), and ``POST /v1/score`` (``vllm-score``).

``/v1/score`` returns every document. Both apply the model's own activation, the sigmoid for a cross-encoder; for an
embedding model pass ``score_scale="similarity"``. No limit of documents is documented. Errors are
``{"error": {"message", "type", "code"}}``, or the same without the outer object.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rerank_api.answers import read_list
from rerank_api.provider import Provider, Question


def request(question: Question) -> Mapping[str, Any]:
    """The body of a request to ``/v1/rerank``."""
    return {
        "model": question.model,
        "query": question.query,
        "documents": question.texts,
        "top_n": question.top_k,
        "max_tokens_per_doc": question.options.max_tokens_per_doc,
    }


def score_request(question: Question) -> Mapping[str, Any]:
    """The body of a request to ``/v1/score``: one query, many documents."""
    return {"model": question.model, "text_1": question.query, "text_2": question.texts}


VLLM: Final = Provider(
    name="vllm",
    summary="vLLM's /v1/rerank, self-hosted",
    path="/v1/rerank",
    keys=("VLLM_API_KEY",),
    key_required=False,
    request=request,
    answer=read_list(),
    takes=frozenset({"max_tokens_per_doc", "template"}),
)

VLLM_SCORE: Final = Provider(
    name="vllm-score",
    summary="vLLM's /v1/score, self-hosted",
    path="/v1/score",
    keys=("VLLM_API_KEY",),
    key_required=False,
    request=score_request,
    answer=read_list("data", score="score"),
    takes=frozenset({"template"}),
    takes_top_k=False,
)
