"""The options of rerank services, besides those that `rerank_http.HttpOptions` has for every service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import Field, ValidationInfo, field_validator, model_validator

from rerank import Reload, ScoreScale, find_named
from rerank_api.templates import FAMILIES, Template, read_template
from rerank_http import HttpOptions

SPECIFIC: Final = frozenset(
    {
        "max_tokens_per_doc", "truncate", "instruction", "template", "raw_scores", "project", "location", "region",
        "query_field", "documents_field", "text_field", "model_field", "top_k_field",
        "results_field", "index_field", "score_field", "usage_field",
    }
)  # fmt: skip
"""Options that only some providers support; any other provider rejects them."""

SERVER: Final = "server"
"""The ``template`` of a server that frames query and document itself."""


class ApiOptions(HttpOptions):
    """The options of every service, and those of a rerank service. ``batch_size`` bounds the documents per request.

    Args:
        provider: The provider's name, if the model's name does not say it.
        extra_body: Merged into every request's body as it is.
        score_scale: What the scores of a self-hosted or unknown model mean; None means what the provider documents.
        max_tokens_per_doc: How many tokens of a document the provider reads (cohere, azure-cohere, vllm).
        truncate: Whether the provider cuts a long document or answers with an error (voyage, nvidia, tei).
        instruction: What relevance means, in words (contextual, dashscope, deepinfra, fireworks, sglang), or what a
            template says of it.
        template: How to frame query and document for a model whose server sends them to it as they are (tei, vllm,
            vllm-score, sglang, infinity, llama.cpp, localai, generic): a family's name, such as ``qwen3-reranker``; a
            mapping of ``query`` and ``document`` to texts with ``{query}``, ``{document}`` and, where wanted,
            ``{instruction}``; or ``server``, if the server frames them itself. None sends them as they are, with a
            warning if the model's name tells a family that needs a template.
        raw_scores: Logits instead of their sigmoid (tei, infinity).
        project: Google Cloud project (vertex).
        location: Google Cloud location (vertex).
        region: AWS region (bedrock).
        query_field: The request's field for the query, with the ``generic`` provider.
        documents_field: The request's field for the documents.
        text_field: A document's field for its text; empty if a document is a bare string.
        model_field: The request's field for the model's name; empty sends none.
        top_k_field: The request's field for how many results to return; empty sends none.
        results_field: The answer's field with the results, with dots between levels; empty if it is a bare array.
        index_field: A result's field with the document's position from 0; empty if results are in the documents' order.
        score_field: A result's field with its score; empty if a result is a bare number.
        usage_field: The answer's field with the billed usage.
    """

    provider: Reload[str | None] = None
    extra_body: Mapping[str, Any] = Field(default_factory=dict)
    score_scale: ScoreScale | None = None

    max_tokens_per_doc: int | None = Field(default=None, ge=1)
    truncate: bool | None = None
    instruction: str | None = None
    template: str | dict[str, str] | None = None
    raw_scores: bool = False
    project: Reload[str | None] = None
    location: Reload[str] = "global"
    region: Reload[str | None] = None
    query_field: str = "query"
    documents_field: str = "documents"
    text_field: str = ""
    model_field: str = "model"
    top_k_field: str = "top_n"
    results_field: str = "results"
    index_field: str = "index"
    score_field: str = "relevance_score"
    usage_field: str = "usage"

    @property
    def frame(self) -> Template | None:
        """The template to apply; None if there is none, or the server applies it."""
        if isinstance(self.template, dict):
            return read_template(self.template)
        return None if self.template is None or self.template == SERVER else FAMILIES[self.template]

    @field_validator("template")
    @classmethod
    def _is_a_template(cls, given: str | dict[str, str] | None) -> str | dict[str, str] | None:
        if isinstance(given, dict):
            read_template(given)
        elif given is not None:
            find_named(given, {**FAMILIES, SERVER: None}, "template", "a mapping of 'query' and 'document' to texts")
        return given

    @model_validator(mode="after")
    def _cuts_no_template(self) -> ApiOptions:
        if self.frame is not None and (self.truncate or self.max_tokens_per_doc is not None):
            raise ValueError(
                "truncate and max_tokens_per_doc would cut the end of the template off: leave them out, "
                "and give documents that fit"
            )
        return self

    @field_validator("long_documents", "window", "overlap", "aggregate")
    @classmethod
    def _has_no_windows(cls, given: Any, field: ValidationInfo) -> Any:
        if given != cls.model_fields[field.field_name or ""].default:
            raise ValueError("a service reads whole documents: cut them yourself, or leave it out")
        return given

    @field_validator("max_batch_tokens")
    @classmethod
    def _has_no_batches(cls, given: int | None) -> int | None:
        if given is not None:
            raise ValueError("a service makes its own batches: batch_size bounds the documents per request")
        return given
