"""The address that a provider's requests go to."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from rerank.errors import InvalidOptionsError
from rerank_api.options import ApiOptions
from rerank_api.provider import Provider


def endpoint(provider: Provider, model: str | None, options: ApiOptions) -> str:
    """Where to post.

    Raises:
        InvalidOptionsError: The provider has no address of its own, and the user gave none.
    """
    base = options.address or (provider.url(options) if callable(provider.url) else provider.url)
    if not base:
        raise InvalidOptionsError(
            f"{provider.name} has no address of its own: pass url=, such as 'http://localhost:8080'"
        )
    return join(base, path_of(provider, model, options))


def path_of(provider: Provider, model: str | None, options: ApiOptions) -> str:
    """The provider's path."""
    return provider.path(model, options) if callable(provider.path) else provider.path


def join(base: str, path: str) -> str:
    """``base`` with ``path`` at its end, sharing what stands in both: ``http://h/v1`` and ``/v1/rerank``."""
    parts = urlsplit(base)
    own = [part for part in parts.path.split("/") if part]
    added = [part for part in path.split("/") if part]
    shared = next(
        size for size in range(len(added), -1, -1) if size <= len(own) and own[len(own) - size :] == added[:size]
    )
    end = "/" if own and not added and parts.path.endswith("/") else ""  # the user's whole path is kept as it is
    return urlunsplit(parts._replace(path="/" + "/".join(own + added[shared:]) + end, fragment=""))


def sibling(url: str, path: str, other: str) -> str:
    """The address of ``other`` on the server where ``path`` is at ``url``."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path.removesuffix(path) + other))


def shown(url: str) -> str:
    """An address without its query, for messages."""
    return urlunsplit(urlsplit(url)._replace(query=""))
