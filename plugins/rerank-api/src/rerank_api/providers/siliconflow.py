"""SiliconFlow: ``POST https://api.siliconflow.cn/v1/rerank``.

``max_chunks_per_doc`` and ``overlap_tokens`` go through ``extra_body``. Errors are ``{"code", "message"}``. No limit of
documents is documented.
"""

from __future__ import annotations

from typing import Final

from rerank_api.answers import read_list
from rerank_api.provider import Provider
from rerank_api.providers.jina import request

SILICONFLOW: Final = Provider(
    name="siliconflow",
    summary="SiliconFlow",
    url="https://api.siliconflow.cn",
    path="/v1/rerank",
    keys=("SILICONFLOW_API_KEY",),
    models={"en": "BAAI/bge-reranker-v2-m3", "other": "BAAI/bge-reranker-v2-m3"},
    request=request,
    answer=read_list(usage=("usage", "meta.billed_units", "meta.tokens")),
)
