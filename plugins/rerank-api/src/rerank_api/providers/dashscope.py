"""Alibaba DashScope: ``POST https://dashscope.aliyuncs.com/compatible-api/v1/reranks``.

At most 500 documents per request, 100 for ``qwen3-vl-rerank``; and 120,000 tokens with the query counted for every
document, 30,000 for ``gte-rerank-v2`` (alibabacloud.com/help/en/model-studio/text-rerank-api). An instruction is
its ``instruct``. Errors are ``{"code", "message"}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rerank_api.answers import read_list
from rerank_api.provider import Provider, Question, bytes_for
from rerank_api.providers import jina


def request(question: Question) -> Mapping[str, Any]:
    """The body of a DashScope request."""
    return {**jina.request(question), "instruct": question.options.instruction}


DASHSCOPE: Final = Provider(
    name="dashscope",
    summary="Alibaba Cloud DashScope",
    url="https://dashscope.aliyuncs.com",
    path="/compatible-api/v1/reranks",
    keys=("DASHSCOPE_API_KEY",),
    models={"en": "qwen3-rerank", "other": "qwen3-rerank"},
    request=request,
    takes=frozenset({"instruction"}),
    answer=read_list(),
    max_documents=lambda model: 100 if model == "qwen3-vl-rerank" else 500,
    max_bytes=lambda model: bytes_for(120_000 if (model or "").startswith("qwen3") else 30_000),
)
