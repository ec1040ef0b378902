"""What a user may set of a call to a service: where, as whom, how patiently, how often."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from rerank.options import Options, Reload
from rerank.results import ScoreScale

SPECIFIC: Final = frozenset(
    {
        "max_tokens_per_doc", "truncate", "instruction", "raw_scores", "project", "location", "region",
        "query_field", "documents_field", "text_field", "model_field", "top_k_field",
        "results_field", "index_field", "score_field", "usage_field",
    }
)  # fmt: skip
"""Options that mean something to some providers only; any other provider refuses them."""


class ApiOptions(Options):
    """Core's options and those of a service. ``batch_size`` bounds the documents a request.

    Args:
        provider: The service's name, where the model's name does not say it.
        api_key: Goes before the provider's own variables (``rerank list-backends`` names them).
        url: The server's address; the provider's own path is added where it is missing.
        base_url: Another name of ``url``.
        headers: Sent with every request; their values are kept secret, and left out of pickles.
        proxy: Address of an HTTP proxy; without it, ``HTTPS_PROXY`` and its siblings are honoured.
        ca_file: A file of certificates to trust in place of the usual ones. Verification is always on.
        connect_timeout: Seconds to wait for a connection.
        read_timeout: Seconds to wait for each next part of an answer.
        deadline: Seconds a call may take in all: waiting its turn, requests, and retries.
        max_retries: At most this many more attempts a request.
        backoff: Bound of the random wait before the first retry, in seconds; it doubles from one to the next.
        max_backoff: Where doubling ends, in seconds.
        retry_budget: Retries a request that the whole reranker may make in the long run, so that an outage is not
            amplified; a reserve of 20 covers short ones.
        max_concurrency: Requests under way at once, and connections kept.
        requests_per_minute: Sent at most, evenly spread; None is no limit.
        tokens_per_minute: Sent at most, estimated at four bytes a token and corrected by the usage reported.
        cache: File to keep answers in; equal requests are then sent once. It holds scores, no texts and no keys.
        cache_max_bytes: Size of that file; the oldest answers go first.
        extra_body: Merged into every request's body as it is.
        score_scale: What the scores of a self-hosted or unknown model mean; None is what the provider documents.
        max_tokens_per_doc: Where the provider cuts a document (cohere, azure-cohere, vllm).
        truncate: Whether the provider may cut a long document, or answers with an error (voyage, nvidia, tei).
        instruction: What relevance means, in words (contextual, deepinfra, sglang).
        raw_scores: Logits in place of their sigmoid (tei, infinity).
        project: Google Cloud project (vertex).
        location: Google Cloud location (vertex).
        region: AWS region (bedrock).
        query_field: Where the ``generic`` provider takes the query.
        documents_field: Where it takes the documents.
        text_field: Set where each document is an object with its text in this field.
        model_field: Where it takes the model's name; empty sends none.
        top_k_field: Where it takes how many results to return; empty sends none.
        results_field: Where its answer has the results, with dots between levels; empty is a bare array.
        index_field: Where a result has the document's position from 0; empty is the documents' own order.
        score_field: Where a result has its score; empty where a result is a bare number.
        usage_field: Where its answer has what it bills.
    """

    provider: Reload[str | None] = None
    api_key: Reload[SecretStr | None] = None
    url: Reload[str | None] = None
    base_url: Reload[str | None] = None
    headers: Reload[Mapping[str, SecretStr]] = Field(default_factory=dict)
    proxy: Reload[str | None] = None
    ca_file: Reload[Path | None] = None
    connect_timeout: Reload[float] = Field(default=10.0, gt=0)
    read_timeout: Reload[float] = Field(default=60.0, gt=0)
    deadline: float = Field(default=120.0, gt=0)
    max_retries: int = Field(default=5, ge=0)
    backoff: float = Field(default=0.5, gt=0)
    max_backoff: float = Field(default=30.0, gt=0)
    retry_budget: Reload[float] = Field(default=0.5, ge=0)
    max_concurrency: Reload[int] = Field(default=32, ge=1)
    requests_per_minute: Reload[float | None] = Field(default=None, gt=0)
    tokens_per_minute: Reload[float | None] = Field(default=None, gt=0)
    cache: Reload[Path | None] = None
    cache_max_bytes: Reload[int] = Field(default=100 * 2**20, ge=2**16)
    extra_body: Mapping[str, Any] = Field(default_factory=dict)
    score_scale: ScoreScale | None = None

    max_tokens_per_doc: int | None = Field(default=None, ge=1)
    truncate: bool | None = None
    instruction: str | None = None
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
    def address(self) -> str | None:
        """The server's address, where the user gave one."""
        return self.url or self.base_url

    @field_validator("url", "base_url", "proxy")
    @classmethod
    def _is_an_address(cls, given: str | None) -> str | None:
        if given is None:
            return None
        parts = urlsplit(given)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("an address starts with http:// or https:// and a host")
        if parts.username is not None or parts.password is not None:
            raise ValueError(
                "an address with a user or password in it would show in logs: use api_key= or headers=, "
                "and for a proxy the variable HTTPS_PROXY"
            )
        return given

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, given: Mapping[str, SecretStr]) -> Mapping[str, SecretStr]:
        for name, value in given.items():
            text = value.get_secret_value()
            if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
                raise ValueError(f"{name!r} is no name of a header")
            if not text.isascii() or not text.isprintable() or text != text.strip():
                raise ValueError(
                    f"the value of {name} has white space at its ends, or characters that no header can carry"
                )
        return dict(given)

    @field_validator("api_key")
    @classmethod
    def _is_a_key(cls, given: SecretStr | None) -> SecretStr | None:
        text = "" if given is None else given.get_secret_value()
        if not text.isascii() or not text.isprintable() or text != text.strip():
            raise ValueError("the key has white space at its ends, or characters that no header can carry")
        return given if text else None

    @field_validator("long_documents")
    @classmethod
    def _has_no_windows(cls, given: str) -> str:
        if given == "chunk":
            raise ValueError("a service reads whole documents: cut them yourself, or leave long_documents out")
        return given

    @field_validator("max_batch_tokens")
    @classmethod
    def _has_no_batches(cls, given: int | None) -> int | None:
        if given is not None:
            raise ValueError("a service makes its own batches: batch_size bounds the documents a request")
        return given

    @model_validator(mode="after")
    def _has_one_address(self) -> ApiOptions:
        if self.url and self.base_url and self.url != self.base_url:
            raise ValueError("url and base_url differ: give one of them")
        return self
