"""The generator ``litellm``: chat models of the providers that litellm reaches; imports nothing heavy."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from rerank import Claim, Confidence, InvalidOptionsError, ModelRef
from rerank_listwise.generator import Generator, RemoteWriter
from rerank_llm.generators.litellm_options import LiteLlmOptions

_NAME: Final = "litellm"
_INSTEAD: Final = {
    "proxy": "set HTTPS_PROXY",
    "ca_file": "set SSL_CERT_FILE",
    "connect_timeout": "lower read_timeout, which bounds connecting too",
}
"""Options of a connection that litellm opens itself, and what has their effect there."""


def claim(model: ModelRef, options: Any) -> Claim:
    """Claim what the options give to litellm, and nothing by its name: the generator ``chat`` reads the same names."""
    if (options.provider or model.api_provider) == _NAME:
        return Claim(Confidence.CERTAIN, "provider='litellm' was given")
    return Claim(Confidence.NONE, "runs what generator='litellm' or provider='litellm' gives it")


def load(model: ModelRef, options: Any) -> RemoteWriter:
    """A model that litellm asks.

    Raises:
        InvalidOptionsError: litellm is not installed, knows no such provider, or cannot follow an option.
    """
    from rerank_listwise.generators.chat import ChatWriter
    from rerank_llm.generators.litellm_service import LiteLlmService

    if foreign := sorted(options.model_fields_set & _INSTEAD.keys()):
        raise InvalidOptionsError(
            f"litellm opens its own connections and takes no {foreign[0]}=: {_INSTEAD[foreign[0]]}, or choose "
            "generator='chat'"
        )
    return ChatWriter(model, options, partial(LiteLlmService, _named(model, options), options))


def _named(model: ModelRef, options: LiteLlmOptions) -> str:
    """The model's name with the provider's before it, where the options name one."""
    provider = options.provider or model.api_provider
    if provider in (None, _NAME) or model.name.startswith(f"{provider}/"):
        return model.name
    return f"{provider}/{model.name}"


GENERATOR: Final = Generator(
    name=_NAME,
    summary="chat models of the providers that litellm reaches: pip install 'rerank-llm[litellm]'",
    claim=claim,
    options=LiteLlmOptions,
    load=load,
)
"""The generator of these models."""
