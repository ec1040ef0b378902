"""Together: ``POST https://api.together.ai/v1/rerank``.

Errors are ``{"error": {"message", "type"}}``; rate limits come with ``x-ratelimit-reset``. It documents no
limit of documents.
"""

from __future__ import annotations

from typing import Final

from rerank_api.answers import read_list
from rerank_api.provider import Provider
from rerank_api.providers.jina import request

TOGETHER: Final = Provider(
    name="together",
    summary="Together AI",
    url="https://api.together.ai",
    path="/v1/rerank",
    keys=("TOGETHER_API_KEY",),
    models={"en": "Salesforce/Llama-Rank-V1", "other": "mixedbread-ai/Mxbai-Rerank-Large-V2"},
    request=request,
    answer=read_list(),
)
