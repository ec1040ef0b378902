"""Mixedbread: ``POST https://api.mixedbread.com/v1/reranking``. It documents no limit of documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rerank_api.answers import read_list
from rerank_api.provider import Provider, Question


def request(question: Question) -> Mapping[str, Any]:
    """The body of a Mixedbread request."""
    return {
        "model": question.model,
        "query": question.query,
        "input": question.texts,
        "top_k": question.top_k,
        "return_input": False,
    }


MIXEDBREAD: Final = Provider(
    name="mixedbread",
    summary="Mixedbread",
    url="https://api.mixedbread.com",
    path="/v1/reranking",
    other_names=("mixedbread.ai",),
    keys=("MXBAI_API_KEY",),
    models={
        "en": "mixedbread-ai/mxbai-rerank-large-v2",
        "other": "mixedbread-ai/mxbai-rerank-large-v2",
    },
    request=request,
    answer=read_list("data", score="score"),
)
