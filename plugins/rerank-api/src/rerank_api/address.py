"""The address that a provider's requests go to."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit, urlunsplit

from rerank import InvalidOptionsError
from rerank_api.options import ApiOptions
from rerank_api.provider import Provider
from rerank_http.address import join


def endpoint(provider: Provider, model: str | None, options: ApiOptions) -> str:
    """Where to post.

    Raises:
        InvalidOptionsError: The provider has no default address, and the user gave none.
    """
    base = options.address or (provider.url(model, options) if callable(provider.url) else provider.url)
    if not base:
        raise InvalidOptionsError(f"{provider.name} has no default address: pass url=, such as 'http://localhost:8080'")
    if options.address and _is_route(base):
        return base
    return join(_without_chat(base), path_of(provider, model, options))


_ROUTES: Final = ("rerank", "reranking", "reranks", "rank", "score", "text-rerank")
"""How the paths end at which servers rank: an address with one of them is whole."""


def _without_chat(url: str) -> str:
    """DashScope's address for OpenAI's API as that of its server, where the path for ranking is another."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/").removesuffix("/compatible-mode/v1")))


def _is_route(url: str) -> bool:
    """Whether an address names a server's route, not only the server."""
    last = urlsplit(url).path.rstrip("/").rpartition("/")[2]
    return last.rpartition(":")[2] in _ROUTES  # Vertex ranks at …:rank


def path_of(provider: Provider, model: str | None, options: ApiOptions) -> str:
    """The provider's path."""
    return provider.path(model, options) if callable(provider.path) else provider.path
