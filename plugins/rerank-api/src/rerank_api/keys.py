"""A provider's key: which variables may hold it, whether it is required, and how to set it."""

from __future__ import annotations

import os

from rerank import AuthenticationError
from rerank_api.options import ApiOptions
from rerank_api.provider import Provider
from rerank_http.keys import read_key


def find_key(provider: Provider, options: ApiOptions) -> str | None:
    """The key to use, or None if the provider needs none.

    Raises:
        AuthenticationError: The provider needs a key and there is none, or a header cannot contain it.
    """
    key = read_key(options, provider.keys, service=provider.name)
    if key is None and provider.key_required and (options.address is None or provider.url is None):
        raise AuthenticationError(f"{provider.name} has no key: {how_to_set(provider)}", provider=provider.name)
    return key


def how_to_set(provider: Provider) -> str:
    """The next step if a key is missing or refused."""
    if not provider.keys and not provider.key_required:
        return f"check the credentials that {provider.name}'s own library finds on this machine"
    return f"set {provider.keys[0]} or pass api_key=" if provider.keys else "pass api_key="


def described(provider: Provider) -> str:
    """One line for ``rerank list-backends``: the provider, and whether a key is set, never the key."""
    found = next((variable for variable in provider.keys if os.environ.get(variable, "").strip()), None)
    if found is not None:
        state = f"key set ({found})"
    elif provider.key_required:
        state = f"no key: {how_to_set(provider)}"
    else:
        state = f"no key set ({', '.join(provider.keys)})" if provider.keys else "needs no API key"
    return f"{', '.join(provider.names)}: {provider.summary}; {state}"
