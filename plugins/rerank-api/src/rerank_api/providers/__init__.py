"""Every provider: this distribution's own, and those that other plugins register."""

from __future__ import annotations

import difflib
from functools import cache
from typing import Any, Final

from rerank import BackendNotFoundError, PluginError, installed
from rerank_api.provider import Provider
from rerank_api.providers.azure_cohere import AZURE_COHERE
from rerank_api.providers.bedrock import BEDROCK
from rerank_api.providers.cohere import COHERE
from rerank_api.providers.contextual import CONTEXTUAL
from rerank_api.providers.dashscope import DASHSCOPE
from rerank_api.providers.deepinfra import DEEPINFRA
from rerank_api.providers.fireworks import FIREWORKS
from rerank_api.providers.generic import GENERIC
from rerank_api.providers.infinity import INFINITY
from rerank_api.providers.isaacus import ISAACUS
from rerank_api.providers.jina import JINA
from rerank_api.providers.llamacpp import LLAMACPP
from rerank_api.providers.localai import LOCALAI
from rerank_api.providers.mixedbread import MIXEDBREAD
from rerank_api.providers.nvidia import NVIDIA
from rerank_api.providers.pinecone import PINECONE
from rerank_api.providers.sglang import SGLANG
from rerank_api.providers.siliconflow import SILICONFLOW
from rerank_api.providers.tei import TEI
from rerank_api.providers.together import TOGETHER
from rerank_api.providers.vertex import VERTEX
from rerank_api.providers.vllm import VLLM, VLLM_SCORE
from rerank_api.providers.voyage import VOYAGE
from rerank_api.providers.xinference import XINFERENCE
from rerank_api.providers.zeroentropy import ZEROENTROPY

OWN: Final = (
    COHERE,
    JINA,
    VOYAGE,
    MIXEDBREAD,
    PINECONE,
    ISAACUS,
    TOGETHER,
    NVIDIA,
    ZEROENTROPY,
    CONTEXTUAL,
    VERTEX,
    BEDROCK,
    AZURE_COHERE,
    FIREWORKS,
    DEEPINFRA,
    DASHSCOPE,
    SILICONFLOW,
    TEI,
    VLLM,
    VLLM_SCORE,
    SGLANG,
    INFINITY,
    LLAMACPP,
    XINFERENCE,
    LOCALAI,
    GENERIC,
)
"""This distribution's own providers."""


@cache
def known() -> dict[str, Provider]:
    """Every provider of the process by each of its names; those of third parties are collected once."""
    providers = {name: provider for provider in OWN for name in provider.names}
    origins = dict.fromkeys(providers, "rerank-api")

    def add(offered: Any, distribution: str) -> None:
        if not isinstance(offered, Provider):
            raise PluginError(f"{offered!r} is not a rerank_api.Provider: yield Provider(...) from the hook")
        if taken := set(offered.names) & set(providers):
            name = min(taken)
            raise PluginError(
                f"the provider {name!r} of {distribution} is taken by {origins[name]}: "
                "rename or uninstall one of the two"
            )
        providers.update(dict.fromkeys(offered.names, offered))
        origins.update(dict.fromkeys(offered.names, distribution))

    installed().collect("rerank_register_providers", add)
    return providers


def find(name: str) -> Provider:
    """The provider of this name.

    Raises:
        BackendNotFoundError: There is none; the message lists those there are.
    """
    if name in known():
        return known()[name]
    near = difflib.get_close_matches(name.casefold(), known(), n=1)
    step = (
        f"did you mean {near[0]!r}?"
        if near
        else f"choose one of {', '.join(sorted(known()))}, describe it by its fields with api_provider='generic', "
        "or install its plugin"
    )
    raise BackendNotFoundError(f"no API provider is called {name!r}: {step}")
