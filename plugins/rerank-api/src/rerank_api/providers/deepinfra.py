"""DeepInfra: ``POST https://api.deepinfra.com/v1/inference/{model}``, scores in the documents' order.

There is no field for how many results to return. No limit of documents is documented. Errors are
``{"error": …}`` or ``{"detail": …}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rerank_api.answers import read_scores
from rerank_api.options import ApiOptions
from rerank_api.provider import Provider, Question
from rerank_http.address import in_path


def path(model: str | None, options: ApiOptions) -> str:
    """The path of a model."""
    return f"/v1/inference/{in_path(model or '', 'model')}"


def request(question: Question) -> Mapping[str, Any]:
    """The body of a DeepInfra request: one query per document."""
    return {
        "queries": [question.query] * len(question.texts),
        "documents": question.texts,
        "instruction": question.options.instruction,
    }


DEEPINFRA: Final = Provider(
    name="deepinfra",
    summary="DeepInfra",
    url="https://api.deepinfra.com",
    path=path,
    keys=("DEEPINFRA_API_KEY", "DEEPINFRA_TOKEN"),
    models={"en": "Qwen/Qwen3-Reranker-0.6B", "other": "Qwen/Qwen3-Reranker-0.6B"},
    request=request,
    answer=read_scores(usage=("input_tokens",)),
    takes=frozenset({"instruction"}),
    takes_top_k=False,
)
