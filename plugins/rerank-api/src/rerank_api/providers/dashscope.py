"""Alibaba DashScope: ``POST https://dashscope.aliyuncs.com/compatible-api/v1/reranks``.

At most 500 documents per request, 100 for ``qwen3-vl-rerank``; and 120,000 tokens with the query counted for every
document, 30,000 for ``gte-rerank-v2`` (alibabacloud.com/help/en/model-studio/text-rerank-api). An instruction is
its ``instruct``. Errors are ``{"code", "message"}``. Its native API, ``/api/v1/services/rerank/text-rerank/text-rerank``,
has the same under ``input`` and ``parameters``, and answers under ``output``; it is asked if ``url=`` names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from rerank_api.answers import read_list
from rerank_api.options import ApiOptions
from rerank_api.provider import Provider, Question, RawAnswer, bytes_for
from rerank_api.providers import jina

_NATIVE: Final = "/api/v1/services/rerank/text-rerank/text-rerank"


def is_native(options: ApiOptions) -> bool:
    """Whether the user's address is that of the native API."""
    return urlsplit(options.address or "").path.rstrip("/").endswith(("/api/v1", "/text-rerank"))


def path(model: str | None, options: ApiOptions) -> str:
    """The path of the API that the address names."""
    return _NATIVE if is_native(options) else "/compatible-api/v1/reranks"


def request(question: Question) -> Mapping[str, Any]:
    """The body of a DashScope request."""
    body = {**jina.request(question), "instruct": question.options.instruction}
    if not is_native(question.options):
        return body
    asked = {name: body.pop(name) for name in ("query", "documents")}
    parameters = {name: value for name, value in body.items() if name != "model" and value is not None}
    return {"model": question.model, "input": asked, "parameters": parameters}


def answer(body: Any, question: Question) -> RawAnswer:
    """Read an answer of either API."""
    return read_list("output.results" if is_native(question.options) else "results")(body, question)


DASHSCOPE: Final = Provider(
    name="dashscope",
    summary="Alibaba Cloud DashScope",
    url="https://dashscope.aliyuncs.com",
    path=path,
    keys=("DASHSCOPE_API_KEY",),
    models={"en": "qwen3-rerank", "other": "qwen3-rerank"},
    request=request,
    takes=frozenset({"instruction"}),
    answer=answer,
    max_documents=lambda model: 100 if model == "qwen3-vl-rerank" else 500,
    max_bytes=lambda model: bytes_for(120_000 if (model or "").startswith("qwen3") else 30_000),
)
