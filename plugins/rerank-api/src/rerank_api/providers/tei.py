"""Text Embeddings Inference, self-hosted: ``POST /rerank``.

It runs one model and names none, returns all documents, and takes at most ``max_client_batch_size`` of them, which
``GET /info`` reports. A body has at most 2 MB unless the server was started with another ``--payload-limit``
(huggingface.co/docs/text-embeddings-inference/cli_arguments): 1.5 MB of text are sent, since JSON escapes take room.
Errors are ``{"error", "error_type"}``: Empty 400, Validation and Tokenizer 422, Backend 424, Overloaded 429,
Unhealthy 503.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rerank_api.answers import read_list
from rerank_api.provider import Provider, Question


def request(question: Question) -> Mapping[str, Any]:
    """The body of a TEI request."""
    return {
        "query": question.query,
        "texts": question.texts,
        "truncate": question.options.truncate,
        "raw_scores": question.options.raw_scores,
        "return_text": False,
    }


TEI: Final = Provider(
    name="tei",
    summary="Text Embeddings Inference, self-hosted",
    path="/rerank",
    other_names=("text-embeddings-inference",),
    keys=("TEI_API_KEY",),
    key_required=False,
    request=request,
    answer=read_list("", score="score", usage=()),
    scale=lambda options: "logit" if options.raw_scores else "probability",
    takes=frozenset({"truncate", "raw_scores", "template"}),
    limit_from=("/info", "max_client_batch_size"),
    max_bytes=1_500_000,
    bytes_each=8,
    takes_top_k=False,
)
