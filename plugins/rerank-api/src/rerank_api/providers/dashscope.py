"""Alibaba DashScope: ``POST https://dashscope.aliyuncs.com/compatible-api/v1/reranks``.

At most 500 documents per request (help.aliyun.com, text rerank API). Errors are ``{"code", "message"}``.
"""

from __future__ import annotations

from typing import Final

from rerank_api.answers import read_list
from rerank_api.provider import Provider
from rerank_api.providers.jina import request

DASHSCOPE: Final = Provider(
    name="dashscope",
    summary="Alibaba Cloud DashScope",
    url="https://dashscope.aliyuncs.com",
    path="/compatible-api/v1/reranks",
    keys=("DASHSCOPE_API_KEY",),
    models={"en": "qwen3-rerank", "other": "qwen3-rerank"},
    request=request,
    answer=read_list(),
    max_documents=500,
)
