"""The address that a provider's requests go to."""

from __future__ import annotations

from rerank import InvalidOptionsError
from rerank_api.options import ApiOptions
from rerank_api.provider import Provider
from rerank_http.address import join


def endpoint(provider: Provider, model: str | None, options: ApiOptions) -> str:
    """Where to post.

    Raises:
        InvalidOptionsError: The provider has no default address, and the user gave none.
    """
    base = options.address or (provider.url(options) if callable(provider.url) else provider.url)
    if not base:
        raise InvalidOptionsError(f"{provider.name} has no default address: pass url=, such as 'http://localhost:8080'")
    return join(base, path_of(provider, model, options))


def path_of(provider: Provider, model: str | None, options: ApiOptions) -> str:
    """The provider's path."""
    return provider.path(model, options) if callable(provider.path) else provider.path
