"""ZeroEntropy: ``POST https://api.zeroentropy.dev/v1/models/rerank``.

At most 5,000,000 bytes per request: of every document its text, the query, and 150 more
(docs.zeroentropy.dev/api-reference/models/rerank).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rerank_api.answers import read_list
from rerank_api.provider import Provider, Question


def request(question: Question) -> Mapping[str, Any]:
    """The body of a ZeroEntropy request."""
    return {"model": question.model, "query": question.query, "documents": question.texts, "top_n": question.top_k}


ZEROENTROPY: Final = Provider(
    name="zeroentropy",
    summary="ZeroEntropy",
    url="https://api.zeroentropy.dev",
    path="/v1/models/rerank",
    keys=("ZEROENTROPY_API_KEY",),
    models={"en": "zerank-2", "other": "zerank-2"},
    request=request,
    answer=read_list(usage=("total_tokens", "total_bytes")),
    max_bytes=5_000_000,
    bytes_each=150,
)
