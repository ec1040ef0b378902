"""Isaacus, for legal texts: ``POST https://api.isaacus.com/v1/rerankings``. It documents no limit of texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rerank_api.answers import read_list
from rerank_api.provider import Provider, Question


def request(question: Question) -> Mapping[str, Any]:
    """The body of an Isaacus request."""
    return {"model": question.model, "query": question.query, "texts": question.texts, "top_n": question.top_k}


ISAACUS: Final = Provider(
    name="isaacus",
    summary="Isaacus, for legal texts",
    url="https://api.isaacus.com",
    path="/v1/rerankings",
    keys=("ISAACUS_API_KEY",),
    models={"en": "kanon-2-reranker"},
    request=request,
    answer=read_list(score="score"),
)
