"""Fireworks: ``POST https://api.fireworks.ai/inference/v1/rerank``. Errors are ``{"error": {"message"}}``.

It documents no limit of documents.
"""

from __future__ import annotations

from typing import Final

from rerank_api.answers import read_list
from rerank_api.provider import Provider
from rerank_api.providers.jina import request

FIREWORKS: Final = Provider(
    name="fireworks",
    summary="Fireworks AI",
    url="https://api.fireworks.ai",
    path="/inference/v1/rerank",
    keys=("FIREWORKS_API_KEY",),
    models={"en": "fireworks/qwen3-reranker-8b", "other": "fireworks/qwen3-reranker-8b"},
    request=request,
    answer=read_list("data"),
)
