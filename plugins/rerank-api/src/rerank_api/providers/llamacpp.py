"""llama.cpp, self-hosted (``llama-server --reranking``): ``POST /v1/rerank``.

Scores are the model's raw logits. No limit of documents is documented; query and document have together at most as many
tokens as a physical batch (``--ubatch-size``, 512), and more is an error of the server's. Errors are
``{"error": {"code", "message", "type"}}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rerank_api.answers import read_list
from rerank_api.provider import Provider, Question


def request(question: Question) -> Mapping[str, Any]:
    """The body of a llama.cpp request."""
    return {"model": question.model, "query": question.query, "documents": question.texts, "top_n": question.top_k}


LLAMACPP: Final = Provider(
    name="llama.cpp",
    summary="llama.cpp's llama-server, self-hosted",
    path="/v1/rerank",
    other_names=("llamacpp",),
    keys=("LLAMA_API_KEY",),
    key_required=False,
    request=request,
    answer=read_list(),
    scale="logit",
    takes=frozenset({"template"}),
)
