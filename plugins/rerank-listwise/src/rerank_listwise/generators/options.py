"""The options of the chat generator; imports no network library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from rerank import Reload
from rerank_http import HttpOptions


class ChatOptions(HttpOptions):
    """The options of every service, and those of a chat endpoint.

    Args:
        provider: The endpoint's name, such as ``openai``, ``groq`` or ``ollama``; with ``base_url`` it is not needed.
        tokenizer: A folder or hub name whose ``tokenizer.json`` counts the model's tokens; None estimates them.
        context_size: How many tokens prompt and answer may have together; None if that is unknown, and windows never shrink.
        extra_body: Merged into every request's body as it is.
        deadline: Seconds that a call may take in total, all rounds included.
        read_timeout: Seconds to wait for an answer, which comes when it is whole.
    """

    provider: Reload[str | None] = None
    tokenizer: Reload[str | None] = None
    context_size: Reload[int | None] = Field(default=None, ge=64)
    extra_body: Mapping[str, Any] = Field(default_factory=dict)
    deadline: float = Field(default=900.0, gt=0)
    read_timeout: Reload[float] = Field(default=300.0, gt=0)
