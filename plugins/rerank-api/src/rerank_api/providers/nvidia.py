"""NVIDIA NIM: hosted at ``https://ai.api.nvidia.com``, or a self-hosted container (``url="http://HOST:8000"``).

At most 512 passages per request (docs.nvidia.com/nim/nemo-retriever/reranking); the answer has the raw logits of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rerank_api.answers import read_list
from rerank_api.options import ApiOptions
from rerank_api.provider import Provider, Question
from rerank_http.address import in_path


def path(model: str | None, options: ApiOptions) -> str:
    """A container's path, or the hosted one, which names the model with underscores for its dots."""
    return (
        "/v1/ranking"
        if options.address
        else f"/v1/retrieval/{in_path(model or '', 'model').replace('.', '_')}/reranking"
    )


def request(question: Question) -> Mapping[str, Any]:
    """The body of a NIM request."""
    cut = {None: None, True: "END", False: "NONE"}[question.options.truncate]
    return {
        "model": question.model,
        "query": {"text": question.query},
        "passages": [{"text": text} for text in question.texts],
        "truncate": cut,
    }


NVIDIA: Final = Provider(
    name="nvidia",
    summary="NVIDIA NIM, hosted or in your own container",
    url="https://ai.api.nvidia.com",
    path=path,
    keys=("NVIDIA_API_KEY",),
    models={"en": "nvidia/llama-3.2-nv-rerankqa-1b-v2", "other": "nvidia/llama-3.2-nv-rerankqa-1b-v2"},
    request=request,
    answer=read_list("rankings", score="logit"),
    scale="logit",
    takes=frozenset({"truncate"}),
    max_documents=512,
    takes_top_k=False,
)
