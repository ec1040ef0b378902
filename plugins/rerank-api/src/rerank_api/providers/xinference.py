"""Xinference, self-hosted: ``POST /v1/rerank``. Errors are ``{"detail": …}``.

No limit of documents is documented.
"""

from __future__ import annotations

from typing import Final

from rerank_api.answers import read_list
from rerank_api.provider import Provider
from rerank_api.providers.jina import request

XINFERENCE: Final = Provider(
    name="xinference",
    summary="Xinference, self-hosted",
    path="/v1/rerank",
    keys=("XINFERENCE_API_KEY",),
    key_required=False,
    request=request,
    answer=read_list(usage=("usage", "meta.billed_units", "meta.tokens")),
)
