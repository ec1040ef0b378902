"""Endpoints that speak OpenAI's chat API: where each is, and which environment variables may hold its key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from rerank import ModelRef


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One provider, or one kind of server.

    Args:
        name: Its name, which ``provider=`` takes, and which may stand before a model's name (``groq/…``).
        url: Its base address.
        keys: Environment variables that may hold its key.
        needs_key: Whether it refuses requests without one.
        limit_field: The request's field for how long an answer may be.
    """

    name: str
    url: str
    keys: tuple[str, ...] = ()
    needs_key: bool = True
    limit_field: str = "max_tokens"


ENDPOINTS: Final[Mapping[str, Endpoint]] = {
    endpoint.name: endpoint
    for endpoint in (
        Endpoint("openai", "https://api.openai.com/v1", ("OPENAI_API_KEY",), limit_field="max_completion_tokens"),
        Endpoint("anthropic", "https://api.anthropic.com/v1", ("ANTHROPIC_API_KEY",)),
        Endpoint(
            "gemini",
            "https://generativelanguage.googleapis.com/v1beta/openai",
            ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        ),
        Endpoint("mistral", "https://api.mistral.ai/v1", ("MISTRAL_API_KEY",)),
        Endpoint("groq", "https://api.groq.com/openai/v1", ("GROQ_API_KEY",)),
        Endpoint("deepseek", "https://api.deepseek.com/v1", ("DEEPSEEK_API_KEY",)),
        Endpoint("openrouter", "https://openrouter.ai/api/v1", ("OPENROUTER_API_KEY",)),
        Endpoint("together_ai", "https://api.together.xyz/v1", ("TOGETHER_API_KEY", "TOGETHERAI_API_KEY")),
        Endpoint("fireworks_ai", "https://api.fireworks.ai/inference/v1", ("FIREWORKS_API_KEY",)),
        Endpoint("deepinfra", "https://api.deepinfra.com/v1/openai", ("DEEPINFRA_API_KEY",)),
        Endpoint("xai", "https://api.x.ai/v1", ("XAI_API_KEY",)),
        Endpoint("cerebras", "https://api.cerebras.ai/v1", ("CEREBRAS_API_KEY",)),
        Endpoint("nvidia_nim", "https://integrate.api.nvidia.com/v1", ("NVIDIA_API_KEY",)),
        Endpoint("dashscope", "https://dashscope.aliyuncs.com/compatible-mode/v1", ("DASHSCOPE_API_KEY",)),
        Endpoint("ollama", "http://localhost:11434/v1", needs_key=False),
        Endpoint("lm_studio", "http://localhost:1234/v1", needs_key=False),
        Endpoint("llamafile", "http://localhost:8080/v1", needs_key=False),
        Endpoint("llama.cpp", "http://localhost:8080/v1", needs_key=False),
        Endpoint("vllm", "http://localhost:8000/v1", ("VLLM_API_KEY",), needs_key=False),
        Endpoint("sglang", "http://localhost:30000/v1", needs_key=False),
    )
}
"""By name; the names are litellm's where it has one, since the seeds' users write ``groq/llama-3.3-70b-versatile``."""

_FAMILIES: Final[Mapping[str, str]] = {
    "gpt-": "openai",
    "chatgpt-": "openai",
    "o1": "openai",
    "o3": "openai",
    "o4": "openai",
    "claude-": "anthropic",
    "gemini-": "gemini",
    "mistral-": "mistral",
    "deepseek-": "deepseek",
    "grok-": "xai",
}


def is_remote(model: ModelRef, options: Any) -> bool:
    """Whether the options or the name put a model behind an endpoint, so that no checkpoint need be looked for."""
    if (options.address, options.provider, model.api_provider) != (None, None, None):
        return True
    return not model.is_local and model.gguf_file is None and find_endpoint(model.name, None)[0] is not None


def find_endpoint(model: str, provider: str | None, *, by_family: bool = True) -> tuple[Endpoint | None, str]:
    """The endpoint of a model by the provider's name, or by how the model's own name begins, and the model's name there.

    Args:
        model: The model's name, perhaps with the provider's before a slash.
        provider: The provider's name, if it is given.
        by_family: Whether the beginning of the model's own name counts. At a given address it does not: a key must not go to
            an Ollama server because its model is called ``deepseek-r1``.
    """
    before, _, after = model.partition("/")
    if provider is not None:
        return ENDPOINTS.get(provider), after if before == provider and after else model
    if after and before in ENDPOINTS:
        return ENDPOINTS[before], after
    if not after and by_family:
        return next((ENDPOINTS[owner] for begins, owner in _FAMILIES.items() if model.startswith(begins)), None), model
    return None, model
